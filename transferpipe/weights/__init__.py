"""Names and shapes of weights, and where they can be read from."""
