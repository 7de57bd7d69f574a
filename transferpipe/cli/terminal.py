"""What a person sees: colour and progress bars on a terminal, plain lines in a pipe."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from transferpipe.cli.verbs import JSON, QUIET, Arguments
from transferpipe.text.fold import LEAST
from transferpipe.text.table import NARROW

if TYPE_CHECKING:
    from rich.progress import TaskID

    from transferpipe.progress import Progress


def is_terminal() -> bool:
    """Tell whether a person reads the output."""
    return sys.stdout.isatty()


def in_colour() -> bool:
    """Tell whether to print colours: on a terminal, unless NO_COLOR is set; elsewhere where FORCE_COLOR is."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (is_terminal() and os.environ.get("TERM") != "dumb")


def width() -> int:
    """Return how wide lines may be: what COLUMNS says, or else the terminal's width, or 80 where there is none."""
    return max(shutil.get_terminal_size((NARROW, 24)).columns, LEAST)


def height() -> int:
    """Return how many lines are seen at once: what LINES says, or else the terminal's, or 24 where there is none."""
    return shutil.get_terminal_size((NARROW, 24)).lines


@contextmanager
def muted(arguments: Arguments) -> Iterator[None]:
    """Let nothing be printed on standard output meanwhile where --quiet or --json asks for that."""
    if arguments.flags.isdisjoint((QUIET, JSON)):
        yield
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


@contextmanager
def no_progress() -> Iterator[Progress]:
    """Yield a callback that shows nothing."""
    yield lambda step, done, total: None


@contextmanager
def progress() -> Iterator[Progress]:
    """Yield a callback that shows how far each step is: bars on a terminal, one line a step elsewhere."""
    if not sys.stderr.isatty():
        yield _StepLines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<8}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def update(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield update


@contextmanager
def plain_progress() -> Iterator[Progress]:
    """Yield a callback that prints one line a step."""
    yield _StepLines()


class _StepLines:
    """Prints a line when a step is complete."""

    def __call__(self, step: str, done: int, total: int) -> None:
        if done >= total:
            print(f"{step}: {total:,} bytes", file=sys.stderr)
