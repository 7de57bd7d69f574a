"""Pairing what a rule claims with the source weights it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from transferpipe.errors import Problems, did_you_mean
from transferpipe.planning.advice.taking_out import advise_keeping
from transferpipe.planning.claims import Unit
from transferpipe.planning.layouts import Counterpart, find_counterpart, layout_called
from transferpipe.planning.layouts.evidence import AxesEvidence, find_evidence
from transferpipe.planning.model import UNMATCHED_RULE, PlanWarning
from transferpipe.planning.pairing.places import are_other_roles
from transferpipe.planning.structure import TargetStructure
from transferpipe.recipe.layouts import KERAS
from transferpipe.recipe.model import Rule
from transferpipe.weights.keras.layer_classes import BUILT_IN, stem, weight_names
from transferpipe.weights.name import WeightName
from transferpipe.weights.spec import Catalog, WeightSpec

# A look for near names compares with every name of the source; a template that is wrong is so for all of its layers,
# and the first hints say it.
_MOST_HINTS = 20
_WHOLE = ("int8", "uint8")  # what Keras keeps quantised values in, packed or not
# Keras's float8 keeps float kernels, and beside them scales and past maxima: `Dense._float8_build`.
_OF_FLOAT8 = ("_scale", "_amax_history")
_BUILT_IN_CLASSES = frozenset(BUILT_IN.values())


@dataclass(frozen=True, slots=True)
class Taken:
    """What a target weight takes of one source.

    Attributes:
        source: the source's name.
        names: the names of its weights, more than one only if the source's layout keeps the weight in parts.
        steps: the transforms, as written, from the source's layout to that of Keras.
        adapted: whether the layout knows the weight, so that its names and axes are not a guess.
        own: the transforms, as written, that the rule puts behind those, before all that it states.
    """

    source: str
    names: tuple[str, ...]
    steps: tuple[Any, ...] = ()
    adapted: bool = False
    own: tuple[Any, ...] = ()


@dataclass
class Pairing:
    """What is found so far.

    Attributes:
        sources: the catalogs by the sources' names.
        structure: the target.
        layouts: how the sources' names and axes are arranged, where it is not Keras's way.
        problems: what is wrong.
        warnings: what is legal but probably wrong, each once.
        rule: the rule that is being paired; None under ``unmatched: same_name``.
        judged: the square matrices whose axes only those around them tell, by the place of their rule.
    """

    sources: Mapping[str, Catalog]
    structure: TargetStructure
    layouts: Mapping[str, str]
    problems: Problems
    warnings: dict[PlanWarning, None] = field(default_factory=dict)
    rule: Rule | None = None
    judged: dict[str, dict[WeightSpec, AxesEvidence]] = field(default_factory=dict)
    # `within` copies the references, so that all rules share what was found of a file, and the count of hints.
    _evidence: dict[str, Mapping[str, AxesEvidence]] = field(default_factory=dict)
    _hints: list[str] = field(default_factory=list)

    def within(self, rule: Rule) -> Pairing:
        """Return the same pairing for what `rule` claims; what it finds and notes is noted here too."""
        return dataclasses.replace(self, rule=rule)

    @property
    def stated(self) -> str | None:
        """The layout that the rule states."""
        return self.rule.layout if self.rule else None

    @property
    def where(self) -> str:
        """What messages call the rule."""
        return self.rule.where if self.rule else UNMATCHED_RULE

    def layout(self, source: str) -> str:
        """Return the layout in which the names of the source called `source` are.

        A rule that states that of Keras states axes: the names stay what they are in the rest of the source.
        """
        of_source = self.layouts.get(source, KERAS)
        return self.stated if self.stated not in (None, KERAS) else of_source

    def evidence(self, source: str, name: str) -> AxesEvidence | None:
        """Return what the biases in the source called `source` tell of the axes of one of its matrices."""
        if source not in self._evidence:
            self._evidence[source] = find_evidence(self.sources[source])
        return self._evidence[source].get(name)

    @property
    def target(self) -> Catalog:
        """The target's catalog."""
        return self.structure.catalog

    def counterpart(self, source: str, weight: str) -> Counterpart | None:
        """Return what the layout of the source called `source` has for a target weight; None if nothing of its own."""
        return find_counterpart(self.layout(source), weight, self.structure)

    def near(self, name: str, choices: Iterable[str]) -> str:
        """Return a "did you mean"; empty after the first few, since comparing thousands of names takes minutes."""
        self._hints.append(name)
        return did_you_mean(name, choices) if len(self._hints) <= _MOST_HINTS else ""

    def refuse_unreadable(self, source: str, weight: str, names: Iterable[str], where: str | None = None) -> bool:
        """Note it if one of the weights `names` of a source, which `weight` would take, cannot be read."""
        catalog = self.sources[source]
        found = next((catalog.unread[name] for name in names if name in catalog.unread), None)
        if found is not None:
            what = f"{weight} would take {found.name} of {catalog.label}, which cannot be read: it {found.reason}"
            self.problems.add(
                where or self.where, what, f"{found.fix}, or {advise_keeping(self.rule, [weight], self.target)}"
            )
        return found is not None

    def warn(self, code: str, where: str, text: str) -> None:
        """Note a warning once."""
        self.warnings.setdefault(PlanWarning(code, where, text))


@dataclass(frozen=True)
class WantedUnit:
    """One unit of the target, and the source layer or weight that it asks for."""

    where: str
    unit: Unit
    source: str
    name: str
    catalog: Catalog

    @property
    def below(self) -> tuple[str, ...] | None:
        """All weights below the source layer; the empty name means the whole source; None if there is no such layer."""
        if not self.name:
            return tuple(self.catalog.by_name)
        return self.catalog.layers.get(self.name) or self.catalog.called_layers.get(self.name)

    def source_name(self, weight: str) -> str:
        """Return the source weight with the same name, seen from the unit, as the target weight `weight`."""
        return f"{self.name}/{self.unit.relative(weight)}" if self.name else self.unit.relative(weight)

    @property
    def held(self) -> list[str]:
        """Names of the source layer's weights, seen from it."""
        return [w[len(self.name) + 1 :] if self.name else w for w in self.below or ()]


def take_as_keras(source: str, name: str, pairing: Pairing) -> Taken:
    """Return the source weight `name` of Keras's own layout, with what Keras 2 would convert on loading it."""
    catalog = pairing.sources[source]
    keras, weight = layout_called(KERAS), catalog[name]
    steps, names = keras.convert(weight, catalog), keras.gather(weight, catalog)
    is_other = name in catalog.file_names or name in catalog.called
    return Taken(source, (weight.name if is_other else name, *names[1:]), steps)


def pair_stored(weight: str, ours: str, theirs: str, catalog: Catalog, pairing: Pairing) -> str | None:
    """Return the source weight that Keras would load into `weight` from a legacy file of the same layer, or None.

    Keras goes by the order of `layer.weights`. So does this where the names of the two layers' weights differ, which is
    so for weights without names, and for layers in lists and dicts; roles that both sides name must agree.

    Args:
        weight: the target weight.
        ours: the outermost layer that holds it.
        theirs: the outermost layer of the source that is paired with that.
        catalog: the source's.
        pairing: what is found so far.
    """
    order, stored = pairing.structure.loading_order.get(ours, ()), catalog.layers.get(theirs, ())
    if not catalog.in_loading_order or weight not in order or len(order) != len(stored):
        return None
    if all(f"{theirs}{name[len(ours) :]}" in catalog for name in order):
        return None  # the names say it
    if any(pairing.target[o].shape != catalog[s].shape for o, s in zip(order, stored, strict=True)):
        return None
    # Equal counts and shapes can be chance; names of roles that contradict each other show that it is one.
    if any(are_other_roles(o, s) for o, s in zip(order, stored, strict=True)):
        return None
    return stored[order.index(weight)]


def pair_numbered(weight: str, layer: str, catalog: Catalog, pairing: Pairing) -> str | None:
    """Return the source weight with the same number inside a layer of unknown class, or None.

    A Keras file numbers the weights of a layer. Where both sides are saved at one path, with equal shapes, the names of
    one stand for the numbers of the other: Keras would load them so. For a class of the user's own the file tells no
    names; then the position says which is which, if the two layers hold equally many weights. For built-in classes the
    names are known, and where they are not (a normalization without gamma or beta), guessing by position in a layer
    that is saved elsewhere is how gamma becomes beta.
    """
    theirs = _directly_in(catalog, layer)
    ours = _directly_in(pairing.target, WeightName(weight).layer)
    if not theirs or len(theirs) != len(ours):
        return None
    if _are_saved_alike([catalog[n] for n in theirs], [pairing.target[n] for n in ours]):
        if _has_optional([catalog[n] for n in theirs]):
            text = f"{catalog.label} does not say which optional weights {layer or 'the model itself'} has"
            pairing.warn("numbered-weights", layer or "the model", f"{text} (gamma, or beta); matched by position")
        return theirs[ours.index(weight)]
    if not _are_numbered(theirs):
        return None
    if _are_quantised_alike([catalog[n] for n in theirs], [pairing.target[n] for n in ours]):
        return theirs[ours.index(weight)]
    if catalog[theirs[0]].layer_class in _BUILT_IN_CLASSES:
        return None
    kind, shapes = pairing.target[weight].layer_class, [catalog[n].shape for n in theirs]
    # Empty where shapes leave it open which optional weights there are: one of two may be gamma as well as beta.
    if kind in _BUILT_IN_CLASSES and not weight_names(kind, None, shapes):
        return None
    if kind not in _BUILT_IN_CLASSES and len(set(shapes)) < len(shapes):  # else class or shapes say which is which
        text = f"weight names of {layer or 'the model itself'} are not stored in {catalog.label}; matched by position"
        pairing.warn("numbered-weights", layer or "the model", text)
    return theirs[ours.index(weight)]


def _are_saved_alike(theirs: Sequence[WeightSpec], ours: Sequence[WeightSpec]) -> bool:
    """Tell whether two layers hold weights at the same places of a Keras file, and one of them only numbers them.

    A layer of no built-in class need only be in the same attribute, or in a list of its class: what stands above that
    is another in a task than in the backbone alone.
    """
    kinds = {w.layer_class for w in (*theirs, *ours)}
    named = kinds - {None}  # a file need not tell
    has_built_in = not named.isdisjoint(_BUILT_IN_CLASSES)
    # Which optional weights a layer has cannot be known if its very class is not, unless the other's has none.
    shapes = [w.shape for w in ours]
    if None in kinds and not all(weight_names(kind, None, shapes) for kind in named & _BUILT_IN_CLASSES):
        return False
    place: Callable[[WeightSpec], object] = attrgetter("where") if has_built_in else _nearest_place
    alike = all(place(a) and (place(a), a.shape) == (place(b), b.shape) for a, b in zip(theirs, ours, strict=True))
    return alike and len(named) < 2 and any(_are_numbered([w.name for w in side]) for side in (theirs, ours))


def _has_optional(numbered: Sequence[WeightSpec]) -> bool:
    """Tell whether a built-in layer may lack one of several weights of one shape, and the file does not say which."""
    kind, shapes = numbered[0].layer_class, [w.shape for w in numbered]
    is_open = kind in _BUILT_IN_CLASSES and _are_numbered([w.name for w in numbered])
    return is_open and len(set(shapes)) < len(shapes) and not weight_names(kind, None, shapes)


def _nearest_place(weight: WeightSpec) -> tuple[str, str] | None:
    """Return the last segment of the path where a layer is saved, without its number, and the weight's key there."""
    layer, _, key = weight.where.rpartition("/vars/")
    return (stem(layer.rpartition("/")[2]), key) if layer else None


def _are_numbered(names: Sequence[str]) -> bool:
    return all(WeightName(n).own.isdigit() for n in names)


def _are_quantised_alike(theirs: Sequence[WeightSpec], ours: Sequence[WeightSpec]) -> bool:
    """Tell whether two layers of one class hold quantised values and their scales alike, weight by weight.

    Keras loads these by position, and here positions cannot be mistaken: the mode decides which weights there are.
    """
    kinds = {w.layer_class for w in (*theirs, *ours)} - {None}  # a file need not tell
    alike = all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in zip(theirs, ours, strict=True))
    return alike and len(kinds) == 1 and any(w.dtype in _WHOLE or w.own_name.endswith(_OF_FLOAT8) for w in ours)


def unclear_names(ours: str, layer: str, catalog: Catalog) -> tuple[str, str] | None:
    """Return what is unclear about the weights of a source layer that only have numbers, and the fix; else None.

    The fix pairs this layer alone: an order over several could cross them.

    Args:
        ours: the target layer.
        layer: the source layer.
        catalog: the source's catalog.
    """
    numbered = _directly_in(catalog, layer)
    if not (numbered and _are_numbered(numbered)):
        return None
    kind = catalog[numbered[0]].layer_class or "layer"
    what = f"the file numbers the weights of this {kind} and does not say which optional ones it has"
    fix = "if both layers are configured alike, use `pair: order`"
    alone = f" for this layer alone, in a rule of its own: {{to: '{ours}', from: '{layer}', pair: order}}"
    return what, fix + alone * bool(ours and layer)


def _directly_in(catalog: Catalog, layer: str) -> list[str]:
    inside = catalog.layers.get(layer, ()) if layer else catalog.by_name
    return [n for n in inside if WeightName(n).layer == layer]
