"""A comparison of two sets of weights as text: the summary first, then what differs, then what is equal."""

from __future__ import annotations

import math
import re
import shlex
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transferpipe.differences.result import (
    BY_NAME,
    CHANGED,
    DTYPE,
    EQUAL,
    LEFT_OUT,
    ONLY_A,
    ONLY_B,
    SHAPE,
    UNREADABLE,
    Diff,
    WeightDifference,
)
from transferpipe.text.collapse import braces, counted, series_of
from transferpipe.text.notebook import html_details, html_fragment, html_lines, html_table
from transferpipe.text.table import NARROW
from transferpipe.text.visible import visible
from transferpipe.weights.name import WeightName

_MOST_CHANGED = 40
"""More changed weights than this are shown a line a layer, and more layers than this are cut."""
# A screen of an ordinary terminal has 24 lines; the header and what sums up the rest need some of them.
_MOST_LINES, _FEW_SERIES = 20, 6
MODEL = "model"  # what the format of a built model is called
_GAP, _LAST = 2, 20
_ALL, _IN_ROWS = "--all lists every weight", "its rows have every weight"
_HEADER = ("weight", "changed", "L2", "rel.", "largest", "at: A -> B")


def diff_text(diff: Diff, width: int = 80, every: bool = False) -> str:
    """Return the comparison as text.

    Args:
        diff: what was found.
        width: columns to keep to; only single names may be longer.
        every: show every weight in a line of its own, and cut nothing.
    """
    # What was compared and the verdict come first: whoever reads no further knows whether they are equal.
    lines = [*_heads(diff), *_wrap(_verdict(diff), width), *_advice(diff)]
    if changed := list(_write_changed_lines(diff, width, every)):
        lines += ["", CHANGED, *changed]
    for title, rows, left in _sections(diff, width, every):
        if rows:
            lines += ["", title, *_pairs(rows, width), *_rest(left, _ALL)]
    # Names come from files: control characters in them would steer the terminal.
    return "\n".join(visible(line) for line in lines)


def diff_html(diff: Diff) -> str:
    """Return the comparison as HTML for notebooks."""
    parts = [html_lines([*_heads(diff), _verdict(diff), *_advice(diff)])]
    found, left = _pick_changed(diff, every=False)
    if found:
        parts += [html_table(_HEADER, [_cells(c) for c in found]), html_lines(_rest(left, _IN_ROWS))]
    for title, rows, left in _sections(diff, NARROW, every=False):
        if rows:
            table = html_table((title, ""), rows) + html_lines(_rest(left, _IN_ROWS))
            # What is equal is the longest list and the least read: it is folded up.
            parts.append(html_details(f"{title}: {rows[0][0]}, {rows[0][1]}", table) if title == EQUAL else table)
    return html_fragment(*parts)


def _heads(diff: Diff) -> Iterator[str]:
    for letter, side in (("A", diff.a), ("B", diff.b)):
        others = f"; {side.others:,} further entries not compared" if side.others else ""
        parameters = counted(side.parameters, "parameter")
        yield f"{letter}  {side.label}"
        yield f"   {side.format}, {counted(side.weights, 'weight')}, {parameters}{others}"


def _advice(diff: Diff) -> Iterator[str]:
    """Yield how to pair two files that have no names in common."""
    # Where anything is paired, names are alike enough: what is left is really on one side.
    if any(row.a and row.b for row in diff.rows):
        return
    # `suggest` takes files; and with a mapping, its writer knows already.
    if MODEL not in (diff.a.format, diff.b.format) and diff.paired == BY_NAME:
        a, b = shlex.quote(diff.a.label), shlex.quote(diff.b.label)
        yield "nothing is paired; to pair weights of other names:"
        yield f"  transferpipe suggest source={a} target={b} --write recipes/pairs.yaml"
        yield f"  transferpipe diff {a} {b} recipe=pairs"


def _verdict(diff: Diff) -> str:
    counts = diff.counts
    words = {
        CHANGED: "changed",
        DTYPE: "of another dtype",
        SHAPE: "of another shape",
        ONLY_A: "only in A",
        ONLY_B: "only in B",
        UNREADABLE: "cannot be read",
    }
    found = [f"{counts[status]:,} {word}" for status, word in words.items() if counts.get(status)]
    equal = f"{counts.get(EQUAL, 0):,} equal"
    # "All equal" may stand only where nothing is missing on either side.
    if diff.weights_equal:
        first = f"weights: all {counts.get(EQUAL, 0):,} equal, bit for bit"
    else:
        first = f"weights: {', '.join(found)}; {equal}"
    if counts.get(LEFT_OUT):
        first += f"; {counts[LEFT_OUT]:,} left out by the mapping"
    paired = "" if diff.paired == BY_NAME else f", paired {diff.paired}"
    return f"{'equal' if diff.equal else 'different'}. {first}{paired}. {_settings_line(diff)}"


def _settings_line(diff: Diff) -> str:
    found = diff.settings
    others = ", ".join(f"{n:,} {reason}" for reason, n in sorted(found.not_compared.items()))
    if not found.compared:
        return f"settings: not compared ({others})" if others else "settings: none compared"
    differ = "all equal" if not found.differences else f"{counted(len(found.differences), 'difference')}"
    return f"settings: {counted(found.compared, 'layer')} compared, {differ}" + (
        f"; not compared: {others}" * bool(others)
    )


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


_Rows = Sequence[tuple[str, str]]


def _sections(diff: Diff, width: int, every: bool) -> Iterator[tuple[str, _Rows, str]]:
    """Yield what is listed beside changed values: a title, names with what is said of each, and what is left out."""
    by_status: dict[str, list[WeightDifference]] = {}
    for row in diff.rows:
        by_status.setdefault(row.status, []).append(row)
    shapes = [
        (_name_weight(r), f"{r.shape_a} -> {r.shape_b}" + (f" ({r.note})" if r.note else ""))
        for r in by_status.get(SHAPE, ())
    ]
    yield "another shape (A -> B)", shapes, ""
    dtypes = [
        (_name_weight(r), f"{r.dtype_a} -> {r.dtype_b}{'' if r.values else ', same values'}")
        for r in by_status.get(DTYPE, ())
    ]
    # Often a whole model was cast: series are then one line.
    yield "another dtype (A -> B)", _merge_rows(dtypes), ""
    for status in (ONLY_A, ONLY_B):
        yield status, *_runs(by_status.get(status, ()), diff, width, every)
    yield "cannot be read", [(_name_weight(r), r.note) for r in by_status.get(UNREADABLE, ())], ""
    yield "settings that differ (A -> B)", list(_settings(diff)), ""
    yield "left out by the mapping", *_runs(by_status.get(LEFT_OUT, ()), diff, width, every)
    yield EQUAL, *_runs(by_status.get(EQUAL, ()), diff, width, every)


def _name_weight(row: WeightDifference) -> str:
    """Return the weight's name; both, where they differ."""
    a, b = " + ".join(row.a), " + ".join(row.b)
    return b or a if a == b or not (a and b) else f"{b} <- {a}"


def _settings(diff: Diff) -> Iterator[tuple[str, str]]:
    for d in diff.settings.differences:
        called = d.target_layer if d.target_layer == d.source_layer else f"{d.target_layer} <- {d.source_layer}"
        # What stands between layers is no setting of one, and reads as what comes before it.
        setting = "before it:" if d.setting == "between" else d.setting
        yield called, f"{setting} {d.source_value} -> {d.target_value}"


# What changed ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Changes:
    """The figures of one weight, or of all changed weights of a layer."""

    name: str
    row: WeightDifference
    differing: int
    size: int
    norm: float
    own: float
    is_layer: bool = False

    @property
    def relative(self) -> float:
        return self.norm / self.own if self.own else math.inf


def _changes(name: str, rows: Sequence[WeightDifference]) -> _Changes:
    values = [r.values for r in rows if r.values]
    # The row to show is the one with the largest change, whatever its share of the norm.
    largest = max(rows, key=lambda r: (r.values.largest or 0) if r.values else 0)
    # Norms of a layer's weights add up in squares; that of A's values is what the relative ones were relative to.
    own = [v.norm / v.relative if v.relative else 0.0 for v in values]
    return _Changes(
        name,
        largest,
        sum(v.differing for v in values),
        sum(v.size for v in values),
        math.hypot(*(v.norm for v in values)),
        math.hypot(*own),
    )


def _pick_changed(diff: Diff, every: bool) -> tuple[list[_Changes], str]:
    """Return what changed, a weight or a layer each, and what is left out of it because others changed more."""
    rows = [r for r in diff.rows if r.status == CHANGED or (r.status == DTYPE and r.values)]
    found = [_changes(_name_weight(r), [r]) for r in rows]
    if len(found) <= _MOST_CHANGED or every:
        return found, ""
    layers: dict[str, list[WeightDifference]] = {}
    for row in rows:
        layers.setdefault(row.layer, []).append(row)
    # "/*" may only stand where all weights of the layer changed, those included that are equal.
    held = Counter(row.layer for row in diff.rows)
    names = {layer: _together(layer, group, len(group) == held[layer]) for layer, group in layers.items()}
    found = [replace(_changes(names[layer], group), is_layer=True) for layer, group in layers.items()]
    # The most changed are chosen, and shown in the order of the file, which readers know.
    shown = sorted(sorted(found, key=lambda c: -c.relative)[:_MOST_CHANGED], key=found.index)
    left = len(found) - len(shown)
    return shown, f"{counted(left, 'more layer')} that changed less" if left else ""


def _write_changed_lines(diff: Diff, width: int, every: bool) -> Iterator[str]:
    found, left = _pick_changed(diff, every)
    if not found:
        return
    whole = [_cells(c) for c in found]
    # Both numbers at the largest change are left out for all rows, or for none: columns stay columns.
    if sum(max(len(cells[k]) for cells in (_HEADER, *whole)) + _GAP for k in range(len(_HEADER))) - _GAP > width:
        yield from _table((*_HEADER[:-1], "at"), [_cells(c, short=True) for c in found], width)
    else:
        yield from _table(_HEADER, whole, width)
    yield from _rest(left, _ALL)


def _rest(left: str, where: str) -> list[str]:
    return [f"... and {left} ({where})"] if left else []


def _together(layer: str, rows: Sequence[WeightDifference], whole: bool = False) -> str:
    """Return the weights of a layer as one name; ``/*`` stands for all of them where there are several."""
    own = "*" if whole and len(rows) > 1 else braces([WeightName(r.name).own for r in rows])
    return f"{layer}/{own}" if layer else own


def _cells(c: _Changes, short: bool = False) -> tuple[str, ...]:
    """Return the cells of a row; the short form leaves out the two numbers where other rows are as wide."""
    values = c.row.values
    assert values is not None
    place = f"{list(values.index)}" if values.index else ""
    if c.is_layer:
        # Of a layer, also which of its weights it was.
        place = f"{c.row.name.rpartition('/')[2]}{place.replace(' ', '')}"
    numbers = f"{_number(values.before)} -> {_number(values.after)}"
    has_numbers = not short or values.largest is None or c.differing == 1
    at = ": ".join(filter(None, [place, numbers if has_numbers else ""]))
    # -0.0 and 0.0, and NaNs with other bits, are equal as numbers and yet other bytes.
    if not values.unequal:
        at += "; values equal, bits differ"
    elif values.nonfinite:
        at += f"; {values.nonfinite:,} with NaN or infinity"
    # A's values were all zero: there is nothing that the change could be relative to.
    relative = "-" if c.relative == math.inf else f"{c.relative:.2g}"
    largest = "-" if values.largest is None else _number(values.largest)
    return c.name, _part(c.differing, c.size), _number(c.norm), relative, largest, at


def _part(count: int, size: int) -> str:
    """Return how many of all: exactly where they are few, of many the share."""
    if count == size:
        return "all"
    # Under a percent, a share would say 0%; of few values, the count is as short.
    if count * 100 < size or size < 10_000:
        return f"{count:,} of {size:,}"
    return ">99%" if count * 100 > size * 99 else f"{count / size:.0%}"


def _number(value: Any) -> str:
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) < 10**9):
        return str(value)
    return f"{value:.4g}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Yield a table: numbers to the right, and names that leave no room for them on a line of their own."""
    # Numbers are never broken, so that their columns are as wide as the widest.
    inner = [max(len(r[k]) for r in (header, *rows)) for k in range(1, len(header) - 1)]
    # The last column may be broken after a colon or semicolon.
    last = max(len(word) for r in (header, *rows) for word in re.split(r"(?<=[:;]) ", r[-1]))
    # Names take what the others leave, and at least twelve columns.
    left = width - sum(inner) - _GAP * (len(header) - 1) - min(last, _LAST)
    name = max(12, min(max(len(r[0]) for r in (header, *rows)), left))
    room = max(16, width - name - sum(inner) - _GAP * (len(header) - 1))
    for row in (header, *rows):
        if len(row[0]) > name:
            yield row[0]
            row = ("", *row[1:])
        cells = [f"{row[0]:<{name}}", *(f"{c:>{w}}" for c, w in zip(row[1:-1], inner, strict=True))]
        begin = (" " * _GAP).join(cells) + " " * _GAP
        wrapped = _wrap(row[-1], room) or [""]
        yield f"{begin}{wrapped[0]}".rstrip()
        yield from (" " * len(begin) + line for line in wrapped[1:])


# What is listed -------------------------------------------------------------------------------------------------------


def _pairs(rows: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    """Yield names with what is said of each beside it, or below it where there is no room."""
    longest, said = (max((len(row[k]) for row in rows), default=0) for k in (0, 1))
    # The names get half of the line, or more where what is said of them is short.
    name = min(longest, max(width // 2, width - said - _GAP))
    for called, text in rows:
        room = width - name - _GAP
        lines = _wrap(text, room)
        if len(called) > name:
            yield called
            called = ""
        for line in lines:
            yield f"{called:<{name}}{' ' * _GAP}{line}".rstrip()
            called = ""


def _merge_rows(rows: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the rows with those of one series that say the same as one."""
    groups: dict[str, list[str]] = {}
    for name, text in rows:
        groups.setdefault(text, []).append(name)
    return [(series, text) for text, names in groups.items() for series, _ in series_of(names)]


def _runs(rows: Sequence[WeightDifference], diff: Diff, width: int, every: bool) -> tuple[_Rows, str]:
    """Return the layers whose weights all have this status, neighbours as one row; single weights of other layers.

    Of very many rows these are the first; the second is what is left out.
    """
    if every:
        return [(_name_weight(r), _about(r)) for r in rows], ""
    here = {id(r) for r in rows}
    whole: dict[str, bool] = {}
    for row in diff.rows:
        whole[row.layer] = whole.get(row.layer, True) and id(row) in here
    runs: list[list[WeightDifference]] = []
    before: tuple[str, bool] | None = None
    for row in diff.rows:
        if id(row) not in here:
            # What is on one side only, or left out, does not part neighbours of the other.
            before = None if row.status in (EQUAL, CHANGED, SHAPE, DTYPE) else before
            continue
        if before is None or not (whole[row.layer] or before[0] == row.layer):
            runs.append([])
        runs[-1].append(row)
        before = row.layer, whole[row.layer]
    lines = [_run(run, whole) for run in runs]
    series = list(_series(rows, whole))
    # Of a series all names are known; of "first ... last" only a reader who knows the file's order knows them.
    few = len(lines) > 1 and len(series) <= _FEW_SERIES and all(len(name) <= width * 2 // 3 for name, _ in series)
    if few or len(series) < len(lines):
        lines = series
    count = sum(len(group) for _, group in lines[_MOST_LINES:])
    listed = [(name, _count_rows(group)) for name, group in lines[:_MOST_LINES]]
    return listed, counted(count, "more weight") if count else ""


def _about(row: WeightDifference) -> str:
    shape, dtype = (row.shape_b, row.dtype_b) if row.b else (row.shape_a, row.dtype_a)
    return f"{shape} {dtype}" + (f", {row.note}" if row.note else "")


_Line = tuple[str, Sequence[WeightDifference]]


def _run(run: Sequence[WeightDifference], whole: Mapping[str, bool]) -> _Line:
    """Return the line of neighbours."""
    layers = list(dict.fromkeys(r.layer for r in run))
    if len(layers) == 1:
        return _together(layers[0], run, whole[layers[0]]), run
    names = [series for series, _ in series_of(layers)]
    return f"{names[0]}/*" if len(names) == 1 else f"{layers[0]} ... {layers[-1]}", run


def _series(rows: Sequence[WeightDifference], whole: Mapping[str, bool]) -> Iterator[_Line]:
    """Yield the lines of layers whose names are of one series, wherever they stand."""
    groups: dict[str, list[WeightDifference]] = {}
    for row in rows:
        groups.setdefault(row.layer, []).append(row)
    for series, layers in series_of(layer for layer in groups if whole[layer] and layer):
        group = [row for layer in layers for row in groups[layer]]
        yield (f"{series}/*" if len(layers) > 1 else _together(layers[0], group, True)), group
    yield from ((_together(layer, group), group) for layer, group in groups.items() if not (whole[layer] and layer))


def _count_rows(rows: Sequence[WeightDifference]) -> str:
    if len(rows) == 1:
        return _about(rows[0])
    layers = len({row.layer for row in rows})
    return counted(len(rows), "weight") + (f" in {counted(layers, 'layer')}" if layers > 1 else "")
