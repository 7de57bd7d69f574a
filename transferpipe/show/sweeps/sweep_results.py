"""The results of a sweep for those who read them from Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transferpipe.packages import missing_package
from transferpipe.show.sweeps.sweep_table import leaderboard_text
from transferpipe.sweep.columns import columns_of, number_or_none
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.leaderboard import Leaderboard, Row
from transferpipe.sweep.record import SweepRecord, board_of_record, read_contents, record_data, require_sweep
from transferpipe.text.collapse import counted
from transferpipe.text.table import NARROW

if TYPE_CHECKING:
    from pandas import DataFrame


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
        return board_of_record(self.record)

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


def frame_of(record: SweepRecord) -> DataFrame:
    """Return a sweep as a DataFrame with a row a variant; columns that hold only numbers are numbers.

    Raises:
        MissingPackageError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        instead = "take tp.rank_sweep, whose rows need no pandas"
        raise missing_package("read_sweep", "a DataFrame", "pandas", instead, error) from error
    names, rows = columns_of(record)
    return pd.DataFrame({name: _parse_numbers([row.get(name) for row in rows]) for name in names})


def _parse_numbers(values: Sequence[Any]) -> Sequence[Any]:
    """Return texts as the numbers that they are, if all of them are; whole ones stay whole where none is missing."""
    texts = [value for value in values if value is not None]
    if not all(isinstance(v, str) and number_or_none(v) is not None for v in texts) or not texts:
        return values
    whole = all(text.lstrip("-").isdecimal() for text in texts)
    return [None if v is None else int(v) if whole else float(v) for v in values]


def read_results(folder: Path) -> SweepResults:
    """Return the results of the sweep in `folder`, as far as they are there.

    Raises:
        RecipeError: there is no sweep.
        FileError: its files are damaged.
    """
    require_sweep(folder)
    return SweepResults(folder, read_contents(folder))
