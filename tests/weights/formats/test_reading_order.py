"""The two layers of a Bidirectional stand in one order, wherever they come from."""

import itertools

import h5py
import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import transferpipe as tp
from transferpipe.weights.reading_order import forward_first


def reordered(*names):
    return [names[i] for i in forward_first(names)]


def test_forward_comes_first():
    assert reordered("x/k", "b/backward_layer/k", "b/backward_layer/b", "b/forward_layer/k", "y/k") == [
        "x/k",
        "b/forward_layer/k",
        "b/backward_layer/k",
        "b/backward_layer/b",
        "y/k",
    ]


@pytest.mark.parametrize(
    "names",
    [
        ("b/forward_layer/k", "b/backward_layer/k"),
        ("b/backward_layer/k", "c/forward_layer/k"),
        ("b/backward_layer/k", "b/forward_a/k", "b/forward_b/k"),
        ("b/backward_layer", "b/forward_layer"),  # weights of those names, no layers
    ],
)
def test_what_stays(names):
    assert reordered(*names) == list(names)


def test_one_in_another():
    inner = [f"b/{a}_layer/c/{b}_layer/k" for a in ("backward", "forward") for b in ("backward", "forward")]
    assert reordered(*inner) == [
        "b/forward_layer/c/forward_layer/k",
        "b/forward_layer/c/backward_layer/k",
        "b/backward_layer/c/forward_layer/k",
        "b/backward_layer/c/backward_layer/k",
    ]


@given(
    st.lists(
        st.sampled_from(
            [f"{a}/{b}_{c}/{d}" for a, b, c, d in itertools.product("ab", ("forward", "backward", "x"), "lm", "kb")]
        ),
        unique=True,
    )
)
def test_nothing_is_lost_and_once_is_enough(names):
    once = reordered(*names)
    assert sorted(once) == sorted(names)
    assert reordered(*once) == once


DIRECTIONS = [
    f"pair/{d}_layer/cell/{w}" for d in ("forward", "backward") for w in ("kernel", "recurrent_kernel", "bias")
]


def test_every_file_of_a_bidirectional_has_the_order_of_keras(tmp_path):
    model = keras.Sequential([keras.Input((5, 4)), layers.Bidirectional(layers.LSTM(3), name="pair")])
    paths = ["m.keras", "m.weights.h5", "m.h5"]
    for path in paths:
        (model.save_weights if "weights" in path else model.save)(tmp_path / path)
    for source in (model, *(tmp_path / p for p in paths)):
        found = tp.catalog(source)
        assert [w.name for w in found] == DIRECTIONS
        assert [w.shape for w in found] == [tuple(v.shape) for v in model.weights]


def test_a_keras_2_file_goes_into_a_model_by_order(tmp_path):
    """Keras 2 wrote the forward layer first, Keras 3 saves the backward layer first: by order, neither may cross."""
    random = np.random.default_rng(0)
    names = [
        f"bidirectional/{d}_lstm/lstm_cell_{k}/{w}:0"
        for k, d in ((1, "forward"), (2, "backward"))
        for w in ("kernel", "recurrent_kernel", "bias")
    ]
    values = [random.standard_normal(s).astype("f4") for s in [(4, 12), (3, 12), (12,)] * 2]
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"], file.attrs["keras_version"] = [b"bidirectional"], b"2.10.0"
        file.attrs["backend"] = b"tensorflow"
        group = file.create_group("bidirectional")
        group.attrs["weight_names"] = [n.encode() for n in names]
        for name, value in zip(names, values, strict=True):
            group.create_dataset(name, data=value)
    target = keras.Sequential([keras.Input((5, 4)), layers.Bidirectional(layers.LSTM(3), name="pair")])
    mapping = {"all": {"to": "pair/.*", "from": "bidirectional/.*", "pair": "order"}}
    report = tp.transfer(path, target, mapping=mapping)
    for variable, value in zip(target.weights, values, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert "names-disagree" not in [w.code for w in report.warnings]
