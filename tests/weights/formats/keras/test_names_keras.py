"""What the layers of particular models are called, in the model and in its files, and what is refused."""

import inspect
import shutil
import zipfile

import h5py
import keras
import model_zoo as zoo
import numpy as np
import pytest
from keras import layers as kl

import transferpipe as tp
from transferpipe.errors import RecipeError
from transferpipe.models.walk import walk
from transferpipe.weights.formats import open_source
from transferpipe.weights.formats.keras.state import OPTIMIZERS
from transferpipe.weights.keras.layer_classes import BUILT_IN, snake_case


@pytest.fixture(autouse=True)
def made_up_names_start_over():
    keras.utils.clear_session(free_memory=False)


def layers_of(catalog):
    return list(dict.fromkeys(weight.layer for weight in catalog))


def names_of(build, tmp_path):
    """Return the layers' names in the model, after checking that its weights file gives the same."""
    keras.utils.clear_session(free_memory=False)
    model = build()
    model.save_weights(tmp_path / "m.weights.h5")
    names = layers_of(walk(model, "model").catalog)
    assert layers_of(open_source(tmp_path / "m.weights.h5").catalog) == names
    return names


def held(tmp_path, **parts):
    return names_of(zoo.held(**parts), tmp_path)


def test_a_sequential_in_an_attribute_goes_by_the_attribute_and_its_layers_by_their_names(tmp_path):
    assert held(tmp_path, block3=zoo.sequential_held) == ["block3/dense", "block3/dense_1"]


def test_layers_in_lists_and_dicts_go_by_their_place(tmp_path):
    names = held(tmp_path, blocks=lambda: [kl.Dense(4), kl.Dense(4), kl.Dense(4, name="tail")])
    assert names == ["blocks/dense", "blocks/dense_1", "blocks/tail"]
    names = held(tmp_path, arms=lambda: {"x": kl.Dense(4), "y": (kl.Dense(4), [kl.Dense(4)])})
    assert names == ["arms/dense", "arms/container/dense", "arms/container/container/dense"]


def test_a_given_name_wins_over_the_attribute(tmp_path):
    assert held(tmp_path, head=lambda: kl.Dense(4, name="entry")) == ["entry"]


def test_an_unnamed_layer_goes_by_its_attribute(tmp_path):
    names = held(tmp_path, a=lambda: kl.Dense(4), b=lambda: kl.Dense(4), core=zoo.Scaled, deep=lambda: zoo.Block(4))
    assert names == ["a", "b", "core", "deep/inner", "deep/norm"]


def test_layers_in_attributes_after_layers_go_by_their_names(tmp_path):
    """Keras saves them as `layers/<class>_<k>`: the attribute is not in the file."""
    assert held(tmp_path, z=lambda: kl.Dense(4, name="last"), _p=lambda: kl.Dense(4)) == ["last", "dense"]


def test_custom_layers_of_one_class_are_known_as_such_wherever_the_file_shows_the_class(tmp_path):
    linear = zoo.Linear
    assert held(tmp_path, a=lambda: linear(4), b=lambda: linear(4)) == ["a", "b"]
    assert held(tmp_path, a=lambda: linear(4), b=lambda: [linear(4, name="x")]) == ["a", "b/x"]
    assert held(tmp_path, a=lambda: linear(4), z=lambda: linear(4, name="x")) == ["a", "x"]


def test_a_single_custom_layer_that_looks_like_a_dense_goes_by_its_made_up_name(tmp_path):
    """It cannot be told from `self.core = Dense(4, name="linear")`, which goes by the name that was given."""
    assert held(tmp_path, core=lambda: zoo.Linear(4)) == ["linear"]


def test_the_segment_layers_is_left_out(tmp_path):
    """A custom layer with a list of that name cannot be told from a Sequential, so its name counts as given."""
    assert held(tmp_path, deep=zoo.Stack) == ["stack/dense", "stack/final"]


def test_a_shared_layer_is_listed_once(tmp_path):
    assert names_of(zoo.diamond, tmp_path) == ["alpha", "net/first", "net/norm", "net/dense_1"]
    assert names_of(zoo.shared, tmp_path) == ["both", "net/first", "net/norm", "net/dense"]


def test_parts_of_composite_layers(tmp_path):
    names = held(
        tmp_path,
        a=lambda: kl.Reshape((1, 4)),
        both=lambda: kl.Bidirectional(kl.LSTM(4, return_sequences=True)),
        both2=lambda: kl.Bidirectional(kl.LSTM(4, return_sequences=True, name="enc")),
        cells=lambda: kl.RNN([kl.LSTMCell(4), kl.GRUCell(4, name="mine")], return_sequences=True),
        each=lambda: kl.TimeDistributed(kl.Dense(4)),
        gru=lambda: kl.GRU(4, name="memory", return_sequences=True),
        inner=lambda: kl.RNN(zoo.UserCell(4)),
    )
    assert sorted(names) == [
        *("both/backward_layer/cell", "both/forward_layer/cell", "both2/backward_enc/cell", "both2/forward_enc/cell"),
        *("cells/cell/cells/lstm_cell", "cells/cell/cells/mine", "each/layer", "inner/cell", "memory/cell"),
    ]


def test_heads_of_attention_go_by_the_names_that_keras_gives_them(tmp_path):
    names = names_of(zoo.attention, tmp_path)
    for layer in ("multi_head_attention", "cross", "grouped_query_attention"):
        assert {f"{layer}/{part}" for part in ("query", "key", "value", "attention_output")} <= set(names)


def test_more_than_ten_layers_of_a_class_keep_their_order(tmp_path):
    names = names_of(zoo.many, tmp_path)
    assert names[:4] == ["conv2d", "batch_normalization", "conv2d_1", "batch_normalization_1"]
    assert names[20:24] == ["conv2d_10", "batch_normalization_10", "conv2d_11", "batch_normalization_11"]


def test_weights_of_the_model_itself_have_no_layer(tmp_path):
    assert names_of(zoo.bare, tmp_path) == ["", "dense"]


def test_a_model_that_keeps_layers_beyond_its_graph_lists_the_graph_first(tmp_path):
    assert names_of(zoo.Extended, tmp_path) == ["graph", "before", "zafter"]


def test_a_users_class_with_the_name_of_a_built_in_one_does_not_pass_for_it(tmp_path):
    class Attention(kl.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1], 4), name="w")
            self.u = self.add_weight(shape=(4,), name="u")

        def call(self, x):
            return x @ self.w + self.u

    model = zoo.stack((4,), Attention())
    model.save_weights(tmp_path / "m.weights.h5")
    ours = walk(model, "").catalog
    assert [w.name for w in ours] == ["attention/w", "attention/u"]
    assert ours["attention/w"].layer_class == f"{__name__}.Attention"
    assert [w.name for w in open_source(tmp_path / "m.weights.h5").catalog] == ["attention/0", "attention/1"]
    model.save(tmp_path / "m.keras")
    theirs = open_source(tmp_path / "m.keras").catalog
    assert [(w.name, w.layer_class) for w in theirs] == [(f"attention/{k}", f"{__name__}.Attention") for k in (0, 1)]


def test_an_archive_whose_weights_were_copied_by_name_keeps_the_order_of_its_configuration(tmp_path):
    zoo.many().save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive, zipfile.ZipFile(tmp_path / "copy.keras", "w") as result:
        for member in archive.namelist():
            path = tmp_path / "member"
            path.write_bytes(archive.read(member))
            if member.endswith(".h5"):
                with h5py.File(path) as file, h5py.File(tmp_path / "copy", "w", libver="latest") as copy:
                    for name in reversed(file):
                        file.copy(name, copy)
                path = tmp_path / "copy"
            result.writestr(member, path.read_bytes())
    assert list(open_source(tmp_path / "copy.keras").catalog) == list(open_source(tmp_path / "m.keras").catalog)


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        ({"a": lambda: [kl.Dense(4, name="x"), kl.Dense(4, name="x")]}, ["a/dense", "a/dense_1"]),
        ({"a": lambda: {"p": kl.Dense(4, name="x"), "q": [kl.Dense(4, name="x")]}}, ["a/x", "a/container/x"]),
        ({"a": lambda: kl.Dense(4, name="x"), "b": lambda: kl.Dense(4, name="x"), "c": lambda: kl.Dense(4, name="y")},
         ["a", "b", "y"]),
        ({"a": lambda: [zoo.Block(4, name="x"), keras.Sequential([kl.Dense(4, name="other")], name="x")]},
         ["a/block/inner", "a/block/norm", "a/sequential/other"]),
    ],
)  # fmt: skip
def test_layers_of_one_name_go_by_their_places(parts, names, tmp_path):
    """Keras saves and loads them, and what is said of one of them must reach that one."""
    assert held(tmp_path, **parts) == names


def test_layers_of_one_name_are_transferred_and_frozen_one_by_one(tmp_path):
    build = zoo.held(a=lambda: [kl.Dense(4, name="x"), kl.Dense(4, name="x")])
    source, target = build(), build()
    source.save_weights(tmp_path / "m.weights.h5")
    tp.transfer(tmp_path / "m.weights.h5", target, unmatched="same_name", freeze=["a/dense_1"])
    assert all(np.array_equal(x, y) for x, y in zip(source.weights, target.weights, strict=True))
    assert [layer.trainable for layer in target.a] == [True, False]


def test_layers_of_one_name_without_weights_are_not_refused(tmp_path):
    names = held(tmp_path, a=lambda: [kl.Dropout(0.1, name="x"), kl.Dense(4), kl.Dropout(0.1, name="x")])
    assert names == ["a/dense"]


def optional_in_an_attribute(**kwargs):
    model = zoo.held(a=lambda: kl.Dense(4), b=lambda: kl.BatchNormalization(name="stem_bn", **kwargs))()
    for k, weight in enumerate(model.b.weights):
        weight.assign(np.full(4, k + 1.0))
    return model


def test_gamma_never_becomes_beta_where_the_file_does_not_tell_the_class(tmp_path):
    path = tmp_path / "m.weights.h5"
    optional_in_an_attribute(scale=False).save_weights(path)
    target = optional_in_an_attribute(center=False)
    with pytest.raises(RecipeError, match="stem_bn/gamma: the file numbers the weights of this layer"):
        tp.transfer(path, target, unmatched="same_name")
    with pytest.raises(RecipeError, match=r"the file numbers the weights of this layer .*`pair: order`"):
        tp.transfer(path, target, mapping={"bn": {"to": "stem_bn", "from": "stem_bn"}}, unmatched="keep")
    whole = optional_in_an_attribute()
    whole.save_weights(tmp_path / "whole.weights.h5")
    plan = tp.plan(tmp_path / "whole.weights.h5", optional_in_an_attribute(), unmatched="same_name")
    pairs = {a.target: a.sources[0].name for a in plan.assignments}
    assert [pairs[f"stem_bn/{n}"] for n in ("gamma", "beta", "moving_mean")] == ["stem_bn/0", "stem_bn/1", "stem_bn/2"]


# State of training ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [zoo.tracked, zoo.fitted, zoo.fitted_inside])
def test_optimizers_and_metrics_are_beside_the_weights(build, tmp_path):
    model = build()
    model.save_weights(tmp_path / "m.weights.h5")
    source = open_source(tmp_path / "m.weights.h5")
    assert len(source.catalog) == len(walk(model, "").catalog)
    assert {w.name.split("/")[-2] for w in source.others} <= {"optimizer", "d_optimizer"}
    assert len(source.others) > 8


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_optimizer_of_keras_is_known(kind):
    assert inspect.isclass(getattr(keras.optimizers, kind, None)) or kind == "MultiOptimizer"


def test_no_optimizer_of_keras_is_missing():
    base = keras.optimizers.Optimizer
    found = {c.__name__ for c in vars(keras.optimizers).values() if inspect.isclass(c) and issubclass(c, base)}
    assert found <= set(OPTIMIZERS)


def write(path, groups):
    with h5py.File(path, "w") as file:
        for where, values in groups.items():
            group = file.create_group(f"{where}/vars" if where else "vars")
            for k, value in enumerate(values):
                group[str(k)] = value
    return path


def test_metric_state_of_keras_2_is_beside_the_weights(tmp_path):
    """Keras 2.12 to 2.15 wrote this format too, with metrics and without names."""
    scalar, vector = np.float32(0), np.zeros(200, "float32")
    path = write(
        tmp_path / "m.weights.h5",
        {
            "": [],
            "layers/dense": [np.zeros((4, 3)), np.zeros(3)],
            "layers/two_scalars": [scalar, scalar],
            "loss_tracker": [scalar, scalar],
            "metrics/auc": [vector] * 4,
            "metrics/mean": [scalar, scalar],
            "block/act": [scalar, scalar],
            "block/act/inner": [np.zeros(3)],
            "optimizer": [np.int64(3), scalar, np.zeros((4, 3))],
        },
    )
    source = open_source(path)
    assert set(layers_of(source.catalog)) == {"block/act", "block/act/inner", "dense", "two_scalars"}
    assert {w.layer for w in source.others} == {"loss_tracker", "metrics/auc", "metrics/mean", "optimizer"}


# Files without names --------------------------------------------------------------------------------------------------


def without_names(path, older):
    """Write `older` as Keras wrote it before it noted the layers' names."""
    if path.name.endswith(".keras"):
        inner = older.with_name("inner.h5")
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(older, "w") as result:
            for member in archive.namelist():
                inner.write_bytes(archive.read(member))
                if member.endswith(".h5"):
                    _strip(inner)
                result.writestr(member, inner.read_bytes())
    else:
        shutil.copy(path, older)
        _strip(older)
    return older


def _strip(path):
    with h5py.File(path, "r+") as file:
        found = []
        file.visititems(lambda name, item: found.append(name) if "name" in item.attrs else None)
        assert found
        for name in found:
            del file[name].attrs["name"]


@pytest.mark.parametrize(
    "name",
    [
        *("nested_twice", "twins", "shared", "unnamed", "many", "operators", "branches", "recurrent", "attention"),
        *("wrappers", "norms", "kernels", "embeddings", "customs", "fitted_inside", "quantized", "lookup"),
    ],
)
def test_names_of_an_older_archive_come_from_its_configuration(name, tmp_path):
    model = zoo.ZOO[name]()
    model.save(tmp_path / "m.keras")
    ours = open_source(tmp_path / "m.keras")
    older = open_source(without_names(tmp_path / "m.keras", tmp_path / "older.keras"))
    if name == "customs":  # what a custom layer is made of is not in the configuration
        tops = [[n.partition("/")[0] for n in layers_of(source.catalog)] for source in (older, ours)]
        assert tops[0] == tops[1]
    else:
        assert list(older.catalog) == list(ours.catalog)
    assert older.others == ours.others


def test_names_of_an_older_weights_file_are_the_paths_in_it(tmp_path):
    zoo.nested_twice().save_weights(tmp_path / "m.weights.h5")
    older = open_source(without_names(tmp_path / "m.weights.h5", tmp_path / "older.weights.h5")).catalog
    assert layers_of(older) == [
        *("sequential/functional/dense", "sequential/functional/batch_normalization", "sequential/functional/dense_1"),
        *("sequential/dense", "dense"),
    ]
    assert [w.own_name for w in older][:3] == ["kernel", "bias", "gamma"]


def test_an_attribute_called_like_a_class_says_nothing_of_the_class(tmp_path):
    model = zoo.held(conv2d=lambda: kl.Dense(4), blocks=lambda: [kl.Dense(4), kl.Dense(4)])()
    model.save_weights(tmp_path / "m.weights.h5")
    older = open_source(without_names(tmp_path / "m.weights.h5", tmp_path / "older.weights.h5")).catalog
    assert older["conv2d/0"].layer_class is None
    assert older["blocks/dense_1/kernel"].layer_class == "Dense"


def test_a_name_like_a_class_says_nothing_of_a_layer_that_class_cannot_be(tmp_path):
    zoo.held(a=lambda: kl.Dense(4, name="attention"))().save_weights(tmp_path / "m.weights.h5")
    catalog = open_source(tmp_path / "m.weights.h5").catalog
    assert [(w.name, w.layer_class) for w in catalog] == [("a/0", None), ("a/1", None)]


# What Keras has -------------------------------------------------------------------------------------------------------


def test_every_layer_of_keras_is_known_by_its_made_up_name():
    classes = {c for c in vars(keras.layers).values() if inspect.isclass(c) and issubclass(c, kl.Layer)}
    # Layers that nobody makes; and "layer_1" is rather a name that somebody gave.
    classes -= {kl.Layer, kl.Wrapper}
    assert len(classes) > 100
    assert {c.__name__: BUILT_IN.get(snake_case(c.__name__)) for c in classes} == {
        c.__name__: c.__name__ for c in classes
    }


def test_stems_are_those_of_keras():
    from keras.src.utils.naming import to_snake_case

    assert [snake_case(c) for c in BUILT_IN.values()] == [to_snake_case(c) for c in BUILT_IN.values()]


# Quantised layers -----------------------------------------------------------------------------------------------------


def quantised(layer, mode, lora=False):
    inputs = keras.Input((3,), dtype="int32" if "Embedding" in type(layer).__name__ else "float32")
    model = keras.Model(inputs, layer(inputs))
    layer.quantize(mode)
    if lora:
        layer.enable_lora(2)
    return model


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda: kl.Dense(4),
        lambda: kl.Dense(4, use_bias=False),
        lambda: kl.EinsumDense("ab,bc->ac", output_shape=4, bias_axes="c"),
        lambda: kl.Embedding(10, 8),
        lambda: kl.ReversibleEmbedding(10, 8, tie_weights=True),
        lambda: kl.ReversibleEmbedding(10, 8, tie_weights=False),
    ],
)
def test_files_of_a_quantised_layer_name_its_weights_as_the_model_does(make, mode, lora, tmp_path):
    layer = make()
    if mode == "float8" and (lora or "Embedding" in type(layer).__name__):
        pytest.skip("Keras does not do this")
    model = quantised(layer, mode, lora)
    model.save(tmp_path / "m.keras")
    model.save_weights(tmp_path / "m.weights.h5")
    names = [w.name for w in tp.catalog(model)]
    assert not any(n.rpartition("/")[2].isdigit() for n in names)
    for file in ("m.keras", "m.weights.h5"):
        assert [w.name for w in tp.catalog(tmp_path / file)] == names, file


@pytest.mark.parametrize("mode", ["gptq", "awq"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [kl.Dense, kl.EinsumDense])
def test_files_of_a_layer_in_groups_name_its_weights_as_the_model_does(kind, bias, mode, tmp_path):
    config = {"gptq": "GPTQConfig", "awq": "AWQConfig"}[mode]
    if not hasattr(keras.quantizers, config):
        pytest.skip(f"this Keras has no {mode}")
    layer = (
        kl.Dense(4, use_bias=bias)
        if kind is kl.Dense
        else kl.EinsumDense("ab,bc->ac", 4, bias_axes="c" if bias else None)
    )
    inputs = keras.Input((8,))
    model = keras.Model(inputs, layer(inputs))
    layer.quantize(mode, config=getattr(keras.quantizers, config)(None, None, group_size=4))
    model.save(tmp_path / "m.keras")
    model.save_weights(tmp_path / "m.weights.h5")
    names = [w.name for w in tp.catalog(model)]
    assert {n.rpartition("/")[2] for n in names} >= {"kernel", "kernel_scale", "g_idx"}
    for file in ("m.keras", "m.weights.h5"):
        assert [w.name for w in tp.catalog(tmp_path / file)] == names, file


def test_weights_of_a_gated_attention(tmp_path):
    inputs = keras.Input((4, 6))
    model = keras.Model(inputs, kl.MultiHeadAttention(2, 3, use_gate=True, name="m")(inputs, inputs))
    model.save_weights(tmp_path / "m.weights.h5")
    names = [w.name for w in tp.catalog(tmp_path / "m.weights.h5")]
    assert names == [w.name for w in tp.catalog(model)]
    assert "m/gate/kernel" in names


@pytest.mark.parametrize("lacking", ["scale", "center"])
def test_numbers_at_the_same_place_take_the_names_of_the_other_side(lacking, tmp_path):
    """A weights file cannot tell whether gamma or beta is missing: the other side can, both ways."""
    inputs = keras.Input((3,))
    model = keras.Model(inputs, kl.BatchNormalization(name="bn", **{lacking: False})(inputs))
    wanted = [np.full(3, i + 1.0, "float32") for i in range(3)]
    model.set_weights(wanted)
    model.save_weights(tmp_path / "numbers.weights.h5")
    model.save(tmp_path / "names.keras")
    assert "bn/0" in tp.catalog(tmp_path / "numbers.weights.h5")
    model.set_weights([np.zeros(3, "float32")] * 3)
    report = tp.transfer(tmp_path / "numbers.weights.h5", model, unmatched="same_name")
    assert [w.code for w in report.warnings] == ["numbered-weights"]  # gamma and beta have one shape
    assert [w.tolist() for w in model.get_weights()] == [w.tolist() for w in wanted]
    model.set_weights([np.zeros(3, "float32")] * 3)
    model.save_weights(tmp_path / "zeros.weights.h5")
    report = tp.transfer(
        *(tmp_path / "names.keras", {"path": str(tmp_path / "zeros.weights.h5")}),
        unmatched="same_name",
        save={"path": "o.weights.h5"},
        folder=tmp_path,
    )
    assert not report.warnings
    model.load_weights(tmp_path / "o.weights.h5")
    assert [w.tolist() for w in model.get_weights()] == [w.tolist() for w in wanted]
