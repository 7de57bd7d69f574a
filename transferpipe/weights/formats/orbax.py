"""Orbax checkpoints as `keras.callbacks.OrbaxCheckpoint` writes them; needs tensorstore.

A folder a step, and in it ``pytree/`` with the model's variables by their paths, cut into kinds, as zarr arrays in one
OCDBT database (or a folder each); ``model_config/`` has the configuration. Layout:
https://orbax.readthedocs.io/en/latest/guides/checkpoint/checkpoint_format.html
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem, Problems, UnsafeError
from transferpipe.files.inside import file_inside, files_below
from transferpipe.files.json_text import read_mapping
from transferpipe.files.os_errors import cannot_be_read
from transferpipe.files.stamp import check_unchanged, file_stamp
from transferpipe.packages import missing_package
from transferpipe.text.numbers import is_number
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.keras_legacy.ungrouped import UngroupedWeight, name_ungrouped
from transferpipe.weights.keras.config import Config, is_layer_config
from transferpipe.weights.keras.network import keras_network
from transferpipe.weights.spec import Catalog, WeightSpec, numpy_dtype

STEP, TREE = "_CHECKPOINT_METADATA", "_METADATA"
_DATABASE = "manifest.ocdbt"
_KINDS = ("trainable_variables", "non_trainable_variables")
_WITHOUT_VALUES = ("string", "None", "Dict", "List")
_SEED_STATE = "seed_generator_state"
# Layers list their variables so; the checkpoint lists them by name.
_ORDER = ("kernel", "depthwise_kernel", "pointwise_kernel", "recurrent_kernel", "bias", "gamma", "beta")
# zstd packs equal numbers tightly, but no checkpoint of a trained model is nothing else.
_MOST_RATIO, _ALWAYS = 100_000, 1 << 26
_AGAIN = "the checkpoint is damaged or was not finished: name another step, or save it again"


@dataclass(frozen=True)
class _Leaf:
    kind: str
    name: str
    key: str
    array: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def dtype(self) -> str:
        return str(self.array.dtype.name)

    @property
    def is_weight(self) -> bool:
        return self.kind in _KINDS and self.name.rpartition("/")[2] != _SEED_STATE


def open_orbax(path: Path) -> FileSource:
    """Open a checkpoint: the folder of a step, or one of several steps, of which the last is taken.

    Raises:
        FileError: tensorstore is not installed; the checkpoint is not finished or damaged.
        RecipeError: two weights got one name.
        UnsafeError: a link out of the folder, or arrays that are much larger than all files together.
    """
    step = _last_step(path)
    tree = step / "pytree" if (step / "pytree").is_dir() else step
    files = [file_inside(tree, name, str(path)) for name in files_below(tree)]
    metadata = read_mapping(file_inside(tree, TREE, str(path)))
    leaves = _open_leaves(path, tree, metadata, files)
    config = _config(step)
    weights = sorted((leaf for leaf in leaves if leaf.is_weight), key=_place)
    arrays = {leaf.key: leaf.array for leaf in leaves}
    stamps = {file: file_stamp(file) for file in files}

    def read_entry(spec: WeightSpec) -> NDArray[Any]:
        for file, stamp in stamps.items():
            check_unchanged(file, stamp)
        try:
            return np.asarray(arrays[spec.where].read().result()).astype(numpy_dtype(spec.dtype), copy=False)
        except ValueError as error:
            raise FileError(Problem(f"{path}: {spec.where}", f"cannot be read: {_short(error)}", _AGAIN)) from error

    try:
        named = name_ungrouped([UngroupedWeight(leaf.name, leaf.shape) for leaf in weights], config)
    except (ValueError, TypeError, RecursionError) as error:
        raise FileError(Problem(f"{path}: model_config", f"makes no sense: {error}", _AGAIN)) from error
    specs = (WeightSpec(n, weights[k].shape, weights[k].dtype, known, weights[k].key) for k, n, known in named)
    return FileSource(
        path=path,
        format="orbax",
        catalog=Catalog(tuple(specs), str(path), keras_network(config, {}) if config else None),
        read_entry=read_entry,
        others=tuple(WeightSpec(x.key, x.shape, x.dtype, None, x.key) for x in leaves if not x.is_weight),
        config=config,
        details={"step": step.name} if is_number(step.name) else {},
        parts=(path, *files),  # the folder changes with every new step
    )


def _last_step(path: Path) -> Path:
    """Return the folder of the last finished step, or `path` if that is one."""
    try:
        steps = [p for p in path.iterdir() if is_number(p.name) and not p.is_symlink() and (p / STEP).is_file()]
    except OSError as error:
        raise cannot_be_read(path, error) from error
    return max(steps, key=lambda p: int(p.name), default=path)


def _place(leaf: _Leaf) -> tuple[int, int]:
    own = leaf.name.rpartition("/")[2]
    return _KINDS.index(leaf.kind), _ORDER.index(own) if own in _ORDER else len(_ORDER)


def _config(step: Path) -> Config | None:
    """Return the model's configuration, if the checkpoint has one that can be read."""
    strings = step / "model_config" / "_strings.json"
    if not strings.is_file():
        return None
    text = read_mapping(file_inside(step, "model_config/_strings.json", str(step))).get("config")
    try:
        config = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError) as error:
        raise FileError(Problem(str(strings), f"holds no configuration: {error}", _AGAIN)) from error
    return config if is_layer_config(config) else None


def _open_leaves(path: Path, tree: Path, metadata: Mapping[str, Any], files: Iterable[Path]) -> list[_Leaf]:
    """Return the arrays of the tree without their values."""
    try:
        store = importlib.import_module("tensorstore")
    except ImportError as error:
        instead = "save the model as .keras where it was trained"
        raise missing_package(str(path), "reading an Orbax checkpoint", "tensorstore", instead, error) from error
    folder = {"driver": "file", "path": f"{tree.resolve()}/"}
    is_database = (tree / _DATABASE).is_file()
    base: dict[str, Any] = {"driver": "ocdbt", "base": folder, "path": ""} if is_database else folder
    driver = "zarr3" if metadata.get("use_zarr3") else "zarr"
    keys = _keys(path, metadata)
    problems, leaves = Problems(), []
    try:
        held = [key.decode("utf-8", "replace") for key in store.KvStore.open(base).result().list().result()]
    except ValueError as error:
        raise FileError(Problem(str(path), f"cannot be read: {_short(error)}", _AGAIN)) from error
    specs = {key: {"driver": driver, "kvstore": {**base, "path": f"{base['path']}{key}/"}} for key in keys}
    # All at once, and waited for below: tensorstore opens them side by side.
    opening = {key: store.open(spec, open=True, read=True) for key, spec in specs.items()}
    chunks = _counts(held)
    for key, future in opening.items():
        try:
            array = future.result()
            numpy_dtype(array.dtype.name)
            _check_chunks(array, chunks.get(key, 0))
            leaves.append(_Leaf(keys[key][0], "/".join(keys[key][1:]), key, array))
        except (ValueError, TypeError) as error:
            problems.add(f"{path}: {key}", f"cannot be read: {_short(error)}", _AGAIN)
    problems.raise_as(FileError)
    _check_sizes(path, leaves, sum(file.stat().st_size for file in files))
    return leaves


def _keys(path: Path, metadata: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the arrays of the tree by their keys in the database, each with the names that lead to it."""
    entries = metadata.get("tree_metadata")
    if not isinstance(entries, dict):
        raise FileError(Problem(str(path), f"{TREE} has no mapping `tree_metadata`", _AGAIN))
    found: dict[str, list[str]] = {}
    for entry in entries.values():
        try:
            names = [str(part["key"]) for part in entry["key_metadata"]]
            value_type = entry["value_metadata"]["value_type"]
        except (KeyError, TypeError) as error:
            what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise FileError(Problem(str(path), f"{TREE} does not describe a tree: {what}", _AGAIN)) from error
        if value_type not in _WITHOUT_VALUES and names:
            if ".." in names or any("\0" in name or name.startswith("/") for name in names):
                raise UnsafeError(Problem(str(path), f"{TREE} names {'.'.join(names)[:80]!r}", _AGAIN))
            found[".".join(names)] = names
    return found


def _counts(held: Iterable[str]) -> dict[str, int]:
    """Return how many pieces of each array there are."""
    counts: dict[str, int] = {}
    for key in held:
        array, _, piece = key.partition("/")
        if piece and piece not in ("zarr.json", ".zarray", ".zattrs"):
            counts[array] = counts.get(array, 0) + 1
    return counts


def _check_chunks(array: Any, there: int) -> None:
    """Refuse an array of which pieces are missing: they would be read as zeros."""
    pieces = zip(array.shape, array.chunk_layout.write_chunk.shape or array.shape, strict=True)
    needed = math.prod(-(-size // max(piece, 1)) for size, piece in pieces)
    if there < needed:
        raise ValueError(f"only {there:,} of its {needed:,} pieces are there")


def _check_sizes(path: Path, leaves: Iterable[_Leaf], size: int) -> None:
    declared = sum(math.prod(leaf.shape) * numpy_dtype(leaf.dtype).itemsize for leaf in leaves)
    if declared > max(_ALWAYS, _MOST_RATIO * size):
        raise UnsafeError(Problem(str(path), f"declares {declared:,} bytes out of files of {size:,}", _AGAIN))


def _short(error: Exception) -> str:
    return str(error).partition(" [")[0][:200]
