"""The curves of a sweep: the score along one key, a line a setting of the others, with the intervals over seeds."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transferpipe.sweep.leaderboard import Leaderboard, Row
from transferpipe.sweep.statistics import Estimate

_SIZE = (7.2, 4.2)  # inches


@dataclass(frozen=True)
class Curve:
    """One line: its name, and the estimate at every place along the axis."""

    name: str
    points: tuple[tuple[float, Estimate], ...]


def curves(board: Leaderboard, x: str) -> list[Curve]:
    """Return the lines of `board` along the key `x`; a row where that is no number is a line across the whole width."""
    places = sorted({p for row in board.rows if (p := _number(row.setting.get(x))) is not None})
    lines: dict[str, list[tuple[float, Estimate]]] = {}
    for row in board.rows:
        if row.score is None:
            continue
        place = _number(row.setting.get(x))
        lines.setdefault(_name(row, x), []).extend((p, row.score) for p in ([place] if place is not None else places))
    return [Curve(name, tuple(sorted(points, key=lambda p: p[0]))) for name, points in sorted(lines.items())]


def _name(row: Row, x: str) -> str:
    rest = " ".join(value for key, value in row.setting.items() if key != x)
    return f"control: {row.control} {rest}".rstrip() if row.control else rest or "score"


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def curves_svg(lines: Sequence[Curve], labels: Mapping[str, str]) -> str:
    """Return the drawing as SVG; empty where there is nothing to draw. The same curves give the same text.

    Args:
        lines: the curves.
        labels: texts for ``x``, ``y`` and, if wanted, ``title``.
    """
    if not any(len(line.points) > 1 for line in lines):
        return ""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with matplotlib.rc_context({"svg.hashsalt": "transferpipe", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.add_subplot()
        for line in lines:
            _draw(axes, line)
        axes.set_xlabel(labels["x"])
        axes.set_ylabel(labels["y"])
        if labels.get("title"):
            axes.set_title(labels["title"], fontsize=10)
        if all(float(p).is_integer() for line in lines for p, _ in line.points):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
        figure.legend(loc="outside right upper", frameon=False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def _draw(axes: object, line: Curve) -> None:
    places = [p for p, _ in line.points]
    means = [e.mean for _, e in line.points]
    style = {"linestyle": "--", "marker": ""} if line.name.startswith("control") else {"marker": "o", "markersize": 4}
    (drawn,) = axes.plot(places, means, label=line.name, linewidth=1.4, **style)  # type: ignore[attr-defined]
    low, high = [e.low for _, e in line.points], [e.high for _, e in line.points]
    axes.fill_between(places, low, high, alpha=0.15, color=drawn.get_color(), linewidth=0)  # type: ignore[attr-defined]
