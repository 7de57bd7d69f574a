"""What every transform offers: shape and dtype for planning, values for applying."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from numpy.typing import NDArray


class TransformError(ValueError):
    """A transform is written wrongly, or does not fit the weights it is given.

    Attributes:
        what: what is wrong, beginning with the transform, with both values where two disagree.
        mend: what to write instead.
    """

    def __init__(self, what: str, mend: str) -> None:
        self.what = what
        self.mend = mend
        super().__init__(f"{what} -> {mend}")


class Transform(Protocol):
    """One step between source values and a target value: a frozen value without any array in it.

    `str` gives the step as it appears in a plan, such as ``transpose(1, 0)``; two transforms that do the same thing to
    every input but are written differently may have different texts, two that differ never have the same.

    Attributes:
        several: whether it combines several inputs; otherwise it takes exactly one.
    """

    several: ClassVar[bool]

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """Return the shape of the result for inputs of `shapes`.

        Raises:
            TransformError: it does not fit these shapes.
        """

    def dtype(self, dtypes: Sequence[str]) -> str:
        """Return the NumPy name of the result's dtype for inputs of `dtypes`.

        Raises:
            TransformError: it does not fit these dtypes.
        """

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return the result for inputs whose shapes and dtypes were accepted; inputs stay as they are.

        The result may be a view of an input: the caller must not write into it.
        """
