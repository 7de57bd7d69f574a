"""What the results of variants allow to be said of them, beside each other."""
