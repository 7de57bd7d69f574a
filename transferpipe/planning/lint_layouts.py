"""Warnings about weights that come in torch's layout: what the layout cannot settle by itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from transferpipe.planning.layouts.adapter import Shape
from transferpipe.planning.layouts.export import unknown_to
from transferpipe.planning.model import UNMATCHED_RULE, Assignment, Plan, PlanWarning
from transferpipe.planning.pairing import listed
from transferpipe.planning.structure import TargetStructure, ancestors

_SOME = 3
_EPSILON = {"BatchNormalization": 1e-5, "LayerNormalization": 1e-5, "GroupNormalization": 1e-5}
"""torch's default for the same layer."""
_FLATTEN_ORDER = "flatten_order"
_REARRANGE = ("reshape", "take")
"""Who does one of these is believed to know the order."""
_BOTH = ("BatchNormalization", "GroupNormalization")
_SAVE = "save.layout"


def lint_layouts(plan: Plan, target: TargetStructure, adapted: Mapping[str, int]) -> Iterator[PlanWarning]:
    """Yield the warnings.

    Args:
        plan: the finished plan.
        target: the target's structure.
        adapted: the weights whose layout in the source is known, and how many of their transforms adapt them.
    """
    for a in plan.assignments:
        if a.target in adapted:
            yield from _flattened(a, target, adapted[a.target])
            yield from _reset_before(a, target)
    yield from _epsilons("target", [a.target for a in plan.assignments if a.target in adapted], target)
    if plan.save_layout != "keras":
        yield from _written(plan, target)


def _flattened(a: Assignment, target: TargetStructure, steps: int) -> Iterator[PlanWarning]:
    """Warn of rows in another order: a Flatten gives (C, H, W) in torch, (H, W, C) in Keras."""
    layer, _, own = a.target.rpartition("/")
    shape = _row_of(a.target, target)
    if not shape:
        return
    wanted, given = [shape[-1], *shape[:-1]], dict(_parts(t) for t in a.transforms[steps:])
    order = given.get(_FLATTEN_ORDER)
    if order == wanted or (order is None and not given.keys().isdisjoint(_REARRANGE)):
        return
    but = f", and not in that of flatten_order {order}" if order else ""
    text = f"{layer} follows a Flatten of a map {list(shape)}, which torch flattens in another order{but}"
    mend = f"give its rule the transform {{{own}: [{{flatten_order: {wanted}}}]}}"
    where = UNMATCHED_RULE if a.rule == UNMATCHED_RULE else f"mapping.{a.rule}"
    yield PlanWarning("flatten-order", where, f"{text}: {mend}")


def _row_of(weight: str, target: TargetStructure) -> Shape:
    """Return the map that the first axis of a weight is a flattened one of; empty if it is none."""
    layer, _, own = weight.rpartition("/")
    state, first = target.by_name.get(layer), target.catalog[weight].shape[:1]
    if state is None or state.flattened is None or (state.layer_class == "Dense" and own != "kernel"):
        return ()
    return state.flattened if first == (math.prod(state.flattened),) else ()


def _parts(transform: object) -> tuple[object, object]:
    """Return the name of a transform as written, and its arguments, a list if they are one."""
    name, arguments = next(iter(transform.items())) if isinstance(transform, Mapping) else (transform, None)
    return name, list(arguments) if isinstance(arguments, tuple) else arguments


def _reset_before(a: Assignment, target: TargetStructure) -> Iterator[PlanWarning]:
    states = [target.by_name[n] for n in ancestors(a.target) if n in target.by_name]
    if a.target.endswith("/recurrent_kernel") and any(s.reset_after is False for s in states):
        text = f"{a.target} is that of a GRU with reset_after=False, which computes something else than torch's"
        yield PlanWarning("reset-after", f"mapping.{a.rule}", f"{text}: build it with reset_after=True")


def _epsilons(where: str, weights: Iterable[str], target: TargetStructure) -> Iterator[PlanWarning]:
    layers = dict.fromkeys(w.rpartition("/")[0] for w in weights)
    states = [target.by_name[n] for n in layers if n in target.by_name]
    other = [s for s in states if s.epsilon is not None and s.epsilon != _EPSILON.get(s.layer_class or "", s.epsilon)]
    if other:
        names = listed([s.name for s in other], _SOME)
        text = f"{names}: epsilon is {other[0].epsilon:g} where torch's default is 1e-05"
        why = "epsilon and momentum are configuration, which weights do not carry"
        mend = "build the target with torch's values" if where == "target" else "build the modules with the target's"
        yield PlanWarning("epsilon", where, f"{text}; {why}: {mend}")


def _written(plan: Plan, target: TargetStructure) -> Iterator[PlanWarning]:
    """Warn of what a file in torch's layout cannot say."""
    names = [w.name for w in target.catalog]
    unknown = unknown_to(plan.save_layout, target)
    if unknown:
        text = (
            f"{plan.save_layout}'s layout knows no such layer, so names and axes stay Keras's: {listed(unknown, _SOME)}"
        )
        yield PlanWarning("no-layout", _SAVE, text)
    yield from _epsilons(_SAVE, names, target)
    for name in names:
        if shape := _row_of(name, target):
            text = f"{name} is written with its rows in the order in which Keras flattens a map {list(shape)}"
            yield PlanWarning("flatten-order", _SAVE, f"{text}: torch's Flatten has the channels first")
    halves = [x.name for x in target.layers if x.layer_class in _BOTH and _is_half(x.name, target)]
    if halves:
        text = f"{listed(halves, _SOME)}: torch's has weight and bias, or neither; what lacks is not written"
        yield PlanWarning("half-affine", _SAVE, f"{text}, so load it with strict=False")


def _is_half(layer: str, target: TargetStructure) -> bool:
    return (f"{layer}/gamma" in target.catalog) != (f"{layer}/beta" in target.catalog)
