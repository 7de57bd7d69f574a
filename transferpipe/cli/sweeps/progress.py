"""What a sweep says while it runs: a line a finished variant, and on a terminal a bar with the time that is left."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from transferpipe.show.sweeps.score_table import number_text
from transferpipe.show.sweeps.sweep_words import MOST_WHOLE, in_short, some
from transferpipe.sweep.running.job import DONE, LOG, OnResult, Result
from transferpipe.text.visible import visible

_LINES, _KINDS = 4, 3  # of the progress of many variants, and of their failures


@contextmanager
def planning_progress() -> Iterator[Callable[[int, int], None]]:
    """Yield what is called with how many variants are planned, and of how many; it says so on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    console = Console(file=sys.stderr)
    with console.status("planning") as line:
        yield lambda done, total: line.update(f"planning {done} of {total}")


@contextmanager
def sweep_progress(labels: Mapping[str, Sequence[str]], folder: Path) -> Iterator[OnResult]:
    """Yield what is called with every result.

    Args:
        labels: by the key of each run, what the variants are called that share it.
        folder: where their folders are.
    """
    lines = _ResultLines(labels, folder)
    if not labels or not (sys.stderr.isatty() and sys.stdout.isatty()):
        yield lines
        return
    # A terminal of its own, and not what goes into a variant's log while it runs.
    terminal = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors="backslashreplace")
    console = Console(file=terminal)
    columns = (TextColumn("sweep"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
    with terminal, bar:
        task = bar.add_task("sweep", total=lines.total)

        def show_result(key: str, result: Result) -> None:
            if line := lines.line(key, result, with_time=False):
                console.print(line, markup=False, highlight=False)
            bar.advance(task, len(labels.get(key, (key,))))

        yield show_result


class _ResultLines:
    """Makes the lines, numbered by variants as results come in.

    Of a few variants, a line each. Of many, a line a quarter, and the first failures of each kind: what all came to
    stands in the table, on the page and in the logs.
    """

    def __init__(self, labels: Mapping[str, Sequence[str]], folder: Path) -> None:
        self._labels, self._folder = labels, folder
        self.total = sum(map(len, labels.values()))
        self._done, self._failed, self._started = 0, 0, time.perf_counter()
        self._known: set[str] = set()

    def __call__(self, key: str, result: Result) -> None:
        if line := self.line(key, result):
            print(line, flush=True)

    def line(self, key: str, result: Result, with_time: bool = True) -> str:
        """Return what is to be said of a result; empty where that is nothing."""
        same = self._labels.get(key, (key,))
        before, self._done = self._done, self._done + len(same)
        failed = result["status"] != DONE
        self._failed += len(same) * failed
        left = (time.perf_counter() - self._started) / self._done * (self.total - self._done)
        rest = f"  ({_duration(left)} left)" if with_time and self._done < self.total else ""
        if self.total > MOST_WHOLE and not (failed and self._is_new(result)):
            quarter = self.total / _LINES
            if self._done // quarter == before // quarter:
                return ""
            failures = f", {self._failed} failed" if self._failed else ""
            return f"[{self._done}/{self.total}] finished{failures}{rest}"
        label, seconds = visible(some(same)), result.get("seconds", 0)
        return f"[{self._done}/{self.total}] {label}  {self._outcome(key, result)}  {seconds:.1f} s{rest}"

    def _is_new(self, result: Result) -> bool:
        """Tell whether this is one of the first failures, and of another kind than those before."""
        kind = in_short(result.get("problems", ()))
        if kind in self._known or len(self._known) >= _KINDS:
            return False
        self._known.add(kind)
        return True

    def _outcome(self, key: str, result: Result) -> str:
        if result["status"] != DONE:
            return visible(f"FAILED: {in_short(result['problems'])}; see {self._folder / key / LOG}")
        score = result.get("score")
        return number_text(score["value"]) if score else "done"


def _duration(seconds: float) -> str:
    """Return a time as a person says it.

    >>> _duration(5), _duration(125), _duration(7300)
    ('5 s', '2 min', '2 h 2 min')
    """
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
