"""`select`: from the recipe and from the command line, through plan, run, manifest and proof."""

import json

import numpy as np
import pytest
from command_line import weights
from torch_files import plain, write_zip

RECIPE = """
source: {path: train.pt, select: ema, layout: keras}
target: {_target_: transferpipe.zoo.small_mlp}
mapping:
  all: {to: '.*'}
"""


@pytest.fixture
def checkpoint(here):
    """Return what lies under two names of one training checkpoint."""
    ours = {"model": weights(), "ema": {name: value * 2 for name, value in weights().items()}}
    tensors, stored = plain({f"{part}:{name}": v for part, values in ours.items() for name, v in values.items()})
    root = {part: {n: tensors[f"{part}:{n}"] for n in values} for part, values in ours.items()}
    write_zip(here / "train.pt", root, stored)
    return ours


def test_select_in_a_recipe(cli, here, recipe, checkpoint):
    recipe(RECIPE)
    run = ("run", "recipe=mine", "save.path=m.npz", "save.overwrite=true", "hydra.run.dir=out")
    for override, part in (((), "ema"), (("source.select=model",), "model")):
        answer = cli(*run, *override)
        assert answer.status == 0, answer.err
        assert f"source  train.pt select={part}" in answer.out
        with np.load(here / "out" / "m.npz") as found:
            assert found["hidden/kernel"].tobytes() == checkpoint[part]["hidden/kernel"].tobytes()
        manifest = json.loads((here / "out" / "manifest.json").read_text())
        assert manifest["sources"]["source"]["select"] == part
        assert "pass, 4 weights computed again from their sources" in cli("verify", "out").out


def test_other_parts_are_other_plans(cli, recipe, checkpoint):
    recipe(RECIPE)
    plans = {cli("plan", "recipe=mine", f"source.select={part}").out.splitlines()[-1] for part in checkpoint}
    assert len(plans) == 2


def test_select_of_a_target_file(cli, here, recipe, checkpoint):
    recipe(
        "target: {path: train.pt, select: ema}\nunmatched: keep\nsave: {path: m.safetensors}\nedit: {a: {at: hidden/bias, index: [0], set: 9}}"
    )
    assert cli("run", "recipe=mine", "hydra.run.dir=out").status == 0
    assert "pass, 4 weights computed again" in cli("verify", "out").out


def test_refusals(refuses, recipe, checkpoint):
    recipe(RECIPE)
    refuses(2, ["plan", "recipe=mine", "source.select=emma"], "there is no 'emma'", "did you mean 'ema'?")
    refuses(2, ["plan", "recipe=mine", "source.select=null"], "weights under 'model', 'ema'", "select: model")
    refuses(2, ["plan", "recipe=mine", "source.select=''"], "source.select: is empty")
    refuses(2, ["plan", "recipe=mine", "source.select=3"], "source.select: must be text, not integer 3")
    refuses(
        2,
        ["plan", "recipe=own", "+source.select=a"],
        "select: 'a' is to be selected",
        "safetensors files have no parts",
    )
    refuses(2, ["plan", "recipe=own", "+target.select=a"], "select")


def test_inspect(cli, here, checkpoint):
    answer = cli("inspect", "train.pt", "select=ema", "--json")
    found = json.loads(answer.out)
    assert (found["format"], found["details"], len(found["weights"])) == ("torch", {"selected": "ema"}, 4)
    assert cli("inspect", "train.pt").status == 2
    assert "select: model" in cli("inspect", "train.pt").err
    assert "PATH [match=X] [format=X] [select=X]" in cli("inspect", "select=ema").err
    assert "4 further entries" in cli("inspect", "train.pt", "select=ema", "--all").out
