"""What is paired as a whole, and which piece of the target can take which of the source.

A piece is a layer, or a single weight that no class tells about. Whether one fits is asked of the planner itself, with
the layout of the source, so that nothing is proposed which it would not take.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from transferpipe.errors import Problems
from transferpipe.planning.claims import Unit
from transferpipe.planning.dtypes import kind_of
from transferpipe.planning.pairing.layouts import take_named
from transferpipe.planning.pairing.rules import take_layer
from transferpipe.planning.pairing.taken import Pairing, Taken, WantedUnit
from transferpipe.planning.reading.read_recipe import chain_of
from transferpipe.planning.structure import TargetStructure
from transferpipe.planning.transforms import TransformError, infer
from transferpipe.recipe.layouts import KERAS
from transferpipe.recipe.model import SINGLE
from transferpipe.recipe.patterns import NameMatch
from transferpipe.weights.keras.layer_classes import BUILT_IN, is_made_up
from transferpipe.weights.name import WeightName, ancestors
from transferpipe.weights.network import Network
from transferpipe.weights.spec import Catalog

# Larger layers are whole models, which are paired by their parts.
_MOST_BELOW = 24
# What flax puts in front of all names; the batch statistics of a layer lie apart from its parameters.
_COLLECTIONS = ("params/", "batch_stats/")
# torch's LSTM, GRU and RNN keep all stacked layers in one module, by these endings; Keras has a layer for each.
_STACKED = re.compile(r"(?:weight|bias)_(?:ih|hh)_(l\d+)(?:_reverse)?")
# A layer built without these (use_bias, center, scale) is still the same layer.
_OPTIONAL = ("bias", "beta", "gamma", "scale")
_BUILT_IN_CLASSES = frozenset(BUILT_IN.values())
# What keeps an axis of heads, and one of what each is wide, where others keep one of both.
_WITH_HEADS = ("EinsumDense", "MultiHeadAttention", "GroupedQueryAttention")
# As TensorFlow's slim and the first tutorials call what Keras calls so: a weight of another name than these in the
# layer of a class that is known is another weight.
_SPELLED: Mapping[str, tuple[str, ...]] = {
    "kernel": ("weights", "weight", "w", "W"),
    "bias": ("biases", "b"),
    "embeddings": ("weights", "weight", "w", "W"),
}

Signature = tuple[object, ...]
Taking = Mapping[str, Taken]


@dataclass(frozen=True)
class Piece:
    """A layer or a weight.

    Attributes:
        name: its name; empty for the source itself.
        weights: the names of its weights.
        is_layer: whether it is a layer.
        is_loose: whether it is an operator of a graph whose weights go by names of their own, kernel before bias.
        is_member: whether it is one weight of several in a layer of a class that is known.
    """

    name: str
    weights: tuple[str, ...]
    is_layer: bool = True
    is_loose: bool = False
    is_member: bool = False

    def inside(self, weight: str) -> str:
        """Return the name of one of its weights, seen from it."""
        return weight[len(self.name) + 1 :] if self.name else weight


@dataclass
class Fits:
    """Which pieces of the target can take which of the source.

    Attributes:
        pairing: both sides as the planner sees them.
        targets: the pieces of the target, in its order.
        sources: the pieces of the source that one of them can take, in its order.
        of: for each of `targets`, the places in `sources` of what it can take.
    """

    pairing: Pairing
    targets: list[Piece] = field(default_factory=list)
    sources: list[Piece] = field(default_factory=list)
    of: list[list[int]] = field(default_factory=list)
    # A network has few signatures and many layers: each pair of signatures is asked of the planner once.
    _known: dict[tuple[Signature, Signature], bool] = field(default_factory=dict)

    def take(self, ours: Piece, theirs: Piece) -> Taking | None:
        """Return what the weights of `ours` take of `theirs`; None if shapes or names do not allow it."""
        return _take(self.pairing, ours, theirs)

    def can_take(self, ours: Piece, theirs: Piece, signatures: tuple[Signature, Signature]) -> bool:
        """Tell the same from what both hold."""
        if signatures not in self._known:
            self._known[signatures] = _take(self.pairing, ours, theirs) is not None
        return self._known[signatures]


def make_pairing(target: TargetStructure, source: Catalog, layout: str) -> Pairing:
    """Return both sides as the planner sees them, for asking what fits."""
    structure = dataclasses.replace(target, catalog=target.catalog.expanded)
    return Pairing({SINGLE: source.expanded}, structure, {SINGLE: layout} if layout != KERAS else {}, Problems())


def find_fits(pairing: Pairing) -> Fits:
    """Return what fits, layer by layer; where a layer fits nowhere as a whole, part by part."""
    fits = Fits(pairing)
    layers = list(_source_layers(pairing))
    weights = [Piece(w.name, (w.name,), is_layer=False) for w in pairing.sources[SINGLE]]
    signed: dict[bool, dict[Signature, list[Piece]]] = {True: {}, False: {}}
    for piece in (*layers, *weights):
        signed[piece.is_layer].setdefault(_source_signature(piece, pairing), []).append(piece)
    chosen: list[tuple[Piece, list[Piece]]] = []
    for levels, listed in _levels_of_target(pairing):
        # The coarsest level at which anything fits; in any case one, so that what fits nothing is listed too.
        for level in levels:
            found = [(piece, _fitting(fits, piece, signed[piece.is_layer])) for piece in level]
            if any(others for _, others in found):
                chosen += found
                break
        else:
            chosen += [(piece, []) for piece in listed]
    # A container of other layers is no layer of its name.
    plain = [p for p in layers if all("/" not in _inside_of(w, p.name) for w in p.weights)]
    chosen = [(piece, _without_namesake(piece, others, plain)) for piece, others in chosen]
    chosen = _without_those_of_namesakes(chosen)
    wanted = {other: None for _, others in chosen for other in others}
    place = {w.name: i for i, w in enumerate(pairing.sources[SINGLE])}
    fits.sources = sorted(wanted, key=lambda p: (place[p.weights[0]], len(p.weights)))
    number = {piece: i for i, piece in enumerate(fits.sources)}
    order = {w.name: i for i, w in enumerate(pairing.target)}
    for piece, others in sorted(chosen, key=lambda entry: order[entry[0].weights[0]]):
        fits.targets.append(piece)
        fits.of.append(sorted(number[other] for other in others))
    return fits


def _fitting(fits: Fits, piece: Piece, signed: Mapping[Signature, list[Piece]]) -> list[Piece]:
    mine = _target_signature(piece, fits.pairing)
    size = sum(fits.pairing.target[w].size for w in piece.weights)
    least = max(fits.pairing.target[w].size for w in piece.weights)  # a bias may be missing
    found: list[Piece] = []
    for theirs, others in signed.items():
        total = sum(fits.pairing.sources[SINGLE][w].size for w in others[0].weights)
        # Torch adds two biases of a recurrent layer, and a container may hold a normalization beside.
        if least <= total <= 3 * size + 64 and fits.can_take(piece, others[0], (mine, theirs)):
            found += others
    return found


def _without_namesake(piece: Piece, others: list[Piece], layers: Sequence[Piece]) -> list[Piece]:
    """Return what a piece can take: nothing where the source has a layer of its very name, and of other shapes.

    What is as large as it in a wider network belongs to another layer.
    """
    if _says_nothing(piece.name):
        return others
    same = [p for p in layers if p.name == piece.name]
    same = same or [p for p in layers if piece.name.endswith(f"/{p.name}") or p.name.endswith(f"/{piece.name}")]
    return [] if piece.is_layer and len(same) == 1 and same[0] not in others else others


def _without_those_of_namesakes(chosen: Sequence[tuple[Piece, list[Piece]]]) -> list[tuple[Piece, list[Piece]]]:
    """Return what each piece can take: not a layer of whose very name the target has one, which is of other shapes."""
    layers = {piece.name: others for piece, others in chosen if piece.is_layer and not _says_nothing(piece.name)}

    def is_anothers(piece: Piece, other: Piece) -> bool:
        return other.is_layer and piece.name != other.name and other not in layers.get(other.name, [other])

    return [(piece, [o for o in others if not is_anothers(piece, o)]) for piece, others in chosen]


def _says_nothing(name: str) -> bool:
    """Tell whether a layer of another network may have this name by chance."""
    last = name.rpartition("/")[2]
    return is_made_up(last) or last.isdigit()


def _levels_of_target(pairing: Pairing) -> Iterator[tuple[list[list[Piece]], list[Piece]]]:
    """Yield, for each layer that the source's layout knows as one, the ways of taking it apart, the coarsest first.

    With each the pieces that stand for it where nothing fits.
    """
    target, closed = pairing.target, pairing.structure.closed
    whole: dict[str, list[str]] = {}
    for weight in target:
        if weight.name not in closed:
            counterpart = pairing.counterpart(SINGLE, weight.name)
            whole.setdefault(counterpart.layer if counterpart else weight.layer, []).append(weight.name)
    for name, weights in whole.items():
        owners: dict[str, list[str]] = {}
        for member in weights:
            owners.setdefault(target[member].layer, []).append(member)
        coarse = [Piece(name, tuple(weights))]
        fine = [Piece(owner, tuple(inside)) for owner, inside in owners.items()]
        single = [Piece(w, (w,), is_layer=False) for w in weights]
        levels = [] if not name else [coarse] if [p.name for p in fine] == [name] else [coarse, fine]
        # The weights of a class that is known belong together: what fits one of them alone proves nothing.
        free = not name or all(target[w].layer_class not in _BUILT_IN_CLASSES for w in weights)
        is_member = not free and len(weights) > 1
        members = [dataclasses.replace(piece, is_member=is_member) for piece in single]
        yield [*levels, members], single if free or not levels else levels[-1]


def _source_layers(pairing: Pairing) -> Iterator[Piece]:
    """Yield the layers of the source, containers of a few weights among them, and what a layout keeps inside of one."""
    catalog = pairing.sources[SINGLE]
    is_keras = pairing.layout(SINGLE) == KERAS
    seen: dict[str, list[str]] = {}
    stacks: set[str] = set()
    for weight in catalog:
        inside = weight.name
        if not is_keras:
            inside = next((inside.removeprefix(c) for c in _COLLECTIONS if inside.startswith(c)), inside)
        layer = inside.rpartition("/")[0]
        above = [layer] if is_keras else [layer, *ancestors(layer)[:-1]]
        for name in above:
            seen.setdefault(name, []).append(weight.name)
        if not is_keras and (stack := _STACKED.fullmatch(weight.own_name)):
            stacks.add(inside := f"{layer}/{stack[1]}".lstrip("/"))
            seen.setdefault(inside, []).append(weight.name)
    for name, weights in seen.items():
        outer = name.rpartition("/")[0]
        is_whole = name in stacks and seen.get(outer) == weights  # a stack of one layer, which is taken by its own name
        if len(weights) <= _MOST_BELOW and not is_whole:
            yield Piece(name, tuple(weights))
    if catalog.network is not None and catalog.network.has_operators:
        yield from _operators(catalog, catalog.network)


def _operators(catalog: Catalog, network: Network) -> Iterator[Piece]:
    """Yield the operators of a graph whose weights have no layer in their names, such as ``onnx::Conv_31``.

    The graph's node goes by the first of them; the exporters write what else it takes next to that.
    """
    groups: list[list[str]] = []
    for weight in catalog:
        if "/" in weight.name:
            continue
        if weight.name in network.by_name:
            groups.append([weight.name])
        elif groups and len(weight.shape) == 1:
            groups[-1].append(weight.name)
    yield from (Piece(group[0], tuple(group), is_loose=True) for group in groups)


def _target_signature(piece: Piece, pairing: Pairing) -> Signature:
    """Return all that decides which source fits, but for names outside of the piece."""
    states = []
    for layer in dict.fromkeys(pairing.target[w].layer for w in piece.weights):
        state = pairing.structure.by_name.get(layer)
        states.append((state.layer_class, state.equation, state.reset_after) if state else None)
    state = pairing.structure.by_name.get(piece.name)
    specs = [pairing.target[w] for w in piece.weights]
    own = tuple((piece.inside(s.name), s.shape, kind_of(s.dtype), s.layer_class) for s in specs)
    member = specs[0].own_name if piece.is_member else None
    return (piece.is_layer, member, state.layer_class if state else None, tuple(states), own)


def _source_signature(piece: Piece, pairing: Pairing) -> Signature:
    specs = [pairing.sources[SINGLE][w] for w in piece.weights]
    # Layer 3 of a stack fits where layer 0 does: the number is left out of what decides.
    own = [re.sub(r"_l\d+", "_l", _inside_of(s.name, piece.name)) if piece.is_layer else s.own_name for s in specs]
    if piece.is_loose:
        own = [f"operand {k}" for k in range(len(specs))]
    facts = [(s.shape, kind_of(s.dtype), s.layer_class, s.axes) for s in specs]
    return (piece.is_layer, tuple(zip(own, facts, strict=True)))


def _inside_of(weight: str, layer: str) -> str:
    for prefix in ("", *_COLLECTIONS):
        if weight.startswith(f"{prefix}{layer}/"):
            return weight[len(prefix) + len(layer) + 1 :]
    return WeightName(weight).own


def _take(pairing: Pairing, ours: Piece, theirs: Piece) -> Taking | None:
    if ours.is_member and WeightName(theirs.name).own not in _SPELLED.get(WeightName(ours.name).own, ()):
        return None
    # A trial must leave no trace: what does not fit here is not a problem of the recipe.
    trial = dataclasses.replace(pairing, problems=Problems(), warnings={}, judged={})
    found = _ask_planner(trial, ours, theirs)
    missing = [w for w in ours.weights if w not in found]
    if not found or trial.problems.found or any(WeightName(w).own not in _OPTIONAL for w in missing):
        return None
    used = Counter(n for taken in found.values() for n in taken.names)
    if any(used[n] > 1 for taken in found.values() if not is_part(taken) for n in taken.names):
        return None  # a projection of a name that any of them could have
    left = [w for w in theirs.weights if w not in used]
    if not used.keys() <= set(theirs.weights) or not _may_be_left(theirs, left):
        return None
    return found if all(_has_shape(pairing, w, t) for w, t in found.items()) else None


def _ask_planner(trial: Pairing, ours: Piece, theirs: Piece) -> dict[str, Taken]:
    """Return what the planner would let the weights of `ours` take of `theirs`."""
    if theirs.is_loose or not ours.is_layer:
        pairs = zip(ours.weights, theirs.weights, strict=False)
        found = ((weight, take_named(SINGLE, weight, name, "", trial)) for weight, name in pairs)
        return {weight: taken for weight, taken in found if taken}
    unit = Unit(NameMatch(ours.name), True, ours.weights)
    return take_layer(WantedUnit("", unit, SINGLE, theirs.name, trial.sources[SINGLE]), trial)[0]


def is_part(taken: Taken) -> bool:
    """Tell whether a weight is only a part of what is taken, so that others take the rest."""
    return any(isinstance(step, Mapping) and "slice" in step for step in taken.steps)


def _may_be_left(theirs: Piece, left: Sequence[str]) -> bool:
    """Tell whether a layer may be taken without the weights `left`: without its bias, or, of a container, others."""
    # If more is left than taken, another layer is meant.
    if len(left) > len(theirs.weights) // 2:
        return False
    inside = [_inside_of(name, theirs.name) if theirs.is_layer else name for name in left]
    return all("/" in name or name in _OPTIONAL for name in inside)


def is_reshaped(pairing: Pairing, weight: str, taken: Taken) -> bool:
    """Tell whether a weight has the numbers that it takes, in their order, in another shape.

    A weight of attention has axes of heads where others have them side by side on one, and a table of positions no axis
    for the one sample that others add it to.
    """
    found, ours = _result_of(pairing, taken), pairing.target[weight]
    if found is None:
        return False
    shape = found[0]
    if len(ours.shape) == 2 and shape == (1, *ours.shape):
        return True
    cuts = ((*shape[:k], *ours.shape[k : k + 2], *shape[k + 1 :]) for k in range(len(shape)))
    apart = ours.layer_class in _WITH_HEADS and len(ours.shape) == len(shape) + 1 and ours.shape in cuts
    return apart and math.prod(shape) == ours.size


def _has_shape(pairing: Pairing, weight: str, taken: Taken) -> bool:
    ours, found = pairing.target[weight], _result_of(pairing, taken)
    if found is None or kind_of(found[1]) != kind_of(ours.dtype):
        return False
    return found[0] == ours.shape or is_reshaped(pairing, weight, taken)


def _result_of(pairing: Pairing, taken: Taken) -> tuple[tuple[int, ...], str] | None:
    """Return the shape and the dtype of what is taken; None if its layout cannot give it."""
    specs = [pairing.sources[SINGLE][name] for name in taken.names]
    try:
        return infer(chain_of(None, taken.steps), [s.shape for s in specs], [s.dtype for s in specs])
    except TransformError:
        return None
