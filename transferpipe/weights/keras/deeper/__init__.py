"""A Keras model of other layers than its own, one after the other: its configuration, rewritten as data."""
