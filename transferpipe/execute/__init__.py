"""Carrying out a plan: opening, building, copying, writing, proving. Decides nothing."""
