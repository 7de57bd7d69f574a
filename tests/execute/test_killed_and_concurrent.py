"""Processes that are killed while they write, and several that write the same file at once."""

import signal
import subprocess
import sys
import time

import pytest
from hand_made import dense, read_weights, write_archive

RUN = """
import sys
import transferpipe as tp
from transferpipe.save.writers import fill

source, target, out, slow = sys.argv[1:]
real = fill.write_at
def write_at(*arguments):
    print("writing", flush=True)  # tells the test that the file has been begun
    if slow == "slow":
        import time
        time.sleep(0.02)
    return real(*arguments)
fill.write_at = write_at
tp.transfer(source, target, folder=out, mapping={"all": {"to": ".*"}}, save={"path": "model.keras", "overwrite": True})
print("done", flush=True)
"""
LAYERS = 12


@pytest.fixture
def files(tmp_path):
    sources = [write_archive(tmp_path / f"s{k}.keras", layers(k)) for k in (0, 1)]
    out = tmp_path / "out"
    out.mkdir()
    return (*sources, write_archive(tmp_path / "t.keras", layers(9)), out)


def layers(k):
    return [dense(f"d{i}", 30, 20, 100 * k + i) for i in range(LAYERS)]


def start(source, target, out, pace):
    command = [sys.executable, "-c", RUN, str(source), str(target), str(out), pace]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("wait", [0.0, 0.05, 0.2])
def test_killed_while_writing_the_old_file_stays_and_the_next_run_cleans_up(files, wait):
    old, new, target, out = files
    with start(old, target, out, "fast") as process:
        assert "done" in process.communicate()[0]
    before = (out / "model.keras").read_bytes()
    with start(new, target, out, "slow") as process:
        assert process.stdout.readline() == "writing\n"
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert (out / "model.keras").read_bytes() == before
    assert len(list(out.glob(".model.keras.*.part*"))) == 1
    with start(new, target, out, "fast") as process:
        assert "done" in process.communicate()[0]
    assert not list(out.glob(".*"))
    assert_holds(out, [new])


def test_two_runs_on_one_path_leave_one_whole_result(files):
    one, other, target, out = files
    with start(one, target, out, "slow") as first, start(other, target, out, "slow") as second:
        outputs = [p.communicate()[0] for p in (first, second)]
    assert all("done" in text for text in outputs)
    assert_holds(out, [one, other])
    assert not list(out.glob(".*"))


def assert_holds(out, sources):
    written = read_weights(out / "model.keras")
    assert any(
        all((written[name] == value).all() for name, value in read_weights(source).items()) for source in sources
    )
