"""The likely cause of a difference: what both models say of themselves (`told`), then what experiments show.

Candidates are the layers between the last output that agrees and the first that does not. Each fault of `trials` is
undone in turn; where the first differing output then agrees, the cause is named with what was done. How many
experiments there are is bounded, not how long they take: the cause that is named is the same on every machine.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.prove.parity.causes.alike import clone, compiled, is_recurrent, make_alike
from transferpipe.prove.parity.causes.first_difference import FirstDifference
from transferpipe.prove.parity.causes.known_settings import (
    config_of,
    differing,
    may_differ,
    show,
)
from transferpipe.prove.parity.causes.told import (
    tell_call,
    tell_others,
    tell_settings,
    tell_settings_around,
    tell_unknown,
)
from transferpipe.prove.parity.causes.trials import Trial, input_trials, trials_of
from transferpipe.prove.parity.compare import compare
from transferpipe.prove.parity.keras_trace import Call, KerasRunner, Override, as_array
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
_MOST_CLASSES = 4096  # a comparison of each with each
_SAID = " the values agree"


def find_cause(setup: Setup, entries: Sequence[Compared], first: Compared) -> str:
    """Return the likely cause of `first`, the first of `entries` that differs; empty where nothing is known."""
    if not isinstance(setup.target, KerasRunner):
        return ""
    search = _Search(FirstDifference(setup, entries, first))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras's, of functions that would not be loaded again
            return search.cause()
    except Exception:  # experiments on layers of a user's own may fail in any way; the difference stands all the same
        return ""


class _Search:
    """The state of one search: what is to agree, where the difference must lie, and how often was tried."""

    def __init__(self, place: FirstDifference) -> None:
        self.place = place
        self.end, self.count, self.cut = time.monotonic() + _SECONDS, 0, ""
        self.families: dict[str, None] = {}  # what was tried, in words
        self.once = self._find_once()
        self.graphs = {c.name: compiled(c.layer) for c in self.place.candidates if c.layer and is_recurrent(c.layer)}
        self.most = min(_MOST_EXPERIMENTS, _MOST_RECURRENT) if self.graphs else _MOST_EXPERIMENTS
        self.tried: list[tuple[float, str, dict[str, Override]]] = []  # how near each attempt came

    def _find_once(self) -> frozenset[str]:
        """Return the layers that are called once, which need not compute again what they computed.

        Where what is to agree is a further call of a layer, its number would not count those that were left out.
        """
        if self.place.first.name not in self.place.setup.trace.outputs and self.place.first.name.endswith(")"):
            return frozenset()
        often = {call.name for call in self.place.setup.trace.calls if call.number > 1}
        return frozenset(call.name for call in self.place.setup.trace.calls).difference(often)

    def _around(self, overrides: Mapping[str, Override]) -> dict[str, Override]:
        """Return what stands for the layers that are not replaced: before the first that is, what these gave.

        Recurrent layers behind it compute as graphs, but for those within which something is replaced or looked for.
        """
        calls = self.place.setup.trace.calls
        begin = next((i for i, call in enumerate(calls) if call.name in overrides), len(calls))
        given = {c.name: partial(_repeat_output, c.output) for c in calls[:begin] if c.name in self.once}
        inner = (*overrides, self.place.first.name)
        graphs = {n: g for n, g in self.graphs.items() if not any(i.startswith(f"{n}/") for i in inner)}
        return {**graphs, **given}

    def cause(self) -> str:
        if self.place.expected is None:
            return tell_settings(self.place) or ""
        known = tell_settings(self.place)
        found = self._by_source_settings() or tell_call(self.place) or self._by_trials()
        if found:
            return found + tell_others(self.place, found)
        return known or tell_settings_around(self.place) or f"{tell_unknown(self.place)}{self._tell_tried()}"

    def _tell_tried(self) -> str:
        """Return what did not explain the difference, neither alone nor together."""
        if not self.families:
            return self.cut
        tried = f"; tried, alone and together: {listed(list(self.families), 8)}"
        return f"{tried}{self.cut or f' ({self.count} experiments)'}"

    def _by_source_settings(self) -> str:
        """Return the setting of the original with which the candidates agree with it."""
        known = [
            (call, key, getattr(other, key) if "activation" in key else config_of(other)[key], both)
            for call, other in self.place.pairs()
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

    def _by_trials(self) -> str:
        # From the first that differs backwards: the fault lies in it, or just before it, more often than not.
        trials = [t for c in reversed(self.place.candidates) if c.layer is not None for t in self._trials_of(c)]
        trials += [t for c in self.place.activated for t in self._trials_of(c) if "activation" in t.kind]
        # One forward pass a trial: where there are many layers, the likeliest families are all that is tried.
        trials.sort(key=lambda t: next((i for i, f in enumerate(_LIKELY) if t.words.startswith(f)), len(_LIKELY)))
        own = [t for t in trials if t.layer == self.place.first.name]
        rest = [t for t in trials if t.layer != self.place.first.name]
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
        return list(trials_of(call, self.place.setup.trace, settings, weights))

    def _find_original(self, call: Call) -> Any:
        """Return the original's layer that a layer belongs to, or the one in it where one around it does."""
        name, rest = call.name, ""
        while name:
            if name in self.place.setup.pairs:
                return self.place.setup.settings.get(self.place.setup.pairs[name] + rest)
            name, _, last = name.rpartition("/")
            rest = f"/{last}{rest}"
        return None

    def _by_two_of_one_layer(self) -> str:
        """Return a setting and weights of the layer that differs, which are the cause together."""
        trace = self.place.setup.trace
        call = trace.by_label.get(self.place.first.name) or next(iter(self.place.candidates[-1:]), None)
        if call is None or call.layer is None or not call.layer.weights or is_recurrent(call.layer):
            return ""
        for trial in (t for t in self._trials_of(call) if t.settings and not self.cut):
            mended = None
            with contextlib.suppress(Exception):  # another setting may be none that the layer takes
                mended = replace(call, layer=make_alike(call.layer, trial.settings, call.args, call.kwargs), twin=[])
            if mended is None:
                continue
            (first,), second = _singles([trial]), _singles(list(trials_of(mended, trace, settings=False)))
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
        options, order = [], [c.name for c in (*self.place.activated, *self.place.candidates)]
        for group in found.values():
            names = sorted({t.layer for t in group}, key=order.index)
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
        if self.place.before is not None:
            return ""
        found = (words for words, data in input_trials(self.place.setup.data) if self._agrees({}, data))
        return next((f"{words}{_SAID}" for words in found), "")

    def _find_scale(self) -> str:
        """Return the factor by which the first differing output is scaled, with or without its bias."""
        got = self.place.value_in(self.place.setup.trace)
        call = self.place.setup.trace.by_label.get(self.place.first.name)
        if got is None or self.place.expected is None or got.shape != self.place.expected.shape:
            return ""
        bias = getattr(call.layer, "bias", None) if call is not None else None
        shifts: list[tuple[Any, str]] = [(0.0, "its values")]
        if bias is not None and got.shape[-1:] == tuple(bias.shape):
            shifts.append((np.asarray(as_array(bias), np.float64), "its kernel"))
        for shift, whose in shifts:
            ours, theirs = got.astype(np.float64) - shift, self.place.expected.astype(np.float64) - shift
            # Least squares: the factor that brings ours nearest to theirs is <ours, theirs> / <ours, ours>.
            norm = float(np.sum(ours * ours))
            factor = float(np.sum(ours * theirs)) / norm if norm else 0.0
            if factor and compare(factor * ours, theirs, self.place.setup.tolerance_of(self.place.first.name)).agrees:
                return f"scale: with {whose} multiplied by {factor:.4g}{_SAID}, at {self.place.first.name}"
        return ""

    def _by_order_of_outputs(self) -> str:
        """Return that the first differing output has its last axis, such as classes, in another order."""
        got, expected = self.place.value_in(self.place.setup.trace), self.place.expected
        if got is None or expected is None or got.shape != expected.shape or not 1 < got.shape[-1] <= _MOST_CLASSES:
            return ""
        ours, theirs = (v.astype(np.float64).reshape(-1, v.shape[-1]) for v in (got, expected))
        nearest = [int(np.argmin(np.max(np.abs(ours - column[:, None]), axis=0))) for column in theirs.T]
        if len(set(nearest)) < len(nearest) or nearest == sorted(nearest):
            return ""
        if not compare(got[..., nearest], expected, self.place.setup.tolerance_of(self.place.first.name)).agrees:
            return ""
        kind = "class order" if self.place.first.name in self.place.setup.trace.outputs else "order of channels"
        moved = [i for i, j in enumerate(nearest) if i != j]
        told = listed([f"{i} is the target's {nearest[i]}" for i in moved], 3)
        return f"{kind} of {self.place.first.name}: of its {len(nearest)}, the original's {told}; so ordered{_SAID}"

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
        if self.place.expected is None or self._is_over():
            return False
        setup = self.place.setup
        assert isinstance(setup.target, KerasRunner)
        call = setup.trace.by_label.get(self.place.first.name)
        try:
            # Where the layer itself is replaced, its inputs are known, and the network before it need not run.
            if data is None and call is not None and list(overrides) == [self.place.first.name]:
                got = as_array(overrides[call.name](call.args, dict(call.kwargs)))
            else:
                calls = {**self._around(overrides), **overrides} if data is None else overrides
                until = "" if self.place.first.name in setup.trace.outputs else self.place.first.name
                got = self.place.value_in(setup.target.run(setup.data if data is None else data, calls, until))
        except Exception:  # another setting may be none that the layer, or what follows, takes
            return False
        if got is None:
            return False
        tolerance = setup.tolerance_of(self.place.first.name)
        result = compare(got, self.place.expected, tolerance)
        # The original's layer may apply another activation itself.
        if not result.agrees and self.place.plain is not None:
            result = compare(got, self.place.plain, tolerance)
        # Only what came nearer than the target did is worth adding a second fault to.
        if words and result.largest < self.place.first.difference:
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
