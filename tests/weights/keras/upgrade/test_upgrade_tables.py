"""Configurations of older Keras, written in their spellings, as data: what is expected is Keras 3's documentation."""

import importlib

import pytest

from transferpipe.errors import RecipeError
from transferpipe.weights.keras.upgrade.classes import ARGUMENTS, CLASSES, GONE, MERGES, MODULES
from transferpipe.weights.keras.upgrade.model import upgrade_model
from transferpipe.weights.keras.upgrade.operations import NoSuchOperationError, upgrade_operation

BASE = ("name", "trainable", "dtype", "activity_regularizer")  # of every layer


def layer(class_name, **config):
    return {"class_name": class_name, "config": {"name": "x", **config}}


def upgraded(class_name, version="2.2.4", **config):
    """Return what a layer's arguments become, and what is said of it."""
    first = layer("InputLayer", batch_input_shape=[None, 9, 9, 3], dtype="float32")
    model = {"class_name": "Sequential", "config": {"name": "s", "layers": [first, layer(class_name, **config)]}}
    found = upgrade_model(model, "old.h5", version)
    new = found.config["config"]["layers"][1]
    return new["class_name"], new["config"], found.notes


KERAS_1 = {
    ("Convolution2D", "Conv2D"): (
        {"nb_filter": 4, "nb_row": 3, "nb_col": 5, "subsample": [2, 2], "border_mode": "same", "dim_ordering": "tf"},
        {"filters": 4, "kernel_size": [3, 5], "strides": [2, 2], "padding": "same", "data_format": "channels_last"},
    ),
    ("Convolution1D", "Conv1D"): (
        {"nb_filter": 4, "filter_length": 3, "subsample_length": 2, "bias": False},
        {"filters": 4, "kernel_size": 3, "strides": 2, "use_bias": False},
    ),
    ("Convolution3D", "Conv3D"): (
        {"nb_filter": 2, "kernel_dim1": 1, "kernel_dim2": 2, "kernel_dim3": 3, "dim_ordering": "th"},
        {"filters": 2, "kernel_size": [1, 2, 3], "data_format": "channels_first"},
    ),
    ("AtrousConvolution2D", "Conv2D"): (
        {"nb_filter": 4, "nb_row": 3, "nb_col": 3, "atrous_rate": [2, 2]},
        {"filters": 4, "kernel_size": [3, 3], "dilation_rate": [2, 2]},
    ),
    ("Dense", "Dense"): (
        {"output_dim": 7, "activation": "tanh", "bias": True, "input_dim": 3},
        {"units": 7, "activation": "tanh", "use_bias": True},
    ),
    ("Embedding", "Embedding"): (
        {"input_dim": 9, "output_dim": 4, "mask_zero": True, "input_length": 5, "dropout": 0.0},
        {"input_dim": 9, "output_dim": 4, "mask_zero": True},
    ),
    ("LSTM", "LSTM"): (
        {"output_dim": 3, "inner_activation": "sigmoid", "dropout_W": 0.1, "dropout_U": 0.2, "consume_less": "cpu"},
        {"units": 3, "recurrent_activation": "sigmoid", "dropout": 0.1, "recurrent_dropout": 0.2},
    ),
    ("MaxPooling1D", "MaxPooling1D"): (
        {"pool_length": 3, "stride": 2, "border_mode": "valid"},
        {"pool_size": 3, "strides": 2, "padding": "valid"},
    ),
    ("Dropout", "Dropout"): ({"p": 0.3}, {"rate": 0.3}),
    ("GaussianNoise", "GaussianNoise"): ({"sigma": 0.3}, {"stddev": 0.3}),
    ("UpSampling1D", "UpSampling1D"): ({"length": 3}, {"size": 3}),
    ("Merge", "Concatenate"): ({"mode": "concat", "concat_axis": 1}, {"axis": 1, "trainable": True}),
    ("Merge", "Dot"): ({"mode": "cos", "dot_axes": [1, 2]}, {"axes": [1, 2], "normalize": True, "trainable": True}),
}
KERAS_2 = {
    ("CuDNNLSTM", "LSTM"): ({"units": 3}, {"units": 3, "activation": "tanh", "recurrent_activation": "sigmoid"}),
    ("CuDNNGRU", "GRU"): (
        {"units": 3},
        {"units": 3, "activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": True},
    ),
    ("GRU", "GRU"): ({"units": 3}, {"units": 3, "reset_after": False}),
    ("BatchNormalizationV1", "BatchNormalization"): (
        {"axis": [3], "fused": True, "renorm": True, "renorm_clipping": {}, "virtual_batch_size": None},
        {"axis": 3},
    ),
    ("LeakyReLU", "LeakyReLU"): ({"alpha": {"type": "ndarray", "value": 0.3}}, {"negative_slope": 0.3}),
    ("ThresholdedReLU", "ReLU"): ({"theta": 0.5}, {"threshold": 0.5}),
    ("CategoryEncoding", "CategoryEncoding"): (
        {"max_tokens": 5, "output_mode": "binary"},
        {"num_tokens": 5, "output_mode": "multi_hot"},
    ),
    ("Dense", "Dense"): (
        {"units": 3, "dtype": {"class_name": "Policy", "config": {"name": "mixed_float16"}}},
        {"units": 3, "dtype": "mixed_float16"},
    ),
}


@pytest.mark.parametrize("classes, arguments", KERAS_1.items(), ids=lambda v: v[0] if isinstance(v[0], str) else "")
def test_arguments_of_keras_1_get_their_names_of_today(classes, arguments):
    old, expected = arguments
    kind, config, notes = upgraded(classes[0], "1.2.2", **old)
    assert (kind, config, notes) == (classes[1], {"name": "x", **expected}, ())


@pytest.mark.parametrize("classes, arguments", KERAS_2.items(), ids=lambda v: v[0] if isinstance(v[0], str) else "")
def test_arguments_of_keras_2_get_their_names_of_today(classes, arguments):
    old, expected = arguments
    kind, config, _ = upgraded(classes[0], **old)
    assert (kind, config) == (classes[1], {"name": "x", **expected})


@pytest.mark.parametrize(
    "old, module, new",
    [
        ("he_normal", "keras.initializers", ("HeNormal", {})),
        (
            {"class_name": "VarianceScaling", "config": {"scale": 2.0, "mode": "fan_in", "distribution": "normal"}},
            "keras.initializers",
            ("VarianceScaling", {"scale": 2.0, "mode": "fan_in", "distribution": "truncated_normal"}),
        ),
        ("uniform", "keras.initializers", ("RandomUniform", {})),
    ],
)
def test_initializers_are_those_of_today(old, module, new):
    made = upgraded("Dense", units=2, kernel_initializer=old)[1]["kernel_initializer"]
    assert (made["module"], made["class_name"], made["config"]) == (module, *new)


def test_regularizers_and_constraints_of_keras_1_stay():
    old = {"W_regularizer": {"name": "WeightRegularizer", "l1": 0.0, "l2": 0.5}, "output_dim": 2}
    config = upgraded("Dense", "1.0.8", **old, W_constraint={"name": "MaxNorm", "m": 2, "axis": 0})[1]
    assert config["kernel_regularizer"]["config"] == {"l1": 0.0, "l2": 0.5}
    assert config["kernel_constraint"]["config"] == {"max_value": 2, "axis": 0}


def test_what_only_training_uses_may_be_left_out_and_is_said():
    _, config, notes = upgraded("Dense", units=2, kernel_regularizer={"class_name": "Mine", "config": {}})
    assert "kernel_regularizer" not in config
    assert len(notes) == 1 and notes[0].startswith("x: kernel_regularizer is left out")


@pytest.mark.parametrize("version, old", [("1.2.2", True), ("2.2.4-tf", True), (None, True), ("3.0.0", False)])
def test_the_slope_of_hard_sigmoid_follows_the_version(version, old):
    _, config, notes = upgraded("Dense", version, units=2, activation="hard_sigmoid")
    if old:
        slope, clip = config["activation"]["config"]["layers"]
        assert (slope["config"]["scale"], slope["config"]["offset"], clip["config"]["max_value"]) == (0.2, 0.5, 1.0)
        assert "hard_sigmoid" in notes[0]
    else:
        assert config["activation"] == "hard_sigmoid" and not notes


@pytest.mark.parametrize(
    "class_name, config, says",
    [
        ("Lambda", {"function": ["4wEAAA==", None, None], "function_type": "lambda"}, "is a Lambda"),
        ("LocallyConnected2D", {"filters": 2}, "Keras 3 has no such layer"),
        ("MyLayer", {}, "is a MyLayer, which is not a class of Keras"),
        ("Custom>MyLayer", {}, "is a MyLayer, which is not a class of Keras"),
        ("Dense", {"units": 2, "activation": "my_function"}, "computes with the function my_function"),
        ("Merge", {"mode": "lambda"}, "is a Merge with a function of its own"),
        ("BatchNormalization", {"mode": 1}, "mode=1"),
        ("BatchNormalization", {"axis": [1, 2]}, "Keras 3 takes one"),
        ("LSTM", {"units": 2, "time_major": True}, "time_major=True"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(class_name, config, says):
    with pytest.raises(RecipeError) as refused:
        upgraded(class_name, **config)
    assert says in str(refused.value)
    assert "old.h5: layer 'x'" in str(refused.value)


def test_all_that_cannot_be_built_is_said_at_once():
    odd = [
        layer(kind, name=f"{kind.lower()}{i}") for kind in ("Lambda", "Mine") for i in range(1 if kind == "Mine" else 7)
    ]
    layers = [layer("InputLayer", batch_input_shape=[None, 3]), *odd]
    model = {"class_name": "Sequential", "config": layers}  # a list, as Keras 1 and 2.0 had it
    with pytest.raises(RecipeError) as refused:
        upgrade_model(model, "old.h5", None)
    many, one = refused.value.problems
    listed = "'lambda0', 'lambda1', 'lambda2', 'lambda3', 'lambda4' and 2 more"
    assert (many.where, many.what.partition(":")[0]) == (f"old.h5: layers {listed}", "each is a Lambda")
    assert (one.where, one.what.partition(",")[0]) == ("old.h5: layer 'mine0'", "is a Mine")


@pytest.mark.parametrize("config", [None, {}, [], {"class_name": "MyModel", "config": {"width": 3}}])
def test_a_configuration_without_layers_is_refused(config):
    with pytest.raises(RecipeError, match="tells of no layers"):
        upgrade_model(config, "old.h5", "2.4.0")


def test_a_nesting_without_end_is_refused():
    model = {"class_name": "Sequential", "config": {"name": "s", "layers": []}}
    for _ in range(60):
        model = {"class_name": "Sequential", "config": {"name": "s", "layers": [model]}}
    with pytest.raises(RecipeError, match="levels deep"):
        upgrade_model(model, "old.h5", "2.4.0")


def test_every_name_of_old_leads_to_a_class_that_is_known():
    assert {*CLASSES.values(), *MERGES.values()} <= ARGUMENTS.keys()
    assert not GONE.keys() & ARGUMENTS.keys()


def test_every_argument_is_one_of_keras_3():
    keras = pytest.importorskip("keras")
    import importlib
    import inspect

    for name, known in ARGUMENTS.items():
        module = importlib.import_module(MODULES[name]) if name in MODULES else keras.layers
        cls = getattr(module, name)
        takes = dict(inspect.signature(cls).parameters)
        if issubclass(cls, keras.layers.RNN):  # its further arguments go there
            takes |= inspect.signature(keras.layers.RNN).parameters
        assert known - set(BASE) <= {*takes}, name
        if not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
            assert known <= {*takes}, name


CODE = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
ABSTRACT = {"Layer", "Wrapper"}


def test_every_layer_of_keras_is_known():
    keras = pytest.importorskip("keras")
    layers = {
        name: value
        for name, value in vars(keras.layers).items()
        if isinstance(value, type) and issubclass(value, keras.Layer)
    }
    written = {value.__name__ for value in layers.values()}
    assert layers.keys() | written <= ARGUMENTS.keys() | CLASSES.keys() | CODE | ABSTRACT
    own = {
        name
        for name, module in MODULES.items()
        if issubclass(getattr(importlib.import_module(module), name), keras.Layer)
    }
    assert own == MODULES.keys()


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("size", "stride"), [(3, 2), (2, 3), (3, 3), (4, 1), (1, 2)])
def test_the_size_that_a_deconvolution_of_keras_1_was_built_for(padding, size, stride):
    """Nothing is said of one that Conv2DTranspose gives by itself, from the input that a convolution makes of it."""
    keras = pytest.importorskip("keras")
    today = keras.layers.Conv2DTranspose(1, size, strides=stride, padding=padding)
    for side in range(size, size + 7):
        before = -(-side // stride) if padding == "same" else (side - size) // stride + 1
        own = today.compute_output_shape((None, before, before, 1))[1]
        config = {"nb_filter": 1, "nb_row": size, "nb_col": size, "subsample": [stride, stride], "dim_ordering": "tf"}
        config |= {"name": "x", "border_mode": padding, "output_shape": [None, side, side, 1]}
        first = layer("InputLayer", batch_input_shape=[None, before, before, 3], dtype="float32")
        layers = [first, {"class_name": "Deconvolution2D", "config": config}]
        model = {"class_name": "Sequential", "config": {"name": "s", "layers": layers}}
        found = upgrade_model(model, "old.h5", "1.2.2")
        assert (found.doubts == ()) == (own == side), side


def test_a_norm_over_the_whole_tensor_is_not_taken_for_one_over_the_last_axis():
    # tf.math.l2_normalize divides by the norm over all axes unless it is given some.
    operation = upgrade_operation("math.l2_normalize", "x", {"axis": 1})
    assert (operation.class_name, operation.settings) == ("UnitNormalization", {"axis": 1})
    with pytest.raises(NoSuchOperationError, match="l2_normalize over the whole tensor"):
        upgrade_operation("math.l2_normalize", "x", {"axis": None})


@pytest.mark.parametrize(
    ("function", "given", "says"),
    [
        ("where", {}, "tf.where that gives places"),
        ("compat.v1.pad", {"paddings": [[0, 0]], "mode": "EDGE"}, "tf.pad in the mode 'edge'"),
        ("split", {"num_or_size_splits": [2, -1]}, r"tf.split into parts of \[2, -1\]"),
        ("nn.bias_add", {"bias": [1.0], "data_format": "NCHW"}, "another axis than the last"),
        ("gather", {"indices": [0], "batch_dims": 1}, "tf.gather with batch_dims"),
        ("math.cumsum", {"axis": 1, "exclusive": True}, "tf.math.cumsum with exclusive"),
        ("norm", {"ord": 2, "axis": [0, 1]}, r"tf.norm of the order 2 along \[0, 1\]"),
    ],
)
def test_an_operation_that_keras_3_has_in_another_form_is_refused(function, given, says):
    with pytest.raises(NoSuchOperationError, match=says):
        upgrade_operation(function, "x", given)


@pytest.mark.parametrize("name, config", [("AddLoss", {"unconditional": False}), ("AddMetric", {"metric_name": "m"})])
def test_what_a_model_adds_up_in_training_gives_what_it_takes(name, config):
    assert upgraded(name, **config) == (
        "Identity",
        {"name": "x"},
        (f"x: {name} is left out: it matters only for training",),
    )


@pytest.mark.parametrize("constants", [{"a": 1.0}, {"-1": 1.0}, [1.0], {"5": 1.0}, "1", 1])
def test_constants_of_a_graph_without_a_place_are_refused(constants):
    node = layer("TensorFlowOpLayer", node_def={"op": "Mul"}, constants=constants)
    first = {**layer("InputLayer", name="i", batch_input_shape=[None, 3]), "name": "i", "inbound_nodes": []}
    second = {**node, "name": "x", "inbound_nodes": [[["i", 0, 0, {}]]]}
    graph = {"name": "m", "layers": [first, second], "input_layers": [["i", 0, 0]], "output_layers": [["x", 0, 0]]}
    with pytest.raises(RecipeError, match="with constants that have no place among its inputs"):
        upgrade_model({"class_name": "Model", "config": graph}, "old.h5", "2.3.0")
