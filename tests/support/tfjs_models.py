"""TensorFlow.js models by hand, from the published format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def weight(name: str, value: Any, **more: Any) -> tuple[dict[str, Any], bytes]:
    """Return the manifest's entry and the bytes of an array stored as it is."""
    value = np.asarray(value)
    entry = {"name": name, "shape": list(value.shape), "dtype": value.dtype.name, **more}
    return entry, value.tobytes()


def packed(name: str, value: Any, dtype: str, scale: Any = None, lowest: Any = None) -> tuple[dict[str, Any], bytes]:
    """Return the entry and the bytes of packed numbers that unpack to `dtype`."""
    value = np.asarray(value)
    how = {"dtype": value.dtype.name, "original_dtype": dtype}
    how |= {} if scale is None else {"scale": scale, "min": lowest}
    return {"name": name, "shape": list(value.shape), "dtype": dtype, "quantization": how}, value.tobytes()


def write_model(folder: Path, *groups: list[tuple[dict[str, Any], bytes]], shard: int = 1 << 22, **keys: Any) -> Path:
    """Write `model.json` and its files, of `shard` bytes each."""
    manifest = []
    for number, weights in enumerate(groups, 1):
        data = b"".join(values for _, values in weights)
        pieces = [data[i : i + shard] for i in range(0, len(data), shard)] or [b""]
        paths = [f"group{number}-shard{k}of{len(pieces)}.bin" for k in range(1, len(pieces) + 1)]
        for path, piece in zip(paths, pieces, strict=True):
            (folder / path).write_bytes(piece)
        manifest.append({"paths": paths, "weights": [entry for entry, _ in weights]})
    model = folder / "model.json"
    model.write_text(json.dumps({"format": "layers-model", "modelTopology": None, "weightsManifest": manifest, **keys}))
    return model
