"""Weights that lie elsewhere: fetched once into a cache, and proved by their digest before anything of them is read."""
