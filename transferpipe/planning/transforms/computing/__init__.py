"""Transforms that compute new numbers of those of one layer."""
