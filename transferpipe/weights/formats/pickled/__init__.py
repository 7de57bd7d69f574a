"""Pickles of NumPy's arrays, read without unpickling."""
