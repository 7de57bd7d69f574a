"""Whether the layers that a configuration describes have weights in their file, and some that are as wide as it says.

How wide a layer's input is stands in no setting of its own: behind the Flatten of a large map, a Dense of few units has
billions of weights. So what goes into each layer is worked out, as far as the settings of Keras's own layers say it.

Keras makes a layer's weights of its configuration, and refuses a file that holds none for them, or others. Where such a
configuration goes on into a file of ours, that is said here, of the names and shapes alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.text.listing import listed
from transferpipe.weights.network import Network, Node
from transferpipe.weights.sample_shapes import channels_of, sample_shapes
from transferpipe.weights.spec import Catalog

# Layers that always have weights once they are called, with the setting that is the length of an axis of one of those.
_WIDTHS: Mapping[str, str | None] = {
    **dict.fromkeys(("Dense", "LSTM", "GRU", "SimpleRNN"), "units"),
    **dict.fromkeys((f"Conv{n}D{kind}" for n in (1, 2, 3) for kind in ("", "Transpose")), "filters"),
    **dict.fromkeys((f"SeparableConv{n}D" for n in (1, 2)), "filters"),
    **dict.fromkeys((f"ConvLSTM{n}D" for n in (1, 2, 3)), "filters"),
    **dict.fromkeys(f"DepthwiseConv{n}D" for n in (1, 2)),
    **dict.fromkeys(("EinsumDense", "BatchNormalization", "MultiHeadAttention", "Bidirectional")),
    "Embedding": "output_dim",
}
_HOLDING = ("Bidirectional", "SpectralNormalization")
# Of int4 weights two lie in a byte; a factor of four leaves room for other ways of packing.
_PACKED = 4
_MOST_LISTED = 5
# Layers whose weights have an axis as long as their input has channels, of a grouped convolution those of a group.
_OF_CHANNELS = frozenset(kind for kind in _WIDTHS if "Conv" in kind and "LSTM" not in kind) | {
    "Dense",
    "LSTM",
    "GRU",
    "SimpleRNN",
    "BatchNormalization",
}
# Of one sample: 4 TB of float32. What is large and can be computed somewhere is not refused (see `prove.reload`).
_MOST_VALUES = 10**12
_AGAIN = "the file is damaged: download or save it again"


def check_filled(catalog: Catalog) -> None:
    """Refuse a file with layers that have no weights in it, or none of the width that their configuration declares.

    Only of models whose layers are connected: of others it is not known which layers are ever called.

    Raises:
        FileError: a layer has no weights.
        UnsafeError: a layer declares a width that none of its weights has, has an input much wider than all of them,
            or gives more values than any machine holds.
    """
    if catalog.network is None or not catalog.network.connected or not len(catalog):
        return
    shapes: dict[str, list[Sequence[int]]] = {}
    # By all its names: what SpectralNormalization wraps may have no weight but the one that both hold.
    for name, shape in [*((w.name, w.shape) for w in catalog.expanded), *((name, ()) for name in catalog.unread)]:
        for holder in _holders(name):
            shapes.setdefault(holder, []).append(shape)
    by_name = catalog.network.by_name
    # A layer of several models, or one that a wrapper holds too, is saved where it is met first, so that what it is
    # called counts: by its place, or by its own name where it is held in an attribute.
    called = {segment for holder in shapes for segment in holder.split("/")}
    called |= {_own_name(node) for name, node in by_name.items() if name in shapes}
    # A Bidirectional calls what it holds by its own names in files, whatever the configuration says, and what
    # SpectralNormalization holds may have no weight but the one that it has itself.
    nodes = [
        node
        for node in catalog.network.nodes
        if node.layer_class in _WIDTHS
        and not ((around := by_name.get(node.name.rpartition("/")[0])) and around.layer_class in _HOLDING)
    ]
    if empty := [n.name for n in nodes if called.isdisjoint({n.name.rpartition("/")[2], _own_name(n)})]:
        what = f"its configuration has layers of which the file holds no weights: {listed(empty, _MOST_LISTED)}"
        raise FileError(Problem(catalog.label, what, _AGAIN))
    for node in nodes:
        key, longest = _WIDTHS[node.layer_class], max((n for s in shapes.get(node.name, ()) for n in s), default=0)
        width = node.settings.get(key) if key else 0
        if longest and isinstance(width, int) and width > _PACKED * longest:
            what = f"its configuration declares {key}: {width}, and no axis of its weights is longer than {longest}"
            raise UnsafeError(Problem(f"{catalog.label}: layer {node.name!r}", what, _AGAIN))
    _check_geometry(catalog.network, shapes, catalog.label)


def _check_geometry(network: Network, shapes: Mapping[str, Sequence[Sequence[int]]], label: str) -> None:
    """Refuse layers whose input, worked out from those before, is much wider than their weights, or beyond reason."""
    for name, (before, after) in sample_shapes(network).items():
        node, where = network.by_name[name], f"{label}: layer {name!r}"
        count = math.prod(n or 1 for n in after)
        if count > _MOST_VALUES:
            what = f"its configuration makes {count:,} values of one sample"
            raise UnsafeError(Problem(where, f"{what}: no layer gives so many", _AGAIN))
        longest = max((n for s in shapes.get(name, ()) for n in s), default=0)
        wide = channels_of(node, before) if node.layer_class in _OF_CHANNELS and longest else None
        groups = node.settings.get("groups", 1)
        if wide is not None and wide > _PACKED * longest * (groups if type(groups) is int and groups > 0 else 1):
            what = (
                f"{wide:,} values go into it by its configuration, and no axis of its weights is longer than {longest}"
            )
            raise UnsafeError(Problem(where, what, _AGAIN))


def _own_name(node: Node) -> str:
    return str(node.settings.get("name") or node.name.rpartition("/")[2])


def _holders(name: str) -> Iterator[str]:
    """Yield the layer that holds a weight, and all above it."""
    holder = name.rpartition("/")[0]
    while holder:
        yield holder
        holder = holder.rpartition("/")[0]
