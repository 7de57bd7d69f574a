"""Warnings about single weights that hold what trained ones do not: constants, copies, forgotten statistics, outliers.

None of them is certain: some models hold such weights on purpose. Each is bounded so that pretrained models, with
their tied embeddings, collapsed layers and outputs of any scale, pass without a word.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from transferpipe.files.segment import Segment
from transferpipe.planning.lint.whole_plan import where_of
from transferpipe.planning.model import Assignment, PlanWarning, SourceRef
from transferpipe.planning.plan import Plan
from transferpipe.planning.transforms import parse_transforms
from transferpipe.text.listing import listed
from transferpipe.values.cast_errors import CastError
from transferpipe.values.seen import SeenNumbers

_KERNELS = ("kernel", "recurrent_kernel", "depthwise_kernel", "pointwise_kernel", "weight")
_EMBEDDING = ("embeddings", "reverse_embeddings")
_MEANS, _VARIANCES = ("moving_mean", "running_mean"), ("moving_variance", "running_var")
_FEW_ZEROS, _FEW = 4, 8  # so many numbers may be alike by chance, or by design, such as those of a 1x1 fusing kernel
_BY_DESIGN = 4  # so many copied layers, and most of all, are a whole network that the model holds twice
# Means and variances grow slowly from layer to layer, and scales stay near 1 in trained networks: a hundred times the
# usual gain of its kind is a unit or a layer mixed up. Where few layers can be compared, half of that.
_OUTLIER, _LARGE = 100.0, 2.0
_NARROW, _COLLAPSED, _ALIKE = 1e-3, 1e-7, 30.0  # weight decay leaves less than the second of a layer that is not used
_CUT, _MANY_CUT, _FEW_CUT = 0.25, 16, 4  # part of a kernel, and numbers of it, that are zeros at its end
_ABSURD = 1e6  # times the median size, and as such: a flipped bit of the exponent gives 1e30

Locate = Callable[[SourceRef], Segment | None]


@dataclass(frozen=True)
class Noticed:
    """What a run noticed while it wrote and verified.

    Attributes:
        digests: of each weight as it was written.
        seen: of the numbers of assigned weights that no edit changes.
        felt: what casts changed.
    """

    digests: Mapping[str, str] = field(default_factory=dict)
    seen: Mapping[str, SeenNumbers] = field(default_factory=dict)
    felt: Mapping[str, CastError] = field(default_factory=dict)


def suspicious_values(
    plan: Plan, locate: Locate, found: Noticed, tied: Callable[[str, str], bool] = lambda *_: False
) -> Iterator[PlanWarning]:
    """Yield the warnings about the assigned weights.

    Args:
        plan: the plan.
        locate: where a source weight lies in a file as it is in memory, None if it does not.
        found: what is known of the values.
        tied: whether two weights of the target had equal values before.
    """
    seen = [a for a in plan.assignments if a.target in found.seen]
    # What a step puts in of its own, such as padding, is alike on purpose.
    telling = [a for a in seen if not any(step.fills for step in parse_transforms(a.steps))]
    yield from _constant_kernels(telling, found.seen)
    yield from _copies(telling, locate, found, tied)
    yield from _reset_statistics(telling, found.seen)
    yield from _outliers(telling, found.seen)
    yield from _find_damage(telling, found.seen)


def _constant_kernels(assignments: list[Assignment], seen: Mapping[str, SeenNumbers]) -> Iterator[PlanWarning]:
    """A kernel of one number gives every unit the same output; trained ones never are."""
    for a in assignments:
        values = seen[a.target]
        # Biases and scales are constant before training, and often after it.
        if len(a.shape) < 2 or a.own not in (*_KERNELS, *_EMBEDDING) or not values.constant:
            continue
        names = ", ".join(r.name for r in a.sources)
        if values.holds_only(0) and values.count >= _FEW_ZEROS:
            yield PlanWarning("constant-kernel", where_of(a), f"{a.target} gets only zeros, from {names}")
        elif values.count >= _FEW:
            # Other constants than zero need more numbers to be no accident.
            text = f"{a.target} gets {values.first:.6g} in all its places, from {names}"
            yield PlanWarning("constant-kernel", where_of(a), text)


def _copies(
    assignments: list[Assignment], locate: Locate, found: Noticed, tied: Callable[[str, str], bool]
) -> Iterator[PlanWarning]:
    """Two layers are never trained to the same bits: one was written over the other, or they are tied on purpose.

    Tied on purpose are embeddings, tensors that share their place in the file, weights that were equal in the target
    too, which its class ties, and networks that a model holds twice (a momentum encoder, the target network of
    reinforcement learning), which are known by their number.
    """
    groups: dict[tuple[str, tuple[int, ...], str], list[Assignment]] = {}
    for a in assignments:
        # Constants are alike in many layers, and mean nothing.
        if seen_enough(found.seen[a.target]) and a.target in found.digests and a.own not in _EMBEDDING:
            groups.setdefault((found.digests[a.target], a.shape, a.dtype), []).append(a)
    pairs: dict[tuple[str, str], list[Assignment]] = {}
    for group in groups.values():
        # Each is compared with the first alone: of n copies, n - 1 warnings say it all.
        first = group[0]
        for other in group[1:]:
            if _are_copies(first, other, locate) and not tied(first.target, other.target):
                layers = (_layer(first), _layer(other))
                pairs.setdefault(layers, []).append(other)
    # Layers with a kernel: others, such as normalizations, are copied by chance more easily.
    holding = {_layer(a) for a in assignments if len(a.shape) > 1}
    copied = {layer for pair in pairs for layer in pair if layer in holding}
    if len(pairs) >= _BY_DESIGN and 2 * len(copied) > len(holding):
        return
    for (one, two), held in pairs.items():
        names = listed([a.sources[0].own for a in held])
        text = f"{one} and {two} hold the same values, bit for bit ({names}): one may have been written over the other"
        yield PlanWarning("duplicate-weights", where_of(held[0]), text)


def seen_enough(seen: SeenNumbers) -> bool:
    """Tell whether there are so many different numbers that two weights do not agree in all of them by chance."""
    return seen.count >= _FEW and not seen.constant and not seen.only_zeros_and_ones


def _layer(assignment: Assignment) -> str:
    return assignment.sources[0].layer or assignment.sources[0].name


def _are_copies(one: Assignment, two: Assignment, locate: Locate) -> bool:
    if any(len(a.sources) != 1 for a in (one, two)) or one.sources[0].source != two.sources[0].source:
        return False
    # What one layer holds twice, it computes: KerasHub's DINOV2 keeps positions as they are and as they are resized.
    if one.sources[0].layer == two.sources[0].layer:
        return False
    here, there = locate(one.sources[0]), locate(two.sources[0])
    # A tensor that two names share in the file is one tensor, and tied on purpose.
    return here is None or there is None or (here.path, here.offset) != (there.path, there.offset)


def _reset_statistics(assignments: list[Assignment], seen: Mapping[str, SeenNumbers]) -> Iterator[PlanWarning]:
    """Training moves the statistics of every BatchNormalization that runs: those at (0, 1) were lost, or never ran."""
    layers: dict[str, dict[str, Assignment]] = {}
    for a in assignments:
        if a.own in (*_MEANS, *_VARIANCES):
            layers.setdefault(a.layer, {})[a.own] = a
    means = {layer: a for layer, held in layers.items() for own, a in held.items() if own in _MEANS}
    variances = {layer: a for layer, held in layers.items() for own, a in held.items() if own in _VARIANCES}
    reset = [
        layer
        for layer in means.keys() & variances.keys()
        if seen[means[layer].target].holds_only(0) and seen[variances[layer].target].holds_only(1)
    ]
    # Where all are at their initial values, the network was never trained: nothing was lost.
    if len(reset) < len(means):
        for layer in sorted(reset, key=list(means).index):
            ref = means[layer].sources[0].layer
            text = f"{layer} gets mean 0 and variance 1 from {ref}, the initial values, while others are trained"
            yield PlanWarning("reset-statistics", where_of(means[layer]), text)


def _outliers(assignments: list[Assignment], seen: Mapping[str, SeenNumbers]) -> Iterator[PlanWarning]:
    """A kernel's spread times the root of its fan-in is its gain, near 1 from initialisation on (He et al. 2015).

    Small ones are rarer to be faults: weight decay shrinks what is not used, and that is seldom one layer alone.
    """
    kinds: dict[str, dict[str, float]] = {}
    for a in assignments:
        own = a.own
        if len(a.shape) > 1 and own in _KERNELS:
            kinds.setdefault(own, {})[a.target] = seen[a.target].spread * math.sqrt(_fan_in(own, a.shape))
    # Kernels are compared with those of their own kind: depthwise ones are of another scale.
    siblings = {own: far for own, gains in kinds.items() if (far := dict(_far_ones(gains)))}
    for a in assignments if siblings else ():  # most models have none that stand out
        others = siblings.get(a.own, {}).get(a.target)
        if others is None:
            continue
        gain = kinds[a.own][a.target]
        # One sibling alone may be the odd one itself, such as one that weight decay has shrunk to nothing.
        large = _LARGE if others.count > 1 else _OUTLIER / 2
        if others.median > 0 and math.isfinite(gain) and gain > max(_OUTLIER * others.median, large):
            text = f"the values of {a.target} spread {gain / others.median:,.0f} times as wide as those of its siblings"
            yield PlanWarning("outlier-spread", where_of(a), f"{text} (for their number of inputs)")
        elif _is_narrow(gain, others) and a.target != next(reversed(kinds[a.own])):  # an output's scale is its labels'
            text = f"the values of {a.target} spread {others.median / gain:,.0f} times less wide than those of its"
            yield PlanWarning("outlier-spread", where_of(a), f"{text} siblings (for their number of inputs)")


@dataclass(frozen=True)
class Siblings:
    """The gains of all kernels of a kind but one: how many, the median (0 of none), and the ends."""

    count: int
    median: float
    least: float
    most: float


def _far_ones(gains: Mapping[str, float]) -> Iterator[tuple[str, Siblings]]:
    """Yield the kernels whose gains may be too large or too small, with their siblings': of thousands, hardly any.

    Without one of them, the median is that of all, or one beside it.
    """
    ordered, middle = sorted(gains.values()), (len(gains) - 1) // 2
    low, high = ordered[max(middle - 1, 0)], ordered[min(middle + 2, len(ordered) - 1)]
    if any(not _NARROW * high <= gain <= _OUTLIER * low for gain in ordered):
        yield from leave_each_out(gains)


def leave_each_out(gains: Mapping[str, float]) -> Iterator[tuple[str, Siblings]]:
    """Yield every kernel with what its siblings' gains are: sorted once, for there may be thousands of them."""
    names = sorted(gains, key=lambda name: gains[name])
    values, count = [gains[name] for name in names], len(names) - 1
    for place, name in enumerate(names):
        if not count:
            yield name, Siblings(0, 0.0, 0.0, 0.0)
            continue

        # The k-th of all the others, without making a list of them for each.
        def other(k: int, place: int = place) -> float:
            return values[k + (k >= place)]

        yield name, Siblings(count, (other((count - 1) // 2) + other(count // 2)) / 2, other(0), other(count - 1))


def _is_narrow(gain: float, others: Siblings) -> bool:
    """Tell whether a kernel is the only one that is small among several, and not so small that it is unused."""
    if others.count < 2:
        return False
    # Only where the siblings agree among each other does it say anything that one does not.
    alone = others.median < _ALIKE * others.least and others.most < _ALIKE * others.median
    return alone and _COLLAPSED * others.median < gain < _NARROW * others.median


def _find_damage(assignments: list[Assignment], seen: Mapping[str, SeenNumbers]) -> Iterator[PlanWarning]:
    """A file that was cut short, or room that was never filled, ends in zeros; a flipped bit is a number beyond all."""
    for a in assignments:
        values = seen[a.target]
        is_kernel = len(a.shape) > 1 and a.own in _KERNELS
        few = _MANY_CUT if values.zeros_between else _FEW_CUT  # where others are zero as well, some are so at the end
        # Both: a quarter of a small kernel is a handful, and a handful of a large one is nothing.
        if is_kernel and not values.constant and values.zeros_last >= max(few, _CUT * values.count):
            text = f"the last {values.zeros_last:,} of the {values.count:,} values of {a.target} are zero"
            yield PlanWarning("zeros-at-end", where_of(a), f"{text}: was the file cut short?")
        # As such and beside the others: a weight of large numbers is no damage, nor is one number among zeros.
        if values.largest > _ABSURD and values.largest > _ABSURD * values.usual > 0:
            text = f"{a.target} holds {values.largest:.3g}, where its values are usually about {values.usual:.3g}"
            yield PlanWarning("outlier-value", where_of(a), text)


def _fan_in(own: str, shape: tuple[int, ...]) -> int:
    if own == "weight":  # torch's names, and its axes: the outputs are first
        return math.prod(shape[1:])
    # A depthwise filter sees one channel: its inputs are its window.
    return math.prod(shape[:-2] if own == "depthwise_kernel" else shape[:-1])
