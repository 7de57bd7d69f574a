"""Recipes, rules and builders of a user's own, and what the command line changes of them."""

import json
import sys

import pytest

RUN = ("run", "recipe=own", "hydra.run.dir=out")


@pytest.mark.parametrize("header", ["", "# @package _global_\n"])
def test_a_recipe_with_and_without_a_header(cli, recipe, here, header):
    chosen = recipe(header + (here / "recipes" / "own.yaml").read_text())
    assert "recipe  mine" in cli("plan", chosen).out


def test_a_recipe_built_on_another(cli, recipe):
    chosen = recipe("defaults: [own, _self_]\nseed: 9\nmapping: {head: null}\nunmatched: keep\n")
    data = json.loads(cli("plan", chosen, "--json").out)
    assert (data["seed"], [k["rule"] for k in data["kept"]]) == (9, ["unmatched", "unmatched"])


@pytest.mark.parametrize("text", ["head: null\n", "# @package _global_\nmapping: {head: null}\n"])
def test_a_file_of_rules_switches_one_off(cli, recipe, text):
    recipe(text, "mapping/bare")
    data = json.loads(cli("plan", "recipe=own", "mapping=bare", "unmatched=keep", "--json").out)
    assert {k["rule"] for k in data["kept"]} == {"unmatched"}


def test_a_file_of_rules_changes_and_adds(cli, recipe):
    recipe(
        "body: {to: hidden/kernel, from: hidden/kernel}\nbias: {to: hidden/bias, from: hidden/bias}\n", "mapping/fine"
    )
    data = json.loads(cli("plan", "recipe=own", "mapping=fine", "--json").out)
    assert [(a["target"], a["rule"]) for a in data["assignments"]] == [
        ("hidden/kernel", "body"),
        ("hidden/bias", "bias"),
    ]


def test_a_mistyped_file_of_rules(refuses, recipe):
    recipe("head: null\n", "mapping/bare")
    refuses(2, ["plan", "recipe=own", "mapping=bear"], "there is no mapping called 'bear'", "did you mean 'bare'?")


def test_rules_on_the_command_line(cli):
    switched = ["mapping.head=null", "unmatched=keep", "+mapping.bias={to: hidden/bias, from: null}"]
    narrowed = ["mapping.body.to=hidden/kernel", "mapping.body.from=hidden/kernel"]
    data = json.loads(cli("plan", "recipe=own", *switched, *narrowed, "--json").out)
    kept = {k["target"]: k["rule"] for k in data["kept"]}
    assert kept == {"hidden/bias": "bias", "classes/kernel": "unmatched", "classes/bias": "unmatched"}


def test_a_further_folder_wins(cli, here):
    (here / "team" / "recipe").mkdir(parents=True)
    text = (here / "recipes" / "own.yaml").read_text()
    (here / "team" / "recipe" / "own.yaml").write_text(text + "seed: 77\n")
    (here / "team" / "config.yaml").write_text("name: not_ours\n")
    assert json.loads(cli("plan", "--config-dir", "team", "recipe=own", "--json").out)["seed"] == 77
    assert json.loads(cli("plan", "--config-dir=team", "recipe=own", "--json").out)["recipe"] == "own"


def test_a_folder_of_groups(cli, here, recipe):
    recipe((here / "recipes" / "own.yaml").read_text(), "recipe/team/inner")
    answer = cli("run", "recipe=team/inner")
    assert answer.status == 0
    assert list((here / "outputs" / "team" / "inner").glob("*/model.keras"))


def test_a_builder_in_the_working_directory(cli, here):
    (here / "mine_here.py").write_text(
        "from transferpipe.zoo import small_mlp\n\ndef build(n):\n    return small_mlp(hidden=n)\n"
    )
    assert "mine_here.build(n=6)" in cli("plan", "recipe=own", "target._target_=mine_here.build", "+target.n=6").out


def test_a_package_elsewhere_needs_the_users_word(cli, refuses, here, monkeypatch, tmp_path_factory):
    place = tmp_path_factory.mktemp("site")
    (place / "their_models.py").write_text(
        "from transferpipe.zoo import small_mlp\n\ndef build():\n    return small_mlp()\n"
    )
    monkeypatch.syspath_prepend(place)
    target = "target._target_=their_models.build"
    try:
        refuses(5, ["plan", "recipe=own", target], "their_models.build", "--trust their_models")
        assert cli("plan", "recipe=own", target, "--trust", "their_models").status == 0
        refuses(5, ["plan", "recipe=own", target, "--trust=other"], "--trust their_models")
    finally:
        sys.modules.pop("their_models", None)


@pytest.mark.parametrize("name", ["2024", "nan", "1e5", "null", "true", "0x1f"])
def test_a_recipe_whose_name_reads_as_another_value(cli, here, name):
    (here / "recipes" / f"{name}.yaml").write_text((here / "recipes" / "own.yaml").read_text())
    assert cli("plan", f"recipe={name}", "--json").status == 0


def test_rules_written_out_on_the_command_line_take_the_place_of_the_recipes(cli):
    words = ("mapping={k:{to:hidden/kernel}}", "+mapping.b.to=hidden/bias", "unmatched=keep")
    data = json.loads(cli("plan", "recipe=own", *words, "--json").out)
    assert {(a["target"], a["rule"]) for a in data["assignments"]} == {("hidden/kernel", "k"), ("hidden/bias", "b")}


def test_rules_written_out_are_checked_as_those_of_a_file_are(cli):
    done = cli("plan", "recipe=own", "mapping={k:{tto:hidden/kernel}}")
    assert (done.status, "mapping.k.tto: unknown key" in done.err) == (2, True)
