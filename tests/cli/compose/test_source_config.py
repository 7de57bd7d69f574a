"""``${source.config.KEY}``: the config.json beside the weights of a source fills a recipe."""

import json

import numpy as np
import pytest

import transferpipe as tp
from transferpipe.cli.compose.composing import Composer
from transferpipe.errors import FileError, RecipeError, UnsafeError


@pytest.fixture
def compose(tmp_path, monkeypatch):
    """Return a function that composes a recipe, whose text it is given, beside a folder with a configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "recipes").mkdir()

    def compose(text, config, *overrides):
        (tmp_path / "model" / "config.json").write_text(json.dumps(config))
        (tmp_path / "recipes" / "mine.yaml").write_text(text)
        return Composer().compose(["recipe=mine", *overrides]).data

    return compose


RECIPE = """
source: {path: model}
target:
  _target_: transferpipe.zoo.digits_cnn
  classes: ${source.config.classes}
  inner: ${mul:4,${source.config.text.size}}
  theta: ${oc.select:source.config.theta,10000.0}
"""


def test_values_are_taken_and_the_configuration_is_not_part_of_the_recipe(compose):
    data = compose(RECIPE, {"classes": 5, "text": {"size": 8}})
    assert data["target"] == {"_target_": "transferpipe.zoo.digits_cnn", "classes": 5, "inner": 32, "theta": 10000.0}
    assert data["source"] == {"path": "model"}
    assert compose(RECIPE, {"classes": 5, "text": {"size": 8}, "theta": 7.5})["target"]["theta"] == 7.5


def test_the_path_may_be_a_file_or_come_from_the_command_line(compose, tmp_path):
    config = {"classes": 3, "text": {"size": 1}}
    assert compose(RECIPE, config, "source.path=model/model.safetensors")["target"]["classes"] == 3
    several = RECIPE.replace("source: {path: model}", "sources: {a: {path: model}, b: {path: x.npz}}")
    data = compose(several.replace("source.config", "sources.a.config"), config)
    assert (data["target"]["classes"], data["sources"]) == (3, {"a": {"path": "model"}, "b": {"path": "x.npz"}})


@pytest.mark.follows("read_beside: …: name a folder")
def test_a_missing_configuration_is_said(compose, tmp_path):
    config = {"classes": 3, "text": {"size": 1}}
    with pytest.raises(
        FileError, match=r"config\.json: there is no such file, and the recipe uses it -> source\.path: name a folder"
    ):
        compose(RECIPE, config, "source.path=elsewhere")
    assert compose(RECIPE, config, "source.path=model")["target"]["classes"] == 3


@pytest.mark.follows("explain_missing: did you mean …?")
def test_a_missing_key_is_said(compose):
    with pytest.raises(
        RecipeError,
        match=r"source\.config\.classes: the config\.json beside source\.path has no 'classes' -> did you mean 'klasses'",
    ):
        compose(RECIPE, {"klasses": 5, "text": {"size": 8}})
    with pytest.raises(RecipeError, match=r"has no 'text\.size' -> its keys are classes"):
        compose(RECIPE, {"classes": 5})


@pytest.mark.follows("with_source_config: set ….path to a")
def test_a_source_without_a_path_is_said(compose):
    text = RECIPE.replace("source: {path: model}", "source: {select: x}")
    with pytest.raises(RecipeError, match=r"source\.path: source\.config is the config\.json beside a source's file"):
        compose(text, {})
    assert compose(text, {"classes": 1, "text": {"size": 1}}, "+source.path=model")["target"]["classes"] == 1


def test_a_builder_may_have_an_argument_of_that_name(compose):
    text = RECIPE.replace("{path: model}", "{_target_: transferpipe.zoo.x, config: {classes: 2, text: {size: 3}}}")
    data = compose(text, {"classes": 5})
    assert (data["target"]["classes"], data["source"]["config"]["classes"]) == (2, 2)


def test_the_file_is_data(compose, monkeypatch):
    monkeypatch.setenv("SECRET", "s3cret")
    for text in ("${oc.env:SECRET}", "${vars.x}", "\\${oc.env:SECRET}", "$${oc.env:SECRET}"):
        found = compose(RECIPE, {"classes": text, "text": {"size": 1}})["target"]["classes"]
        assert "s3cret" not in str(found)
        assert "oc.env" in str(found) or "vars.x" in str(found)
    big = {"words": ["x" * 1000] * 1000}
    text = RECIPE.replace("${source.config.classes}", "${source.config.big}")
    with pytest.raises(UnsafeError, match="far more than a recipe needs"):
        compose(text, {"big": big, "text": {"size": 1}})


REQUIRES = """
source: {path: model, requires: {model_type: llama, act: [silu, swish], rope: {type: [default]}}}
target: {_target_: transferpipe.zoo.digits_cnn}
"""


def test_a_configuration_as_required_and_what_it_leaves_out_pass(compose):
    for config in (
        {"model_type": "llama", "act": "swish", "rope": {"type": "default"}},
        {"model_type": "llama", "act": None, "rope": None},
        {"rope": {"theta": 1.0}},
    ):
        assert compose(REQUIRES, config)["source"]["path"] == "model"


@pytest.mark.follows("find_others: take a recipe for")
def test_other_configurations_than_a_recipe_requires_are_refused(compose):
    config = {"model_type": "mistral", "act": "gelu", "rope": {"type": "linear"}}
    with pytest.raises(RecipeError) as caught:
        compose(REQUIRES, config)
    assert [problem.where for problem in caught.value.problems] == [
        f"source.requires.{name}" for name in ("model_type", "act", "rope.type")
    ]
    said = "the config.json beside source.path has act 'gelu', and the recipe is for 'silu', 'swish'"
    assert caught.value.problems[1].what == said
    dropped = [f"~{problem.where}" for problem in caught.value.problems]
    assert compose(REQUIRES, config, *dropped)["source"] == {"path": "model", "requires": {"rope": {}}}


@pytest.mark.follows("find_others: name keys of the")
def test_what_is_required_is_a_mapping(compose):
    text = REQUIRES.replace("{model_type: llama, act: [silu, swish], rope: {type: [default]}}", "llama")
    with pytest.raises(RecipeError, match=r"source\.requires: must be a mapping, not 'llama'"):
        compose(text, {"model_type": "llama"})
    assert compose(text.replace("llama", "{model_type: llama}"), {"model_type": "llama"})


def test_several_sources_and_builders_with_such_an_argument(compose):
    text = REQUIRES.replace("source: {", "sources: {a: {").replace("}}}\n", "}}}}\n")
    with pytest.raises(
        RecipeError, match=r"sources\.a\.requires\.model_type: the config\.json beside sources\.a\.path"
    ):
        compose(text, {"model_type": "bert"})
    built = "source: {_target_: transferpipe.zoo.x, requires: 3}\ntarget: {path: x.npz}\n"
    assert compose(built, {})["source"]["requires"] == 3


def test_what_is_required_stands_in_the_recipe_and_the_record_and_holds_from_python_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (folder := tmp_path / "model").mkdir()
    np.savez(folder / "w.npz", **{"d/kernel": np.ones((2, 2), "float32")})
    (folder / "config.json").write_text('{"model_type": "llama", "heads": 4}')
    source = {"path": str(folder / "w.npz"), "requires": {"model_type": "llama", "heads": [2, 4]}}
    tp.transfer(source, str(folder / "w.npz"), unmatched="same_name", save="out.npz", folder="made")
    manifest = json.loads((tmp_path / "made" / "manifest.json").read_text())
    assert manifest["sources"]["source"]["requires"] == source["requires"]
    with pytest.raises(RecipeError, match=r"source\.requires\.heads: .* has heads 4, and the recipe is for 8"):
        tp.plan({**source, "requires": {"heads": 8}}, str(folder / "w.npz"), unmatched="same_name")
