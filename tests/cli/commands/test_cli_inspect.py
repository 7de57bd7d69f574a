"""`transferpipe inspect`: patterns, the tree, totals by class, settings, and what is left out."""

import json

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import transferpipe as tp


@pytest.fixture
def model_file(here):
    """Return the file of a trained model with a nested part, settings, and the state of an optimizer."""
    layers = keras.layers
    body = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3, strides=2, activation="relu", name="conv")], name="body"
    )
    model = keras.Sequential(
        [body, layers.GlobalAveragePooling2D(name="pool"), layers.Dense(2, name="one"), layers.Dense(3, name="two")]
    )
    model.compile("adam", "mse")
    model.fit(np.ones((2, 8, 8, 3)), np.ones((2, 3)), verbose=0)
    model.save(here / "m.keras")
    return "m.keras"


@pytest.mark.parametrize(
    "pattern, names",
    [
        ("one", ["one/kernel", "one/bias"]),
        ("(one|two)/kernel", ["one/kernel", "two/kernel"]),
        ("body/.*", ["body/conv/kernel", "body/conv/bias"]),
        ("*/bias", ["body/conv/bias", "one/bias", "two/bias"]),
        ("b*/kernel", ["body/conv/kernel"]),
        ("t?o", ["two/kernel", "two/bias"]),
        ("[!b]*/kernel", ["one/kernel", "two/kernel"]),
    ],
)
def test_match_takes_expressions_and_patterns_of_a_shell(cli, model_file, pattern, names):
    data = json.loads(cli("inspect", model_file, f"match={pattern}", "--json").out)
    assert [w["name"] for w in data["weights"]] == names
    out = cli("inspect", model_file, f"match={pattern}").out
    assert [line.split()[0] for line in out.splitlines() if "float32" in line] == names
    assert f"{len(names)} of 6 weights" in out


def test_match_reaches_what_is_no_weight_too(cli, model_file):
    data = json.loads(cli("inspect", model_file, "match=optimizer/*", "--all", "--json").out)
    assert (data["weights"], len(data["others"]) > 6) == ([], True)


@pytest.mark.follows("select_weights: did you mean …?")
def test_match_of_nothing(refuses, cli, model_file):
    answer = refuses(2, ["inspect", model_file, "match=body/konv"], "called 'body/konv'", "did you mean 'body/conv'")
    assert answer.out == ""
    assert cli("inspect", model_file, "match=body/conv").status == 0


def test_totals_by_class(cli, model_file):
    data = json.loads(cli("inspect", model_file, "--json").out)
    assert data["classes"] == [
        {"layer_class": "Conv2D", "layers": 1, "weights": 2, "parameters": 3 * 3 * 3 * 4 + 4},
        {"layer_class": "Dense", "layers": 2, "weights": 4, "parameters": 4 * 2 + 2 + 2 * 3 + 3},
    ]
    lines = [line.split() for line in cli("inspect", model_file).out.splitlines()]
    assert ["Conv2D", "1", "2", "112", "85.5%"] in lines
    assert ["Dense", "2", "4", "19", "14.5%"] in lines


def test_settings_where_the_file_has_them(cli, model_file, here):
    data = json.loads(cli("inspect", model_file, "--json").out)
    settings = {layer["name"]: layer["settings"] for layer in data["layers"]}
    assert settings["body/conv"] == {"strides": [2, 2], "kernel_size": [3, 3], "activation": "relu"}
    assert "pool" in settings
    assert json.loads(cli("inspect", "weights.safetensors", "--json").out)["layers"] == []


def test_the_tree(cli, model_file, here):
    lines = cli("inspect", model_file, "--tree").out.splitlines()
    at = lines.index("body  112")
    assert lines[at + 1] == "  conv  Conv2D  112  strides (2, 2), kernel_size (3, 3), activation relu"
    assert lines[at + 2] == "    kernel (3, 3, 3, 4), bias (4,)  float32"
    assert "pool  GlobalAveragePooling2D" in lines
    assert "one  Dense  10" in lines
    (figures,) = [
        line for line in cli("inspect", model_file, "--tree", "--stats").out.splitlines() if "bias (4,)" in line
    ]
    assert "mean" in figures and "std" in figures
    assert [line.strip() for line in cli("inspect", "weights.safetensors", "--tree", "match=hidden").out.splitlines()][
        1:3
    ] == ["hidden  54", "bias (6,), kernel (8, 6)  float32"]


def test_what_is_left_out_and_why(cli, model_file):
    data = json.loads(cli("inspect", model_file, "--json").out)
    (optimizer,) = data["left_out"]
    others = json.loads(cli("inspect", model_file, "--all", "--json").out)["others"]
    assert (optimizer["what"], optimizer["entries"], optimizer["why"]) == (
        "optimizer",
        len(others),
        "state of training",
    )
    assert optimizer["nbytes"] == sum(np.prod(o["shape"], dtype=int) * np.dtype(o["dtype"]).itemsize for o in others)
    assert "left out (--all lists entries that can be read)\n  optimizer: " in cli("inspect", model_file).out
    assert "left out" not in cli("inspect", "weights.safetensors").out


def test_statistics_in_the_table(cli, store):
    kernel = np.zeros((8, 6), "float32")
    kernel[0] = [np.nan, np.inf, 1, 2, 3, 6]
    store(hidden__kernel=kernel)
    header, row = (
        next(line.split() for line in cli("inspect", "weights.safetensors", "--stats").out.splitlines() if word in line)
        for word in ("shape", "hidden/kernel")
    )
    figures = dict(zip(reversed(header), reversed(row), strict=False))
    assert figures["zeros"] == f"{42 / 48:.1%}"
    assert (figures["NaN"], figures["infinite"], figures["min"], figures["max"]) == (f"{1 / 48:.1%}", "1", "0", "6")
    assert figures["mean"] == f"{12 / 46:.4g}"


@pytest.mark.parametrize("flags", [[], ["--stats"], ["--tree"], ["--tree", "--stats"]])
def test_the_text_keeps_to_80_columns_and_cuts_no_number(cli, here, monkeypatch, flags):
    monkeypatch.setenv("COLUMNS", "80")
    random = np.random.default_rng(0)
    names = [f"encoder/stage{i}/attention/projections/query_{i}/kernel" for i in range(3)]
    save_file({n: random.normal(size=(2, 3, 4)).astype("float32") for n in names}, here / "long.safetensors")
    out = cli("inspect", "long.safetensors", *flags).out
    assert max(map(len, out.splitlines())) <= 80, out
    assert "…" not in out


def test_a_catalog_in_python_has_a_short_repr(model_file):
    found = tp.catalog(model_file)
    assert repr(found) == "<Catalog m.keras: 6 weights, 131 parameters>"
    assert found["one/kernel"].shape == (4, 2)
