"""How the axes of a source weight become those of the target: by the rule, the graph, evidence or the class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from transferpipe.planning.layouts import layout_called
from transferpipe.planning.layouts.adapter import Adapted
from transferpipe.planning.layouts.evidence import AxesEvidence
from transferpipe.planning.model import UNMATCHED_RULE, PlanWarning
from transferpipe.planning.pairing.taken import Pairing, Taken
from transferpipe.recipe.layouts import KERAS
from transferpipe.text.listing import and_more
from transferpipe.weights.name import WeightName
from transferpipe.weights.spec import IN_OUT, OUT_IN, Axes, WeightSpec

_TURN = {"transpose": [1, 0]}
_AS_TEXT: Mapping[Axes, str] = {IN_OUT: "(in, out)", OUT_IN: "(out, in)"}


def arrange(source: str, spec: WeightSpec, choice: Adapted, weight: str, pairing: Pairing) -> Taken:
    """Return the source weight `spec` with the transforms that lead from its axes to those of the target weight.

    What counts, the first of these that there is:

    1. the layout that the rule states;
    2. a rule that begins with a transpose of its own: it arranges the axes of what the source's layout gives;
    3. the graph, where the file has one;
    4. the bias beside a matrix, or the matrices around it;
    5. the class of the target's layer. For a file whose graph would tell, it never counts.
    """
    names, target = (spec.name,), pairing.target[weight].shape
    if pairing.stated == KERAS:
        return Taken(source, names, adapted=True)
    by_class = Taken(source, names, choice.steps_for([spec.shape], target), adapted=True)
    if pairing.stated is not None and not layout_called(pairing.stated).has_graph:
        return by_class
    has_graph = layout_called(pairing.layout(source)).has_graph
    # Where a graph does not tell, the weight is taken as it is, and vouched for if the class would not change it
    # either.
    untold = Taken(source, names, adapted=not by_class.steps) if has_graph else by_class
    if _begins_with_transpose(weight, pairing):
        return untold
    if not _is_matrix(spec, choice, by_class):
        return by_class if spec.axes or _is_regrouped(spec, choice, by_class) else untold
    axes = spec.axes or _by_evidence(source, spec, pairing)
    if axes == IN_OUT:
        return Taken(source, names, _turn(choice, spec, target), adapted=True)
    return by_class if axes else untold


def _begins_with_transpose(weight: str, pairing: Pairing) -> bool:
    steps = pairing.rule.transforms_of(WeightName(weight).own) if pairing.rule else ()
    return bool(steps) and (steps[0] == "transpose" or (isinstance(steps[0], Mapping) and "transpose" in steps[0]))


def _is_matrix(spec: WeightSpec, choice: Adapted, by_class: Taken) -> bool:
    """Tell whether the weight is a matrix that torch keeps as (out, in)."""
    # A third of a fused projection is cut out before it is transposed, so that its steps begin otherwise.
    return len(spec.shape) == 2 and (by_class.steps[:1] == (_TURN,) or choice.third is not None)


def _is_regrouped(spec: WeightSpec, choice: Adapted, by_class: Taken) -> bool:
    """Tell whether the class takes a vector in groups, as the bias of an attention's heads, or a third of one."""
    in_groups = all(isinstance(step, Mapping) and "reshape" in step for step in by_class.steps)
    return len(spec.shape) == 1 and (in_groups or choice.third is not None)


def _turn(choice: Adapted, spec: WeightSpec, target: tuple[int, ...]) -> tuple[Any, ...]:
    """Return the transforms for a matrix that is kept as (in, out): to torch's order, and on from there."""
    steps = choice.steps_for([spec.shape[::-1]], target)
    # Two transposes in a row are none: the plan shows the shorter form.
    return steps[1:] if steps[:1] == (_TURN,) else (_TURN, *steps)


def _by_evidence(source: str, spec: WeightSpec, pairing: Pairing) -> Axes | None:
    found = pairing.evidence(source, spec.name)
    if found is None:
        return None
    # Only what the neighbours say against torch's own order is worth a warning: else class and evidence agree.
    if found.witness is not None and found.axes != OUT_IN:
        pairing.judged.setdefault(pairing.where, {})[spec] = found
    return found.axes


def warn_of_judged(judged: Mapping[str, Mapping[WeightSpec, AxesEvidence]]) -> Iterator[PlanWarning]:
    """Yield one warning a rule of the square matrices whose axes only those around them tell."""
    for where, found in judged.items():
        for axes in dict.fromkeys(e.axes for e in found.values()):
            specs = [spec for spec, e in found.items() if e.axes == axes]
            witness = next(e.witness for e in found.values() if e.axes == axes)
            assert witness is not None
            more = and_more(len(specs) - 1, "more are") or " is"
            other = OUT_IN if axes == IN_OUT else IN_OUT
            text = (
                f"{specs[0].name} {specs[0].shape}{more} square and taken as {_AS_TEXT[axes or OUT_IN]}; "
                f"{witness.name} {witness.shape}, whose bias has {witness.shape[1]} numbers, is (in, out)"
            )
            give = "give it a rule with" if where == UNMATCHED_RULE else "set its rule's"
            fix = f"if the square one is {_AS_TEXT[other]}, {give} `layout: {'torch' if other == OUT_IN else 'keras'}`"
            yield PlanWarning("square-axes", where, f"{text}: {fix}")
