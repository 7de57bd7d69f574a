"""A score and its controls as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transferpipe.text.fold import hang
from transferpipe.text.table import PLAIN_WIDTH
from transferpipe.text.visible import visible

LARGE = 1e8  # from here on, four decimals would be twenty digits


def score_text(score: Mapping[str, Any], width: int = PLAIN_WIDTH) -> str:
    """Return the score, then each control beside it, then what may be said of them."""
    rows = [("this model", score["value"], score.get("spread"))]
    tested = score.get("test") is not None
    rows += [("this model, test part", score["test"], score.get("test_spread"))] if tested else []
    controls = ((f"{c['name']}, test part" if tested else c["name"], c) for c in score.get("controls", ()))
    rows += [(name, c["value"], c.get("spread")) for name, c in controls]
    wide = max(len(name) for name, _, _ in rows)
    lines = []
    for name, value, spread in rows:
        shown = number_text(value) + (f" ± {number_text(spread)}" if spread is not None else "")
        lines.append(f"         {name:<{wide}}  {shown}")
    notes = [line for note in score.get("notes", ()) for line in hang("", visible(note), width, 9)]
    return "\n".join([*hang("score", visible(score_title(score)), width, 9), *lines, *notes])


def score_title(score: Mapping[str, Any]) -> str:
    """Return what the score is called, its label, which numbers are better, and what it cost."""
    direction = "higher" if score["higher_is_better"] else "lower"
    return f"{score['name']} ({', '.join([score['kind'], f'{direction} is better', *_cost(score)])})"


def number_text(value: float) -> str:
    """Return a number with four decimals; a small one, such as a difference of activations, and a large one in short.

    >>> number_text(0.25), number_text(-0.0), number_text(1e-5), number_text(-1.5e22)
    ('0.2500', '0.0000', '1.00e-05', '-1.5000e+22')
    """
    if abs(value) >= LARGE:
        return f"{value:.4e}"
    return f"{value or 0.0:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.2e}"


def _cost(score: Mapping[str, Any]) -> list[str]:
    seconds = [f"{score['seconds']:.1f} s"] if "seconds" in score else []
    return [" of ".join([*seconds, score["needs"]])] if score.get("needs") else seconds
