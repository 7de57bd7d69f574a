"""Numbered layers of a file, and the order in which they are to follow one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from transferpipe.recipe.patterns import Pattern


@dataclass(frozen=True)
class Numbered:
    """Layers of a file that are numbered and have one name otherwise, and how they follow one another.

    Attributes:
        pattern: what names them; its group is the number.
        beginning: how their names begin, up to the number.
        weights: by number the names of their weights.
        order: their numbers in the new order.
    """

    pattern: Pattern
    beginning: str
    weights: Mapping[int, Sequence[str]]
    order: tuple[int, ...]


@dataclass
class NumberedRow:
    """The same as the model has them that lists them.

    Attributes:
        stack: what is said of them.
        named: by number their own names, each by its name without the number.
        places: of each of their names, where the number begins and ends.
    """

    stack: Numbered
    named: dict[int, dict[str, str]] = field(default_factory=dict)
    places: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, number: int, name: str, place: tuple[int, int]) -> None:
        """Add a layer."""
        start, stop = place
        self.named.setdefault(number, {})[f"{name[:start]}#{name[stop:]}"] = name
        self.places[name] = place


@dataclass(frozen=True)
class Child:
    """A layer of a model that changes, in the new order.

    Attributes:
        segment: where its group lies, seen from the model's.
        origin: the path of the group that it comes from.
        name: its name.
    """

    segment: str
    origin: str
    name: str
