"""What notebooks show: results as small pieces of HTML, and errors of ours without the frames in between.

The HTML has no script, no address and no colour of its own, so that it is readable on dark and on light. What is wide
scrolls sideways in its place.
"""

from __future__ import annotations

import html
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from transferpipe.text.listing import and_more
from transferpipe.text.visible import visible

_PACKAGE = Path(__file__).parents[1]
# A cell of a notebook is kept in its file: the whole table of a large model would make that megabytes.
_MOST_ROWS = 200
# The class stands twice, so that it counts more than what Jupyter says of all tables.
_STYLE = (
    ".transferpipe{overflow-x:auto;max-width:100%}"
    ".transferpipe.transferpipe table{border-collapse:collapse;margin:.5em 0}"
    ".transferpipe.transferpipe th,.transferpipe.transferpipe td{text-align:left;"
    "white-space:nowrap;padding:.1em .8em .1em 0;font-variant-numeric:tabular-nums}"
    ".transferpipe.transferpipe th{border-bottom:1px solid currentColor}"
)


def escape(text: str) -> str:
    r"""Return `text` as HTML shows it, on one line, with nothing in it that is a command.

    >>> escape("<b>\n")
    '&lt;b&gt;\\n'
    """
    return html.escape(visible(text))


def html_fragment(*parts: str) -> str:
    """Return parts that are HTML already as one piece for a notebook."""
    return f'<div class="transferpipe"><style>{_STYLE}</style>{"".join(parts)}</div>'


def html_lines(lines: Iterable[str]) -> str:
    """Return each text as a line of its own.

    >>> html_lines(["a < b"])
    '<div>a &lt; b</div>'
    """
    return "".join(f"<div>{escape(line)}</div>" for line in lines)


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]], rest: str = "") -> str:
    """Return a table; of very many rows the first, and how many more there are, with `rest` where they are.

    >>> html_table(["name"], [["a/b"]])
    '<table><thead><tr><th>name</th></tr></thead><tbody><tr><td>a/b</td></tr></tbody></table>'
    """
    heads = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows[:_MOST_ROWS])
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
    more = and_more(len(rows) - _MOST_ROWS)
    return table + (html_lines([f"{more.strip()}{rest}"]) if more else "")


def html_details(summary: str, inner: str) -> str:
    """Return `inner`, which is HTML already, folded away under a line of text."""
    return f"<details><summary>{escape(summary)}</summary>{inner}</details>"


def brief_traceback(error: BaseException, message: Sequence[str]) -> list[str]:
    """Return what IPython shows of an error of ours: `message`, the user's own lines, and how to see all frames.

    IPython asks an exception for this by the method `_render_traceback_`; Python itself does not know it.
    """
    name = type(error).__name__
    lines = [f"{name}: {visible(message[0])}", *map(visible, message[1:]), ""]
    lines += [f"{_place(f)}: {f.line}" for f in _own_frames(error.__traceback__)]
    cause = error.__cause__
    if cause is not None and not isinstance(cause, type(error)):
        frames = _own_frames(cause.__traceback__, inside=True)
        at = f", at {_place(frames[-1])}: {frames[-1].line}" if frames else ""
        lines.append(f"caused by {type(cause).__name__}{at}")
    return [*lines, "all frames: import sys, traceback; traceback.print_exception(sys.last_value)"]


def _own_frames(trace: TracebackType | None, inside: bool = False) -> list[traceback.FrameSummary]:
    """Return the frames that are neither ours nor IPython's: those that called us, or those that we called."""
    frames = traceback.extract_tb(trace)
    ours = [k for k, frame in enumerate(frames) if _PACKAGE in Path(frame.filename).parents]
    if inside:
        frames = traceback.StackSummary(frames[ours[-1] + 1 :] if ours else frames)
    elif ours:
        frames = traceback.StackSummary(frames[: ours[0]])
    return [f for f in frames if "IPython" not in Path(f.filename).parts]


def _place(frame: traceback.FrameSummary) -> str:
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    naming = getattr(getattr(shell, "compile", None), "format_code_name", lambda _: None)
    named = naming(frame.filename)  # a cell's number
    return f"{' '.join(named) if named else frame.filename}, line {frame.lineno}"
