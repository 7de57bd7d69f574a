"""The likely cause of a difference: what is known of both models' settings, then what experiments show.

Candidates are the layers between the last output that agrees and the first that does not. Each fault of `trials` is
undone in turn; where the first differing output then agrees, the cause is named with what was done. How many
experiments there are is bounded, not how long they take: the cause that is named is the same on every machine.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.prove.parity.causes.alike import clone, compiled, is_recurrent, make_alike
from transferpipe.prove.parity.causes.known_settings import (
    config_of,
    describe_difference,
    differing,
    may_differ,
    show,
)
from transferpipe.prove.parity.causes.known_weights import describe_weights
from transferpipe.prove.parity.causes.trials import Trial, input_trials, trials_of
from transferpipe.prove.parity.compare import activate_like, compare
from transferpipe.prove.parity.judge import ACTIVATED, part_of
from transferpipe.prove.parity.keras_trace import MASK, Call, KerasRunner, Override, Trace, as_array
from transferpipe.prove.parity.result import Compared
from transferpipe.text.listing import listed

if TYPE_CHECKING:
    from transferpipe.prove.parity.judge import Setup

# Each is a forward pass from the first candidate on. A layer has some twenty alternatives, and few layers stand between
# two paired ones: this is for pairs of faults.
_MOST_EXPERIMENTS = 600
# Of recurrent layers each alternative setting is traced anew, which takes as long as ten passes of other layers.
_MOST_RECURRENT = 120
_SECONDS = 300.0  # for networks so large that one experiment takes most of a second; that the search was cut is said
_Option = tuple[str, dict[str, Override]]  # a cause in words, and what undoes it
_Known = tuple[Call, str, Any, tuple[Any, Any]]  # a layer, a setting, the original's value, both values in words
# Asked first, of all layers: what converters get wrong most, since it changes no shape and raises nothing.
# Of recurrent layers the weights first: a graph for all of them is traced once, for each activation once more.
_LIKELY = (
    *("padding", "epsilon", "flatten order", "gate order", "biases", "direction"),
    *("recurrent activation", "activation", "pooling", "statistics"),
)
# Faults are undone one after the other, each time starting from the attempts that came nearest: three faults of four
# bases are what the number of experiments allows.
_MOST_FAULTS, _MOST_BASES = 3, 4
# Layers that count as equal behind an activation of which nobody knows whether it is the original's: the last ones.
_MOST_ACTIVATED = 6
_MOST_CLASSES = 4096  # a comparison of each with each
# Of the largest value. What lower precision, an approximate GELU or another epsilon changes stays below it.
_SMALL = 2e-3
_SAID = " the values agree"
NOT_FOUND = "not found by experiment"


def find_cause(setup: Setup, entries: Sequence[Compared], first: Compared) -> str:
    """Return the likely cause of `first`, the first of `entries` that differs; empty where nothing is known."""
    if not isinstance(setup.target, KerasRunner):
        return ""
    search = _Search(setup, entries, first)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras's, of functions that would not be loaded again
            return search.cause()
    except Exception:  # experiments on layers of a user's own may fail in any way; the difference stands all the same
        return ""


class _Search:
    """The state of one search: what is to agree, where the difference must lie, and how often was tried."""

    def __init__(self, setup: Setup, entries: Sequence[Compared], first: Compared) -> None:
        self.setup, self.first = setup, first
        self.end, self.count, self.cut = time.monotonic() + _SECONDS, 0, ""
        self.families: dict[str, None] = {}  # what was tried, in words
        # The original's value, where `expected` is what an activation makes of it.
        self.plain: NDArray[Any] | None = None
        self.expected = self._find_expected()
        equal = [e.name for e in entries[: entries.index(first)] if e.status == "equal"]
        self.before = equal[-1] if equal else None
        self.candidates = self._between()
        doubtful = {e.name for e in entries[: entries.index(first)] if e.reason == ACTIVATED}
        self.activated = [c for c in setup.trace.calls if c.label in doubtful and c.number == 1][-_MOST_ACTIVATED:]
        self.once = self._find_once()
        self.graphs = {c.name: compiled(c.layer) for c in self.candidates if c.layer and is_recurrent(c.layer)}
        self.most = min(_MOST_EXPERIMENTS, _MOST_RECURRENT) if self.graphs else _MOST_EXPERIMENTS
        self.tried: list[tuple[float, str, dict[str, Override]]] = []  # how near each attempt came

    def _find_expected(self) -> NDArray[Any] | None:
        setup, first = self.setup, self.first
        if first.name in setup.trace.outputs:
            return setup.reference.outputs.get(first.reference)
        call = setup.reference.by_label.get(first.reference)
        if call is None or call.value is None:
            return None
        call = part_of(setup, setup.trace.by_label[first.name], call)
        # Of what only says values, such as a node of ONNX, the activation may be a node of its own.
        activated = activate_like(setup.trace.by_label[first.name], call)
        if activated is None or not setup.reference.outputs:
            return call.value
        self.plain = call.value
        return activated

    def _between(self) -> list[Call]:
        """Return the calls after the last agreeing one up to the first that differs, one for each layer."""
        trace, known = self.setup.trace, {e: i for i, e in enumerate(c.label for c in self.setup.trace.calls)}
        begin = known[self.before] + 1 if self.before in known else 0
        last = known.get(self.first.name, len(trace.calls) - 1)
        found: dict[str, Call] = {}
        for call in trace.calls[begin : last + 1]:
            if call.number == 1:
                found[call.name] = call
        return list(found.values())

    def _find_once(self) -> frozenset[str]:
        """Return the layers that are called once, which need not compute again what they computed.

        Where what is to agree is a further call of a layer, its number would not count those that were left out.
        """
        if self.first.name not in self.setup.trace.outputs and self.first.name.endswith(")"):
            return frozenset()
        often = {call.name for call in self.setup.trace.calls if call.number > 1}
        return frozenset(call.name for call in self.setup.trace.calls).difference(often)

    def _around(self, overrides: Mapping[str, Override]) -> dict[str, Override]:
        """Return what stands for the layers that are not replaced: before the first that is, what these gave.

        Recurrent layers behind it compute as graphs, but for those within which something is replaced or looked for.
        """
        calls = self.setup.trace.calls
        begin = next((i for i, call in enumerate(calls) if call.name in overrides), len(calls))
        given = {c.name: partial(_repeat_output, c.output) for c in calls[:begin] if c.name in self.once}
        inner = (*overrides, self.first.name)
        graphs = {n: g for n, g in self.graphs.items() if not any(i.startswith(f"{n}/") for i in inner)}
        return {**graphs, **given}

    def cause(self) -> str:
        if self.expected is None:
            return self._from_settings() or ""
        known = self._from_settings()
        found = self._by_source_settings() or self._by_call() or self._by_trials()
        if found:
            return found + self._differs_as_well(found)
        return known or self._by_settings_around() or f"{self._not_found()}{self._tell_tried()}"

    def _tell_tried(self) -> str:
        """Return what did not explain the difference, neither alone nor together."""
        if not self.families:
            return self.cut
        tried = f"; tried, alone and together: {listed(list(self.families), 8)}"
        return f"{tried}{self.cut or f' ({self.count} experiments)'}"

    def _differs_as_well(self, found: str) -> str:
        """Return the known settings elsewhere that differ, too: they come next once the cause is removed."""
        known: list[str] = []
        for call in (c for c in self.setup.trace.calls if c.number == 1 and c.layer is not None):
            other = self.setup.settings.get(self.setup.pairs.get(call.name, ""))
            for key, (mine, theirs) in differing(call.layer, other).items() if other is not None else ():
                words = f"{key} of {call.name}: {show(mine)}, the original has {show(theirs)}"
                if words not in found and f"of {call.name}:" not in found:
                    known.append(words)
        return f". What differs as well: {listed(known, 3)}" if known else ""

    def _not_found(self) -> str:
        if known := self._by_known_weights():
            return known
        odd = next((text for c in self.candidates if c.layer is not None for text in _oddities(c)), None)
        if odd:
            return f"{NOT_FOUND}, but {odd}"
        where = f"after {self.before}" if self.before else "from the inputs on"
        if self.first.scale and self.first.difference < _SMALL * self.first.scale:
            return f"{NOT_FOUND}; it is as small as lower precision, an approximation or another epsilon makes it"
        if moved := self._takes_otherwise():
            return moved
        if len(self.candidates) > 1:
            names = listed([f"{c.name} ({type(c.layer).__name__})" for c in self.candidates], 4)
            return f"{NOT_FOUND}; the difference arises {where}, in {names}"
        if (theirs := self._reference_call()) is not None:
            return f"{NOT_FOUND}; it takes what it takes in the original, {self._of_weights(theirs)}"
        return f"{NOT_FOUND}; its weights, its settings or what goes into it differ from the original's"

    # What both models say of themselves.

    def _pairs(self) -> Iterator[tuple[Call, Any]]:
        for call in self.candidates:
            other = self.setup.settings.get(self.setup.pairs.get(call.name, ""))
            if other is not None:
                yield call, other

    def _from_settings(self) -> str:
        """Return settings that differ between paired candidates, or layers that only one of the models has between."""
        for call, other in self._pairs():
            found = describe_difference(call.layer, other)
            if found:
                words = self._by_known_weights() if call.name == self.first.name else ""
                also = f"; and {words}" if words else ""
                return f"settings of {call.name}: {'; '.join(found)}{also}"
        return self._layers_between()

    def _by_settings_around(self) -> str:
        """Return settings of layers around the first that differs, such as the heads of an attention, which differ."""
        name = self.first.name.rpartition("/")[0]
        while name:
            ours, theirs = self.setup.trace.by_label.get(name), self.setup.settings.get(self.setup.pairs.get(name, ""))
            ours_layer = ours.layer if ours else getattr(self.setup.target, "layers", {}).get(name)
            if ours_layer is not None and theirs is not None and (found := describe_difference(ours_layer, theirs)):
                return f"settings of {name}: {'; '.join(found)}"
            name = name.rpartition("/")[0]
        return ""

    def _reference_call(self) -> Call | None:
        """Return the original's call of the layer that is the first to differ, if both are of Keras and known."""
        call = self.setup.reference.by_label.get(self.first.reference)
        is_known = call is not None and call.layer is not None and self.first.name in self.setup.trace.by_label
        return call if is_known else None

    def _by_call(self) -> str:
        """Return the switches, or the order of inputs, with which a layer or one around it is called otherwise."""
        ours, theirs = self.setup.trace.by_label, self.setup.reference.by_label
        names = self.first.name, self.first.reference
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
        return self._by_order()

    def _by_order(self) -> str:
        """Return that a layer takes its inputs in another order, where they are the original's."""
        call = self._reference_call()
        given, wanted = (c.arrays if c else () for c in (self.setup.trace.by_label.get(self.first.name), call))
        pairs = list(zip(given, wanted, strict=False))
        if len(given) != len(wanted) or len(given) < 2 or all(self._same(a, b) for a, b in pairs):
            return ""
        moved = all(any(self._same(a, b) for a in given) for b in wanted)
        return f"{self.first.name} takes its {len(given)} inputs in another order than in the original" if moved else ""

    def _takes_otherwise(self) -> str:
        """Return what goes into the first layer that differs, where that differs already; empty where it does not."""
        theirs = self._reference_call()
        if theirs is None:
            return ""
        ours = self.setup.trace.by_label[self.first.name]
        given, wanted = ours.arrays, theirs.arrays
        if len(given) != len(wanted):
            return f"{self.first.name} is called with {len(given)} values, in the original with {len(wanted)}"
        other = [i for i, (a, b) in enumerate(zip(given, wanted, strict=True)) if not self._same(a, b)]
        if not other:
            return ""
        gives = self._giver(wanted[other[0]])
        what = f": there it takes what {gives} gives" if gives else ""
        return (
            f"{self.first.name} takes another input than in the original{what}; compare what stands before it in both"
        )

    def _by_known_weights(self) -> str:
        """Return how the weights of the first layer that differs follow from the original's, if that alone differs."""
        theirs = self._reference_call()
        if theirs is None or self._takes_otherwise():
            return ""
        ours = self.setup.trace.by_label[self.first.name].layer
        words = describe_weights(ours, theirs.layer, self.setup.settings)
        return f"weights of {self.first.name}: {words}" if words else ""

    def _of_weights(self, theirs: Call) -> str:
        """Return in which weights a layer and its original differ."""
        ours = self.setup.trace.by_label[self.first.name].layer
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

    def _giver(self, value: NDArray[Any]) -> str:
        """Return the target's layer that gives a value, or the input that is one."""
        calls = self.setup.trace.calls
        found = next((c.label for c in calls if c.value is not None and self._same(c.value, value)), "")
        return found or next((f"input {i + 1}" for i, a in enumerate(self.setup.data) if self._same(a, value)), "")

    def _same(self, one: NDArray[Any], two: NDArray[Any]) -> bool:
        return one.shape == two.shape and compare(one, two, self.setup.tolerance).agrees

    def _layers_between(self) -> str:
        there = self._reference_between()
        here = [c for c in self.candidates if c.layer is not None and not c.layer.weights]
        ours, theirs = [_describe(c.layer) for c in here], [_describe(c.layer) for c in there]
        if not there or ours == theirs:
            return ""
        at = f"between {self.before} and {self.first.name}" if self.before else f"before {self.first.name}"
        return f"layers {at}: the original has {_list_names(theirs)}, the target {_list_names(ours)}"

    def _reference_between(self) -> list[Call]:
        calls = [c for c in self.setup.reference.calls if c.layer is not None]
        labels = [c.label for c in calls]
        before = self.setup.pairs.get(self.before or "", self.before)
        begin = labels.index(before) + 1 if before in labels else 0
        end = labels.index(self.first.reference) if self.first.reference in labels else len(calls)
        return [c for c in calls[begin:end] if not c.layer.weights]

    def _by_source_settings(self) -> str:
        """Return the setting of the original with which the candidates agree with it."""
        known = [
            (call, key, getattr(other, key) if "activation" in key else config_of(other)[key], both)
            for call, other in self._pairs()
            for key, both in differing(call.layer, other).items()
        ]
        needed = next(([one] for one in known if self._agrees(_undo([one]))), [])
        if not needed and len(known) > 1 and self._agrees(_undo(known)):
            needed = known
            for one in known:  # what the values agree without is no cause
                fewer = [k for k in needed if k is not one]
                needed = fewer if self._agrees(_undo(fewer)) else needed
        words = [
            f"{key} of {call.name}: {show(mine)}, the original has {show(theirs)}"
            for call, key, _, (mine, theirs) in needed
        ]
        return f"{'; and '.join(words)}; with {'that' if len(words) == 1 else 'these'}{_SAID}" if words else ""

    # What experiments show.

    def _by_trials(self) -> str:
        # From the first that differs backwards: the fault lies in it, or just before it, more often than not.
        trials = [t for c in reversed(self.candidates) if c.layer is not None for t in self._trials_of(c)]
        trials += [t for c in self.activated for t in self._trials_of(c) if "activation" in t.kind]
        # One forward pass a trial: where there are many layers, the likeliest families are all that is tried.
        trials.sort(key=lambda t: next((i for i, f in enumerate(_LIKELY) if t.words.startswith(f)), len(_LIKELY)))
        own = [t for t in trials if t.layer == self.first.name]
        rest = [t for t in trials if t.layer != self.first.name]
        self.families = dict.fromkeys(t.words.partition(":")[0] for t in trials)
        return (
            self._first_of(_singles(own))
            or self._by_order_of_outputs()
            or self._by_inputs()
            or self._find_scale()
            or self._first_of(self._groups(trials))
            or self._first_of(_singles(rest))
            or self._by_two_of_one_layer()
            or self._combine_faults([*self._groups(trials), *_singles(trials)])
        )

    def _trials_of(self, call: Call) -> list[Trial]:
        """Return what may have gone wrong with a layer; nothing in which it is known to be like the original's."""
        other = self._find_original(call)
        settings, weights = (True, True) if other is None else may_differ(call.layer, other)
        return list(trials_of(call, self.setup.trace, settings, weights))

    def _find_original(self, call: Call) -> Any:
        """Return the original's layer that a layer belongs to, or the one in it where one around it does."""
        name, rest = call.name, ""
        while name:
            if name in self.setup.pairs:
                return self.setup.settings.get(self.setup.pairs[name] + rest)
            name, _, last = name.rpartition("/")
            rest = f"/{last}{rest}"
        return None

    def _by_two_of_one_layer(self) -> str:
        """Return a setting and weights of the layer that differs, which are the cause together."""
        call = self.setup.trace.by_label.get(self.first.name) or next(iter(self.candidates[-1:]), None)
        if call is None or call.layer is None or not call.layer.weights or is_recurrent(call.layer):
            return ""
        for trial in (t for t in self._trials_of(call) if t.settings and not self.cut):
            mended = None
            with contextlib.suppress(Exception):  # another setting may be none that the layer takes
                mended = replace(call, layer=make_alike(call.layer, trial.settings, call.args, call.kwargs), twin=[])
            if mended is None:
                continue
            (first,), second = _singles([trial]), _singles(list(trials_of(mended, self.setup.trace, settings=False)))
            if found := self._first_of([(f"{first[0]}; and {words}", override) for words, override in second]):
                return found
        return ""

    def _first_of(self, options: Sequence[_Option]) -> str:
        return next((f"{words}{_SAID}" for words, overrides in options if self._agrees(overrides, words=words)), "")

    def _groups(self, trials: Sequence[Trial]) -> list[_Option]:
        """Return the faults of several layers at once, such as one epsilon for all normalisations."""
        found: dict[str, list[Trial]] = {}
        for trial in trials:
            found.setdefault(trial.kind, []).append(trial)
        options = []
        for group in found.values():
            names = sorted({t.layer for t in group}, key=[c.name for c in (*self.activated, *self.candidates)].index)
            if len(names) > 1:
                words = f"{group[0].words} (in {len(names)} layers, the first {names[0]})"
                options.append((words, {t.layer: t.override for t in group}))
        return options

    def _combine_faults(self, options: Sequence[_Option]) -> str:
        """Return several faults that together are the cause: what comes nearest is kept, and others are added to it."""
        for _ in range(_MOST_FAULTS - 1):
            if not self.tried:
                return ""
            self.tried.sort(key=lambda item: item[0])
            nearest, self.tried = self.tried[:_MOST_BASES], []
            for _, base, done in nearest:
                for words, overrides in options:
                    both = f"{base}; and {words}"
                    if done.keys().isdisjoint(overrides) and self._agrees({**done, **overrides}, words=both):
                        return f"{both}{_SAID}"
        return ""

    def _by_inputs(self) -> str:
        if self.before is not None:
            return ""
        found = (words for words, data in input_trials(self.setup.data) if self._agrees({}, data))
        return next((f"{words}{_SAID}" for words in found), "")

    def _find_scale(self) -> str:
        """Return the factor by which the first differing output is scaled, with or without its bias."""
        got = self._got(self.setup.trace)
        call = self.setup.trace.by_label.get(self.first.name)
        if got is None or self.expected is None or got.shape != self.expected.shape:
            return ""
        bias = getattr(call.layer, "bias", None) if call is not None else None
        shifts: list[tuple[Any, str]] = [(0.0, "its values")]
        if bias is not None and got.shape[-1:] == tuple(bias.shape):
            shifts.append((np.asarray(as_array(bias), np.float64), "its kernel"))
        for shift, whose in shifts:
            ours, theirs = got.astype(np.float64) - shift, self.expected.astype(np.float64) - shift
            # Least squares: the factor that brings ours nearest to theirs is <ours, theirs> / <ours, ours>.
            norm = float(np.sum(ours * ours))
            factor = float(np.sum(ours * theirs)) / norm if norm else 0.0
            if factor and compare(factor * ours, theirs, self.setup.tolerance_of(self.first.name)).agrees:
                return f"scale: with {whose} multiplied by {factor:.4g}{_SAID}, at {self.first.name}"
        return ""

    def _by_order_of_outputs(self) -> str:
        """Return that the first differing output has its last axis, such as classes, in another order."""
        got, expected = self._got(self.setup.trace), self.expected
        if got is None or expected is None or got.shape != expected.shape or not 1 < got.shape[-1] <= _MOST_CLASSES:
            return ""
        ours, theirs = (v.astype(np.float64).reshape(-1, v.shape[-1]) for v in (got, expected))
        nearest = [int(np.argmin(np.max(np.abs(ours - column[:, None]), axis=0))) for column in theirs.T]
        if len(set(nearest)) < len(nearest) or nearest == sorted(nearest):
            return ""
        if not compare(got[..., nearest], expected, self.setup.tolerance_of(self.first.name)).agrees:
            return ""
        kind = "class order" if self.first.name in self.setup.trace.outputs else "order of channels"
        moved = [i for i, j in enumerate(nearest) if i != j]
        told = listed([f"{i} is the target's {nearest[i]}" for i in moved], 3)
        return f"{kind} of {self.first.name}: of its {len(nearest)}, the original's {told}; so ordered{_SAID}"

    def _got(self, trace: Trace) -> NDArray[Any] | None:
        if self.first.name in trace.outputs:
            return trace.outputs[self.first.name]
        call = trace.by_label.get(self.first.name)
        return call.value if call else None

    def _is_over(self) -> bool:
        """Count an experiment; tell whether it is one too many."""
        self.count += 1
        if self.count > self.most:
            self.cut = f" (the search ended after {self.most} experiments)"
        elif time.monotonic() > self.end:
            self.cut = f" (the search was cut after {_SECONDS:g} s and {self.count - 1} experiments)"
        return bool(self.cut)

    def _agrees(
        self, overrides: Mapping[str, Override], data: list[NDArray[Any]] | None = None, words: str = ""
    ) -> bool:
        """Tell whether the first differing output agrees once the layers are replaced, or the inputs changed."""
        if self.expected is None or self._is_over():
            return False
        setup = self.setup
        assert isinstance(setup.target, KerasRunner)
        call = setup.trace.by_label.get(self.first.name)
        try:
            # Where the layer itself is replaced, its inputs are known, and the network before it need not run.
            if data is None and call is not None and list(overrides) == [self.first.name]:
                got = as_array(overrides[call.name](call.args, dict(call.kwargs)))
            else:
                calls = {**self._around(overrides), **overrides} if data is None else overrides
                until = "" if self.first.name in setup.trace.outputs else self.first.name
                got = self._got(setup.target.run(setup.data if data is None else data, calls, until))
        except Exception:  # another setting may be none that the layer, or what follows, takes
            return False
        if got is None:
            return False
        tolerance = setup.tolerance_of(self.first.name)
        result = compare(got, self.expected, tolerance)
        if not result.agrees and self.plain is not None:  # the original's layer may apply another activation itself
            result = compare(got, self.plain, tolerance)
        # Only what came nearer than the target did is worth adding a second fault to.
        if words and result.largest < self.first.difference:
            self.tried.append((result.largest, words, dict(overrides)))
        # An agreement that says nothing names no cause.
        return result.agrees and result.conclusive


def _undo(known: Sequence[_Known]) -> dict[str, Override]:
    """Return what stands for layers with the original's settings in place of their own."""
    found: dict[str, tuple[Any, dict[str, Any]]] = {}
    for call, key, value, _ in known:
        found.setdefault(call.name, (call.layer, {}))[1][key] = value
    return {name: clone(layer, changes) for name, (layer, changes) in found.items()}


def _repeat_output(output: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Stand for a layer whose output is known."""
    return output


def _singles(trials: Sequence[Trial]) -> list[_Option]:
    found = []
    for trial in trials:
        kind, _, rest = trial.words.partition(": ")
        found.append((f"{kind} of {trial.layer}: {rest}", {trial.layer: trial.override}))
    return found


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
