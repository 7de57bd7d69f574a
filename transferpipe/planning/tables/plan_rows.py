"""The rows of a plan's table: one a rule and series of layers, each of which stands for its pairs and for no others.

A row can be read both ways: its texts, expanded (`transferpipe.text.collapse`), are its weights. ``layer/*`` is all
weights of a layer; ``model/**`` those of all layers of a model inside; ``=`` says that the source calls them by the
same names, ``= without vgg16/`` by those without what the target has before them, ``enc/=`` by those with ``enc/``
before them.
"""

from __future__ import annotations

import itertools
import math
import sys
import weakref
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from transferpipe.planning.model import Assignment, Kept, StateMove
from transferpipe.planning.plan import Plan
from transferpipe.planning.reading.read_recipe import chain_of
from transferpipe.text.collapse import SeriesMember, braces, grids, is_plain, series_of, split_name, write

SAME = "="
_FEW = 3
"""A model inside the target that goes as a whole is one row where it would be more rows than so many."""
_SHORT = 20
"""Names of the source up to so many characters are shown even where they are the target's without its beginning."""
KEPT_VALUES: Mapping[str, str] = {
    "initial": "initial values",
    "file": "values of the file",
    "model": "values of the model",
}
"""What the weights have that are kept, by where the target comes from."""


@dataclass(frozen=True)
class PlanRow:
    """One line of the table.

    Attributes:
        rule: the rule behind it.
        target: the target weights, collapsed.
        origin: where the values come from, collapsed, `SAME` where the names are the same; or why they are kept.
        weights: how many weights.
        parameters: how many elements.
        notes: transforms, casts, edits, freezing.
        kept: whether the weights keep their values.
        names: the target weights.
    """

    rule: str
    target: str
    origin: str
    weights: int
    parameters: int
    notes: str
    kept: bool
    names: tuple[str, ...] = field(default=(), repr=False)


class _NameParts(NamedTuple):
    """A weight's name, split at its last `/`, or where it has none, as torch's have not, at its last dot.

    A name without either is that of a layer.

    Attributes:
        alias: the source's name, where there are several.
        layer: what is before the separator.
        separator: it, or nothing.
        own: what is behind it.
        is_plain: whether the name can be collapsed.
        home: its layer.
    """

    alias: str
    layer: str
    separator: str
    own: str
    is_plain: bool
    home: tuple[str, str, str]


class _Places:
    """The parts of all names of one plan, each taken apart once, whatever asks for it."""

    def __init__(self, plan: Plan) -> None:
        self._several = len(plan.sources) > 1
        self._found: dict[str | tuple[str, str], _NameParts] = {}

    def of(self, name: str, alias: str = "") -> _NameParts:
        """Return the parts of a name; `alias` is that of its source, and empty for one of the target."""
        key = (alias, name) if self._several and alias else name
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = _parts_of(name, alias if self._several else "")
        return found


def _parts_of(name: str, alias: str) -> _NameParts:
    separator = "/" if "/" in name else "." if "." in name else ""
    layer, _, own = name.rpartition(separator) if separator else (name, "", "")
    own = sys.intern(own)  # few stand in many names
    return _NameParts(alias, layer, separator, own, is_plain(name), (alias, layer, separator))


class _Entry(NamedTuple):
    """One weight, and the names that its row collapses."""

    weight: Assignment | Kept
    place: _NameParts
    origins: tuple[_NameParts, ...]
    notes: str

    @property
    def is_plain(self) -> bool:
        """Whether its names can be collapsed."""
        return self.place.is_plain and all(p.is_plain for p in self.origins)


class _Layer(NamedTuple):
    """Weights of one layer that all come from one layer of each source.

    Attributes:
        entries: the weights.
        own: what is written behind the layer's name.
        theirs: the same for each source.
    """

    entries: tuple[_Entry, ...]
    own: str
    theirs: tuple[str, ...]

    @property
    def places(self) -> tuple[_NameParts, ...]:
        """The layer and those of the sources, as the first weight has them."""
        return (self.entries[0].place, *self.entries[0].origins)

    @property
    def moved(self) -> tuple[str, str, str] | None:
        """What stands before the part of the name that both sides have in common, in each, and that part."""
        place, origins = self.entries[0].place, self.entries[0].origins
        if not origins:
            return "", "", place.layer
        if len(origins) > 1 or self.theirs[0] != self.own or origins[0].separator != place.separator:
            return None
        if origins[0].layer == place.layer:
            return "", "", place.layer
        ours, theirs = place.layer.split("/"), origins[0].layer.split("/")
        common = 0
        while common < min(len(ours), len(theirs)) and ours[-1 - common] == theirs[-1 - common]:
            common += 1
        before = ["".join(f"{part}/" for part in side[: len(side) - common]) for side in (ours, theirs)]
        return (before[0], before[1], "/".join(ours[-common:])) if common else None


_LATEST: list[tuple[weakref.ref[Plan], list[PlanRow]]] = []
"""The plan whose rows were asked for last, and these: a run shows them on the terminal, and on its page once more."""


def plan_rows(plan: Plan, only: Collection[str] | None = None) -> list[PlanRow]:
    """Return the table's rows, those of assigned weights first, each kind in the order of the target's weights.

    Args:
        plan: the plan.
        only: the names of the target's weights to return the rows of; all where it is left out.
    """
    if only is not None:
        return _rows(plan, only)
    for known, rows in _LATEST:
        if known() is plan:
            return [*rows]
    _LATEST[:] = [(weakref.ref(plan), _rows(plan, None))]
    return [*_LATEST[0][1]]


def _rows(plan: Plan, only: Collection[str] | None) -> list[PlanRow]:
    places = _Places(plan)
    frozen, owners = set(plan.freezing.frozen_weights), _Owners(plan, places)
    groups: dict[tuple[Any, ...], list[_Entry]] = {}
    weights: tuple[Assignment | Kept, ...] = (*plan.assignments, *plan.kept)
    place = {weight.target: k for k, weight in enumerate(weights)}
    for weight in weights:
        if only is not None and weight.target not in only:
            continue
        refs = () if isinstance(weight, Kept) else weight.sources
        origins = tuple([places.of(ref.name, ref.source) for ref in refs])
        entry = _Entry(weight, places.of(weight.target), origins, _notes(plan, weight, frozen))
        reason = weight.reason if isinstance(weight, Kept) else ""
        # Of a recipe that runs backwards, each rule is called as the one tensor that it writes.
        rule = SAME if weight.rule == weight.target else weight.rule
        groups.setdefault((rule, entry.notes, reason, len(origins)), []).append(entry)
    rows = [row for group in groups.values() for row in _collapse_rows(plan, group, owners)]
    rows.sort(key=lambda row: min(place[name] for name in row.names))
    return [*rows, *(_state_row(plan, move) for move in plan.state if only is None)]


_NOTHING = frozenset[str]()
_ALL = ("*",)


class _Owners:
    """All weights of the layers of both sides, so that ``*`` is written where it stands for all of them alone."""

    def __init__(self, plan: Plan, places: _Places) -> None:
        self._target, self._source = dict[Any, frozenset[str]](), dict[Any, frozenset[str]]()
        self._rank: dict[str, int] = {}
        self._kinds: dict[tuple[frozenset[str], str], frozenset[str]] = {}
        for name in itertools.chain((a.target for a in plan.assignments), (k.target for k in plan.kept)):
            place = places.of(name)
            self._rank.setdefault(place.own, len(self._rank))
            self._hold(self._target, place)
        for source in plan.source_weights:
            self._hold(self._source, places.of(source.name, source.source))

    def _hold(self, held: dict[Any, frozenset[str]], place: _NameParts) -> None:
        """Note that a layer holds a weight; of thousands of layers, most hold what others do."""
        key = (held.get(place.home, _NOTHING), place.own)
        held[place.home] = self._kinds.get(key) or self._kinds.setdefault(key, key[0] | {place.own})

    def are_all_below(self, prefix: str, count: int) -> bool:
        """Tell whether `count` layers of the target, all of which lie below `prefix`, are all that lie there."""
        return count == self._below[prefix]

    @cached_property
    def _below(self) -> Counter[str]:
        """How many layers of the target lie below each name, which ends with a slash."""
        layers = [f"{layer}/" for _, layer, _ in self._target]
        return Counter(layer[: k + 1] for layer in layers for k, letter in enumerate(layer) if letter == "/")

    def layer_of(self, weights: Iterable[_Entry]) -> _Layer:
        """Return weights of one layer with what is to be written behind its name."""
        entries = tuple(weights)
        place, origins = entries[0].place, entries[0].origins
        if len(entries) == 1 and len(origins) == 1 and origins[0] is place:
            # As of most of thousands: one weight of that layer, which has the same name in the source.
            whole = place.separator == "/" and len(self._target[place.home]) == 1
            return _Layer(entries, "*", _ALL) if whole else _Layer(entries, place.own, (place.own,))
        if len(entries) > 1:
            entries = tuple(sorted(entries, key=lambda e: self._rank[e.place.own]))
            place, origins = entries[0].place, entries[0].origins
        own = [e.place.own for e in entries]
        all_of_them = frozenset(own)
        theirs = [[e.origins[k].own for e in entries] for k in range(len(origins))]
        whole = place.separator == "/" and all_of_them == self._target[place.home]
        for origin, names in zip(origins, theirs, strict=True):
            same = names == own and (origin.layer, origin.separator) == (place.layer, place.separator)
            whole &= same or (origin.separator == "/" and names == own and all_of_them == self._source.get(origin.home))
        if whole:
            return _Layer(entries, "*", ("*",) * len(origins))
        return _Layer(entries, braces(own), tuple(map(braces, theirs)))


def _collapse_rows(plan: Plan, group: Sequence[_Entry], owners: _Owners) -> Iterator[PlanRow]:
    """Yield the rows of weights that have rule, notes and reason in common: as few as stand for them exactly."""
    bundles: dict[tuple[Any, ...], list[_Entry]] = {}
    for entry in group:
        if entry.is_plain:
            bundles.setdefault((entry.place.home, *(o.home for o in entry.origins)), []).append(entry)
        else:
            origins = [_join(o, o.layer, o.own) for o in entry.origins]
            yield _row(plan, [entry], entry.weight.target, origins)
    layers = [layer for bundle in bundles.values() for layer in _align_weights(bundle, owners)]
    bundles.clear()  # of a hundred thousand weights, that is some of the memory
    prefixed: dict[tuple[Any, ...], dict[str, _Layer]] = {}
    others = []
    for layer in layers:
        if moved := layer.moved:
            alias = layer.places[-1].alias
            key = (*moved[:2], layer.places[0].separator, layer.own, alias)
            prefixed.setdefault(key, {})[moved[2]] = layer
        else:
            others.append(layer)
    rows = [row for key, found in prefixed.items() for row in _find_moved_rows(plan, owners, key[0], key[1], found)]
    rows += _grid_rows(plan, others)
    if len({key[:2] for key in prefixed}) > 1:  # perhaps what stands before the common part counts up as well
        counted = _grid_rows(plan, layers)
        rows = counted if len(counted) < len(rows) else rows
    yield from rows


def _align_weights(bundle: Sequence[_Entry], owners: _Owners) -> Iterator[_Layer]:
    """Yield weights of one layer together if each has one of its own in each source, or all the same."""
    sides = range(len(bundle[0].origins)) if len(bundle) > 1 else ()
    if all(len({e.origins[k].own for e in bundle}) in (1, len(bundle)) for k in sides):
        yield owners.layer_of(bundle)
    else:
        yield from (owners.layer_of([entry]) for entry in bundle)


def _find_moved_rows(
    plan: Plan, owners: _Owners, ours: str, theirs: str, layers: Mapping[str, _Layer]
) -> list[PlanRow]:
    """Return the rows of layers that are called the same on both sides, apart from what stands before their names."""
    texts = [(text, [layers[name] for name in names]) for text, names in series_of(layers)]
    shown = []
    for whole, names in _whole_models(owners, ours, layers).items():
        members = {id(layers[name]) for name in names}
        inside = [entry for entry in texts if all(id(layer) in members for layer in entry[1])]
        if len(inside) > _FEW and sum(len(found) for _, found in inside) == len(names):
            shown.append((f"{whole}**", [e for name in names for e in layers[name].entries]))
            texts = [entry for entry in texts if entry not in inside]
    for text, found in texts:
        own = _own_text(found, found[0].own)
        shown.append((f"{text}{found[0].places[0].separator}{own}", [e for layer in found for e in layer.entries]))
    is_long = not (ours and theirs) and max(len(theirs + text) for text, _ in shown) > _SHORT
    rows = []
    for text, entries in shown:
        by_prefix = is_long or ours == theirs or text.endswith("**")
        same = theirs + SAME + (f" without {ours}" if ours else "") if by_prefix else theirs + text
        origins = [f"{o.alias}: {same}" if o.alias else same for o in entries[0].origins]
        rows.append(_row(plan, entries, ours + text, origins))
    return rows


def _whole_models(owners: _Owners, ours: str, layers: Mapping[str, _Layer]) -> dict[str, list[str]]:
    """Return the layers of each model inside the target of which all weights are among those of `layers`.

    They are in the order of the target; what stands before their names, without `ours`, is the key.
    """
    below: dict[str, list[str]] = {}
    for name, layer in layers.items():
        if layer.own == "*" and (ours or "/" in name):
            below.setdefault("" if ours else name[: name.index("/") + 1], []).append(name)
    return {inner: names for inner, names in below.items() if owners.are_all_below(ours + inner, len(names))}


def _grid_rows(plan: Plan, layers: Sequence[_Layer]) -> list[PlanRow]:
    """Return the rows of layers whose numbers and letters count up together on both sides."""
    shapes: dict[tuple[Any, ...], dict[tuple[str, ...], _Layer]] = {}
    for layer in layers:
        split = [split_name(p.layer) for p in layer.places]
        key = (
            *(pieces for pieces, _ in split),
            *((p.alias, p.separator) for p in layer.places),
            layer.own,
            layer.theirs,
        )
        shapes.setdefault(key, {})[split[0][1]] = layer
    rows = []
    for key, by_index in shapes.items():
        pairs = [
            SeriesMember(index, tuple(split_name(p.layer)[1] for p in layer.places[1:]))
            for index, layer in by_index.items()
        ]
        for grid in grids(pairs):
            found = [by_index[pair.target] for pair in grid.pairs]
            place, *origins = found[0].places
            target = _join(place, write(key[0], grid.columns), _own_text(found, found[0].own))
            texts = []
            for k, origin in enumerate(origins):
                columns = grid.origin_columns(k)
                assert columns is not None
                texts.append(_join(origin, write(key[1 + k], columns), _own_text(found, found[0].theirs[k])))
            rows.append(_row(plan, [entry for layer in found for entry in layer.entries], target, texts))
    return rows


def _own_text(layers: Sequence[_Layer], own: str) -> str:
    """Return what is written behind the names of `layers`: a name where ``*`` would stand for that one alone."""
    names = {e.place.own for layer in layers for e in layer.entries}
    return names.pop() if own == "*" and len(names) == 1 else own


def _join(place: _NameParts, layer: str, own: str) -> str:
    return f"{f'{place.alias}:' if place.alias else ''}{layer}{place.separator}{own}"


def _row(plan: Plan, entries: Sequence[_Entry], target: str, origins: Sequence[str]) -> PlanRow:
    first = entries[0]
    origin = " + ".join(origins)
    if isinstance(first.weight, Kept):
        reason = first.weight.reason
        origin = f"kept: {reason}" if reason != "from: null" else f"kept ({KEPT_VALUES[plan.kept_values]})"
    return PlanRow(
        rule=target if first.weight.rule == first.weight.target else first.weight.rule,
        target=target,
        origin=origin,
        weights=len(entries),
        parameters=sum(math.prod(e.weight.shape) for e in entries),
        notes=first.notes,
        kept=isinstance(first.weight, Kept),
        names=tuple(e.weight.target for e in entries),
    )


def _state_row(plan: Plan, move: StateMove) -> PlanRow:
    """Return the line of what a lookup layer learned, which is not a weight and counts as none."""
    origin = f"{move.source}:{move.source_layer}" if len(plan.sources) > 1 else move.source_layer
    kept = move.fate == "kept"
    counted = f"vocabulary, {move.size:,} terms" if move.kind == "vocabulary" else f"{move.size:,} {move.kind}"
    return PlanRow(
        rule=move.rule,
        target=move.target,
        origin="as the target has it" if kept else SAME if origin == move.target else origin,
        weights=0,
        parameters=0,
        notes=f"state: {move.kind} kept" if kept else f"state: {counted}",
        kept=kept,
    )


def _notes(plan: Plan, entry: Assignment | Kept, frozen: Collection[str]) -> str:
    notes = []
    if isinstance(entry, Assignment):
        if not entry.is_copy:  # most are
            notes += [*_adapt_steps(entry), *(str(t) for t in chain_of(entry.merge, entry.transforms))]
        if entry.cast_from != entry.dtype:
            notes.append(f"{entry.cast_from} -> {entry.dtype}")
    notes += [f"edit {e.name}" for e in plan.edits_of.get(entry.target, ())]
    if entry.target in frozen:
        notes.append("frozen")
    return ", ".join(notes)


def _adapt_steps(entry: Assignment) -> list[str]:
    """Return the steps of each source before the merge, once if all have the same."""
    texts = [[str(t) for t in chain_of(None, e.steps)] for e in entry.entries]
    if len(texts) < 2 or not any(texts):
        return [t for text in texts for t in text]
    chains = [", ".join(text) or "as it is" for text in texts]
    if len(set(chains)) < 2:
        return [f"each: {chain}" for chain in chains[:1]]
    return [f"{k}: {chain}" for k, chain in enumerate(chains, 1)]
