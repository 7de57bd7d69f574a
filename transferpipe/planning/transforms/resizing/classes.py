"""Transforms that give a head other classes: by index (`classes`) or by name (`class_names`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from transferpipe.planning.transforms.arguments import parse_integer, parse_list, parse_named
from transferpipe.planning.transforms.checks import find_axis
from transferpipe.planning.transforms.protocol import Goal, PartialShape, Transform, TransformError
from transferpipe.planning.transforms.resizing.rows import (
    DRAW,
    MEAN,
    NEW_ROW,
    ZERO,
    Drawn,
    NamedRows,
    Rows,
    open_axis,
    parse_named_rows,
    parse_new,
)

_CLASSES = "{classes: {indices: [0, 1, null], new: mean}}"
_CLASS_NAMES = "{class_names: {from: old.txt, to: new.txt, new: mean}}"


@dataclass(frozen=True, slots=True)
class Classes(Rows):
    """Give a head other classes by their indices: a kernel and a bias have them along their last axis.

    Sources: the mean is that of Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models", for
    classes; ``reset_classifier`` of timm draws all anew instead.

    Example: ``{to: head/kernel, from: fc, transform: [{classes: {new: zero}}]}``, (64, 10) to (64, 12).

    Attributes:
        indices: for every class of the target the source's index, or None for a new class. None as a whole keeps the
            source's classes in their places, and makes or leaves out what the target has more or fewer of.
        new: what new classes get: the ``mean`` of the source's, ``zero``, or numbers that are drawn (``draw``) from a
            normal distribution with the mean and the standard deviation of the source's, feature by feature.
        axis: the axis of the classes.
        size: how many classes the target has, where `indices` does not say it; None takes it from the target.
        drawn: what decides the numbers that are drawn.
    """

    indices: tuple[int | None, ...] | None = None
    new: str = MEAN
    axis: int = -1
    size: int | None = None
    drawn: Drawn | None = None
    name: ClassVar[str] = "classes"
    arguments: ClassVar[tuple[str, ...]] = ("indices", "new", "axis", "size")

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``classes`` or ``classes: {indices: [0, 1, null], new: mean, axis: -1}``."""
        named = parse_named("classes", {} if data is None else data, _CLASSES, cls.arguments, ())
        indices = named.get("indices")
        given = None if indices is None else parse_list("indices of classes", indices, _CLASSES)
        places = (
            None
            if given is None
            else tuple(None if i is None else parse_integer("an index of classes", i, _CLASSES) for i in given)
        )
        size = None if named.get("size") is None else parse_integer("size of classes", named["size"], _CLASSES)
        axis = parse_integer("axis of classes", named.get("axis", -1), _CLASSES)
        return cls(places, parse_new("classes", named, (MEAN, ZERO, DRAW)), axis, size)

    def __post_init__(self) -> None:
        listed = len(self.indices) if self.indices is not None else None
        if listed == 0 or (self.size is not None and (self.size < 1 or listed not in (None, self.size))):
            what = f"{self} is of {self.size if listed is None else listed} classes"
            raise TransformError(what, f"list every class of the target, or leave `indices` and `size` out: {_CLASSES}")

    def __str__(self) -> str:
        size = [] if self.size is None else [f"size={self.size}"]
        listed = (
            "same indices"
            if self.indices is None
            else f"[{', '.join('new' if i is None else str(i) for i in self.indices)}]"
        )
        return f"classes({', '.join([listed, f'new={self.new}', f'axis={self.axis}', *size])})"

    def fit(self, shapes: Sequence[tuple[int, ...]], goal: Goal) -> Transform:
        """See `Transform`."""
        (shape,) = shapes
        size = self.size
        if size is None and self.indices is None:
            size = goal.size(self, find_axis(self, self.axis, shape), len(shape))
        return replace(self, size=size, drawn=self._fit_drawn(goal))

    def rows(self, shape: tuple[int, ...]) -> tuple[int, list[int]]:
        """See `Rows`."""
        axis = find_axis(self, self.axis, shape)
        count = shape[axis]
        # Classes keep their places: what one side has more of stands behind.
        indices = self.indices or tuple(i if i < count else None for i in range(self.size or count))
        for index in indices:
            if index is not None and not -count <= index < count:
                what = f"{self}: the source has no class {index}; it has {count}, along axis {axis} of {shape}"
                raise TransformError(what, "use the indices of the source's classes, and null for a new one")
        return axis, [NEW_ROW if i is None else i % count for i in indices]

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        return open_axis(after, self.axis)


@dataclass(frozen=True, slots=True)
class ClassNames(NamedRows):
    """Give a head other classes by their names, which two files list: one name for every class, in their order.

    A class that both have is copied, wherever it stands; so the same names in another order are a permutation.

    Source: ``id2label`` of the configurations of Hugging Face.

    Example: ``{to: head, from: fc, transform: [{class_names: {from: old.txt, to: new.json}}]}``, (64, 3) to (64, 4).

    Attributes:
        source: the source's names: a text file with one a line, a JSON list, or ``id2label``.
        target: the target's names.
        new: what new classes get; see `Classes`.
        axis: the axis of the classes; None finds the one with as many indices as the source has names.
        common: how many names are in both; a plan says it, and a recipe that does is held to it.
        drawn: what decides the numbers that are drawn.
    """

    name: ClassVar[str] = "class_names"
    arguments: ClassVar[tuple[str, ...]] = ("from", "to", "new", "axis", "common")

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``class_names: {from: old.txt, to: new.txt, new: mean}``."""
        named = parse_named("class_names", data, _CLASS_NAMES, cls.arguments, ("from", "to"))
        return parse_named_rows(cls, named, _CLASS_NAMES, (MEAN, ZERO, DRAW))

    def rows(self, shape: tuple[int, ...]) -> tuple[int, list[int]]:
        """See `Rows`."""
        return self._find_axis(shape, len(self.source.names())), self._match_rows()

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        return None if self.axis is None else open_axis(after, self.axis)
