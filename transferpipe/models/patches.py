"""Methods of frameworks, replaced for as long as a block of code runs, and for the thread that runs it alone.

A method belongs to every object of its class, and so to every thread of the process. What is put in its place asks
which thread calls, and hands the call of any other on as if nothing were there. It stands there once, however many
blocks in however many threads want it, and goes with the last of them, whatever ended it; so no order of ends leaves it
behind.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

Around = Callable[..., Any]
"""Called in place of a method with what it would do, as a function, and then the arguments of the call."""


class _Patch:
    """What stands in place of one method.

    Attributes:
        original: what stood there.
        replacement: what stands there now.
        blocks: how many blocks of code want it.
    """

    def __init__(self, original: Any) -> None:
        self.original, self.blocks = original, 0
        if isinstance(original, property):
            get = self._dispatch(original.fget)
            self.replacement: Any = property(get, original.fset, original.fdel, original.__doc__)
        else:
            self.replacement = self._dispatch(original)

    def _dispatch(self, original: Any) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            function = original
            for around in _HERE.arounds.get(self, ()):
                function = functools.partial(around, function)
            return function(*args, **kwargs)

        return call


class _Here(threading.local):
    """What this thread wants called in place of each method, the innermost block's last."""

    def __init__(self) -> None:
        self.arounds: dict[_Patch, tuple[Around, ...]] = {}


_HERE = _Here()
_LOCK = threading.Lock()
_PATCHES: dict[tuple[type | ModuleType, str], _Patch] = {}


@contextmanager
def patched(kind: type | ModuleType, name: str, around: Around) -> Iterator[None]:
    """Call `around` in place of a method, or of what reads a property, while the body runs, in this thread alone.

    A function of a module is such a method, for those who look it up there.

    Blocks nest: an inner one's `around` gets the outer one's as what the method would do. What others put in place of
    the method meanwhile stays.

    Args:
        kind: the class, whose method may be inherited, or the module.
        name: the method's.
        around: what to call.
    """
    owner = kind if isinstance(kind, ModuleType) else next(base for base in kind.__mro__ if name in vars(base))
    patch = _enter(owner, name)
    before = _HERE.arounds.get(patch, ())
    _HERE.arounds[patch] = (*before, around)
    try:
        yield
    finally:
        _HERE.arounds[patch] = before
        if not before:
            del _HERE.arounds[patch]
        _leave(owner, name, patch)


def _enter(owner: type | ModuleType, name: str) -> _Patch:
    with _LOCK:
        patch = _PATCHES.get((owner, name))
        if patch is None:
            patch = _PATCHES[owner, name] = _Patch(vars(owner)[name])
            setattr(owner, name, patch.replacement)
        patch.blocks += 1
        return patch


def _leave(owner: type | ModuleType, name: str, patch: _Patch) -> None:
    with _LOCK:
        patch.blocks -= 1
        if not patch.blocks:
            del _PATCHES[owner, name]
            # Another library may have put its own in place meanwhile, which is its to take away.
            if vars(owner).get(name) is patch.replacement:
                setattr(owner, name, patch.original)
