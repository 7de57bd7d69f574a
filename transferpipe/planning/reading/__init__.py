"""From data and files to recipes and plans, checked."""
