"""Reading one mapping of a recipe key by key, noting every problem instead of stopping at the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from transferpipe.errors import Problems, did_you_mean

MISSING = "???"
_Choice = TypeVar("_Choice", bound=str)


class Fields:
    """The keys of one mapping; each method reads one key and notes what is wrong with it."""

    def __init__(self, data: Mapping[str, Any], where: str, problems: Problems) -> None:
        self._data, self._where, self.problems = data, where, problems
        self._known: list[str] = []
        self._required: set[str] = set()

    def at(self, key: str) -> str:
        """Return the dotted place of `key` in the recipe."""
        return f"{self._where}.{key}" if self._where else key

    def note(self, key: str, what: str, fix: str = "") -> None:
        """Note a problem with `key`."""
        self.problems.add(self.at(key), what, fix)

    def has(self, key: str) -> bool:
        """Tell whether `key` is written, be it with null or left at ``???``."""
        return key in self._data

    def is_null(self, key: str) -> bool:
        """Tell whether null is written for `key`."""
        self._known.append(key)
        return key in self._data and self._data[key] is None

    def raw(self, key: str, default: Any = None) -> Any:
        """Return the value as it is; a required value that was left at ``???`` is a problem."""
        self._known.append(key)
        value = self._data.get(key, default)
        if not is_missing(value):
            return value
        if key not in self._required:
            self._required.add(key)
            self.note(key, "a value is required", f"give one: {self.at(key)}=...")
        return default

    def _typed(self, key: str, default: Any, types: tuple[type, ...], name: str) -> Any:
        value = self.raw(key, default)
        if value is None or value is default:
            return default
        if isinstance(value, types) and not (isinstance(value, bool) and bool not in types):
            return value
        self.note(key, f"must be {name}, not {describe(value)}")
        return default

    def text(self, key: str, default: str | None = None) -> str | None:
        """Return a string."""
        value = self._typed(key, default, (str,), "text")
        return str(value) if value is not None else None

    def flag(self, key: str, default: bool = False) -> bool:
        """Return true or false."""
        return bool(self._typed(key, default, (bool,), "true or false"))

    def integer(self, key: str, default: int) -> int:
        """Return an integer of at least 0."""
        value = self._typed(key, default, (int,), "an integer")
        if value < 0:
            self.note(key, f"must be at least 0, not {value}")
        return int(value)

    def choice(self, key: str, choices: Sequence[_Choice], default: _Choice) -> _Choice:
        """Return one of `choices`."""
        value = self.raw(key, default)
        if value in choices:
            return choices[choices.index(value)]
        hint = did_you_mean(str(value), choices)
        self.note(key, f"must be one of {', '.join(choices)}, not {describe(value)}", hint)
        return default

    def mapping(self, key: str) -> Mapping[str, Any]:
        """Return a mapping; empty where the key is missing."""
        value: Mapping[str, Any] = self._typed(key, {}, (Mapping,), "a mapping")
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
        """Note every key that nothing has asked for."""
        for key in self._data:
            if key not in self._known:
                hint = did_you_mean(str(key), self._known) or f"known here: {', '.join(sorted(set(self._known)))}"
                self.note(str(key), "unknown key", hint)


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
