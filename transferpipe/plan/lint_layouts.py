"""Warnings about weights that come in torch's layout: what the layout cannot settle by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from transferpipe.plan.layouts.export import unknown_to
from transferpipe.plan.model import Assignment, Plan, PlanWarning
from transferpipe.plan.pairing import listed
from transferpipe.plan.structure import TargetStructure, ancestors

_SOME = 3
_EPSILON = {"BatchNormalization": 1e-5, "LayerNormalization": 1e-5, "GroupNormalization": 1e-5}
"""torch's default for the same layer."""
_REARRANGE = ("flatten_order", "reshape", "take")


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
    yield from _epsilons(plan, target, adapted)
    yield from _unknown(plan, target)


def _flattened(a: Assignment, target: TargetStructure, steps: int) -> Iterator[PlanWarning]:
    """Warn of rows in another order: a Flatten gives (C, H, W) in torch, (H, W, C) in Keras."""
    layer, _, own = a.target.rpartition("/")
    state = target.by_name.get(layer)
    rearranged = any(_name(t) in _REARRANGE for t in a.transforms[steps:])
    if own != "kernel" or state is None or state.flattened is None or rearranged:
        return
    *places, channels = state.flattened
    order = f"{{kernel: [{{flatten_order: {[channels, *places]}}}]}}"
    text = f"{layer} follows a Flatten of a map {list(state.flattened)}, which torch flattens in another order"
    yield PlanWarning("flatten-order", f"mapping.{a.rule}", f"{text}: give its rule the transform {order}")


def _name(transform: object) -> object:
    return next(iter(transform), None) if isinstance(transform, Mapping) else transform


def _reset_before(a: Assignment, target: TargetStructure) -> Iterator[PlanWarning]:
    states = [target.by_name[n] for n in ancestors(a.target) if n in target.by_name]
    if a.target.endswith("/recurrent_kernel") and any(s.reset_after is False for s in states):
        text = f"{a.target} is that of a GRU with reset_after=False, which computes something else than torch's"
        yield PlanWarning("reset-after", f"mapping.{a.rule}", f"{text}: build it with reset_after=True")


def _epsilons(plan: Plan, target: TargetStructure, adapted: Mapping[str, int]) -> Iterator[PlanWarning]:
    layers = dict.fromkeys(a.target.rpartition("/")[0] for a in plan.assignments if a.target in adapted)
    states = [target.by_name[n] for n in layers if n in target.by_name]
    other = [s for s in states if s.epsilon is not None and s.epsilon != _EPSILON.get(s.layer_class or "", s.epsilon)]
    if other:
        names = listed([s.name for s in other], _SOME)
        text = f"{names}: epsilon is {other[0].epsilon:g} where torch's default is 1e-05"
        why = "epsilon and momentum are configuration, which weights do not carry: build the target with torch's values"
        yield PlanWarning("epsilon", "target", f"{text}; {why}")


def _unknown(plan: Plan, target: TargetStructure) -> Iterator[PlanWarning]:
    unknown = unknown_to(plan.save_layout, target) if plan.save_layout != "keras" else []
    if unknown:
        text = (
            f"{plan.save_layout}'s layout knows no such layer, so names and axes stay Keras's: {listed(unknown, _SOME)}"
        )
        yield PlanWarning("no-layout", "save.layout", text)
