"""Opening and building once what many runs in one process name: bounded, and by identity, never by hope."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Recent(Generic[Item]):
    """Keeps the last few items by key.

    A key must hold everything that decides the item: for a file its identity on disk, for a build the callables
    themselves, their arguments and the seed.
    """

    def __init__(self, most: int) -> None:
        self._most, self._items, self._lock = most, OrderedDict[Hashable, Item](), Lock()

    def get(self, key: Hashable) -> Item | None:
        """Return the item kept under `key`, if there is one."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def keep(self, key: Hashable, item: Item) -> Item:
        """Keep `item` under `key`, in place of the one that was not used for longest, and return it."""
        with self._lock:
            self._items[key] = item
            self._items.move_to_end(key)
            while len(self._items) > self._most:
                self._items.popitem(last=False)
        return item
