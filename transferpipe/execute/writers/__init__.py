"""Output formats: one module each, and a line in the table. A writer gets names and values, never a rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from transferpipe.execute.writers.content import Content
from transferpipe.execute.writers.keras_archive import write_keras
from transferpipe.execute.writers.keras_h5 import write_weights_h5
from transferpipe.execute.writers.npz import write_npz
from transferpipe.execute.writers.safetensors_file import write_safetensors

__all__ = ["WRITERS", "Content", "writer_for"]

# By suffix: the writer, and what it needs beside names and values.
WRITERS: Mapping[str, Callable[[Path, Content], None]] = {
    ".keras": write_keras,
    ".weights.h5": write_weights_h5,
    ".safetensors": write_safetensors,
    ".npz": write_npz,
}


def writer_for(path: str) -> Callable[[Path, Content], None]:
    """Return the writer that the suffix of `path` chooses; recipes are checked for known suffixes."""
    return next(write for suffix, write in WRITERS.items() if path.endswith(suffix))
