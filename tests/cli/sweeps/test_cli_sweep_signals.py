"""A signal ends a sweep wherever it arrives, also where the exception that it raises is lost; no variant is blamed."""

import signal
import subprocess
import sys
import time

import pytest
from sweeps import OUT, calls, results, rows

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
    assert not list((here / OUT).glob("*/started"))
    (here / "quick").touch()
    assert cli(*ARGV).status == 0
    assert len(results(here / OUT)[0]) == 3
