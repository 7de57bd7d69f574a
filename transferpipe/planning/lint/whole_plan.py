"""Warnings about what is legal but probably wrong. Each is one function over the finished plan."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from types import MappingProxyType

from transferpipe.planning.lint.kept_layers import find_replaced_heads
from transferpipe.planning.lint.layouts import lint_layouts
from transferpipe.planning.model import Assignment, PlanWarning, place_of_rule
from transferpipe.planning.plan import Plan
from transferpipe.planning.structure import BATCH_NORMALIZATION, FORGETS_ITS_FLAG, TargetStructure
from transferpipe.planning.transforms import parse_transforms
from transferpipe.planning.transforms.arranging.axes import Transpose
from transferpipe.recipe.outputs import output_of, outputs_of
from transferpipe.text.collapse import series_of
from transferpipe.text.listing import listed, listed_clauses
from transferpipe.weights.keras.layer_settings import class_function
from transferpipe.weights.name import WeightName, ancestors
from transferpipe.weights.spec import Catalog

# A code at a few places is said at each of them; at more, once with the others' names, as one cause is likely.
_MANY = 3
_RULE = "mapping."
_GAMMA_AND_BETA = dict.fromkeys(("gamma", "weight", "scale"), "gamma") | dict.fromkeys(("beta", "bias"), "beta")
_STATISTICS = dict.fromkeys(("mean", "moving_mean", "running_mean"), "mean") | dict.fromkeys(
    ("variance", "moving_variance", "running_var", "var"), "variance"
)
_CELL = {"kernel": "input", "recurrent_kernel": "state", "weight_ih": "input", "weight_hh": "state"}
# Which of torch's stacked layers it is, and in which direction, is not the role of a weight.
_OF_STACK = re.compile(r"_l\d+(_reverse)?$")
# flax has a Dense for each gate of the state.
_GATE_OF_STATE = re.compile(r"(.*/)?h[ifgorzn]?/kernel")
_ROLES: tuple[tuple[frozenset[str], Mapping[str, str]], ...] = (
    (frozenset({"gamma", "beta", "moving_mean", "moving_variance", "mean", "variance"}), _GAMMA_AND_BETA | _STATISTICS),
    (frozenset({"kernel", "recurrent_kernel"}), _CELL),
    (frozenset({"depthwise_kernel", "pointwise_kernel"}), {f"{x}_kernel": x for x in ("depthwise", "pointwise")}),
)
"""Own names of target weights, and the roles of names in sources: those of equal roles may be paired."""


def lint(
    plan: Plan,
    target: TargetStructure,
    found: tuple[PlanWarning, ...] = (),
    sources: Mapping[str, Catalog] = MappingProxyType({}),
) -> Plan:
    """Return `plan` with its warnings.

    Args:
        plan: the finished plan.
        target: the target's structure.
        found: the warnings that pairing noted.
        sources: the catalogs of the sources by alias.
    """
    warnings = [
        *found,
        *_square_kernels(plan),
        *_warn_of_reversed_axes(plan),
        *_warn_of_frozen_fresh(plan),
        *_warn_of_unrecorded_freezing(plan, target),
        *_warn_of_frozen_and_divided(plan, target),
        *_warn_of_switched_off_variables(target),
        *_nothing_trainable(plan, target),
        *_nothing_transferred(plan),
        *_warn_of_unused(plan, find_replaced_heads(plan, sources, target.catalog)),
        *_warn_of_swapped_roles(plan),
        *_half_kept_layers(plan, target),
        *lint_layouts(plan, target),
    ]
    return dataclasses.replace(plan, warnings=tuple(summarise(warnings)))


def summarise(warnings: Iterable[PlanWarning]) -> Iterator[PlanWarning]:
    """Yield the warnings with those of one kind at one place made one line.

    Where more than a few places have the same kind, they are one line as well, unless the places are rules, which
    somebody wrote one by one: a model of a hundred blocks has every trouble a hundred times.
    """
    kinds: dict[str, dict[str, list[str]]] = {}
    for warning in dict.fromkeys(warnings):
        kinds.setdefault(warning.code, {}).setdefault(warning.where, []).append(warning.text)
    for code, places in kinds.items():
        if sum(not place.startswith(_RULE) for place in places) <= _MANY:
            yield from (PlanWarning(code, where, _join_texts(texts)) for where, texts in places.items())
            continue
        where, *others = places
        text = _join_texts([text for texts in places.values() for text in texts])
        yield PlanWarning(code, where, f"{text} (also at {listed(others, _MANY)})")


def _join_texts(texts: list[str]) -> str:
    """Return one text for several: what they have in common once, around the first few of what differs, and a count."""
    words = [text.split(" ") for text in texts]
    shortest = min(map(len, words))
    # The common end must not overlap the common beginning, or a word would be printed twice.
    begin = _alike(words, shortest)
    end = _alike([w[::-1] for w in words], shortest - begin)
    if len(texts) == 1 or begin == shortest:
        return texts[0]
    differing = [" ".join(w[begin : len(w) - end]) for w in words]
    last = differing[:_MANY][-1][-1:]
    mark = last if end and last in ":," else ""
    middle = listed_clauses([d.rstrip(":,") if mark else d for d in differing], _MANY) + mark
    return " ".join([*words[0][:begin], middle, *words[0][len(words[0]) - end :]])


def _alike(words: list[list[str]], most: int) -> int:
    """Return how many words, and at most `most`, all begin with."""
    return next((i for i in range(most) if any(w[i] != words[0][i] for w in words)), most)


def where_of(assignment: Assignment) -> str:
    """Return what messages call the rule behind an assignment."""
    return place_of_rule(assignment.rule)


def _is_foreign(source: str, target: str) -> bool:
    """Tell whether a source weight has another role by its name; a number in the same layer is Keras's own order."""
    (theirs, role), (ours, own) = (name.rpartition("/")[::2] for name in (source, target))
    return role != own and not (role.isdigit() and theirs == ours)


def _square_kernels(plan: Plan) -> Iterator[PlanWarning]:
    """A square matrix fits transposed as well as straight; only a known layout vouches for it.

    So does an oblong one beside it, which the same rule turns in the same way: its shape shows that this is right.
    """
    shown = {_find_turned(a) for a in plan.assignments if len(a.shape) >= 2 and a.shape[-1] != a.shape[-2]}
    for a in plan.assignments:
        if not (len(a.shape) >= 2 and a.shape[-1] == a.shape[-2] > 1 and "kernel" in a.own):
            continue
        foreign = not a.adapter and any(_is_foreign(r.name, a.target) for r in a.sources)
        transposed = any(isinstance(step, Transpose) for step in parse_transforms(a.own_steps))
        # A weight of Keras's own name that nobody transposes has Keras's axes: only these two give rise to doubt.
        if (foreign or transposed) and _find_turned(a) not in shown:
            names = ", ".join(r.name for r in a.sources)
            text = f"{a.target} {a.shape} is square: its shape does not show whether {names} has to be transposed"
            yield PlanWarning("square-kernel", where_of(a), text)


def lint_reordered(plan: Plan, sources: Mapping[str, Catalog]) -> Iterator[PlanWarning]:
    """Yield a warning of rows that lie in the file in another order than in the model, and that no step puts back."""
    if not any(catalog.reordered for catalog in sources.values()):
        return
    for a in plan.assignments:
        if any(step.reorders for step in parse_transforms(a.own_steps)):
            continue
        for ref in a.sources:
            order = sources[ref.source].reordered.get(ref.name)
            if order is not None:
                text = f"the rows of {ref.name} are {order}: the even rows have to come first, then the odd ones"
                yield PlanWarning("row-order", where_of(a), text)


# Operators of ONNX that only move values, as steps do that compute nothing.
_MOVING = ("Concat(", "Gather(", "Slice(", "Split(", "Pad(", "Tile(", "Expand(", "Reshape(", "Transpose(")


def lint_computed(plan: Plan, sources: Mapping[str, Catalog], target: Catalog) -> Iterator[PlanWarning]:
    """Yield a warning of weights that a graph computes with before its layer takes them, which Keras's layers do not.

    A layer of the user's own may compute the same, and so may the steps of a rule.
    """
    if not any(catalog.computed for catalog in sources.values()):
        return
    found: dict[str, list[str]] = {}
    for a in plan.assignments:
        is_own = not class_function(target[a.target].layer_class).known
        if is_own or a.merge is not None or any(step.computes for step in parse_transforms(a.own_steps)):
            continue
        for ref in a.sources:
            how = sources[ref.source].computed.get(ref.name)
            if how is not None and not (a.own_steps and how.startswith(_MOVING)):
                text = f"{a.target} takes {ref.name} as it is stored, and the graph computes {how} of it first"
                found.setdefault(where_of(a), []).append(text)
    for where, texts in found.items():
        more = f", and so with {len(texts) - 1} more" if len(texts) > 1 else ""
        yield PlanWarning("computed-weight", where, f"{texts[0]}{more}: add the steps that do the same to the rule")


def _find_turned(a: Assignment) -> tuple[str, str, int, str]:
    """Return what the kernels of one rule have in common whose axes are arranged in one way."""
    return a.rule, a.own, len(a.shape), str(a.steps)


def _warn_of_reversed_axes(plan: Plan) -> Iterator[PlanWarning]:
    """Yield a warning of convolution kernels whose height and width change places while the channels are moved.

    From (out, in, height, width) Keras's order is [2, 3, 1, 0]; all axes reversed fit every kernel with equal sides.
    """
    for a in plan.assignments:
        spatial = len(a.shape) - 2
        # Unequal sides would not fit after the exchange, and a filter of one place has none to exchange.
        if spatial < 2 or a.shape[0] < 2 or "kernel" not in a.own or len({*a.shape[:spatial]}) > 1:
            continue
        reverse = tuple(range(spatial + 2))[::-1]
        for step in parse_transforms(a.own_steps):
            if isinstance(step, Transpose) and step.axes in (None, reverse):
                right = [*range(2, spatial + 2), 1, 0]
                text = (
                    f"{a.target}: {{transpose: {list(reverse)}}} exchanges the height and width of every filter as well"
                )
                fix = f"from (out, in, height, width), as torch has it, the order is {{transpose: {right}}}"
                yield PlanWarning("reversed-axes", where_of(a), f"{text}; {fix}")


def _warn_of_frozen_fresh(plan: Plan) -> Iterator[PlanWarning]:
    """One warning a rule, with all weights that it leaves fresh and frozen."""
    assigned = {a.target for a in plan.assignments}
    kept = {k.target: k for k in plan.kept}
    # Only what this plan switches off: a target that comes frozen, and stays so, was meant that way.
    switched = set(plan.freezing.layers)
    found: dict[str, list[str]] = {}
    for name in plan.freezing.frozen_weights:
        if name not in assigned and plan.assignments and switched.intersection(ancestors(name)):
            rule = kept[name].rule if name in kept else "?"
            found.setdefault(place_of_rule(rule), []).append(name)
    for where, names in found.items():
        if len(names) == 1:
            text = f"{names[0]} is frozen and keeps its initial value: training will never change it"
        else:
            text = f"{len(names)} weights are frozen and keep their initial values, which training will never change"
            text = f"{text}: {listed(names, _MANY)}"
        yield PlanWarning("frozen-fresh", where, text)


def _warn_of_frozen_and_divided(plan: Plan, target: TargetStructure) -> Iterator[PlanWarning]:
    """SpectralNormalization assigns to its kernel whenever it is called in training, and asks no flag before."""
    wrappers = [layer.name for layer in target.layers if layer.layer_class == "SpectralNormalization"]
    named = (name for weight in plan.freezing.frozen_weights for name in target.catalog.names_of(weight))
    frozen = {WeightName(name).layer for name in named}
    divided = [name for name in wrappers if name in frozen]
    if divided and plan.freezing.layers:
        text = f"{listed(divided, _MANY)} {'is' if len(divided) == 1 else 'are'} frozen, and SpectralNormalization"
        yield PlanWarning("frozen-divided", "freeze", f"{text} divides the kernel in every training step all the same")


def _warn_of_unrecorded_freezing(plan: Plan, target: TargetStructure) -> Iterator[PlanWarning]:
    weights_only = [p for p in plan.save if not output_of(p).holds_architecture]
    if plan.save and len(weights_only) == len(plan.save):  # else one of the files is a model, which holds it
        if not plan.freezing.layers:
            return
        text = f"{weights_only[0]} holds weights only, not which layers are frozen"
        yield PlanWarning("freeze-not-saved", "save", text)
        return
    if not plan.save:
        return
    parts: dict[str, list[str]] = {}
    for name in _find_lost_on_loading(plan, target):
        parts.setdefault(_recording(name, target), []).append(name)
    for holder, names in parts.items():
        what = f"{holder} is" if holder else "the model is"
        text = f"{what} saved without the flags of its parts: {listed(names, 1)} is trainable again after load_model"
        yield PlanWarning("freeze-not-saved", "freeze", f"{text}; set trainable=False there again")


def _find_lost_on_loading(plan: Plan, target: TargetStructure) -> list[str]:
    """Return the layers that are frozen, now or when they were built, and have no recorded flag of their own.

    Below a root that is off nothing trains whatever their flags say, but for the moving statistics of a
    BatchNormalization, which asks its own flag alone.
    """
    root = target.by_name.get("")
    off = "" in plan.freezing.layers or (root is not None and not root.trainable)
    off = off and not (root is not None and root.layer_class == FORGETS_ITS_FLAG)
    holding = {WeightName(weight).layer for weight in plan.freezing.frozen_weights}
    before = [layer.name for layer in target.layers if not layer.trainable and layer.name in holding]
    lost = [n for n in dict.fromkeys((*plan.freezing.layers, *before)) if n and not target.keeps_flag(n)]
    return [n for n in lost if not off or target.by_name[n].layer_class == BATCH_NORMALIZATION]


def _recording(name: str, target: TargetStructure) -> str:
    """Return the nearest layer above `name` whose own flag is recorded; the root if there is none."""
    return next((n for n in ancestors(name) if n in target.by_name and target.keeps_flag(n)), "")


def _warn_of_switched_off_variables(target: TargetStructure) -> Iterator[PlanWarning]:
    for name in sorted(target.switched_off):
        text = f"{name} is frozen by its variable's own flag, which no file stores: freeze its layer instead"
        yield PlanWarning("variable-flag", "target", text)


def _nothing_trainable(plan: Plan, target: TargetStructure) -> Iterator[PlanWarning]:
    # What loses its flag in the file trains after all once it is loaded, which another warning says.
    if any(o.holds_architecture for o in outputs_of(plan.save)) and _find_lost_on_loading(plan, target):
        return
    # Kernels that are a Fourier transform, in a layer that is built switched off.
    trains = any(target.catalog[name].layer_class != "STFTSpectrogram" for name in target.trainable_weights)
    root = target.by_name.get("")
    frozen = set(plan.freezing.layers) | ({""} if root and not root.trainable else set())
    beside = any(frozen.isdisjoint((name, *ancestors(name))) for name in target.trained_beside)
    if trains and not plan.freezing.trainable_parameters and not beside:
        why = " (the model itself is frozen, and a frozen ancestor wins)" if root and not root.trainable else ""
        yield PlanWarning("nothing-trainable", "freeze", f"no parameter of the result is trainable{why}")


def _nothing_transferred(plan: Plan) -> Iterator[PlanWarning]:
    count = len(plan.source_weights)
    if count and not plan.assignments and not plan.edits:  # else what is wanted are the edits
        text = f"nothing is transferred: none of the source weights ({count}) is used"
        yield PlanWarning("nothing-transferred", "mapping", text)


def _warn_of_unused(plan: Plan, replaced: Set[tuple[str, str]]) -> Iterator[PlanWarning]:
    """Warn of source weights that no rule takes, but for layers that the recipe leaves alone as wholes.

    With `unmatched: keep` a recipe names what it takes: a layer that both sides have, and of which it takes nothing, is
    one of those that it is meant to leave, as is one that a rule keeps, such as the head for other classes, and the
    head that stood in the place of that (`replaced`). Of a layer of which it takes a part, the rest is more likely
    forgotten.
    """
    kept = {k.layer for k in plan.kept}
    touched = {a.layer for a in plan.assignments}
    touched |= {ref.layer for a in plan.assignments for ref in a.sources}
    left = (w for w in plan.unused if (w.source, w.name) not in replaced)
    unused = [w for w in left if (layer := w.layer) in touched or layer not in kept]
    if unused and plan.assignments:
        names = [f"{w.source}:{w.name}" if len(plan.sources) > 1 else w.name for w in unused]
        series = [text for text, _ in series_of(names)]
        shown = listed(series if len(series) <= _MANY else names, _MANY)
        count = f"{len(unused)} source weights are" if len(unused) > 1 else "1 source weight is"
        yield PlanWarning("unused", "unused", f"{count} not used: {shown}")


def _warn_of_swapped_roles(plan: Plan) -> Iterator[PlanWarning]:
    """A weight that takes one with another role (gamma from beta) fits by shape and is nearly always a mistake."""
    for a in plan.assignments:
        own = a.own
        for ref in a.sources:
            theirs = ref.own
            if theirs == own:  # as most are
                continue
            if own == "recurrent_kernel" and _GATE_OF_STATE.fullmatch(ref.name):
                continue
            role = _OF_STACK.sub("", theirs)
            if any(own in kind and roles.get(role, roles[own]) != roles[own] for kind, roles in _ROLES):
                yield PlanWarning("other-role", where_of(a), f"{a.target} takes {ref.name}: {own} from {theirs}")


def _half_kept_layers(plan: Plan, target: TargetStructure) -> Iterator[PlanWarning]:
    """A layer with some new weights and some initial values computes what neither model did."""
    mismatched = {k.target: k for k in plan.kept if k.reason == "shape differs"}
    if not mismatched:
        return
    assigned = {a.target: a for a in plan.assignments}
    layers: dict[str, list[str]] = {}
    for weight in target.catalog:
        layers.setdefault(weight.layer, []).append(weight.name)
    for names in layers.values():
        kept = [n for n in names if n in mismatched]
        if kept and any(n in assigned for n in names):
            got = next(n for n in names if n in assigned)
            yield PlanWarning(
                "half-transferred",
                place_of_rule(mismatched[kept[0]].rule),
                f"{got} is transferred, but {kept[0]} of the same layer is kept",
            )
