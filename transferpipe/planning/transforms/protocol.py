"""What every transform is: its facts, shape and dtype for planning, values for applying.

To add one:

1. write a frozen dataclass that inherits `Transform`, in the module of its family or in one of its own;
2. say its `name`, and of the facts those that are not as they are here: what you do not say has the careful answer;
3. write `parse`, whose docstring shows the YAML between double backquotes, and `shape` and `apply`;
4. add its name and place to the table in ``__init__.py``; from outside, an entry point ``NAME = "package:Class"`` under
   ``transferpipe.transforms`` in its place;
5. let it pass `transferpipe.testing.TransformLaws`, and compare its values with an independent formula.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from transferpipe.weights.spec import numpy_dtype

PartialShape = tuple[int | None, ...]
"""A shape of which some sizes may not be known."""
_BLOCK = 1 << 22
"""How many bytes of each input are taken at a time: enough that the calls cost nothing, few enough for a cache."""

# Added to any number, -0.0 gives that number, bit for bit; 0.0 would make 0.0 of -0.0.
NOTHING = -0.0


@dataclass(frozen=True, slots=True)
class Goal:
    """What a step works towards, as far as it is known: so that a recipe needs no literal sizes.

    Attributes:
        shape: the shape that the step's result should have, worked back from the target weight through the steps behind
            it (`Transform.shape_before`): None in the place of a size that they hide, None for it all where they hide
            everything. The step may give another shape all the same; the plan refuses it where that matters.
        name: the target weight's name, for a step that draws numbers: no two weights should get the same ones.
        seed: the recipe's seed, for the same.
    """

    shape: PartialShape | None = None
    name: str = ""
    seed: int = 0

    def size(self, step: object, axis: int, rank: int) -> int:
        """Return the size that axis `axis` (from the front) of a result with `rank` axes should have.

        Raises:
            TransformError: nobody knows it.
        """
        shape = self.shape
        if shape is not None and len(shape) != rank:
            what = f"{step}: its result has {rank} axes, where {_write_shape(shape)} is wanted"
            raise TransformError(what, "change the number of axes before it, or write the size")
        size = None if shape is None else shape[axis]
        if size is None:
            what = f"{step}: the size of axis {axis} is taken from the target, but the steps behind it hide that"
            raise TransformError(what, "write the size, or make it the last step")
        return size


def _write_shape(shape: PartialShape) -> str:
    sizes = ["?" if size is None else str(size) for size in shape]
    return f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"


NO_GOAL = Goal()


class TransformError(ValueError):
    """A transform is written wrongly, or cannot be applied to the weights it is given.

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
    2. `fit`, with the shapes of the inputs and the `Goal`: a step written without sizes returns itself with them, which
       is asked everything that follows; any other leaves it out.
    3. `shape` and `dtype`, while it is planned, maybe often. They must refuse inputs that `apply` cannot take (a rank
       too low, an axis that does not exist, integers where numbers are scaled), and may not read a value.
    4. `apply`, while it runs and once more for the proof, with inputs that these two accepted. It must return exactly
       the shape and dtype that they said, the same bits each time, and leave its inputs as they are; it may return a
       view of one. What it makes infinite is found because it `computes`, which is the answer unless the class says no;
       values that mean nothing to it, such as a negative mean of squares, it refuses with a `TransformError`.
       Calling the transform fits it and applies it, block by block where it is `elementwise`.
    5. `advise_overflow`, where that happened; `shape_before`, for the `Goal` of the steps before it; `reverse`, where
       the way back is wanted. All may be left out.

    Attributes:
        name: what a recipe calls it.
        several: whether it combines several inputs; otherwise it takes exactly one.
        computes: whether results may be numbers that no input holds, so that they are looked at for overflow.
        keeps_rows: whether row i of the result is about what row i of the input was about.
        reorders: whether it changes which values follow each other beyond moving whole axes: whoever writes it is
            believed to know the order that the target wants.
        permutes: whether every value of the input stands in the result once, as it is.
        fills: whether it puts in numbers that come from no source.
        elementwise: whether the inputs and the result have one shape, and each number of the result depends on those in
            its own place alone: it is then called with blocks of its inputs, and needs no more memory than these.
        arguments: what its arguments are called, where a recipe gives them by name; empty where none has a name, None
            where nobody said, so that a name is not checked before `parse` sees it.
    """

    # A base without slots would give every step a dictionary, whatever `slots=True` of its dataclass says.
    __slots__ = ()

    name: ClassVar[str]
    several: ClassVar[bool] = False
    # The careful answers: what is not said to pass values on is checked, what is not said to keep rows may move them.
    computes: ClassVar[bool] = True
    keeps_rows: ClassVar[bool] = False
    reorders: ClassVar[bool] = False
    permutes: ClassVar[bool] = False
    fills: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False
    arguments: ClassVar[tuple[str, ...] | None] = None

    @classmethod
    @abc.abstractmethod
    def parse(cls, data: Any) -> Transform:
        """Return the transform that these arguments, as YAML has them, ask for; None stands for none given.

        Raises:
            TransformError: an argument is wrong.
        """

    def fit(self, shapes: Sequence[tuple[int, ...]], goal: Goal) -> Transform:  # most know all their sizes
        """Return this step with the sizes in it that a recipe leaves open, for inputs of `shapes`.

        What it returns depends on nothing else, and returns itself when it is asked again.

        Raises:
            TransformError: a size that is left open cannot be inferred.
        """
        return self

    @abc.abstractmethod
    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """Return the shape of the result for inputs of `shapes`.

        Raises:
            TransformError: it cannot be applied to these shapes.
        """

    def dtype(self, dtypes: Sequence[str]) -> str:
        """Return the NumPy name of the result's dtype for inputs of `dtypes`.

        Raises:
            TransformError: it cannot be applied to these dtypes.
        """
        return dtypes[0]

    @abc.abstractmethod
    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return the result for inputs whose shapes and dtypes were accepted; inputs stay as they are.

        The result may be a view of an input: the caller must not write into it.
        """

    def __call__(self, *arrays: NDArray[Any], goal: Goal = NO_GOAL) -> NDArray[Any]:
        """Return the result for `arrays`, which the step is fitted to; block by block where it is `elementwise`."""
        step = self.fit([array.shape for array in arrays], goal)
        first = arrays[0]
        # Blocks are rows: a single one cannot be cut, and of a small weight the pieces would only cost calls.
        if not step.elementwise or first.nbytes <= _BLOCK or len(first) == 1:
            return step.apply(arrays)
        result = np.empty(first.shape, numpy_dtype(step.dtype([array.dtype.name for array in arrays])))
        rows = max(1, _BLOCK * len(first) // first.nbytes)
        for start in range(0, len(first), rows):
            result[start : start + rows] = step.apply([array[start : start + rows] for array in arrays])
        return result

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """Return the shape that every input has where the result has the shape `after`, as far as that says so."""
        return after if self.elementwise else None

    def pinned(self) -> Mapping[str, Any] | None:  # most read no file
        """Return this step as a plan has it, with the digests of the files that it names; None where it names none.

        `parse` takes what stands in it; the files are read here, so that what is wrong with them is found.

        Raises:
            FileError, VerificationError: a file cannot be found or read, or is not the pinned one.
        """
        return None

    def reverse(self, shape: tuple[int, ...]) -> tuple[Transform, ...] | None:  # most have none
        """Return what leads back from the result to an input of `shape`, bit by bit; None where nothing does.

        It is asked of a step that takes one input; of others, and of what has several, see `reverse_each`.
        """
        return None

    def reverse_each(self, shapes: Sequence[tuple[int, ...]]) -> tuple[tuple[Transform, ...], ...] | None:
        """Return, for each input, what leads back to it from the result; None where nothing does."""
        back = self.reverse(shapes[0]) if len(shapes) == 1 else None
        return None if back is None else (back,)

    def advise_overflow(self, dtype: str) -> str:  # most cannot say
        """Return how to avoid that results become infinite in `dtype`; nothing where the transform cannot say."""
        return ""
