"""Who else holds an object: the collector's own arithmetic, over the objects that were made in a stretch of time."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def young_kept() -> Iterator[None]:
    """Keep all objects that the body makes in the collector's youngest generation, and all older ones out of it."""
    was_enabled = gc.isenabled()
    gc.collect(0)
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def are_held_only_by(owner: Any, things: Collection[Any], harmless: type | tuple[type, ...] = ()) -> bool:
    """Tell whether nothing but `owner` leads to `things`; to be called within `young_kept`, where all were made.

    An object with more references than the young objects hold to it is held by an older one, or by a running function;
    whatever can be reached from such an object is held by somebody else.

    Args:
        owner: holds `things`, and is ours.
        things: what to look for.
        harmless: kinds of objects that an older one may hold, because nobody follows them.
    """
    young = gc.get_objects(generation=0)
    known = {id(o) for o in young}
    wanted = set(map(id, things))
    if not {id(owner), *wanted} <= known:
        return False  # somebody has collected garbage since: there is no telling
    ours = {id(owner), id(things)}
    roots = [o for o in _find_older_holders(young) if id(o) not in ours and not isinstance(o, harmless)]
    return wanted.isdisjoint(_reachable(roots, known))


def _find_older_holders(young: list[Any]) -> list[Any]:
    inner = Counter(map(id, gc.get_referents(*young)))
    extra = next(map(sys.getrefcount, [object()]))  # what looking adds: the list, and the call
    counts = list(map(sys.getrefcount, young))  # all of them first: a loop would hold what it counts
    return [o for o, n in zip(young, counts, strict=True) if n - extra > inner[id(o)]]


def _reachable(roots: list[Any], known: Collection[int]) -> set[int]:
    """Return the ids of all objects among `known` that `roots` lead to, their own among them."""
    found = set(map(id, roots))
    front = roots
    while front:
        front = [o for o in gc.get_referents(*front) if id(o) in known and id(o) not in found]
        found.update(map(id, front))
    return found
