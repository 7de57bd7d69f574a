"""What the verbs do: a module each, which prints and returns the exit status."""
