"""Output formats: one module each. A writer gets names and values, never a rule; `recipe/outputs.py` has the table."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from transferpipe.recipe.outputs import output_of
from transferpipe.save.writers.content import Content

__all__ = ["Content", "Writer", "writer_for"]

Writer = Callable[[int, Content], None]
"""Writes the content to a new empty file that is open for reading and writing, and leaves it open."""


def writer_for(path: str) -> Writer:
    """Return the writer of an output that is streamed."""
    module, _, name = output_of(path).writer.partition(":")
    writer: Writer = getattr(importlib.import_module(module), name)
    return writer
