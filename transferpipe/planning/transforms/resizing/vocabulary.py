"""The transform that gives an embedding, or what goes back from it to tokens, another vocabulary: `vocabulary`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import parse_integer, parse_named
from transferpipe.planning.transforms.checks import find_axis
from transferpipe.planning.transforms.protocol import Goal, PartialShape, Transform, TransformError
from transferpipe.planning.transforms.resizing.rows import (
    DRAW,
    MEAN,
    NEW_ROW,
    ZERO,
    NamedRows,
    mean_row,
    open_axis,
    parse_named_rows,
)

SUB_TOKENS = "sub_tokens"
_VOCABULARY = "{vocabulary: {from: old.txt, to: new.txt, new: mean}}"
_CONTINUES = "##"  # how WordPiece marks a piece inside of a word


@dataclass(frozen=True, slots=True)
class VocabularyRows(NamedRows):
    """Give an embedding, or what goes back from it to tokens, other tokens, which two files list.

    A token that both have is copied, wherever it stands. Every weight along one axis of which the tokens lie takes the
    same steps: the embedding (tokens, dimensions), an output of its own (dimensions, tokens), its bias (tokens,).

    Example: ``{to: embedding, from: table, transform: [{vocabulary: {from: old.txt, to: new.json}}]}``, (3, 8) to (4,
    8).

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
        found = parse_named_rows(cls, named, _VOCABULARY, (MEAN, ZERO, DRAW, SUB_TOKENS))
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
        """See `NamedRows`."""
        more: dict[str, Any] = {"reserved": self.reserved} if self.reserved else {}
        more |= {"padded": True} if self.padded else {}
        return {**super(VocabularyRows, self).written(), **more, **({} if self.size is None else {"size": self.size})}

    def _is_made_of_the_source(self) -> bool:
        """See `NamedRows`: compounds need no token that both have."""
        if self.new != SUB_TOKENS:
            return False
        place, longest = self._places()
        return any(split_token(name, place, longest) for name in self.target.names())

    def _places(self) -> tuple[dict[str, int], int]:
        """Return the place of each of the source's tokens, and how long the longest is."""
        place = {name: i for i, name in enumerate(self.source.names())}
        # Looking for longer ones would only cost time.
        return place, max(map(len, place), default=0)

    def fit(self, shapes: Sequence[tuple[int, ...]], goal: Goal) -> Transform:
        """See `Transform`."""
        size = self.size
        if self.padded and size is None:
            size = goal.size(self, self._find_padded_axis(shapes[0]), len(shapes[0]))
        return replace(self, drawn=self._fit_drawn(goal), size=size)

    def _find_padded_axis(self, shape: tuple[int, ...]) -> int:
        # Of padded sizes none need be equal to the number of tokens, by which the axis is found otherwise.
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
        """See `Rows`."""
        listed = self.reserved + len(self.source.names())
        axis = self._find_padded_axis(shape) if self.padded else self._find_axis(shape, listed)
        tokens = [NEW_ROW if i == NEW_ROW else i + self.reserved for i in self._match_rows()]
        # Reserved rows stand before the first token on both sides.
        rows = [*range(self.reserved), *tokens]
        size = self.size if self.padded and self.size is not None else len(rows)
        if size < len(rows):
            what = f"{self}: the target has {size} rows, {self.target} lists {len(rows)}"
            raise TransformError(what, "give the list of this very target under to")
        return axis, [*rows, *[NEW_ROW] * (size - len(rows))]

    def _wrong_size(self, what: str, found: int, listed: int) -> TransformError:
        """See `NamedRows`."""
        more = found - listed
        if more <= 0:
            return TransformError(what, "give the list of this very source under from")
        fix = f"write reserved: {more} if that many rows stand before the first token, padded: true if behind the last"
        return TransformError(what, fix)

    def shape_before(self, after: PartialShape) -> PartialShape | None:
        """See `Transform`."""
        return None if self.axis is None else open_axis(after, self.axis)

    def _make(self, ours: NDArray[Any], new: NDArray[np.int64], theirs: NDArray[Any]) -> None:
        if self.new != SUB_TOKENS:
            # With slots, `dataclass` makes another class of this one, which a bare super() does not know.
            super(VocabularyRows, self)._make(ours, new, theirs)
            return
        place, longest = self._places()
        names, mean = self.target.names(), mean_row(theirs)
        for row in new.tolist():
            at = row - self.reserved
            # Padding behind the last token has no name that could be cut up.
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
