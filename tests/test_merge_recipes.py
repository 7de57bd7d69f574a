"""The shipped recipes that merge networks: what each writes is computed again with NumPy, and is worth what it claims."""

import json

import numpy as np
import pytest

keras = pytest.importorskip("keras")
from safetensors.numpy import load_file  # noqa: E402

from transferpipe.cli import main  # noqa: E402
from transferpipe.digits import DATA, load_digits  # noqa: E402
from transferpipe.errors import RecipeError  # noqa: E402
from transferpipe.score import digits_data, evaluate  # noqa: E402
from transferpipe.zoo import digit_mlps  # noqa: E402

LAYERS = ("hidden1", "hidden2", "head")


def network(name):
    return load_file(DATA / f"digits_mlp_{name}.safetensors")


def answers(weights):
    """Return the logits for the test images, computed with NumPy."""
    x = load_digits(split="test")[0].reshape(-1, 64)
    for layer in LAYERS:
        x = x @ weights[f"{layer}/kernel"] + weights[f"{layer}/bias"]
        x = x if layer == "head" else np.maximum(x, 0)
    return x


def accuracy(weights):
    return float((answers(weights).argmax(1) == load_digits(split="test")[1]).mean())


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Return a function that runs a recipe and returns the weights that Keras loads, and the score."""

    def run(recipe, *overrides):
        folder = tmp_path_factory.mktemp(recipe)
        assert main(["run", f"recipe={recipe}", *overrides, f"hydra.run.dir={folder}/out"]) == 0
        model = keras.models.load_model(folder / "out" / "model.keras")
        weights = {
            f"{n}/{own}": np.asarray(getattr(model.get_layer(n), own)) for n in LAYERS for own in ("kernel", "bias")
        }
        return weights, json.loads((folder / "out" / "score.json").read_text())["value"]

    return run


def test_soup(result):
    weights, score = result("soup")
    runs = [network(f"run{i}") for i in (1, 2, 3)]
    assert all(np.allclose(w, np.mean([r[k] for r in runs], 0), atol=1e-7) for k, w in weights.items())
    assert score == pytest.approx(accuracy(weights))
    assert score > min(accuracy(r) for r in runs)


def test_task_arithmetic(result):
    weights, score = result("task_arithmetic", "vars.scale=0.5")
    base, low, high = (network(n) for n in ("base", "low", "high"))
    for k, w in weights.items():
        assert np.allclose(w, base[k] + 0.5 * (low[k] - base[k] + high[k] - base[k]), atol=1e-6)
    assert score == pytest.approx(accuracy(weights))
    assert score > max(accuracy(n) for n in (base, low, high))


def test_ties(result):
    weights, score = result("ties")
    base, *others = (network(n) for n in ("base", "low", "high"))
    for k, w in weights.items():
        deltas = [n[k] - base[k] for n in others]
        for delta in deltas:
            delta[np.abs(delta) < np.sort(np.abs(delta).ravel())[-int(delta.size / 2)]] = 0
        sign = np.where(sum(deltas) >= 0, 1, -1)
        agree = [np.where(np.sign(d) == sign, d, 0) for d in deltas]
        mean = sum(agree) / np.maximum(sum(a != 0 for a in agree), 1)
        assert np.allclose(w, base[k] + mean, atol=1e-6)
    assert score == pytest.approx(accuracy(weights))
    assert score > max(accuracy(n) for n in (base, *others))


def test_interpolate(tmp_path, monkeypatch):
    """The sweep finds a barrier between networks that began apart, and none between those that went on from one."""
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", "sweep=interpolate", "sweep.axes={vars.t: [0, 0.5, 1]}"]) == 0
    record = json.loads((tmp_path / "outputs" / "sweeps" / "interpolate" / "sweep.json").read_text())
    losses = {}
    for variant in record["variants"]:
        given = variant["overrides"]
        losses[given["variant"], float(given["vars.t"])] = variant["score"]["value"]
    assert losses["apart", 0.5] > 2 * max(losses["apart", 0.0], losses["apart", 1.0])
    assert losses["together", 0.5] < max(losses["together", 0.0], losses["together", 1.0])
    assert losses["aligned", 1.0] == pytest.approx(losses["apart", 1.0], rel=1e-5)
    assert losses["aligned", 0.5] < losses["apart", 0.5] / 2
    one, other = network("run1"), network("other")
    logits = answers({k: (one[k] + other[k]) / 2 for k in one})
    logits -= np.log(np.exp(logits).sum(1, keepdims=True))
    wanted = -logits[np.arange(len(logits)), load_digits(split="test")[1]].mean()
    assert losses["apart", 0.5] == pytest.approx(wanted, rel=1e-4)


def test_the_networks_are_those_of_the_builder(monkeypatch):
    """Trained for one epoch instead of many: names and shapes are what matters, the rest is in the files."""
    shapes = {f"{x.name}/{w.name}": tuple(w.shape) for x in digit_mlps.digits_mlp().layers for w in x.weights}
    for path in sorted(DATA.glob("digits_mlp_*.safetensors")):
        assert {k: w.shape for k, w in load_file(path).items()} == shapes
    trained = digit_mlps._train(None, [3, 8], epochs=1, seed=0)
    assert [w.shape for w in trained] == list(shapes.values())


@pytest.mark.follows("check_gives: give the target as")
def test_a_model_with_another_number_of_classes_is_not_evaluated():
    data = digits_data([0, 1, 2])
    with pytest.raises(RecipeError, match=r"the model gives \(10,\) for an example, 3 classes need \(3,\)") as caught:
        evaluate(digit_mlps.digits_mlp(), data)
    assert "as many classes" in caught.value.problems[0].fix
    small = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(data.classes)])
    assert 0 <= evaluate(small, data).value <= 1
