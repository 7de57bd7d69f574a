"""Sweeps as text and as a page."""
