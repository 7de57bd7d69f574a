"""Keras 3 `.keras`: a zip archive of config.json, metadata.json, model.weights.h5 and assets."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import tempfile
import threading
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.keras_h5 import read_store
from transferpipe.weights.spec import WeightSpec

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
# deflate cannot do better than about 1032:1; anything beyond is a lie about the size.
_MOST_RATIO = 1100
_MOST_CONFIG = 1 << 28
_CHUNK = 1 << 20


def open_keras(path: Path) -> FileSource:
    """Open a `.keras` archive. The model is not built and no code of it runs.

    Raises:
        FileError: not readable, damaged, or not a Keras archive.
        UnsafeError: the archive lists one member twice, or the weights point outside of the file.
    """
    archive = _open_zip(path)
    _check_members(path, archive)
    config = _read_json(path, archive, CONFIG)
    metadata = _read_json(path, archive, METADATA) if METADATA in archive.namelist() else {}
    if not isinstance(config.get("config"), dict):
        raise FileError(
            Problem(str(path), f"{CONFIG} does not describe a Keras model", "save it again with model.save")
        )
    store = read_store(path, _weights_file(path, archive), config, "keras")
    check = _CheckOnce(path, archive)

    def read_entry(spec: WeightSpec) -> Any:
        check()
        return store.read_entry(spec)

    version = metadata.get("keras_version")
    assets = tuple(n for n in archive.namelist() if n not in (CONFIG, METADATA, WEIGHTS))
    details = {"keras_version": str(version)} if version else {}
    return dataclasses.replace(store, read_entry=read_entry, details=details, assets=assets)


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise FileError(
            Problem(str(path), f"not a readable .keras archive: {error}", "it may be truncated: copy or save it again")
        ) from error


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    names = archive.namelist()
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise UnsafeError(Problem(str(path), f"the archive lists {twice[0]!r} more than once", "save the model again"))
    size = path.stat().st_size
    for info in archive.infolist():
        if info.file_size > _MOST_RATIO * max(info.compress_size, 1) or info.header_offset > size:
            raise UnsafeError(
                Problem(f"{path}: {info.filename}", f"declares {info.file_size:,} bytes out of {info.compress_size:,}")
            )
    for needed in (CONFIG, WEIGHTS):
        if needed not in names:
            raise FileError(Problem(str(path), f"holds no {needed}, so it is not a model that Keras 3 saved"))


def _read_json(path: Path, archive: zipfile.ZipFile, member: str) -> dict[str, Any]:
    where = f"{path}: {member}"
    if archive.getinfo(member).file_size > _MOST_CONFIG:
        raise UnsafeError(Problem(where, f"is larger than {_MOST_CONFIG:,} bytes"))
    try:
        data = json.loads(archive.read(member))
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, RecursionError) as error:
        raise FileError(
            Problem(where, f"cannot be read: {error}", "the file is damaged: copy or save it again")
        ) from error
    if not isinstance(data, dict):
        raise FileError(Problem(where, f"holds a {type(data).__name__} where a mapping belongs"))
    return data


def _weights_file(path: Path, archive: zipfile.ZipFile) -> BinaryIO:
    """Return the weights member as a seekable file; one that is stored as it is is read in place."""
    info = archive.getinfo(WEIGHTS)
    try:
        if info.compress_type == zipfile.ZIP_STORED:
            return io.BufferedReader(_Window(path, _data_offset(path, info), info.file_size))
        unpacked = tempfile.TemporaryFile()  # noqa: SIM115 -- lives as long as the source
        with archive.open(info) as member:
            while chunk := member.read(_CHUNK):
                unpacked.write(chunk)
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise FileError(Problem(f"{path}: {WEIGHTS}", f"cannot be read: {error}", "copy or save it again")) from error
    unpacked.seek(0)
    return unpacked


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Return where the member's bytes begin: behind its local header, which has room for a name and extra fields."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\3\4":
        raise zipfile.BadZipFile("the local header of the weights is missing")
    name, extra = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
    return info.header_offset + 30 + name + extra


class _Window(io.RawIOBase):
    """A stretch of a file, read in place."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._start, self._size, self._at = start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: max(0, self._size - self._at)]
        count = os.preadv(self._file.fileno(), [view], self._start + self._at) if len(view) else 0
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class _CheckOnce:
    """Checks the archive's own checksum of the weights before the first value is believed."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path, self._archive, self._done, self._lock = path, archive, False, threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            if self._done:
                return
            try:
                with self._archive.open(WEIGHTS) as member:
                    while member.read(_CHUNK):
                        pass
            except (zipfile.BadZipFile, OSError, EOFError) as error:
                raise FileError(
                    Problem(f"{self._path}: {WEIGHTS}", f"is damaged: {error}", "copy or save the file again")
                ) from error
            self._done = True
