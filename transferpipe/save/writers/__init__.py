"""Output formats: one module each, and a line in the table. A writer gets names and values, never a rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from transferpipe.save.writers.content import Content
from transferpipe.save.writers.keras_archive import write_keras
from transferpipe.save.writers.keras_h5 import write_weights_h5
from transferpipe.save.writers.npz import write_npz
from transferpipe.save.writers.safetensors import write_safetensors

__all__ = ["WRITERS", "Content", "Writer", "writer_for"]

Writer = Callable[[int, Content], None]
"""Writes the content to a new empty file that is open for reading and writing, and leaves it open."""

# By suffix.
WRITERS: Mapping[str, Writer] = {
    ".keras": write_keras,
    ".weights.h5": write_weights_h5,
    ".safetensors": write_safetensors,
    ".npz": write_npz,
}


def writer_for(path: str) -> Writer:
    """Return the writer that the suffix of `path` chooses; recipes are checked for known suffixes."""
    return next(write for suffix, write in WRITERS.items() if path.endswith(suffix))
