"""Warnings for those who call from Python: given through the standard `warnings`, as of the line that called."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from transferpipe.errors import TransferWarning
from transferpipe.planning.advice.warned import describe_warnings, group_by_code
from transferpipe.planning.model import PlanWarning

Give = Callable[[Iterable[PlanWarning]], None]
"""Gives the user warnings as they are found; raises the first that the user's filters make an error."""
_PACKAGE = f"{Path(__file__).parents[2]}{os.sep}"


def warn_caller() -> Give:
    """Return what gives warnings, each once, to the line outside of the package that is running now.

    Those of one kind that come together are one warning, whose message begins with their code: ``[unused] ...``.
    """
    # Looked up now, and not when they are given: by then other lines of the package may be running, or other threads.
    frame = inspect.currentframe()
    assert frame is not None  # CPython has them
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    filename, line = frame.f_code.co_filename, frame.f_lineno
    module = frame.f_globals.get("__name__", "<unknown>")
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    given: set[PlanWarning] = set()

    def give(found: Iterable[PlanWarning]) -> None:
        new = [warning for warning in found if warning not in given]
        given.update(new)
        for code, group in group_by_code(new).items():
            warnings.warn_explicit(TransferWarning(_message(group), code), None, filename, line, module, registry)

    return give


def _message(group: list[PlanWarning]) -> str:
    """Return the code and what is found, of many of one kind a few and their number."""
    first = group[0]
    if len(group) == 1:
        return f"[{first.code}] {first.where}: {first.text}" if first.where else f"[{first.code}] {first.text}"
    ((head, *rest),) = describe_warnings(group)
    return "\n  ".join([f"{head}:", *rest])
