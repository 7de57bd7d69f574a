"""Which layers of the two models belong together, and which of the target's depend on weights that were kept."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.plan import Plan
from transferpipe.prove.parity.keras_trace import KerasRunner, Override, Trace
from transferpipe.weights.keras.layer_classes import snake_case
from transferpipe.weights.name import WeightName

_AUTOMATIC = re.compile(r"(.*?)_?\d+")


def pairs_of_plan(plan: Plan, source: str) -> dict[str, str]:
    """Return the layer of `source` for every target layer whose weights all come from it alone.

    Layers above them are paired too, where all that lies below one comes from below one of the other.
    """
    votes: dict[str, set[str | None]] = {}
    for assignment in plan.assignments:
        layer = assignment.layer
        single = len(assignment.sources) == 1 and assignment.sources[0].source == source
        there = assignment.sources[0].layer if single else None
        votes.setdefault(layer, set()).add(there)
        above, _, last = layer.rpartition("/")
        while above:
            if there is not None:
                there, _, other = there.rpartition("/")
                there = there if there and other == last else None
            votes.setdefault(above, set()).add(there)
            above, _, last = above.rpartition("/")
    return {
        layer: next(iter(found)) or ""
        for layer, found in votes.items()
        if layer and len(found) == 1 and None not in found
    }


def with_weightless(
    pairs: Mapping[str, str], target: Mapping[str, Any], reference: Mapping[str, Any]
) -> dict[str, str]:
    """Return `pairs` with layers without weights that have one name, below paired ones, and one class.

    Names that Keras gave by counting say nothing of the place and are left alone.
    """
    prefixes = Counter(_prefixes(t, s) for t, s in pairs.items()) or Counter({("", ""): 1})
    commonest = [prefix for prefix, _ in prefixes.most_common()]
    found, taken = dict(pairs), set(pairs.values())
    for name, layer in target.items():
        if name in found or _is_automatic(name, layer):
            continue
        for here, there in commonest:
            if here and not name.startswith(f"{here}/"):
                continue
            rest = name[len(here) + 1 :] if here else name
            other = f"{there}/{rest}" if there else rest
            if type(reference.get(other)).__name__ == type(layer).__name__ and other not in taken:
                found[name] = other
                taken.add(other)
                break
    return found


def _prefixes(target: str, source: str) -> tuple[str, str]:
    """Return what stands before the last names that both have in common."""
    here, there = target.split("/"), source.split("/")
    while here and there and here[-1] == there[-1]:
        here.pop()
        there.pop()
    return "/".join(here), "/".join(there)


def _is_automatic(name: str, layer: Any) -> bool:
    own = WeightName(name).own
    plain = snake_case(type(layer).__name__)
    # Without underscores: authors who count write relu1 and maxpooling2d_2.
    match = _AUTOMATIC.fullmatch(own)
    return own == plain or bool(match and match[1].replace("_", "") == plain.replace("_", ""))


def dependent(
    runner: KerasRunner,
    data: Sequence[NDArray[Any]],
    trace: Trace,
    kept: Collection[str],
    overrides: Mapping[str, Override] | None = None,
) -> set[str]:
    """Return the labels of calls, and the names of outputs, that change when the weights called `kept` do.

    They are changed for one forward pass, in which `overrides` stand for layers, and put back.
    """
    import keras

    values = runner.walked.values
    chosen = {n: values[n] for n in kept if n in values and isinstance(values[n], keras.Variable)}
    old = {n: runner.walked.read(n) for n in chosen}
    floats = {n: v for n, v in old.items() if v.dtype.kind in "fV"}
    if not floats:
        return set()
    # Always the same numbers, so that a check that is made again says the same.
    random = np.random.default_rng(0)
    try:
        for name, value in floats.items():
            # Above zero stays above zero: a variance below would give NaN everywhere.
            factor = random.uniform(1.5, 2.5, value.shape)
            # Plus a quarter: zeros, such as fresh biases, change as well.
            chosen[name].assign((value.astype(np.float64) * factor + 0.25).astype(value.dtype))
        other = runner.run(data, overrides)
    finally:
        for name, value in floats.items():
            chosen[name].assign(value)
    changed = {name for name, value in trace.outputs.items() if not _equal(value, other.outputs[name])}
    for label, call in trace.by_label.items():
        there = other.by_label.get(label)
        if call.value is not None and there is not None and not _equal(call.value, there.value):
            changed.add(label)
    return changed


def untested_outputs(
    runner: KerasRunner,
    data: Sequence[NDArray[Any]],
    trace: Trace,
    weights: Collection[str],
    compared: Collection[str],
) -> set[str]:
    """Return the outputs that depend on some of `weights` in other ways than through what was compared.

    Args:
        runner: the model.
        data: what it is run on.
        trace: what it computed of that.
        weights: those that a comparison is to test.
        compared: the labels of calls, and the names of outputs, that were compared.
    """
    known = [trace.outputs[name] for name in compared if name in trace.outputs]
    outputs: dict[str, list[Any]] = {}
    for call in trace.calls:
        outputs.setdefault(call.name, []).append(call)
    # What was compared stays as it is, whatever the weights are: what changes all the same, nothing has tested.
    replayed = {
        name: partial(_next_output, iter([call.output for call in calls]))
        for name, calls in outputs.items()
        if all(c.label in compared or any(_equal(value, c.value) for value in known) for c in calls)
    }
    return dependent(runner, data, trace, weights, replayed).intersection(trace.outputs).difference(compared)


def _next_output(outputs: Iterator[Any], _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    """Stand for a layer whose outputs are known, call by call."""
    return next(outputs)


def kept_between(
    runner: KerasRunner, data: Sequence[NDArray[Any]], trace: Trace, kept: Collection[str], taking: Collection[str]
) -> list[str]:
    """Return those of the weights called `kept` on which the output of a layer in `taking` depends.

    A head that is kept has no such layer behind it. The model is run once, and once for each kept layer if needed.
    """

    def feed(names: Collection[str]) -> bool:
        changed = dependent(runner, data, trace, names)
        return any(_find_noted_layer(layer, trace) in changed for layer in taking)

    if not kept or not taking or not feed(kept):
        return []
    groups: dict[str, list[str]] = {}
    for name in kept:
        groups.setdefault(WeightName(name).layer, []).append(name)
    return [name for names in groups.values() if feed(names) for name in names]


def _find_noted_layer(layer: str, trace: Trace) -> str:
    """Return the layer whose output was noted: `layer`, or one above it, such as that of a cell in a loop."""
    while layer and ((call := trace.by_label.get(layer)) is None or call.value is None):
        layer = layer.rpartition("/")[0]
    return layer


def _equal(one: NDArray[Any], other: NDArray[Any] | None) -> bool:
    return other is not None and one.shape == other.shape and bool(np.array_equal(one, other, equal_nan=False))
