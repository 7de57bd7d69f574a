"""Formulas of scores on plain arrays: features, labels and probabilities in, numbers out. No TensorFlow."""
