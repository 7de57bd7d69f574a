"""Warnings about plans that are legal and probably wrong."""
