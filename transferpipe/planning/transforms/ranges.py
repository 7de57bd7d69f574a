"""One axis' ``start:stop:step``, as a value and as read from a recipe's text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from transferpipe.planning.transforms.protocol import TransformError

# At most 18 digits: more than any axis needs, and few enough for `int` to read from anybody's text.
_END = r"\s*([+-]?[0-9]{1,18})?\s*"
_TEXT = re.compile(f"{_END}:{_END}(?::{_END})?")


@dataclass(frozen=True, slots=True)
class Range:
    """What Python's `slice` is, but hashable (Python's own is so from 3.12 on), and never with a step of 0."""

    start: int | None = None
    stop: int | None = None
    step: int | None = None

    def __post_init__(self) -> None:
        if self.step == 0:
            raise TransformError(f"slice: the range {self} has step 0", "use 1 or more, or -1 to go backwards")

    def __str__(self) -> str:
        ends = [self.start, self.stop] if self.step is None else [self.start, self.stop, self.step]
        return ":".join("" if end is None else str(end) for end in ends)

    def as_slice(self) -> slice:
        """Return Python's own slice."""
        return slice(self.start, self.stop, self.step)

    def count(self, size: int) -> int:
        """Return how many indices it selects from an axis of `size`."""
        return len(range(*self.as_slice().indices(size)))


def parse_range(text: str, example: str) -> Range:
    """Return the range written as ``0:3``, ``:``, ``-3:`` or ``::2``; `example` is shown where it cannot be read."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise TransformError(f"slice cannot read the range {text!r}", f"write {example}")
    return Range(*(None if end is None else int(end) for end in match.groups()))
