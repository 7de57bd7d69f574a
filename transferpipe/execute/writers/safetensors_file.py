"""Writes safetensors: names with slashes, in the catalog's order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from transferpipe.execute.writers.content import Content


def write_safetensors(path: Path, content: Content) -> None:
    """Write the weights to `path`."""
    tensors = {w.name: np.ascontiguousarray(content.value(w.name)).reshape(w.shape) for w in content.catalog}
    save_file(tensors, path, metadata={"format": "keras"})
