"""What a variant's result depends on, so that it is known again."""
