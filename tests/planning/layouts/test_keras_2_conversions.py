"""What Keras 2 converted when it loaded a file: cells of cuDNN, and kernels of the Theano backend, by sums written out."""

import json

import h5py
import keras
import numpy as np
import pytest
from keras import layers as kl
from unfolded import unfolded

import transferpipe as tp

RNG = np.random.default_rng(0)
UNITS, INPUTS, STEPS = 3, 4, 5


def rand(*shape):
    return RNG.normal(size=shape).astype("float32")


def write(path, layer, weights, *, backend="tensorflow", described=True):
    """Write a file of Keras 2 that holds one layer; `weights` by their names below the layer."""
    name = layer["config"]["name"]
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": [layer]}}
    with h5py.File(path, "w") as file:
        top = file
        if described:
            file.attrs["model_config"] = json.dumps(config).encode()
            top = file.create_group("model_weights")
        file.attrs["backend"], file.attrs["keras_version"] = backend.encode(), b"2.2.4"
        top.attrs["layer_names"] = [name.encode()]
        group = top.create_group(name)
        group.attrs["weight_names"] = [f"{name}/{n}:0".encode() for n in weights]
        for n, value in weights.items():
            group[f"{name}/{n}:0"] = value
    return str(path)


def cudnn_cell(gates):
    """Return weights as cuDNN has them: every gate's matrices, and two biases."""
    kernels, recurrent = [rand(UNITS, INPUTS) for _ in range(gates)], [rand(UNITS, UNITS) for _ in range(gates)]
    # Keras 2 wrote a gate's matrix (units, inputs) in C order under the shape (inputs, units), and the recurrent ones
    # as they are (keras/layers/cudnn_recurrent.py hands them to cuDNN flattened).
    kernel = np.concatenate([k.reshape(INPUTS, UNITS) for k in kernels], axis=1)
    biases = rand(2 * gates * UNITS)
    return {"kernel": kernel, "recurrent_kernel": np.concatenate(recurrent, axis=1), "bias": biases}, kernels, recurrent


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def run_lstm(kernels, recurrent, biases, x):
    """cuDNN's LSTM: gates i, f, c, o, each with a bias for the input and one for the state."""
    ours, theirs = biases.reshape(2, 4, UNITS)
    h = c = np.zeros((len(x), UNITS))
    for t in range(x.shape[1]):
        i, f, g, o = (
            x[:, t] @ k.T + h @ r.T + b + d for k, r, b, d in zip(kernels, recurrent, ours, theirs, strict=True)
        )
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return h


def run_gru(kernels, recurrent, biases, x):
    """cuDNN's GRU: gates z, r, h; the reset is applied after the product with the state."""
    ours, theirs = biases.reshape(2, 3, UNITS)
    h = np.zeros((len(x), UNITS))
    for t in range(x.shape[1]):
        inner = [x[:, t] @ k.T + b for k, b in zip(kernels, ours, strict=True)]
        outer = [h @ r.T + d for r, d in zip(recurrent, theirs, strict=True)]
        z, r = (sigmoid(inner[i] + outer[i]) for i in (0, 1))
        h = z * h + (1 - z) * np.tanh(inner[2] + r * outer[2])
    return h


KINDS = {"CuDNNLSTM": (4, kl.LSTM, run_lstm), "CuDNNGRU": (3, kl.GRU, run_gru)}


def described(kind, name="rnn"):
    return {"class_name": kind, "config": {"name": name, "units": UNITS, "batch_input_shape": [None, STEPS, INPUTS]}}


RULES = {
    "same name": {"unmatched": "same_name"},
    "layer": {"mapping": {"a": {"to": "rnn"}}},
    "cell": {"mapping": {"a": {"to": "rnn/cell", "from": "rnn"}}},
    "weights": {"mapping": {"a": {"to": "rnn/cell/(.*)", "from": r"rnn/\1"}}},
    "order": {"mapping": {"a": {"to": "rnn", "from": "rnn", "pair": "order"}}},
}


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("has_config", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_of_cudnn(kind, has_config, rules, tmp_path):
    gates, layer, run = KINDS[kind]
    weights, kernels, recurrent = cudnn_cell(gates)
    path = write(tmp_path / "m.h5", described(kind), weights, described=has_config)
    model = keras.Sequential([keras.Input((STEPS, INPUTS)), layer(UNITS, name="rnn")])
    plan = tp.plan(path, model, **RULES[rules])
    assert f"from_cudnn(kernel, gates={gates})" in unfolded(plan)
    tp.transfer(path, model, **RULES[rules])
    x = rand(2, STEPS, INPUTS)
    np.testing.assert_allclose(model(x), run(kernels, recurrent, weights["bias"], x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rules", [{"mapping": {"a": {"to": "both"}}}, {"unmatched": "same_name"}])
@pytest.mark.parametrize("kind", KINDS)
def test_both_directions(kind, rules, tmp_path):
    gates, layer, run = KINDS[kind]
    there, back = cudnn_cell(gates), cudnn_cell(gates)
    wrapped = {
        "class_name": "Bidirectional",
        "config": {"name": "both", "layer": described(kind), "merge_mode": "concat"},
    }
    weights = {f"{d}_rnn/{n}": v for d, cell in (("forward", there), ("backward", back)) for n, v in cell[0].items()}
    path = write(tmp_path / "m.h5", wrapped, weights)
    model = keras.Sequential([keras.Input((STEPS, INPUTS)), kl.Bidirectional(layer(UNITS), name="both")])
    tp.transfer(path, model, **rules)
    x = rand(2, STEPS, INPUTS)
    sides = (run(*there[1:], there[0]["bias"], x), run(*back[1:], back[0]["bias"], x[:, ::-1]))
    np.testing.assert_allclose(model(x), np.concatenate(sides, axis=1), rtol=1e-4, atol=1e-5)


def test_other_recurrent_layers_are_left_alone(tmp_path):
    weights = {"kernel": rand(INPUTS, 4 * UNITS), "recurrent_kernel": rand(UNITS, 4 * UNITS), "bias": rand(4 * UNITS)}
    path = write(tmp_path / "m.h5", described("LSTM"), weights)
    model = keras.Sequential([keras.Input((STEPS, INPUTS)), kl.LSTM(UNITS, name="rnn")])
    tp.transfer(path, model, unmatched="same_name")
    for value, expected in zip(model.get_weights(), weights.values(), strict=True):
        np.testing.assert_array_equal(value, expected)


CONVOLUTIONS = {
    "Conv1D": (lambda: kl.Conv1D(4, 3, name="c"), (3, 2, 4), (7, 2)),
    "Conv2D": (lambda: kl.Conv2D(4, (3, 2), name="c"), (3, 2, 2, 4), (7, 6, 2)),
    "Conv3D": (lambda: kl.Conv3D(4, (3, 2, 2), name="c"), (3, 2, 2, 2, 4), (5, 4, 4, 2)),
    "Conv2DTranspose": (lambda: kl.Conv2DTranspose(4, (3, 2), name="c"), (3, 2, 4, 2), (5, 4, 2)),
}


@pytest.mark.parametrize("backend", ["theano", "tensorflow", "cntk"])
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_kernels_of_theano_are_flipped(kind, backend, tmp_path):
    layer, shape, inputs = CONVOLUTIONS[kind]
    weights = {"kernel": rand(*shape), "bias": rand(4)}
    config = {"name": "c", "filters": 4, "kernel_size": list(shape[:-2]), "batch_input_shape": [None, *inputs]}
    path = write(tmp_path / "m.h5", {"class_name": kind, "config": config}, weights, backend=backend)
    model = keras.Sequential([keras.Input(inputs), layer()])
    tp.transfer(path, model, mapping={"c": {"to": "c"}})
    expected = weights["kernel"]
    if backend == "theano":
        expected = expected[(slice(None, None, -1),) * (len(shape) - 2)]
        assert "flip(0" in str(tp.plan(path, model, mapping={"c": {"to": "c"}}))
    np.testing.assert_array_equal(model.get_layer("c").kernel, expected)
