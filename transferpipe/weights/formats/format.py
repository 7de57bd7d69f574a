"""What every format of files is: how its files are recognized, and how one is opened.

To add one:

1. write a module in the folder of its family with a function ``open_NAME(path)`` that returns a `FileSource`; what it
   must and may do stands at `Format`;
2. add a line to the table in ``__init__.py``; from outside, an entry point ``NAME = "package:FORMAT"`` under
   ``transferpipe.formats`` in its place, which leads to a `Format`;
3. let it pass `transferpipe.testing.FormatLaws`, and compare values with the library that writes such files;
4. where its files mean another framework's layout, name it in that layout's ``formats``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transferpipe.files.archives.opening import open_zip
from transferpipe.files.archives.zip_members import check_count
from transferpipe.files.json_text import read_mapping
from transferpipe.plugins import PlugInPoint
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.strangers import recognise

# The block of a tar; every other magic number lies within it.
HEAD = 512
ZIP = (b"PK\x03\x04", b"PK\x05\x06")

Names = frozenset[str]
Place = str
"""``module:function``, the module seen from this folder, so that nothing is imported before it is needed."""


@dataclass(frozen=True)
class Seen:
    """What is seen of a path while its format is looked for; each thing is read when it is first asked for."""

    path: Path

    @cached_property
    def head(self) -> bytes:
        """The first bytes of the file."""
        with self.path.open("rb") as file:
            return file.read(HEAD)

    @cached_property
    def names(self) -> Names:
        """Names in the folder."""
        return frozenset(entry.name for entry in self.path.iterdir())

    @cached_property
    def members(self) -> Names:
        """Names of the members of a zip archive; empty for any other file."""
        if not self.head.startswith(ZIP):
            return frozenset()
        check_count(self.path, self.head)
        with open_zip(self.path) as archive:
            return frozenset(archive.namelist())

    @cached_property
    def data(self) -> Mapping[str, Any]:
        """The mapping in a file of JSON; empty for any other file."""
        is_json = self.head.lstrip()[:1] == b"{" and recognise(self.path, self.head) is None
        return read_mapping(self.path) if is_json else {}


@dataclass(frozen=True)
class Format:
    """A format of files.

    It is used in this order:

    1. While the format of a path is looked for, the predicates that are given are asked, in five rounds over all
       formats: `is_member`; `is_folder` of folders; `is_archive`, `begins` and `is_content` of files; `is_json` last.
       The first that says yes is taken. A predicate must be quick, must not believe a suffix, may read the file, and
       must not follow a link out of it.
    2. `open` is called with the path (and what is selected, if `selects`) and returns a `FileSource`: its catalog with
       names, shapes, dtypes, and a function that reads one value. It must read no value yet, refuse what is truncated
       or asks for more than data may ask for with a `FileError` or `UnsafeError`, run no code from the file, allocate
       nothing by a size that it has not compared with the file's, open no file outside of the folder (see
       `transferpipe.files.inside`), and give every weight a name of its own.
    3. `FileSource.read_entry` is called for one value after another, maybe from several threads, maybe twice. It must
       return exactly the shape and dtype of the catalog, and refuse a file that changed since it was opened
       (`transferpipe.weights.formats.raw_value.Stretch` does).
    4. `FileSource.locate_entry`, if given, says where a value lies in a file as it is in memory, so that it can be
       copied without being read.

    Attributes:
        open: opens a path.
        begins: what all its files begin with, where that alone tells the format.
        is_member: tells whether a path is one of the files that make up such weights, or what their names begin with.
        is_folder: tells it of a folder, by itself and the names in it.
        is_archive: tells it of a zip archive by the names of its members.
        is_content: tells it of a file by its path and its first bytes.
        is_json: tells it of the mapping in a file of JSON.
        selects: whether files hold parts that `select` can choose from; `open` then takes a second argument.
    """

    open: Place | Callable[..., FileSource]
    begins: bytes = b""
    is_member: Place | Callable[[Path], bool] | None = None
    is_folder: Place | Callable[[Path, Names], bool] | None = None
    is_archive: Place | Callable[[Names], bool] | None = None
    is_content: Place | Callable[[Path, bytes], bool] | None = None
    is_json: Place | Callable[[Mapping[str, Any]], bool] | None = None
    selects: bool = False

    @property
    def opener(self) -> Callable[..., FileSource]:
        """The function that opens."""
        return called(self.open)

    def is_by_path(self, seen: Seen) -> bool:
        """Tell whether the path, and what lies beside it, is of this format."""
        return self.is_member is not None and called(self.is_member)(seen.path)

    def is_by_names(self, seen: Seen) -> bool:
        """Tell whether a folder is of this format."""
        return self.is_folder is not None and called(self.is_folder)(seen.path, seen.names)

    def is_by_content(self, seen: Seen) -> bool:
        """Tell whether a file is of this format, whatever JSON it may be."""
        if self.begins and seen.head.startswith(self.begins):
            return True
        if self.is_archive is not None and seen.members and called(self.is_archive)(seen.members):
            return True
        return self.is_content is not None and called(self.is_content)(seen.path, seen.head)

    def is_by_json(self, seen: Seen) -> bool:
        """Tell whether a file of JSON is of this format."""
        return self.is_json is not None and bool(seen.data) and called(self.is_json)(seen.data)


def called(function: Place | Callable[..., Any]) -> Callable[..., Any]:
    """Return the function itself, or the one at its place."""
    if callable(function):
        return function
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(f"{__package__}.{module}"), name)
    return found


def _check(offered: Any) -> str:
    return "" if isinstance(offered, Format) else "is not a transferpipe.weights.formats.format.Format"


def outside(ours: Mapping[str, Format]) -> PlugInPoint[Format]:
    """Return where packages add formats to `ours`."""
    return PlugInPoint("format", lambda: ours, _check)
