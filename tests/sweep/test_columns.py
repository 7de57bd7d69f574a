"""A sweep as rows: sweep.csv, epochs.csv, what a spreadsheet must not compute."""

import csv
import io

import pytest

from transferpipe.sweep.columns import FIXED, columns_of, epochs_csv, harmless, table_csv
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.epochs import epoch_curves
from transferpipe.sweep.record import LeftOutVariant, SweepRecord
from transferpipe.text.visible import visible

TRAININGS = [
    {"seed": 3, "epochs": 3, "best_epoch": 2, "converged": True, "doubts": [], "loss": [3, 2, 1.5], "val_loss": [2, 1, None]},
    {"seed": 4, "epochs": 2, "best_epoch": 2, "converged": False, "doubts": ["still-falling"], "loss": [3.5, 3]},
]  # fmt: skip


def entry(key="v1", words=(), control=None, **more):
    score = {"value": 0.5, "name": "accuracy", "higher_is_better": True, "spread": 0.25, "notes": ["one", "two"]}
    result = {"status": "done", "seconds": 1.5, "trainable_parameters": 7, "score": {**score, **more.pop("score", {})}}
    overrides = {k.replace("__", "."): v for k, v in more.items()}
    return Entry(overrides, control, key, "p1", result, words)


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_has_what_its_score_and_its_model_are():
    (row,) = read(table_csv(SweepRecord("s", (entry(freeze="a", score={"trainings": TRAININGS}),))))
    told = {"spread": "0.25", "trainable_parameters": "7", "seconds": "1.5", "notes": "one; two"}
    told |= {"best_epoch": "2; 2", "epochs": "3; 2", "converged": "False"}
    assert {key: row[key] for key in told} == told


def test_keys_that_named_variants_set_have_columns():
    one = entry("v1", ("recipe=own", "lr=0.1", "freeze=[a]"), variant="slow")
    other = entry("v2", ("recipe=own", "+lr=0.3"), variant="fast", recipe="own")
    control = entry("c", ("recipe=own", "lr=0.1", "sweep.x=lr"), control="random")
    rows = read(table_csv(SweepRecord("s", (one, other, control))))
    assert [(row["variant"], row["lr"], row["freeze"]) for row in rows] == [
        ("slow", "0.1", "[a]"), ("fast", "0.3", ""), ("", "", ""),
    ]  # fmt: skip
    assert not any(key.startswith("sweep") for key in rows[0])


def test_what_was_left_out_has_a_row_with_its_reasons():
    record = SweepRecord("s", (entry(freeze="a"),), {}, (LeftOutVariant({"freeze": "b"}, None, ("nothing there",)),))
    done, left = read(table_csv(record))
    assert (left["freeze"], left["status"], left["problems"], left["score"]) == ("b", "left out", "nothing there", "")
    assert done["status"] == "done"


def test_a_key_with_the_name_of_a_column_keeps_apart():
    names, rows = columns_of(SweepRecord("s", (entry(status="x"), entry(status="y"))))
    assert len(set(names)) == len(names) and set(FIXED) < set(names)
    assert [(row["status="], row["status"]) for row in rows] == [("x", "done"), ("y", "done")]


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-x", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", '=HYPERLINK("x")'])
def test_no_cell_is_a_formula(text):
    record = SweepRecord("s", (entry(**{text: "a"}), entry(**{text: "b", "freeze": text})))
    for row in csv.reader(io.StringIO(table_csv(record), newline="")):
        assert not any(cell.startswith(text[:1]) for cell in row), row
    assert harmless(text) == f"'{visible(text)}"


@pytest.mark.parametrize("text", ["a\x1b[31mb", "\u202ea", "a\x9bb", "a\nb", "=\x1b[0m"])
def test_no_cell_commands_a_terminal(text):
    record = SweepRecord("s", (entry(**{text: "a"}), entry(**{text: "b", "freeze": text})))
    assert all(line.isprintable() for line in table_csv(record).split("\n"))


@pytest.mark.parametrize("number", ["-1", "-1e-3", "+2", "1.5"])
def test_numbers_stay_numbers(number):
    assert harmless(number) == number


def test_a_row_an_epoch():
    record = SweepRecord("s", (entry("v1", score={"trainings": TRAININGS}), entry("v2")))
    rows = read(epochs_csv(record))
    assert [tuple(row.values()) for row in rows] == [
        ("v1", "0", "1", "3.0", "2.0", "0"), ("v1", "0", "2", "2.0", "1.0", "1"), ("v1", "0", "3", "1.5", "", "0"),
        ("v1", "1", "1", "3.5", "", "0"), ("v1", "1", "2", "3.0", "", "1"),
    ]  # fmt: skip
    assert epochs_csv(SweepRecord("s", (entry(),))) == ""


@pytest.mark.parametrize("found", [None, "text", 3, [3], [{"loss": "x"}], [{"loss": [True]}], [{"loss": []}]])
def test_a_record_that_has_something_else_has_no_curves(found):
    assert epoch_curves({"trainings": found}) == ()
    assert epoch_curves(None) == ()
