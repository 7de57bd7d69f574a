"""Reading one mapping of a recipe key by key, noting every problem instead of stopping at the first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from transferpipe.errors import Problems, did_you_mean
from transferpipe.recipe.keys import RECIPE, SECTIONS
from transferpipe.recipe.layouts import layout_words

MISSING = "???"


class Fields:
    """The keys of one mapping; each method reads one key and notes what is wrong with it.

    Every method raises `KeyError` for a key that has no row in the section: nothing is read that is not in the table.
    """

    def __init__(self, data: Mapping[str, Any], where: str, problems: Problems, section: str = RECIPE) -> None:
        self._data, self._where, self.problems = data, where, problems
        self._rows = SECTIONS[section]
        self._required: set[str] = set()

    def at(self, key: str) -> str:
        """Return the dotted place of `key` in the recipe."""
        return f"{self._where}.{key}" if self._where else key

    def note(self, key: str, what: str, fix: str = "") -> None:
        """Note a problem with `key`."""
        self.problems.add(self.at(key), what, fix)

    def refuse(self, key: str, what: str, fix: str = "") -> None:
        """Note that `key` asks for more than data may ask for."""
        self.problems.refuse(self.at(key), what, fix)

    def has(self, key: str) -> bool:
        """Tell whether `key` is written, be it with null or left at ``???``."""
        return key in self._data

    def is_null(self, key: str) -> bool:
        """Tell whether null is written for `key`."""
        return self._rows[key].name in self._data and self._data[key] is None

    def raw(self, key: str) -> Any:
        """Return the value as it is, or None; a required value that was left at ``???`` is a problem."""
        value = self._data.get(self._rows[key].name)
        if not is_missing(value):
            return value
        if key not in self._required:  # a value may be asked for several times, and is missing once
            self._required.add(key)
            self.note(key, "a value is required", f"give one: {self.at(key)}=...")
        return None

    def _check_type(self, key: str, types: tuple[type, ...], name: str) -> Any:
        value, default = self.raw(key), self._rows[key].default
        if value is None:
            return default
        if isinstance(value, types) and not (isinstance(value, bool) and bool not in types):
            return value
        self.note(key, f"must be {name}, not {describe(value)}")
        return default

    def text(self, key: str) -> str | None:
        """Return a string."""
        value = self._check_type(key, (str,), "text")
        return str(value) if value is not None else None

    def flag(self, key: str) -> bool:
        """Return true or false."""
        return bool(self._check_type(key, (bool,), "true or false"))

    def integer(self, key: str) -> int:
        """Return an integer of at least 0."""
        value = self._check_type(key, (int,), "an integer")
        if value < 0:
            self.note(key, f"must be at least 0, not {value}")
        return int(value)

    def choice(self, key: str) -> Any:
        """Return one of the words of the key's row, or its default."""
        row = self._rows[key]
        value = self.raw(key)
        if key not in self._data or is_missing(self._data[key]) or (value is None and row.takes_null):
            return row.default
        words = row.words if row.kind == "choice" else tuple(dict.fromkeys((*row.words, *layout_words(value))))
        if value in words:
            return value
        hint = did_you_mean(str(value), words)
        self.note(key, f"must be one of {', '.join(words)}, not {describe(value)}", hint)
        return row.default

    def mapping(self, key: str) -> Mapping[str, Any]:
        """Return a mapping; empty where the key is missing."""
        value: Mapping[str, Any] = self._check_type(key, (Mapping,), "a mapping")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of strings; a single string counts as a list of one."""
        value = self.raw(key)
        if value is None:
            return ()
        items = [value] if isinstance(value, str) else value
        if isinstance(items, list | tuple) and all(isinstance(i, str) for i in items):
            return tuple(items)
        self.note(key, f"must be a list of texts, not {describe(value)}")
        return ()

    def finish(self) -> None:
        """Note every key that is not in the section."""
        for key in self._data:
            if key not in self._rows:
                self.note(str(key), "unknown key", hint_key(str(key), self._rows))
            elif self._rows[key].composed:
                self.note(key, "is for recipe files, which the command line puts together", "leave it out")


def hint_key(key: str, known: Iterable[str]) -> str:
    """Return which of the `known` keys is meant by one that is not among them, or all that there are."""
    known = list(known)
    return did_you_mean(key, known) or f"known here: {', '.join(sorted(known))}"


def is_missing(value: Any) -> bool:
    """Tell whether `value` is a required one that was left at ``???``."""
    return isinstance(value, str) and value == MISSING


def describe(value: Any) -> str:
    """Return `value` and its type in a recipe writer's words."""
    names = {bool: "true/false", int: "integer", float: "number", str: "text", dict: "mapping", list: "list"}
    if value is None:
        return "null"
    shown = repr(value)
    return f"{names.get(type(value), type(value).__name__)} {shown if len(shown) <= 60 else shown[:57] + '...'}"
