"""Files that appear whole or not at all: one by one, and all those of a run."""
