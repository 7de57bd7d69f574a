"""Checkpoints of PyTorch, read without unpickling."""
