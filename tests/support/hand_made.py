"""Keras files made by hand, without Keras: any layout that HDF5 and zip allow, and every value known."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np

NAMES = {"Dense": ("kernel", "bias"), "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance")}


def dense(name: str, inputs: int, units: int, seed: int, dtype: str = "float32") -> dict[str, Any]:
    """Return a Dense layer whose values depend on `seed`."""
    return layer(name, "Dense", [values((inputs, units), seed, dtype), values((units,), seed + 500, dtype)])


def layer(name: str, class_name: str, arrays: list[np.ndarray], **config: Any) -> dict[str, Any]:
    """Return a layer with these values, in the order of their numbers in the file."""
    return {"name": name, "class": class_name, "arrays": arrays, "config": config}


def values(shape: tuple[int, ...], seed: int, dtype: str = "float32") -> np.ndarray:
    """Return numbers that every float dtype of at least 16 bits holds, and int8 too after rounding."""
    drawn = np.random.default_rng(seed).integers(1, 100, shape)
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    return (drawn if kind.kind in "iub" else drawn / 8).astype(kind)


def write_h5(file: Any, layers: list[dict[str, Any]], **storage: Any) -> None:
    """Write the weights store that Keras would write for a Functional model of `layers`.

    Args:
        file: what h5py can open.
        layers: see `layer`.
        storage: how values of two axes and more lie there, such as ``chunks=True, compression="gzip"``.
    """
    counts: dict[str, int] = {}
    with h5py.File(file, "w") as h5:
        h5.create_group("vars").attrs["name"] = "model"
        for entry in layers:
            base = {"BatchNormalization": "batch_normalization"}.get(entry["class"], entry["class"].lower())
            counts[base] = counts.get(base, -1) + 1
            group = h5.create_group(f"layers/{base}{f'_{counts[base]}' if counts[base] else ''}/vars")
            group.attrs["name"] = entry["name"]
            for key, value in enumerate(entry["arrays"]):
                opaque = value.dtype.kind == "V"
                raw = value.view(f"V{value.dtype.itemsize}") if opaque else value
                dataset = group.create_dataset(str(key), data=raw, **(storage if value.ndim > 1 else {}))
                if opaque:
                    dataset.attrs["dtype"] = value.dtype.name


def config_of(layers: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Return the config.json of a Functional model of `layers`."""
    listed = [
        {"class_name": e["class"].rpartition(">")[2], "module": None if ">" in e["class"] else "keras.layers",
         "registered_name": e["class"] if ">" in e["class"] else None,
         "config": {"name": e["name"], "trainable": True, **e["config"]}, "name": e["name"]}
        for e in layers
    ]  # fmt: skip
    inner = {"name": "model", "trainable": True, "layers": listed}
    return {"class_name": "Functional", "module": "keras", "registered_name": "Functional", "config": inner, **more}


def write_archive(
    path: Path,
    layers: list[dict[str, Any]],
    *,
    deflate: bool = False,
    assets: Mapping[str, bytes] | None = None,
    optimizer: bool = False,
    config: dict[str, Any] | None = None,
    **storage: Any,
) -> Path:
    """Write a `.keras` archive and return its path."""
    weights = io.BytesIO()
    write_h5(weights, layers, **storage)
    if optimizer:
        with h5py.File(weights, "r+") as h5:
            slots = h5.create_group("optimizer/vars")
            slots.attrs["name"] = "adam"
            slots["0"] = np.int64(7)
            slots["1"] = np.ones((2, 3), "float32")
    how = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", how) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.0", "date_saved": "2026-01-01@10:00:00"}))
        archive.writestr("config.json", json.dumps(config or config_of(layers)))
        archive.writestr("model.weights.h5", weights.getvalue())
        for name, data in (assets or {}).items():
            archive.writestr(name, data)
    return path


def write_weights(path: Path, layers: list[dict[str, Any]], **storage: Any) -> Path:
    """Write a `.weights.h5` file and return its path."""
    write_h5(path, layers, **storage)
    return path


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Return every value of a `.keras` or `.weights.h5` file by layer name and own name, read by h5py alone."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            file: Any = io.BytesIO(archive.read("model.weights.h5"))
    else:
        file = path
    found: dict[str, np.ndarray] = {}
    with h5py.File(file, "r") as h5:

        def note(path: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                value = np.asarray(item[()])
                if "dtype" in item.attrs:
                    value = value.view(getattr(ml_dtypes, item.attrs["dtype"]))
                base = path.split("/")[-3].rstrip("_0123456789") if path.count("/") > 1 else ""
                names = {"dense": NAMES["Dense"], "batch_normalization": NAMES["BatchNormalization"]}.get(base)
                key = path.rpartition("/")[2]
                own = names[int(key)] if names and key.isdigit() else key
                found[f"{item.parent.attrs.get('name', item.parent.name)}/{own}"] = value

        h5.visititems(note)
    return found


def named(layers: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Return the values of `layers` by layer name and own name."""
    return {
        f"{e['name']}/{NAMES[e['class']][i] if e['class'] in NAMES else i}": array
        for e in layers
        for i, array in enumerate(e["arrays"])
    }


def assert_same(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> None:
    """Compare names, shapes, dtypes and every bit."""
    assert sorted(found) == sorted(wanted)
    for name, value in wanted.items():
        assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype), name
        assert found[name].tobytes() == value.tobytes(), name
