"""A folder that is extended after something changed: results of then and of now stay apart."""

import json
import sys

import pytest
from command_line import RECIPE
from sweeps import OUT, SCORE, SCORED, rows

SWEEP = ("sweep", "recipe=own", SCORED)


@pytest.fixture(autouse=True)
def my_scores(here):
    (here / "my_scores.py").write_text(SCORE)


def change_score(here):
    sys.modules.pop("my_scores", None)
    (here / "my_scores.py").write_text(SCORE.replace("float(mark)", "float(mark) + 1000"))


def change_recipe(here):
    (here / "recipes" / "own.yaml").write_text(RECIPE + "freeze: [hidden]\n")


def change_module(here):
    (here / "my_nets.py").write_text("from transferpipe.zoo import small_mlp as net  # another\n")
    sys.modules.pop("my_nets", None)


def stale(here):
    return [(row["seed"], bool(row["stale"])) for row in rows(here / OUT) if not row["control"]]


@pytest.mark.parametrize("change, word", [(change_score, "my_scores.score"), (change_recipe, "the recipe")])
def test_seeds_of_then_and_of_now_are_two_rows(cli, here, change, word):
    assert cli(*SWEEP, "seed=range(2)").status == 0
    change(here)
    answer = cli(*SWEEP, "seed=range(2,4)")
    assert answer.status == 0
    assert stale(here) == [("0", True), ("1", True), ("2", False), ("3", False)]
    assert f"earlier  2 of 4 variants were made before {word} changed" in answer.out
    table = answer.out[answer.out.index("record") - 3000 :].splitlines()
    (row,) = [line for line in table if "of an earlier recipe (" in line]
    assert not row.split()[0].isdigit()
    assert "of an earlier recipe" in (here / OUT / "sweep.html").read_text()
    assert "of an earlier recipe" in cli("report", OUT).out


def test_a_changed_source_and_a_changed_builder_are_told(cli, here, store, recipe):
    import numpy as np

    (here / "my_nets.py").write_text("from transferpipe.zoo import small_mlp as net\n")
    recipe(RECIPE.replace("transferpipe.zoo.small_mlp", "my_nets.net"), "own")
    cli(*SWEEP, "seed=0")
    store("weights.safetensors", hidden__bias=np.ones(6, "float32"))
    assert "before weights.safetensors changed" in cli(*SWEEP, "seed=1").out
    change_module(here)
    answer = cli(*SWEEP, "seed=2")
    assert "my_nets.net" in answer.out
    assert stale(here) == [("0", True), ("1", True), ("2", False)]


def test_what_is_run_again_is_of_today(cli, here):
    cli(*SWEEP, "seed=0,1")
    change_recipe(here)
    cli(*SWEEP, "seed=2")
    assert cli(*SWEEP, "seed=range(3)").status == 0
    assert stale(here) == [("0", False), ("1", False), ("2", False)]


def test_what_changes_back_is_of_today_again(cli, here):
    cli(*SWEEP, "seed=0")
    change_recipe(here)
    cli(*SWEEP, "seed=1")
    (here / "recipes" / "own.yaml").write_text(RECIPE)
    answer = cli(*SWEEP, "seed=2")
    assert stale(here) == [("0", False), ("1", True), ("2", False)]
    assert "earlier  1 of 3" in answer.out


def test_nothing_is_stale_that_only_another_command_says_otherwise(cli, here, recipe):
    cli(*SWEEP, "seed=0", "freeze=[],[hidden]", "sweep.controls=[random]")
    cli(*SWEEP, "seed=1", "freeze=[hidden]")
    cli(*SWEEP, "seed=2", "score.how=fine,fine", "freeze=[classes]")
    cli("sweep", "recipe=own", "sweep.variants={a: {freeze: [hidden]}}", "seed=0", SCORED)
    answer = cli("sweep", "recipe=own", "sweep.variants={b: {freeze: []}}", "seed=0", SCORED)
    assert answer.status == 0
    assert "earlier" not in answer.out
    assert not any(row["stale"] for row in rows(here / OUT))


def test_a_named_variant_that_now_stands_for_something_else(cli, here):
    cli("sweep", "recipe=own", "sweep.variants={a: {freeze: [hidden]}}", "seed=0", SCORED)
    answer = cli("sweep", "recipe=own", "sweep.variants={a: {freeze: []}}", "seed=1", SCORED)
    assert "before the variant a changed" in answer.out


def test_what_is_written_beside_changes_no_number(cli, here):
    cli(*SWEEP, "seed=0")
    (here / "recipes" / "own.yaml").write_text(RECIPE + "save: {also: [m.npz]}\nname: another\n")
    assert "earlier" not in cli(*SWEEP, "seed=1", f"hydra.sweep.dir={OUT}").out


def test_sweep_json_keeps_digests(cli, here):
    cli(*SWEEP, "seed=0")
    (variant,) = json.loads((here / OUT / "sweep.json").read_text())["variants"]
    assert set(variant["state"]) == {"recipe", "score", "inputs", "versions"}
    assert set(variant["state"]["inputs"]) == {"weights.safetensors", "my_scores.score"}
