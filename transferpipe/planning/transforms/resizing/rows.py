"""Transforms that give a weight the rows of other classes or tokens: classes, class_names, vocabulary.

What both sides have is copied, wherever it stands; what only the target has is made from what the source has. A row is
all that lies at one index of one axis: a column of a head's kernel, a number of its bias, a row of an embedding.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from transferpipe.fetch.name_list import NameFile
from transferpipe.planning.transforms.arguments import parse_integer, parse_list, parse_named
from transferpipe.planning.transforms.checks import check_floating, find_axis
from transferpipe.planning.transforms.protocol import Goal, PartialShape, Transform, TransformError

MEAN, ZERO, DRAW, SUB_TOKENS = "mean", "zero", "draw", "sub_tokens"
_CLASSES = "{classes: {indices: [0, 1, null], new: mean}}"
_CLASS_NAMES = "{class_names: {from: old.txt, to: new.txt, new: mean}}"
_VOCABULARY = "{vocabulary: {from: old.txt, to: new.txt, new: mean}}"
_BLOCK = 1 << 17  # values at a time: a megabyte of float64
_NEW = -1
"""Stands in the place of the source's index for a row that the source does not have."""
_FLOATING = "put a cast before it, such as {cast: float32}, or write new: zero"
_CONTINUES = "##"  # how WordPiece marks a piece inside of a word


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What decides the numbers that are drawn for one weight.

    Attributes:
        seed: the recipe's.
        weight: the target weight's name, so that no two weights get the same numbers.
    """

    seed: int = 0
    weight: str = ""

    def generator(self) -> np.random.Generator:
        # Unlike `draws`, the same rows only for one version of NumPy: NEP 19 lets `standard_normal` change.
        return np.random.default_rng([self.seed, zlib.crc32(self.weight.encode())])


class _Rows(Transform):
    """What the transforms of this module share: from the source's index of every row to the result."""

    __slots__ = ()

    new: str
    drawn: _Drawn | None
    computes: ClassVar[bool] = True
    reorders: ClassVar[bool] = True
    fills: ClassVar[bool] = True

    def rows(self, shape: tuple[int, ...]) -> tuple[int, list[int]]:
        """Return the axis, and of every row of the result the source's index, or `_NEW`.

        Raises:
            TransformError: the shape is none that the transform can be applied to.
        """
        raise NotImplementedError

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        axis, rows = self.rows(shape)
        if self.new != ZERO and _NEW in rows and not shape[axis]:
            raise TransformError(f"{self}: axis {axis} of {shape} is empty", "write new: zero")
        return (*shape[:axis], len(rows), *shape[axis + 1 :])

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        return dtypes[0] if self.new == ZERO else check_floating(self, dtypes[0], _FLOATING)

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        (array,) = arrays
        axis, rows = self.rows(array.shape)
        result = np.zeros((*array.shape[:axis], len(rows), *array.shape[axis + 1 :]), array.dtype)
        # Views: what is put into `ours` stands in the result.
        theirs, ours = np.moveaxis(array, axis, 0), np.moveaxis(result, axis, 0)
        places = np.asarray(rows, np.int64)
        known = np.flatnonzero(places != _NEW)
        for part in _blocks(known, theirs):
            ours[part] = theirs[places[part]]
        new = np.flatnonzero(places == _NEW)
        if len(new) and self.new != ZERO:
            with np.errstate(over="ignore", invalid="ignore"):
                self._make(ours, new, theirs)
        return result

    def _make(self, ours: NDArray[Any], new: NDArray[np.int64], theirs: NDArray[Any]) -> None:
        mean = _mean(theirs)
        if self.new == MEAN:
            ours[new] = mean
        elif self.new == DRAW:
            # From the mean, and not as a difference of squares, which loses all digits where the mean is large.
            deviation = np.sqrt(_mean(theirs, lambda block: (block - mean) ** 2))
            generator = (self.drawn or _Drawn()).generator()
            for part in _blocks(new, theirs):
                ours[part] = mean + deviation * generator.standard_normal((len(part), *theirs.shape[1:]))

    def _fit_drawn(self, goal: Goal) -> _Drawn | None:
        return self.drawn or (_Drawn(goal.seed, goal.name) if self.new == DRAW else None)


def _blocks(indices: NDArray[np.int64], rows: NDArray[Any]) -> Iterator[NDArray[np.int64]]:
    """Yield the indices, so many at a time that their rows are a block."""
    width = int(np.prod(rows.shape[1:], dtype=np.int64))
    step = max(1, _BLOCK // max(1, width))
    for start in range(0, len(indices), step):
        yield indices[start : start + step]


def _mean(
    rows: NDArray[Any], of: Callable[[NDArray[np.float64]], NDArray[np.float64]] = lambda block: block
) -> NDArray[np.float64]:
    """Return the mean of all rows, or of what `of` makes of them, in float64, block by block."""
    total = np.zeros(rows.shape[1:], np.float64)
    for part in _blocks(np.arange(len(rows)), rows):
        total += np.sum(of(rows[part].astype(np.float64)), axis=0)
    return total / len(rows)


_Kind = TypeVar("_Kind", bound="_NamedRows")


@dataclass(frozen=True, slots=True)
class Classes(_Rows):
    """Give a head other classes by their indices: a kernel and a bias have them along their last axis.

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
    drawn: _Drawn | None = None
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
        return cls(places, _parse_new("classes", named, (MEAN, ZERO, DRAW)), axis, size)

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
        """See `_Rows`."""
        axis = find_axis(self, self.axis, shape)
        count = shape[axis]
        indices = self.indices or tuple(i if i < count else None for i in range(self.size or count))
        for index in indices:
            if index is not None and not -count <= index < count:
                what = f"{self}: the source has no class {index}; it has {count}, along axis {axis} of {shape}"
                raise TransformError(what, "use the indices of the source's classes, and null for a new one")
        return axis, [_NEW if i is None else i % count for i in indices]

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        return _open_axis(after, self.axis)


@dataclass(frozen=True, slots=True)
class _NamedRows(_Rows):
    """Rows that go by names: those of the source in one file, those of the target in another."""

    source: NameFile
    target: NameFile
    new: str = MEAN
    axis: int | None = None
    common: int | None = None
    drawn: _Drawn | None = None

    def __str__(self) -> str:
        shared = "" if self.common is None else f": {self.common} in common"
        axis = "" if self.axis is None else f", axis={self.axis}"
        return f"{self.name}({self.source} -> {self.target}{shared}, new={self.new}{axis}{self._more()})"

    def _more(self) -> str:
        return ""

    def pinned(self) -> Mapping[str, Any] | None:
        """See `Transform`."""
        source, target = self.source.pinned(), self.target.pinned()
        step = replace(self, source=source, target=target, common=None)
        common = self._common()
        if self.common not in (None, common):
            what = f"{self}: {source} and {target} have {common} names in common"
            raise TransformError(what, f"write common: {common}, or leave it out")
        return {self.name: {**step.written(), "common": common}}

    def written(self) -> dict[str, Any]:
        """Return the arguments as a recipe has them."""
        axis = {} if self.axis is None else {"axis": self.axis}
        return {"from": self.source.written(), "to": self.target.written(), "new": self.new, **axis}

    def _common(self) -> int:
        common = len(set(self.source.names()) & set(self.target.names()))
        if not common:
            first = f"{self.source.names()[0]!r} and {self.target.names()[0]!r}"
            what = f"{self}: {self.source} and {self.target} have no name in common; they begin with {first}"
            raise TransformError(what, "give two lists that spell names alike, the source's under from")
        return common

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
        if len(axes) > 1:
            what = f"{self}: axes {' and '.join(map(str, axes))} of {shape} both have {size} rows"
            raise TransformError(what, f"write axis: {axes[0]} for rows, axis: {axes[-1]} for columns")
        return axes[0]

    def _wrong_size(self, what: str, found: int, listed: int) -> TransformError:
        """Return the error of a source that has `found` rows where `listed` are named."""
        return TransformError(what, "give the list of this very source under from")

    def _matched(self) -> list[int]:
        place = {name: i for i, name in enumerate(self.source.names())}
        self._common()
        return [place.get(name, _NEW) for name in self.target.names()]


@dataclass(frozen=True, slots=True)
class ClassNames(_NamedRows):
    """Give a head other classes by their names, which two files list: one name for every class, in their order.

    A class that both have is copied, wherever it stands; so the same names in another order are a permutation.

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
        return _parse_named_rows(cls, named, _CLASS_NAMES, (MEAN, ZERO, DRAW))

    def rows(self, shape: tuple[int, ...]) -> tuple[int, list[int]]:
        """See `_Rows`."""
        return self._find_axis(shape, len(self.source.names())), self._matched()

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        return None if self.axis is None else _open_axis(after, self.axis)


@dataclass(frozen=True, slots=True)
class VocabularyRows(_NamedRows):
    """Give an embedding, or what goes back from it to tokens, other tokens, which two files list.

    A token that both have is copied, wherever it stands. Every weight along one axis of which the tokens lie takes the
    same steps: the embedding (tokens, dimensions), an output of its own (dimensions, tokens), its bias (tokens,).

    Attributes:
        source: the source's tokens: a text file with one a line, a JSON list, ``vocab.json`` or ``tokenizer.json``.
        target: the target's tokens.
        new: what new tokens get: the ``mean`` of all of the source's rows (Hewitt 2021, "Initializing New Word
            Embeddings for Pretrained Language Models"), ``zero``, numbers that are drawn (``draw``) from a normal
            distribution with their mean and standard deviation, dimension by dimension, or the mean of the rows of the
            source's tokens that it is made of (``sub_tokens``: Gee et al. 2022, "Fast Vocabulary Transfer",
            arXiv:2402.09977); these are the longest that match, from left to right, and where none do it is the mean.
        axis: the axis of the tokens; None finds the one with as many indices as the source has tokens.
        common: how many tokens are in both; a plan says it, and a recipe that does is held to it.
        drawn: what decides the numbers that are drawn.
        reserved: how many rows stand before the first token of either list, and are copied as they are: 1 for the
            unknown words of a StringLookup with the files of its words.
        padded: whether both may have more rows than tokens, as embeddings whose size was rounded up do; those are left
            out of the source, and in the target they are new.
        size: how many rows the target has then; None takes it from the target.
    """

    reserved: int = 0
    padded: bool = False
    size: int | None = None
    name: ClassVar[str] = "vocabulary"
    arguments: ClassVar[tuple[str, ...]] = ("from", "to", "new", "axis", "common", "reserved", "padded", "size")

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``vocabulary: {from: old.txt, to: tokenizer.json, new: sub_tokens}``."""
        named = parse_named("vocabulary", data, _VOCABULARY, cls.arguments, ("from", "to"))
        found = _parse_named_rows(cls, named, _VOCABULARY, (MEAN, ZERO, DRAW, SUB_TOKENS))
        reserved = parse_integer("reserved of vocabulary", named.get("reserved", 0), _VOCABULARY)
        padded, size = named.get("padded", False), named.get("size")
        if reserved < 0 or not isinstance(padded, bool):
            what = f"vocabulary has reserved {reserved} and padded {padded!r}"
            raise TransformError(what, "reserved is a count of rows, padded true or false")
        size = None if size is None else parse_integer("size of vocabulary", size, _VOCABULARY)
        return replace(found, reserved=reserved, padded=padded, size=size)

    def _more(self) -> str:
        reserved = f", reserved={self.reserved}" if self.reserved else ""
        return reserved + ", padded" * self.padded + (f", size={self.size}" if self.size is not None else "")

    def written(self) -> dict[str, Any]:
        """See `_NamedRows`."""
        more: dict[str, Any] = {"reserved": self.reserved} if self.reserved else {}
        more |= {"padded": True} if self.padded else {}
        return {**super(VocabularyRows, self).written(), **more, **({} if self.size is None else {"size": self.size})}

    def fit(self, shapes: Sequence[tuple[int, ...]], goal: Goal) -> Transform:
        """See `Transform`."""
        size = self.size
        if self.padded and size is None:
            size = goal.size(self, self._padded_axis(shapes[0]), len(shapes[0]))
        return replace(self, drawn=self._fit_drawn(goal), size=size)

    def _padded_axis(self, shape: tuple[int, ...]) -> int:
        if self.axis is None and len(shape) != 1:
            what = f"{self}: with padding, the sizes of {shape} do not tell which axis the tokens lie along"
            raise TransformError(what, "write axis: 0 for an embedding, axis: -1 for what goes back to tokens")
        axis = find_axis(self, self.axis or 0, shape)
        listed = self.reserved + len(self.source.names())
        if shape[axis] < listed:
            what = f"{self}: axis {axis} of {shape} has {shape[axis]} rows, {self.source} lists {listed}"
            raise TransformError(what, "give the list of this very source under from")
        return axis

    def rows(self, shape: tuple[int, ...]) -> tuple[int, list[int]]:
        """See `_Rows`."""
        listed = self.reserved + len(self.source.names())
        axis = self._padded_axis(shape) if self.padded else self._find_axis(shape, listed)
        tokens = [_NEW if i == _NEW else i + self.reserved for i in self._matched()]
        rows = [*range(self.reserved), *tokens]
        size = self.size if self.padded and self.size is not None else len(rows)
        if size < len(rows):
            what = f"{self}: the target has {size} rows, {self.target} lists {len(rows)}"
            raise TransformError(what, "give the list of this very target under to")
        return axis, [*rows, *[_NEW] * (size - len(rows))]

    def _wrong_size(self, what: str, found: int, listed: int) -> TransformError:
        """See `_NamedRows`."""
        more = found - listed
        if more <= 0:
            return TransformError(what, "give the list of this very source under from")
        fix = f"write reserved: {more} if that many rows stand before the first token, padded: true if behind the last"
        return TransformError(what, fix)

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        return None if self.axis is None else _open_axis(after, self.axis)

    def _make(self, ours: NDArray[Any], new: NDArray[np.int64], theirs: NDArray[Any]) -> None:
        if self.new != SUB_TOKENS:
            # With slots, `dataclass` makes another class of this one, which a bare super() does not know.
            super(VocabularyRows, self)._make(ours, new, theirs)
            return
        place = {name: i for i, name in enumerate(self.source.names())}
        longest = max(map(len, place))
        names, mean = self.target.names(), _mean(theirs)
        for row in new.tolist():
            at = row - self.reserved
            pieces = split_token(names[at], place, longest) if 0 <= at < len(names) else []
            parts = theirs[[self.reserved + p for p in pieces]].astype(np.float64)
            ours[row] = np.sum(parts, axis=0) / len(pieces) if pieces else mean


def split_token(token: str, place: Mapping[str, int], longest: int) -> list[int]:
    """Return the places of the tokens that `token` is made of: the longest ones that match, from left to right.

    A token that goes on inside of a word is looked for as WordPiece writes it, with ``##`` before it, where the
    vocabulary has such tokens, and as it is. What no token matches is passed over.

    >>> split_token("unhappily", {"un": 0, "##happ": 1, "##ily": 2, "ily": 3}, 6)
    [0, 1, 2]
    """
    inside = token.startswith(_CONTINUES)
    text = token.removeprefix(_CONTINUES)
    found: list[int] = []
    start = 0
    while start < len(text):
        goes_on = start > 0 or inside
        for end in range(min(len(text), start + longest), start, -1):
            piece = text[start:end]
            at = place.get(_CONTINUES + piece) if goes_on else None
            at = place.get(piece) if at is None else at
            if at is not None:
                found.append(at)
                start = end
                break
        else:
            start += 1
    return found


def _open_axis(after: PartialShape, axis: int) -> PartialShape | None:
    rank = len(after)
    if not -rank <= axis < rank:
        return None
    return tuple(None if i == axis % rank else size for i, size in enumerate(after))


def _parse_new(name: str, named: Mapping[str, Any], known: Sequence[str]) -> str:
    new = named.get("new", MEAN)
    if new not in known:
        raise TransformError(f"{name} does not know new: {new!r}", f"write one of {', '.join(known)}")
    return str(new)


def _parse_named_rows(kind: type[_Kind], named: Mapping[str, Any], example: str, known: Sequence[str]) -> _Kind:
    source, target = (_parse_file(kind.name, key, named[key], example) for key in ("from", "to"))
    axis = None if named.get("axis") is None else parse_integer(f"axis of {kind.name}", named["axis"], example)
    common = named.get("common")
    common = None if common is None else parse_integer(f"common of {kind.name}", common, example)
    return kind(source, target, _parse_new(kind.name, named, known), axis, common)


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
