"""Patterns over names: RE2 regular expressions, linear in time whatever a recipe from anybody says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import re2

# How much of what a pattern begins with RE2 works out: most names of layers are shorter.
_MOST_BEGINNING = 64
# A pattern that needs more than this to compile is a mistake or an attack.
_MOST_MEMORY = 8 << 20
_LAST = b"\xff"  # behind every text in UTF-8
_NOT_PLAIN = ("\\Q", "[]", "[^]", "[[", "\\\\")
"""What makes it hard to tell without a parser where a group or class ends."""
_FLAGS = re.compile(r"\(\?(?!:|P?<\w+>)")
_ENDING = re.compile(r"[\w/:, -]+\Z", re.ASCII)
_NAMED = re.compile(r"\\.|\(\?P?<(\w+)>")


@dataclass(frozen=True)
class NameMatch:
    """A name that a pattern matched as a whole, and its groups; a group that took no part is None."""

    name: str
    groups: tuple[str | None, ...] = ()
    named: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Pattern:
    r"""A regular expression that must match a whole name.

    Raises:
        ValueError: it is not a valid RE2 expression; the text says why and what to do instead.

    >>> Pattern(r"block(\d)_conv(\d)").match("block3_conv1").groups
    ('3', '1')
    """

    text: str
    _compiled: Any = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        options = re2.Options()
        options.log_errors = False
        options.max_mem = _MOST_MEMORY
        try:
            compiled = re2.compile(self.text, options)
        except re2.error as error:
            raise ValueError(_explain(self.text, error)) from None
        names = [n for n in _NAMED.findall(self.text) if n]
        if len(names) > len(compiled.groupindex):  # which of two groups a name means would depend on the library
            twice = next(n for n in names if names.count(n) > 1)
            raise ValueError(f"{self.text!r} has two groups named {twice!r}; give them different names")
        # Frozen: equal texts are equal patterns, and what RE2 made of them is no part of that.
        object.__setattr__(self, "_compiled", compiled)

    def match(self, name: str) -> NameMatch | None:
        """Return the match of the whole of `name`, or None."""
        found = self._compiled.fullmatch(name)
        return NameMatch(name, found.groups(), found.groupdict()) if found else None

    def place_of_group(self, name: str) -> tuple[int, int] | None:
        """Return where the text of the first group begins and ends in `name`, which the pattern matches as a whole."""
        found = self._compiled.fullmatch(name)
        return found.span(1) if found and found.span(1)[0] >= 0 else None

    @cached_property
    def between(self) -> tuple[bytes, bytes]:
        """Two texts, in UTF-8, between which everything that matches lies: the first and the last of all if unknown."""
        if self.text.startswith(".*"):
            return b"", _LAST
        try:
            low, high = self._compiled.possiblematchrange(_MOST_BEGINNING)
        except re2.error:  # working it out takes more memory than matching does
            return b"", _LAST
        return low, high or _LAST

    @cached_property
    def ending(self) -> bytes:
        """A text, in UTF-8, that everything that matches ends with; empty if there is none, or it is unknown."""
        if any(mark in self.text for mark in _NOT_PLAIN) or _FLAGS.search(self.text):
            return b""
        outside = re.sub(r"\\.|\[[^\]]*\]", "", self.text)
        # Groups from the inside out, until none is left: an alternative outside of all of them may end in anything.
        while outside != (outside := re.sub(r"\([^()]*\)", "", outside)):
            pass
        start = _ENDING.search(self.text)
        if start is None or "|" in outside:
            return b""
        # What stands last is in no group and no class, which would have to be closed behind it.
        found = start[0]
        if self.text[: start.start()].endswith("\\"):  # the letter of a class of characters, or more than that
            found = found[1:] if found[0] in "dDsSwW" else ""
        return found.encode()

    @property
    def group_count(self) -> int:
        """Number of groups."""
        return int(self._compiled.groups)

    @property
    def group_names(self) -> frozenset[str]:
        """Names of the named groups."""
        return frozenset(self._compiled.groupindex)


def _explain(text: str, error: Exception) -> str:
    reason = error.args[0] if error.args else error
    message = reason.decode() if isinstance(reason, bytes) else str(reason)
    if any(mark in text for mark in ("(?=", "(?!", "(?<=", "(?<!")):
        return f"{text!r} uses lookaround, which RE2 does not have; take names out with `except`"
    return f"{text!r} is not a regular expression: {message}"
