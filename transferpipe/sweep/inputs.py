"""What a variant's result depends on beside its plan: files that its recipe names, and the user's own Python files."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transferpipe.weights.formats.stamp import file_stamp

_BUILDERS = ("source", "sources", "target")  # of these every text may be a file that is read
_READ = ("path", "_target_")  # a score may write files too, such as a cache or a log: those change nothing


def inputs_of(recipe: Mapping[str, Any]) -> list[list[Any]]:
    """Return what tells that the files behind `recipe` are still the same.

    Of every file that `source` or `target` name, or `score` under a key `path`, its size and time; of every Python file
    below the working directory from which they take a callable, a digest. What such a file imports is not followed.
    """
    texts = [text for part in _BUILDERS for _, text in _texts(recipe.get(part))]
    texts += [text for key, text in _texts(recipe.get("score")) if key in _READ]
    found = dict.fromkeys(texts)
    return [[text, *mark] for text in found if (mark := _mark(text))]


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


def _own_module(text: str) -> Path | None:
    """Return the user's file that holds what `text` names; it has been imported to make the plan."""
    parts = text.split(".")
    for count in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:count]))
        file = getattr(module, "__file__", None)
        if file:
            path = Path(file)
            return path if path.is_relative_to(Path.cwd()) and path.is_file() else None
    return None
