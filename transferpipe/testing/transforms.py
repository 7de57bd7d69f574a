"""The laws of a transform: the plan tells the truth, nothing is invented, and what becomes infinite is found."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from transferpipe.errors import VerificationError
from transferpipe.planning.transforms import NO_GOAL, Goal, Transform, TransformError, apply_chain, infer
from transferpipe.planning.transforms.computing.values import DTYPES
from transferpipe.values.checks import check_step
from transferpipe.weights.spec import numpy_dtype

Shapes = tuple[tuple[int, ...], ...]
_JUNK: tuple[Any, ...] = (None, True, -1, 10**30, 1.5, math.inf, math.nan, "", "x", [], [None], {}, {"x": 1}, [[1, 2]])
_RANKS: Shapes = ((), (0,), (1,), (5,), (2, 3), (3, 3), (2, 1, 4), (1, 2, 3, 2), (2, 1, 2, 1, 2))


class TransformLaws:
    """Laws of a transform.

    To use: give `kind` and `cases`, and, if you can, `formula`.

    Attributes:
        kind: the class.
        cases: arguments as a recipe has them, each with shapes of inputs that they fit, and, where a step leaves sizes
            to the target, with the shape that its result should have.
        dtypes: dtypes of inputs that it takes; the first is used where one is enough.
        leading: dtypes of the first inputs where these are of a kind of their own.
        extreme: a finite number so large that a transform that computes may well make it infinite, whatever its dtype.
    """

    kind: ClassVar[type[Transform]]
    cases: ClassVar[Sequence[tuple[Any, Shapes] | tuple[Any, Shapes, tuple[int, ...]]]]
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64", "float16")
    leading: ClassVar[tuple[str, ...]] = ()
    extreme: ClassVar[dict[str, float]] = {"float32": 3e38, "float64": 1.5e308, "float16": 6e4}

    def formula(self, arguments: Any, arrays: Sequence[NDArray[Any]]) -> NDArray[Any] | None:
        """Return what `arguments` make of `arrays` by code that is not the transform's; None where nobody knows."""
        return None

    def made(self) -> Iterator[tuple[Any, Transform, Shapes]]:
        """Yield the cases with the transforms that they ask for, fitted to the shapes."""
        for arguments, shapes, *wanted in self.cases:
            goal = Goal(wanted[0] if wanted else None, "weight", 1)
            yield arguments, self.kind.parse(arguments).fit(shapes, goal), shapes

    def _kinds(self, dtype: str, count: int) -> list[str]:
        return [*self.leading, *[dtype] * count][:count]

    def _small(self, shapes: Sequence[tuple[int, ...]], dtype: str) -> list[NDArray[Any]]:
        kinds = self._kinds(dtype, len(shapes))
        return [_numbers(shape, kind, seed) for seed, (shape, kind) in enumerate(zip(shapes, kinds, strict=True))]

    def test_it_is_a_value(self) -> None:
        """A plan holds transforms, prints them, and compares them."""
        assert re.fullmatch(r"[a-z][a-z0-9_]*", self.kind.name)
        texts: list[str] = []
        for arguments, *_ in self.cases:
            transform, again = self.kind.parse(arguments), self.kind.parse(arguments)
            assert transform == again and hash(transform) == hash(again) and str(transform) == str(again)
            assert dataclasses.is_dataclass(transform)
            for field in dataclasses.fields(transform)[:1]:
                with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
                    setattr(transform, field.name, None)
            assert str(transform).startswith(self.kind.name)
            texts.append(str(transform))
        different = len({self.kind.parse(arguments) for arguments, *_ in self.cases})
        assert len(set(texts)) == different, "two transforms that differ have one text"

    def test_it_says_how_it_is_written(self) -> None:
        """The help is made of the docstrings."""
        assert self.kind.__doc__ and re.search(rf"``{self.kind.name}\b", self.kind.parse.__doc__ or "")

    def test_arguments_that_mean_nothing_are_refused_by_an_error_of_ours(self) -> None:
        """Whatever YAML can hold."""
        for data in _JUNK:
            with contextlib.suppress(TransformError):
                assert isinstance(self.kind.parse(data), Transform), data

    def test_the_plan_tells_shape_and_dtype_of_the_result(self) -> None:
        """What `shape` and `dtype` say is what `apply` gives; inputs stay, and the same bits come again."""
        for _, transform, shapes in self.made():
            for dtype in self.dtypes:
                arrays = self._small(shapes, dtype)
                before = [array.tobytes() for array in arrays]
                planned = infer([transform], shapes, self._kinds(dtype, len(shapes)))
                result = apply_chain([transform], arrays)
                assert isinstance(result, np.ndarray)
                assert (result.shape, result.dtype.name) == planned, transform
                assert [array.tobytes() for array in arrays] == before, transform
                assert apply_chain([transform], arrays).tobytes() == result.tobytes(), transform

    def test_whatever_the_rank_and_dtype_it_works_or_refuses(self) -> None:
        """A shape that is accepted is one that works; any other is refused with what to do instead."""
        for _, transform, shapes in self.made():
            for shape, dtype in itertools.product(_RANKS, (*self.dtypes[:1], *DTYPES)):
                count = len(shapes)
                try:
                    planned = infer([transform], [shape] * count, self._kinds(dtype, count))
                except TransformError as error:
                    assert error.what and error.fix
                    continue
                result = apply_chain([transform], self._small([shape] * count, dtype))
                assert (result.shape, result.dtype.name) == planned, (transform, shape, dtype)

    def test_it_gives_what_the_formula_gives(self) -> None:
        """An independent formula agrees, up to one unit in the last place."""
        for arguments, transform, shapes in self.made():
            arrays = self._small(shapes, self.dtypes[0])
            wanted = self.formula(arguments, arrays)
            if wanted is not None:
                result = transform.apply(arrays)
                assert result.shape == wanted.shape
                np.testing.assert_array_max_ulp(result, wanted.astype(result.dtype), maxulp=1)

    def test_what_it_makes_infinite_is_found(self) -> None:
        """A run refuses what makes finite numbers infinite: by `computes`, which stands unless the class says no."""
        for _, transform, shapes in self.made():
            for dtype in (d for d in self.dtypes if d in self.extreme):
                for sign in (1, -1):
                    kinds = self._kinds(dtype, len(shapes))
                    extremes = [sign * self.extreme.get(kind, 1) for kind in kinds]
                    arrays = [np.full(*each) for each in zip(shapes, extremes, kinds, strict=True)]
                    try:
                        with np.errstate(all="ignore"):
                            result = transform.apply(arrays)
                    except TransformError:
                        continue  # what would mean nothing is refused
                    if result.dtype.kind == "f" and not np.isfinite(result).all() and result.dtype == arrays[0].dtype:
                        with pytest.raises(VerificationError):
                            check_step(transform, arrays, result, "weight")

    def test_it_invents_nothing_unless_it_says_so(self) -> None:
        """Numbers that no input holds come from what computes, or fills."""
        for _, transform, shapes in self.made():
            arrays = _distinct(shapes, self.dtypes[0])
            result = transform.apply(arrays)
            if result.dtype == arrays[0].dtype and not transform.computes and not transform.fills:
                assert set(result.ravel().tolist()) <= {v for a in arrays for v in a.ravel().tolist()}, transform

    def test_what_keeps_rows_keeps_them(self) -> None:
        """Row by row, or block by block, it gives what it gives of the whole."""
        for _, transform, shapes in self.made():
            rows = {shape[:1] for shape in shapes}
            if not transform.keeps_rows or transform.fills or () in rows or len(rows) > 1:
                continue
            arrays = _distinct(shapes, self.dtypes[0])
            whole = transform.apply(arrays)
            blocks = [transform.apply([a[i : i + 1] for a in arrays]) for i in range(shapes[0][0])]
            assert np.array_equal(np.concatenate(blocks), whole), transform

    def test_what_permutes_has_every_value_once(self) -> None:
        """And those that only permute compute nothing."""
        for _, transform, shapes in self.made():
            if transform.permutes:
                arrays = _distinct(shapes, self.dtypes[0])
                assert sorted(transform.apply(arrays).ravel()) == sorted(v for a in arrays for v in a.ravel())
                assert not transform.computes

    def test_the_reverse_leads_back(self) -> None:
        """To the shape and to every value of every input."""
        for _, transform, shapes in self.made():
            arrays = _distinct(shapes, self.dtypes[0])
            back = transform.reverse_each(shapes)
            for array, chain in zip(arrays, back or (), strict=back is not None):
                assert np.array_equal(apply_chain(chain, [transform.apply(arrays)]), array), transform

    def test_a_step_that_was_fitted_fits(self) -> None:
        """Fitting it again changes nothing, and it does what the step as it is written does with the same goal."""
        for arguments, shapes, *wanted in self.cases:
            goal, transform = Goal(wanted[0] if wanted else None, "weight", 1), self.kind.parse(arguments)
            fitted = transform.fit(shapes, goal)
            assert fitted.fit(shapes, NO_GOAL) == fitted.fit(shapes, goal) == fitted
            arrays = self._small(shapes, self.dtypes[0])
            result = transform(*arrays, goal=goal)
            assert result.tobytes() == fitted.apply(arrays).tobytes(), transform
            assert not wanted or result.shape == tuple(wanted[0]), transform

    def test_the_shape_before_is_that_of_the_inputs(self) -> None:
        """Worked back from the shape of the result, as far as it is known; and it has an answer whatever the shape."""
        for _, transform, shapes in self.made():
            before = transform.shape_before(transform.shape(shapes))
            for shape in shapes if before is not None else ():
                assert before is not None and len(before) == len(shape), transform
                assert all(b in (None, size) for b, size in zip(before, shape, strict=True)), transform
            for shape in _RANKS:
                transform.shape_before((None,) * len(shape))

    def test_what_is_elementwise_takes_blocks(self) -> None:
        """Block by block, wherever these are cut, it gives what it gives of the whole."""
        for _, transform, shapes in self.made():
            if transform.elementwise:
                arrays = _distinct(shapes, self.dtypes[0])
                whole = transform.apply(arrays)
                assert {*shapes, whole.shape} == {shapes[0]}, transform
                flat = [array.ravel() for array in arrays]
                blocks = [transform.apply([a[i : i + 2] for a in flat]) for i in range(0, len(flat[0]), 2)]
                assert np.array_equal(np.concatenate(blocks or flat[:1]), whole.ravel()), transform

    def test_several_inputs_are_taken_by_those_that_combine_them(self) -> None:
        """And by no other."""
        for _, transform, shapes in self.made():
            if not transform.several:
                with pytest.raises(TransformError):
                    infer([transform], [shapes[0]] * 2, [self.dtypes[0]] * 2)


def _numbers(shape: tuple[int, ...], dtype: str, seed: int) -> NDArray[Any]:
    """Return small whole numbers, which every dtype holds, in an array that nobody may write into."""
    array = np.random.default_rng(seed).integers(0, 2, shape).astype(numpy_dtype(dtype))
    array.flags.writeable = False
    return array


def _distinct(shapes: Shapes, dtype: str) -> list[NDArray[Any]]:
    """Return arrays in which no number occurs twice."""
    sizes = [math.prod(shape) for shape in shapes]
    starts = [1, *itertools.accumulate(sizes, initial=1)][1:]
    return [np.arange(b, b + n).reshape(s).astype(dtype) for b, n, s in zip(starts, sizes, shapes, strict=False)]
