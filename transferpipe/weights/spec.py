"""What a model or file holds: `WeightSpec`, `Catalog` and the `Source` protocol. No values, no models."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, Literal, Protocol

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problems, RecipeError
from transferpipe.files.segment import Segment
from transferpipe.text.collapse import counted
from transferpipe.weights.name import layer_of, own_of
from transferpipe.weights.name_index import NameIndex
from transferpipe.weights.network import Network
from transferpipe.weights.reading_order import forward_first

Axes = Literal["in_out", "out_in", "spatial", "gates"]
"""How a file keeps a matrix, (in, out) or (out, in), or that it is a kernel of a convolution, channels first, or one of
the weights of a recurrent operator of ONNX, with both directions and all gates in one."""
IN_OUT: Axes = "in_out"
OUT_IN: Axes = "out_in"
SPATIAL: Axes = "spatial"
GATES: Axes = "gates"


@cache
def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the NumPy dtype called `name`, ml_dtypes' extended floats included.

    >>> numpy_dtype("bfloat16").itemsize
    2
    """
    extended = getattr(ml_dtypes, name, None)
    return np.dtype(extended if extended is not None else name)


@cache
def _itemsize(dtype: str) -> int:
    return numpy_dtype(dtype).itemsize


@dataclass(frozen=True, slots=True)
class WeightSpec:
    """One weight without its value.

    Attributes:
        name: the layer names from just below the root down to the owning layer, then the weight's own name, joined by
            ``/``.
        shape: its shape.
        dtype: the NumPy name of its dtype (``float32``, ``bfloat16``, ...).
        layer_class: the class of the owning layer where it is known.
        where: the place in the file or model that an error message points at.
        axes: how its axes are arranged, where the file's graph states it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layer_class: str | None = None
    where: str = ""
    axes: Axes | None = None

    @property
    def layer(self) -> str:
        """Name of the owning layer; empty for a weight of the root itself."""
        return layer_of(self.name)

    @property
    def own_name(self) -> str:
        """The weight's own name inside its layer, such as ``kernel``."""
        return own_of(self.name)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes of the value."""
        return math.prod(self.shape) * _itemsize(self.dtype)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A weight of a file that no reader can read.

    Attributes:
        name: its name.
        reason: what it is that cannot be read, as in "is int4, which NumPy does not have".
        fix: what to do about it.
        where: its place in the file.
    """

    name: str
    reason: str
    fix: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Double:
    """A second name of a weight: Keras saves a variable that two layers hold in both places.

    Attributes:
        spec: the weight as it stands in the second place.
        name: its first name, under which the catalog lists it.
        at: how many names stand before this one in Keras's order.
    """

    spec: WeightSpec
    name: str
    at: int


@dataclass(frozen=True, repr=False)
class Catalog:
    """The ordered weights of a model or file.

    Attributes:
        weights: the weights, those of a Bidirectional's forward layer before those of its backward layer.
        label: what messages call the model or file.
        network: what it tells of its layers beside that; None where it holds weights alone.
        unreadable: what it holds beside the weights as a weight that cannot be read.
        in_loading_order: whether the weights of each outermost layer stand in the order of Keras's `layer.weights`, by
            which Keras itself finds them again: in its legacy files, whose names need not be those of the layers.
        doubles: the second names of weights, in Keras's order.
        operands: the names of those that are not weights but say how something is computed, such as shapes and axes.
        file_names: the names by which the file calls weights, where it calls them otherwise, with those of here; of a
            file that numbers the weights of the user's own classes, the names that its model has for them.
        called: names by which another model calls weights that Keras would save at the same places, with those of here:
            of files that note no names of layers.
        assumed: what the reader took for granted where the file does not say it, in sentences.
        reordered: weights whose rows lie in another order than in their model, with the order in a phrase.
        computed: weights of which the graph computes something else before a layer takes it, with how.

    Raises:
        RecipeError: two weights got one name; both places are given.
    """

    weights: tuple[WeightSpec, ...]
    label: str = ""
    network: Network | None = field(default=None, repr=False, compare=False)
    unreadable: tuple[Unreadable, ...] = field(default=(), repr=False, compare=False)
    in_loading_order: bool = field(default=False, repr=False, compare=False)
    doubles: tuple[Double, ...] = field(default=(), repr=False, compare=False)
    operands: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    file_names: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    called: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    assumed: tuple[str, ...] = field(default=(), repr=False, compare=False)
    reordered: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    computed: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        seen: dict[str, WeightSpec] = {}
        problems = Problems()
        for weight in self.weights:
            first = seen.setdefault(weight.name, weight)
            if first is not weight:
                problems.add(
                    f"{self.label}: {weight.name}" if self.label else weight.name,
                    f"two weights have this name, one at {first.where or '?'} and one at {weight.where or '?'}",
                    "give the layers (or the weights inside one layer) different names",
                )
        problems.raise_as(RecipeError)
        order = forward_first(list(seen))
        if order != list(range(len(order))):
            object.__setattr__(self, "weights", tuple(self.weights[i] for i in order))

    def __repr__(self) -> str:
        # Of a catalog with thousands of weights, a notebook or an error shows a line.
        label = f"{self.label}: " if self.label else ""
        return f"<Catalog {label}{counted(len(self), 'weight')}, {counted(self.parameters, 'parameter')}>"

    def __str__(self) -> str:
        from transferpipe.weights.catalog_shown import catalog_lines

        return catalog_lines(self)

    def _repr_html_(self) -> str:
        from transferpipe.weights.catalog_shown import catalog_html

        return catalog_html(self)

    def __iter__(self) -> Iterator[WeightSpec]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)

    def __contains__(self, name: object) -> bool:
        return name in self.by_name or name in self.aliases

    def __getitem__(self, name: str) -> WeightSpec:
        return self.by_name[self.aliases.get(name, name)]

    @cached_property
    def by_name(self) -> dict[str, WeightSpec]:
        """The weights by their names."""
        return {w.name: w for w in self.weights}

    @cached_property
    def aliases(self) -> dict[str, str]:
        """The names of weights by their other names."""
        return {**self.file_names, **self.called, **{d.spec.name: d.name for d in self.doubles}}

    def names_of(self, name: str) -> tuple[str, ...]:
        """Return all names of a weight in Keras's order, which is that of loading: the last place wins."""
        first = self.aliases.get(name, name)
        return tuple(spec.name for spec in self._doubled[first]) if first in self._doubled else (first,)

    def places_of(self, name: str) -> tuple[WeightSpec, ...]:
        """Return a weight as it stands in all of its places, in Keras's order."""
        spec = self[name]
        return self._doubled.get(spec.name, (spec,))

    @cached_property
    def _doubled(self) -> dict[str, tuple[WeightSpec, ...]]:
        """The weights with several names as they stand in all places, in Keras's order."""
        found: dict[str, list[WeightSpec]] = {double.name: [] for double in self.doubles}
        for spec in self.expanded if found else ():
            first = self.aliases.get(spec.name, spec.name)
            if first in found:
                found[first].append(spec)
        return {name: tuple(places) for name, places in found.items()}

    @cached_property
    def expanded(self) -> Catalog:
        """The same with every name of a weight as one of its own."""
        if not self.doubles:
            return self
        weights = list(self.weights)
        for double in self.doubles:
            weights.insert(double.at, double.spec)
        return replace(self, weights=tuple(weights), doubles=())

    @cached_property
    def unread(self) -> dict[str, Unreadable]:
        """What cannot be read, by its names."""
        return {u.name: u for u in self.unreadable}

    @cached_property
    def layers(self) -> dict[str, tuple[str, ...]]:
        """Every inner node of the name tree with the names of all weights below it, outermost nodes first.

        A node is a layer, or a container of layers; one without weights does not appear.
        """
        nodes = _inner_nodes((weight.name, weight.name) for weight in self.weights)
        return {n: tuple(nodes[n]) for n in sorted(nodes, key=lambda n: n.count("/"))}

    @cached_property
    def called_layers(self) -> dict[str, tuple[str, ...]]:
        """The layers by the names of `called`, with the weights below them, where those are not in `layers`."""
        nodes = _inner_nodes(self.called.items()) if self.called else {}
        return {name: tuple(below) for name, below in nodes.items() if name not in self.layers}

    @cached_property
    def positions(self) -> dict[str, int]:
        """The place of every weight in the catalog."""
        return {w.name: k for k, w in enumerate(self.weights)}

    @cached_property
    def layer_index(self) -> NameIndex:
        """The names of `layers`, to be found by how they begin."""
        return NameIndex(self.layers)

    @cached_property
    def weight_index(self) -> NameIndex:
        """The names of the weights, to be found by how they begin."""
        return NameIndex(w.name for w in self.weights)

    @cached_property
    def file_name_index(self) -> NameIndex:
        """The names of `file_names`, to be found by how they begin."""
        return NameIndex(self.file_names)

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all values together."""
        return sum(w.nbytes for w in self.weights)

    @cached_property
    def parameters(self) -> int:
        """Elements of all values together."""
        return sum(w.size for w in self.weights)


def _inner_nodes(names: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return what is below every inner node of a tree of names: each of these stands for a weight."""
    nodes: dict[str, list[str]] = {}
    for name, weight in names:
        node = layer_of(name)
        while node:
            nodes.setdefault(node, []).append(weight)
            node = node.rpartition("/")[0]
    return nodes


def catalog_of(weights: Iterable[WeightSpec], label: str = "") -> Catalog:
    """Return the catalog of `weights` in the order given."""
    return Catalog(tuple(weights), label)


class Source(Protocol):
    """Something that weights are read from: a file, or a model that was built."""

    @property
    def label(self) -> str:
        """What messages call it: its path, or the builder's name."""

    @property
    def format(self) -> str:
        """The format's name, such as ``keras`` or ``safetensors``; ``model`` for a built model."""

    @property
    def catalog(self) -> Catalog:
        """The weights it holds."""

    def read(self, name: str) -> NDArray[Any]:
        """Return the value of the weight called `name`; the caller must not write into it."""

    def locate(self, name: str) -> Segment | None:
        """Return where that value lies in a file as it is in memory; None if it does not."""
