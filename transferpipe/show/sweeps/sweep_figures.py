"""The figures of a sweep's page: trainings epoch by epoch, score against cost, settings across several axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from transferpipe.show import drawing
from transferpipe.show.drawing import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, AxisScale, Point, scale_of
from transferpipe.show.sweeps.score_table import number_text
from transferpipe.show.sweeps.sweep_words import label_of, ranks, value_under
from transferpipe.sweep.columns import number_or_none
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.leaderboard import Leaderboard, Row
from transferpipe.sweep.comparing.pareto import COSTS, cost_of, pareto_front
from transferpipe.sweep.epochs import EpochCurve, epoch_curves
from transferpipe.text.collapse import counted

# More colours than this cannot be told apart; the other lines are grey, and each says under the pointer what it is.
_COLOURS = 6
_MOST_POINTS = 100  # of a line: more than that does not show at this width, and 300 lines must load at once
_MOST_LABELS = 12  # along an axis of texts
_SHADES = 5
# The loss of the validation part first: by it epochs are chosen.
_ORDER = ("val_loss", "loss", "val_accuracy")
_NAMES = {"val_loss": "validation loss", "loss": "training loss", "val_accuracy": "validation accuracy"}
_X, _Y = (LEFT, WIDTH - RIGHT), (HEIGHT - BOTTOM, TOP)


@dataclass(frozen=True)
class Figure:
    """A drawing and the same as a table, for those who do not see it.

    Attributes:
        name: sets it apart on the page.
        title: what it shows.
        note: how to read it.
        svg: the drawing.
        legend: what has a colour of its own: the number of the colour, and a label.
        head: the heads of the table.
        rows: its rows.
    """

    name: str
    title: str
    note: str
    svg: Markup
    legend: tuple[tuple[int, str], ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def tokens(entry: Entry | Row) -> str:
    """Return what the page's filter knows a variant or a setting by: a line for each thing that is said of it."""
    if isinstance(entry, Row):
        control, said = entry.control, {**entry.setting}
    else:
        control, said = entry.control, {**entry.overrides}
    return "\n".join([*([f"control={control}"] if control else []), *(f"{k}={v}" for k, v in said.items())])


@dataclass(frozen=True)
class _Training:
    """One training of a variant."""

    entry: Entry
    curve: EpochCurve
    colour: int | None

    def label(self, keys: Sequence[str]) -> str:
        repetition = f" (repetition with seed {self.curve.seed})" if self.curve.seed is not None else ""
        return label_of(self.entry.overrides, self.entry.control, keys) + repetition


def epoch_figures(board: Leaderboard) -> list[Figure]:
    """Return a figure for each thing that was measured epoch by epoch: a line a training."""
    coloured = [row for row in board.rows if row.ranks][:_COLOURS]
    place = {id(entry): i for i, row in enumerate(coloured) for entry in row.entries}
    trainings = [
        _Training(entry, curve, place.get(id(entry)))
        for row in board.rows
        for entry in row.entries
        for curve in epoch_curves((entry.result or {}).get("score"))
    ]
    trainings.sort(key=lambda t: t.colour is not None)  # what has a colour lies above what has none
    legend = tuple((i, label_of(row.setting, row.control)) for i, row in enumerate(coloured))
    found = dict.fromkeys(name for t in trainings for name in t.curve.values)
    names = [*(n for n in _ORDER if n in found), *(n for n in found if n not in _ORDER)]
    made = [_epoch_figure(i, n, trainings, (board, legend)) for i, n in enumerate(names)]
    return [figure for figure in made if figure]


def _epoch_figure(
    number: int, name: str, trainings: Sequence[_Training], of: tuple[Leaderboard, tuple[tuple[int, str], ...]]
) -> Figure | None:
    (board, legend), drawn = of, [t for t in trainings if any(map(math.isfinite, t.curve.values.get(name, ())))]
    if not drawn:
        return None
    values = [v for t in drawn for v in t.curve.values[name] if math.isfinite(v)]
    longest = max(len(t.curve.values[name]) for t in drawn)
    x, y = AxisScale(1, max(longest, 2), *_X), scale_of(values, *_Y)
    shown = _NAMES.get(name, name)
    parts = [*drawing.axes(x, y, "epoch", shown)]
    for training in drawn:
        parts += _epoch_line(training, training.curve.values[name], (x, y), training.label(board.keys))
    title = f"{shown[0].upper()}{shown[1:]} by epoch"
    about = f"{counted(len(drawn), 'training')} of up to {counted(longest, 'epoch')}"
    note = (
        "The best settings have colours. A dot is the epoch whose weights were kept; a dashed line had not converged."
    )
    key = f"epochs-{number}"
    svg = drawing.svg(key, title, f"{about}. {note} The numbers are in the table below.", parts)
    head = ("variant", "epochs", "kept epoch", "first", "kept", "last", "converged")
    rows = tuple(_epoch_row(t, t.curve.values[name], t.label(board.keys)) for t in reversed(drawn))
    return Figure(key, title, f"{about}. {note}", svg, legend, head, rows)


def _epoch_line(
    training: _Training, values: Sequence[float], scales: tuple[AxisScale, AxisScale], title: str
) -> list[Markup]:
    x, y = scales
    step = math.ceil(len(values) / _MOST_POINTS)
    best = training.curve.best
    kept = best - 1 if best is not None and 0 < best <= len(values) else None
    # The ends and the kept epoch are always there.
    places = sorted({*range(0, len(values), step), len(values) - 1, *([] if kept is None else [kept])})
    points = [(x.at(i + 1), y.at(values[i])) for i in places if math.isfinite(values[i])]
    kind = "line control" if training.entry.control else "line"
    kind += f" c{training.colour}" if training.colour is not None else ""
    kind += " open" if training.curve.converged is False else ""
    label = tokens(training.entry)
    parts = [drawing.line(points, kind, label, title)]
    if kept is not None and math.isfinite(values[kept]):
        parts.append(drawing.dot((x.at(kept + 1), y.at(values[kept])), kind.replace("line", "dot"), label, title, 2.5))
    return parts


def _epoch_row(training: _Training, values: Sequence[float], label: str) -> tuple[str, ...]:
    curve = training.curve
    best = values[curve.best - 1] if curve.best and curve.best <= len(values) else None
    converged = {True: "yes", False: "no", None: ""}[curve.converged]
    numbers = ("" if v is None or not math.isfinite(v) else number_text(v) for v in (values[0], best, values[-1]))
    return (label, str(curve.epochs), str(curve.best or ""), *numbers, converged)


def cost_figures(board: Leaderboard) -> Iterator[Figure]:
    """Yield score against cost, for each cost that differs between settings: a dot a setting, and what none beats."""
    if not board.comparable:
        return
    places = dict(zip(map(id, board.rows), ranks(board), strict=True))
    for number, name in enumerate(COSTS):
        rows = [
            (r, r.score.mean, cost)
            for r in board.rows
            if r.score and not (r.stale or r.rung) and (cost := cost_of(r, name)) is not None
        ]
        if len({cost for _, _, cost in rows}) < 2:
            continue
        judged = [row for row in rows if row[0].ranks]
        front = [judged[i] for i in pareto_front([(c, s) for _, s, c in judged], board.higher_is_better)]
        yield _cost_figure(f"cost-{number}", name, (board, rows, front), places)


_Dot = tuple[Row, float, float]


def _cost_figure(
    key: str, name: str, found: tuple[Leaderboard, Sequence[_Dot], Sequence[_Dot]], places: dict[int, str]
) -> Figure:
    board, rows, front = found
    x, y = scale_of([c for _, _, c in rows], *_X), scale_of([s for _, s, _ in rows], *_Y)
    on_front = {id(row) for row, _, _ in front}
    steps = [(x.at(c), y.at(s)) for _, s, c in front]
    parts = [*drawing.axes(x, y, name, board.name), drawing.line(_stairs(steps), "front", "", "what no setting beats")]
    for row, score, cost in sorted(rows, key=lambda r: id(r[0]) in on_front):
        kind = "dot control" if row.control else "dot c0" if id(row) in on_front else "dot"
        title = f"{label_of(row.setting, row.control)}: {number_text(score)}, {drawing.number_label(cost)} {name}"
        parts.append(
            drawing.dot((x.at(cost), y.at(score)), kind, tokens(row), title, 5 if id(row) in on_front else 3.5)
        )
    for row, (px, py) in zip((r for r, _, _ in front), steps, strict=True):
        parts.append(drawing.text_at(px + 8, py - 6, places[id(row)], "start"))
    title = f"{board.name[0].upper()}{board.name[1:]} against {name}"
    note = (
        f"{len(front)} of {counted(len([r for r in rows if r[0].ranks]), 'setting')} on the Pareto front (filled, with "
        f"their ranks): no other has a better mean at the same {name} or fewer. Only means count here."
    )
    table = tuple(
        (places[id(row)], label_of(row.setting, row.control), number_text(score), drawing.number_label(cost))
        for row, score, cost in front
    )
    head = ("rank", "setting on the front", board.name, name)
    svg = drawing.svg(key, title, f"{note} The front is in the table below, all settings in the table Ranked.", parts)
    return Figure(key, title, note, svg, (), head, table)


def _stairs(points: Sequence[Point]) -> list[Point]:
    """Return the line along a front: as good as the last point until the next one costs enough."""
    path = list(points[:1])
    for before, after in itertools.pairwise(points):
        path += [(after[0], before[1]), after]
    return path


def axes_figure(board: Leaderboard) -> Figure | None:
    """Return parallel coordinates: an axis a key, the score last, a line a setting; None where one key varies."""
    rows = [row for row in board.rows if row.ranks and row.score]
    if len(board.keys) < 2 or len(rows) < 2:
        return None
    width = max(WIDTH, 130 * (len(board.keys) + 1))
    gap = (width - 2 * LEFT) / len(board.keys)
    tops = (HEIGHT - BOTTOM, TOP + 22)
    parts: list[Markup] = []
    labels: list[Markup] = []  # above the lines, which cross them
    across: list[dict[str, float]] = []
    for i, key in enumerate(board.keys):
        texts = list(dict.fromkeys(value_under(row, key) for row in rows))
        across.append(places := _places(texts, tops))
        parts.append(_upright(LEFT + i * gap))
        labels += _labels(LEFT + i * gap, key, places)
    score = scale_of([row.score.mean for row in rows if row.score], *tops)
    last = LEFT + len(board.keys) * gap
    parts.append(_upright(last))
    labels += _labels(last, board.name, {drawing.number_label(t): score.at(t) for t in score.ticks})
    for place, row in reversed([*enumerate(rows)]):
        assert row.score is not None
        heights = [across[i][value_under(row, key)] for i, key in enumerate(board.keys)]
        points = [(round(LEFT + i * gap, 1), h) for i, h in enumerate(heights)]
        points.append((round(last, 1), score.at(row.score.mean)))
        shade = min(_SHADES - 1, place * _SHADES // len(rows))
        title = f"{label_of(row.setting, row.control)}: {number_text(row.score.mean)}"
        parts.append(drawing.line(points, f"line s{shade}", tokens(row), title))
    note = "A line is a setting; the stronger, the better its rank. Filtering shows where good settings come together."
    description = f"{counted(len(rows), 'setting')} across {', '.join(board.keys)} and {board.name}. {note}"
    svg = drawing.svg(
        "axes", "Settings across axes", f"{description} All are in the table Ranked.", parts + labels, (width, HEIGHT)
    )
    return Figure("axes", "Settings across axes", f"{note} The table Ranked has the same numbers.", svg)


def _places(texts: Sequence[str], ends: tuple[float, float]) -> dict[str, float]:
    """Return where each value of a key lies: numbers by their size, others in the order in which they come."""
    numbers = {text: number_or_none(text) for text in texts}
    known = {text: n for text, n in numbers.items() if n is not None and math.isfinite(n)}
    if len(known) == len(texts) and len(texts) > 1:
        scale = scale_of(known.values(), *ends, margin=0)
        return {text: scale.at(n) for text, n in sorted(known.items(), key=lambda pair: pair[1])}
    scale = AxisScale(0, max(len(texts) - 1, 1), *ends)
    return {text: scale.at(i if len(texts) > 1 else 0.5) for i, text in enumerate(texts)}


def _upright(x: float) -> Markup:
    return Markup('<path class="axis" d="M{:g} {}V{}"/>').format(x, HEIGHT - BOTTOM, TOP + 22)


def _labels(x: float, name: str, places: dict[str, float]) -> Iterator[Markup]:
    """Yield the name of an axis, and its values where they lie; of many every second, third..."""
    yield drawing.text_at(round(x, 1), TOP + 4, drawing.shortened(name), full=name)
    every = math.ceil(len(places) / _MOST_LABELS)
    for text, y in [*places.items()][::every]:
        yield drawing.text_at(round(x + 5, 1), y + 4, drawing.shortened(text), "start", text)
