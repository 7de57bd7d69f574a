"""What two models computed, compared layer by layer, and the verdict.

The verdict is that of the ends: the model's outputs, or, where these depend on weights that were kept, the last layer
that does not. A difference in between that is gone by the end is one of representation, such as an activation that is
a layer of its own in one of the two. Where an end says too little (the inputs hardly change it), what lies before
decides. Where somebody gives what layers compute, by their names, each of these counts like an output.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from transferpipe.prove.parity.compare import (
    BOTH,
    Difference,
    Tolerance,
    activate_like,
    compare,
    is_constant,
)
from transferpipe.prove.parity.keras_trace import Call, KerasRunner, Trace
from transferpipe.prove.parity.pairs import dependent, kept_between, untested_outputs
from transferpipe.prove.parity.result import FAIL, FILE_ADVICE, INCONCLUSIVE, PASS, Compared, Parity
from transferpipe.prove.parity.runner import Runner
from transferpipe.text.listing import listed


@dataclass(frozen=True)
class KeptWeights:
    """Weights of the target that take no value.

    Attributes:
        by_rule: those of which a rule says so, with `from: null` or `on_mismatch: keep`.
        without_rule: those that no rule mentions.
        taking: the layers that take values.
    """

    by_rule: tuple[str, ...] = ()
    without_rule: tuple[str, ...] = ()
    taking: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Setup:
    """Two models, what they are run on, and how their layers belong together.

    Attributes:
        target: the model that is judged.
        trace: what it computed.
        data: on which inputs.
        inputs: these in words.
        against: the other in words.
        reference: what the other computed; its calls by label are found through `pairs`.
        pairs: the reference's layer for the target's.
        tolerance: how far they may be apart.
        rounding: how much farther quantization may bring an output, or a layer's output, by the target's label.
        kept: which of the target's weights were kept, and whether that is meant.
        settings: the other's layers, where they are Keras's.
        may_end_elsewhere: whether the models may end in different layers: outputs of other shapes then say nothing.
        asked_for: the target's labels whose values somebody gave: a difference there fails whatever the ends are.
    """

    target: Runner
    trace: Trace
    data: list[NDArray[Any]]
    inputs: str
    against: str
    reference: Trace
    pairs: Mapping[str, str]
    tolerance: Tolerance
    rounding: Mapping[str, float] = field(default_factory=dict)
    kept: KeptWeights = field(default_factory=KeptWeights)
    settings: Mapping[str, Any] = field(default_factory=dict)
    may_end_elsewhere: bool = False
    asked_for: frozenset[str] = frozenset()

    def tolerance_of(self, label: str) -> Tolerance:
        """Return how far an output, or a layer's output, may be apart."""
        return replace(self.tolerance, rounding=self.rounding.get(label, 0.0))


def judge(setup: Setup) -> Parity:
    """Compare what both computed and give the verdict."""
    from transferpipe.prove.parity.causes.cause import find_cause

    kept = _follow_kept(setup)
    entries, compared = _compare(setup, kept)
    parity = Parity(INCONCLUSIVE, setup.against, setup.inputs, entries)
    if not compared or any(e.reason == BOTH and e.name in setup.trace.outputs for e in entries):
        return replace(parity, reason=_nothing(entries, kept.heads))
    ends = [pair for pair in compared if pair[0].name in setup.trace.outputs] or [compared[-1]]
    if first := _find_deciding(setup, compared, ends):
        by_kept = first.name in kept.changed
        cause = _of_kept(kept.lost) if by_kept else find_cause(setup, [e for e, _ in compared], first)
        return replace(parity, verdict=FAIL, first=first.name, reason=_words(first), cause=cause)
    if reason := _find_doubt(setup, ends):
        return replace(parity, reason=reason)
    if untested := _find_untested(setup, [e.name for e, _ in compared], (*kept.tainted, *kept.heads, *kept.lost)):
        return replace(parity, reason=_of_untested(untested, setup.against))
    return replace(parity, verdict=PASS)


_Comparisons = Sequence[tuple[Compared, Difference]]
"""Layers and outputs that were compared, and how they differ, in the order in which the target computes them."""


class _FollowedKept(NamedTuple):
    """What the weights that were kept change.

    Attributes:
        heads: those that nothing behind them compares, such as a new head's.
        tainted: what depends on these, by label: a difference there says nothing.
        lost: those that no rule mentions and that feed layers that take values, so that what they change counts.
        changed: what depends on these.
    """

    heads: tuple[str, ...]
    tainted: Collection[str] = ()
    lost: Sequence[str] = ()
    changed: Collection[str] = ()


def _follow_kept(setup: Setup) -> _FollowedKept:
    kept = (*setup.kept.by_rule, *setup.kept.without_rule)
    if not kept or not isinstance(setup.target, KerasRunner):
        return _FollowedKept(kept)
    run = (setup.target, setup.data, setup.trace)
    lost = kept_between(*run, setup.kept.without_rule, setup.kept.taking)
    changed = dependent(*run, lost)
    heads = tuple(name for name in kept if name not in lost)
    return _FollowedKept(heads, dependent(*run, heads), lost, changed)


def _compare(setup: Setup, kept: _FollowedKept) -> tuple[tuple[Compared, ...], _Comparisons]:
    """Return the entries of all layers and outputs, and those that were compared."""
    layers = _layer_differences(setup)
    found = {**layers, **_output_differences(setup)}
    entries = tuple(_entry(key, diff, key[0] in kept.tainted) for key, diff in found.items())
    if setup.may_end_elsewhere and any(e.status != "not compared" for e in entries[: len(layers)]):
        entries = tuple(_without_other_ends(e, setup) for e in entries)
    return entries, [(e, found[(e.name, e.reference)]) for e in entries if e.status != "not compared"]


def _weak(ends: _Comparisons) -> list[Compared]:
    """Return the ends that are equal and hardly change with the inputs."""
    return [entry for entry, diff in ends if entry.status == "equal" and not diff.conclusive]


def _find_deciding(setup: Setup, compared: _Comparisons, ends: _Comparisons) -> Compared | None:
    """Return the first difference, where an end differs, or one that counts like an end, or an end says too little."""
    differing = [entry for entry, _ in compared if entry.status == "differs"]
    decide = setup.asked_for.union(entry.name for entry, _ in ends)
    is_decided = any(entry.name in decide for entry in differing) or bool(_weak(ends))
    return differing[0] if differing and is_decided else None


def _find_doubt(setup: Setup, ends: _Comparisons) -> str:
    """Return why ends that are equal say nothing; empty where they do."""
    dead = next((e for e, _ in ends if (v := _value(setup, e)) is not None and _is_dead(v)), None)
    if dead is not None:
        what = f"{dead.name} does not depend on the inputs: a constant output equals nothing but itself"
        return f"{what}; {FILE_ADVICE}" if setup.inputs.startswith("random") else what
    weak = _weak(ends)
    if weak:
        return f"the inputs hardly change {weak[0].name}, so that its comparison says little; {FILE_ADVICE}"
    return ""


def _find_untested(setup: Setup, compared: Sequence[str], new: Collection[str]) -> list[str]:
    """Return the outputs that weights move which nothing that was compared tests, but for those of kept weights."""
    left = [name for name in setup.trace.outputs if name not in compared and name not in new]
    if not left or not isinstance(setup.target, KerasRunner):
        return left
    weights = [name for name in setup.target.walked.values if name not in new]
    moved = untested_outputs(setup.target, setup.data, setup.trace, weights, compared)
    return [name for name in left if name in moved]


def _of_untested(names: Sequence[str], against: str) -> str:
    is_one = len(names) == 1
    return (
        f"{listed(names)} {'is' if is_one else 'are'} not compared with anything ({against} has no such output), and "
        f"depend{'s' * is_one} on weights that nothing else tests; "
        "give the expected values: verify: {parity: {inputs: x.npz, expected: y.npz}}"
    )


def _is_dead(value: NDArray[Any]) -> bool:
    return value.dtype.kind in "fV" and is_constant(value)


def _value(setup: Setup, entry: Compared) -> NDArray[Any] | None:
    if entry.name in setup.trace.outputs:
        return setup.trace.outputs[entry.name]
    call = setup.trace.by_label.get(entry.name)
    return call.value if call else None


def _of_kept(lost: Sequence[str]) -> str:
    return (
        f"no rule gives {listed(lost, 1)} a value, and layers that take values depend on that: write a rule that "
        "transfers them, or one with `from: null` if they are meant to be new"
    )


def _nothing(entries: Sequence[Compared], kept: Sequence[str]) -> str:
    if any(e.reason == BOTH for e in entries):
        return f"{BOTH}, first at {next(e.name for e in entries if e.reason == BOTH)}; {FILE_ADVICE}"
    if entries:
        return f"everything that could be compared depends on weights that were kept, such as {kept[0]}"
    return "the two models have no outputs and no paired layers that could be compared"


def _words(entry: Compared) -> str:
    if entry.reason:
        return f"{entry.name} differs: {entry.reason}"
    part = f", {100 * entry.difference / entry.scale:.3g} % of its largest value" if entry.scale else ""
    return f"{entry.name} is the first that differs, by {entry.difference:.2g}{part}"


def _entry(key: tuple[str, str], diff: Difference, tainted: bool) -> Compared:
    # Where weights were kept, equal values are no accident, and different ones say nothing.
    status = "equal" if diff.agrees else "not compared" if tainted or diff.reason == BOTH else "differs"
    reason = diff.reason if diff.reason == BOTH or status != "not compared" else "depends on weights that were kept"
    numbers = (diff.largest, diff.allowed, diff.scale)
    return Compared(*key, *numbers, status, reason)  # type: ignore[arg-type]


def _without_other_ends(entry: Compared, setup: Setup) -> Compared:
    """Return the entry of an output, not compared where the other model's has another shape: it ends elsewhere."""
    if entry.name in setup.trace.outputs and math.isinf(entry.difference) and entry.reason.startswith("shape"):
        return replace(entry, status="not compared", reason=f"the models end in different layers: {entry.reason}")
    return entry


def _layer_differences(setup: Setup) -> dict[tuple[str, str], Difference]:
    """Compare the outputs of paired layers, in the order in which the target computes them."""
    found = {}
    for label, call in setup.trace.by_label.items():
        there = setup.pairs.get(call.name)
        # What somebody gives by name may be a further call of a layer, and its first not among it.
        theirs = label if label in setup.asked_for else replace(call, name=there).label if there else ""
        other = setup.reference.by_label.get(theirs)
        if other is None or call.value is None or other.value is None or label in setup.trace.outputs:
            continue
        other = part_of(setup, call, other)
        assert other.value is not None
        diff = compare(call.value, other.value, setup.tolerance_of(label))
        if not diff.agrees and _agrees_activated(setup, call, other):
            diff = replace(diff, agrees=True, reason=ACTIVATED)
        found[(label, other.label)] = diff
    return found


def part_of(setup: Setup, call: Call, other: Call) -> Call:
    """Return the part of the original's output that a layer stands for, where several share one of the original's.

    Query, key and value are often one product there, which is split behind it. The parts are taken in the target's
    order, unless another one agrees.
    """
    value = other.value
    if call.value is None or value is None or call.value.ndim != value.ndim or call.value.shape == value.shape:
        return other
    there = setup.pairs.get(call.name)
    sharing = [c for c in setup.trace.calls if setup.pairs.get(c.name) == there and c.number == call.number]
    widths = [c.value.shape[-1] for c in sharing if c.value is not None and c.value.ndim == value.ndim]
    axis = next((axis for axis in (-1, 1) if sum(widths) == value.shape[axis]), None)
    if there is None or axis is None or len(widths) != len(sharing) or len(widths) < 2:
        return other
    # No layer gives a part, and what follows the whole need not follow it.
    parts = [replace(other, layer=None, output=part) for part in np.split(value, np.cumsum(widths)[:-1], axis)]
    own = parts[sharing.index(call)]
    return next((part for part in (own, *parts) if _part_agrees(setup, call, part)), own)


def _part_agrees(setup: Setup, call: Call, part: Call) -> bool:
    assert call.value is not None and part.value is not None
    is_equal = compare(call.value, part.value, setup.tolerance_of(call.label)).agrees
    return is_equal or _agrees_activated(setup, call, part)


ACTIVATED = "equal behind the activation"
"""Why a layer counts as equal whose activation is one of its own in the other model: whether it is the right one, what
follows shows."""
_ACTIVATIONS = ("Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "Softmax", "Dropout", "SpatialDropout2D", "Identity")


def _agrees_activated(setup: Setup, call: Call, other: Call) -> bool:
    """Tell whether both agree once the activation that is a layer of its own in one of them is applied."""
    here, there = _behind(setup.trace, call), _behind(setup.reference, other)
    if setup.reference.outputs and (activated := activate_like(call, other)) is not None:
        there = [*there, activated]  # whether it is the right activation shows at the outputs
    tolerance = setup.tolerance_of(call.label)
    return any(compare(a, b, tolerance).agrees for a in here for b in there)


def _behind(trace: Trace, call: Call) -> list[NDArray[Any]]:
    """Return the output of a layer, and those of the activations that follow it at once."""
    values = [call.value] if call.value is not None else []
    at = call
    for later in trace.calls[trace.calls.index(call) + 1 :] if call.layer is not None else ():
        # The very tensor, by identity: another branch with equal values is not what follows.
        if type(later.layer).__name__ in _ACTIVATIONS and later.args and later.args[0] is at.output:
            at = later
            values += [later.value] if later.value is not None else []
    return values


def _output_differences(setup: Setup) -> dict[tuple[str, str], Difference]:
    """Compare the models' outputs: by name where all names agree, else by order; a callable's may be some only."""
    here, there = setup.trace.outputs, setup.reference.outputs
    if set(there) <= set(here):
        pairs = [(n, n) for n in here if n in there]
    elif len(here) == len(there):
        pairs = list(zip(here, there, strict=True))
    else:
        pairs = []
    return {(n, o): compare(here[n], there[o], setup.tolerance_of(n)) for n, o in pairs}
