"""The training behind scores: what moves, until when, and whether it had come to its end."""
