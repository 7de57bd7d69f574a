"""A score and its controls as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def score_text(score: Mapping[str, Any]) -> str:
    """Return the score, then each control beside it, then what may be said of them."""
    rows = [("this model", score["value"], score.get("spread"))]
    rows += [(c["name"], c["value"], c.get("spread")) for c in score.get("controls", ())]
    wide = max(len(name) for name, _, _ in rows)
    lines = [
        f"score    {score['name']} ({score['kind']}, {'higher' if score['higher_is_better'] else 'lower'} is better)"
    ]
    for name, value, spread in rows:
        shown = f"{value:.4f}" + (f" ± {spread:.4f}" if spread is not None else "")
        lines.append(f"         {name:<{wide}}  {shown}")
    return "\n".join(lines + [f"         {note}" for note in score.get("notes", ())])
