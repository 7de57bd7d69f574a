"""The picture of a plan as SVG: boxes on both sides, what flows between them, and below the pictures of what is folded.

It is written here and not by a template: of thousands of boxes that takes a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from transferpipe.show.network_picture import BOX, HEIGHT, WIDTH, Box, Flow, Picture
from transferpipe.show.pages import escaped

_RIGHT = WIDTH - BOX
_ICE = "<rect class=ice {}/>"


def picture_markup(picture: Picture) -> Markup:
    """Return the picture, and those of what is folded in it, which are closed; their boxes lead to them."""
    return Markup("".join(_draw(picture)))  # noqa: S704 - every text of it is escaped


def _draw(picture: Picture) -> Iterator[str]:
    label = escaped(picture.label)
    yield f"<figure id='open-{picture.number}' tabindex=-1 aria-label='{label or 'Both networks'}'>\n"
    yield f"<div class=scroll role=group tabindex=0 aria-label='Picture of {label or 'both networks'}'>\n"
    yield "<svg role=group aria-label='Sources on the left, target on the right' "
    yield f"viewBox='0 0 {WIDTH} {picture.height}' width={WIDTH} height={picture.height}>\n"
    source = "source" if picture.sources else "no source"
    yield f"<text class=side x=0 y=14>{source}</text><text class=side x={_RIGHT} y=14>target</text>\n"
    yield from map(_flow, picture.flows)
    yield from _boxes(picture.sources, 0)
    yield from _boxes(picture.targets, _RIGHT)
    yield "\n</svg>\n</div>\n</figure>\n"
    for part in picture.inner:
        yield f"<details class=part><summary>{escaped(part.label)}</summary>"
        yield from _draw(part)
        yield "</details>\n"


def _flow(flow: Flow) -> str:
    middle = f"{WIDTH / 2} {flow.start} {WIDTH / 2} {flow.end}"
    path = f"M{BOX} {flow.start}C{middle} {_RIGHT - 6} {flow.end}"
    return (
        f"<path class='flow {flow.kind}' stroke-width={flow.width} d='{path}'>"
        f"<title>{escaped(flow.text)}</title></path>\n"
        f"<path class='tip {flow.kind}' d='M{_RIGHT} {flow.end}l-9 -5v10z' />\n"
    )


def _boxes(boxes: Sequence[Box], x: int) -> Iterator[str]:
    for box in boxes:
        place = f"x={x} y={box.y - HEIGHT / 2} width={BOX} height={HEIGHT} rx=5 "
        ice = _ICE.format(place) if "frozen" in box.kind else ""
        opened, closed, mark = "", "", ""
        if box.opens is not None:
            opened, closed, mark = f"<a href='#open-{box.opens}'>", "</a>", "▸ "
        yield (
            f"<g class='box {box.kind}'><title>{escaped(box.label)}: {escaped(box.text)}</title>"
            f"{opened}<rect {place}/>{ice}"
            f"<text class=name x={x + 8} y={box.y - 3}>{mark}{escaped(box.short_label)}</text>\n"
            f"<text x={x + 8} y={box.y + 13}>{escaped(box.short_text)}</text>{closed}</g>\n"
        )
