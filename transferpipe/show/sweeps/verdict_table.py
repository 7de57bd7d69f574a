"""A verdict as text."""

from __future__ import annotations

from transferpipe.prove.verdict import Verdict
from transferpipe.text.fold import hang
from transferpipe.text.table import PLAIN_WIDTH
from transferpipe.text.visible import visible


def verdict_text(verdict: Verdict, checked: str, width: int = PLAIN_WIDTH) -> str:
    """Return a verdict as text, a line for the weights and one for the function; `checked` is what was compared."""
    labelled = zip(("verdict", ""), verdict.lines(checked), strict=True)
    return "\n".join(line for label, text in labelled for line in hang(label, visible(text), width, 9))
