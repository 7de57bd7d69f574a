"""The verbs and flags that look at things: inspect, recipes, help, version, the composed recipe, completion."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import yaml
from command_line import process, tree
from safetensors.numpy import load_file

from transferpipe import __version__

RUN = ("run", "recipe=own", "hydra.run.dir=out")


def test_inspect(cli, here):
    answer = cli("inspect", "weights.safetensors")
    assert answer.status == 0
    assert [line.split()[0] for line in answer.out.splitlines() if "float32" in line] == list(
        load_file(here / "weights.safetensors")
    )


def test_inspect_as_json_with_statistics(cli, store):
    kernel = np.arange(48, dtype="float32").reshape(8, 6)
    kernel[0, 0] = np.nan
    store(hidden__kernel=kernel)
    data = json.loads(cli("inspect", "weights.safetensors", "--json", "--stats").out)
    found = {w["name"]: w for w in data["weights"]}
    assert found["hidden/kernel"]["shape"] == [8, 6]
    assert "47" in json.dumps(found["hidden/kernel"])


def test_inspect_all_lists_what_is_no_weight(cli, here):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="d")])
    model.compile("adam", "mse")
    model.fit(np.ones((2, 2)), np.ones((2, 1)), verbose=0)
    model.save(here / "trained.keras")
    assert "optimizer/" not in cli("inspect", "trained.keras").out
    assert "optimizer/" in cli("inspect", "trained.keras", "--all").out


def test_inspect_does_not_import_tensorflow(here):
    code = "import sys; from transferpipe.cli import main; main(['inspect', 'weights.safetensors', '--stats'])"
    code += "; sys.exit(any(m in sys.modules for m in ('tensorflow', 'keras', 'hydra')))"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_recipes_lists_them_all_with_their_commands(cli, recipe):
    recipe("# @package _global_\n# transferpipe run recipe=mine  <- what it is for\ntarget: x\n")
    recipe("# rules are no recipe\n", "mapping/rules")
    lines = dict(line.split(None, 1) for line in cli("recipes").out.splitlines() if " " in line.strip())
    assert lines["mine"] == "transferpipe run recipe=mine  <- what it is for"
    assert lines["digits"].startswith("transferpipe run recipe=digits  <- ")
    assert "rules" not in lines
    listed = json.loads(cli("recipes", "--json").out)
    assert {"name": "mine", "path": "recipes/mine.yaml"}.items() <= {
        k: os.path.relpath(v) if k == "path" else v for k, v in next(r for r in listed if r["name"] == "mine").items()
    }.items()


def test_recipes_of_a_further_folder(cli, here):
    (here / "team" / "recipe").mkdir(parents=True)
    (here / "team" / "recipe" / "shared.yaml").write_text("# transferpipe run recipe=shared\ntarget: x\n")
    assert "shared" in cli("recipes", "--config-dir", "team").out


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["help", "run"], ["run", "--help"], ["plan", "recipe=own", "-h"]])
def test_help_is_one_screen(cli, argv, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    answer = cli(*argv)
    lines = answer.out.splitlines()
    assert answer.status == 0
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 82
    for word in ("transferpipe", "plan", "--traceback"):
        assert word in answer.out


def test_version(cli):
    assert cli("--version").out == f"transferpipe {__version__}\n"


def test_the_composed_recipe(cli, here):
    before = tree(here)
    data = yaml.safe_load(cli("run", "recipe=own", "seed=4", "--cfg", "job").out)
    assert (data["seed"], data["name"], tree(here)) == (4, "${hydra:runtime.choices.recipe}", before)
    assert "hydra" not in data
    resolved = yaml.safe_load(cli("recipe=own", "-c", "job", "run", "--resolve", "seed=4").out)
    assert (resolved["seed"], resolved["name"]) == (4, "own")
    assert yaml.safe_load(cli("plan", "recipe=own", "-c", "job", "-p", "mapping.body").out) == data["mapping"]["body"]
    assert yaml.safe_load(cli("plan", "recipe=own", "-c", "hydra").out)["run"]["dir"].startswith("outputs/")


@pytest.mark.parametrize(
    ("wanted", "word"), [("searchpath", "recipes://"), ("defaults", "recipe/own"), ("defaults-tree", "recipe: own")]
)
def test_what_hydra_knows(cli, here, wanted, word):
    before = tree(here)
    answer = cli("--info", wanted, "plan", "recipe=own")
    assert (answer.status, word in answer.out, tree(here)) == (0, True, before), answer.out


@pytest.mark.parametrize(
    "line, answers",
    [
        ("transferpipe ", ["run", "plan", "inspect", "verify", "recipes", "recipe="]),
        ("transferpipe in", ["inspect"]),
        ("transferpipe run rec", ["recipe="]),
        ("transferpipe recipe=ow", ["recipe=own"]),
        ("transferpipe plan --json recipe=own mapping.he", ["mapping.head."]),
        ("transferpipe plan recipe=own mapping.head.", ["mapping.head.to=", "mapping.head.from="]),
        ("transferpipe plan --j", ["--json"]),
        ("transferpipe plan --cfg ", ["job"]),
        ("transferpipe run --config-dir team recipe=sh", ["recipe=shared"]),
        ("transferpipe run --config-dir nowhere recipe=o", []),
        ("transferpipe inspect wei", []),
        ("transferpipe plan recipe=broken mapping.", []),
    ],
)
def test_completion(here, recipe, line, answers):
    recipe("a: [", "broken")
    (here / "team" / "recipe").mkdir(parents=True)
    (here / "team" / "recipe" / "shared.yaml").write_text("target: x\n")
    before = tree(here)
    done = process("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
    assert set(answers) <= set(done.stdout.split())
    assert (done.stderr, tree(here)) == ("", before)
    if not answers:
        assert not done.stdout.strip()


def test_the_script_that_installs_completion(here):
    assert process("-sc", "install=bash").stdout == process("completion", "bash").stdout
