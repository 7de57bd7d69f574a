"""Methods that make one weight of those of several models."""
