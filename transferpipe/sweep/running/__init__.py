"""Variants on their way: each in its folder, when to stop, when to try again."""
