"""Telling the format of a file from its content; the suffix is never asked.

What only some formats need is imported where they are looked for.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.files.json_text import read_mapping
from transferpipe.files.os_errors import cannot_be_read
from transferpipe.weights.formats.keras.shards import is_shard_list
from transferpipe.weights.formats.tensorflow.paths import (
    has_checkpoint,
    is_basename,
    is_model_file,
    is_part,
    is_saved_model,
)

_HDF5 = b"\x89HDF\r\n\x1a\n"
_HEAD = 512
_TAR = (b"ustar", 257)
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_NPY = b"\x93NUMPY"
_NO_PICKLES = "pickled objects are never loaded"
_AS_SAFETENSORS = "save the weights as safetensors with the library that wrote the file"


def detect_format(path: Path, listed: str) -> str:
    """Return the name of the format of `path`.

    Args:
        path: a folder or a non-empty file.
        listed: the formats there are, for the message.

    Raises:
        FileError: not readable, or of an unknown format.
        UnsafeError: it is a pickle.
    """
    if path.is_dir():
        return detect_folder(path, listed)
    try:
        member = detect_member(path)
        if member:
            return member
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if head.startswith(_ZIP):
            return _zip_format(path, listed)
        if head.startswith(_NPY):
            return "npy"
        if _is_hdf5(path):
            return _hdf5_format(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise FileError(Problem(str(path), f"cannot be read: {error}", "download or save it again")) from error
    return _format_by_head(path, head, listed) or _refuse(path, head, listed)


def _format_by_head(path: Path, head: bytes, listed: str) -> str | None:
    if _is_safetensors(head, path.stat().st_size):
        return "safetensors"
    if head.lstrip()[:1] == b"{":
        return detect_json(path, listed)
    if head[:1] == b"\x08" and _is_onnx(path):
        return "onnx"
    from transferpipe.weights.formats.torch.legacy import is_legacy

    return "torch" if is_legacy(head) else None


def _refuse(path: Path, head: bytes, listed: str) -> str:
    if head[_TAR[1] :].startswith(_TAR[0]):
        fix = "if PyTorch wrote it (before 0.1.10), load and save it with a version of PyTorch that still can"
        raise FileError(Problem(str(path), "is a tar archive, which is no format of weights any more", fix))
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        raise UnsafeError(Problem(str(path), f"is a Python pickle, and {_NO_PICKLES}", _AS_SAFETENSORS))
    raise _unknown(path, "is of no known format", listed)


def _unknown(path: Path, what: str, listed: str) -> FileError:
    return FileError(Problem(str(path), what, f"{listed}; if it is one of these, it is damaged"))


def _zip_format(path: Path, listed: str) -> str:
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    if {"config.json", "model.weights.h5"} <= names:
        return "keras"
    if any(name.endswith(".npy") for name in names):
        return "npz"
    from transferpipe.weights.formats.torch.zip_form import pickle_member

    if pickle_member(names) is not None:
        return "torch"
    raise _unknown(path, "is a zip archive, but neither of Keras nor of NumPy nor of PyTorch", listed)


def _is_hdf5(path: Path) -> bool:
    """Look for the signature where the HDF5 specification (II.A) allows it: at 0, 512, 1024, 2048..."""
    size, offset = path.stat().st_size, 0
    with path.open("rb") as file:
        while offset + len(_HDF5) <= size:
            file.seek(offset)
            if file.read(len(_HDF5)) == _HDF5:
                return True
            offset = offset * 2 or 512
    return False


def _hdf5_format(path: Path) -> str:
    from transferpipe.weights.formats.hdf5.dataset import damage_named
    from transferpipe.weights.formats.hdf5.file import open_hdf5

    with open_hdf5(path, str(path)) as file, damage_named(str(path)):
        # Names are compared one by one, because `in` would follow a link to another file.
        legacy = any(name in file.attrs for name in ("layer_names", "layer_names0")) or "model_weights" in list(file)
    return "h5" if legacy else "weights_h5"


def _is_safetensors(head: bytes, size: int) -> bool:
    from transferpipe.weights.formats.safetensors.header import MOST_HEADER

    length = int.from_bytes(head[:8], "little")
    return 2 <= length <= min(size - 8, MOST_HEADER) and head[8:9] == b"{"


def _is_onnx(path: Path) -> bool:
    from transferpipe.weights.formats.onnx.model import is_onnx

    return is_onnx(path, path.stat().st_size)


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
        raise cannot_be_read(path, error) from error
    for format, fits in FOLDERS.items():
        if fits(names):
            return format
    from transferpipe.weights.formats.numpy.npy import holds_arrays

    if holds_arrays(path):
        return "npy_folder"
    what = f"is a folder of {len(names)} files that are together of no known format" if names else "is an empty folder"
    raise FileError(Problem(str(path), what, f"name one file of it; {listed}"))


Data = Mapping[str, Any]


def _is_index_of(suffix: str) -> Callable[[Data], bool]:
    def fits(data: Data) -> bool:
        places = data.get("weight_map")
        return isinstance(places, dict) and all(str(file).endswith(suffix) for file in places.values())

    return fits


# Name of the format: what the mapping in the file is like. The first that fits is taken.
JSON_FILES: Mapping[str, Callable[[Data], bool]] = {
    "tfjs": lambda data: "weightsManifest" in data,
    "weights_json": is_shard_list,
    "safetensors_index": _is_index_of(".safetensors"),
    "torch_index": _is_index_of(".bin"),
}


def detect_json(path: Path, listed: str) -> str:
    """Return the name of the format of the JSON file at `path`.

    Args:
        path: the file.
        listed: the formats there are, for the message.

    Raises:
        FileError: not JSON, or a file of settings or the like, which holds no weights.
        UnsafeError: a key stands there twice.
    """
    data = read_mapping(path)
    for format, fits in JSON_FILES.items():
        if fits(data):
            return format
    raise FileError(
        Problem(str(path), "is JSON that lists no weights", f"name the file or folder of the weights; {listed}")
    )
