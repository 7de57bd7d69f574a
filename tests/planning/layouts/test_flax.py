"""`layout: flax`: flax.linen's names and axes, checked against formulas of NumPy and what JAX computes."""

import keras
import numpy as np
import pytest
from keras import layers
from other_files import gguf, packed

import transferpipe as tp

# JAX, where a test needs it, warns of every later fork of the process.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
RNG = np.random.default_rng(3)


def draw(*shape):
    return RNG.normal(size=shape).astype("float32")


def transfer(tmp_path, arrays, layer, x, prefix=""):
    """Return what a model of one Keras layer computes once it has flax's arrays from a file."""
    np.savez(tmp_path / "f.npz", **{f"{prefix}{name}": value for name, value in arrays.items()})
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    source = {"path": str(tmp_path / "f.npz"), "layout": "flax"}
    save = {"path": "m.keras", "overwrite": True}
    report = tp.transfer(source, model, mapping={"all": {"to": layer.name}}, save=save, folder=tmp_path)
    assert not report.warnings
    return np.asarray(keras.models.load_model(tmp_path / "m.keras")(x))


def test_batch_normalization_with_and_without_collections(tmp_path):
    x, scale, bias, mean = draw(2, 5), draw(5), draw(5), draw(5)
    var = np.abs(draw(5)) + 0.1
    arrays = {"params/n/scale": scale, "params/n/bias": bias, "batch_stats/n/mean": mean, "batch_stats/n/var": var}
    expected = (x - mean) / np.sqrt(var + 1e-5) * scale + bias
    for names in (arrays, {name.partition("/")[2]: value for name, value in arrays.items()}):
        got = transfer(tmp_path, names, layers.BatchNormalization(epsilon=1e-5, name="n"), x)
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_layer_normalization(tmp_path):
    x, scale, bias = draw(2, 5), draw(5), draw(5)
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * scale + bias
    got = transfer(tmp_path, {"n/scale": scale, "n/bias": bias}, layers.LayerNormalization(epsilon=1e-6, name="n"), x)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_square_dense_is_not_turned(tmp_path):
    x, kernel, bias = draw(2, 4), draw(4, 4), draw(4)
    got = transfer(tmp_path, {"d/kernel": kernel, "d/bias": bias}, layers.Dense(4, name="d"), x)
    np.testing.assert_allclose(got, x @ kernel + bias, atol=1e-5)


def test_an_einsum_keeps_its_axes(tmp_path):
    x, kernel, bias = draw(2, 4), draw(4, 2, 2), draw(2, 2)
    layer = layers.EinsumDense("ab,bcd->acd", (2, 2), bias_axes="cd", name="g")
    got = transfer(tmp_path, {"g/kernel": kernel, "g/bias": bias}, layer, x)
    np.testing.assert_allclose(got, np.einsum("ab,bcd->acd", x, kernel) + bias, atol=1e-5)


def test_embedding(tmp_path):
    table = draw(7, 3)
    got = transfer(tmp_path, {"e/embedding": table}, layers.Embedding(7, 3, name="e"), np.array([[1, 6]], "int32"))
    np.testing.assert_allclose(got, table[[[1, 6]]])


HUGGING_FACE = {"query": "self/query", "key": "self/key", "value": "self/value", "out": "output/dense"}
VIT = {"query": "attention/query", "key": "attention/key", "value": "attention/value", "out": "output/dense"}


@pytest.mark.parametrize("names", [{}, HUGGING_FACE, VIT], ids=["flax", "bert", "vit"])
def test_attention(names, tmp_path):
    x, heads, size = draw(1, 4, 6), 2, 4
    arrays = {f"a/{n}/{own}": draw(*shape) for n in ("query", "key", "value")
              for own, shape in (("kernel", (6, heads, size)), ("bias", (heads, size)))}  # fmt: skip
    arrays |= {"a/out/kernel": draw(heads, size, 6), "a/out/bias": draw(6)}
    q, k, v = (
        np.einsum("bte,ehd->bthd", x, arrays[f"a/{n}/kernel"]) + arrays[f"a/{n}/bias"]
        for n in ("query", "key", "value")
    )
    weights = np.exp(np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(size))
    weights /= weights.sum(-1, keepdims=True)
    mixed = np.einsum("bhqk,bkhd->bqhd", weights, v)
    expected = np.einsum("bqhd,hde->bqe", mixed, arrays["a/out/kernel"]) + arrays["a/out/bias"]
    # Each projection of Hugging Face's is a Dense, whose outputs are cut into heads: a reshape of its last axis.
    together = {"query": (6, -1), "key": (6, -1), "value": (6, -1), "out": (-1, 6)}
    stored = {
        f"a/{names.get(n, n)}/{own}": value.reshape((together[n] if own == "kernel" else -1) if names else value.shape)
        for (_, n, own), value in ((name.split("/"), value) for name, value in arrays.items())
    }
    np.savez(tmp_path / "f.npz", **stored)
    one = keras.Input((4, 6))
    model = keras.Model(one, layers.MultiHeadAttention(heads, size, name="a")(one, one))
    tp.transfer({"path": str(tmp_path / "f.npz"), "layout": "flax"}, model, mapping={"a": {"to": "a"}},
                save={"path": "m.keras"}, folder=tmp_path)  # fmt: skip
    np.testing.assert_allclose(np.asarray(keras.models.load_model(tmp_path / "m.keras")(x)), expected, atol=1e-5)


def test_an_einsum_takes_heads_that_lie_side_by_side(tmp_path):
    x, kernel, bias = draw(2, 5, 4), draw(4, 6), draw(6)
    layer = layers.EinsumDense("abc,cde->abde", (None, 3, 2), bias_axes="de", name="g")
    got = transfer(tmp_path, {"g/kernel": kernel, "g/bias": bias}, layer, x)
    np.testing.assert_allclose(got, (x @ kernel + bias).reshape(2, 5, 3, 2), atol=1e-5)
    x, kernel, bias = draw(2, 5, 3, 2), draw(6, 4), draw(4)
    layer = layers.EinsumDense("abcd,cde->abe", (None, 4), bias_axes="e", name="g")
    got = transfer(tmp_path, {"g/kernel": kernel, "g/bias": bias}, layer, x)
    np.testing.assert_allclose(got, x.reshape(2, 5, 6) @ kernel + bias, atol=1e-5)


def test_heads_of_another_width_are_refused(tmp_path):
    np.savez(tmp_path / "f.npz", **{"g/kernel": draw(4, 9), "g/bias": draw(9)})
    layer = layers.EinsumDense("abc,cde->abde", (None, 3, 2), bias_axes="de", name="g")
    model = keras.Sequential([keras.Input((5, 4)), layer])
    with pytest.raises(tp.RecipeError, match=r"g/kernel has shape \(4, 3, 2\), g/kernel gives \(4, 3, 3\)"):
        tp.plan({"path": str(tmp_path / "f.npz"), "layout": "flax"}, model, mapping={"g": {"to": "g"}})


def depthwise(x, kernel, multiplier):
    """One group a channel, valid: output c*m + j is channel c with filter j."""
    height, width = kernel.shape[:2]
    out = np.zeros((x.shape[0], x.shape[1] - height + 1, x.shape[2] - width + 1, x.shape[3] * multiplier), "float32")
    for o in range(out.shape[-1]):
        for i in range(height):
            for j in range(width):
                part = x[:, i : i + out.shape[1], j : j + out.shape[2], o // multiplier]
                out[..., o] += part * kernel[i, j, 0, o]
    return out


def test_depthwise(tmp_path):
    x, kernel = draw(1, 5, 5, 3), draw(2, 3, 1, 6)
    layer = layers.DepthwiseConv2D((2, 3), depth_multiplier=2, use_bias=False, name="d")
    got = transfer(tmp_path, {"d/kernel": kernel}, layer, x)
    np.testing.assert_allclose(got, depthwise(x, kernel, 2), atol=1e-5)


def test_transposed_convolution_is_what_jax_computes(tmp_path):
    lax = pytest.importorskip("jax.lax")
    x, kernel = draw(1, 4, 4, 3), draw(3, 2, 3, 3)
    expected = lax.conv_transpose(x, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    layer = layers.Conv2DTranspose(3, (3, 2), strides=2, use_bias=False, name="t")
    got = transfer(tmp_path, {"t/kernel": kernel}, layer, x)
    expected = np.asarray(expected)
    np.testing.assert_allclose(got[:, : expected.shape[1], : expected.shape[2]], expected, atol=1e-4)


def test_saved_in_flax_layout(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    model = keras.Sequential([keras.Input((4, 4, 3)), layers.DepthwiseConv2D(2, name="w"),
                              layers.BatchNormalization(name="n"), layers.Flatten(), layers.Dense(5, name="d")])  # fmt: skip
    model.save(tmp_path / "m.keras")
    save = {"path": "f.safetensors", "layout": "flax"}
    report = tp.transfer(
        str(tmp_path / "m.keras"), str(tmp_path / "m.keras"), mapping={"all": {"to": ".*"}}, save=save, folder=tmp_path
    )
    held = safetensors.load_file(tmp_path / "f.safetensors")
    assert {"w.kernel", "n.scale", "n.bias", "n.mean", "n.var", "d.kernel", "d.bias", "w.bias"} == set(held)
    assert held["w.kernel"].shape == (2, 2, 1, 3)
    assert not [w for w in report.warnings if w.code in ("no-layout", "epsilon", "flatten-order")]


def planned(path, shape=(4, 4)):
    model = keras.Sequential([keras.Input((shape[0],)), layers.Dense(shape[1], name="d")])
    return tp.plan(str(path), model, mapping={"all": {"to": "d"}})


def test_files_that_mean_it_need_no_layout(tmp_path):
    """A square kernel would be turned in torch's layout; here neither that nor a warning."""
    tree = {"params/d/kernel": draw(4, 4), "params/d/bias": draw(4)}
    np.savez(tmp_path / "slashes.npz", **tree)
    np.savez(tmp_path / "dots.npz", **{name.replace("/", "."): value for name, value in tree.items()})
    (tmp_path / "f.msgpack").write_bytes(packed({"params": {"d": {name[9:]: v for name, v in tree.items()}}}))
    for name in ("slashes.npz", "dots.npz", "f.msgpack"):
        plan = planned(tmp_path / name)
        assert [a.sources[0].name for a in plan.assignments] == ["params/d/kernel", "params/d/bias"]
        assert not any(a.transforms or any(s.transforms for s in a.adapter) for a in plan.assignments)
        assert not plan.warnings


def test_a_gguf_file_has_torch_axes(tmp_path):
    (tmp_path / "m.gguf").write_bytes(gguf({"d.weight": draw(4, 4), "d.bias": draw(4)}))
    kernel = planned(tmp_path / "m.gguf").assignments[0]
    assert (kernel.sources[0].name, kernel.adapter[0].transforms) == ("d/weight", ({"transpose": [1, 0]},))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


UNITS = 3


def gates(*letters, size, biased):
    """Return a Dense for each gate."""
    found = {f"{a}/kernel": draw(size, UNITS) for a in letters}
    return found | {f"{a}/bias": draw(UNITS) for a in letters if a in biased}


def dense(p, name, x):
    return x @ p[f"{name}/kernel"] + p.get(f"{name}/bias", 0)


def lstm(p, x, state):
    h, c = state
    i, f, o = (sigmoid(dense(p, f"i{g}", x) + dense(p, f"h{g}", h)) for g in "ifo")
    c = f * c + i * np.tanh(dense(p, "ig", x) + dense(p, "hg", h))
    return o * np.tanh(c), c


def gru(p, x, state):
    (h,) = state
    r, z = (sigmoid(dense(p, f"i{g}", x) + dense(p, f"h{g}", h)) for g in "rz")
    n = np.tanh(dense(p, "in", x) + r * dense(p, "hn", h))
    return ((1 - z) * n + z * h,)


def simple(p, x, state):
    return (np.tanh(dense(p, "i", x) + dense(p, "h", state[0])),)


CELLS = {
    "LSTM": (lstm, 2, lambda: gates("ii", "if", "ig", "io", size=4, biased=()) | gates("hi", "hf", "hg", "ho", size=UNITS, biased=("hi", "hf", "hg", "ho"))),
    "GRU": (gru, 1, lambda: gates("ir", "iz", "in", size=4, biased=("ir", "iz", "in")) | gates("hr", "hz", "hn", size=UNITS, biased=("hn",))),
    "SimpleRNN": (simple, 1, lambda: gates("i", size=4, biased=("i",)) | gates("h", size=UNITS, biased=())),
}  # fmt: skip


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("inside", ["", "cell/"])
def test_recurrent_cells(tmp_path, kind, inside):
    step, states, make = CELLS[kind]
    p, x = make(), draw(2, 5, 4)
    state = [np.zeros((2, UNITS), "float32")] * states
    for t in range(x.shape[1]):
        state = step(p, x[:, t], state)
    layer = getattr(layers, kind)(UNITS, name="r")
    got = transfer(tmp_path, {f"r/{inside}{name}": value for name, value in p.items()}, layer, x)
    np.testing.assert_allclose(got, state[0], atol=1e-5)


@pytest.mark.parametrize("kind", ["LSTMCell", "OptimizedLSTMCell", "GRUCell", "SimpleCell"])
def test_recurrent_cells_of_flax_itself(tmp_path, kind):
    linen, jax = pytest.importorskip("flax.linen"), pytest.importorskip("jax")
    x = draw(2, 5, 4)
    rnn = linen.RNN(getattr(linen, kind)(UNITS, bias_init=jax.nn.initializers.normal()))
    variables = rnn.init(jax.random.key(0), x)
    expected = np.asarray(rnn.apply(variables, x))[:, -1]
    flat = {"/".join(k.key for k in path): np.asarray(v) for path, v in jax.tree_util.tree_leaves_with_path(variables)}
    layer = {"L": layers.LSTM, "O": layers.LSTM, "G": layers.GRU, "S": layers.SimpleRNN}[kind[0]](UNITS, name="r")
    got = transfer(tmp_path, {name.replace("params/", "params/r/"): v for name, v in flat.items()}, layer, x)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_gru_that_flax_does_not_have(tmp_path):
    arrays = CELLS["GRU"][2]()
    with pytest.raises(tp.RecipeError, match=r"is a GRU with reset_after=False.*: build it with reset_after=True"):
        transfer(
            tmp_path,
            {f"r/{n}": v for n, v in arrays.items()},
            layers.GRU(UNITS, reset_after=False, name="r"),
            draw(2, 5, 4),
        )


def test_recurrent_cells_there_and_back(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    x = draw(2, 5, 4)
    model = keras.Sequential(
        [keras.Input((5, 4)), layers.LSTM(3, return_sequences=True, name="l"), layers.SimpleRNN(3, name="s")]
    )
    model.set_weights([draw(*w.shape) for w in model.weights])
    model.save(tmp_path / "m.keras")
    tp.transfer(str(tmp_path / "m.keras"), str(tmp_path / "m.keras"), mapping={"all": {"to": ".*"}},
                save={"path": "f.safetensors", "layout": "flax"}, folder=tmp_path)  # fmt: skip
    held = safetensors.load_file(tmp_path / "f.safetensors")
    assert {"l.ii.kernel", "l.hf.bias", "s.h.kernel", "s.i.bias"} <= set(held)
    h, c = np.zeros((2, 2, 3), "float32")
    s = np.zeros((2, 3), "float32")
    own = {k: {n[2:].replace(".", "/"): v for n, v in held.items() if n[0] == k} for k in "ls"}
    for t in range(5):
        h, c = lstm(own["l"], x[:, t], (h, c))
        (s,) = simple(own["s"], h, (s,))
    np.testing.assert_allclose(s, np.asarray(model(x)), atol=1e-5)


def test_a_gru_is_not_written_with_less_than_keras_has(tmp_path):
    model = keras.Sequential([keras.Input((5, 4)), layers.GRU(3, name="g")])
    model.save(tmp_path / "m.keras")
    with pytest.raises(tp.RecipeError, match="flax's GRU has one bias for two of its gates, where Keras's has two"):
        tp.transfer(str(tmp_path / "m.keras"), str(tmp_path / "m.keras"), mapping={"all": {"to": ".*"}},
                    save={"path": "f.safetensors", "layout": "flax"}, folder=tmp_path)  # fmt: skip
