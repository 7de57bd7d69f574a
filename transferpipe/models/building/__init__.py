"""From a builder that a recipe names to a model, and what the builder may do."""
