"""What a variant's result depends on beside its plan: files that its recipe names, and the user's own Python files."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import itertools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transferpipe.files.stamp import file_stamp
from transferpipe.recipe.keys import RECIPE, SECTIONS

# Of these every text may be a file that is read.
_BUILDERS = tuple(key.name for key in SECTIONS[RECIPE].values() if key.section == "origin")
# A folder of weights has hundreds of files at most; a folder of data that a recipe names by mistake must not cost
# minutes.
_MOST_FILES = 10_000
_READ = ("path", "_target_")  # a score may write files too, such as a cache or a log: those change nothing


def inputs_of(recipe: Mapping[str, Any]) -> list[list[Any]]:
    """Return what tells that the files behind `recipe` are still the same.

    Of every file that `source` or `target` name, or `score` under a key `path`, its size and time; of every Python file
    below the working directory from which they take a callable, a digest. What such a file imports is not followed.
    A `path` may also be a folder or the name that the files of a checkpoint begin with.
    """
    built = [pair for part in _BUILDERS for pair in _texts(recipe.get(part))]
    found = dict.fromkeys([*built, *(pair for pair in _texts(recipe.get("score")) if pair[0] in _READ)])
    marks = {text: mark for key, text in found if (mark := _mark(text) or (_several(text) if key == "path" else []))}
    return [[text, *mark] for text, mark in marks.items()]


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text with the key under which it stands."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, str(name))


def _mark(text: str) -> list[Any]:
    with contextlib.suppress(OSError, ValueError):  # most texts are no paths at all
        if Path(text).is_file():
            return list(file_stamp(Path(text))[1:])
    module = _own_module(text)
    return [hashlib.sha256(module.read_bytes()).hexdigest()] if module else []


def _several(path: str) -> list[Any]:
    """Return the names, sizes and times of the files of a folder, or of a checkpoint whose files begin alike."""
    with contextlib.suppress(OSError, ValueError):
        place = Path(path)
        files = place.rglob("*") if place.is_dir() else place.parent.glob(f"{glob.escape(place.name)}.*")
        return [[str(f), *file_stamp(f)[1:]] for f in sorted(itertools.islice(files, _MOST_FILES)) if f.is_file()]
    return []


def _own_module(text: str) -> Path | None:
    """Return the user's file that holds what `text` names, whether it has been imported or not."""
    parts = text.split(".")
    for count in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:count]))
        file = getattr(module, "__file__", None) or _not_imported(parts[:count])
        if file:
            path = Path(file)
            return path if path.is_relative_to(Path.cwd()) and path.is_file() else None
    return None


def _not_imported(parts: list[str]) -> Path | None:
    if not all(part.isidentifier() for part in parts):
        return None
    inside = Path.cwd().joinpath(*parts)
    return next((f for f in (inside.with_suffix(".py"), inside / "__init__.py") if f.is_file()), None)
