"""Which values of a source are refused, for one target weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray


class Refusals(NamedTuple):
    """Looks for refused values in what one target weight takes.

    Attributes:
        check: looks at a part of the value, as one row of numbers, and raises on a refused one.
        only_finite: whether nothing is refused but NaN and infinity, so that finite floats need not be shown to it.
    """

    check: Callable[[NDArray[Any]], None]
    only_finite: bool = True


def _pass(_: NDArray[Any]) -> None:
    pass


NOTHING_REFUSED = Refusals(_pass)
