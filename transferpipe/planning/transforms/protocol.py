"""What every transform is: its facts, shape and dtype for planning, values for applying.

To add one:

1. write a frozen dataclass that inherits `Transform`, in the module of its family or in one of its own;
2. say its `name`, and of the facts those that are not as they are here: what you do not say has the careful answer;
3. write `parse`, whose docstring shows the YAML between double backquotes, and `shape` and `apply`;
4. add the class to the tuple in ``__init__.py``; from outside, an entry point ``NAME = "package:Class"`` under
   ``transferpipe.transforms`` in its place;
5. let it pass `transferpipe.testing.TransformLaws`, and compare its values with an independent formula.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

from numpy.typing import NDArray


class TransformError(ValueError):
    """A transform is written wrongly, or does not fit the weights it is given.

    Attributes:
        what: what is wrong, beginning with the transform, with both values where two disagree.
        fix: what to write instead.
    """

    def __init__(self, what: str, fix: str) -> None:
        self.what = what
        self.fix = fix
        super().__init__(f"{what} -> {fix}")


class Transform(abc.ABC):
    """One step between source values and a target value: a frozen value without any array in it.

    `str` gives the step as it appears in a plan, such as ``transpose(1, 0)``; two transforms that do the same thing to
    every input but are written differently may have different texts, two that differ never have the same.

    It is called in this order:

    1. `parse`, while the recipe is read. It must refuse arguments that mean nothing, with what to write instead.
    2. `shape` and `dtype`, while it is planned, maybe often. They must refuse inputs that `apply` cannot take (a rank
       too low, an axis that does not exist, integers where numbers are scaled), and may not read a value.
    3. `apply`, while it runs and once more for the proof, with inputs that these two accepted. It must return exactly
       the shape and dtype that they said, the same bits each time, and leave its inputs as they are; it may return a
       view of one. What it makes infinite is found because it `computes`, which is the answer unless the class says no.
    4. `advise_overflow`, where that happened; `reverse`, where the way back is wanted. Both may be left out.

    Attributes:
        name: what a recipe calls it.
        several: whether it combines several inputs; otherwise it takes exactly one.
        computes: whether results may be numbers that no input holds, so that they are looked at for overflow.
        keeps_rows: whether row i of the result is about what row i of the input was about.
        reorders: whether it changes which values follow each other beyond moving whole axes: whoever writes it is
            believed to know the order that the target wants.
        permutes: whether every value of the input stands in the result once, as it is.
        fills: whether it puts in numbers that come from no source.
        arguments: what its arguments are called, where a recipe gives them by name; empty where none has a name, None
            where nobody said, so that a name is not checked before `parse` sees it.
    """

    __slots__ = ()

    name: ClassVar[str]
    several: ClassVar[bool] = False
    # The careful answers: what is not said to pass values on is checked, what is not said to keep rows may move them.
    computes: ClassVar[bool] = True
    keeps_rows: ClassVar[bool] = False
    reorders: ClassVar[bool] = False
    permutes: ClassVar[bool] = False
    fills: ClassVar[bool] = False
    arguments: ClassVar[tuple[str, ...] | None] = None

    @classmethod
    @abc.abstractmethod
    def parse(cls, data: Any) -> Transform:
        """Return the transform that these arguments, as YAML has them, ask for; None stands for none given.

        Raises:
            TransformError: an argument is wrong.
        """

    @abc.abstractmethod
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
        return dtypes[0]

    @abc.abstractmethod
    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return the result for inputs whose shapes and dtypes were accepted; inputs stay as they are.

        The result may be a view of an input: the caller must not write into it.
        """

    def reverse(self, shape: tuple[int, ...]) -> tuple[Transform, ...] | None:  # most have none
        """Return what leads back from the result to an input of `shape`, value by value; None where nothing does."""
        return None

    def advise_overflow(self, dtype: str) -> str:  # most cannot say
        """Return how to avoid that results become infinite in `dtype`; nothing where the transform cannot say."""
        return ""
