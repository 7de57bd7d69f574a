"""What a sweep says while it runs: a line a finished variant, and on a terminal a bar with the time that is left."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from transferpipe.show.score_table import number_text
from transferpipe.sweep.job import DONE, LOG, OnResult, Result
from transferpipe.text.visible import visible


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
def sweep_progress(total: int, labels: Mapping[str, str], folder: Path) -> Iterator[OnResult]:
    """Yield what is called with every result.

    Args:
        total: how many variants are to run.
        labels: what each is called, by its key.
        folder: where their folders are.
    """
    lines = _ResultLines(total, labels, folder)
    if not total or not (sys.stderr.isatty() and sys.stdout.isatty()):
        yield lines
        return
    # A terminal of its own, and not what goes into a variant's log while it runs.
    terminal = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors="backslashreplace")
    console = Console(file=terminal)
    columns = (TextColumn("sweep"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
    with terminal, bar:
        task = bar.add_task("sweep", total=total)

        def show_result(key: str, result: Result) -> None:
            console.print(lines.line(key, result, with_time=False), markup=False, highlight=False)
            bar.advance(task)

        yield show_result


class _ResultLines:
    """Makes the lines, numbered as results come in."""

    def __init__(self, total: int, labels: Mapping[str, str], folder: Path) -> None:
        self._total, self._labels, self._folder = total, labels, folder
        self._done, self._started = 0, time.perf_counter()

    def __call__(self, key: str, result: Result) -> None:
        print(self.line(key, result), flush=True)

    def line(self, key: str, result: Result, with_time: bool = True) -> str:
        self._done += 1
        left = (time.perf_counter() - self._started) / self._done * (self._total - self._done)
        rest = f"  ({_duration(left)} left)" if with_time and self._done < self._total else ""
        label, seconds = visible(self._labels.get(key, key)), result.get("seconds", 0)
        return f"[{self._done}/{self._total}] {label}  {self._outcome(key, result)}  {seconds:.1f} s{rest}"

    def _outcome(self, key: str, result: Result) -> str:
        if result["status"] != DONE:
            return visible(f"FAILED: {'; '.join(result['problems'])}; see {self._folder / key / LOG}")
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
