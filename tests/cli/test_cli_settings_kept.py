"""What a score or a builder changes of the process is what it was, when the next variant begins."""

import logging
import os
import random

import keras
import numpy as np
import pytest
from command_line import process
from sweeps import OUT, calls, results, rows

CHANGES = {
    "policy": "keras.config.set_dtype_policy('mixed_float16')",
    "floatx": "keras.config.set_floatx('float16')",
    "order": "keras.config.set_image_data_format('channels_first')",
    "epsilon": "keras.config.set_epsilon(0.5)",
    "folder": "os.chdir('/')",
    "seeds": "keras.utils.set_random_seed(7)",
    "logging": "logging.basicConfig(level=logging.INFO, force=True); logging.getLogger('mine').addHandler(logging.StreamHandler())",
}
SCORE = """
import json, logging, os, random
import keras, numpy

def score(model, change, tag=0, fails=False):
    logging.getLogger("mine").warning("scoring")
    with open("calls.txt", "a") as calls:
        calls.write(f"{random.random()}{numpy.random.rand()}\\n")
    exec(CHANGES.get(change, ''))
    if fails:
        raise ValueError("odd")
    return float(abs(model.layers[-1].get_weights()[0]).sum())
"""


def _state():
    config = keras.config
    settings = config.dtype_policy().name, config.floatx(), config.image_data_format(), config.epsilon()
    return settings, os.getcwd(), random.getstate(), np.random.get_state()[1].tolist(), list(logging.root.handlers)


@pytest.fixture
def changing(here):
    def write(change, more=""):
        (here / "my_scores.py").write_text(f"{SCORE}\nCHANGES = {CHANGES!r}\n{more}\n")
        return f"score={{_target_: my_scores.score, change: {change}, tag: 0, fails: false}}"

    return write


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_what_a_score_changes_is_put_back(cli, here, changing, change, fails):
    before = _state()
    answer = cli("sweep", "recipe=own", "seed=0,1", "score.tag=0,1", changing(change), f"score.fails={fails}")
    assert answer.status == (3 if fails else 0), answer.err
    assert _state() == before
    for row in rows(here / OUT):
        assert "Logging error" not in (here / OUT / row["folder"] / "run.log").read_text()
    assert len(set(calls(here))) == 2  # a number of a generator a seed, whatever ran before


def test_models_after_a_score_that_sets_a_policy_are_as_in_a_process_of_their_own(cli, here, changing):
    argv = ("sweep", "recipe=own", changing("policy"))
    assert cli(*argv, "freeze=[],[hidden]").status == 0
    for number, freeze in enumerate(["[]", "[hidden]"]):
        assert process(*argv, f"freeze={freeze}", f"hydra.sweep.dir=alone{number}").returncode == 0
    together = [v["artifacts"] for v in results(here / OUT)[1]]
    assert together == [results(here / f"alone{number}")[1][0]["artifacts"] for number in range(2)]


def test_what_the_import_of_a_score_sets_does_not_reach_the_models(cli, here, changing):
    before = _state()
    assert cli("run", "recipe=own", "hydra.run.dir=out", changing("none", CHANGES["policy"])).status == 0
    assert _state() == before
    assert keras.models.load_model(here / "out" / "model.keras").layers[-1].dtype_policy.name == "float32"


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_builder_changes_is_put_back(cli, here, recipe, change):
    (here / "my_models.py").write_text(
        "import logging, os\nimport keras\nfrom transferpipe.zoo import small_mlp\n\n"
        f"def build():\n    {CHANGES[change]}\n    return small_mlp()\n"
    )
    before = _state()
    recipe("target: {_target_: my_models.build}\nunmatched: keep\nsave: {path: model.npz}\n")
    assert cli("run", "recipe=mine", "hydra.run.dir=out").status == 0
    assert _state() == before
