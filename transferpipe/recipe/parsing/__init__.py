"""From the plain data of a recipe to its checked values: one module a part, which notes every problem."""
