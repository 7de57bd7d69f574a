"""Warnings about rows in another order: a flattened map is (C, H, W) in torch, (H, W, C) in most of Keras."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from transferpipe.planning.lint.arrangement import Arrangement
from transferpipe.planning.model import Assignment, PlanWarning, place_of_rule
from transferpipe.planning.plan import Plan
from transferpipe.planning.structure import TargetStructure
from transferpipe.planning.transforms import parse_transforms
from transferpipe.planning.transforms.arranging.flatten import FlattenOrder
from transferpipe.weights.flatten_rows import RowPart, ValueRow, rows_before
from transferpipe.weights.keras.layer_settings import ACTIVATION, NEUTRAL
from transferpipe.weights.name import ancestors
from transferpipe.weights.network import Network
from transferpipe.weights.spec import Catalog

# The orders that bring channels last, of images, sequences and volumes: behind them a graph flattens as Keras does.
_CHANNELS_LAST = ((0, 2, 3, 1), (0, 2, 1), (0, 2, 3, 4, 1))
# Between a Flatten and what it feeds stand a few steps, such as a dropout or an activation: a walk that takes longer is
# lost in a graph made to cost time.
_MOST_STEPS, _DEEPEST = 50, 10
Order = list[Any]


def lint_flatten(plan: Plan, target: TargetStructure, sources: Mapping[str, Catalog]) -> Iterator[PlanWarning]:
    """Yield the warnings of layers whose rows the source has in another order.

    Args:
        plan: the finished plan.
        target: the target's structure.
        sources: the catalogs of the sources by their names.
    """
    layers: dict[tuple[str, str], list[Assignment]] = {}
    for a, row, parts, who in _rows_taken(plan.assignments, target, sources):
        found = _problem(a, row, parts, who)
        if found is not None:
            layers.setdefault(found, []).append(a)
    for (text, order), weights in layers.items():
        steps = ", ".join(f"{a.own}: [{{flatten_order: {order}}}]" for a in weights)
        fix = f"give its rule the transform {{{steps}}}" if order else ""
        yield PlanWarning("flatten-order", place_of_rule(weights[0].rule), text + fix)


def find_flatten_orders(
    assignments: Sequence[Assignment], target: TargetStructure, sources: Mapping[str, Catalog]
) -> dict[str, Order]:
    """Return, by target weight, the ``flatten_order`` that a weight needs whose rows the source has in another order.

    Args:
        assignments: those without transforms of the user's.
        target: the target's structure.
        sources: the catalogs of the sources by their names.
    """
    rows = _rows_taken(assignments, target, sources)
    orders = {a.target: _order(row.parts, parts) for a, row, parts, _ in rows if not row.is_mixed}
    return {name: order for name, order in orders.items() if order is not None}


def _rows_taken(
    assignments: Sequence[Assignment], target: TargetStructure, sources: Mapping[str, Catalog]
) -> Iterator[tuple[Assignment, ValueRow, Sequence[RowPart], str]]:
    """Yield what takes weights along a row with maps in it, with the parts of the row as the source has them."""
    ours = rows_of(target.catalog)
    theirs = {alias: rows_of(catalog) for alias, catalog in sources.items()}
    for a in assignments:
        row = ours.get(a.layer)
        if row is None or not is_along_row(a.target, row, target):
            continue
        if a.adapter:
            network = sources[a.sources[0].source].network
            is_graph = network is not None and network.has_operators
            first = (
                _channels_first(network, a.sources[0].name, row) if network and is_graph else [True] * len(row.parts)
            )
            parts = [RowPart(p.sizes, is_first=f) for p, f in zip(row.parts, first, strict=True)]
            yield a, row, parts, "the graph" if is_graph else "torch"
        elif len(a.sources) == 1:
            other = theirs[a.sources[0].source].get(a.sources[0].layer)
            if other is not None and [p.sizes for p in other.parts] == [p.sizes for p in row.parts]:
                yield a, row, other.parts, "the source"


def lint_unflatten(plan: Plan, target: TargetStructure) -> Iterator[PlanWarning]:
    """Yield the warnings of layers whose output becomes a map, as in decoders: torch has its values in another order.

    Args:
        plan: has the assignments that are taken in torch's layout.
        target: the target's structure.
    """
    network = target.catalog.network
    if network is None or not network.connected:
        return
    taken: dict[str, list[Assignment]] = {}
    for a in plan.assignments:
        if a.adapter:
            taken.setdefault(a.layer, []).append(a)
    for node in network.nodes:
        sizes = node.settings.get("target_shape") if node.layer_class == "Reshape" else None
        if not isinstance(sizes, list | tuple) or len(sizes) not in _RANKS or not all(type(n) is int for n in sizes):
            continue
        *places, channels = sizes
        # With one channel, or one place, both orders are the same.
        if min(sizes) < 1 or channels == 1 or max(places) == 1 or not _feeds_convolution(network, node.name):
            continue
        for layer in _behind_one_dense(network, node.inputs):
            ours = [a for a in taken.get(layer, ()) if (channels * math.prod(places)) in a.shape[-1:]]
            open_ones = [a for a in ours if not any(step.reorders for step in parse_transforms(a.own_steps))]
            if open_ones:
                order = {"flatten_order": [channels, *places]}
                # `flatten_order` goes along the first axis; of a kernel the outputs are the last, so it is turned there
                # and back.
                turned = [{"transpose": [1, 0]}, order, {"transpose": [1, 0]}]
                steps = {a.own: turned if len(a.shape) == 2 else [order] for a in open_ones}
                words = str(steps).replace("'", "")
                text = (
                    f"{layer} gives the row that {node.name} makes a map {list(sizes)} of, and torch has another order"
                )
                yield PlanWarning(
                    "flatten-order", place_of_rule(open_ones[0].rule), f"{text}: give its rule the transform {words}"
                )


# Of sequences, images and volumes, with their channels.
_RANKS = (2, 3, 4)
_ROW_LAYERS = frozenset(["Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "Dropout", "BatchNormalization"])


def _behind_one_dense(network: Network, inputs: Sequence[str]) -> Iterator[str]:
    """Yield the layers of a row, the last first, back to the Dense that makes it; none if no Dense does."""
    found: list[str] = []
    for _ in range(_MOST_STEPS):
        node = network.by_name.get(inputs[0]) if len(inputs) == 1 else None
        if node is None or node.layer_class not in (*_ROW_LAYERS, "Dense"):
            return
        found.append(node.name)
        if node.layer_class == "Dense":
            yield from found
            return
        inputs = node.inputs


def _feeds_convolution(network: Network, name: str) -> bool:
    """Tell whether a map goes into a convolution with its channels last, by way of what leaves its values in place."""
    for _ in range(_MOST_STEPS):
        behind = network.consumers.get(name, ())
        node = network.by_name.get(behind[0]) if len(behind) == 1 else None
        if node is None:
            return False
        if "Conv" in node.layer_class:
            return node.settings.get("data_format") != "channels_first"
        if node.layer_class not in _ROW_LAYERS and not node.layer_class.startswith(("UpSampling", "ZeroPadding")):
            return False
        name = node.name
    return False


def rows_of(catalog: Catalog) -> Mapping[str, ValueRow]:
    """Return the rows with maps in them that go into the layers of a model or file."""
    return rows_before(catalog.network) if catalog.network else {}


def is_along_row(weight: str, row: ValueRow, target: TargetStructure) -> bool:
    """Tell whether the first axis of a target weight goes along the row that its layer sees."""
    spec = target.catalog[weight]
    state = target.by_name.get(spec.layer)
    # A bias may have as many numbers by chance. Of other classes it is not known which of their weights meet the row.
    if spec.own_name != "kernel" and state and state.layer_class == "Dense":
        return False
    return spec.shape[:1] == (row.count,)


def _problem(a: Assignment, row: ValueRow, theirs: Sequence[RowPart], who: str) -> tuple[str, str] | None:
    """Return what is wrong if the source has the parts of the row in the order of `theirs`, and the right order."""
    wanted = _order(row.parts, theirs)
    given = parse_transforms(a.own_steps)
    order = next((step for step in given if isinstance(step, FlattenOrder)), None)
    if wanted is None:
        return None
    # A step of the user's that moves rows may be meant to do this: what it does is not guessed at.
    if not row.is_mixed and (order == FlattenOrder.parse(wanted) or (order is None and any(s.reorders for s in given))):
        return None
    maps = [list(p.sizes) for p in row.parts if p.is_map]
    what = f"a map {maps[0]}" + (" joined with other values" if len(row.parts) > 1 else "")
    but = f", and not in that of {order}" if order and not row.is_mixed else ""
    text = f"{a.layer} follows a Flatten of {what}, which {who} flattens in another order{but}"
    if row.is_mixed:
        axes = (len(maps[0]), *range(1, len(maps[0])))
        text += ", and which other values are added to, or multiplied with"
        fix = f"put Permute({axes}) before the target's Flatten, which then has that order, and no flatten_order"
        return f"{text}: {fix}", ""
    return f"{text}: ", str(wanted)


def _channels_first(network: Network, weight: str, row: ValueRow) -> list[bool]:
    """Return, for each part of a row, whether a graph flattens its map with the channels first.

    The operators of ONNX have the channels first; a Transpose before the Flatten may bring them to the end, as the
    converters of TensorFlow write it. What the graph does not tell is taken as torch has it.
    """
    side = Arrangement(Catalog(()), network)
    layer = next((n for n in (weight, *ancestors(weight)) if n in network.by_name), None)
    inputs = network.by_name[layer].inputs if layer else ()
    found = _flags(side, inputs[0], row, 0) if len(inputs) == 1 else [True]
    if len(found) == len(row.parts):
        return found
    # The graph joins other parts than the target: their orders cannot be told apart, and torch's is the usual one.
    return [any(found) or not found] * len(row.parts)


def _flags(side: Arrangement, name: str, row: ValueRow, depth: int) -> list[bool]:
    """Return whether channels come first in what a node gives, for each input of the Concat that may stand there."""
    flattened = False
    for _ in range(_MOST_STEPS):
        node, function = side.network.by_name[name], side.function(name)
        if function.kind == "Concatenate" and not flattened and depth < _DEEPEST:
            return [flag for other in node.inputs for flag in _flags(side, other, row, depth + 1)]
        flattened = flattened or function.kind == "Flatten"
        # The exporters of TensorFlow (tf2onnx) turn the map to channels last before they flatten it as TensorFlow does.
        if node.layer_class == "Transpose" and flattened:
            return [node.settings.get("perm") not in _CHANNELS_LAST]
        if node.layer_class == "InputLayer":
            shape = node.settings.get("batch_shape", ())[1:]
            return [not any(shape == part.sizes for part in row.parts if part.is_map)]
        passes = function.kind in (NEUTRAL, ACTIVATION, "Flatten", "BatchNormalization")
        if not passes or len(node.inputs) != 1 or (flattened and "kernel" in node.settings):
            return [True]
        name = node.inputs[0]
    return [True]


def _order(ours: Sequence[RowPart], theirs: Collection[RowPart]) -> Order | None:
    """Return what flatten_order takes to bring the parts of a row from the order of `theirs`; None if it is ours."""
    found: Order = []
    for part, other in zip(ours, theirs, strict=True):
        *places, channels = part.sizes
        if not part.is_map or part.is_first == other.is_first:
            found.append(part.count)
        elif other.is_first:
            found.append([channels, *places])
        else:  # the same reordering backwards: all places, as one axis, go behind the channels
            found.append([part.count // channels, channels])
    if not any(isinstance(part, list) for part in found):
        return None
    return found[0] if len(found) == 1 else found
