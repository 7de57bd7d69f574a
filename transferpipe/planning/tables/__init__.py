"""A plan, and what sets two apart, as text."""
