"""The figures of a sweep's page: what is drawn, and what those get who do not see it."""

import itertools
import re
import xml.etree.ElementTree as ET

import pytest

from transferpipe.show.drawing import AxisScale, scale_of
from transferpipe.show.sweeps.sweep_figures import axes_figure, cost_figures, epoch_figures
from transferpipe.show.sweeps.sweep_page import sweep_page
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.leaderboard import leaderboard
from transferpipe.sweep.record import SweepRecord

SVG = "{http://www.w3.org/2000/svg}"
ODD = "<b>&'\"x\x1b[31m\u202e"


def entry(number, overrides, value=0.5, *, epochs=3, size=10, control=None):
    losses = [1.0 / (epoch + 1) for epoch in range(epochs)]
    training = {
        "seed": 0,
        "best_epoch": epochs,
        "converged": bool(number % 2),
        "loss": losses,
        "val_loss": [None, *losses[1:]],
    }
    score = {"value": value, "name": "accuracy", "higher_is_better": True, "kind": "trained", "trainings": [training]}
    done = {"status": "done", "score": score, "seconds": 1.0 + number, "trainable_parameters": size}
    return Entry(overrides, control, f"v{number}", "p123", done)


@pytest.fixture(scope="module")
def many():
    """300 variants of three axes."""
    axes = itertools.product(["none", "all", ODD], ["0.001", "0.01", "0.1", "1"], ["1", "2", "3", "4", "5"], "01234")
    return [
        entry(i, {"freeze": f, "rate": r, "cut": c, "seed": s}, 0.5 + (37 * i % 101) / 250, epochs=40, size=10 ** int(c))
        for i, (f, r, c, s) in enumerate(axes)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def page(many):
    return sweep_page(SweepRecord("s", tuple(many)), leaderboard(many))


def parsed(figure):
    return ET.fromstring(str(figure.svg))


def test_every_training_has_a_line_and_a_row(many):
    figures = epoch_figures(leaderboard(many))
    assert [figure.title for figure in figures] == ["Validation loss by epoch", "Training loss by epoch"]
    for figure in figures:
        lines = parsed(figure).findall(f"{SVG}polyline")
        assert len(lines) == len(figure.rows) == 300
        assert all(len(line.get("points").split()) <= 102 for line in lines)
        assert sum("open" in line.get("class") for line in lines) == 150
        assert len(figure.legend) == 6 and {line.get("class").split()[1] for line in lines if " c" in line.get("class")}
    (row,) = {row[1:] for row in figures[1].rows if row[-1] == "yes"}
    assert row == ("40", "40", "1.0000", "0.0250", "0.0250", "yes")


def test_long_trainings_keep_their_ends_and_the_kept_epoch():
    one = entry(1, {"cut": "1"}, epochs=1000)
    one.result["score"]["trainings"][0]["best_epoch"] = 557
    (figure,) = [f for f in epoch_figures(leaderboard([one])) if f.title.startswith("Training")]
    (line,) = parsed(figure).findall(f"{SVG}polyline")
    points = line.get("points").split()
    (dot,) = parsed(figure).findall(f"{SVG}circle")
    assert len(points) <= 103 and f"{dot.get('cx')},{dot.get('cy')}" in points
    assert float(points[-1].split(",")[0]) > float(points[-2].split(",")[0])


def test_score_against_what_it_costs_names_what_nothing_beats():
    sizes = {"a": (10, 0.5), "b": (1000, 0.9), "c": (500, 0.4), "d": (2000, 0.8)}
    found = [
        entry(i, {"freeze": f, "seed": "0"}, score, size=size) for i, (f, (size, score)) in enumerate(sizes.items())
    ]
    found.append(entry(9, {"seed": "0"}, 0.99, size=5, control="random"))
    by_size, by_time = cost_figures(leaderboard(found))
    assert [row[:2] for row in by_size.rows] == [("3", "freeze=a"), ("1", "freeze=b")]
    assert [row[:2] for row in by_time.rows] == [("3", "freeze=a"), ("1", "freeze=b")]
    dots = parsed(by_size).findall(f"{SVG}circle")
    assert len(dots) == 5 and sum(dot.get("class") == "dot c0" for dot in dots) == 2
    assert "2 of 4 settings" in by_size.note


def test_one_cost_for_all_is_no_figure():
    found = [entry(0, {"cut": str(i), "seed": "0"}, i / 10) for i in range(3)]
    assert list(cost_figures(leaderboard(found))) == []


def test_an_axis_a_key_and_the_score_last(many):
    figure = axes_figure(leaderboard(many))
    drawn = parsed(figure)
    assert len(drawn.findall(f"{SVG}polyline")) == 60
    texts = [text.text for text in drawn.findall(f"{SVG}text")]
    assert [t for t in texts if t in ("freeze", "rate", "cut", "accuracy")] == ["freeze", "rate", "cut", "accuracy"]
    assert (
        axes_figure(leaderboard([e for e in many if e.overrides["freeze"] == "none" and e.overrides["cut"] == "1"]))
        is None
    )


def test_figures_say_what_they_show_to_those_who_do_not_see_them(page):
    for svg in re.findall(r"<svg[^>]*role=\"img\".*?</svg>", page, re.S):
        drawn = ET.fromstring(svg)
        named = drawn.get("aria-labelledby").split()
        assert [drawn.find(f"{SVG}{part}").get("id") for part in ("title", "desc")] == named
        assert all(page.count(f'id="{name}"') == 1 for name in named)
        assert drawn.find(f"{SVG}desc").text.endswith(("below.", "Ranked."))
    assert page.count("The same as a table") == page.count("<figure>") - 1  # that of the axes is the ranked table


def test_figures_take_the_colours_of_the_page(page):
    assert "prefers-color-scheme: dark) { :root { --c0:" in page
    for svg in re.findall(r"<svg[^>]*role=\"img\".*?</svg>", page, re.S):
        assert not re.search(r"#[0-9a-f]{3,6}\b|rgb\(|(fill|stroke)=", svg)


def test_what_comes_from_recipes_is_text_in_figures_too(page):
    assert not any(text in page for text in (ODD, "<b>", "\x1b", "\u202e"))
    assert page.count("&lt;b&gt;") > 300


def test_300_variants_stay_readable(page):
    assert len(page) < 2_000_000
    assert page.count("class='scroll tall'") >= 2  # long tables scroll within the page, under their heads
    assert "<form class=filter role=search hidden>" in page and "aria-live=polite" in page
    assert page.count("<tr data-label=") == 60 + 300


@pytest.mark.parametrize(
    "values", [[3.0], [0.0], [1.0, 2.0], [1e-5, 1.0], [-4.0, 4.0], [1e9, 5e12], [0.5, 0.5000001], [3, 301]]
)
def test_scales_hold_their_numbers_and_have_round_ticks(values):
    scale = scale_of(values, 300, 10)
    assert all(10 <= scale.at(v) <= 300 for v in values)
    assert 2 <= len(scale.ticks) <= 8
    assert all(scale.low <= tick <= scale.high * (1 + 1e-9) for tick in scale.ticks)


def test_a_scale_is_straight_or_logarithmic():
    assert AxisScale(0, 10, 0, 100).at(5) == 50 and AxisScale(1, 100, 0, 100, True).at(10) == 50
