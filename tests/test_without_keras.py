"""What the core does alone: no Keras, no TensorFlow, no matplotlib. ``.ci/run`` runs this where they are not installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import transferpipe

TRAINED = Path(transferpipe.__file__).parent / "zoo" / "data" / "digits_0_4.keras"
START = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("keras", "tensorflow", "jax", "torch", "matplotlib"):
            return None
        return self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Without, sys.meta_path)
from transferpipe.__main__ import start
sys.exit(start())
"""
RECIPE = """
source: {path: trained.keras}
target: {path: target.keras}
mapping: {all: {to: '(.*)', from: '\\1'}}
"""
TO_FLAT = """
source: {path: trained.keras}
target: {path: flat.safetensors}
mapping: {kernel: {to: first, from: trunk/conv1/kernel}}
unmatched: keep
save: {path: out.safetensors}
"""


@pytest.fixture
def call(tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "files.yaml").write_text(RECIPE)
    (tmp_path / "recipes" / "flat.yaml").write_text(TO_FLAT)
    for name in ("trained.keras", "target.keras"):
        (tmp_path / name).write_bytes(TRAINED.read_bytes())
    save_file({"first": np.zeros((3, 3, 1, 16), "f4"), "second": np.ones(3, "f4")}, tmp_path / "flat.safetensors")

    def run(*words, status=0):
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TRAINED.parents[3]), os.environ.get("PYTHONPATH", "")])}
        env.pop("KERAS_BACKEND", None)
        done = subprocess.run(
            [sys.executable, "-c", START, *words], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    run.folder = tmp_path
    return run


def test_files_are_shown_planned_copied_and_verified(call):
    assert "conv1/kernel" in call("inspect", "trained.keras")
    assert "assigned" in call("plan", "recipe=files")
    assert "verdict  weights: pass" in call("run", "recipe=files", "hydra.run.dir=done")
    assert "weights: pass" in call("verify", "done")
    call("run", "recipe=flat", "hydra.run.dir=flat")
    written = load_file(call.folder / "flat" / "out.safetensors")
    assert written["first"].any()
    assert (written["second"] == 1).all()
    assert json.loads((call.folder / "flat" / "manifest.json").read_text())


def test_a_recipe_is_written_for_two_files(call):
    call("init", "trained.keras", "target.keras", "first")
    assert "verdict  weights: pass" in call("run", "recipe=first", "hydra.run.dir=first")


def test_sets_of_weights_are_compared(call):
    call("diff", "trained.keras", "target.keras")
    assert "only in B" in call("diff", "trained.keras", "flat.safetensors", status=1)


def test_sweeps_of_files_run(call):
    call("sweep", "recipe=flat", "verify.nonfinite=error,allow", "--dry-run")
    assert "1 failed" not in call("sweep", "recipe=files", "seed=1,2")
    (page,) = call.folder.rglob("sweep.html")
    assert "transferpipe" in page.read_text()


@pytest.mark.parametrize("words", [["help"], ["help", "warnings"], ["recipes"], ["--version"], ["run", "--help"]])
def test_everything_that_only_tells(call, words):
    assert call(*words)


@pytest.mark.parametrize(
    "words",
    [
        ["run"],
        ["parity", "trained.keras", "target.keras"],
        [
            "plan",
            "recipe=files",
            "~target.path",
            "+target._target_=keras.applications.MobileNet",
            "+target.weights=null",
        ],
        ["run", "recipe=files", "verify.reload=true"],
        ["run", "recipe=files", "+quantize=int8"],
        ["run", "recipe=files", "save.also=[as_checkpoint.ckpt]"],
        ["run", "recipe=files", "+verify.parity=source"],
    ],
)
def test_what_is_missing_is_said_with_the_line_that_installs_it(call, words):
    said = call(*words, status=2)
    assert "pip install 'transferpipe[tensorflow]'" in said
    assert not list(call.folder.rglob("*.part*"))
    assert not list(call.folder.rglob("model.keras"))


def test_what_a_recipe_may_not_name_is_refused_all_the_same(call):
    call("plan", "recipe=files", "~target.path", "+target._target_=keras.models.load_model", status=5)
