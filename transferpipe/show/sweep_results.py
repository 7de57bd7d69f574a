"""The results of a sweep for those who read them from Python."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transferpipe.show.sweep_table import leaderboard_text
from transferpipe.sweep.leaderboard import Entry, Leaderboard, Row, leaderboard
from transferpipe.sweep.record import SweepRecord, read_contents, record_data, require_sweep
from transferpipe.text.collapse import counted
from transferpipe.text.table import NARROW


@dataclass(frozen=True, repr=False)
class SweepResults:
    """What a sweep came to. Print it to see the ranked table; loop over it for the rows, the best first.

    Attributes:
        folder: the folder of the sweep.
        record: what it holds.
    """

    folder: Path
    record: SweepRecord

    @cached_property
    def board(self) -> Leaderboard:
        """The ranked rows, and what they measure."""
        return leaderboard(self.record.entries, self.record.settings.get("against"))

    @property
    def rows(self) -> tuple[Row, ...]:
        """A row a setting, over all of its seeds; those that are ranked first, the best of them at the top."""
        return self.board.rows

    @property
    def variants(self) -> tuple[Entry, ...]:
        """Every variant with its result, one a seed."""
        return self.record.entries

    @property
    def best(self) -> Row | None:
        """The row of the first rank; None where nothing is ranked."""
        return next((row for row in self.rows if row.ranks), None)

    def to_data(self) -> dict[str, Any]:
        """Return it as mappings, lists, texts and numbers, as in sweep.json."""
        return record_data(self.record)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        return leaderboard_text(self.board, width=NARROW)

    def __repr__(self) -> str:
        done = sum(1 for entry in self.variants if entry.result)
        return f"<SweepResults {self.record.name}: {done:,} of {counted(len(self.variants), 'variant')} finished>"


def read_results(folder: Path) -> SweepResults:
    """Return the results of the sweep in `folder`, as far as they are there.

    Raises:
        RecipeError: there is no sweep.
        FileError: its files are damaged.
    """
    require_sweep(folder)
    return SweepResults(folder, read_contents(folder))
