"""The drawings of a sweep: the score along one key, a line a setting of the others; or a dot a setting."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transferpipe.show.sweeps.sweep_words import label_of
from transferpipe.sweep.comparing.leaderboard import Leaderboard, Row
from transferpipe.sweep.comparing.statistics import Estimate
from transferpipe.sweep.variant import NAMED
from transferpipe.text.visible import visible

_SIZE = (7.2, 4.2)  # inches
_WIDE = 100.0  # times the smallest: beyond, an axis is logarithmic
# Labels of more points lie on top of each other at this size.
_MOST_DOTS = 40
# Colours come back after ten lines; then the marker and the dashes tell them apart.
_MARKERS, _DASHES = "os^Dv", ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1, 1, 1)))
_CONTROL = "control"
# More names than this are no legend but a list, which the table is; more bands cover each other.
_MOST_NAMED, _MOST_BANDS = 20, 10


@dataclass(frozen=True)
class Curve:
    """One line: its name, the estimate at every place along the axis, and whether it stands back behind better ones."""

    name: str
    points: tuple[tuple[float, Estimate], ...]
    back: bool = False


def numeric_key(board: Leaderboard) -> str | None:
    """Return the first key whose values are numbers wherever it has one."""
    for key in board.keys:
        values = [_number(row.setting[key]) for row in board.rows if key in row.setting and not row.control]
        if values and all(v is not None for v in values):
            return key
    return None


def curves(board: Leaderboard, x: str) -> list[Curve]:
    """Return the lines of `board` along the key `x`; a row where that is not a number is a line across the width."""
    rows = _present(board)
    places = sorted({p for row in rows if (p := _number(row.setting.get(x))) is not None})
    lines: dict[str, list[tuple[float, Estimate]]] = {}
    for row in rows:
        if row.reported is None:
            continue
        place = _number(row.setting.get(x))
        lines.setdefault(_name(row, x), []).extend(
            (p, row.reported) for p in ([place] if place is not None else places)
        )
    first = [name for name in lines if not name.startswith(_CONTROL)][:_MOST_NAMED]  # rows come in their ranks' order
    return [
        Curve(name, tuple(sorted(points, key=lambda p: p[0])), name not in first and not name.startswith(_CONTROL))
        for name, points in sorted(lines.items())
    ]


def _present(board: Leaderboard) -> list[Row]:
    return [row for row in board.rows if not (row.stale or row.rung)]  # shorter trainings are another thing


def _name(row: Row, x: str) -> str:
    rest = " ".join(v if k == NAMED else f"{k}={v}" for k, v in row.setting.items() if k != x)
    return f"{_CONTROL}: {row.control} {rest}".rstrip() if row.control else rest or "score"


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def curves_svg(lines: Sequence[Curve], labels: Mapping[str, str]) -> str:
    """Return the drawing as SVG; empty where there is nothing to draw. The same curves give the same text.

    Args:
        lines: the curves.
        labels: texts for ``x``, ``y`` and, if wanted, ``title``.
    """
    if not any(len(line.points) > 1 for line in lines):
        return ""

    def draw(figure: Any, axes: Any) -> None:
        styles = itertools.count()
        bands = sum(1 for line in lines if not line.back) <= _MOST_BANDS
        for line in sorted(lines, key=lambda line: not line.back):
            if line.back:
                axes.plot(
                    [p for p, _ in line.points],
                    [e.mean for _, e in line.points],
                    color="0.35",
                    linewidth=0.5,
                    alpha=0.4,
                )
                continue
            _draw(axes, line, None if line.name.startswith(_CONTROL) else next(styles), bands)
        axes.set(xlabel=visible(labels["x"]), ylabel=visible(labels["y"]))
        _scale(axes, [p for line in lines for p, _ in line.points])
        _within(axes.get_ylim, axes.set_ylim, labels["y"])
        axes.grid(axis="y", alpha=0.25)
        figure.legend(loc="outside lower center", frameon=False, ncols=2)

    return _svg(draw, labels, _SIZE[1] + 0.1 * sum(1 for line in lines if not line.back))


def _scale(axes: Any, places: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    if min(places) > 0 and max(places) / min(places) > _WIDE:
        axes.set_xscale("log")
        # By itself it writes powers of ten in the language of mathematics, which is off.
        axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: f"{place:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif all(p.is_integer() for p in places):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _within(get: Callable[[], tuple[float, float]], put: Callable[[float, float], object], name: str) -> None:
    """Keep the axis of an accuracy between 0 and 1, where alone it means something."""
    if "accuracy" in name:
        low, high = get()
        put(max(low, 0.0), min(high, 1.0))


def _draw(axes: Any, line: Curve, number: int | None, band: bool) -> None:
    places = [p for p, _ in line.points]
    means = [e.mean for _, e in line.points]
    low, high = [e.low for _, e in line.points], [e.high for _, e in line.points]
    if number is None:
        style: dict[str, Any] = {"linestyle": "--", "marker": "", "color": "0.35"}
    else:
        turn = number // 10
        marker, dashes = _MARKERS[(number + turn) % len(_MARKERS)], _DASHES[turn % len(_DASHES)]
        style = {"marker": marker, "markersize": 4, "linestyle": dashes, "color": f"C{number % 10}"}
    (drawn,) = axes.plot(places, means, label=visible(line.name), linewidth=1.4, **style)
    if band:
        axes.fill_between(places, low, high, alpha=0.15, color=drawn.get_color(), linewidth=0)


def dots_svg(board: Leaderboard, labels: Mapping[str, str]) -> str:
    """Return a dot with its interval for each of the first rows as SVG; empty where there are not two."""
    rows = [row for row in _present(board) if row.reported][:_MOST_DOTS]
    if len(rows) < 2:
        return ""

    def draw(_: Any, axes: Any) -> None:
        for place, row in enumerate(reversed(rows)):
            assert row.reported is not None
            colour = "0.35" if row.control else "C0"
            axes.errorbar(row.reported.mean, place, xerr=row.reported.half_width, fmt="o", color=colour, capsize=3)
        axes.set_yticks(range(len(rows)), [label_of(row.setting, row.control)[-60:] for row in reversed(rows)])
        axes.set(xlabel=visible(labels["y"]))
        _within(axes.get_xlim, axes.set_xlim, labels["y"])
        axes.grid(axis="x", alpha=0.25)

    return _svg(draw, labels, 1.0 + 0.3 * len(rows))


def _svg(draw: Callable[[Any, Any], None], labels: Mapping[str, str], height: float) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    # Names come from recipes: a dollar sign is no mathematics.
    # matplotlib draws the ids of an SVG by chance unless it has a salt.
    own = {"svg.hashsalt": "transferpipe", "svg.fonttype": "none", "font.size": 9, "text.parse_math": False}
    with matplotlib.rc_context(own):
        figure = Figure(figsize=(_SIZE[0], height), layout="constrained")
        axes = figure.add_subplot()
        draw(figure, axes)
        axes.spines[["top", "right"]].set_visible(False)
        if labels.get("title"):
            axes.set_title(visible(labels["title"]), fontsize=10)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return text.getvalue()
