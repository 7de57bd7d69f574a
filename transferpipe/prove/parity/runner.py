"""A model that can be run, and what is said where one cannot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from transferpipe.prove.parity.keras_trace import InputSpec, Trace

AGAIN = "the model is damaged or incomplete: copy or save it again"
ELSEWHERE = "run the original where it runs, and give verify: {parity: {inputs: x.npz, expected: y.npz}}"


class CannotRunError(Exception):
    """A model that cannot be run here, and why; the comparison is then inconclusive."""


class Runner(Protocol):
    """A model that can be run."""

    framework: str
    label: str

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What it takes; empty where it does not say."""

    def run(self, data: Sequence[NDArray[Any]]) -> Trace:
        """Run it on one array an input."""
