"""What a sweep of many variants prints: a screenful, and everything where it is asked for."""

import json

import pytest
from sweeps import OUT, SCORE, SCORED

from transferpipe.cli.sweeps.progress import sweep_progress
from transferpipe.show.sweeps.sweep_words import MOST_WHOLE
from transferpipe.show.sweeps.variants_table import variants_text
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.record import SweepRecord, write_record
from transferpipe.sweep.variant import Planned, Variant

SCREEN = 24


def fails(text):
    return {"status": "failed", "problems": [text], "exit": 1, "seconds": 0.1}


def scored(value):
    score = {
        "value": value,
        "name": "test accuracy after fine-tuning",
        "higher_is_better": True,
        "kind": "trained",
        "seconds": 1.0,
    }
    return {"status": "done", "checksum": "p0123456789a", "artifacts": [], "score": score, "seconds": 1.0}


@pytest.fixture
def sweep_of(here):
    """Return a function that leaves the folder of a sweep of so many variants, of which each tenth failed."""

    def make(count, result=scored):
        entries = []
        for i in range(count):
            found = fails(f"odd thing {i}: {'again ' * 100}") if i % 10 == 3 else result(0.5 + i / 1000)
            overrides = {"freeze": f"[block{i}]", "rate": str(i % 7), "seed": "0"}
            entries.append(Entry(overrides, None, f"v{i}", "p0123456789a", found))
            (here / "many" / f"v{i}").mkdir(parents=True)
            (here / "many" / f"v{i}" / "result.json").write_text(json.dumps(found))
        write_record(here / "many", SweepRecord("many", tuple(entries)))
        return here / "many"

    return make


@pytest.mark.parametrize("result", [scored, lambda _: {**scored(0.0), "score": None}, lambda _: fails("odd")])
def test_300_variants_are_a_screenful(cli, sweep_of, monkeypatch, result):
    monkeypatch.setenv("LINES", str(SCREEN))
    folder = sweep_of(300, result)
    text = cli("report", folder).out
    assert len(text.splitlines()) <= SCREEN - 5  # the rest of the screen is the sweep's own
    whole = cli("report", folder, "--all").out
    assert len(whole.splitlines()) > len(text.splitlines())
    assert "v293/run.log" in "".join(whole.split())
    assert "transferpipe report FOLDER --all" in " ".join(text.split())


def test_a_higher_terminal_shows_more(cli, sweep_of, monkeypatch):
    folder = sweep_of(300)
    heights = []
    for lines in (24, 60, 100):
        monkeypatch.setenv("LINES", str(lines))
        heights.append(len(cli("report", folder).out.splitlines()))
    assert heights[0] < heights[1] < heights[2] <= 100


def test_few_rows_are_whole_on_any_terminal(cli, sweep_of, monkeypatch):
    monkeypatch.setenv("LINES", "5")
    text = cli("report", sweep_of(MOST_WHOLE)).out
    assert text == cli("report", "many", "--all").out


def test_progress_of_many_is_a_line_a_quarter_and_the_first_failures(tmp_path, capsys):
    labels = {f"v{i}": [f"cut={i}"] for i in range(300)}
    with sweep_progress(labels, tmp_path) as on_result:
        for i, key in enumerate(labels):
            on_result(key, fails(f"odd {i % 50}") if i % 3 == 0 else scored(0.5))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "] finished" in line] == [
        "[75/300]",
        "[150/300]",
        "[225/300]",
        "[300/300]",
    ]
    assert lines[-1] == "[300/300] finished, 100 failed"
    assert [line.split("FAILED: ")[1].split(";")[0] for line in lines if "FAILED" in line] == [
        "odd 0",
        "odd 3",
        "odd 6",
    ]
    assert len(lines) == 7


def test_progress_counts_variants_and_not_runs(tmp_path, capsys):
    labels = {"v1": ["name=a", "name=b", "name=c", "name=d", "name=e"], "v2": ["name=f"]}
    with sweep_progress(labels, tmp_path) as on_result:
        on_result("v1", scored(0.5))
        on_result("v2", scored(0.25))
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("[5/6] name=a, name=b, name=c and 2 more  0.5000")
    assert last.startswith("[6/6] name=f  0.2500")


def test_of_many_variants_the_first_are_listed_before_they_run():
    planned = [
        Planned(Variant({}, {"cut": str(i)}), f"p{i:011x}", f"v{i}", (2, 1), (f"freeze: odd {i}",)) for i in range(300)
    ]  # fmt: skip
    short = variants_text(planned, whole=False)
    assert len(short.splitlines()) <= 9 and "and 297 more" in short and "297 more warnings" in short
    whole = variants_text(planned)
    assert all(p.checksum in whole and p.warnings[0] in whole for p in planned)
    few = planned[:MOST_WHOLE]
    assert variants_text(few, whole=False) == variants_text(few)


def test_a_long_message_is_short_on_the_terminal_and_whole_in_the_log(cli, here):
    (here / "my_scores.py").write_text(SCORE.replace('ValueError("odd")', 'ValueError("odd " * 200 + "at the end")'))
    answer = cli("sweep", "recipe=own", SCORED, "score.how=raise,fine")
    (line,) = [line for line in answer.out.splitlines() if "FAILED" in line]
    assert "odd odd" in line and "at the end" not in answer.out and len(line) < 350
    log = here / line.split("see ")[1].split()[0]
    assert "odd " * 200 + "at the end" in log.read_text()
    assert OUT in str(log)


def test_two_sweeps_are_compared(cli, sweep_of, refuses):
    folder = sweep_of(30)
    answer = cli("report", folder, folder)
    assert answer.status == 0 and f"a: {folder}; b: {folder}" in " ".join(answer.out.split())
    assert len(answer.out.splitlines()) < len(cli("report", folder, folder, "--all").out.splitlines())
    data = json.loads(cli("report", folder, folder, "--json").out)
    assert len(data["shared"]) == 27 and all(row["difference"]["mean"] == 0 for row in data["shared"])
    refuses(2, ["report", folder, folder, "--watch"], "follows one sweep, not two")
    refuses(4, ["report", folder, "nowhere"], "nowhere")
