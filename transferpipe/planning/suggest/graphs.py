"""Where a piece stands: in the order in which its side computes, and among the pieces before and behind it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from transferpipe.planning.suggest.pieces import Piece
from transferpipe.planning.suggest.words import words_of
from transferpipe.text.numbers import is_number
from transferpipe.weights.name import ancestors
from transferpipe.weights.network import Network
from transferpipe.weights.spec import Catalog

# How far around a piece is looked, in layers: the inside of a branch, what it is joined with, and the block before.
RADII = (4, 8, 16)
# Layers that do not compute the same of their inputs in another order.
_IN_ORDER = frozenset(("Concatenate", "Subtract", "Dot"))


@dataclass
class Place:
    """The pieces of one side with what is known of their order.

    Attributes:
        pieces: the pieces.
        catalog: the side.
        before: for each piece the pieces whose output arrives at it, through layers without pieces; empty where the
            side does not tell.
    """

    pieces: Sequence[Piece]
    catalog: Catalog
    before: dict[int, tuple[int, ...]] = field(default_factory=dict)
    _rank: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        network = self.catalog.network
        if network is None or not network.connected:
            return
        self._rank = {node.name: i for i, node in enumerate(network.nodes)}
        held: dict[str, list[int]] = {}
        for i, piece in enumerate(self.pieces):
            name = _node_of(piece.name, network)
            if name is not None:
                held.setdefault(name, []).append(i)
        arriving: dict[str, tuple[int, ...]] = {}
        for node in network.nodes:
            given = tuple(dict.fromkeys(p for before in node.inputs for p in arriving.get(before, ())))
            mine = held.get(node.name, ())
            for i in mine:
                self.before[i] = given
            # A node without a piece, such as an activation, passes on what arrives.
            arriving[node.name] = tuple(mine) or given

    @cached_property
    def behind(self) -> dict[int, list[int]]:
        """For each piece those at which its output arrives."""
        found: dict[int, list[int]] = {}
        for i, given in self.before.items():
            for j in given:
                found.setdefault(j, []).append(i)
        return found

    @property
    def is_connected(self) -> bool:
        """Whether the side tells how its layers are connected."""
        return bool(self.before)

    @cached_property
    def is_ordered(self) -> bool:
        """Whether the order of the side says anything: names in the order of letters say no more than the names."""
        # Tools that write names sorted (safetensors, HDF5 without tracked order) give the order of letters, not of
        # layers.
        names = [w.where or w.name for w in self.catalog]
        plain = [w.name for w in self.catalog]
        return self.is_connected or (names != sorted(names) and plain != sorted(plain))

    @cached_property
    def order(self) -> list[int]:
        """The pieces in the order in which they compute, or else in that of their numbers, or that of the file."""
        if self.is_connected:
            network = self.catalog.network
            assert network is not None
            rank = {
                i: self._rank.get(_node_of(p.name, network) or "", len(self._rank)) for i, p in enumerate(self.pieces)
            }
            return sorted(range(len(self.pieces)), key=lambda i: (rank[i], i))
        if self.is_ordered:
            return list(range(len(self.pieces)))
        return sorted(
            range(len(self.pieces)),
            key=lambda i: (words_of(self.pieces[i].name).skeleton, words_of(self.pieces[i].name).numbers, i),
        )

    # Sets as bits of one integer: joining what arrives at a node is one operation, however many layers that is.
    @cached_property
    def rows(self) -> list[list[int]]:
        """The numbered pieces of each container one behind the other, as torch's `Sequential` has them.

        Of a connected side this says nothing that the connections do not say better.
        """
        inside: dict[str, list[tuple[int, int]]] = {}
        for k, piece in enumerate(() if self.is_connected else self.pieces):
            container, _, last = piece.name.rpartition("/")
            if piece.is_layer and is_number(last):
                inside.setdefault(container, []).append((int(last), k))
        return [[k for _, k in sorted(found)] for found in inside.values() if len(found) > 1]

    @cached_property
    def _reached(self) -> list[int]:
        """For each piece, as bits, those whose output arrives at it in the end."""
        reached = [0] * len(self.pieces)
        for i in self.order:
            for j in self.before.get(i, ()):
                reached[i] |= reached[j] | 1 << j
        return reached

    def are_in_line(self, i: int, j: int) -> bool:
        """Tell whether one of two pieces comes before the other, as far as that is known."""
        if self.is_connected and i in self.before and j in self.before:
            return bool(self._reached[i] >> j & 1 or self._reached[j] >> i & 1)
        # Without a graph, equal words with other numbers are taken for a chain; numbered branches look the same from
        # here.
        a, b = words_of(self.pieces[i].name), words_of(self.pieces[j].name)
        return a.skeleton == b.skeleton and a.numbers != b.numbers


def _node_of(name: str, network: Network) -> str | None:
    return next((n for n in (name, *ancestors(name)) if n in network.by_name), None)


def colour(
    places: tuple[Place, Place], kinds: tuple[Sequence[Hashable], Sequence[Hashable]]
) -> list[list[tuple[int, int]]]:
    """Return for the pieces of both sides what comes before and what comes behind, as numbers that can be compared.

    The same number is the same tree of kinds, as in the colour refinement of Weisfeiler and Leman (1968), once along
    the network and once against it.
    """
    # One table for both sides makes their numbers comparable, and exact: no two trees can collide, as hashes might.
    numbers: dict[Hashable, int] = {}
    found: list[list[tuple[int, int]]] = []
    for place, kind in zip(places, kinds, strict=True):
        forward = _spread(place.order, place.before, kind, numbers, 0)
        backward = _spread(place.order[::-1], place.behind, kind, numbers, 1)
        found.append(list(zip(forward, backward, strict=True)))
    return found


def surroundings(
    places: tuple[Place, Place], kinds: tuple[Sequence[Hashable], Sequence[Hashable]]
) -> list[list[tuple[int, ...]]]:
    """Return for the pieces of both sides what stands around them, near and less near, as numbers that can be compared.

    Other than in `colour` all layers count, with and without weights, in both directions and only so far: what a branch
    is joined with tells it from another one of the same layers, and a new head is too far away to change anything.
    The refinement is that of Weisfeiler and Leman (1968), stopped after some rounds.
    """
    numbers: dict[Hashable, int] = {}
    return [_around(place, kind, numbers) for place, kind in zip(places, kinds, strict=True)]


def _around(place: Place, kinds: Sequence[Hashable], numbers: dict[Hashable, int]) -> list[tuple[int, ...]]:
    network = place.catalog.network
    assert network is not None
    held: dict[str, list[Hashable]] = {}
    nodes = [_node_of(piece.name, network) for piece in place.pieces]
    for name, kind in zip(nodes, kinds, strict=True):
        held.setdefault(name or "", []).append(kind)
    behind: dict[str, list[tuple[int, str]]] = {}
    for node in network.nodes:
        for k, before in enumerate(node.inputs):
            behind.setdefault(before, []).append((k if node.layer_class in _IN_ORDER else 0, node.name))
    now = {
        n.name: numbers.setdefault((n.layer_class, tuple(held.get(n.name, ()))), len(numbers)) for n in network.nodes
    }
    found: list[tuple[int, ...]] = [() for _ in place.pieces]
    for step in range(1, RADII[-1] + 1):
        # What is here, what arrives and what takes it: of the numbers of the last round, those of one layer farther.
        content = {
            node.name: (
                now[node.name],
                tuple(sorted(now.get(before, -1) for before in node.inputs)),
                tuple(sorted((k, now[name]) for k, name in behind.get(node.name, ()))),
            )
            for node in network.nodes
        }
        now = {name: numbers.setdefault(value, len(numbers)) for name, value in content.items()}
        if step in RADII:
            found = [(*f, now.get(name or "", -1)) for f, name in zip(found, nodes, strict=True)]
    return found


def _spread(
    order: Sequence[int],
    given: Mapping[int, Sequence[int]],
    kind: Sequence[Hashable],
    numbers: dict[Hashable, int],
    way: int,
) -> list[int]:
    found = [-1] * len(order)
    for i in order:
        # The direction is part of the content: no tree of what comes before is taken for one of what comes behind.
        content = (way, kind[i], tuple(sorted(found[j] for j in given.get(i, ()))))
        found[i] = numbers.setdefault(content, len(numbers))
    return found
