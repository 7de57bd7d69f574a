"""The two parts of a verdict, wherever it stands."""

import csv
import json

import pytest
from keras import layers
from small_models import dense, stack
from unfolded import unfolded

import transferpipe as tp
from transferpipe.planning.model import SettingsCompared
from transferpipe.prove.manifest import MANIFEST, PLAN, json_lines, seal
from transferpipe.prove.run_folder import verify_run
from transferpipe.prove.verdict import Verdict, verdict_from_data, verdict_of
from transferpipe.show.report_page import report_page
from transferpipe.show.sweeps.verdict_table import verdict_text
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.record import SweepRecord, read_record, write_record

SAME = {"all": {"to": "a", "from": "a"}}


@pytest.fixture
def report(tmp_path):
    """Return the report of a finished run into ``run``."""
    dense("a", seed=1).save(tmp_path / "a.keras")
    keys = {"save": {"path": "model.keras"}, "folder": tmp_path / "run"}
    return tp.transfer(tmp_path / "a.keras", dense("a", seed=2), mapping=SAME, **keys)


def rewrite(folder, **changes):
    """Write the manifest of a run anew, sealed, with other content."""
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["seal"]
    (folder / MANIFEST).write_text(json_lines(seal({**manifest, **changes}, (folder / PLAN).read_text())))


@pytest.mark.parametrize("weights", ["pass", "fail", "inconclusive"])
@pytest.mark.parametrize("function", ["not checked", "pass", "fail", "inconclusive"])
def test_a_verdict_survives_its_record(weights, function):
    verdict = Verdict(weights, function, 5, 2, "outputs within 1e-05", not_compared=3)
    assert verdict_from_data(json.loads(json.dumps(verdict.to_data()))) == verdict
    assert f"weights: {weights}" in str(verdict)
    assert f"function: {function}" in str(verdict)


@pytest.mark.parametrize(
    "data", [None, 3, [], {}, {"weights": "good"}, {"weights": "pass", "function": "fine"}, "good"]
)
def test_what_is_no_verdict(data):
    with pytest.raises((KeyError, TypeError, ValueError)):
        verdict_from_data(data)


def test_the_verdict_of_an_earlier_version_knew_only_the_weights():
    assert verdict_from_data("pass") == Verdict("pass", "not checked", 0, 0)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((0, 0), "no settings compared"),
        ((1, 0), "settings of 1 paired layer compared, none differs"),
        ((1, 1), "settings of 1 paired layer compared, 1 differs"),
        ((1200, 30), "settings of 1,200 paired layers compared, 30 differ"),
        ((1, 0, "", 2), "settings of 1 of 3 paired layers compared, none differs"),
    ],
)
def test_settings_are_counted_in_words(counts, words):
    assert words in str(Verdict("pass", "not checked", *counts))
    assert words in Verdict("pass", "not checked", *counts).lines("all")[1]


def test_a_run_tells_both_parts(report):
    assert (report.verdict.weights, report.verdict.function) == ("pass", "not checked")
    assert verdict_from_data(report.manifest["verdict"]) == report.verdict
    for text in (str(report), repr(report), report_page(report.plan, report.manifest)):
        assert "weights: pass" in text
        assert "function: not checked" in text
    assert "2 weights read back and compared bit for bit" in unfolded(report)
    assert max(map(len, str(report).splitlines())) <= 80


def test_a_live_transfer_tells_both_parts(tmp_path):
    dense("a", seed=1).save(tmp_path / "a.keras")
    report = tp.transfer(tmp_path / "a.keras", dense("a", seed=2), mapping=SAME)
    assert (report.verdict.weights, report.verdict.function, report.compared) == ("pass", "not checked", 2)


def test_a_run_that_transfers_nothing_says_so_beside_its_pass(tmp_path):
    dense("a", seed=1).save(tmp_path / "a.keras")
    report = tp.transfer(tmp_path / "a.keras", dense("b", seed=2), mapping={"all": {"to": "b", "from": None}})
    assert "2 weights read back and compared bit for bit; none of them was transferred" in unfolded(report)


def test_the_page_of_an_earlier_version_is_built(report):
    page = report_page(report.plan, {**report.manifest, "verdict": "pass"})
    assert "class='verdict pass'>weights: pass" in page
    assert "class='verdict open'>function: not checked" in page


def test_verify_reads_what_an_earlier_version_wrote(report):
    rewrite(report.folder, verdict="pass")
    assert verify_run(report.folder).verdict.weights == "pass"


@pytest.mark.parametrize("function", ["pass", "fail", "not checked"])
def test_verify_keeps_what_the_run_found_of_the_function(report, function):
    rewrite(report.folder, verdict={**report.verdict.to_data(), "function": function, "reason": "largest difference 0"})
    verdict = verify_run(report.folder).verdict
    assert verdict.function == function
    assert ("recorded by the run" in verdict.reason) == (function != "not checked")


def test_verify_that_compares_nothing_is_inconclusive(tmp_path):
    dense("a", seed=1).save(tmp_path / "a.keras")
    keys = {"mapping": SAME, "save": {"path": "model.keras"}, "folder": tmp_path / "run"}
    tp.transfer(tmp_path / "a.keras", tmp_path / "a.keras", **keys)
    assert verify_run(tmp_path / "run").verdict.weights == "pass"
    rewrite(tmp_path / "run", artifacts=[])
    proof = verify_run(tmp_path / "run")
    assert (proof.verdict.weights, proof.notes) == ("inconclusive", ("no weight was compared",))


def test_a_manifest_with_another_verdict_is_refused_in_words(report):
    rewrite(report.folder, verdict={"weights": "splendid"})
    with pytest.raises(tp.FileError, match="splendid"):
        verify_run(report.folder)


def test_sweeps_keep_both_parts(tmp_path):
    verdict = Verdict("pass", "fail", 3, 1)
    done = {"status": "done", "checksum": "p1", "artifacts": [], "score": None, "seconds": 1.0}
    entries = [
        Entry({"a": "1"}, None, "v1", "p1", {**done, "verdict": verdict.to_data()}),
        Entry({"a": "2"}, None, "v2", "p2", done),  # of an earlier version
        Entry({"a": "3"}, None, "v3", "p3", {**done, "verdict": {"weights": 3}}),  # damaged
    ]
    assert [e.verdict for e in entries] == [verdict, None, None]
    write_record(tmp_path, SweepRecord("s", tuple(entries)))
    with (tmp_path / "sweep.csv").open() as file:
        table = [(row["weights"], row["function"]) for row in csv.DictReader(file)]
    assert table == [("pass", "fail"), ("", ""), ("", "")]
    data = json.loads((tmp_path / "sweep.json").read_text())
    assert [v["verdict"] for v in data["variants"]] == [verdict.to_data(), None, None]
    assert len(read_record(tmp_path).entries) == 3


def test_nothing_read_back_is_inconclusive():
    assert verdict_of(0, SettingsCompared()).weights == "inconclusive"
    assert verdict_of(1, SettingsCompared()).weights == "pass"


@pytest.mark.parametrize("live", [True, False])
def test_settings_that_were_compared_and_that_differ_are_counted(tmp_path, live):
    stack(layers.Dense(8, "relu", name="a"), layers.Dense(8, "tanh", name="b"), seed=1).save(tmp_path / "a.keras")
    model = stack(layers.Dense(8, "relu", name="a"), layers.Dense(8, "gelu", name="b"), seed=2)
    keys = (
        {"unmatched": "same_name"}
        if live
        else {"unmatched": "same_name", "save": "m.keras", "folder": tmp_path / "run"}
    )
    report = tp.transfer(tmp_path / "a.keras", model, **keys)
    assert (report.verdict.compared, report.verdict.differing) == (2, 1)
    assert "function: not checked, settings of 2 paired layers compared, 1 differs" in unfolded(report)
    if not live:
        assert report.manifest["verdict"]["settings"] == {"compared": 2, "differing": 1}
        assert "settings of 2 paired layers compared, 1 differs" in report_page(report.plan, report.manifest)
        assert verify_run(tmp_path / "run").verdict == report.verdict


class Scale(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x):
        return x * self.scale


def test_layers_of_unknown_classes_are_counted_as_not_compared(tmp_path):
    stack(layers.Dense(8, name="a"), Scale(name="s"), seed=1).save(tmp_path / "a.keras")
    model = stack(layers.Dense(8, name="a"), Scale(name="s"), seed=2)
    report = tp.transfer(tmp_path / "a.keras", model, unmatched="same_name", save="m.keras", folder=tmp_path / "run")
    assert "settings of 1 of 2 paired layers compared, none differs" in unfolded(report)
    assert report.manifest["verdict"]["settings"] == {"compared": 1, "differing": 0, "not_compared": 1}


@pytest.mark.parametrize(("activation", "function"), [("tanh", "pass"), ("gelu", None)])
def test_a_run_beside_its_original_tells_of_the_function(tmp_path, activation, function):
    stack(layers.Dense(8, "relu", name="a"), layers.Dense(8, "tanh", name="b"), seed=1).save(tmp_path / "a.keras")
    model = stack(layers.Dense(8, "relu", name="a"), layers.Dense(8, activation, name="b"), seed=2)
    keys = {"unmatched": "same_name", "verify": {"parity": "source"}}
    if function is None:
        with pytest.raises(tp.VerificationError):
            tp.transfer(tmp_path / "a.keras", model, **keys)
        return
    report = tp.transfer(tmp_path / "a.keras", model, **keys)
    assert (report.verdict.weights, report.verdict.function) == ("pass", "pass")
    assert "function: pass, " in unfolded(report)


def test_a_verdict_fits_80_columns():
    parity = Verdict(
        "pass", "pass", 12, 3, "7 outputs equal those of source, 4 random inputs from the recipe's seed, " * 2
    )
    for verdict in (Verdict("pass", compared=1234, differing=567), parity):
        text = verdict_text(verdict, "1,234 weights read back and compared bit for bit", 80)
        assert max(map(len, text.splitlines())) <= 80
        assert text.startswith("verdict  weights: pass, ") and "\n         function: " in text


@pytest.mark.parametrize("value", ["\0 the next line", "x", {"a": ["\0 the next line", "b"]}])
def test_entries_of_a_record_stand_on_lines_of_their_own_whatever_they_hold(value):
    data = {"list": [value, 1, [value, value, value]], "empty": []}
    text = json_lines(data)
    assert json.loads(text) == data
    assert text.split("\n")[2:5] == [f"  {json.dumps(v)}{',' * (k < 2)}" for k, v in enumerate(data["list"])]
