"""A sweep's folder in which something is missing or damaged, and variants that take their process along."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import process
from sweeps import FOUR, OUT, SCORE, SCORED, calls, results, rows

TWO = ("sweep", "recipe=own", "seed=0,1", SCORED)


@pytest.fixture(autouse=True)
def my_scores(here):
    (here / "my_scores.py").write_text(SCORE)


def _first(here):
    return here / OUT / rows(here / OUT)[0]["folder"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"status": "failed"}', '{"status": "done", "artifacts": 1}'])
def test_a_variant_with_a_damaged_result_runs_again(cli, here, text):
    cli(*TWO)
    before = results(here / OUT)
    (_first(here) / "result.json").write_text(text)
    assert cli("report", OUT).status == 0
    assert [row["status"] for row in rows(here / OUT)] == ["open", "done"]
    again = cli(*TWO)
    assert again.status == 0, again.err
    assert "again    seed=0: result.json is damaged" in again.out
    assert "1 to run, 1 finished before" in again.out
    assert results(here / OUT) == before


def test_a_score_that_was_changed_by_hand_is_none(cli, here):
    cli(*TWO)
    before, path = results(here / OUT), _first(here) / "result.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps({**result, "score": {**result["score"], "value": 1e9}}))
    assert cli("report", OUT).status == 0
    assert [row["status"] for row in rows(here / OUT)] == ["open", "done"]
    assert "again    seed=0: result.json is damaged" in cli(*TWO).out
    assert results(here / OUT) == before
    record = _first(here) / "score.json"
    written = record.read_text()
    for text in (json.dumps({**json.loads(written), "value": 1e9}), "{"):
        record.write_text(text)
        assert "again    seed=0: score.json is not what was written" in cli(*TWO).out
        assert json.loads(record.read_text())["value"] == json.loads(written)["value"]


@pytest.mark.parametrize("name", ["model.keras", "manifest.json", "score.json"])
def test_a_variant_whose_files_are_gone_runs_again(cli, here, name):
    cli(*TWO)
    (_first(here) / name).unlink()
    answer = cli(*TWO)
    assert f"again    seed=0: {name} is missing" in answer.out
    assert (_first(here) / name).exists() and len(calls(here)) == 3


@pytest.mark.parametrize("argv", [TWO, ("report", OUT)])
def test_a_report_that_is_gone_is_made_again(cli, here, argv):
    cli(*TWO)
    page = (_first(here) / "report.html").read_text()
    (_first(here) / "report.html").unlink()
    assert cli(*argv).status == 0
    assert (_first(here) / "report.html").read_text() == page
    assert len(calls(here)) == 2


@pytest.mark.parametrize("text", [None, "{", "[]", '{"variants": [{"key": 1}]}'])
@pytest.mark.parametrize("argv", [TWO, ("report", OUT)])
def test_a_table_of_contents_that_is_lost_is_made_of_the_variants(cli, here, argv, text):
    cli(*TWO)
    before = results(here / OUT)
    (here / OUT / "sweep.json").write_text(text) if text else (here / OUT / "sweep.json").unlink()
    answer = cli(*argv)
    assert answer.status == 0, answer.err
    assert results(here / OUT) == before
    assert len(calls(here)) == 2


def test_what_a_killed_writer_left_in_the_sweeps_folder_is_removed(cli, here):
    from transferpipe.files.publishing.atomic import temporary_beside

    cli(*TWO)
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    name = temporary_beside(here / OUT / "sweep.csv").name.replace(f"-{os.getpid()}-", f"-{gone.stdout.strip()}-")
    (here / OUT / name).write_text("half")
    cli(*TWO)
    assert not list((here / OUT).glob(".*.part*"))


def test_a_variant_that_takes_its_own_process_along_has_failed(cli, here):
    argv = ("sweep", "recipe=own", SCORED, "score.how=exit,fine", "seed=0")
    assert process(*argv).returncode == 1
    answer = cli(*argv)  # a process of its own, so that it cannot take this one along
    assert answer.status == 1
    assert [row["status"] for row in rows(here / OUT)] == ["failed", "done"]
    assert "its process died, twice: exit status 1" in rows(here / OUT)[0]["problems"]
    assert [c.partition(":")[0] for c in calls(here)] == ["exit0", "fine0", "exit0", "exit0"]
    (here / "my_scores.py").write_text(SCORE.replace("os._exit(1)", "pass"))  # repeated, as the message says
    assert process(*argv).returncode == 0  # another module: this process has the first one imported


WAITING = """
import pathlib, time

def score(model, how="fine", tag=0):
    with open("calls.txt", "a") as calls:
        calls.write("x\\n")
    time.sleep(0 if pathlib.Path("quick").exists() else 60)
    return 1.0
"""


def _until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    assert condition()


def _started(argv, **streams):
    """Start the command as a terminal does: whatever runs these tests in the background has Ctrl-C switched off."""
    command = [sys.executable, "-m", "transferpipe", *argv]
    listening = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    return subprocess.Popen(command, text=True, preexec_fn=listening, **streams)


@pytest.mark.parametrize("number, status, times", [(signal.SIGTERM, 143, 3), (signal.SIGINT, 130, 1)])
def test_a_signal_ends_a_sweep_in_order(cli, here, number, status, times):
    (here / "my_scores.py").write_text(WAITING)
    for _ in range(times):  # however often, it is no death of the variant: of those it survives one
        count = len(calls(here))
        with _started(TWO, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
            _until(lambda n=count: len(calls(here)) > n)
            running.send_signal(number)
            _, said = running.communicate()
        assert running.returncode == status, said
        assert "interrupted: no file is left half written; repeat the command to go on" in said
    assert (here / OUT / "sweep.html").exists()
    (here / "quick").touch()
    answer = cli(*TWO)
    assert answer.status == 0 and "2 to run" in answer.out


def _alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"  # it has ended, and whoever inherited it has not asked yet how: under load for seconds


def test_workers_end_with_the_process_that_started_them(here):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    (here / "my_scores.py").write_text(
        WAITING.replace('calls.write("x\\n")', 'import os; calls.write(f"{os.getpid()}\\n")')
    )
    with _started([*TWO, "hydra/launcher=processes"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        _until(lambda: calls(here))
        running.kill()
    _until(lambda: not any(_alive(int(pid)) for pid in calls(here)), 30)


def test_what_is_written_past_python_is_in_the_log_too(cli, here):
    (here / "my_scores.py").write_text(
        "import os, subprocess\n\ndef score(model, how='fine', tag=0):\n"
        "    os.write(1, b'first\\n')\n    print('second')\n    subprocess.run(['echo', 'third'])\n"
        "    os.write(2, b'fourth\\n')\n    return 1.0\n"
    )
    assert process(*TWO).returncode == 0
    for row in rows(here / OUT):
        said = (here / OUT / row["folder"] / "run.log").read_text().split()
        assert said == ["first", "second", "third", "fourth"]


def test_a_report_says_which_variant_it_is_of(cli, here):
    cli(*FOUR)
    pages = [(here / OUT / row["folder"] / "report.html").read_text() for row in rows(here / OUT)]
    assert "<title>seed=0 freeze=[]: own</title>" in pages[0]
    assert "<code>seed=0 freeze=[hidden]</code> of <a href='../sweep.html'>" in pages[1]


def test_a_failure_says_what_was_to_be_done(cli, here):
    answer = cli(*TWO, "score.how=raise")
    assert "FAILED: scoring failed: score: my_scores.score raised ValueError: odd -> fix the score" in answer.out
    assert answer.status == 3
    result = json.loads((_first(here) / "result.json").read_text())
    assert result["problems"] == [rows(here / OUT)[0]["problems"]]
