"""Names and tables as text: what every printed line is made of. Nothing is printed here."""
