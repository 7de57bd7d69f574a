"""One small sound file of each format that transferpipe reads by itself, written by hand or by other libraries."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import legacy_files
import numpy as np
import tf_bundles
from graph_defs import graph_def
from hand_made import dense, layer, write_archive, write_weights
from other_files import gguf, leaves, packed
from protobuf_messages import onnx_model, raw
from tfjs_models import weight, write_model
from tflite_models import write_tflite
from torch_files import plain, write_legacy, write_zip

KERNEL, BIAS = np.arange(1, 7, dtype="float32").reshape(2, 3), np.array([7, 8, 9], "float32")
LAYERS = [layer("a", "Dense", [KERNEL, BIAS], units=3)]


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        write: writes a file into an empty folder and returns what is to be opened.
        is_checked: whether the format has a checksum of every value and of its name.
        forks: whether a forked child can read it: the threads of some libraries do not live there.
    """

    write: Callable[[Path], Path]
    is_checked: bool = False
    forks: bool = True


def read_all(path: Path, format: str | None = None) -> dict[str, str]:
    """Return dtype, shape and digest of every value, as transferpipe reads them."""
    from transferpipe.weights.formats import open_source

    source, found = open_source(path, format), {}
    for spec in source.catalog:
        value = np.ascontiguousarray(source.read_entry(spec))
        found[spec.name] = f"{value.dtype} {value.shape} {hashlib.sha1(value.tobytes()).hexdigest()}"
    return found


def write_safetensors(folder: Path, values: dict[str, np.ndarray] | None = None, name: str = "m.safetensors") -> Path:
    values, at, header, data = values or {"a/kernel": KERNEL, "a/bias": BIAS}, 0, {}, b""
    for key, value in values.items():
        header[key] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [at, at + value.nbytes]}
        at, data = at + value.nbytes, data + value.tobytes()
    text = json.dumps(header).encode()
    (folder / name).write_bytes(len(text).to_bytes(8, "little") + text + data)
    return folder / name


def _write_index(folder: Path) -> Path:
    places = {"a/kernel": "1.safetensors", "a/bias": "2.safetensors"}
    for (key, file), value in zip(places.items(), (KERNEL, BIAS), strict=True):
        write_safetensors(folder, {key: value}, file)
    (folder / "m.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder / "m.safetensors.index.json"


def _write_npz(folder: Path, save: Callable = np.savez) -> Path:
    save(folder / "m.npz", **{"a/kernel": KERNEL, "a/bias": BIAS})
    return folder / "m.npz"


def _write_npy(folder: Path) -> Path:
    np.save(folder / "m.npy", KERNEL)
    return folder / "m.npy"


def _write_legacy_h5(folder: Path) -> Path:
    config = legacy_files.model("root", legacy_files.layer("Dense", "layer0", units=3))
    legacy_files.write(folder / "m.h5", {"layer0": ["layer0/kernel", "layer0/bias"]}, config)
    return folder / "m.h5"


def _write_weights_json(folder: Path) -> Path:
    for number, (name, value) in enumerate({"a": KERNEL, "b": BIAS}.items()):
        with h5py.File(folder / f"m_{number}.weights.h5", "w") as file:
            file[f"{name}/vars/0"] = value
    places = {"/a/vars": "m_0.weights.h5", "/b/vars": "m_1.weights.h5"}
    (folder / "m.weights.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder / "m.weights.json"


def _write_onnx(folder: Path) -> Path:
    (folder / "m.onnx").write_bytes(onnx_model(raw("a.w", KERNEL), raw("a.b", BIAS)))
    return folder / "m.onnx"


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def write_lite(folder: Path, change: Callable[[Any], object] | None = None) -> Path:
    tensors = {"x": None, "a/kernel": KERNEL, "a/bias": (BIAS.astype("int8"), [0.5], [1], 0), "y": None}
    return write_tflite(folder / "m.tflite", tensors, [(9, (0, 1, 2), (3,))], change)


def _write_orbax(folder: Path) -> Path:
    from orbax_folders import VALUES, write

    return write(folder / "3", VALUES)


def checkpoint() -> tf_bundles.Checkpoint:
    held = {"kernel": tf_bundles.variable("kernel", 2, 3, start=1), "bias": tf_bundles.variable("bias", 3, start=7)}
    return tf_bundles.object_checkpoint({"a": held})


FORMATS = {
    ".keras": Format(lambda f: write_archive(f / "m.keras", LAYERS), is_checked=True),
    ".keras, packed": Format(lambda f: write_archive(f / "m.keras", LAYERS, deflate=True), is_checked=True),
    ".weights.h5": Format(lambda f: write_weights(f / "m.weights.h5", [dense("a", 2, 3, 1)])),
    ".weights.h5, chunks": Format(
        lambda f: write_weights(f / "m.weights.h5", [dense("a", 2, 3, 1)], chunks=True, compression="gzip")
    ),
    "legacy .h5": Format(_write_legacy_h5),
    ".weights.json": Format(_write_weights_json),
    ".safetensors": Format(write_safetensors),
    ".safetensors, index": Format(_write_index),
    ".npz": Format(_write_npz, is_checked=True),
    ".npz, packed": Format(lambda f: _write_npz(f, np.savez_compressed), is_checked=True),
    ".npy": Format(_write_npy),
    "PyTorch, zip": Format(lambda f: write_zip(f / "m.pt", *plain({"a.w": KERNEL, "a.b": BIAS})), is_checked=True),
    "PyTorch, legacy": Format(lambda f: write_legacy(f / "m.pt", *plain({"a.w": KERNEL, "a.b": BIAS}, view=(None,)))),
    "TensorFlow checkpoint": Format(lambda f: checkpoint().write(f / "ckpt-1"), is_checked=True),
    "TensorFlow.js": Format(lambda f: write_model(f, [weight("a/kernel", KERNEL), weight("a/bias", BIAS)], shard=20)),
    "ONNX": Format(_write_onnx),
    "GraphDef": Format(lambda f: _write(f / "m.pb", graph_def({"a/kernel": KERNEL, "a/bias": BIAS}))),
    "TFLite": Format(write_lite),
    "Flax": Format(
        lambda f: _write(f / "m.msgpack", packed({"params": {"a": {"kernel": KERNEL, "bias": BIAS}}, "step": 3}))
    ),
    "GGUF": Format(lambda f: _write(f / "m.gguf", gguf({"a.weight": KERNEL, "a.bias": BIAS}))),
    "Equinox": Format(lambda f: _write(f / "m.eqx", leaves(KERNEL, BIAS, settings={"width": 3}))),
    "pickle": Format(lambda f: _write(f / "m.pkl", pickle.dumps({"a": {"kernel": KERNEL, "bias": BIAS}, "n": 3}, 4))),
    "pickle of Python 2": Format(
        lambda f: _write(f / "m.pkl", pickle.dumps({"a": {"kernel": KERNEL, "bias": BIAS}}, 0))
    ),
    **({"Orbax": Format(_write_orbax, forks=False)} if find_spec("tensorstore") else {}),
}
