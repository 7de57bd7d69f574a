"""KerasHub presets: a folder of `config.json`, the weights of the backbone, and maybe those of a task.

A task's own weights, those that are not the backbone's, are listed below ``task/``. keras_hub is not needed.
Files: https://github.com/keras-team/keras-hub/blob/master/keras_hub/src/utils/preset_utils.py (``KerasPresetSaver``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transferpipe.errors import FileError, Problem
from transferpipe.files.inside import file_inside
from transferpipe.files.json_text import read_mapping
from transferpipe.files.segment import Segment
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.keras.h5 import open_weights_h5, read_store
from transferpipe.weights.formats.keras.shards import read_shards
from transferpipe.weights.formats.keras.store_file import open_store_file
from transferpipe.weights.keras.config import Config, is_layer_config
from transferpipe.weights.spec import WeightSpec

WEIGHTS, SHARDS = "model.weights.h5", "model.weights.json"
_CONFIG, _METADATA, _TASK, _TASK_WEIGHTS = "config.json", "metadata.json", "task.json", "task.weights.h5"
_PREFIX = "task/"
_DETAILS = ("keras_version", "keras_hub_version")


def open_preset(path: Path) -> FileSource:
    """Open the folder of a preset. The model is not built and no code of it runs.

    Raises:
        FileError: no preset; a file of it is missing or damaged.
        RecipeError: two weights, or two layers that own weights, have one name.
        UnsafeError: a file is a link out of the folder, or points outside of itself.
    """
    if not path.is_dir():
        raise FileError(Problem(str(path), "is not a folder", "name the folder of the preset"))
    config = _read(path, _CONFIG)
    if not is_layer_config(config):
        what = f"{_CONFIG} does not describe a Keras model"
        raise FileError(Problem(str(path), what, "save it again with save_to_preset"))
    version = _read(path, _METADATA).get("keras_version")
    source = _open_backbone(path, config, str(version)[:80] if version else None)
    details = {key: str(value)[:80] for key in _DETAILS if (value := _read(path, _METADATA).get(key))}
    details["class"] = str(config["class_name"])[:80]
    if _has(path, _TASK):
        details["task"] = str(_read(path, _TASK).get("class_name"))[:80]
    # The folder is no single file that could be written again as it is, so the layout is dropped.
    parts = (path, path / _CONFIG, *source.files)
    source = dataclasses.replace(source, path=path, details=details, groups=(), parts=parts)
    if not _has(path, _TASK_WEIGHTS):
        return source
    return _with_task(source, open_weights_h5(file_inside(path, _TASK_WEIGHTS, str(path))))


def _has(folder: Path, name: str) -> bool:
    return (folder / name).is_symlink() or (folder / name).exists()


def _read(folder: Path, name: str) -> dict[str, Any]:
    """Return the mapping in a file of the preset; empty if there is no such file."""
    return read_mapping(file_inside(folder, name, str(folder))) if _has(folder, name) else {}


def _open_backbone(folder: Path, config: Config, version: str | None) -> FileSource:
    if _has(folder, SHARDS) and not _has(folder, WEIGHTS):
        return read_shards(file_inside(folder, SHARDS, str(folder)), config, "preset", version)
    weights = file_inside(folder, WEIGHTS, str(folder))
    source = read_store(weights, [open_store_file(weights)], config, "preset", version)
    return dataclasses.replace(source, parts=(weights,))


def _with_task(source: FileSource, task: FileSource) -> FileSource:
    """Return `source` with the weights of the task behind its own."""
    renamed: Mapping[str, WeightSpec] = {
        f"{task.path.name}: {spec.where}": spec for spec in (*task.catalog, *task.others)
    }
    specs = {
        where: dataclasses.replace(spec, name=f"{_PREFIX}{spec.name}", where=where) for where, spec in renamed.items()
    }
    weights = [specs[where] for where, spec in renamed.items() if spec.name in task.catalog]

    def read_entry(spec: WeightSpec) -> Any:
        inner = renamed.get(spec.where)
        return task.read_entry(inner) if inner else source.read_entry(spec)

    def locate_entry(spec: WeightSpec) -> Segment | None:
        inner = renamed.get(spec.where)
        return task.locate_entry(inner) if inner else source.locate_entry(spec)

    return dataclasses.replace(
        source,
        catalog=dataclasses.replace(source.catalog, weights=(*source.catalog, *weights)),
        others=(*source.others, *(s for where, s in specs.items() if renamed[where].name not in task.catalog)),
        read_entry=read_entry,
        locate_entry=locate_entry,
        parts=(*source.files, task.path),
    )
