"""Telling the format of a folder, or of files that share the beginning of their names, from what there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from transferpipe.errors import FileError, Problem
from transferpipe.weights.formats.checkpoint_path import has_checkpoint, is_part
from transferpipe.weights.formats.saved_model_path import is_model_file, is_saved_model

Names = frozenset[str]


def _is_orbax(names: Names) -> bool:
    """Tell a checkpoint of Orbax, one of its steps, or the tree of a step."""
    steps = any(name.isdigit() for name in names) and all(name.isdigit() or "orbax" in name for name in names)
    return steps or "_CHECKPOINT_METADATA" in names or {"_METADATA", "manifest.ocdbt"} <= names


# Name of the format: what the names of the files in its folder are like. The first that fits is taken.
FOLDERS: Mapping[str, Callable[[Names], bool]] = {
    "saved_model": is_saved_model,
    "preset": lambda names: "config.json" in names and bool(names & {"model.weights.h5", "model.weights.json"}),
    "tfjs": lambda names: "model.json" in names,
    "orbax": _is_orbax,
    "safetensors_index": lambda names: any(n.endswith((".safetensors.index.json", ".safetensors")) for n in names),
    "torch_index": lambda names: any(n.endswith(".bin.index.json") for n in names),
    "tf_checkpoint": has_checkpoint,
}


def is_basename(path: Path) -> bool:
    """Tell whether `path`, which does not exist, is what the names of the files of a checkpoint begin with."""
    return path.with_name(path.name + ".index").is_file()


def detect_member(path: Path) -> str | None:
    """Return the name of the format of several files that `path` is one of, or the common beginning; None otherwise.

    Raises:
        OSError: it cannot be read.
    """
    if not path.exists():
        return "tf_checkpoint" if is_basename(path) else None
    if is_model_file(path):
        return "saved_model"
    return "tf_checkpoint" if is_part(path) else None


def detect_folder(path: Path, listed: str) -> str:
    """Return the name of the format of the folder `path`.

    Raises:
        FileError: not readable, or of no known format.
    """
    try:
        names = frozenset(entry.name for entry in path.iterdir())
    except OSError as error:
        raise FileError(Problem(str(path), f"cannot be read: {error.strerror}", "check who may read it")) from error
    for format, fits in FOLDERS.items():
        if fits(names):
            return format
    from transferpipe.weights.formats.npy_files import holds_arrays

    if holds_arrays(path):
        return "npy_folder"
    what = f"is a folder of {len(names)} files that are together of no known format" if names else "is an empty folder"
    raise FileError(Problem(str(path), what, f"name one file of it; {listed}"))
