"""Transforms for another size of the same thing: channels, dimensions, positions, classes, tokens."""
