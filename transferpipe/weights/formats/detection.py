"""Telling the format of a file from its content; the suffix is never asked.

What only some formats need is imported where they are looked for.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.weights.formats.folders import detect_folder, detect_member

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
        from transferpipe.weights.formats.json_files import detect_json

        return detect_json(path, listed)
    if head[:1] == b"\x08" and _is_onnx(path):
        return "onnx"
    from transferpipe.weights.formats.torch_legacy import is_legacy

    return "torch" if is_legacy(head) else None


def _refuse(path: Path, head: bytes, listed: str) -> str:
    if head[_TAR[1] :].startswith(_TAR[0]):
        mend = "if PyTorch wrote it (before 0.1.10), load and save it with a version of PyTorch that still can"
        raise FileError(Problem(str(path), "is a tar archive, which is no format of weights any more", mend))
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
    from transferpipe.weights.formats.torch_zip import pickle_member

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
    from transferpipe.weights.formats.hdf5 import open_hdf5
    from transferpipe.weights.formats.hdf5_dataset import damage_named

    with open_hdf5(path, str(path)) as file, damage_named(str(path)):
        # Names are compared one by one, because `in` would follow a link to another file.
        legacy = any(name in file.attrs for name in ("layer_names", "layer_names0")) or "model_weights" in list(file)
    return "h5" if legacy else "weights_h5"


def _is_safetensors(head: bytes, size: int) -> bool:
    from transferpipe.weights.formats.safetensors_header import MOST_HEADER

    length = int.from_bytes(head[:8], "little")
    return 2 <= length <= min(size - 8, MOST_HEADER) and head[8:9] == b"{"


def _is_onnx(path: Path) -> bool:
    from transferpipe.weights.formats.onnx_file import is_onnx

    return is_onnx(path, path.stat().st_size)
