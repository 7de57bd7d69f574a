"""Keras models of other layers than their file: `target.repeat`, against models of that depth that are built anew."""

import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from transferpipe.cli import main
from transferpipe.models.repeated import repeat_layers
from transferpipe.recipe.model import RepeatedLayers
from transferpipe.recipe.patterns import Pattern
from transferpipe.weights.formats import open_source
from transferpipe.weights.keras.deeper.graph import keras_order, read_graph


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keras.utils.clear_session()


def filled(model):
    random = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(np.abs(random.normal(size=variable.shape)).astype("float32") / 3)
    return model


def chain(count):
    blocks = [[layers.Dense(4, activation="tanh", name=f"block_{k}"), layers.Dropout(0.1)] for k in range(count)]
    return keras.Sequential([keras.Input((4,)), *(x for block in blocks for x in block), layers.Dense(2, name="head")])


def residual(count):
    """Additions and activations that have no names, before and behind what has; a head that is as deep."""
    x = images = keras.Input((4, 4, 3))
    x = layers.Conv2D(3, 1, name="stem")(x)
    for k in range(1, count + 1):
        y = layers.BatchNormalization(name=f"block{k}_bn")(layers.ReLU()(x))
        y = layers.Conv2D(3, 1, name=f"block{k}_conv2")(layers.ReLU()(layers.Conv2D(3, 1, name=f"block{k}_conv1")(y)))
        x = layers.Add()([x, y])
    return keras.Model(images, layers.Dense(2, name="head")(layers.GlobalAveragePooling2D()(layers.ReLU()(x))))


def projected(count, first=0):
    """The first block has a convolution more; the last, like the others, an addition and a ReLU without names."""
    x = images = keras.Input((4, 4, 2))
    for k in range(count):
        y = layers.Conv2D(3, 3, padding="same", name=f"b{k}_conv")(x)
        x = layers.ReLU()(layers.Add()([y, layers.Conv2D(3, 1, name=f"b{k}_shortcut")(x) if k == first else x]))
    return keras.Model(images, layers.Dense(2, name="head")(layers.Flatten()(x)))


def towers(count):
    """Beside the stack another branch of the same class, and outputs of both: Keras lists them by depth."""
    inputs = keras.Input((4,))
    x, y = layers.Dense(4, name="stem")(inputs), layers.Dense(4, name="side0")(inputs)
    for k in range(count):
        x = x + layers.Dense(4, activation="relu", name=f"b{k}")(x)
    y = layers.Dense(4, name="side2")(layers.Dense(4, name="side1")(y))
    return keras.Model(inputs, {"both": layers.Dense(2, name="head")(layers.Concatenate()([x, y])), "side": y})


def conditioned(count):
    """Each block takes something else besides, which is the same for all."""
    inputs, condition = keras.Input((4,)), keras.Input((3,))
    x, c = inputs, layers.Dense(3, name="condition")(condition)
    for k in range(count):
        x = layers.Add()([layers.Dense(4, name=f"b{k}_x")(x), layers.Dense(4, name=f"b{k}_c")(c)])
    return keras.Model([inputs, condition], layers.Dense(2, name="head")(x))


def attended(count):
    inputs = keras.Input((3, 4))
    x = layers.Dense(4, name="stem")(inputs)
    for k in range(count):
        y = layers.LayerNormalization(name=f"l{k}_norm")(x)
        x = layers.Add()([x, layers.MultiHeadAttention(2, 2, name=f"l{k}_attention")(y, y)])
    return keras.Model(inputs, layers.Dense(2, name="head")(layers.LayerNormalization(name="norm")(x)))


def models_inside(count):
    """Blocks that are models, in a model that is one itself."""
    inner = keras.Input((4,))
    x = layers.Dense(4, name="stem")(inner)
    for k in range(count):
        own = keras.Input((4,))
        x = keras.Model(own, layers.Add()([own, layers.Dense(4, name="dense")(own)]), name=f"block{k}")(x)
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dense(2, name="head")(keras.Model(inner, x, name="backbone")(inputs)))


def wrapped(count):
    x = inputs = keras.Input((3, 4))
    for k in range(count):
        x = layers.Bidirectional(layers.SimpleRNN(2, return_sequences=True), name=f"rnn{k}")(x)
        x = layers.TimeDistributed(layers.Dense(4), name=f"each{k}")(x)
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


def two_stacks(count):
    x = inputs = keras.Input((4,))
    for part in ("enc", "dec"):
        for k in range(count):
            x = layers.Dense(4, activation="relu", name=f"{part}{k}")(x)
        x = layers.LayerNormalization(name=f"{part}_norm")(x)
    return keras.Model(inputs, x)


# What builds it, how its layers are named, the number of the first.
MODELS = [
    (chain, r"block_(\d+)", 0),
    (residual, r"block(\d+)_.*", 1),
    (projected, r"b(\d+)_.*", 0),
    (towers, r"b(\d+)", 0),
    (conditioned, r"b(\d+)_.*", 0),
    (attended, r"l(\d+)_.*", 0),
    (models_inside, r"backbone/block(\d+)", 0),
    (wrapped, r"(?:rnn|each)(\d+)", 0),
    (two_stacks, r"(?:enc|dec)(\d+)", 0),
]


def repeated(path, pattern, order, first=0):
    """Return the file of a model whose blocks follow one another in an order, counted from 0."""
    ranges = tuple((k + first, k + first) for k in order)
    return repeat_layers(open_source(Path(path)), [RepeatedLayers(Pattern(pattern), ranges)], as_model=True)


def given(model, base, pattern, order, first):
    """Give a model the values of the layers that its own come from, by their names."""
    known = {layer.name: layer for layer in base.layers}
    for layer in model.layers:
        found, name = re.fullmatch(pattern.removeprefix("backbone/"), layer.name), layer.name
        if found:
            number = order[int(found[1]) - first] + first
            name = f"{name[: found.start(1)]}{number}{name[found.end(1) :]}"
        if name == "backbone":
            given(layer, known[name], pattern, order, first)
        elif layer.weights:
            layer.set_weights(known[name].get_weights())
    return model


def outputs(model):
    random = np.random.default_rng(1)
    x = [random.normal(size=(2, *t.shape[1:])).astype("float32") for t in keras.tree.flatten(model.inputs)]
    return [np.asarray(y) for y in keras.tree.flatten(model(x if len(x) > 1 else x[0]))]


@pytest.mark.parametrize(("make", "pattern", "first"), MODELS)
def test_the_deeper_model_computes_what_one_of_that_depth_does(make, pattern, first):
    """Its configuration is built by Keras, and its weights are where Keras looks for them."""
    base, order = filled(make(3)), [0, 1, 2, 1, 2]
    base.save("base.keras")
    found = repeated("base.keras", pattern, order, first)
    assert not found.no_model
    model = keras.saving.deserialize_keras_object(json.loads(json.dumps(found.source.config)), safe_mode=True)
    from transferpipe.models.walk import walk

    walked = walk(model, "")
    assert [(g.path, [key for key, _ in g.entries]) for g in walked.groups if g.entries] == [
        (g.path, [key for key, _ in g.entries]) for g in found.source.groups if g.entries
    ]
    assert {w.name: w.shape for w in walked.catalog} == {w.name: w.shape for w in found.source.catalog}
    for weight in walked.catalog:
        walked.values[weight.name].assign(found.source.read(weight.name))
    keras.utils.clear_session()
    wanted = outputs(given(make(5), base, pattern, order, first))
    for ours, theirs in zip(outputs(model), wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def run(pattern, ranges, path="base.keras", save="deep.keras", **recipe):
    recipe = {
        "target": {"like": path, "repeat": {pattern: ranges}},
        "unmatched": "keep",
        "save": {"path": save},
    } | recipe
    Path("deep.yaml").write_text(json.dumps(recipe))
    return main(["run", "recipe=deep.yaml", "hydra.run.dir=out"])


def test_a_run_saves_it_and_keras_loads_it(capsys):
    base = filled(residual(2))
    base.compile("adam", "mse")
    base.optimizer.build(base.trainable_variables)
    base.save("base.keras")
    assert run(r"block(\d+)_.*", "1, 1-2", freeze=["block2_conv1"], save="deep.keras") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "optimizer state dropped (34 arrays): it is that of other layers" in printed
    model = keras.models.load_model("out/deep.keras", compile=False)
    assert [layer.name for layer in model.layers if not layer.trainable] == ["block2_conv1"]
    keras.utils.clear_session()
    wanted = outputs(given(residual(3), base, r"block(\d+)_.*", [0, 0, 1], 1))
    np.testing.assert_array_equal(outputs(model)[0], wanted[0])
    assert main(["verify", "out"]) == 0


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_whole_model_of_the_legacy_format_too():
    base = filled(residual(2))
    base.save("base.h5")
    assert run(r"block(\d+)_.*", "1-2,2", "base.h5", "deep.weights.h5") == 0
    model = residual(3)
    model.load_weights("out/deep.weights.h5")
    loaded = outputs(model)
    np.testing.assert_array_equal(loaded[0], outputs(given(model, base, r"block(\d+)_.*", [0, 1, 1], 1))[0])


def growing():
    x = inputs = keras.Input((4,))
    for k in range(2):
        x = layers.Dense(4 * k + 8, name=f"b{k}")(x)
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


def growing_chain():
    blocks = [layers.Dense(4 * k + 8, name=f"b{k}") for k in range(2)]
    return keras.Sequential([keras.Input((4,)), *blocks, layers.Dense(2, name="head")])


def crossing():
    x = y = inputs = keras.Input((4,))
    for k in range(2):
        x, y = layers.Dense(4, name=f"b{k}_x")(layers.Add()([x, y])), layers.Dense(4, name=f"b{k}_y")(x - y)
    return keras.Model(inputs, layers.Dense(2, name="head")(layers.Add()([x, y])))


def shared():
    inputs, twice = keras.Input((4,)), layers.Dense(4, name="b0")
    x = layers.Dense(4, name="b1")(twice(twice(inputs)))
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


def skipping():
    inputs = keras.Input((4,))
    skips = layers.Dense(4, name="e0")(inputs), layers.Dense(4, name="e1")(inputs)
    x = skips[1]
    for k in range(2):
        x = layers.Dense(4, name=f"b{k}")(layers.Add()([x, skips[1 - k]]))
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


def collected():
    inputs = keras.Input((4,))
    x = layers.Dense(4, name="b0")(inputs)
    y = layers.Dense(4, name="b1")(x)
    return keras.Model(inputs, layers.Dense(2, name="head")(layers.Concatenate(name="all")([x, y])))


def half_named():
    x = inputs = keras.Input((4,))
    for k in range(2):
        x = layers.BatchNormalization(name=f"norm_{k}")(layers.Dense(4, name=f"b{k}")(x))
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


def side_by_side():
    inputs = keras.Input((4,))
    x = layers.Add()([layers.Dense(4, name=f"b{k}")(inputs) for k in range(2)])
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


def around():
    inputs = keras.Input((4,))
    x = layers.Add(name="sum")([inputs, layers.Dense(4, name="b0")(inputs)])
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


@pytest.mark.parametrize(
    ("make", "order", "what"),
    [
        (growing, [0, 1, 1], "block 1 takes shape (None, 8), and the output of block 1 has shape (None, 12)"),
        (growing_chain, [0, 1, 0, 1], "block 0 takes shape (None, 4), and the output of block 1 has shape (None, 12)"),
        (
            growing,
            [0],
            "the layers behind block 1 take shape (None, 12), and the output of block 0 has shape (None, 8)",
        ),
        (crossing, [0, 1, 1], "block 1 takes more than one output of block 0 and those before it"),
        (shared, [0, 1, 1], "b0 is called 2 times: its weights are shared"),
        (skipping, [0, 1, 1], "block 1 takes the output of e0 besides, which the other blocks do not take"),
        (collected, [0, 1, 1], "the output of block 0 goes into all too, which is not of the next block"),
        (half_named, [0, 1, 1], "block 0 has norm_0 in it, whose weights the pattern does not name"),
        (side_by_side, [0, 1, 1], "its layers are not a row of blocks: b1 does not lie behind b0"),
        (around, [0, 0], "what block 0 takes goes around it, into sum"),
    ],
)
def test_what_cannot_be_repeated_is_named_and_its_weights_can(make, order, what):
    make().save("base.keras")
    found = repeated("base.keras", r"b(\d+)(?:_.)?", order)
    assert found.no_model.startswith(what)
    assert found.source.config is None
    names = {w.name.partition("/")[0] for w in found.source.catalog}
    assert {f"b{k}" for k in range(len(order))} <= {name.partition("_")[0] for name in names}


def test_the_order_is_that_of_keras():
    """Of layers that are called twice, models inside, unused inputs, arguments by name and several outputs."""
    one, two, idle = keras.Input((3, 4)), keras.Input((3, 4)), keras.Input((2,))
    inner = keras.Model(i := keras.Input((3, 4)), layers.Dense(4, name="in")(i), name="inner")
    dense = layers.Dense(4, name="dense")
    x = layers.MultiHeadAttention(1, 4, name="attention")(inner(one), key=dense(two), value=inner(two))
    y = layers.Concatenate(name="join")([dense(x), x * 2.0, layers.Dense(4, name="last")(one)])
    model = keras.Model([one, two, idle], {"b": y, "a": [layers.Flatten(name="flat")(x), dense(one)]})
    for built in (model, keras.Model.from_config(model.get_config())):
        graph = read_graph(json.loads(built.to_json()))
        assert keras_order(graph) == [operation.name for operation in built.operations]


def test_a_class_that_makes_its_layers_is_given_their_number():
    hub = pytest.importorskip("keras_hub")

    def made(count):
        keras.utils.clear_session()
        return hub.models.BartBackbone(9, count, 2, 8, 8, max_sequence_length=4)

    base = filled(made(2))
    base.save("base.keras")
    both, order = r"transformer_(?:en|de)coder_layer_(\d+)", [0, 1, 1]
    assert "transformer_decoder_layer_0" in repeated("base.keras", r"transformer_encoder_layer_(\d+)", order).no_model
    assert run(both, "0-1, 1") == 0
    model, wanted = keras.models.load_model("out/deep.keras"), given(made(3), base, both, order, 0)
    tokens = {f"{part}_token_ids": np.array([[1, 2, 3]]) for part in ("encoder", "decoder")}
    masks = {f"{part}_padding_mask": np.ones((1, 3), "int32") for part in ("encoder", "decoder")}
    for ours, theirs in zip(*(keras.tree.flatten(m(tokens | masks)) for m in (model, wanted)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
