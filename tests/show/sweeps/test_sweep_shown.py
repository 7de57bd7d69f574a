"""A sweep as text and as a page."""

import re
from dataclasses import replace
from html.parser import HTMLParser

from transferpipe.show.curves import curves, curves_svg
from transferpipe.show.sweeps.sweep_page import sweep_page
from transferpipe.show.sweeps.sweep_table import leaderboard_text
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.leaderboard import leaderboard
from transferpipe.sweep.record import LeftOutVariant, SweepRecord


def entries(settings=("a", "b"), cuts=(1, 2, 3), seeds=(0, 1)):
    found = []
    for i, freeze in enumerate(settings):
        for cut in cuts:
            for seed in seeds:
                score = {
                    "value": 0.5 + 0.03 * i + 0.01 * float(cut) + 0.001 * seed,
                    "name": "accuracy",
                    "kind": "trained",
                }
                overrides = {"freeze": freeze, "vars.cut": str(cut), "seed": str(seed)}
                done = {"status": "done", "score": {**score, "higher_is_better": True}, "seconds": 1.0}
                found.append(Entry(overrides, None, f"v{i}{cut}{seed}", "p123", done))
    control = {"status": "done", "score": {"value": 0.4, "name": "accuracy", "higher_is_better": True}, "seconds": 1.0}
    return [*found, *(Entry({"seed": str(s)}, "random", f"c{s}", "p", control) for s in seeds)]


def page(found, **settings):
    record = SweepRecord("<i>", tuple(found), settings)
    return sweep_page(record, leaderboard(found, settings.get("against")))


class _Outside(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.cells = [], 0

    def handle_starttag(self, tag, attrs):
        self.cells += tag == "td"
        self.links += [v for k, v in attrs if k in ("src", "href") and "://" in (v or "")]


def test_the_page_needs_no_network_and_shows_every_run():
    text = page(entries())
    seen = _Outside()
    seen.feed(text)
    assert seen.links == [] and "@import" not in text
    assert all(f"'{e.key}/run.log'" in text for e in entries())
    assert text.count("<svg") - text.count('role="img"') == 1 and "control: random" in text


def test_what_comes_from_recipes_is_text():
    odd = [
        Entry({"freeze": f}, None, "k", "p", {"status": "failed", "problems": ["<script>x"], "exit": 1})
        for f in ("<b>", "'")
    ]
    text = page(odd, title="<u>")
    assert not any(tag in text for tag in ("<b>", "<script>x", "<u>"))
    assert "\x1b" not in leaderboard_text(
        leaderboard([Entry({"f": "\x1b[31m"}, None, "k", "p", odd[0].result), odd[0]])
    )


def test_tables_fit_their_width():
    for width in (80, 120):
        assert max(map(len, leaderboard_text(leaderboard(entries()), width=width).splitlines())) <= width


def test_a_curve_a_setting_and_a_line_for_a_control():
    lines = curves(leaderboard(entries()), "vars.cut")
    assert [(line.name, [p for p, _ in line.points]) for line in lines] == [
        ("control: random", [1, 2, 3]), ("freeze=a", [1, 2, 3]), ("freeze=b", [1, 2, 3]),
    ]  # fmt: skip
    labels = {"x": "cut", "y": "accuracy"}
    assert curves_svg(lines, labels) == curves_svg(lines, labels)
    assert curves_svg(curves(leaderboard(entries(cuts=(1,))), "vars.cut"), labels) == ""


def test_without_matplotlib_the_page_says_what_draws_the_curves(monkeypatch):
    monkeypatch.setattr("transferpipe.show.sweeps.sweep_page.is_installed", lambda name: False)
    text = page(entries())
    assert text.count("<svg") == text.count('role="img"') > 0  # those that need none
    assert "matplotlib is not installed. For the next page: pip install &#39;transferpipe[plots]&#39;" in text


def test_a_table_without_scores_says_so():
    open_ones = [Entry({"seed": "0"}, None, "k", "p", None)]
    assert "0 done, 0 failed, 1 pending" in leaderboard_text(leaderboard(open_ones))


def test_drawings_tell_many_lines_apart_and_stay_within_what_means_something():
    many = [*entries(settings=[f"f{i}" for i in range(14)]), *entries(settings=("top",))]
    lines = curves(leaderboard(many), "vars.cut")
    svg = curves_svg(lines, {"x": "cut", "y": "accuracy"})
    assert svg.count("stroke-dasharray") > curves_svg(lines[:10], {"x": "cut", "y": "accuracy"}).count(
        "stroke-dasharray"
    )
    assert "freeze=f13" in svg
    ticks = [float(t) for t in re.findall(r">(-?\d\.\d)</text>", svg)]
    assert ticks and max(ticks) <= 1.0


def test_a_wide_axis_is_logarithmic():
    svg = curves_svg(curves(leaderboard(entries(cuts=("1e-4", "1e-2", "1"))), "vars.cut"), {"x": "rate", "y": "loss"})
    assert [place for place in ("0.0001", "0.01", "1") if f">{place}</text>" in svg] == ["0.0001", "0.01", "1"]
    assert "math" not in svg


def test_settings_that_are_no_numbers_are_dots():
    found = [e for e in entries(cuts=(1,)) if e.control is None]
    text = page(found)
    assert "freeze=b" in text[text.index("<svg") : text.index("</svg>")]


def test_the_page_tells_failures_warnings_what_was_left_out_and_how_it_was_made():
    failed = Entry({"freeze": "c"}, None, "vx", "p", {"status": "failed", "problems": ["odd"], "exit": 3})
    warned = [replace(e, warnings=("freeze: fresh weights are frozen",)) for e in entries()[:5]]
    record = SweepRecord(
        "s", (*warned, failed), {"about": {"command": ["transferpipe sweep recipe=<own>"]}},
        (LeftOutVariant({"freeze": "[nowhere]"}, None, ("freeze: matches nothing",)),),
    )  # fmt: skip
    text = sweep_page(record, leaderboard(record.entries))
    assert "5 of 6 variants done, 1 failed" in text
    assert "freeze: fresh weights are frozen (freeze=a vars.cut=1 seed=0" in text and "and 2 more)" in text
    assert "freeze=[nowhere]: freeze: matches nothing" in text
    assert "transferpipe sweep recipe=&lt;own&gt;" in text


def test_heads_are_buttons_and_stand_over_their_numbers():
    text = page(entries())
    assert text.count("<th scope=col") == text.count("<button type=button>")
    assert "<th scope=col class=number><button type=button>accuracy<" in text


def test_curves_are_drawn_in_the_colours_of_the_page():
    text = page(entries())
    drawing = text[text.index("<svg") : text.index("</svg>")]
    assert "#000000" not in drawing and "#ffffff" not in drawing  # neither black on dark nor a white sheet
    assert "currentColor" in drawing and "var(--muted" in drawing
    assert "svg text { fill: currentColor }" in text  # matplotlib gives texts no colour where they are black
