"""torch's names and axes: a module a family of layers."""
