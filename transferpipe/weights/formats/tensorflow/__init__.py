"""Checkpoints and SavedModels of TensorFlow."""
