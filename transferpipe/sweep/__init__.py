"""Sweeps: many variants of a recipe, each planned before any runs, each with a number and an interval at the end."""
