"""Plans, catalogs and reports as text, JSON and HTML. Strings out; nothing is printed here."""
