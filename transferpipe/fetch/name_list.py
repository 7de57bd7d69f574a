"""Lists of names in files: the labels of classes, the tokens of a vocabulary. Read as data, whoever wrote them.

Which forms are read: a text file with one name a line (``labels.txt``, ``vocab.txt``); JSON with a list of names; JSON
with the place of each name (``vocab.json`` of GPT-2, ``vocabulary.json`` of KerasHub) or the name at each place
(``id2label``, alone or in a ``config.json`` of transformers); ``tokenizer.json`` of Hugging Face's tokenizers
(https://huggingface.co/docs/tokenizers, `model.vocab` with `added_tokens`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transferpipe.errors import FileError, Problem
from transferpipe.fetch.find import find
from transferpipe.files.hashing import sha256
from transferpipe.files.json_text import parse_mapping
from transferpipe.files.os_errors import cannot_be_read
from transferpipe.recent import Recent
from transferpipe.text.numbers import is_number

# The largest published tokenizer.json, Gemma 3's, has 33 megabytes.
_MOST_BYTES = 1 << 27
_FORMS = "give a text file with one name a line, a JSON list of names, or a tokenizer.json"
# By digest, so that what was read is what was pinned; a recipe names two lists, or two for each of a few models.
_READ: Recent[tuple[str, ...]] = Recent(8)


@dataclass(frozen=True, slots=True)
class NameFile:
    """A file that lists names.

    Attributes:
        path: as it is written in the recipe.
        sha256: its digest; None where nobody has pinned it yet.
    """

    path: str
    sha256: str | None = None

    def __str__(self) -> str:
        return Path(self.path).name

    def written(self) -> str | dict[str, str]:
        """Return the file as a recipe has it."""
        return self.path if self.sha256 is None else {"path": self.path, "sha256": self.sha256}

    def locate(self) -> Path:
        """Return where the file lies.

        Raises:
            FileError, VerificationError: it cannot be found, or is not the pinned one.
        """
        return find(self.path, self.path, self.sha256).path

    def pinned(self) -> NameFile:
        """Return the same with its digest, after its names were read.

        Raises:
            FileError, VerificationError: see `names`.
        """
        if self.sha256 is not None:
            self.names()
            return self
        digest = sha256(_check(self.locate()))
        found = NameFile(self.path, digest)
        found.names()
        return found

    def names(self) -> tuple[str, ...]:
        """Return the names in their order.

        Raises:
            FileError: it cannot be found or read, is empty, or has a name twice.
            VerificationError: it is not the pinned one.
        """
        known = _READ.get(self.sha256) if self.sha256 else None
        if known is not None:
            return known
        path = _check(self.locate())
        found = _read(path)
        return _READ.keep(self.sha256, found) if self.sha256 else found


def _check(path: Path) -> Path:
    if path.exists() and not path.is_file():  # reading from a pipe would wait for its writer
        what = "is a folder, not a list of names" if path.is_dir() else "is not an ordinary file"
        raise FileError(Problem(str(path), what, _FORMS))
    try:
        size = path.stat().st_size
    except OSError as error:
        raise cannot_be_read(path, error) from error
    if size > _MOST_BYTES:
        what = f"has {size:,} bytes; a list of names has at most {_MOST_BYTES:,}"
        raise FileError(Problem(str(path), what, _FORMS))
    return path


def _read(path: Path) -> tuple[str, ...]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise cannot_be_read(path, error) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(Problem(str(path), f"is not UTF-8 text: {error}", _FORMS)) from error
    is_json = path.suffix.lower() == ".json" or text.lstrip()[:1] == "{"
    names = _names_of_json(text, path) if is_json else _lines(text)
    return _check_names(names, path)


def _lines(text: str) -> list[str]:
    """Return the lines; a name may hold any character but the end of a line."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _names_of_json(text: str, path: Path) -> list[str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileError(Problem(str(path), f"is not JSON: {error}", _FORMS)) from error
    if isinstance(found, list):
        return _texts(found, path)
    if not isinstance(found, dict):
        raise FileError(Problem(str(path), f"holds a {type(found).__name__}, not names", _FORMS))
    found = parse_mapping(text.encode(), str(path), "the file")  # refuses a key that stands twice
    model = found.get("model")
    if isinstance(model, Mapping) and "vocab" in model:
        return _names_of_tokenizer(model["vocab"], found.get("added_tokens") or [], path)
    inner = found.get("id2label")
    return _names_of_places(inner if isinstance(inner, Mapping) else found, path)


def _texts(values: Iterable[Any], path: Path) -> list[str]:
    names = list(values)
    for place, name in enumerate(names):
        if not isinstance(name, str):
            what = f"has {type(name).__name__} {str(name)[:40]} at place {place}, where a name is expected"
            raise FileError(Problem(str(path), what, _FORMS))
    return names


def _names_of_places(found: Mapping[str, Any], path: Path) -> list[str]:
    """Return the names of ``{name: place}``, or of ``{"place": name}``."""
    if found and all(type(value) is int for value in found.values()):
        return _in_order(found.items(), path)
    if found and all(is_number(key) for key in found):
        names = _texts(found.values(), path)
        return _in_order(((name, int(key)) for name, key in zip(names, found, strict=True)), path)
    raise FileError(Problem(str(path), "is a mapping, but neither of names to places nor of places to names", _FORMS))


def _names_of_tokenizer(vocabulary: Any, added: Any, path: Path) -> list[str]:
    if isinstance(vocabulary, list):  # Unigram: [[token, log-probability], ...]
        firsts = [pair[0] if isinstance(pair, list) and pair else None for pair in vocabulary]
        tokens = _texts(firsts, path)
        places = {name: place for place, name in enumerate(tokens)}
        if len(places) < len(tokens):
            return tokens  # one stands twice, which is said of it
    elif isinstance(vocabulary, Mapping) and all(type(place) is int for place in vocabulary.values()):
        places = dict(vocabulary)
    else:
        raise FileError(Problem(str(path), "is a tokenizer without a vocabulary of tokens", _FORMS))
    for token in added if isinstance(added, list) else ():
        if isinstance(token, Mapping) and isinstance(token.get("content"), str) and type(token.get("id")) is int:
            places.setdefault(token["content"], token["id"])
    return _in_order(places.items(), path)


def _in_order(pairs: Iterable[tuple[str, int]], path: Path) -> list[str]:
    by_place: dict[int, str] = {}
    for name, place in pairs:
        first = by_place.setdefault(place, name)
        if first != name:
            what = f"gives place {place} to {first!r} and to {name!r}"
            raise FileError(Problem(str(path), what, "give every name a place of its own"))
    missing = next((place for place in range(len(by_place)) if place not in by_place), None)
    if missing is not None:
        what = f"has {len(by_place)} names, but none at place {missing}"
        raise FileError(Problem(str(path), what, "number the places from 0 on, without a gap"))
    return [by_place[place] for place in range(len(by_place))]


def _check_names(names: list[str], path: Path) -> tuple[str, ...]:
    if not names:
        raise FileError(Problem(str(path), "lists no names", _FORMS))
    seen: dict[str, int] = {}
    for place, name in enumerate(names):
        if not name:
            what = f"has an empty name at place {place} (places count from 0)"
            raise FileError(Problem(str(path), what, "name every place, or take the line out"))
        if name in seen:
            what = f"has the name {name!r} twice, at places {seen[name]} and {place}"
            raise FileError(Problem(str(path), what, "give every place a name of its own"))
        seen[name] = place
    return tuple(names)
