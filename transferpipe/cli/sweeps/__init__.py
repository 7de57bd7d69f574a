"""Sweeps from the command line: expanded, run, shown."""
