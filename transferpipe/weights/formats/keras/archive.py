"""Keras 3 `.keras`: a zip archive of config.json, metadata.json, model.weights.h5 and assets."""

from __future__ import annotations

import dataclasses
import io
import json
import lzma
import os
import tempfile
import threading
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.files.archives.opening import open_zip
from transferpipe.files.archives.zip_members import MOST_OF_KERAS, check_members, check_names, member_offset, too_many
from transferpipe.files.crc import BlockCrcs, Promise, note_promise
from transferpipe.files.segment import Segment
from transferpipe.files.window import FileWindow
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.hdf5.guarded import check_library_allowed
from transferpipe.weights.formats.keras.h5 import read_store
from transferpipe.weights.formats.keras.store_file import open_by_library, read_plain
from transferpipe.weights.keras.config import is_layer_config
from transferpipe.weights.spec import WeightSpec

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_ASSETS = "assets/"
# The configuration holds constants and vocabularies as text, which may be long; values of weights it never holds.
_MOST_CONFIG = 1 << 28
_CHUNK = 1 << 20
# HDF5 can loop for ever over damage, so its file is compared with the archive's checksum first. Of a larger one that
# is done before the first value is read: to look at what it holds should not take as long as to read all of it.
_CHECKED_FIRST = 1 << 30
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, RuntimeError)


def open_keras(path: Path) -> FileSource:
    """Open a `.keras` archive. The model is not built and no code of it runs.

    Raises:
        FileError: not readable, damaged, or not a Keras archive.
        UnsafeError: the archive lists one member twice, or the weights point outside of the file.
    """
    archive = _open_zip(path)
    _check_members(path, archive)
    # Read as data: what it names is looked up in tables, and nothing of it is imported.
    config = _read_json(path, archive, CONFIG)
    metadata = _read_json(path, archive, METADATA) if METADATA in archive.namelist() else {}
    if not is_layer_config(config):
        raise FileError(
            Problem(str(path), f"{CONFIG} does not describe a Keras model", "save it again with model.save")
        )
    info = archive.getinfo(WEIGHTS)
    base = member_offset(path, info) if info.compress_type == zipfile.ZIP_STORED else None
    # By our own reader where the file is as Keras writes it: h5py takes as long to import as all else here.
    plain = read_plain(path, base, info.file_size) if base is not None else None
    if plain is None:
        check_library_allowed()  # before the checksum, which would be computed in the child again
    check = _CheckOnce(path, archive, base)
    if info.file_size <= _CHECKED_FIRST:
        check()
    weights = plain if plain is not None else open_by_library(_weights_file(path, archive), path, base)
    version = metadata.get("keras_version")
    store = read_store(path, [weights], config, "keras", str(version) if version else None)

    def read_entry(spec: WeightSpec) -> Any:
        check()
        return store.read_entry(spec)

    def locate_entry(spec: WeightSpec) -> Segment | None:
        # Before the first value that anybody sees, once.
        check()
        found = store.locate_entry(spec)
        return found if found is None else dataclasses.replace(found, known=check.known)

    assets = tuple(n for n in archive.namelist() if n not in (CONFIG, METADATA, WEIGHTS))
    details = {"keras_version": str(version)} if version else {}
    return dataclasses.replace(store, read_entry=read_entry, locate_entry=locate_entry, details=details, assets=assets)


def check_weights(path: Path) -> None:
    """Compare the weights of an archive with the checksum that it has of them; HDF5 takes no part in it.

    Raises:
        FileError: they differ.
    """
    archive = _open_zip(path)
    if WEIGHTS in archive.namelist() and archive.getinfo(WEIGHTS).compress_type == zipfile.ZIP_STORED:
        _CheckOnce(path, archive, member_offset(path, archive.getinfo(WEIGHTS)))()


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return open_zip(path)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise FileError(
            Problem(str(path), f"not a readable .keras archive: {error}", "it may be truncated: copy or save it again")
        ) from error


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    # A model has a few members: a million of them would keep every check busy.
    if (count := len(archive.infolist())) > MOST_OF_KERAS:
        raise too_many(path, count)
    check_members(path, archive, path.stat().st_size)
    check_names(path, archive)
    names = set(archive.namelist())
    for needed in (CONFIG, WEIGHTS):
        if needed not in names:
            raise FileError(Problem(str(path), f"holds no {needed}, so it is not a model that Keras 3 saved"))
    for name in names - {CONFIG, METADATA, WEIGHTS}:
        if not name.startswith(_ASSETS):
            # Loading may unpack the archive: what does not belong there is refused before anybody does.
            what = "is not a file that Keras puts into an archive"
            raise UnsafeError(Problem(f"{path}: {name}", what, "save the model again"))


def _read_json(path: Path, archive: zipfile.ZipFile, member: str) -> dict[str, Any]:
    where = f"{path}: {member}"
    if archive.getinfo(member).file_size > _MOST_CONFIG:
        raise UnsafeError(Problem(where, f"is larger than {_MOST_CONFIG:,} bytes"))
    try:
        data = json.loads(archive.read(member))
    except _DAMAGED as error:  # among them the nesting that is too deep, and members that are encrypted
        raise FileError(
            Problem(where, f"cannot be read: {error}", "the file is damaged: copy or save it again")
        ) from error
    if not isinstance(data, dict):
        raise FileError(Problem(where, f"holds a {type(data).__name__} where a mapping belongs"))
    return data


def _weights_file(path: Path, archive: zipfile.ZipFile) -> BinaryIO:
    """Return the weights member as a seekable file."""
    info = archive.getinfo(WEIGHTS)
    try:
        if info.compress_type == zipfile.ZIP_STORED:
            return io.BufferedReader(FileWindow(os.open(path, os.O_RDONLY), member_offset(path, info), info.file_size))
        # HDF5 seeks back and forth, which a packed member cannot: it is unpacked once, to disk and not to memory.
        with tempfile.TemporaryFile() as unpacked, archive.open(info) as member:
            while chunk := member.read(_CHUNK):
                unpacked.write(chunk)
            unpacked.flush()
            # The descriptor keeps the file, which has no name any more, as long as the source needs it.
            return io.BufferedReader(FileWindow(os.dup(unpacked.fileno()), 0, info.file_size))
    except _DAMAGED as error:
        raise FileError(Problem(f"{path}: {WEIGHTS}", f"cannot be read: {error}", "copy or save it again")) from error


class _CheckOnce:
    """Checks the archive's own checksum of the weights before the first value is believed.

    Attributes:
        known: the checksums that it found on the way.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile, base: int | None) -> None:
        self._path, self._info, self._base = path, archive.getinfo(WEIGHTS), base
        self._done, self._lock = base is None, threading.Lock()  # when the member was unpacked, it was compared
        self.known: BlockCrcs | None = None

    def __call__(self) -> None:
        if self._done or self._base is None:
            return
        whole = Segment(self._path, self._base, self._info.file_size, "uint8")
        # Whoever reads the whole file in any case checks it on the way.
        if note_promise(Promise(self._path, whole.offset, whole.nbytes, self._settle)):
            return
        # Values are read on several threads, and summing up a gigabyte twice would double the time.
        with self._lock:
            if not self._done:
                known = BlockCrcs(whole)
                self._settle(known.crc)
                self.known = known

    def _settle(self, crc: int) -> None:
        if crc != self._info.CRC:
            what = f"is damaged: its checksum is {crc:08x}, the archive says {self._info.CRC:08x}"
            raise FileError(Problem(f"{self._path}: {WEIGHTS}", what, "copy or save the file again"))
        self._done = True
