"""Long lists in one line of text: the first few, and how many more there are."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice

# More names than this are skipped by the eye; the number that follows says how many there are.
_MOST = 5


def listed(texts: Collection[str], most: int = _MOST) -> str:
    """Return the first few of `texts` as they are, and how many more there are.

    >>> listed(["a", "b", "c", "d"], 2)
    'a, b and 2 more'
    >>> listed([])
    'nothing'
    """
    return (", ".join(islice(texts, most)) or "nothing") + and_more(len(texts) - most)


def quoted(names: Iterable[object], most: int = _MOST) -> str:
    """Return the same of names in quotes, which may hold spaces and commas.

    >>> quoted(["a b", "c"])
    "'a b', 'c'"
    """
    return listed([repr(name) for name in names], most)


def listed_clauses(texts: Collection[str], most: int, rest: str = "more") -> str:
    """Return the same of texts that hold commas themselves.

    >>> listed_clauses(["a: 1, 2", "b: 3", "c: 4"], 1, "more like these")
    'a: 1, 2; and 2 more like these'
    """
    more = and_more(len(texts) - most, rest)
    return "; ".join(islice(texts, most)) + (f";{more}" if more else "")


def and_more(count: int, rest: str = "more") -> str:
    """Return the end of a sentence that shows all but `count` of what there is; it is empty if that is nothing.

    >>> "a" + and_more(1_200, "more layers")
    'a and 1,200 more layers'
    """
    return f" and {count:,} {rest}" if count > 0 else ""
