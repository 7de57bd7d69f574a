"""Units that are repeated, left out or put into another order in all weights that have them; Keras computes the rest."""

import itertools
import warnings

import numpy as np
import pytest

import transferpipe as tp
from transferpipe.errors import RecipeError

keras = pytest.importorskip("keras")
from keras import layers  # noqa: E402

follows = pytest.mark.follows
WIDEN = {"all": {"to": ".*", "units": {"widen": "copies"}}}
ALIGN = {"all": {"to": ".*", "from": r"own:\0", "units": {"align": r"other:\0"}}}


def filled(model, seed=0):
    """Give a model random weights, variances above 0."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        values = random.normal(size=weight.shape).astype("float32") / 2
        weight.assign(np.abs(values) + 0.5 if weight.name == "moving_variance" else values)
    return model


def behind(x, number):
    """Put a normalization, an activation and a Dropout behind a layer."""
    x = layers.BatchNormalization(name=f"bn{number}")(x)
    return layers.Dropout(0.5, name=f"drop{number}")(layers.ReLU(name=f"relu{number}")(x))


def dense(a, b):
    x = images = keras.Input((5,))
    x = layers.Dense(a, activation="tanh", name="one")(x)
    x = layers.Dense(b, activation="gelu", use_bias=False, name="two")(behind(x, 1))
    return keras.Model(images, layers.Dense(3, activation="softmax", name="last")(x))


def convolutions(a, b):
    x = images = keras.Input((6, 6, 2))
    x = behind(layers.Conv2D(a, 3, padding="same", name="one")(x), 1)
    x = layers.ZeroPadding2D(name="border")(layers.DepthwiseConv2D(2, name="depth")(x))
    x = layers.SeparableConv2D(b, 2, activation="elu", name="two")(x)
    x = layers.BatchNormalization(name="bn2")(layers.Flatten(name="flat")(layers.MaxPooling2D(name="pool")(x)))
    return keras.Model(images, layers.Dense(3, name="last")(x))


def residual(a, b):
    x = images = keras.Input((6, 6, 2))
    x = layers.Conv2D(a, 1, name="one")(x)
    y = layers.Conv2D(b, 3, padding="same", activation="relu", name="two")(x)
    x = layers.Add(name="sum")([x, layers.Conv2D(a, 3, padding="same", name="three")(y)])
    x = layers.Conv2DTranspose(b, 2, name="four")(x)
    return keras.Model(images, layers.Dense(3, name="last")(layers.GlobalAveragePooling2D(name="pool")(x)))


def nested(a, b):
    inner = keras.Sequential(
        [keras.Input((5, 2)), layers.Conv1D(a, 2, name="one"), layers.ReLU(name="relu")], name="inner"
    )
    x = images = keras.Input((5, 2))
    x = layers.Dense(b, activation="sigmoid", name="two")(inner(x))
    return keras.Model(images, layers.Dense(3, name="last")(layers.GlobalMaxPooling1D(name="pool")(x)))


def tokens(a, b):
    x = numbers = keras.Input((4,), dtype="int32")
    x = layers.Dense(b, activation="relu", name="two")(layers.Embedding(7, a, name="one")(x))
    return keras.Model(numbers, layers.Dense(3, name="last")(layers.Flatten(name="flat")(x)))


def branches(a, b):
    """What is concatenated, also once more, with a place that is there twice, behind a Flatten and before one."""
    x = images = keras.Input((4, 4, 2))
    one = layers.Conv2D(a, 1, name="one")(x)
    two = layers.Conv2D(b, 3, padding="same", activation="relu", name="two")(x)
    x = layers.Concatenate(name="join")([one, x, two])
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(x))
    y = layers.Concatenate(name="again")([x, one])
    y = layers.Flatten(name="flat")(layers.AveragePooling2D(2, name="pool")(y))
    z = layers.Concatenate(name="flats")([layers.Flatten(name="flat2")(two), layers.Flatten(name="flat1")(one)])
    return keras.Model(
        images, layers.Add(name="sum")([layers.Dense(3, name="last")(y), layers.Dense(3, name="other")(z)])
    )


def heads(a, b):
    """Attention to itself and to something else, whose heads are the units, and a layer between."""
    x = tokens = keras.Input((4, 5))
    y = layers.MultiHeadAttention(a, 3, name="one")(x, x)
    x = layers.LayerNormalization(name="norm")(layers.Add(name="sum")([x, y]))
    y = layers.Dense(b, activation="gelu", name="two")(x)
    y = layers.MultiHeadAttention(b, 2, value_dim=4, use_bias=False, name="three")(x, y)
    x = layers.Add(name="sum2")([x, y])
    return keras.Model(tokens, layers.Dense(3, name="last")(layers.GlobalAveragePooling1D(name="pool")(x)))


def normed(a, b):
    x = images = keras.Input((4, 4, 2))
    x = layers.GroupNormalization(-1, name="instance")(layers.Conv2D(a, 1, name="one")(x))
    x = layers.Dense(b, name="two")(layers.ReLU(name="relu")(x))
    return keras.Model(images, layers.Dense(3, name="last")(layers.Flatten(name="flat")(x)))


def multiplied(a, b):
    """Depthwise convolutions that make several numbers of each channel, added to a layer with as many, concatenated."""
    x = images = keras.Input((4, 4, 2))
    x = layers.Conv2D(a, 1, name="one")(x)
    y = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu", name="depth")(x)
    y = layers.BatchNormalization(name="bn")(y)
    y = layers.Add(name="sum")([layers.Conv2D(2 * a, 1, name="side")(x), y])
    z = layers.DepthwiseConv2D(2, padding="same", depth_multiplier=3, name="more")(
        layers.Concatenate(name="join")([y, x])
    )
    x = layers.SeparableConv2D(b, 2, depth_multiplier=2, activation="elu", name="two")(z)
    return keras.Model(images, layers.Dense(3, name="last")(layers.Flatten(name="flat")(x)))


def cardinal(a, b):
    """Groups of three channels, each of which makes two."""
    x = images = keras.Input((4, 4, 2))
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(layers.Conv2D(3 * a, 1, name="one")(x)))
    y = layers.Conv2D(2 * a, 3, padding="same", groups=a, activation="tanh", name="groups")(x)
    y = layers.GroupNormalization(a, name="norm")(y)
    y = layers.Concatenate(name="join")([layers.Conv2D(b, 2, padding="same", name="two")(y), x])
    return keras.Model(images, layers.Dense(3, name="last")(layers.Flatten(name="flat")(y)))


def queries(a, b):
    x = tokens = keras.Input((4, 5))
    y = layers.GroupQueryAttention(3, 2 * a, a, name="one")(x, x)
    y = layers.Dense(b, activation="gelu", name="two")(
        layers.LayerNormalization(name="norm")(layers.Add(name="sum")([x, y]))
    )
    return keras.Model(tokens, layers.Dense(3, name="last")(layers.GlobalAveragePooling1D(name="pool")(y)))


def in_groups(a, b):
    """More groups of four channels, and what is normalized along places alone."""
    x = images = keras.Input((4, 4, 2))
    x = layers.GroupNormalization(a, name="norm")(layers.Conv2D(4 * a, 1, name="one")(x))
    x = layers.LayerNormalization(axis=[1, 2], name="places")(layers.Dense(b, name="two")(layers.ReLU(name="relu")(x)))
    return keras.Model(images, layers.Dense(3, name="last")(layers.Flatten(name="flat")(x)))


def slopes(a, b):
    """A slope for each channel, one for each place and channel, also behind a Flatten, and one for all of them."""
    x = images = keras.Input((6, 6, 2))
    x = layers.PReLU(shared_axes=[1, 2], name="shared")(layers.Conv2D(a, 3, name="one")(x))
    x = layers.PReLU(name="flat")(layers.Flatten()(layers.PReLU(name="places")(x)))
    x = layers.PReLU(shared_axes=[1], name="all")(layers.Dense(b, name="two")(x))
    return keras.Model(images, layers.Dense(3, name="last")(x))


def gated(a, b):
    x = steps = keras.Input((5, 3))
    x = layers.LSTM(a, return_sequences=True, name="one")(x)
    x = layers.GRU(b, name="two")(layers.BatchNormalization(name="bn1")(x))
    return keras.Model(steps, layers.Dense(3, name="last")(x))


def directions(a, b):
    """Two directions, one behind the other, and layers that take them, one of which resets its state first."""
    x = steps = keras.Input((5, 3))
    x = layers.Bidirectional(layers.LSTM(a, use_bias=False, return_sequences=True), name="one")(x)
    x = layers.Bidirectional(layers.GRU(b, reset_after=False, return_sequences=True), name="two")(x)
    x = layers.TimeDistributed(layers.Dense(b, activation="relu"), name="four")(x)
    x = layers.SimpleRNN(a, name="three")(layers.Concatenate(name="join")([x, steps]))
    return keras.Model(steps, layers.Dense(3, name="last")(x))


def einsums(a, b):
    x = steps = keras.Input((5, 3))
    x = layers.EinsumDense("...x,xy->...y", a, bias_axes="y", activation="relu", name="one")(x)
    x = layers.EinsumDense("abc,dc->abd", (5, b), name="two")(x)
    return keras.Model(steps, layers.Dense(3, name="last")(layers.Flatten(name="flat")(x)))


FREE = [dense, convolutions, residual, nested, tokens, branches, heads, normed]
FREE += [multiplied, cardinal, queries, in_groups, slopes, gated, directions, einsums]


def two_outputs(a, b):
    x = images = keras.Input((5,))
    x = layers.Dense(a, name="one")(x)
    return keras.Model(images, [x, layers.Dense(3, name="last")(layers.Dense(b, name="two")(x))])


def normalized(a, b):
    x = images = keras.Input((5,))
    x = layers.LayerNormalization(name="norm")(layers.Dense(a, name="one")(x))
    return keras.Model(images, layers.Dense(3, name="last")(layers.Dense(b, name="two")(x)))


def compared(a, b):
    x = images = keras.Input((5,))
    x = layers.Dense(a, activation="softmax", name="one")(x)
    return keras.Model(images, layers.Dense(3, name="last")(layers.Dense(b, name="two")(x)))


def joined(a, b):
    x = images = keras.Input((5, 1))
    x = layers.Flatten(name="flat")(layers.Concatenate(axis=1, name="join")([layers.Dense(a, name="one")(x)] * 2))
    return keras.Model(images, layers.Dense(3, name="last")(layers.Dense(b, name="two")(x)))


def spread(a, b):
    x = images = keras.Input((5,))
    x = layers.Dense(a, name="one")(x)
    x = layers.Multiply(name="gate")([x, layers.Dense(1, name="gates")(x)])
    return keras.Model(images, layers.Dense(3, name="last")(layers.Dense(b, name="two")(x)))


def grouped(a, b):
    """Neighbours are normalized together, in two groups."""
    x = images = keras.Input((5, 1))
    x = layers.GroupNormalization(2, name="norm")(layers.Dense(a, name="one")(x))
    x = layers.Dense(b, name="two")(layers.Flatten(name="flat")(x))
    return keras.Model(images, layers.Dense(3, name="last")(x))


def places(a, b):
    """All numbers of an image are normalized together, with a gamma for each."""
    x = images = keras.Input((2, 3, 1))
    x = layers.LayerNormalization(axis=[1, 2, 3], name="norm")(layers.Conv2D(a, 1, name="one")(x))
    x = layers.RMSNormalization(name="rms")(x)
    x = layers.Dense(b, name="two")(layers.Flatten(name="flat")(x))
    return keras.Model(images, layers.Dense(3, name="last")(x))


def convolved_parts(a, b):
    x = images = keras.Input((5, 1))
    x = layers.Concatenate(name="join")([layers.Dense(a, name="one")(x), layers.Dense(2, name="side")(x)])
    x = layers.Dense(b, name="two")(layers.Flatten(name="flat")(layers.Conv1D(4, 1, groups=2, name="conv")(x)))
    return keras.Model(images, layers.Dense(3, name="last")(x))


def masked(a, b):
    """Of three inputs, the last may be the keys or a mask."""
    x = images = keras.Input((3, 4))
    x = layers.Dense(a, name="one")(x)
    y = layers.MultiHeadAttention(2, 2, name="attention")(x, images, images[:, :, ::-1])
    x = layers.Dense(b, name="two")(layers.Flatten(name="flat")(y))
    return keras.Model(images, layers.Dense(3, name="last")(x))


FIXED = [two_outputs, compared, joined, spread, masked, convolved_parts]
COMPARED = [normalized, grouped, places]


def built(make, *widths, seed=0):
    keras.utils.clear_session()
    return filled(make(*widths), seed)


def inputs(model):
    shape = (8, *model.inputs[0].shape[1:])
    random = np.random.default_rng(3)
    return (
        random.integers(0, 7, shape) if "int" in model.inputs[0].dtype else random.normal(size=shape).astype("float32")
    )


def outputs(model):
    return [np.asarray(y) for y in keras.tree.flatten(model(inputs(model)))]


def saved(model, path):
    model.save(path)
    return str(path)


def weights(model):
    return {w.path: np.asarray(w) for w in model.weights}


@pytest.mark.parametrize("make", FREE)
def test_a_wider_network_computes_what_the_narrower_one_does(make, tmp_path):
    source = built(make, 4, 6)
    wanted, path = outputs(source), saved(source, tmp_path / "a.keras")
    target = built(make, 7, 15, seed=1)
    tp.transfer(path, target, mapping=WIDEN, strict=True)
    np.testing.assert_allclose(outputs(target), wanted, rtol=1e-4, atol=1e-5)
    assert not np.array_equal(target.get_layer("last").get_weights()[0][0], 0)


NORM = ("gamma", "beta", "moving_mean", "moving_variance")
# By network: the axes of every weight that go along the units of a layer.
USES = {
    dense: {
        "one/kernel": {-1: "one"},
        "one/bias": {-1: "one"},
        **{f"bn1/{own}": {-1: "one"} for own in NORM},
        "two/kernel": {-2: "one", -1: "two"},
        "last/kernel": {-2: "two"},
    },
    convolutions: {
        "one/kernel": {-1: "one"},
        "one/bias": {-1: "one"},
        **{f"bn1/{own}": {-1: "one"} for own in NORM},
        "depth/kernel": {-2: "one"},
        "depth/bias": {-1: "one"},
        "two/depthwise_kernel": {-2: "one"},
        "two/pointwise_kernel": {-2: "one", -1: "two"},
        "two/bias": {-1: "two"},
        **{f"bn2/{own}": {-1: "two"} for own in NORM},
        "last/kernel": {-2: "two"},
    },
    residual: {
        "one/kernel": {-1: "one"},
        "one/bias": {-1: "one"},
        "two/kernel": {-2: "one", -1: "two"},
        "two/bias": {-1: "two"},
        "three/kernel": {-2: "two", -1: "one"},
        "three/bias": {-1: "one"},
        "four/kernel": {-1: "one", -2: "four"},
        "four/bias": {-1: "four"},
        "last/kernel": {-2: "four"},
    },
    gated: {
        "one/kernel": {-1: "one"},
        "one/recurrent_kernel": {-2: "one", -1: "one"},
        "one/bias": {-1: "one"},
        **{f"bn1/{own}": {-1: "one"} for own in NORM},
        "two/kernel": {-2: "one", -1: "two"},
        "two/recurrent_kernel": {-2: "two", -1: "two"},
        "two/bias": {-1: "two"},
        "last/kernel": {-2: "two"},
    },
    tokens: {
        "one/embeddings": {-1: "one"},
        "two/kernel": {-2: "one", -1: "two"},
        "two/bias": {-1: "two"},
        "last/kernel": {-2: "two"},
    },
}
MADE_BY = {
    "one": ("one/kernel", "one/recurrent_kernel", "three/kernel", "one/embeddings"),
    "two": ("two/kernel", "two/recurrent_kernel", "two/pointwise_kernel"),
    "four": ("four/kernel",),
}
WIDTHS = {"one": 5, "two": 6, "four": 6}


def named(model):
    return {f"{x.name}/{w.name}": np.asarray(w) for x in model.layers for w in x.weights}


def chosen(value, axes, kept):
    """Return the units that are kept of a value, each of which it has once or several times."""
    for axis, layer in axes.items():
        moved = np.moveaxis(value, axis, -1)
        moved = moved.reshape(*moved.shape[:-1], -1, WIDTHS[layer])[..., kept[layer]]
        value = np.moveaxis(moved.reshape(*moved.shape[:-2], -1), -1, axis)
    return value


def largest(held, layer, count, power):
    size = 0
    for name in MADE_BY[layer]:
        if name in held:
            kernel = np.moveaxis(held[name], -2 if layer == "four" else -1, -1).astype("float64")
            # A recurrent layer has its units once in every gate.
            size = size + (np.abs(kernel) ** power).reshape(-1, WIDTHS[layer]).sum(0)
    return sorted(np.argsort(-size)[:count].tolist())


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_the_heads_that_count_little_are_left_out(norm, tmp_path):
    """What stays computes what the whole does whose other heads, and other units between, give nothing."""
    source = built(heads, 4, 6)
    path, power = saved(source, tmp_path / "a.keras"), int(norm[1])
    for name, count in (("one", 2), ("three", 3)):
        attention = source.get_layer(name)
        sizes = sum(
            (np.abs(np.asarray(dense.kernel, "float64")) ** power).sum((0, 2))
            for dense in (attention.query_dense, attention.key_dense, attention.value_dense)
        )
        kernel = attention.output_dense.kernel.numpy().copy()
        kernel[np.argsort(-sizes)[count:]] = 0
        attention.output_dense.kernel.assign(kernel)
    kernel, bias = source.get_layer("two").get_weights()
    out = np.argsort(-(np.abs(kernel.astype("float64")) ** power).sum(0))[3:]
    kernel[:, out], bias[out] = 0, 0
    source.get_layer("two").set_weights([kernel, bias])
    target = built(heads, 2, 3, seed=1)
    report = tp.transfer(path, target, mapping={"all": {"to": ".*", "units": {"keep": "largest", "norm": norm}}})
    assert [(c.layer, c.size, c.count) for c in report.plan.units] == [("one", 4, 2), ("two", 6, 3), ("three", 6, 3)]
    np.testing.assert_allclose(outputs(target), outputs(source), rtol=1e-4, atol=1e-5)


def test_what_is_concatenated_is_narrowed_place_by_place(tmp_path):
    """What stays computes what the whole does in which the other units are nothing, at all of their places."""
    source = built(branches, 5, 4)
    path = saved(source, tmp_path / "a.keras")
    kept = {"one": [3, 0], "two": [2, 1, 0]}
    norm = source.get_layer("bn")
    statistics = [np.array(w) for w in norm.get_weights()]
    for name, start, size in (("one", 0, 5), ("two", 7, 4)):
        out = [unit for unit in range(size) if unit not in kept[name]]
        kernel, bias = source.get_layer(name).get_weights()
        kernel[..., out], bias[out] = 0, 0
        source.get_layer(name).set_weights([kernel, bias])
        for value, nothing in zip(statistics, (0, 0, 0, 1), strict=True):
            value[[start + unit for unit in out]] = nothing
    norm.set_weights(statistics)
    target = built(branches, 2, 3, seed=1)
    tp.transfer(path, target, mapping={"all": {"to": ".*", "units": {"indices": kept}}}, strict=True)
    np.testing.assert_allclose(outputs(target), outputs(source), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", USES)
@pytest.mark.parametrize("how", ["l1", "l2", "indices"])
def test_a_narrower_network_has_the_chosen_units_in_all_its_weights(how, make, tmp_path):
    source = built(make, 5, 6)
    path, held, uses = saved(source, tmp_path / "a.keras"), named(source), USES[make]
    there = {
        layer: count for layer, count in (("one", 3), ("two", 2), ("four", 2)) if layer != "four" or make is residual
    }
    if how == "indices":
        kept = {layer: [4, 0, 2][:count] for layer, count in there.items()}
        units = {"indices": kept}
    else:
        kept = {layer: largest(held, layer, count, int(how[1])) for layer, count in there.items()}
        units = {"keep": "largest", "norm": how}
    target = built(make, 3, 2, seed=1)
    tp.transfer(path, target, mapping={"all": {"to": ".*", "units": units}}, strict=True)
    for name, value in named(target).items():
        assert np.array_equal(value, chosen(held[name], uses.get(name, {}), kept)), name


def shuffled(model, path, seed):
    """Return a file of a model whose units are in another order: made by aligning it with a random network."""
    other = saved(filled(keras.models.clone_model(model), seed), path.with_name("random.keras"))
    target = keras.models.clone_model(model)
    tp.transfer({"own": saved(model, path.with_name("own.keras")), "other": other}, target, mapping=ALIGN)
    return target


@pytest.mark.parametrize("make", [*FREE, *COMPARED])
def test_aligned_units_compute_what_they_did_and_come_back_to_their_places(make, tmp_path):
    width = 8 if make is grouped else 7
    source = built(make, width, 6)
    wanted, before = outputs(source), weights(source)
    turned = shuffled(source, tmp_path / "a.keras", 5)
    np.testing.assert_allclose(outputs(turned), wanted, rtol=1e-4, atol=1e-5)
    moved = [not np.array_equal(a, b) for a, b in zip(before.values(), weights(turned).values(), strict=True)]
    assert sum(moved) >= min(3, len(moved) / 2)
    own, other = saved(turned, tmp_path / "turned.keras"), str(tmp_path / "own.keras")
    back = built(make, width, 6, seed=8)
    report = tp.transfer({"own": own, "other": other}, back, mapping=ALIGN)
    for a, b in zip(before.values(), weights(back).values(), strict=True):
        assert np.array_equal(a, b)
    assert {w.fate for w in report.plan.source_weights if w.source == "own"} == {"used"}


@pytest.mark.parametrize("make", FIXED)
def test_units_that_something_else_looks_at_stay_as_they_are(make, tmp_path):
    source = built(make, 4, 6)
    wanted = outputs(source)
    turned = shuffled(source, tmp_path / "a.keras", 5)
    for a, b in zip(outputs(turned), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert np.array_equal(turned.get_layer("one").get_weights()[0], source.get_layer("one").get_weights()[0])
    assert not np.array_equal(turned.get_layer("two").get_weights()[0], source.get_layer("two").get_weights()[0])


@follows("_Chooser._can_resize: give it the source's")
@pytest.mark.parametrize("make", FIXED)
def test_they_cannot_be_made_more(make, tmp_path):
    source = built(make, 4, 6)
    path = saved(source, tmp_path / "a.keras")
    with pytest.raises(
        RecipeError, match="one has 4 units in the source and 8 in the target, which cannot be changed: "
    ):
        tp.plan(path, built(make, 8, 6), mapping=WIDEN)
    target = built(make, 4, 8, seed=1)
    tp.transfer(path, target, mapping=WIDEN)
    for a, b in zip(outputs(target), outputs(source), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@follows("_Chooser._can_resize: give it a multiple")
@pytest.mark.parametrize("make", COMPARED)
def test_what_compares_units_gets_as_many_copies_of_each(make, tmp_path):
    source = built(make, 4, 6)
    path = saved(source, tmp_path / "a.keras")
    with pytest.raises(RecipeError, match="computes the same of as many copies of each unit") as caught:
        tp.plan(path, built(make, 6, 6), mapping=WIDEN)
    assert [p.fix for p in caught.value.problems] == ["give it a multiple of 4 units, such as 8"]
    target = built(make, 8, 8, seed=1)
    tp.transfer(path, target, mapping=WIDEN, strict=True)
    np.testing.assert_allclose(outputs(target)[0], outputs(source)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("outer", ["model", "every step"])
def test_a_layer_that_stands_in_two_places_keeps_its_units(outer, tmp_path):
    """Its weights are listed once, and what takes its output at the other place is not found by them."""

    def shared(a, b):
        one, x = layers.Dense(a, activation="relu", name="one"), keras.Input((4, 5))
        inner = keras.Sequential([keras.Input((4, 5)), one], name="inner")
        y = layers.TimeDistributed(one, name="inner")(x) if outer == "every step" else inner(x)
        y = layers.Concatenate(name="join")([layers.Dense(3, name="side")(y), layers.Dense(3, name="other")(one(x))])
        return keras.Model(x, layers.Dense(3, name="last")(layers.Dense(b, activation="tanh", name="two")(y)))

    source, turned = built(shared, 4, 6), built(shared, 4, 6, seed=1)
    files = {"own": saved(source, tmp_path / "own.keras"), "other": saved(turned, tmp_path / "other.keras")}
    tp.transfer(files, turned, mapping=ALIGN)
    np.testing.assert_allclose(outputs(turned), outputs(source), rtol=1e-4, atol=1e-5)
    assert not np.array_equal(turned.get_layer("two").kernel, source.get_layer("two").kernel)
    with pytest.raises(RecipeError, match=r"has shape .* in the source and .* in the target"):
        tp.plan(saved(source, tmp_path / "b.keras"), built(shared, 8, 6), mapping=WIDEN)


def in_four(channels, groups):
    x = images = keras.Input((3, 2))
    x = layers.GroupNormalization(groups, name="norm")(layers.Dense(channels, name="one")(x))
    return keras.Model(images, layers.Dense(2, name="last")(x))


@follows("_Chooser._has_indices: give each … numbers")
def test_groups_keep_their_own_units_or_go_as_a_whole(tmp_path):
    source = built(in_four, 12, 4)
    path = saved(source, tmp_path / "a.keras")
    kernel, bias = source.get_layer("one").get_weights()
    sizes = np.abs(kernel.astype("float64")).sum(0).reshape(4, 3)
    fewer, smaller = built(in_four, 6, 2, seed=1), built(in_four, 8, 4, seed=1)
    keep = {"all": {"to": ".*", "units": {"keep": "largest"}}}
    tp.transfer(path, fewer, mapping=keep, strict=True)
    whole = np.sort(np.argsort(-sizes.sum(1))[:2])
    assert np.array_equal(fewer.get_layer("one").get_weights()[0], kernel.reshape(2, 4, 3)[:, whole].reshape(2, 6))
    tp.transfer(path, smaller, mapping=keep, strict=True)
    each = np.sort(np.argsort(-sizes, axis=1)[:, :2], axis=1)
    picked = np.take_along_axis(bias.reshape(4, 3), each, 1).ravel()
    assert np.array_equal(smaller.get_layer("one").get_weights()[1], picked)

    def by(numbers):
        return {"to": ".*", "units": {"indices": {"one": numbers}}}

    assert refused(path, smaller, by([0, 1, 3, 6, 7, 8, 9, 10])).fix == "give each 2 numbers of one group of 3"
    assert refused(path, fewer, by([0, 1, 2, 3, 4, 6])).fix == "give each 3 numbers of one group of 3"
    right = {"all": by([6, 8, 7, 0, 1, 2])}  # the third group, and the first, as if the others were not there
    tp.transfer(path, fewer, mapping=right, strict=True)
    parts = keras.Model(source.input, source.get_layer("norm").output)(inputs(source))
    some = keras.Model(fewer.input, fewer.get_layer("norm").output)(inputs(source))
    np.testing.assert_allclose(np.asarray(some), np.asarray(parts)[..., [6, 8, 7, 0, 1, 2]], rtol=1e-4, atol=1e-5)
    neither = refused(path, built(in_four, 10, 2), {"to": ".*", "units": {"keep": "largest"}})
    assert "norm has groups of another number and size" in neither.what and neither.fix == "give it the source's width"


def one_kind(channels, groups, multiplier):
    x = images = keras.Input((4, 4, 2))
    x = layers.Conv2D(channels, 1, groups=groups, name="groups")(layers.Conv2D(channels, 1, name="two")(x))
    x = layers.DepthwiseConv2D(1, depth_multiplier=multiplier, name="depth")(x)
    return keras.Model(images, layers.Dense(2, name="last")(x))


def shared_heads(queries, keys):
    x = tokens = keras.Input((4, 6))
    x = layers.GroupQueryAttention(2, queries, keys, name="attention")(x, x)
    return keras.Model(tokens, layers.Dense(2, name="last")(x))


@follows("_Chooser._differs_inside: give it depth_multiplier=…", "_Chooser._differs_inside: give the target groups")
@follows("_Chooser.inner: give it groups of")
def test_what_belongs_together_goes_as_a_whole(tmp_path):
    source = built(one_kind, 8, 2, 1)
    path = saved(source, tmp_path / "a.keras")
    found = refused(path, built(one_kind, 16, 1, 1), WIDEN["all"])
    assert found.what.startswith("groups has 2 groups of 4 channels in the source and 1 of 16 in the target")
    assert found.fix == "give it groups of 4 channels, or 2 groups"
    found = refused(path, built(one_kind, 8, 2, 3), WIDEN["all"])
    assert (found.what[:47], found.fix) == (
        "depth makes 1 channels of each channel in the s",
        "give it depth_multiplier=1",
    )
    heads = built(shared_heads, 4, 2)
    other = saved(heads, tmp_path / "b.keras")
    found = refused(other, built(shared_heads, 9, 3), WIDEN["all"])
    assert found.fix == "give the target groups of the source's size"
    for file, model, target in (
        (path, source, (one_kind, 16, 4, 1)),
        (path, source, (one_kind, 12, 2, 1)),
        (other, heads, (shared_heads, 6, 3)),
    ):
        wide = built(*target, seed=2)
        tp.transfer(file, wide, mapping=WIDEN, strict=True)
        np.testing.assert_allclose(outputs(wide)[0], outputs(model)[0], rtol=1e-4, atol=1e-5)


def test_the_order_is_the_best_one(tmp_path):
    """Of one layer of five units, every order is tried."""
    own, other = built(dense, 5, 1, seed=1), built(dense, 5, 1, seed=2)
    paths = {name: saved(m, tmp_path / f"{name}.keras") for name, m in (("own", own), ("other", other))}
    ours = {f"{x.name}/{w.name}": np.asarray(w) for x in own.layers for w in x.weights}
    theirs = {f"{x.name}/{w.name}": np.asarray(w) for x in other.layers for w in x.weights}

    def put(order):
        axes = {name: 0 if name == "two/kernel" else -1 for name in ours if name.split("/")[0] in ("one", "bn1", "two")}
        return {name: value.take(order, axes[name]) if name in axes else value for name, value in ours.items()}

    def likeness(held):
        return sum(float((held[name] * theirs[name]).sum()) for name in held)

    best = max((put(list(order)) for order in itertools.permutations(range(5))), key=likeness)
    target = built(dense, 5, 1)
    tp.transfer(paths, target, mapping=ALIGN)
    for layer in target.layers:
        for weight in layer.weights:
            assert np.array_equal(np.asarray(weight), best[f"{layer.name}/{weight.name}"]), weight.path


def test_groups_and_the_units_in_each_are_put_in_order(tmp_path):
    """Of two groups of three, every order that leaves groups together is tried."""
    own, other = built(grouped, 6, 3, seed=1), built(grouped, 6, 3, seed=2)
    paths = {name: saved(m, tmp_path / f"{name}.keras") for name, m in (("own", own), ("other", other))}
    target = built(grouped, 6, 3)
    rule = {"to": "one|norm|two", "from": r"own:\0", "units": {"align": r"other:\0"}}
    rest = {"to": "last", "from": r"own:\0"}
    tp.transfer(paths, target, mapping={"all": rule, "rest": rest})

    def held(model, order):
        two = model.get_layer("two").get_weights()[0].reshape(5, 6, 3)[:, order]
        return [w[..., order] for name in ("one", "norm") for w in model.get_layer(name).get_weights()] + [two]

    theirs = held(other, list(range(6)))
    inner = list(itertools.permutations(range(3)))
    orders = [
        [3 * g + i for g, part in zip(groups, pair, strict=True) for i in part]
        for groups in itertools.permutations(range(2))
        for pair in itertools.product(inner, inner)
    ]
    best = max(
        orders, key=lambda order: sum(float((a * b).sum()) for a, b in zip(held(own, order), theirs, strict=True))
    )
    for a, b in zip(held(target, list(range(6))), held(own, best), strict=True):
        assert np.array_equal(a, b)


def test_a_plan_with_choices_survives_its_record_and_pins_them(tmp_path):
    from transferpipe.planning.reading.read_plan import plan_from_data

    path = saved(built(dense, 4, 6), tmp_path / "a.keras")
    plan = tp.plan(path, built(dense, 7, 9), mapping=WIDEN)
    assert plan_from_data(plan.to_data()) == plan
    assert [(c.layer, c.size, c.count) for c in plan.units] == [("one", 4, 7), ("two", 6, 9)]
    assert "units(all/one, axis=-1, 7 of 4)" in str(plan)
    other = tp.plan(path, built(dense, 7, 9), mapping={"all": {"to": ".*", "units": {"widen": "copies"}}}, seed=1)
    assert other.checksum != plan.checksum


RULE = {"to": ".*", "units": {"keep": "largest"}}


def refused(path, target, rule):
    with pytest.raises(RecipeError) as caught:
        tp.plan(path, target, mapping={"all": rule})
    return caught.value.problems[0]


@follows("_Chooser._can_resize: write units: {keep: largest}", "_Chooser._can_resize: write units: {widen: copies}")
@follows("_Chooser._can_resize: let `to` match …", "_Chooser.resize: did you mean …?")
@follows("_Chooser._has_indices: add …: [...], …", "_Chooser._has_indices: give … numbers")
@follows("_Chooser._has_indices: use numbers from 0")
def test_what_is_written_instead(tmp_path):
    path = saved(built(dense, 4, 6), tmp_path / "a.keras")
    less, more = built(dense, 2, 3), built(dense, 7, 9)
    assert refused(path, less, WIDEN["all"]).fix == "write units: {keep: largest}"
    assert tp.plan(path, less, mapping={"all": RULE}).units
    assert refused(path, more, RULE).fix == "write units: {widen: copies}"
    assert tp.plan(path, more, mapping=WIDEN).units
    part = {"a": {**RULE, "to": "one|two"}, "b": {"to": "bn1|last"}}
    with pytest.raises(RecipeError) as caught:
        tp.plan(path, less, mapping=part)
    assert "let `to` match bn1 too" in [p.fix for p in caught.value.problems]
    assert "let `to` match last too" in [p.fix for p in caught.value.problems]
    wrong = [
        ({"ona": [0, 1], "two": [0, 1, 2]}, "did you mean 'one'?"),
        ({"nothing at all": [0, 1], "two": [0, 1, 2]}, "the layers are one, two, last"),
        ({"two": [0, 1, 2]}, "add one: [...], 2 numbers"),
        ({"one": [0], "two": [0, 1, 2]}, "give 2 numbers"),
        ({"one": [0, 4], "two": [0, 1, 2]}, "use numbers from 0 to 3"),
    ]
    for indices, fix in wrong:
        assert refused(path, less, {"to": ".*", "units": {"indices": indices}}).fix == fix
    right = {"to": ".*", "units": {"indices": {"one": [3, 0], "two": [0, 1, 2]}}}
    assert [c.indices for c in tp.plan(path, less, mapping={"all": right}).units] == [(3, 0), (0, 1, 2)]


def recurrent(units):
    x = steps = keras.Input((5, 6))
    x = layers.Bidirectional(layers.LSTM(units, name="lstm"), merge_mode="sum", name="both")(x)
    return keras.Model(steps, layers.Dense(3, name="last")(x))


def einsum(units):
    x = steps = keras.Input((5, 6))
    x = layers.EinsumDense("abc,bcd->abd", (5, units), bias_axes="d", activation="relu", name="einsum")(x)
    return keras.Model(steps, layers.Dense(3, name="last")(x))


WIDER = {"repeat": {"axis": -1, "times": "target"}}
TAKEN = [{"repeat": {"axis": 0, "times": "target"}}, {"scale": 0.5}]


@follows("_Chooser._note_unknown: give … and what")
@pytest.mark.parametrize("make", [einsum, recurrent])
def test_layers_whose_units_are_not_known_get_rules_of_their_own(make, tmp_path):
    """Copies by hand compute the same; taken by number, they are those of the source."""
    few, many = filled(make(4)), filled(make(8), seed=1)
    few.save(tmp_path / "few.keras")
    said = str(refused(tmp_path / "few.keras", many, {"to": ".*", "units": {"widen": "copies"}}))
    name, kind = few.layers[1].name, type(few.layers[1]).__name__
    assert f"{name} is a {kind}" in said and "6, " in said and "{repeat: " in said and "{scale: 0.5}" in said
    inner = {"recurrent_kernel": [WIDER, *TAKEN]} if make is recurrent else {}
    rules = {
        "wide": {"to": f"{name}(/.*)?", "transform": {"kernel": [WIDER], "bias": [WIDER], **inner}},
        "last": {"to": "last", "transform": {"kernel": TAKEN}},
    }
    tp.transfer(str(tmp_path / "few.keras"), many, mapping=rules)
    steps = np.random.default_rng(5).normal(size=(2, 5, 6)).astype("float32")
    np.testing.assert_allclose(many(steps), few(steps), rtol=1e-4, atol=1e-5)
    many.save(tmp_path / "many.keras")
    assert "{take: " in str(refused(tmp_path / "many.keras", few, {"to": ".*", "units": {"keep": "largest"}}))
    if make is einsum:
        take = {"take": {"axis": -1, "indices": [1, 3, 4, 7]}}
        rules = {
            "few": {"to": name, "transform": {"kernel": [take], "bias": [take]}},
            "last": {"to": "last", "transform": {"kernel": [{"take": {"axis": 0, "indices": [1, 3, 4, 7]}}]}},
        }
        tp.transfer(str(tmp_path / "many.keras"), few, mapping=rules)
        assert np.array_equal(few.get_layer("last").kernel, np.asarray(many.get_layer("last").kernel)[[1, 3, 4, 7]])


@follows("choose_units: give the target as", "_Chooser.align: claim a layer together")
def test_what_alignment_needs(tmp_path):
    source = built(dense, 4, 6)
    path = saved(source, tmp_path / "a.keras")
    file = str(tmp_path / "named.npz")
    np.savez(file, **{f"{x.name}/{w.name}": np.asarray(w) for x in source.layers for w in x.weights})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert refused({"own": path, "other": path}, file, ALIGN["all"]).fix.startswith(
            "give the target as a Sequential"
        )
        alone = {"all": {**ALIGN["all"], "to": "last"}}
        with pytest.raises(RecipeError, match="no units that could be put in the order") as caught:
            tp.plan({"own": path, "other": path}, built(dense, 4, 6), mapping=alone, unmatched="keep")
        assert caught.value.problems[0].fix.startswith("claim a layer together with those that take its output")
        assert tp.plan({"own": path, "other": path}, built(dense, 4, 6), mapping=ALIGN).units


@follows(
    "_check_combination: do that in a", "_check_combination: merge in one run,", "_parse_units: name another network"
)
@follows(
    "_parse_units: write one of units:", "_parse_units: write one of units: #2", "_parse_indices: write {dense1: [0, 2,"
)
@pytest.mark.parametrize(
    ("more", "fix"),
    [
        ({"units": {"widen": "copies"}, "fold": r"own:\0"}, "do that in a run before this one"),
        (
            {"units": {"widen": "copies"}, "from": [r"own:\0", r"other:\0"]},
            "merge in one run, choose units in the next",
        ),
        ({"units": {"align": r"own:\0"}}, "name another network"),
        ({"units": "copies"}, "write one of units: {widen: copies}"),
        ({"units": {"norm": "l2"}}, "write one of units: {widen: copies}"),
        ({"units": {"widen": "copies", "keep": "largest"}}, "write one of units: {widen: copies}"),
        ({"units": {"indices": {"one": [0, 0]}}}, "write {dense1: [0, 2, 3]}"),
    ],
)
def test_what_a_rule_may_say(more, fix, tmp_path):
    from transferpipe.planning.reading.read_recipe import read_recipe

    base = {"sources": {"own": "a.h5", "other": "b.h5"}, "target": "c.keras"}

    def problems(rule):
        try:
            read_recipe({**base, "mapping": {"r": {"to": ".*", "from": r"own:\0", **rule}}})
        except RecipeError as error:
            return [p.fix for p in error.problems]
        return []

    for rule in (
        {"units": "copies"},
        {"units": {"norm": "l2"}},
        {"units": {"align": r"own:\0"}},
        {"units": {"indices": {"one": 3}}},
        {"units": {"widen": "copies"}, "fold": r"own:\0"},
        {"units": {"widen": "copies"}, "from": [r"own:a", r"other:a"]},
    ):
        assert problems(rule)
    assert any(found.startswith(fix) for found in problems(more))
    assert problems({"units": {"widen": None}}) == problems({"units": {}}) == []
    assert problems({"units": {"align": r"other:\0"}}) == problems({"units": {"widen": "copies"}}) == []
    assert problems({"units": {"indices": {"dense1": [0, 2, 3]}}}) == problems({"units": {"keep": "largest"}}) == []
