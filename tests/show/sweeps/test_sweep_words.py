"""What is said of a sweep's rows."""

import pytest

from transferpipe.show.sweeps.sweep_table import leaderboard_text
from transferpipe.show.sweeps.sweep_words import CONSTANT, ranks, said
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.leaderboard import leaderboard

FAILED = {"status": "failed", "problems": ["score: odd"], "exit": 3}


def found(values, control=None, key="k", **overrides):
    texts = {k: str(v) for k, v in overrides.items()}
    return [Entry({**texts, "seed": str(seed)}, control, key, "p", _result(value)) for seed, value in enumerate(values)]


def _result(value):
    score = {"value": value, "name": "accuracy", "higher_is_better": True, "kind": "trained"}
    return {"status": "done", "score": score} if value is not None else FAILED


def text(entries, width=200, **more):
    return leaderboard_text(leaderboard(entries, **more), width=width)


def test_ties_share_a_rank():
    board = leaderboard([*found([0.5, 0.7], f="a"), *found([0.7, 0.5], f="b"), *found([0.1, 0.2], f="c")])
    assert ranks(board) == ["1", "1", "3"]


def test_one_seed_has_no_interval_and_says_so():
    lines = said(leaderboard([*found([0.5], f="a"), *found([0.7], f="b")]))
    assert lines[0].startswith("one seed only: no interval")


def test_what_failed_or_is_pending_is_counted_where_its_row_is_not_shown():
    done, failed = (found([value], f=str(f)) for f, value in enumerate([0.5, None]))
    assert said(leaderboard(done))[0].startswith("one seed only")
    assert said(leaderboard([*done, *failed]))[0] == "of 2 variants, 1 failed"
    pending = [Entry({"f": str(f), "seed": "0"}, None, "k", "p", None) for f in range(2, 40)]
    entries = [*done, *failed, *pending]
    shown = leaderboard_text(leaderboard(entries), width=80, lines=20)
    assert "of 40 variants, 1 failed and 38 pending" in shown and len(shown.splitlines()) <= 20


def test_what_is_measured_without_training_is_not_told_to_take_more_seeds():
    score = {"value": 0.5, "name": "test accuracy", "higher_is_better": True, "kind": "measured"}
    entries = [Entry({"f": f}, None, "k", "p", {"status": "done", "score": score}) for f in "ab"]
    (line,) = said(leaderboard(entries))
    assert line.startswith("measured once, nothing trained") and "seed" not in line


def test_what_does_not_depend_on_the_seed_is_not_called_certain():
    shown = text([*found([0.1] * 5, f="a"), *found([0.2, 0.3], f="b")])
    assert CONSTANT in shown and "± 0.0000" not in shown


def test_rows_of_other_seeds_are_told():
    shown = text([*found([0.5, 0.6], f="a"), *found([0.5, 0.7], f="b"), *found([0.9], f="c")])
    (row,) = [line for line in shown.splitlines() if "other seeds: 0" in line]
    assert not row.split()[0].isdigit()
    assert "without a rank, lacking some of the seeds 0, 1: 1 setting" in shown


def test_which_row_is_furthest_from_what_it_is_compared_with():
    near, far = found([0.52, 0.61], variant="near"), found([0.2, 0.31], variant="far")
    shown = text([*found([0.5, 0.6], variant="base"), *near, *far], against="base")
    assert "largest difference from base: variant=far, -0.2950 ± 0.0635 (2 seeds)" in shown


@pytest.mark.parametrize("entries, words", [
    (found([None, None], f="a"), "0 done, 2 failed, 0 pending. Not ranked: none is finished"),
    ([Entry({"seed": "0"}, None, "k", "p", {"status": "done", "score": None})], "the recipe has no `score`"),
])  # fmt: skip
def test_why_there_is_nothing_to_rank(entries, words):
    assert words in text(entries)


def test_of_many_variants_without_a_score_all_are_listed_where_they_are_asked_for():
    entries = [
        Entry({"seed": str(k)}, None, f"v{k:03}", "p", {"status": "done", "score": None, "seconds": 1.0})
        for k in range(300)
    ]
    whole, short = (leaderboard_text(leaderboard(entries), width=80, lines=lines) for lines in (None, 24))
    assert all(f"v{k:03}" in whole for k in range(300))
    assert len(short.splitlines()) < 5 and "transferpipe report FOLDER --all lists 300 rows" in " ".join(short.split())


def test_a_failure_names_its_log_and_a_blank_its_meaning():
    shown = text([*found([None], f="a", key="v1"), *found([0.5]), *found([0.4], "random")])
    assert "1 failed: score: odd (v1/run.log)" in shown
    assert "(recipe)" in shown and "(any)" in shown


def test_a_long_name_of_a_score_leaves_the_table_a_table():
    rows = [
        *found([0.5, 0.6], variant="AnB", cut=1),
        *found([0.5, 0.7], variant="BnB", cut=5),
        *found([0.1, 0.3], "random"),
    ]
    for e in rows:
        e.result["score"]["name"] = "test accuracy after fine-tuning"
    shown = text(rows, 80).splitlines()
    assert max(map(len, shown)) <= 80
    assert [line.split()[:3] for line in shown if line[:6].strip().isdigit()] == [["1", "BnB", "5"], ["2", "AnB", "1"]]


@pytest.mark.parametrize("width", [40, 60, 80, 100])
@pytest.mark.parametrize("count", [1, 4])
def test_rows_stay_distinguishable_and_numbers_whole_at_any_width(width, count):
    pattern = "[layer_with_a_long_name_{}]"
    rows = [found([0.5, 0.61], **{f"freeze{i}": pattern.format(n) for i in range(count)}) for n in (1, 2)]
    shown = text([*rows[0], *rows[1], *found([0.1, 0.3], "random"), *found([0.2, 0.3], "source")], width)
    assert max(map(len, shown.splitlines())) <= width
    assert "0.5550 ± 0.6988" in " ".join(shown.split())
    joined = "".join(shown.split())
    assert all(head in joined for head in ("accuracy", "againstrandom", "againstsource"))
    assert {"1]", "2]"} <= {joined[i : i + 2] for i in range(len(joined))}


def reported(values, tests, control=None, part="validation", **overrides):
    entries = found(values, control, **overrides)
    for entry, value in zip(entries, tests, strict=True):
        entry.result["score"] |= {"name": f"{part} accuracy", "part": part, "test": value}
    return entries


def test_the_validation_part_ranks_and_the_test_part_is_reported():
    """The row that is best on the test part is second, and differences from the control are of the test part."""
    rows = [*reported([0.8, 0.9], [0.5, 0.6], f="a"), *reported([0.7, 0.6], [0.9, 0.8], f="b")]
    board = leaderboard([*rows, *reported([0.1, 0.1], [0.4, 0.4], "random")])
    assert [(row.setting.get("f"), row.rank, round(row.test.mean, 9)) for row in board.rows] == [
        ("a", 1, 0.55), ("b", 2, 0.85), (None, None, 0.4),
    ]  # fmt: skip
    assert board.rows[1].against["random"].mean == pytest.approx(0.45)
    assert board.reported_name == "test accuracy"
    shown = leaderboard_text(board, width=200)
    assert "validation accuracy" in shown and "test    " in shown
    assert "ranked by the validation part; test and differences from random: on the test part" in shown
    assert "all seeds share one test part" in shown
    for entry in rows:
        entry.result["score"]["tested_on"] = entry.seed
    assert "every seed has a test part of its own" in leaderboard_text(leaderboard(rows), width=200)
    rows[1].result["score"]["tested_on"] = rows[0].seed
    assert "all seeds share one test part" in leaderboard_text(leaderboard(rows), width=200)
    assert "0.8500" in leaderboard_text(board, width=40)


def test_one_part_for_both_is_said_of_the_row_and_of_the_table():
    rows = [*reported([0.8, 0.9], [None] * 2, part="test", f="a"), *reported([0.7], [None], part="test", f="b")]
    shown = text(rows)
    (row,) = [line for line in shown.splitlines() if line.startswith("1")]
    assert "ranked by the test part that is reported" in row
    assert "ranking and reporting use the same test part" in shown and "give the data a validation part" in shown


def test_what_a_failed_seed_counts_as_stands_in_its_row():
    entries = [*found([0.9, None], f="a"), *found([0.6, 0.5], f="b")]
    assert "1 failed, counted as 0.5000: score: odd" in text(entries)
    assert "1 failed, left out: score: odd" in text(entries, failed="drop")


def test_how_many_settings_were_compared_is_said():
    shown = text([e for i in range(7) for e in found([0.5 + i / 50, 0.61], f=str(i))])
    assert "7 settings compared at once" in shown
