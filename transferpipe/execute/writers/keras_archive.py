"""Writes Keras 3 `.keras`: the members that Keras writes, uncompressed, with fixed times, values put in place."""

from __future__ import annotations

import json
import os
from pathlib import Path

from transferpipe.execute.writers.content import Content
from transferpipe.execute.writers.fill import fill, whole_crc
from transferpipe.execute.writers.h5_layout import lay_out
from transferpipe.execute.writers.stored_zip import StoredZip
from transferpipe.weights.window import Window

_WEIGHTS = "model.weights.h5"
# Keras notes the time of saving; a fixed one keeps equal content equal in bytes.
_DATE_SAVED = "1980-01-01@00:00:00"


def write_keras(path: Path, content: Content) -> None:
    """Write the model to `path`. Memory holds one computed value, or one small buffer a thread."""
    assert content.config is not None
    metadata = {"keras_version": content.keras_version, "date_saved": _DATE_SAVED}
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        archive = StoredZip(descriptor)
        archive.add("metadata.json", json.dumps(metadata).encode())
        archive.add("config.json", content.config.encode())
        base = archive.reserve(_WEIGHTS)
        with Window(os.dup(descriptor), base) as window:
            places = lay_out(window, content)  # type: ignore[arg-type]
            size = max([window.size, *(p.offset + p.nbytes for p in places)])
        os.ftruncate(descriptor, base + size)
        written = fill(descriptor, base, places, content)
        archive.finish(_WEIGHTS, size, whole_crc(path, base, size, written))
        for name, data in content.assets():
            archive.add(name, data)
        archive.close()
    finally:
        os.close(descriptor)
