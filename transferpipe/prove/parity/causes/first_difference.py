"""Where a difference lies: the first value that differs, what it should be, and the layers that may be at fault."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from transferpipe.prove.parity.compare import activate_like, compare
from transferpipe.prove.parity.judge import ACTIVATED, part_of
from transferpipe.prove.parity.keras_trace import Call, Trace
from transferpipe.prove.parity.result import Compared

if TYPE_CHECKING:
    from transferpipe.prove.parity.judge import Setup

# Layers that count as equal behind an activation of which nobody knows whether it is the original's: the last ones.
_MOST_ACTIVATED = 6


class FirstDifference:
    """The first value that differs.

    Attributes:
        setup: both models, as they ran.
        first: what differs.
        expected: the original's value; None where it is not known.
        plain: that value, where `expected` is what an activation makes of it.
        before: the last value before it that agrees; None where none does.
        candidates: the calls after that one up to the first that differs, one for each layer.
        activated: layers that count as equal behind an activation of which nobody knows whether it is the original's.
    """

    def __init__(self, setup: Setup, entries: Sequence[Compared], first: Compared) -> None:
        self.setup, self.first = setup, first
        self.plain: NDArray[Any] | None = None
        self.expected = self._find_expected()
        equal = [e.name for e in entries[: entries.index(first)] if e.status == "equal"]
        self.before = equal[-1] if equal else None
        self.candidates = self._between()
        doubtful = {e.name for e in entries[: entries.index(first)] if e.reason == ACTIVATED}
        self.activated = [c for c in setup.trace.calls if c.label in doubtful and c.number == 1][-_MOST_ACTIVATED:]

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

    def value_in(self, trace: Trace) -> NDArray[Any] | None:
        """Return what a run of the target gives where the first difference is."""
        if self.first.name in trace.outputs:
            return trace.outputs[self.first.name]
        call = trace.by_label.get(self.first.name)
        return call.value if call else None

    def pairs(self) -> Iterator[tuple[Call, Any]]:
        """Yield the candidates with the original's layers that they are paired with, where both are known."""
        for call in self.candidates:
            other = self.setup.settings.get(self.setup.pairs.get(call.name, ""))
            if other is not None:
                yield call, other

    def reference_call(self) -> Call | None:
        """Return the original's call of the layer that is the first to differ, if both are of Keras and known."""
        call = self.setup.reference.by_label.get(self.first.reference)
        is_known = call is not None and call.layer is not None and self.first.name in self.setup.trace.by_label
        return call if is_known else None

    def same(self, one: NDArray[Any], two: NDArray[Any]) -> bool:
        """Tell whether two values agree."""
        return one.shape == two.shape and compare(one, two, self.setup.tolerance).agrees
