"""The number a variant is ranked by, with what it has to be compared with. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Control:
    """What something simpler reached on the same task.

    Attributes:
        name: what was done instead, such as ``raw pixels``.
        value: its number, on the same scale as the score.
        spread: standard deviation over repetitions; None where there was only one.
    """

    name: str
    value: float
    spread: float | None

    def to_data(self) -> dict[str, Any]:
        """Return the control as values that JSON knows."""
        return {"name": self.name, "value": self.value, "spread": self.spread}


@dataclass(frozen=True)
class Score:
    """A variant's number.

    Two scores are equal if everything but the time agrees.

    Attributes:
        value: the number, a mean if there were repetitions.
        name: what it measures, such as ``test accuracy``.
        higher_is_better: which way to rank.
        kind: ``trained`` if something was trained for it, ``heuristic`` if it was computed from the weights alone.
        seconds: wall time it took.
        controls: what simpler things reached.
        notes: sentences for the reader: how it was measured, and what the numbers allow to be said.
        spread: standard deviation of `value` over repetitions; None where there was only one.
    """

    value: float
    name: str
    higher_is_better: bool
    kind: Literal["trained", "heuristic"]
    seconds: float = field(compare=False)
    controls: tuple[Control, ...] = ()
    notes: tuple[str, ...] = ()
    spread: float | None = None

    def to_data(self) -> dict[str, Any]:
        """Return the score as values that JSON knows: dicts, lists, strings, numbers and None."""
        return {
            "name": self.name,
            "value": self.value,
            "spread": self.spread,
            "higher_is_better": self.higher_is_better,
            "kind": self.kind,
            "seconds": self.seconds,
            "controls": [control.to_data() for control in self.controls],
            "notes": list(self.notes),
        }
