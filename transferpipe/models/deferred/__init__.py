"""Building a model without drawing initial values that a transfer replaces."""
