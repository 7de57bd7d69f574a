"""What both models say of themselves where they differ: settings, calls, weights. It takes no experiment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.prove.parity.causes.first_difference import FirstDifference
from transferpipe.prove.parity.causes.known_settings import config_of, describe_difference, differing, show
from transferpipe.prove.parity.causes.known_weights import describe_weights
from transferpipe.prove.parity.keras_trace import MASK, Call, as_array
from transferpipe.text.listing import listed

# Of the largest value. What lower precision, an approximate GELU or another epsilon changes stays below it.
_SMALL = 2e-3
NOT_FOUND = "not found by experiment"


def tell_settings(place: FirstDifference) -> str:
    """Return settings that differ between paired candidates, or layers that only one of the models has between."""
    for call, other in place.pairs():
        found = describe_difference(call.layer, other)
        if found:
            words = _by_known_weights(place) if call.name == place.first.name else ""
            also = f"; and {words}" if words else ""
            return f"settings of {call.name}: {'; '.join(found)}{also}"
    return _layers_between(place)


def tell_settings_around(place: FirstDifference) -> str:
    """Return settings of layers around the first that differs, such as the heads of an attention, which differ."""
    name = place.first.name.rpartition("/")[0]
    while name:
        ours, theirs = place.setup.trace.by_label.get(name), place.setup.settings.get(place.setup.pairs.get(name, ""))
        ours_layer = ours.layer if ours else getattr(place.setup.target, "layers", {}).get(name)
        if ours_layer is not None and theirs is not None and (found := describe_difference(ours_layer, theirs)):
            return f"settings of {name}: {'; '.join(found)}"
        name = name.rpartition("/")[0]
    return ""


def tell_call(place: FirstDifference) -> str:
    """Return the switches, or the order of inputs, with which a layer or one around it is called otherwise."""
    ours, theirs = place.setup.trace.by_label, place.setup.reference.by_label
    names = place.first.name, place.first.reference
    while all(names):
        one, two = ours.get(names[0]), theirs.get(names[1])
        keys = sorted(one.kwargs.keys() | two.kwargs.keys()) if one and two and two.layer is not None else ()
        for key in keys:
            mine, other = (call.kwargs.get(key) for call in (one, two) if call is not None)
            if key.endswith(MASK) and (mine is None) != (other is None):
                who, whose = ("the target's", "the original") if other is None else ("the original's", "the target")
                return f"mask of {names[0]}: {who} is given a mask ({key}), and {whose} has none there"
            if isinstance(mine, bool | None) and isinstance(other, bool | None) and bool(mine) != bool(other):
                return f"{key} of {names[0]}: it is called with {key}={mine}, in the original with {other}"
        names = names[0].rpartition("/")[0], names[1].rpartition("/")[0]
    return _by_order(place)


def _by_order(place: FirstDifference) -> str:
    """Return that a layer takes its inputs in another order, where they are the original's."""
    call = place.reference_call()
    given, wanted = (c.arrays if c else () for c in (place.setup.trace.by_label.get(place.first.name), call))
    pairs = list(zip(given, wanted, strict=False))
    if len(given) != len(wanted) or len(given) < 2 or all(place.same(a, b) for a, b in pairs):
        return ""
    moved = all(any(place.same(a, b) for a in given) for b in wanted)
    return f"{place.first.name} takes its {len(given)} inputs in another order than in the original" if moved else ""


def _takes_otherwise(place: FirstDifference) -> str:
    """Return what goes into the first layer that differs, where that differs already; empty where it does not."""
    theirs = place.reference_call()
    if theirs is None:
        return ""
    ours = place.setup.trace.by_label[place.first.name]
    given, wanted = ours.arrays, theirs.arrays
    if len(given) != len(wanted):
        return f"{place.first.name} is called with {len(given)} values, in the original with {len(wanted)}"
    other = [i for i, (a, b) in enumerate(zip(given, wanted, strict=True)) if not place.same(a, b)]
    if not other:
        return ""
    gives = _giver(place, wanted[other[0]])
    what = f": there it takes what {gives} gives" if gives else ""
    return f"{place.first.name} takes another input than in the original{what}; compare what stands before it in both"


def _by_known_weights(place: FirstDifference) -> str:
    """Return how the weights of the first layer that differs follow from the original's, if that alone differs."""
    theirs = place.reference_call()
    if theirs is None or _takes_otherwise(place):
        return ""
    ours = place.setup.trace.by_label[place.first.name].layer
    words = describe_weights(ours, theirs.layer, place.setup.settings)
    return f"weights of {place.first.name}: {words}" if words else ""


def _of_weights(place: FirstDifference, theirs: Call) -> str:
    """Return in which weights a layer and its original differ."""
    ours = place.setup.trace.by_label[place.first.name].layer
    mine, other = ({w.name: as_array(w) for w in layer.weights} for layer in (ours, theirs.layer))
    if not mine or mine.keys() != other.keys():
        return "and its weights or settings differ"
    pairs = [(name, value, other[name]) for name, value in mine.items()]
    names = [n for n, a, b in pairs if a is not None and b is not None and not np.array_equal(a, b)]
    return (
        f"and its {listed(names, 3)} {'has' if len(names) == 1 else 'have'} other values"
        if names
        else ("with the same weights: its settings, or what its class computes, differ")
    )


def _giver(place: FirstDifference, value: NDArray[Any]) -> str:
    """Return the target's layer that gives a value, or the input that is one."""
    calls = place.setup.trace.calls
    found = next((c.label for c in calls if c.value is not None and place.same(c.value, value)), "")
    return found or next((f"input {i + 1}" for i, a in enumerate(place.setup.data) if place.same(a, value)), "")


def _layers_between(place: FirstDifference) -> str:
    there = _reference_between(place)
    here = [c for c in place.candidates if c.layer is not None and not c.layer.weights]
    ours, theirs = [_describe(c.layer) for c in here], [_describe(c.layer) for c in there]
    if not there or ours == theirs:
        return ""
    at = f"between {place.before} and {place.first.name}" if place.before else f"before {place.first.name}"
    return f"layers {at}: the original has {_list_names(theirs)}, the target {_list_names(ours)}"


def _reference_between(place: FirstDifference) -> list[Call]:
    calls = [c for c in place.setup.reference.calls if c.layer is not None]
    labels = [c.label for c in calls]
    before = place.setup.pairs.get(place.before or "", place.before)
    begin = labels.index(before) + 1 if before in labels else 0
    end = labels.index(place.first.reference) if place.first.reference in labels else len(calls)
    return [c for c in calls[begin:end] if not c.layer.weights]


def tell_unknown(place: FirstDifference) -> str:
    """Return where a difference arises of which no cause was found, and what is odd there."""
    if known := _by_known_weights(place):
        return known
    odd = next((text for c in place.candidates if c.layer is not None for text in _oddities(c)), None)
    if odd:
        return f"{NOT_FOUND}, but {odd}"
    where = f"after {place.before}" if place.before else "from the inputs on"
    if place.first.scale and place.first.difference < _SMALL * place.first.scale:
        return f"{NOT_FOUND}; it is as small as lower precision, an approximation or another epsilon makes it"
    if moved := _takes_otherwise(place):
        return moved
    if len(place.candidates) > 1:
        names = listed([f"{c.name} ({type(c.layer).__name__})" for c in place.candidates], 4)
        return f"{NOT_FOUND}; the difference arises {where}, in {names}"
    if (theirs := place.reference_call()) is not None:
        return f"{NOT_FOUND}; it takes what it takes in the original, {_of_weights(place, theirs)}"
    return f"{NOT_FOUND}; its weights, its settings or what goes into it differ from the original's"


def tell_others(place: FirstDifference, found: str) -> str:
    """Return the known settings elsewhere that differ, too: they come next once the cause is removed."""
    known: list[str] = []
    for call in (c for c in place.setup.trace.calls if c.number == 1 and c.layer is not None):
        other = place.setup.settings.get(place.setup.pairs.get(call.name, ""))
        for key, (mine, theirs) in differing(call.layer, other).items() if other is not None else ():
            words = f"{key} of {call.name}: {show(mine)}, the original has {show(theirs)}"
            if words not in found and f"of {call.name}:" not in found:
                known.append(words)
    return f". What differs as well: {listed(known, 3)}" if known else ""


def _oddities(call: Call) -> Iterator[str]:
    """Yield what is odd about a layer's weights by themselves."""
    for weight in call.layer.weights:
        value = as_array(weight)
        # "V" is what NumPy calls the kind of bfloat16 and the float8s of ml_dtypes.
        if value is None or value.size < 2 or value.dtype.kind not in "fV":
            continue
        if "kernel" in weight.name and not np.any(value):
            yield f"{call.name}/{weight.name} is all zero"
        if weight.name == "moving_variance" and np.all(value == 1):
            yield f"statistics of {call.name}: moving_variance is 1 throughout, its initial value"


def _describe(layer: Any) -> str:
    shown = ("pool_size", "strides", "padding", "activation", "scale", "offset", "rate", "max_value", "axis")
    config = {k: v for k, v in config_of(layer).items() if k in shown and v is not None}
    return f"{type(layer).__name__}({', '.join(f'{k}={show(v)}' for k, v in config.items())})"


def _list_names(items: Sequence[str]) -> str:
    return ", ".join(items) or "none"
