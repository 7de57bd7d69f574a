"""Writes Keras 3 `.keras`: the members that Keras writes, uncompressed, with fixed times."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from pathlib import Path

from transferpipe.execute.writers.content import Content
from transferpipe.execute.writers.keras_h5 import write_weights_h5

# The earliest date a zip archive can hold: equal content gives equal bytes.
_DATE = (1980, 1, 1, 0, 0, 0)
_DATE_SAVED = "1980-01-01@00:00:00"
_CHUNK = 1 << 20


def write_keras(path: Path, content: Content) -> None:
    """Write the model to `path`. The weights pass through a file beside it, so that memory holds one weight."""
    assert content.config is not None
    metadata = json.dumps({"keras_version": content.keras_version, "date_saved": _DATE_SAVED})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_member("metadata.json"), metadata)
        archive.writestr(_member("config.json"), content.config)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.") as folder:
            weights = Path(folder) / "model.weights.h5"
            write_weights_h5(weights, content)
            info = _member("model.weights.h5")
            info.file_size = weights.stat().st_size
            with weights.open("rb") as file, archive.open(info, "w", force_zip64=info.file_size > 1 << 31) as member:
                shutil.copyfileobj(file, member, _CHUNK)
        for name, data in content.assets():
            archive.writestr(_member(name), data)


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _DATE)
    info.external_attr = 0o600 << 16
    return info
