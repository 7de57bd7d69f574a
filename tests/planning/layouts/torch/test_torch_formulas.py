"""What torch's documentation says its modules compute, in NumPy, against the Keras layers with the adapted weights."""

import keras
import numpy as np
import pytest
from keras import layers as kl
from safetensors.numpy import save_file

import transferpipe as tp

RANDOM = np.random.default_rng(0)


def rand(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def keras_says(layer, weights, x, path):
    start = keras.Input(x.shape[1:])
    model = keras.Model(start, layer(start))
    save_file({f"m.{name}": value for name, value in weights.items()}, path)
    tp.transfer(
        {"path": str(path), "layout": "torch"}, model, mapping={"r": {"to": layer.name, "from": "m"}}, unused="error"
    )
    return np.asarray(model(x, training=False))


@pytest.fixture
def agree(tmp_path):
    def compare(layer, weights, x, expected):
        found = keras_says(layer, weights, x, tmp_path / "m.safetensors")
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

    return compare


def test_linear(agree):
    w, b, x = rand(3, 4), rand(3), rand(2, 4)
    agree(kl.Dense(3), {"weight": w, "bias": b}, x, x @ w.T + b)


def test_conv2d(agree):
    w, b, x = rand(6, 4, 3, 2), rand(6), rand(2, 4, 7, 8)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 2), (2, 3))
    expected = np.einsum("nihwyx,oiyx->nhwo", windows, w) + b
    agree(kl.Conv2D(6, (3, 2)), {"weight": w, "bias": b}, np.moveaxis(x, 1, -1), expected)


def test_batch_norm(agree):
    w, b, mean, var, x = rand(4), rand(4), rand(4), rand(4) ** 2 + 0.1, rand(2, 5, 4)
    weights = {"weight": w, "bias": b, "running_mean": mean, "running_var": var}
    agree(kl.BatchNormalization(epsilon=1e-5), weights, x, (x - mean) / np.sqrt(var + 1e-5) * w + b)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def recurrent(gates, size):
    """Weights for `gates` gates of 4 inputs and `size` units."""
    shapes = {"weight_ih_l0": (gates * size, 4), "weight_hh_l0": (gates * size, size)}
    shapes |= {"bias_ih_l0": (gates * size,), "bias_hh_l0": (gates * size,)}
    return {name: rand(*shape) / 2 for name, shape in shapes.items()}


def test_lstm(agree):
    w, x = recurrent(4, 3), rand(2, 6, 4)
    h = c = np.zeros((2, 3))
    for t in range(6):
        rows = x[:, t] @ w["weight_ih_l0"].T + w["bias_ih_l0"] + h @ w["weight_hh_l0"].T + w["bias_hh_l0"]
        i, f, g, o = np.split(rows, 4, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    agree(kl.LSTM(3), w, x, h)


def test_gru(agree):
    w, x = recurrent(3, 3), rand(2, 6, 4)
    h = np.zeros((2, 3))
    for t in range(6):
        ir, iz, inew = np.split(x[:, t] @ w["weight_ih_l0"].T + w["bias_ih_l0"], 3, 1)
        hr, hz, hnew = np.split(h @ w["weight_hh_l0"].T + w["bias_hh_l0"], 3, 1)
        r, z = sigmoid(ir + hr), sigmoid(iz + hz)
        n = np.tanh(inew + r * hnew)
        h = (1 - z) * n + z * h
    agree(kl.GRU(3), w, x, h)
