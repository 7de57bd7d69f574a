"""From an entry of a plan to the value: read, transform, check, edit, compare."""
