"""Files of Keras 1 and 2 as targets: what the new model computes, by formulas of the old versions written out."""

import json
import os
import zipfile

import h5py
import keras
import numpy as np
import pytest
from old_files import old_graph, old_layer, old_sequential, write_old_file

import transferpipe as tp
from transferpipe.cli import main
from transferpipe.digits import load_digits
from transferpipe.errors import FileError, RecipeError, UnsafeError, VerificationError
from transferpipe.zoo import train_old

RNG = np.random.default_rng(3)
follows = pytest.mark.follows


def rand(*shape):
    return RNG.normal(size=shape).astype("float32") * 0.5


def hard_sigmoid(x):
    return np.clip(0.2 * x + 0.5, 0, 1)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def run_lstm(x, kernel, recurrent, bias):
    """Keras 2's LSTM (gates i, f, c, o) with hard_sigmoid, its last output."""
    h = c = np.zeros((len(x), recurrent.shape[0]))
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=-1)
        c = hard_sigmoid(f) * c + hard_sigmoid(i) * np.tanh(g)
        h = hard_sigmoid(o) * np.tanh(c)
    return h


def run_gru(x, kernel, recurrent, bias):
    """Keras 1's GRU (gates z, r, h) with hard_sigmoid, its last output."""
    u = recurrent.shape[0]
    h = np.zeros((len(x), u))
    for t in range(x.shape[1]):
        inner = x[:, t] @ kernel + bias
        z = hard_sigmoid(inner[:, :u] + h @ recurrent[:, :u])
        r = hard_sigmoid(inner[:, u : 2 * u] + h @ recurrent[:, u : 2 * u])
        h = z * h + (1 - z) * np.tanh(inner[:, 2 * u :] + (r * h) @ recurrent[:, 2 * u :])
    return h


def correlate(x, kernel):
    """Slide a kernel (filters, channels, rows, columns) over images (n, channels, rows, columns), without padding."""
    rows, columns = kernel.shape[2:]
    out = np.zeros((len(x), len(kernel), x.shape[2] - rows + 1, x.shape[3] - columns + 1))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            out[:, :, i, j] = np.tensordot(x[:, :, i : i + rows, j : j + columns], kernel, ([1, 2, 3], [1, 2, 3]))
    return out


def modernised(path, folder, **keys):
    """Upgrade a file, and return the model that Keras loads with the result."""
    result = tp.transfer({"path": path}, {"path": path}, unmatched="same_name", folder=folder, **keys)
    return keras.models.load_model(folder / "model.keras"), result


def test_the_recipe_modernises_a_file_of_keras_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "recipe=modernise", "hydra.run.dir=made"]) == 0
    printed = capsys.readouterr().out
    assert "upgraded from" in printed and "hard_sigmoid keeps the slope" in printed
    assert "optimizer state dropped (1 array)" in printed and "warning" not in printed
    images, labels = load_digits(split="test")
    data = os.path.join(os.path.dirname(train_old.__file__), "data", "digits_keras_2.h5")
    with h5py.File(data) as file:
        held = file["model_weights"]
        lstm = [held[f"rows/rows/{n}:0"][()] for n in ("kernel", "recurrent_kernel", "bias")]
        dense = [held[f"digit/digit/{n}:0"][()] for n in ("kernel", "bias")]
    expected = softmax(run_lstm(images[..., 0], *lstm) @ dense[0] + dense[1])
    model = keras.models.load_model(tmp_path / "made" / "model.keras")
    found = model.predict(images[..., 0], verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (expected.argmax(-1) == labels).mean() > 0.8
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), [*lstm, *dense], strict=True))
    assert getattr(model, "optimizer", None) is None


@pytest.mark.parametrize("backend", ["theano", "tensorflow"])
@pytest.mark.parametrize("order", ["th", "tf"])
def test_convolutions_of_keras_1(tmp_path, backend, order):
    kernel, bias = rand(3, 2, 3, 2), rand(3)  # filters, channels, rows, columns
    stored = kernel if order == "th" else kernel.transpose(2, 3, 1, 0)
    shape = [None, 2, 6, 5] if order == "th" else [None, 6, 5, 2]
    layer = old_layer(
        "Convolution2D",
        "c",
        nb_filter=3,
        nb_row=3,
        nb_col=2,
        dim_ordering=order,
        batch_input_shape=shape,
        init="uniform",
    )
    end = ":0" if backend == "tensorflow" else ""  # what tells early files of Keras 1 apart
    weights = {"c": {f"c_W{end}": stored, f"c_b{end}": bias}}
    path = write_old_file(tmp_path / "old.h5", old_sequential(layer), weights, "1.1.1", None)
    model, _ = modernised(path, tmp_path / "made")
    x = rand(2, 2, 6, 5)
    slid = kernel[:, :, ::-1, ::-1] if backend == "theano" else kernel  # Theano convolves, TensorFlow correlates
    expected = correlate(x, slid) + bias[:, None, None]
    assert model.layers[0].data_format == ("channels_first" if order == "th" else "channels_last")
    found = model(x if order == "th" else x.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(found if order == "th" else np.transpose(found, (0, 3, 1, 2)), expected, atol=1e-5)


@pytest.mark.parametrize("late", [True, False])
def test_sequences_of_keras_1(tmp_path, late):
    kernel, bias = rand(4, 2, 3), rand(4)  # filters, channels, length
    stored = kernel.transpose(2, 1, 0)[:, None] if late else kernel[..., None]
    layer = old_layer("Convolution1D", "c", nb_filter=4, filter_length=3, batch_input_shape=[None, 7, 2])
    path = write_old_file(tmp_path / "old.h5", old_sequential(layer), {"c": {"c_W:0": stored, "c_b:0": bias}}, "1.2.2")
    model, _ = modernised(path, tmp_path / "made")
    x = rand(2, 7, 2)
    expected = correlate(x.transpose(0, 2, 1)[..., None], kernel[..., None])[..., 0].transpose(0, 2, 1) + bias
    np.testing.assert_allclose(model(x), expected, atol=1e-5)


@pytest.mark.parametrize("kind, gates, run", [("LSTM", "icfo", run_lstm), ("GRU", "zrh", run_gru)])
def test_recurrent_layers_of_keras_1_keep_every_gate_on_its_own(tmp_path, kind, gates, run):
    units, inputs = 3, 4
    parts = {g: (rand(inputs, units), rand(units, units), rand(units)) for g in gates}
    names = {f"r_{k}_{g}:0": v for g in gates for k, v in zip("WUb", parts[g], strict=True)}
    layer = old_layer(kind, "r", output_dim=units, inner_activation="hard_sigmoid", batch_input_shape=[None, 5, inputs])
    path = write_old_file(tmp_path / "old.h5", old_sequential(layer), {"r": names}, "1.2.2")
    model, _ = modernised(path, tmp_path / "made")
    order = "ifco" if kind == "LSTM" else gates
    whole = [np.concatenate([parts[g][k] for g in order], axis=-1) for k in range(3)]
    x = rand(2, 5, inputs)
    np.testing.assert_allclose(model(x), run(x, *whole), atol=1e-5)


@pytest.mark.parametrize(
    "mode, merge",
    [
        ("sum", lambda a, b: a + b),
        ("mul", lambda a, b: a * b),
        ("ave", lambda a, b: (a + b) / 2),
        ("max", np.maximum),
        ("concat", lambda a, b: np.concatenate([a, b], -1)),
        ("dot", lambda a, b: (a * b).sum(-1, keepdims=True)),
    ],
)
def test_a_sequential_of_keras_1_that_merges_others(tmp_path, mode, merge):
    def branch(name, inputs):
        return old_sequential(old_layer("Dense", name, output_dim=3, batch_input_shape=[None, inputs]))

    merging = old_layer("Merge", "m", mode=mode, concat_axis=-1, dot_axes=-1, layers=[branch("a", 4), branch("b", 2)])
    values = {n: (rand(i, 3), rand(3)) for n, i in (("a", 4), ("b", 2))}
    x, y = rand(5, 4), rand(5, 2)
    merged = merge(x @ values["a"][0] + values["a"][1], y @ values["b"][0] + values["b"][1])
    last = (rand(merged.shape[-1], 2), rand(2))
    config = old_sequential(merging, old_layer("Dense", "c", output_dim=2))
    stored = {n: {f"{n}_W:0": k, f"{n}_b:0": b} for n, (k, b) in {**values, "c": last}.items()}
    path = write_old_file(tmp_path / "old.h5", config, {"m": {}, **stored}, "1.2.2")
    model, _ = modernised(path, tmp_path / "made")
    np.testing.assert_allclose(model([x, y]), merged @ last[0] + last[1], atol=1e-5)


def merging(first, other, stored):
    """Return a Sequential of Keras 1 that adds two branches and has a Dense behind, and what it computes."""
    last = (rand(3, 2), rand(2))
    config = old_sequential(
        old_layer("Merge", "m", mode="sum", layers=[first, other]), old_layer("Dense", "c", output_dim=2)
    )
    values = {n: {f"{n}_W:0": k, f"{n}_b:0": b} for n, (k, b) in {**stored, "c": last}.items()}
    return config, values, lambda merged: merged @ last[0] + last[1]


def test_what_a_merge_of_keras_1_merges_may_merge_itself_or_be_a_model(tmp_path):
    stored = {n: (rand(i, 3), rand(3)) for n, i in (("a", 4), ("b", 2), ("d", 5))}
    a, b = (
        old_sequential(old_layer("Dense", n, output_dim=3, batch_input_shape=[None, i]))
        for n, i in (("a", 4), ("b", 2))
    )
    inner = old_sequential(old_layer("Merge", "inner", mode="mul", layers=[a, b]))
    given = old_layer("InputLayer", "given", batch_input_shape=[None, 5], input_dtype="float32")
    model = old_graph([(given, []), (old_layer("Dense", "d", output_dim=3), ["given"])], ["given"], ["d"])
    config, values, behind = merging(inner, model, stored)
    path = write_old_file(tmp_path / "old.h5", config, {"inner": {}, "m": {}, **values}, "1.2.2")
    new, result = modernised(path, tmp_path / "made")
    data = [rand(3, 4), rand(3, 2), rand(3, 5)]
    parts = [x @ k + b for x, (k, b) in zip(data, stored.values(), strict=True)]
    np.testing.assert_allclose(new(data), behind(parts[0] * parts[1] + parts[2]), atol=1e-5)
    assert not result.plan.warnings


@pytest.mark.parametrize("version, end", [("1.2.2", "_W:0"), ("2.0.9", "/kernel:0")])
def test_sequentials_in_a_sequential_whose_names_only_the_list_of_layers_tells(tmp_path, version, end):
    """As the lists of layers that Keras 1 to 2.2 wrote; one is called on every step of a sequence."""
    units = "output_dim" if version < "2" else "units"
    kernels = {n: rand(3, 3) for n in "abc"}
    bare = {"bias" if version < "2" else "use_bias": False, units: 3}
    first = old_sequential(
        old_layer("Dense", "a", batch_input_shape=[None, 3], **bare), old_layer("Activation", "t", activation="tanh")
    )
    each = old_sequential(
        old_layer("Dense", "b", batch_input_shape=[None, 3], **bare), old_layer("Activation", "u", activation="tanh")
    )
    layers = [
        old_layer("TimeDistributed", "each", layer=each, batch_input_shape=[None, 4, 3]),
        old_layer("GlobalMaxPooling1D", "pooled"),
        first,
        old_sequential(old_layer("Dense", "c", batch_input_shape=[None, 3], **bare)),
    ]
    stored = {"each": "b", "pooled": "", "sequential_7": "a", "sequential_9": "c"}
    values = {group: {f"{n}{end}": kernels[n]} if n else {} for group, n in stored.items()}
    path = write_old_file(tmp_path / "old.h5", old_sequential(*layers), values, version)
    model, result = modernised(path, tmp_path / "made")
    x = rand(2, 4, 3)
    expected = np.tanh(np.tanh(x @ kernels["b"]).max(1) @ kernels["a"]) @ kernels["c"]
    np.testing.assert_allclose(model(x), expected, atol=1e-5)
    assert not result.plan.warnings


def test_layers_of_keras_1_have_the_order_of_axes_of_the_others(tmp_path):
    """It did not write that of a ZeroPadding2D, and left it to the session; a wrapped kernel has its filters first."""
    kernel, bias = rand(3, 2, 3, 2), rand(3)  # filters, channels, rows, columns
    conv = old_layer("Convolution2D", "convolution2d_1", nb_filter=3, nb_row=3, nb_col=2, dim_ordering="th")
    layers = [
        old_layer("ZeroPadding2D", "z", padding=[1, 0], batch_input_shape=[None, 2, 6, 7]),
        conv,
        old_layer("Reshape", "steps", target_shape=[1, 3, 6, 6]),
        old_layer("TimeDistributed", "t", layer={**conv, "config": {**conv["config"], "name": "convolution2d_2"}}),
    ]
    other = rand(3, 3, 3, 2)
    values = {"z": {}, "convolution2d_1": {"convolution2d_1_W": kernel, "convolution2d_1_b": bias}, "steps": {}}
    values["t"] = {"convolution2d_2_W": other, "convolution2d_2_b": bias}
    path = write_old_file(tmp_path / "old.h5", old_sequential(*layers), values, "1.2.2", None)
    x = rand(2, 2, 6, 7)
    expected = correlate(np.pad(x, [(0, 0), (0, 0), (1, 1), (0, 0)]), kernel[:, :, ::-1, ::-1]) + bias[:, None, None]
    expected = correlate(expected, other[:, :, ::-1, ::-1]) + bias[:, None, None]
    model, result = modernised(path, tmp_path / "made")
    np.testing.assert_allclose(model(x)[:, 0], expected, atol=1e-5)
    assert not result.plan.warnings


@pytest.mark.parametrize("backend", [None, "tensorflow"])
@pytest.mark.parametrize("order", ["th", "tf"])
def test_the_gates_of_a_convolutional_lstm_of_keras_1(tmp_path, backend, order):
    kernels = {g: (rand(2, 1, 3, 1), rand(2, 2, 3, 1), rand(2)) for g in "icfo"}  # filters, channels, rows, columns
    end = ":0" if backend else ""
    names = {f"r_{k}_{g}{end}": v for g in "icfo" for k, v in zip("WUb", kernels[g], strict=True)}
    if order == "tf":
        names = {n: v.transpose(2, 3, 1, 0) if v.ndim > 1 else v for n, v in names.items()}
    shape = [None, 2, 1, 5, 4] if order == "th" else [None, 2, 5, 4, 1]
    settings = {"nb_filter": 2, "nb_row": 3, "nb_col": 1, "border_mode": "same", "inner_activation": "hard_sigmoid"}
    layer = old_layer("ConvLSTM2D", "r", dim_ordering=order, batch_input_shape=shape, **settings)
    path = write_old_file(tmp_path / "old.h5", old_sequential(layer), {"r": names}, "1.2.2", None)
    model, result = modernised(path, tmp_path / "made")

    def slide(x, kernel):
        turned = kernel if backend else kernel[:, :, ::-1, ::-1]
        return correlate(np.pad(x, [(0, 0), (0, 0), (1, 1), (0, 0)]), turned)

    x = rand(3, 2, 1, 5, 4)
    h = c = np.zeros((3, 2, 5, 4))
    for t in range(2):
        gates = {g: slide(x[:, t], w) + slide(h, u) + b[:, None, None] for g, (w, u, b) in kernels.items()}
        c = hard_sigmoid(gates["f"]) * c + hard_sigmoid(gates["i"]) * np.tanh(gates["c"])
        h = hard_sigmoid(gates["o"]) * np.tanh(c)
    found = model(x if order == "th" else x.transpose(0, 1, 3, 4, 2))
    np.testing.assert_allclose(found if order == "th" else np.transpose(found, (0, 3, 1, 2)), h, atol=1e-5)
    assert not result.plan.warnings


def theano_same(x, kernel, strides):
    """Slide a kernel (rows, columns, 1, 1) backwards over maps (n, rows, columns, 1) as Theano did: half of it around."""
    rows, columns = kernel.shape[:2]
    padded = np.pad(x, [(0, 0), (rows // 2,) * 2, (columns // 2,) * 2, (0, 0)])
    slid = correlate(padded.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1)[:, :, ::-1, ::-1])
    counts = [-(-n // strides) for n in x.shape[1:3]]
    return slid[:, :, ::strides, ::strides].transpose(0, 2, 3, 1)[:, : counts[0], : counts[1]]


def padded_by_theano(tmp_path, size, strides):
    """Return a file with one convolution of Theano's, its kernel, what goes in, and what came out."""
    kernel = rand(size, size, 1, 1)
    settings = {"filters": 1, "kernel_size": [size, size], "strides": [strides, strides], "use_bias": False}
    settings |= {"padding": "same", "data_format": "channels_last", "batch_input_shape": [None, 6, 5, 1]}
    config = old_sequential(old_layer("Conv2D", "c", **settings))
    path = write_old_file(tmp_path / "old.h5", config, {"c": {"c/kernel": kernel}}, "2.1.6", "theano")
    x = rand(2, 6, 5, 1)
    return path, x, theano_same(x, kernel, strides)


@follows("code: settings-differ")
@pytest.mark.parametrize("size, strides, pads", [(2, 1, ((1, 0), (1, 0))), (3, 2, ((1, 0), (1, 1)))])
def test_where_theano_padded_otherwise_a_layer_that_pads_takes_its_place(tmp_path, size, strides, pads):
    path, x, expected = padded_by_theano(tmp_path, size, strides)
    model, result = modernised(path, tmp_path / "made")
    assert np.abs(model(x) - expected).max() > 0.1
    (warning,) = result.plan.warnings
    assert f"same (as Theano does it) ({pads})" in warning.text and "ZeroPadding" in warning.text
    conv = keras.layers.Conv2D(1, size, strides, use_bias=False, name="c")
    right = keras.Sequential([keras.Input((6, 5, 1)), keras.layers.ZeroPadding2D(pads), conv])
    assert not tp.transfer(path, right, unmatched="same_name").plan.warnings
    np.testing.assert_allclose(right(x), expected, atol=1e-5)


def test_an_odd_kernel_that_moves_by_one_was_padded_alike_by_theano(tmp_path):
    path, x, expected = padded_by_theano(tmp_path, 3, 1)
    model, result = modernised(path, tmp_path / "made")
    assert not result.plan.warnings
    np.testing.assert_allclose(model(x), expected, atol=1e-5)


def test_a_graph_of_keras_2_with_slashes_shared_layers_and_statistics_of_renorm(tmp_path):
    norm = {"gamma": rand(3), "beta": rand(3), "moving_mean": rand(3), "moving_variance": np.abs(rand(3)) + 0.1}
    kernel, bias = rand(4, 3), rand(3)
    layers = [
        (old_layer("InputLayer", "in", batch_input_shape=[None, 4], dtype="float32", sparse=False), []),
        (old_layer("Dense", "block/a", units=3, activation="hard_sigmoid"), ["in"]),
        (old_layer("BatchNormalizationV1", "block/bn", axis=[1], renorm=True, fused=None, epsilon=0.001), ["block/a"]),
        (old_layer("Add", "sum"), ["block/a", "block/bn"]),
    ]
    stored = {
        "block/a": {"block/a/kernel:0": kernel, "block/a/bias:0": bias},
        "block/bn": {f"block/bn/{n}:0": v for n, v in {**norm, "renorm_mean": rand(3)}.items()},
    }
    path = write_old_file(tmp_path / "old.h5", old_graph(layers, ["in"], ["sum"]), stored, "2.2.4-tf")
    model, result = modernised(path, tmp_path / "made", ignore="block/bn/renorm_.*")
    x = rand(5, 4)
    a = hard_sigmoid(x @ kernel + bias)
    normed = (a - norm["moving_mean"]) / np.sqrt(norm["moving_variance"] + 0.001) * norm["gamma"] + norm["beta"]
    np.testing.assert_allclose(model(x), a + normed, atol=1e-5)
    assert [layer.name for layer in model.layers] == ["in", "block_a", "block_bn", "sum"]
    # Renorm is another way to train: what it computes afterwards is the same.
    assert [w.code for w in result.plan.warnings] == ["settings-differ"] and "renorm" in result.plan.warnings[0].text
    assert any("slashes" in note for note in result.plan.upgraded)


def dense_file(path, units=3, inputs=4, **keys):
    layer = old_layer("Dense", "d", units=units, batch_input_shape=[None, inputs], **keys)
    values = {"d/kernel:0": rand(inputs, 3), "d/bias:0": rand(3)}
    head = old_layer("Dense", "head", units=2)
    stored = {"d": values, "head": {"head/kernel:0": rand(3, 2), "head/bias:0": rand(2)}}
    return write_old_file(path, old_sequential(layer, head), stored), stored


def test_weights_that_no_rule_brings_are_those_of_the_old_file(tmp_path):
    path, stored = dense_file(tmp_path / "old.h5")
    head = rand(3, 2)
    np.savez(tmp_path / "new.npz", kernel=head)
    result = tp.transfer(
        {"path": str(tmp_path / "new.npz")},
        {"path": path},
        mapping={"h": {"to": "head/kernel", "from": "kernel"}},
        unmatched="keep",
        folder=tmp_path / "made",
    )
    model = keras.models.load_model(tmp_path / "made" / "model.keras")
    found = {w.path: np.asarray(w) for w in model.weights}
    assert np.array_equal(found["head/kernel"], head)
    for name in ("d/kernel", "d/bias", "head/bias"):
        assert np.array_equal(found[name], stored[name.split("/")[0]][f"{name}:0"])
    assert "file" in str(result.plan) and result.plan.kept_values == "file"


def test_named_tensors_alone_need_no_model(tmp_path):
    path, _ = dense_file(tmp_path / "old.h5", units="many")  # which Keras could not build
    tp.transfer({"path": path}, {"path": path}, unmatched="same_name", save="w.npz", folder=tmp_path / "made")
    assert set(np.load(tmp_path / "made" / "w.npz")) == {"d/kernel", "d/bias", "head/kernel", "head/bias"}


@keras.saving.register_keras_serializable("of_the_tests")
class Doubling(keras.layers.Layer):
    def call(self, x):
        return 2 * x


def build_doubling():
    return keras.Sequential([keras.Input((4,)), Doubling(name="twice"), keras.layers.Dense(2, name="head")])


@pytest.mark.parametrize(
    ("kind", "error", "what", "builder"),
    [
        ("Lambda", UnsafeError, "holds a Lambda", "my_models"),
        pytest.param("Doubling", RecipeError, "is a Doubling", "my_module", marks=follows("Findings.raise_refused: …")),
    ],
)
def test_code_is_refused_by_name_and_a_builder_takes_its_place(tmp_path, kind, error, what, builder):
    function = {"function": ["4wEAAA==", None, None]} if kind == "Lambda" else {}
    twice = old_layer(kind, "twice", **function, batch_input_shape=[None, 4])
    head = old_layer("Dense", "head", units=2)
    stored = {"twice": {}, "head": {"head/kernel:0": rand(4, 2), "head/bias:0": rand(2)}}
    path = write_old_file(tmp_path / "old.h5", old_sequential(twice, head), stored)
    with pytest.raises(error) as refused:
        modernised(path, tmp_path / "made")
    (problem,) = refused.value.problems
    assert problem.where == f"{path}: layer 'twice'" and what in problem.what
    assert f"target: {{_target_: {builder}.build}}" in problem.fix
    model = build_doubling()
    tp.transfer({"path": path}, model, unmatched="same_name")
    x, held = rand(3, 4), stored["head"]
    np.testing.assert_allclose(model(x), 2 * x @ held["head/kernel:0"] + held["head/bias:0"], atol=1e-5)


@follows("_refuse_bare: name the file with", "open_target: name a file that")
def test_a_configuration_without_weights_is_said_in_one_line(tmp_path):
    """Keras 2 lists its layers all the same; a file may lack even these."""
    path, stored = dense_file(tmp_path / "old.h5")
    bare, barest = str(tmp_path / "bare.h5"), str(tmp_path / "barest.h5")
    with h5py.File(path) as old, h5py.File(bare, "w") as new, h5py.File(barest, "w") as less:
        new.attrs.update(old.attrs)
        less.attrs.update(old.attrs)
        new.create_group("model_weights").attrs.update(old["model_weights"].attrs)
        for layer in stored:
            new.create_group(f"model_weights/{layer}").attrs["weight_names"] = np.array([], "S1")
    made = {"unmatched": "same_name", "save": "model.keras"}
    for source, target, says in ((bare, bare, "source.path"), (path, bare, "target.path"), (path, barest, "target")):
        with pytest.raises(RecipeError, match="no weights") as refused:
            tp.plan(source, target, **made)
        (problem,) = refused.value.problems
        assert problem.where == says and "target: {_target_: my_module.build}" in problem.fix
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d"), keras.layers.Dense(2, name="head")])
    tp.transfer(path, model, unmatched="same_name")
    assert np.array_equal(model.get_weights()[0], stored["d"]["d/kernel:0"])


@follows("_build: give the Python function")
def test_what_keras_cannot_build_is_said_and_a_builder_takes_its_place(tmp_path):
    path, stored = dense_file(tmp_path / "old.h5", units="many")
    with pytest.raises(RecipeError, match="cannot build") as refused:
        modernised(path, tmp_path / "made")
    assert "target: {_target_: my_module.build}" in refused.value.problems[0].fix
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d"), keras.layers.Dense(2, name="head")])
    tp.transfer({"path": path}, model, unmatched="same_name")
    assert np.array_equal(model.get_weights()[0], stored["d"]["d/kernel:0"])


@follows("problem_of_model: give the Python function")
def test_a_model_without_layers_in_its_configuration_needs_its_builder(tmp_path):
    values = {"d": {"d/kernel:0": rand(4, 3), "d/bias:0": rand(3)}}
    path = write_old_file(tmp_path / "old.h5", {"class_name": "MyModel", "config": {"width": 3}}, values, "2.4.0")
    with pytest.raises(RecipeError, match="tells of no layers") as refused:
        modernised(path, tmp_path / "made")
    assert "target: {_target_: my_module.build}" in refused.value.problems[0].fix
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])
    tp.transfer({"path": path}, model, unmatched="same_name")
    assert np.array_equal(model.get_weights()[0], values["d"]["d/kernel:0"])


@follows("code: upgraded")
def test_an_argument_that_nobody_knows_is_left_out_and_both_models_are_compared(tmp_path):
    path, stored = dense_file(tmp_path / "old.h5", squared=True)
    x = rand(6, 4)
    expected = x @ stored["d"]["d/kernel:0"] + stored["d"]["d/bias:0"]
    expected = expected @ stored["head"]["head/kernel:0"] + stored["head"]["head/bias:0"]
    for known, passes in ((expected, True), (expected**2, False)):  # what the argument meant is known to who has it
        np.savez(tmp_path / "inputs.npz", x=x)
        np.savez(tmp_path / "expected.npz", y=known)
        parity = {"inputs": str(tmp_path / "inputs.npz"), "expected": str(tmp_path / "expected.npz")}
        made = {"folder": tmp_path / str(passes), "verify": {"parity": parity}}
        if not passes:
            with pytest.raises(VerificationError, match="differs"):
                tp.transfer({"path": path}, {"path": path}, unmatched="same_name", **made)
            continue
        result = tp.transfer({"path": path}, {"path": path}, unmatched="same_name", **made)
        assert [w.code for w in result.plan.warnings] == ["upgraded"] and "squared=True" in result.plan.warnings[0].text
        assert result.parity.verdict == "pass"


def test_a_configuration_that_declares_far_more_than_the_file_holds_is_not_built(tmp_path):
    path, _ = dense_file(tmp_path / "old.h5", units=1 << 28)
    with pytest.raises(UnsafeError, match=r"layer 'd': its configuration declares units: 268435456"):
        modernised(path, tmp_path / "made")


@pytest.mark.parametrize(
    "hostile",
    [
        {"class_name": "Custom>system", "config": {"name": "x"}, "module": "os"},
        {"class_name": "Dense", "config": {"name": "x", "units": 2, "activation": {"module": "os", "class_name": "f"}}},
        {"class_name": "TFOpLambda", "config": {"name": "x", "function": "io.read_file"}},
        {"class_name": "Dense", "config": {"name": "x", "units": 2, "activation": "os.system"}},
        {"class_name": "TFSMLayer", "config": {"name": "x", "filepath": "/"}},
    ],
)
def test_nothing_that_a_file_names_is_imported_or_run(tmp_path, hostile):
    first = old_layer("Dense", "d", units=3, batch_input_shape=[None, 4])
    layers = [
        (old_layer("InputLayer", "in", batch_input_shape=[None, 4]), []),
        (first, ["in"]),
        (hostile, ["d"]),
    ]
    stored = {
        "d": {"d/kernel:0": rand(4, 3), "d/bias:0": rand(3)},
        "x": {"x/kernel:0": rand(3, 2), "x/bias:0": rand(2)},
    }
    path = write_old_file(tmp_path / "old.h5", old_graph(layers, ["in"], ["x"]), stored)
    with pytest.raises((RecipeError, UnsafeError), match=r"layer 'x'"):
        modernised(path, tmp_path / "made")
    assert not (tmp_path / "made" / "model.keras").exists()


@follows("_build: the file is damaged:")
def test_a_model_that_is_larger_than_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr("transferpipe.execute.upgrade._LITTLE", 0)
    # What the layers before show is found before anything is built; this is the net behind it.
    monkeypatch.setattr("transferpipe.weights.keras.filled._check_geometry", lambda *_: None)
    many = [old_layer("RepeatVector", "many", n=100), old_layer("Flatten", "flat"), old_layer("Dense", "wide", units=3)]
    head = old_layer("Dense", "d", units=3, batch_input_shape=[None, 4])
    kernel, bias = rand(4, 3), rand(3)
    stored = {"d": {"d/kernel:0": kernel, "d/bias:0": bias}}
    narrow = {"wide/kernel:0": rand(3, 3), "wide/bias:0": rand(3)}  # of the 300 inputs that the layer would have
    path = write_old_file(tmp_path / "damaged.h5", old_sequential(head, *many), {**stored, "wide": narrow})
    with pytest.raises(UnsafeError, match="download or save it again"):
        modernised(path, tmp_path / "damaged")
    model, _ = modernised(write_old_file(tmp_path / "again.h5", old_sequential(head), stored), tmp_path / "made")
    x = rand(2, 4)
    np.testing.assert_allclose(model(x), x @ kernel + bias, atol=1e-5)


def test_weights_of_another_shape_than_the_configuration_says_are_refused(tmp_path):
    path, _ = dense_file(tmp_path / "old.h5", units=5)
    with pytest.raises((RecipeError, FileError), match="shape"):
        modernised(path, tmp_path / "made")


def test_the_manifest_and_the_plan_say_what_was_upgraded(tmp_path):
    path, _ = dense_file(tmp_path / "old.h5", activation="hard_sigmoid")
    _, result = modernised(path, tmp_path / "made", verify={"reload": True})
    manifest = json.loads((tmp_path / "made" / "manifest.json").read_text())
    plan = json.loads((tmp_path / "made" / "plan.json").read_text())
    assert manifest["target"] == f"{path}, upgraded from Keras 2.1.6"
    assert manifest["target_file"]["format"] == "h5"
    assert plan["upgraded"] == list(result.plan.upgraded) and plan["upgraded"][0].startswith("d: hard_sigmoid")
    config = json.loads(zipfile.ZipFile(tmp_path / "made" / "model.keras").read("config.json"))
    assert config["class_name"] == "Sequential"


def as_keras_3_0(folder, path):
    """Rewrite an archive as Keras 3.0 wrote it: dtypes as words, no settings of later versions, groups without names."""
    later = {"quantization_config", "renorm", "renorm_clipping", "renorm_momentum", "synchronized"}

    def older(node):
        if isinstance(node, dict):
            if node.get("class_name") == "DTypePolicy":
                return node["config"]["name"]
            return {key: older(value) for key, value in node.items() if key not in later}
        return [older(item) for item in node] if isinstance(node, list) else node

    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    config = older(json.loads((folder / "config.json").read_text()))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metadata.json").write_text('{"keras_version": "3.0.5", "date_saved": "2024-02-20@00:00:00"}')
    with h5py.File(folder / "model.weights.h5", "r+") as file:
        file.visititems(lambda _, group: group.attrs.pop("name", None) and None)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            archive.write(folder / name, name)


def test_a_model_of_the_first_keras_3_is_built_anew(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inside").mkdir()
    inputs = keras.Input((6, 4))
    x = keras.layers.BatchNormalization()(keras.layers.Conv1D(5, 2, activation="relu")(inputs))
    x = keras.layers.Bidirectional(keras.layers.LSTM(3))(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Dense(4)(x)))
    model.set_weights([np.abs(rand(*w.shape)) for w in model.weights])
    model.save("early.keras")
    as_keras_3_0(tmp_path / "inside", "early.keras")
    assert main(["run", "recipe=modernise", "source.path=early.keras", "hydra.run.dir=out"]) == 0
    assert "already-equal" not in capsys.readouterr().out  # a file that is its own source need not say so
    (found,) = (tmp_path / "out").glob("*.keras")
    x = rand(3, 6, 4)
    assert np.array_equal(keras.models.load_model(found)(x), model(x))


def newer_layers():
    """Return a model of layers that Keras 2 did not have, and of those that keras.applications has of its own."""
    from keras.src.applications.convnext import LayerScale, StochasticDepth
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    inputs = keras.Input((6, 8))
    x = keras.layers.Pipeline([keras.layers.Rescaling(0.5), keras.layers.Permute((1, 2))], name="prepared")(inputs)
    x = keras.layers.RMSNormalization(epsilon=1e-3, name="rms")(x)
    x = keras.layers.GroupQueryAttention(4, 4, 2, name="attention")(x, x)
    x = keras.layers.SpectralNormalization(keras.layers.Dense(8, activation="gelu", name="inner"), name="spectral")(x)
    scaled = StochasticDepth(0.1, name="depth")(LayerScale(0.3, 8, name="scale")(x))
    x = CustomScaleLayer(0.7, name="sum")([x, scaled])
    x = keras.layers.AdaptiveAveragePooling1D(2, name="pooled")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(x))


@pytest.mark.parametrize("name", ["old.h5", "old.keras"])
def test_layers_that_only_keras_3_has(name, tmp_path):
    model = newer_layers()
    random = np.random.default_rng(0)
    model.set_weights([random.normal(size=w.shape).astype("float32") for w in model.weights])
    path = str(tmp_path / name)
    model.save(path)
    result = tp.transfer(path, path, unmatched="same_name", folder=tmp_path / "made")
    data = random.normal(size=(2, 6, 8)).astype("float32")
    found = keras.models.load_model(tmp_path / "made" / "model.keras")(data)
    np.testing.assert_allclose(found, model(data), atol=1e-5)
    assert not result.plan.warnings and not result.plan.kept
