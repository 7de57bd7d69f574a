"""What is finished is known by content: what is the same is not repeated, and what changed is noticed."""

import json
import os
import re
import sys

import numpy as np
import pytest
from command_line import RECIPE
from sweeps import OUT, calls, rows

from transferpipe.sweep.identity.inputs import inputs_of

MODULE = """
import os
import helper
from pack import inner
from pack.deep import value as other

def score(model, numbers=None, folder=None, log=None, logs=None):
    with open("calls.txt", "a") as calls:
        calls.write("x\\n")
    if log:
        with open(log, "a") as file:
            file.write("another line\\n")
    if logs:
        os.makedirs(logs, exist_ok=True)
        open(f"{logs}/{len(os.listdir(logs))}", "w").close()
    return helper.FACTOR * inner.FACTOR * other
"""
FILES = {
    "my_scores.py": MODULE,
    "helper.py": "import below\nFACTOR = 1.0 * below.FACTOR\n",
    "below.py": "FACTOR = 1.0\n",
    "unrelated.py": "FACTOR = 1.0\n",
    "pack/__init__.py": "from . import inner\n",
    "pack/inner.py": "FACTOR = 1.0\n",
    "pack/deep.py": "def late():\n    from ..pack import last\nvalue = 1.0\n",
    "pack/last.py": "",
    "data/part/x.txt": "1\n",
    "numbers.txt": "1\n",
}
SWEEP = ("sweep", "recipe=own", "seed=0,1")
SCORE = "score={_target_: my_scores.score, numbers: numbers.txt, folder: data}"


@pytest.fixture(autouse=True)
def files(here):
    for name, text in FILES.items():
        (here / name).parent.mkdir(exist_ok=True, parents=True)
        (here / name).write_text(text)


def _forget():
    for name in [n for n in sys.modules if n.partition(".")[0] in ("my_scores", "helper", "below", "pack")]:
        del sys.modules[name]


def _waiting(cli, *words):
    _forget()
    answer = cli(*SWEEP, *(words or [SCORE]))
    assert answer.status == 0, answer.out + answer.err
    return int(next(line for line in answer.out.splitlines() if line.startswith("sweep ")).split(": ")[1].split()[0])


def test_a_touched_file_repeats_nothing(cli, here):
    assert _waiting(cli) == 2
    for name in [*FILES, "weights.safetensors"]:
        os.utime(here / name, (1, 1))
        os.replace(here / name, here / "moved")
        (here / name).write_bytes((here / "moved").read_bytes())
    (here / "unrelated.py").write_text("FACTOR = 2.0\n")
    assert _waiting(cli) == 0


@pytest.mark.parametrize("name", [n for n in FILES if n != "unrelated.py"])
def test_a_changed_file_is_noticed(here, name):
    recipe = {"score": {"_target_": "my_scores.score", "numbers": ["numbers.txt"], "folder": "data"}}
    before, times = inputs_of(recipe), os.stat(here / name)
    text = FILES[name]
    (here / name).write_text(text.replace("1", "2") if "1" in text else text + "#")
    os.utime(here / name, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a copy that keeps times does
    assert inputs_of(recipe) != before


OTHERS = {
    "pack/inner.py": "def score(model):\n    return 1.0\n",
    "by_name.py": "import importlib\ndef score(model):\n    return importlib.import_module('pack.last')\n",
    "beside.py": "__import__('below')\n",
    "set/a.npz": "1",
    "run/step-7.index": "1",
    "run/step-7.data-00000-of-00001": "1",
    "elsewhere/deep/x.txt": "1",
}


@pytest.mark.parametrize(
    "score, name",
    [
        ({"_target_": "pack.inner.score"}, "pack/__init__.py"),
        ({"_target_": "by_name.score"}, "pack/last.py"),
        ({"_target_": "beside.score"}, "below.py"),
        ({"files": "set/*.npz"}, "set/a.npz"),
        ({"files": "set/**"}, "set/a.npz"),
        ({"start": "run/step-7"}, "run/step-7.data-00000-of-00001"),
        ({"folder": "data"}, "elsewhere/deep/x.txt"),  # by a link, beside one that leads back
        ({"numbers": "~/numbers.txt"}, "numbers.txt"),
        ({"numbers": "pkg://pack/last.py"}, "pack/last.py"),
        ({"parts": {"numbers.txt": 0.5, "set/a.npz": {"share": 0.5}}}, "set/a.npz"),
        ({"parts": {"numbers.txt": 0.5}}, "numbers.txt"),
        ({"start": "set/a"}, "set/a.npz"),
        ({"numbers": "file://~/numbers.txt"}, "numbers.txt"),
    ],
)
def test_a_file_is_found_however_it_is_named(here, monkeypatch, score, name):
    for path, text in OTHERS.items():
        (here / path).parent.mkdir(exist_ok=True, parents=True)
        (here / path).write_text(text)
    (here / "data" / "link").symlink_to(here / "elsewhere")
    (here / "elsewhere" / "back").symlink_to(here / "data")
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.syspath_prepend(here)
    before = inputs_of({"score": score})
    (here / name).write_text((here / name).read_text() + "#")
    assert inputs_of({"score": score}) != before
    assert inputs_of({"mapping": {"all": {"to": ".*"}}}) == inputs_of({"score": {"layer": "*", "all": "../**"}}) == []


def test_a_changed_helper_makes_earlier_results_stale(cli, here):
    _waiting(cli)
    (here / "helper.py").write_text("FACTOR = 100.0\n")
    _forget()
    answer = cli("sweep", "recipe=own", "seed=1,2", SCORE)
    assert "1 of 3 variants were made before my_scores.score changed" in answer.out
    assert {row["seed"]: float(row["score"]) for row in rows(here / OUT)} == {"0": 1, "1": 100, "2": 100}


def test_a_file_that_the_score_writes_is_none_of_its_inputs(cli, here):
    words = ("score={_target_: my_scores.score, numbers: numbers.txt, log: log.txt, logs: logs}",)
    assert _waiting(cli, *words) == 2
    assert _waiting(cli, *words) == 0
    (here / "numbers.txt").write_text("3\n")
    assert _waiting(cli, *words) == 2
    assert _waiting(cli, *words) == 0


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def _edit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _raise(path):
    before = path.read_text()
    path.write_text(re.sub(r'("(?:value|parameters|format_version)": )(\d)', r"\g<1>1\2", before, count=1))
    assert path.read_text() != before and json.loads(path.read_text())


@pytest.mark.parametrize(
    "change, name",
    [
        (_cut, "model.keras"),
        (_edit, "model.keras"),
        (_cut, "manifest.json"),
        (_raise, "manifest.json"),
        (_raise, "plan.json"),
    ],
)
def test_a_result_that_was_changed_by_hand_is_not_finished(cli, here, change, name):
    assert _waiting(cli) == 2
    digests = [row["folder"] for row in rows(here / OUT)]
    path = here / OUT / digests[0] / name
    whole = path.read_bytes()
    change(path)
    _forget()
    answer = cli(*SWEEP, SCORE)
    assert f"{name} is not what was written" in answer.out and "1 to run" in answer.out
    assert len(path.read_bytes()) == len(whole) if name != "manifest.json" else path.read_text().rstrip().endswith("}")
    assert len(calls(here)) == 3


def test_an_argument_of_a_builder_may_be_a_file(cli, here, recipe):
    (here / "my_nets.py").write_text(
        "from transferpipe.zoo import small_mlp\n\ndef net(vocabulary):\n    open(vocabulary).close()\n    return small_mlp()\n"
    )
    recipe(
        RECIPE.replace("{_target_: transferpipe.zoo.small_mlp}", "{_target_: my_nets.net, vocabulary: numbers.txt}"),
        "own",
    )
    np.savez(here / "y.npz", 1)
    assert (_waiting(cli), _waiting(cli)) == (2, 0)
    (here / "numbers.txt").write_text("2\n")
    assert _waiting(cli) == 2
