"""Which places of a value are taken, along which axes and in which order, whatever takes them: one spelling for all.

``x[:, 0]``, ``unstack(x, axis=1)[0]`` and ``flip(x, 1)[:, -1]`` take the same place of a value whose size is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transferpipe.weights.keras.layer_settings import NEUTRAL, LayerFunction

PLACE, FROM_END = "place", "place from the end"
"""The settings of a step that takes one place along an axis; the second is below zero. A text if not known."""
FLIP = "Flip"
"""The kind of the step that turns axes round whose sizes are not all known."""
MOST_PLACES = 1 << 14
"""How long an axis may be whose places are told one by one."""
_MAPS = (3, 4, 5)  # the ranks of sequences, images and volumes with samples and channels
_KINDS = re.compile(r"(one place|places) of ax[ei]s ([\d, ]+)")

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class TakenPlaces:
    """What is taken of a value.

    Attributes:
        shape: the shape of the value.
        places: by axis the places taken, in their order; an axis that is not there is taken as a whole.
        dropped: axes of which one place is taken, and which are gone then.
    """

    shape: Shape
    places: Mapping[int, Sequence[int]] = field(default_factory=dict)
    dropped: frozenset[int] = frozenset()

    @property
    def left(self) -> list[int]:
        """The axes that are left."""
        return [axis for axis in range(len(self.shape)) if axis not in self.dropped]

    @property
    def result_shape(self) -> Shape:
        """The shape of what is taken."""
        return tuple(len(self.places[axis]) if axis in self.places else self.shape[axis] for axis in self.left)

    def then(self, other: TakenPlaces) -> TakenPlaces:
        """Return what is taken of the value where `other` says what is taken of what this takes."""
        places, left = dict(self.places), self.left
        for axis, chosen in other.places.items():
            here = self.places.get(left[axis])
            places[left[axis]] = tuple(chosen if here is None else (here[place] for place in chosen))
        return TakenPlaces(self.shape, places, self.dropped | {left[axis] for axis in other.dropped})

    def spelled(self) -> LayerFunction | None:
        """Return it as a step; None where samples are taken."""
        rank = len(self.shape)
        axes = [a for a, p in self.places.items() if a in self.dropped or list(p) != list(range(self.shape[a] or 0))]
        if not axes:
            return LayerFunction(NEUTRAL)
        if 0 in axes or not all(self.places[axis] for axis in axes):
            return None
        axes.sort()
        inner = rank in _MAPS and axes[-1] < rank - 1
        if inner and len(axes) == 1 and len(self.places[axes[0]]) == 1:
            return one_place(axes[0], self.places[axes[0]][0], self.shape, keepdims=axes[0] not in self.dropped)
        rows = [self.places[axis] for axis in axes]
        if inner and not self.dropped and all(list(p) == list(range(p[0], p[0] + len(p))) for p in rows):
            cut = {a: (p[0], (self.shape[a] or 0) - p[-1] - 1) for a, p in zip(axes, rows, strict=True)}
            pairs = tuple(cut.get(axis, (0, 0)) for axis in range(1, rank - 1))
            return LayerFunction(f"Cropping{rank - 2}D", {"cropping": pairs})
        out = tuple(axis for axis in axes if axis in self.dropped)
        keeps: Any = not out if len(out) in (0, len(axes)) else out
        settings = {f"places of axis {axis}": tuple(self.places[axis]) for axis in axes} | {"keepdims": keeps}
        words = f"ax{'e' if len(axes) > 1 else 'i'}s {', '.join(map(str, axes))}"
        # Fewer channels may as well be those of a smaller layer before it.
        known = inner or all(len(p) == self.shape[a] for a, p in zip(axes, rows, strict=True))
        return LayerFunction(f"places of {words}", settings, known=known)


def one_place(axis: int, index: int, shape: Shape, *, keepdims: bool) -> LayerFunction | None:
    """Return what taking one place along an axis of places does; None for samples, channels and no such place."""
    axis = axis + len(shape) if axis < 0 else axis
    if len(shape) not in _MAPS or not 0 < axis < len(shape) - 1:
        return None
    size = shape[axis]
    if size is not None and not -size <= index < size:
        return None
    if size == 1 and len(shape) == _MAPS[0]:
        return LayerFunction(NEUTRAL if keepdims else "Flatten")
    places = {PLACE: index % size, FROM_END: index % size - size} if size is not None else _make_place(index)
    return LayerFunction(f"one place of axis {axis}", {**places, "keepdims": keepdims})


def _make_place(index: int) -> dict[str, Any]:
    """Return a place that is known from one end only: it is none that is counted from the other."""
    if index < 0:
        return {PLACE: f"from the end ({index})", FROM_END: index}
    return {PLACE: index, FROM_END: f"from the start ({index})"}


def is_of_parts(function: LayerFunction) -> bool:
    """Tell whether a step takes several places that no layer of Keras takes, such as half of the channels."""
    return function.kind.startswith("places of ax")


def is_taking(function: LayerFunction) -> bool:
    """Tell whether a step takes places of a value, so that which ones is known."""
    return bool(_KINDS.fullmatch(function.kind)) or function.kind.startswith("Cropping")


def taken_by(function: LayerFunction, shape: Shape) -> TakenPlaces | None:
    """Return what a step takes of a value of this shape; None for any other step, and where it is not certain."""
    settings, rank = function.settings, len(shape)
    if matched := _KINDS.fullmatch(function.kind):
        axes = [int(text) for text in matched[2].split(",")]
        is_one = matched[1] == "one place"
        found = {a: (settings[PLACE],) if is_one else settings[f"places of axis {a}"] for a in axes}
        keeps = settings["keepdims"]
        dropped = axes if keeps is False else [] if keeps is True else keeps
        return _certain(TakenPlaces(shape, found, frozenset(dropped)))
    if function.kind == "Squeeze" and type(axis := settings.get("axis")) is int and -rank <= axis < rank:
        return _certain(TakenPlaces(shape, {axis % rank: (0,)}, frozenset([axis % rank]))) if shape[axis] == 1 else None
    pairs = settings.get("cropping")
    if function.kind != f"Cropping{rank - 2}D" or not isinstance(pairs, tuple) or len(pairs) != rank - 2:
        return None
    if settings.get("data_format", "channels_last") != "channels_last":
        return None
    cut = {a: p for a, p in enumerate(pairs, 1) if isinstance(p, tuple) and len(p) == 2 and any(p)}
    if not all(type(n) is int and n >= 0 for p in cut.values() for n in p):
        return None
    sizes = {axis: shape[axis] for axis in cut}
    if not all(n is not None and sum(cut[axis]) < n <= MOST_PLACES for axis, n in sizes.items()):
        return None
    return TakenPlaces(shape, {a: tuple(range(p[0], (shape[a] or 0) - p[1])) for a, p in cut.items()})


def _certain(taken: TakenPlaces) -> TakenPlaces | None:
    """Return it where every place is one of the value."""
    sizes = {a: taken.shape[a] if a < len(taken.shape) else None for a in taken.places}
    inside = all(
        n is not None and p and min(p) >= 0 and max(p) < n
        for n, p in zip(sizes.values(), taken.places.values(), strict=True)
    )
    return taken if inside else None


def taken_of_open(before: LayerFunction, here: LayerFunction) -> LayerFunction | None:
    """Return what two steps take together along an axis whose size is not known; None where that is not one step.

    A place is counted from one end: turning the axis round, or cutting off its ends, changes which number it has.
    """
    if before.kind == here.kind == FLIP and before.settings == here.settings:
        return LayerFunction(NEUTRAL)
    matched = _KINDS.fullmatch(here.kind)
    if not matched or matched[1] != "one place":
        return None
    axis, numbers = int(matched[2]), [n for key in (PLACE, FROM_END) if type(n := here.settings[key]) is int]
    if len(numbers) != 1:
        return None
    number = numbers[0]
    if before.kind == FLIP and before.settings.get("axis") == (axis,):
        number = -1 - number
    elif before.kind == "Cropping1D" and axis == 1:
        pairs = before.settings.get("cropping")
        pair = pairs[0] if isinstance(pairs, tuple) and len(pairs) == 1 else None
        if not isinstance(pair, tuple) or len(pair) != 2 or not all(type(n) is int for n in pair):
            return None
        number = number - pair[1] if number < 0 else number + pair[0]
    else:
        return None
    return LayerFunction(here.kind, {**_make_place(number), "keepdims": here.settings["keepdims"]})
