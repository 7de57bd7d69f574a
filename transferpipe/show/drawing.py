"""Drawings as SVG, in the colours of the page that they stand on: scales, axes, lines, dots. Every text is escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from transferpipe.text.visible import visible

WIDTH, HEIGHT = 720, 340
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 44
_WIDE = 100.0  # times the smallest: beyond, a scale is logarithmic
_TICKS = 6  # about as many as can be read along an axis
_LONGEST = 26  # characters of a label on a drawing; all of it is in the title that a pointer shows

Point = tuple[float, float]


@dataclass(frozen=True)
class AxisScale:
    """Where a number lies between two places of the drawing.

    Attributes:
        low: the number at `start`.
        high: the number at `end`.
        start: a place in the drawing.
        end: another.
        logarithmic: whether equal steps are equal ratios.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Return the place of a number."""
        low, high, value = (math.log10(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[float]:
        """Round numbers within the scale."""
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [10.0**p for p in powers]
            inside = [t for t in found if self.low <= t <= self.high]
            return inside[:: math.ceil(len(inside) / _TICKS)] if len(inside) > 1 else [self.low, self.high]
        step = _round_step((self.high - self.low) / _TICKS)
        # A billionth more, since 0.3 / 0.1 is 2.9999999999999996.
        return [i * step for i in range(math.ceil(self.low / step), math.floor(self.high / step + 1e-9) + 1)]


def scale_of(values: Iterable[float], start: float, end: float, margin: float = 0.05) -> AxisScale:
    """Return the scale of numbers of which there is at least one; a logarithmic one where they are far apart."""
    known = [*values]
    low, high = min(known), max(known)
    if low > 0 and high / low > _WIDE:
        return AxisScale(low / 1.3, high * 1.3, start, end, logarithmic=True)
    # Around a single number, as much room as shows that it is one.
    room = (high - low) * margin if high > low else abs(low) * 0.1 or 1.0
    return AxisScale(low - room, high + room, start, end)


def _round_step(step: float) -> float:
    """Return the next of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def number_label(value: float) -> str:
    """Return a number as it stands beside an axis.

    >>> [number_label(v) for v in (0, 0.30000000000000004, 1200, 2_500_000, 1e-5)]
    ['0', '0.3', '1,200', '2.5M', '1e-05']
    """
    if abs(value) >= 1e6:
        return f"{value / 1e6:,.4g}M"
    return f"{round(value):,}" if abs(value) >= 1000 else f"{value:.4g}"


def shortened(text: str) -> str:
    """Return a label that finds room."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def svg(
    name: str, title: str, description: str, parts: Iterable[str], size: tuple[float, float] = (WIDTH, HEIGHT)
) -> Markup:
    """Return a drawing with a title and a description, which screen readers read in its place.

    Args:
        name: sets it apart from the others on the page.
        title: what it shows.
        description: what is to be seen on it.
        parts: what is drawn.
        size: its width and height.
    """
    head = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" role="img" aria-labelledby="{n}-t {n}-d">'
        '<title id="{n}-t">{}</title><desc id="{n}-d">{}</desc>'
    ).format(*size, title, description, n=name)
    return head + Markup("").join(parts) + Markup("</svg>")


def text_at(x: float, y: float, text: str, anchor: str = "middle", full: str = "") -> Markup:
    """Return a text; `full` is what a pointer shows of it."""
    title = Markup("<title>{}</title>").format(visible(full)) if full else ""
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}{}</text>').format(x, y, anchor, visible(text), title)


def axes(x: AxisScale, y: AxisScale, x_label: str, y_label: str) -> list[Markup]:
    """Return a grid with its numbers, and what they are."""
    parts = []
    for tick in y.ticks:
        place = y.at(tick)
        parts.append(Markup('<path class="grid" d="M{} {}H{}"/>').format(x.start, place, x.end))
        parts.append(text_at(x.start - 6, place + 4, number_label(tick), "end"))
    for tick in x.ticks:
        place = x.at(tick)
        parts.append(Markup('<path class="grid" d="M{} {}v5"/>').format(place, y.start))
        parts.append(text_at(place, y.start + 18, number_label(tick)))
    parts.append(text_at((x.start + x.end) / 2, y.start + 36, x_label + (" (logarithmic)" if x.logarithmic else "")))
    middle = (y.start + y.end) / 2
    turned = Markup('<text transform="translate(14 {}) rotate(-90)" text-anchor="middle">{}</text>')
    parts.append(turned.format(middle, visible(y_label) + (" (logarithmic)" if y.logarithmic else "")))
    return parts


def line(points: Sequence[Point], kind: str, label: str, title: str) -> Markup:
    """Return a line through places of the drawing.

    Args:
        points: the places.
        kind: classes that give it its looks.
        label: what the page's filter knows it by.
        title: what a pointer shows.
    """
    path = " ".join(f"{px:g},{py:g}" for px, py in points)
    made = Markup('<polyline class="{}" data-label="{}" points="{}"><title>{}</title></polyline>')
    return made.format(kind, visible(label), path, visible(title))


def dot(place: Point, kind: str, label: str, title: str, radius: float = 4) -> Markup:
    """Return a dot; see `line`."""
    made = Markup('<circle class="{}" data-label="{}" cx="{:g}" cy="{:g}" r="{:g}"><title>{}</title></circle>')
    return made.format(kind, visible(label), *place, radius, visible(title))
