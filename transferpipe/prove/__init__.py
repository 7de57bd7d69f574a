"""Proving what was written with code that believes nothing the writer said."""
