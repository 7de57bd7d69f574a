"""Names in orders of their own that are found by how they begin, or end."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from functools import cached_property


class NameIndex:
    """Names, of which those between two texts are found without looking at all of them.

    A pattern knows between which texts everything lies that it matches (`Pattern.between`): a thousand rules that begin
    with the names of layers are so planned in about the time of one. What may begin with anything lies between all.

    >>> NameIndex(["b", "a/kernel", "a/bias"]).between(b"a/", b"a0")
    ['a/kernel', 'a/bias']
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(names)
        pairs = sorted((name.encode("utf-8", "surrogatepass"), k) for k, name in enumerate(self._names))
        self._sorted, self._places = [text for text, _ in pairs], [k for _, k in pairs]

    @cached_property
    def _backwards(self) -> tuple[list[bytes], list[int]]:
        pairs = sorted((name.encode("utf-8", "surrogatepass")[::-1], k) for k, name in enumerate(self._names))
        return [text for text, _ in pairs], [k for _, k in pairs]

    def ending_with(self, ending: bytes) -> list[str]:
        """Return the names that end with a text, in UTF-8, in the order in which they were given.

        >>> NameIndex(["b/kernel", "a/bias", "a/kernel"]).ending_with(b"/kernel")
        ['b/kernel', 'a/kernel']
        """
        texts, places = self._backwards
        low = ending[::-1]
        return [self._names[k] for k in sorted(places[bisect_left(texts, low) : bisect_right(texts, low + b"\xff")])]

    def between(self, low: bytes, high: bytes) -> list[str]:
        """Return the names from `low` to `high`, both in UTF-8 and included, in the order in which they were given."""
        first, last = bisect_left(self._sorted, low), bisect_right(self._sorted, high)
        return [self._names[k] for k in sorted(self._places[first:last])]
