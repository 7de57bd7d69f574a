"""What a sweep is going to run, and what of it cannot be planned."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from transferpipe.errors import TransferError
from transferpipe.sweep.variant import Planned, Variant

Broken = tuple[Variant, TransferError]


@dataclass(frozen=True)
class SweepPlan:
    """Everything that is known before the first variant runs.

    Attributes:
        name: what the sweep is called.
        folder: where it goes.
        variants: those that can be planned, controls last.
        broken: the others, each with the reason.
        inapplicable: controls that cannot be had, each with the reason.
        notes: what is to be said of its conditions.
    """

    name: str
    folder: Path
    variants: tuple[Planned, ...]
    broken: tuple[Broken, ...] = field(default=())
    inapplicable: tuple[Broken, ...] = field(default=())
    notes: tuple[str, ...] = ()
