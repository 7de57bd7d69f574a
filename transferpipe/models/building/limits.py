"""What a builder may take while it builds: weights, calls of layers, memory and time.

A builder is a loop over layers, and each call of one and each weight passes here first. What a builder of a library
computes beside them (tables of positions, anchors) is bounded by its arguments (`sizes.py`), and where those are
unusual by the memory that the child may take (`tried.py`). This process itself has no such limit: the system counts
addresses, of which the context of a GPU reserves more than any model needs.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transferpipe.models.building.sizes import memory_of_machine
from transferpipe.models.patches import patched
from transferpipe.weights.spec import numpy_dtype

# The models with the most experts have some ten thousand weights, each of its own.
MOST_WEIGHTS, MOST_CALLS = 100_000, 500_000
# The largest published models take some ten seconds.
MOST_SECONDS = 300.0
WITHOUT_VALUES = 4 << 30
"""How many bytes a builder of a library may take while its weights have no values: models of any size take less."""
_LEAST_MEMORY = 2 << 30  # what the process may take in any case, whatever others leave free


class OverLimitError(BaseException):
    """A builder takes more than it may; not an `Exception`, which code of the builder would catch.

    Attributes:
        what: which limit it was, as the end of a sentence that begins with the builder.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


@dataclass
class Limits:
    """What is left of what a builder may take.

    Attributes:
        bytes: of all its weights.
        seconds: of processor time.
        over: what it took too much of; empty as long as it did not.
    """

    bytes: int
    seconds: float = math.inf
    over: str = ""
    _taken: list[int] = field(default_factory=lambda: [0, 0, 0])
    _begun: float = field(default_factory=time.process_time)

    def start_over(self) -> None:
        """Count from nothing: the builder is called anew."""
        self._taken, self._begun = [0, 0, 0], time.process_time()

    def note_weight(self, size: int) -> None:
        """Note a weight of `size` bytes, before it is made.

        Raises:
            OverLimitError: it is more than the builder may make.
        """
        # Before it is made: afterwards there may be no memory left to say so.
        self._taken[0] += size
        self._taken[1] += 1
        if self._taken[0] > self.bytes:
            self._end(f"would make more than {self.bytes:,} bytes of weights, which is all the memory of this machine")
        # Many small ones take little memory and very long.
        if self._taken[1] > MOST_WEIGHTS:
            self._end(f"would make more than {MOST_WEIGHTS:,} weights")
        self.check_time()

    def note_call(self) -> None:
        """Note that a layer is called, before it is.

        Raises:
            OverLimitError: that is more often than the builder may do it.
        """
        self._taken[2] += 1
        if self._taken[2] > MOST_CALLS:
            self._end(f"calls layers more than {MOST_CALLS:,} times")
        self.check_time()

    def check_time(self) -> None:
        """End a builder that takes too long.

        Raises:
            OverLimitError: it does.
        """
        # Of the processor, not by the clock: a machine that is busy, or asleep, is not the builder's fault.
        if time.process_time() - self._begun > self.seconds:
            self._end(f"takes more than {self.seconds:.0f} seconds of processor time")

    def raise_if_over(self) -> None:
        """Raise again what the builder, or TensorFlow on the way, kept.

        Raises:
            OverLimitError: the builder took too much.
        """
        # TensorFlow turns whatever is raised inside of its functions into errors of its own.
        if self.over:
            raise OverLimitError(self.over)

    def _end(self, what: str) -> None:
        self.over = self.over or what
        # What was too much first stays the reason.
        raise OverLimitError(self.over)


@contextmanager
def counted(keras: Any, limits: Limits) -> Iterator[None]:
    """Count the weights that the body makes in this thread, and its calls of layers.

    Raises:
        OverLimitError: they are more than it may make.
    """

    def note_weight(proceed: Callable[..., Any], variable: Any, /, *args: Any, **keys: Any) -> Any:
        limits.note_weight(_size(args, keys))
        return proceed(variable, *args, **keys)

    def note_call(proceed: Callable[..., Any], layer: Any, /, *args: Any, **keys: Any) -> Any:
        limits.note_call()
        return proceed(layer, *args, **keys)

    # Patched on the class, for this thread alone: other threads may build models at the same time.
    with ExitStack() as stack:
        stack.enter_context(patched(keras.Variable, "__init__", note_weight))
        stack.enter_context(patched(keras.layers.Layer, "__call__", note_call))
        yield
    limits.raise_if_over()


def _size(args: tuple[Any, ...], keys: dict[str, Any]) -> int:
    """Return the bytes of a variable of Keras with these arguments: initializer, shape, dtype."""
    given = dict(zip(("initializer", "shape", "dtype"), args, strict=False)) | keys
    shape = given.get("shape")
    if shape is None:
        # Without a shape, an array is the initial value itself.
        return int(getattr(given.get("initializer"), "nbytes", 0) or 0)
    try:
        return math.prod(int(n) for n in shape) * numpy_dtype(str(given.get("dtype") or "float32")).itemsize
    except (TypeError, ValueError, LookupError):  # Keras says what is wrong with it
        return 0


@contextmanager
def memory_limited(most: int | None) -> Iterator[None]:
    """Let the process take `most` bytes more than it has in the body, where the system can see to that.

    Raises:
        MemoryError: the body takes more.
    """
    # Where nobody says what the process takes now, "more than now" cannot be said to the system.
    pages = _pages()
    if most is None or pages is None:
        yield
        return
    import resource

    before = soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    # Addresses, not memory in use: that is what the system can refuse, and TensorFlow reserves many that it never uses.
    wanted = pages * resource.getpagesize() + most
    # A limit that is there already is never raised.
    known = [limit for limit in (soft, hard, wanted) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(known), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def free_memory() -> int:
    """Return how many bytes of memory are free, as Linux tells; elsewhere half of what there is."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            # What can be had without swapping, caches included; MemFree leaves these out.
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return memory_of_machine() // 2


def room_for_values() -> int:
    """Return how many bytes a builder of a library may take where its weights have values."""
    # On a busy machine the models that are published must still be built.
    return max(_LEAST_MEMORY, free_memory())


def _pages() -> int | None:
    """Return how many pages of addresses the process has; None where nobody says, as on macOS and Windows."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        return None
