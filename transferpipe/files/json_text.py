"""JSON in files of weights: a mapping in which no key stands twice, of a size that can be looked through."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.files.os_errors import cannot_be_read
from transferpipe.files.segment import opened

# The largest published index of shards has nine megabytes.
MOST_JSON = 1 << 25
_AGAIN = "the file is damaged or truncated: download or save it again"


def read_mapping(path: Path, most: int = MOST_JSON) -> dict[str, Any]:
    """Return the mapping that the file holds.

    Raises:
        FileError: not readable, not JSON, not a mapping, or larger than `most` bytes.
        UnsafeError: a key stands there twice.
    """
    return parse_mapping(_read_text(path, most), str(path), "the file")


def read_list(path: Path, most: int = MOST_JSON) -> list[Any]:
    """Return the list that the file holds.

    Raises:
        FileError: not readable, not JSON, not a list, or larger than `most` bytes.
        UnsafeError: a key of a mapping stands there twice.
    """
    found = _parse(_read_text(path, most), str(path), "the file")
    if not isinstance(found, list):
        raise FileError(Problem(str(path), f"the file is a {type(found).__name__}, not a list", _AGAIN))
    return found


def _read_text(path: Path, most: int) -> bytes:
    try:
        with opened(path) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
            # One byte more than may be there: whether the file is longer shows without its size, which may change.
            text = file.read(most + 1)
    except OSError as error:
        raise cannot_be_read(path, error) from error
    if len(text) > most:
        what = f"has more than {most:,} bytes, too much for a file that only describes others"
        raise FileError(Problem(str(path), what, "name another `format:`"))
    return text


def parse_mapping(text: bytes, where: str, part: str) -> dict[str, Any]:
    """Return the mapping written in `text`; `part` is what messages call it, `where` is where it stands.

    Raises:
        FileError: not JSON, or not a mapping.
        UnsafeError: a key stands there twice. The last would win, and other readers may take the first.
    """
    # JSON allows any value at the top; a list or a number there is another kind of file.
    found = _parse(text, where, part)
    if not isinstance(found, dict):
        raise FileError(Problem(where, f"{part} is a {type(found).__name__}, not a mapping", _AGAIN))
    return found


def _parse(text: bytes, where: str, part: str) -> Any:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            # Only then is it looked for which: nearly all mappings have no key twice.
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise UnsafeError(Problem(where, f"{part} has the key {twice!r} twice", "save the file again"))
        return found

    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError) as error:
        # Brackets in brackets exceed Python's depth long before a file of this size ends.
        raise FileError(Problem(where, f"{part} cannot be read: {error}", _AGAIN)) from error
