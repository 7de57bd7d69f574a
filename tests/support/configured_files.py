"""Model files of one Dense layer whose configuration says what a test wants, and the parts of such a configuration."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Data = dict[str, Any]
CODE: Data = {"class_name": "__lambda__", "config": {"code": "4wEAAAA=", "defaults": None, "closure": None}}
"""What Keras writes of a Python function without a name."""


def layer(
    class_name: str = "Dense", module: str | None = "keras.layers", registered: str | None = None, **config: Any
) -> Data:
    """Return what Keras writes of a layer."""
    found: Data = {"class_name": class_name, "config": {"name": "x", **config}, "registered_name": registered}
    return found if module is None else {"module": module, **found}


def function(name: str, module: str = "builtins") -> Data:
    """Return what Keras writes of a function that has a name."""
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


DENSE = layer(name="d", units=3)
"""The one layer that has weights: a kernel of (4, 3) and a bias, all ones."""


def write_keras(config: Data, path: Path) -> Path:
    """Write a `.keras` archive of `DENSE` and this configuration."""
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        group = file.create_group("layers/dense/vars")
        group.attrs["name"] = "d"
        group["0"], group["1"] = np.ones((4, 3), "f4"), np.ones(3, "f4")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.0"}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights.getvalue())
    return path


def write_h5(config: Data, path: Path) -> Path:
    """Write a whole-model HDF5 file of Keras 2 with the same."""
    config = copy.deepcopy(config)
    with h5py.File(path, "w") as file:
        if "compile_config" in config:
            file.attrs["training_config"] = json.dumps(config.pop("compile_config")).encode()
        file.attrs["model_config"], file.attrs["keras_version"] = json.dumps(config).encode(), b"2.13.1"
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [b"d"]
        group.create_group("d").attrs["weight_names"] = [b"d/kernel:0", b"d/bias:0"]
        group["d/d/kernel:0"], group["d/d/bias:0"] = np.ones((4, 3), "f4"), np.ones(3, "f4")
    return path


WRITERS = {".keras": write_keras, ".h5": write_h5}
"""What writes a file, by its suffix."""
