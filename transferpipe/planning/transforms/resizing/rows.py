"""What the transforms share that give a weight the rows of other classes or tokens: `classes.py`, `vocabulary.py`.

What both sides have is copied, wherever it stands; what only the target has is made from what the source has. A row is
all that lies at one index of one axis: a column of a head's kernel, a number of its bias, a row of an embedding.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from transferpipe.fetch.name_list import NameFile
from transferpipe.planning.transforms.arguments import parse_integer
from transferpipe.planning.transforms.checks import check_floating, find_axis
from transferpipe.planning.transforms.protocol import Goal, PartialShape, Transform, TransformError

MEAN, ZERO, DRAW = "mean", "zero", "draw"
NEW_ROW = -1
"""Stands in the place of the source's index for a row that the source does not have."""
_BLOCK = 1 << 17  # values at a time: a megabyte of float64
_FLOATING = "put a cast before it, such as {cast: float32}, or write new: zero"


@dataclass(frozen=True, slots=True)
class Drawn:
    """What decides the numbers that are drawn for one weight.

    Attributes:
        seed: the recipe's.
        weight: the target weight's name, so that no two weights get the same numbers.
    """

    seed: int = 0
    weight: str = ""

    def generator(self) -> np.random.Generator:
        """Return what draws them, the same every time."""
        # Unlike `draws`, the same rows only for one version of NumPy: NEP 19 lets `standard_normal` change.
        return np.random.default_rng([self.seed, zlib.crc32(self.weight.encode())])


class Rows(Transform):
    """What the transforms of this module share: from the source's index of every row to the result."""

    __slots__ = ()

    new: str
    drawn: Drawn | None
    computes: ClassVar[bool] = True
    reorders: ClassVar[bool] = True
    fills: ClassVar[bool] = True

    def rows(self, shape: tuple[int, ...]) -> tuple[int, list[int]]:
        """Return the axis, and of every row of the result the source's index, or `NEW_ROW`.

        Raises:
            TransformError: the shape is none that the transform can be applied to.
        """
        raise NotImplementedError

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        axis, rows = self.rows(shape)
        # A mean of nothing is NaN.
        if self.new != ZERO and NEW_ROW in rows and not shape[axis]:
            raise TransformError(f"{self}: axis {axis} of {shape} is empty", "write new: zero")
        return (*shape[:axis], len(rows), *shape[axis + 1 :])

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        # Rows that are copied, and zeros, exist in every dtype.
        return dtypes[0] if self.new == ZERO else check_floating(self, dtypes[0], _FLOATING)

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        (array,) = arrays
        axis, rows = self.rows(array.shape)
        result = np.zeros((*array.shape[:axis], len(rows), *array.shape[axis + 1 :]), array.dtype)
        # Views: what is put into `ours` stands in the result.
        theirs, ours = np.moveaxis(array, axis, 0), np.moveaxis(result, axis, 0)
        places = np.asarray(rows, np.int64)
        known = np.flatnonzero(places != NEW_ROW)
        # In blocks: indexing with all rows at once would copy the whole embedding once more.
        for part in _blocks(known, theirs):
            ours[part] = theirs[places[part]]
        new = np.flatnonzero(places == NEW_ROW)
        if len(new) and self.new != ZERO:
            with np.errstate(over="ignore", invalid="ignore"):
                self._make(ours, new, theirs)
        return result

    def _make(self, ours: NDArray[Any], new: NDArray[np.int64], theirs: NDArray[Any]) -> None:
        mean = mean_row(theirs)
        if self.new == MEAN:
            ours[new] = mean
        elif self.new == DRAW:
            # From the mean, and not as a difference of squares, which loses all digits where the mean is large.
            deviation = np.sqrt(mean_row(theirs, lambda block: (block - mean) ** 2))
            generator = (self.drawn or Drawn()).generator()
            for part in _blocks(new, theirs):
                ours[part] = mean + deviation * generator.standard_normal((len(part), *theirs.shape[1:]))

    def _fit_drawn(self, goal: Goal) -> Drawn | None:
        return self.drawn or (Drawn(goal.seed, goal.name) if self.new == DRAW else None)


def _blocks(indices: NDArray[np.int64], rows: NDArray[Any]) -> Iterator[NDArray[np.int64]]:
    """Yield the indices, so many at a time that their rows are a block."""
    width = int(np.prod(rows.shape[1:], dtype=np.int64))
    step = max(1, _BLOCK // max(1, width))
    for start in range(0, len(indices), step):
        yield indices[start : start + step]


def mean_row(
    rows: NDArray[Any], of: Callable[[NDArray[np.float64]], NDArray[np.float64]] = lambda block: block
) -> NDArray[np.float64]:
    """Return the mean of all rows, or of what `of` makes of them, in float64, block by block."""
    total = np.zeros(rows.shape[1:], np.float64)
    for part in _blocks(np.arange(len(rows)), rows):
        total += np.sum(of(rows[part].astype(np.float64)), axis=0)
    return total / len(rows)


@dataclass(frozen=True, slots=True)
class NamedRows(Rows):
    """Rows that go by names: those of the source in one file, those of the target in another."""

    source: NameFile
    target: NameFile
    new: str = MEAN
    axis: int | None = None
    common: int | None = None
    drawn: Drawn | None = None

    def __str__(self) -> str:
        shared = "" if self.common is None else f": {self.common} in common"
        axis = "" if self.axis is None else f", axis={self.axis}"
        return f"{self.name}({self.source} -> {self.target}{shared}, new={self.new}{axis}{self._more()})"

    def _more(self) -> str:
        return ""

    def pinned(self) -> Mapping[str, Any] | None:
        """See `Transform`."""
        source, target = self.source.pinned(), self.target.pinned()
        # Without the count, which is what is to be compared.
        step = replace(self, source=source, target=target, common=None)
        common = self._common()
        if self.common not in (None, common):
            what = f"{self}: {source} and {target} have {common} names in common"
            raise TransformError(what, f"write common: {common}, or leave it out")
        # A plan says how many names fit: a list that was changed since is then noticed.
        return {self.name: {**step.written(), "common": common}}

    def written(self) -> dict[str, Any]:
        """Return the arguments as a recipe has them."""
        axis = {} if self.axis is None else {"axis": self.axis}
        return {"from": self.source.written(), "to": self.target.written(), "new": self.new, **axis}

    def _common(self) -> int:
        common = len(set(self.source.names()) & set(self.target.names()))
        if not common and not self._is_made_of_the_source():
            first = f"{self.source.names()[0]!r} and {self.target.names()[0]!r}"
            what = f"{self}: {self.source} and {self.target} have no name in common; they begin with {first}"
            raise TransformError(what, "give two lists that spell names alike, the source's under from")
        return common

    def _is_made_of_the_source(self) -> bool:  # most take whole names alone
        """Tell whether names of the target that the source does not have get rows of it all the same."""
        return False

    def fit(self, shapes: Sequence[tuple[int, ...]], goal: Goal) -> Transform:
        """See `Transform`."""
        return replace(self, drawn=self._fit_drawn(goal))

    def _find_axis(self, shape: tuple[int, ...], size: int) -> int:
        """Return the axis that has as many indices as the source's list has names."""
        if self.axis is not None:
            axis = find_axis(self, self.axis, shape)
            if shape[axis] != size:
                what = f"{self}: axis {axis} of {shape} has {shape[axis]} rows, {self.source} lists {size}"
                raise self._wrong_size(what, shape[axis], size)
            return axis
        axes = [axis for axis, found in enumerate(shape) if found == size]
        if not axes:
            what = f"{self}: no axis of {shape} has the {size} rows that {self.source} lists"
            raise self._wrong_size(what, max(shape, default=0), size)
        # As many classes as features: taking the wrong axis would mix up the features.
        if len(axes) > 1:
            what = f"{self}: axes {' and '.join(map(str, axes))} of {shape} both have {size} rows"
            raise TransformError(what, f"write axis: {axes[0]} for rows, axis: {axes[-1]} for columns")
        return axes[0]

    def _wrong_size(self, what: str, found: int, listed: int) -> TransformError:
        """Return the error of a source that has `found` rows where `listed` are named."""
        return TransformError(what, "give the list of this very source under from")

    def _match_rows(self) -> list[int]:
        place = {name: i for i, name in enumerate(self.source.names())}
        # For its refusal: two lists with nothing in common are a mistake, and no new vocabulary.
        self._common()
        return [place.get(name, NEW_ROW) for name in self.target.names()]


_Kind = TypeVar("_Kind", bound="NamedRows")


def open_axis(after: PartialShape, axis: int) -> PartialShape | None:
    """Return a shape with one axis left open: whatever number of rows comes, `after` is what they become."""
    rank = len(after)
    if not -rank <= axis < rank:
        return None
    return tuple(None if i == axis % rank else size for i, size in enumerate(after))


def parse_new(name: str, named: Mapping[str, Any], known: Sequence[str]) -> str:
    """Return the argument `new` of a transform, which is one of those that are known there.

    Raises:
        TransformError: it is another.
    """
    new = named.get("new", MEAN)
    if new not in known:
        raise TransformError(f"{name} does not know new: {new!r}", f"write one of {', '.join(known)}")
    return str(new)


def parse_named_rows(kind: type[_Kind], named: Mapping[str, Any], example: str, known: Sequence[str]) -> _Kind:
    """Return the transform that two files of names and the arguments beside them make.

    Raises:
        TransformError: an argument is not what it has to be; the problem shows the `example`.
    """
    source, target = (_parse_file(kind.name, key, named[key], example) for key in ("from", "to"))
    axis = None if named.get("axis") is None else parse_integer(f"axis of {kind.name}", named["axis"], example)
    common = named.get("common")
    common = None if common is None else parse_integer(f"common of {kind.name}", common, example)
    return kind(source, target, parse_new(kind.name, named, known), axis, common)


def _parse_file(name: str, key: str, data: Any, example: str) -> NameFile:
    path = data.get("path") if isinstance(data, Mapping) else data
    digest = data.get("sha256") if isinstance(data, Mapping) else None
    known = not isinstance(data, Mapping) or set(data) <= {"path", "sha256"}
    if not isinstance(path, str) or not path or not known or not (digest is None or _is_digest(digest)):
        raise TransformError(
            f"{key} of {name} is a path, or a mapping of path and sha256, not {data!r:.60}", f"write {example}"
        )
    return NameFile(path, digest)


def _is_digest(text: Any) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")
