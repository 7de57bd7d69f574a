"""A signal ends a sweep wherever it arrives, also where the exception that it raises is lost; no variant is blamed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from sweeps import OUT, calls, results, rows

from transferpipe.sweep.running.leader import Leader

LOSING = {
    "caught": "try:\n        hit()\n    except BaseException:\n        pass",
    "replaced": "try:\n        hit()\n    except BaseException as error:\n        raise ValueError('odd') from error",
    "exit": "try:\n        hit()\n    except BaseException:\n        raise SystemExit(3)",
    "dropped": "class Dying:\n        def __del__(self):\n            hit()\n    Dying()",
    "traced": "import tensorflow as tf\n    @tf.function\n    def step(x):\n        if x > 0:\n            hit()\n        return x\n    step(tf.constant(1.0))",
}  # fmt: skip
SCORE = """
import os, pathlib, signal

def hit():
    if pathlib.Path("armed").exists():
        os.kill(os.getpid(), int(pathlib.Path("armed").read_text()))

def score(model, tag=0):
    with open("calls.txt", "a") as calls:
        calls.write(f"{tag}\\n")
    if tag == 1:
        where()
    return float(tag)

def where():
    BODY
"""
ARGV = ("sweep", "recipe=own", "score={_target_: my_scores.score, tag: 0}", "score.tag=0,1,2", "seed=0")


@pytest.fixture
def listening():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "place, number, status",
    [
        *((place, signal.SIGINT, 130) for place in LOSING),
        ("caught", signal.SIGTERM, 143),  # one handler raises for both
    ],
)
def test_no_variant_is_blamed_for_a_signal(cli, here, listening, place, number, status):
    (here / "my_scores.py").write_text(SCORE.replace("BODY", LOSING[place]))
    (here / "armed").write_text(str(int(number)))
    answer = cli(*ARGV)
    assert answer.status == status
    assert "interrupted" in answer.err and "FAILED" not in answer.out
    assert calls(here) == ["0", "1"]
    assert [row["status"] for row in rows(here / OUT)] == ["done", "open", "open"]
    (here / "armed").unlink()
    answer = cli(*ARGV)
    assert answer.status == 0 and "2 to run, 1 finished before" in answer.out
    assert calls(here) == ["0", "1", "1", "2"]


@pytest.mark.parametrize("verb", ["sweep", "plan", "run"])
def test_a_signal_is_no_fault_of_a_builder_that_loses_it(cli, here, listening, recipe, verb):
    (here / "my_models.py").write_text(
        "import os, signal\nfrom transferpipe.zoo import small_mlp\n\ndef build():\n    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n    except BaseException:\n        raise ValueError('odd')\n"
    )
    recipe("target: {_target_: my_models.build}\nunmatched: keep\nsave: {path: out.keras}\n")
    answer = cli(verb, "recipe=mine")
    assert answer.status == 130, answer.err
    assert "odd" not in answer.err and not (here / "outputs").exists()


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


@pytest.mark.parametrize(
    "words, module",
    [
        (["hydra/launcher=processes"], "hydra_plugins.hydra_joblib_launcher"),
        (["hydra/launcher=slurm_here"], "hydra_plugins.hydra_submitit_launcher"),
    ],
)
def test_workers_of_a_killed_sweep_end_and_blame_no_variant(cli, here, words, module):
    pytest.importorskip(module)
    (here / "my_scores.py").write_text(
        "import os, pathlib, time\n\ndef score(model, tag=0):\n    with open('calls.txt', 'a') as calls:\n"
        "        calls.write(f'{os.getpid()}\\n')\n    time.sleep(0 if pathlib.Path('quick').exists() else 60)\n"
        "    return float(tag)\n"
    )
    command = [sys.executable, "-m", "transferpipe", *ARGV, *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        _until(lambda: calls(here))
        running.kill()
    _until(lambda: not any(_alive(pid) for pid in calls(here)), 10)
    _until(lambda: not list((here / OUT).glob("*/started")), 10)  # one may not have come to its score
    (here / "quick").touch()
    assert cli(*ARGV).status == 0
    assert len(results(here / OUT)[0]) == 3


def test_a_worker_that_starts_after_its_sweep_was_killed_begins_nothing(here):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as gone:
        leader = {**asdict(Leader.here()), "pid": gone.pid, "started": "1"}
        gone.kill()
    folder = here / "v1"
    folder.mkdir()
    steering = {"deadline": None, "fail_fast": False, "retries": 0}
    task = {"folder": str(folder), "trusted": [], "search": [], "leader": leader, "steering": steering}
    argv = [sys.executable, "-m", "transferpipe.cli.sweeps.workers"]
    ended = subprocess.run(argv, input=json.dumps(task), capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr, list(folder.iterdir())) == (1, "", [])


STARTING = """
import subprocess, sys
from transferpipe.sweep.running import leader
leader._GRACE = 0.1
HIDING = '''
import ctypes, os, subprocess, sys, time
if sys.argv[1] == "hides":  # as a process does that writes its title over its environment
    time.sleep(0.8)
    environ = ctypes.POINTER(ctypes.c_void_p).in_dll(ctypes.CDLL(None), "environ")
    for i in range(len(os.environ)):
        if ctypes.string_at(environ[i]).startswith(b"TRANSFERPIPE"):
            ctypes.memset(environ[i], 0, len(ctypes.string_at(environ[i])))
print(os.getpid(), flush=True)
time.sleep(60)
'''
before = subprocess.Popen([sys.executable, "-c", HIDING, "before"], stdout=subprocess.PIPE)
with leader.guarded(leader.Leader.here()):
    words = ("waits", "hides")
    started = [subprocess.Popen([sys.executable, "-c", HIDING, word], stdout=subprocess.PIPE) for word in words]
for process in (before, *started):
    print(process.stdout.readline().decode().strip(), flush=True)
input()
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the processes of a sweep are seen in /proc")
def test_what_an_engine_started_ends_with_a_killed_sweep_though_it_never_came_to_a_variant():
    command = [sys.executable, "-c", STARTING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        before, *started = (int(running.stdout.readline()) for _ in range(3))
        running.kill()
    try:
        _until(lambda: not any(_alive(pid) for pid in started), 10)
        assert _alive(before)
    finally:
        os.kill(before, signal.SIGKILL)


def test_joblib_is_given_what_ends_workers_that_wait_when_their_sweep_is_killed(here, recipe):
    """They are there once joblib has started them, with nothing to do until the sweep, which is killed, says what."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    (here / "waits.py").write_text(
        "import os, pathlib, sys, time\nimport joblib.externals.loky.process_executor as loky\n"
        "from transferpipe.cli import main\n"
        "loky._ExecutorManagerThread.add_call_item_to_queue = lambda self: time.sleep(60)\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    recipe(
        "source: {path: weights.safetensors}\ntarget: {path: weights.safetensors}\nvars: {x: 0}\n"
        "mapping: {all: {to: '.*'}}\nsave: {path: out.npz}\n"
        "edit: {probe: {at: hidden/kernel, index: [0, 0], set: '${vars.x}'}}\n",
        "light",
    )
    argv = ["sweep", "recipe=light", "vars.x=range(4)", "hydra/launcher=processes", "hydra.launcher.n_jobs=2"]
    command = [sys.executable, "waits.py", *argv]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        _until(lambda: len(_working_in(here)) >= 3)
        workers = _working_in(here) - {running.pid}
        running.kill()
    _until(lambda: not any(_alive(pid) for pid in workers), 30)


def _working_in(folder):
    """Return the processes whose working directory is `folder`, without those that only keep joblib's files."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (
                Path(os.readlink(place / "cwd")) == folder
                and b"resource_tracker" not in (place / "cmdline").read_bytes()
            ):
                found.add(int(place.name))
    return found - {os.getpid()}
