"""Parity: whether the finished model computes what its original does, layer by layer."""
