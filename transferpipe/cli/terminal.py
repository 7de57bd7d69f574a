"""What a person sees: colour and progress bars on a terminal, plain lines in a pipe."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from transferpipe.text.fold import LEAST
from transferpipe.text.table import NARROW

if TYPE_CHECKING:
    from rich.progress import TaskID

    from transferpipe.progress import Progress


def is_terminal() -> bool:
    """Tell whether a person reads the output."""
    return sys.stdout.isatty()


def width() -> int:
    """Return how wide lines may be: what COLUMNS says, or else the terminal's width, or 80 where there is none."""
    return max(shutil.get_terminal_size((NARROW, 24)).columns, LEAST)


@contextmanager
def progress() -> Iterator[Progress]:
    """Yield a callback that shows how far each step is: bars on a terminal, one line a step elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines()
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
    yield _Lines()


class _Lines:
    """Prints a line when a step is complete."""

    def __call__(self, step: str, done: int, total: int) -> None:
        if done >= total:
            print(f"{step}: {total:,} bytes", file=sys.stderr)
