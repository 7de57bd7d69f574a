"""Merging sources in torch's layout: each is adapted to Keras before, as NumPy does it here."""

import json

import keras
import numpy as np
import pytest
from keras import layers
from safetensors.numpy import save_file

import transferpipe as tp
from transferpipe.prove.run_folder import verify_run

RANDOM = np.random.default_rng(3)


def draw(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def gates(kernel):
    """Return a torch GRU's rows, which are reset, update, new, in Keras's order: update, reset, candidate."""
    r, z, n = np.split(kernel, 3)
    return np.concatenate([z, r, n])


LAYERS = {
    "lstm": (
        lambda: layers.LSTM(3, name="l"),
        (5, 4),
        lambda: {
            "weight_ih_l0": draw(12, 4),
            "weight_hh_l0": draw(12, 3),
            "bias_ih_l0": draw(12),
            "bias_hh_l0": draw(12),
        },
        lambda t: [t["weight_ih_l0"].T, t["weight_hh_l0"].T, t["bias_ih_l0"] + t["bias_hh_l0"]],
    ),
    "gru": (
        lambda: layers.GRU(3, name="l"),
        (5, 4),
        lambda: {"weight_ih_l0": draw(9, 4), "weight_hh_l0": draw(9, 3), "bias_ih_l0": draw(9), "bias_hh_l0": draw(9)},
        lambda t: [
            gates(t["weight_ih_l0"]).T,
            gates(t["weight_hh_l0"]).T,
            np.stack([gates(t["bias_ih_l0"]), gates(t["bias_hh_l0"])]),
        ],
    ),
    "conv": (
        lambda: layers.Conv2D(4, 3, name="l"),
        (6, 6, 2),
        lambda: {"weight": draw(4, 2, 3, 3), "bias": draw(4)},
        lambda t: [t["weight"].transpose(2, 3, 1, 0), t["bias"]],
    ),
}


def build(make, shape):
    keras.utils.clear_session()
    return keras.Sequential([keras.Input(shape), make()])


def sources(folder, make):
    tensors = {name: make() for name in "ab"}
    for name, held in tensors.items():
        save_file({f"l.{k}": v for k, v in held.items()}, folder / f"{name}.safetensors", metadata={"format": "pt"})
    return {name: str(folder / f"{name}.safetensors") for name in "ab"}, tensors


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(("merge", "factors"), [("mean", (0.5, 0.5)), ({"linear": [0.2, 0.9]}, (0.2, 0.9))])
def test_a_merge_of_torch_sources(kind, merge, factors, tmp_path):
    make, shape, tensors, keras_laid = LAYERS[kind]
    paths, held = sources(tmp_path, tensors)
    model = build(make, shape)
    report = tp.transfer(paths, model, mapping={"r": {"to": "l", "from": ["a:l", "b:l"], "merge": merge}})
    a, b = (keras_laid(held[name]) for name in "ab")
    for got, one, other in zip(model.get_weights(), a, b, strict=True):
        wanted = factors[0] * one.astype("float64") + factors[1] * other.astype("float64")
        np.testing.assert_allclose(got, wanted.astype("float32"), rtol=1e-6, atol=1e-7)
    assert report.verdict.weights == "pass"


def test_a_sum_of_torch_sources(tmp_path):
    make, shape, tensors, keras_laid = LAYERS["lstm"]
    paths, held = sources(tmp_path, tensors)
    model = build(make, shape)
    tp.transfer(paths, model, mapping={"r": {"to": "l", "from": ["a:l", "b:l"], "transform": ["sum"]}})
    for got, one, other in zip(model.get_weights(), *(keras_laid(held[n]) for n in "ab"), strict=True):
        np.testing.assert_allclose(got, one + other, rtol=1e-6, atol=1e-6)


def test_a_keras_source_and_a_torch_source(tmp_path):
    make, shape, tensors, keras_laid = LAYERS["lstm"]
    paths, held = sources(tmp_path, tensors)
    own = build(make, shape)
    own.save(tmp_path / "own.keras")
    wanted = [(a + b) / 2 for a, b in zip(own.get_weights(), keras_laid(held["b"]), strict=True)]
    model = build(make, shape)
    given = {"a": str(tmp_path / "own.keras"), "b": paths["b"]}
    tp.transfer(given, model, mapping={"r": {"to": "l", "from": ["a:l", "b:l"], "merge": "mean"}})
    for got, value in zip(model.get_weights(), wanted, strict=True):
        np.testing.assert_allclose(got, value, rtol=1e-6, atol=1e-7)


def test_a_merged_file_is_verified_again(tmp_path):
    make, shape, tensors, _ = LAYERS["lstm"]
    paths, _ = sources(tmp_path, tensors)
    build(make, shape).save(tmp_path / "t.keras")
    rule = {"to": "l", "from": ["a:l", "b:l"], "merge": "mean"}
    folder = tmp_path / "out"
    target = {"path": str(tmp_path / "t.keras")}
    tp.transfer(paths, target, mapping={"r": rule}, save="m.keras", folder=folder)
    weights = json.loads((folder / "manifest.json").read_text())["weights"]
    bias = next(w for w in weights if w["name"] == "l/cell/bias")
    assert (bias["adapted"], bias["transforms"]) == ([["sum"], ["sum"]], ["mean"])
    again = verify_run(folder)
    assert again.verdict.weights == "pass"


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("head", ["e.reverse.weight", "e.lm_head.weight"])
def test_a_reversible_embedding(tied, head, tmp_path):
    table, back = draw(7, 4), draw(7, 4)
    save_file(
        {"e.weight": table, **({} if tied else {head: back})}, tmp_path / "e.safetensors", metadata={"format": "pt"}
    )
    keras.utils.clear_session()
    tokens, layer = keras.Input((5,), dtype="int32"), layers.ReversibleEmbedding(7, 4, tie_weights=tied, name="e")
    model = keras.Model(tokens, layer(layer(tokens), reverse=True))
    tp.transfer(str(tmp_path / "e.safetensors"), model, mapping={"e": {"to": "e"}})
    ids = RANDOM.integers(0, 7, (2, 5))
    wanted = table[ids] @ (table if tied else back).T
    np.testing.assert_allclose(np.asarray(model(ids)), wanted, rtol=1e-5, atol=1e-5)


def test_the_way_back_from_a_linear_elsewhere(tmp_path):
    table, back = draw(4, 4), draw(4, 4)
    save_file({"wte.weight": table, "lm_head.weight": back}, tmp_path / "e.safetensors", metadata={"format": "pt"})
    keras.utils.clear_session()
    tokens, layer = keras.Input((5,), dtype="int32"), layers.ReversibleEmbedding(4, 4, tie_weights=False, name="e")
    model = keras.Model(tokens, layer(layer(tokens), reverse=True))
    rules = {
        "e": {"to": "e/embeddings", "from": "wte/weight"},
        "back": {"to": "e/reverse_embeddings", "from": "lm_head/weight"},
    }
    tp.transfer(str(tmp_path / "e.safetensors"), model, mapping=rules)
    np.testing.assert_array_equal(layer.reverse_embeddings, back.T)
