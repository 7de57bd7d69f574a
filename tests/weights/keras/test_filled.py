"""Whether a target's layers have weights in its file: without them, or with others, Keras would refuse the copy."""

import json

import h5py
import numpy as np
import pytest
from configured_files import DENSE, WRITERS, layer

from transferpipe.errors import FileError, UnsafeError
from transferpipe.weights.formats import open_source
from transferpipe.weights.keras.filled import check_filled
from transferpipe.weights.keras.network import keras_network
from transferpipe.weights.sample_shapes import sample_shapes

INPUT = layer("InputLayer", batch_shape=[None, 4], name="i")


def model(*layers):
    """Return a model of the layer that has weights, and others."""
    return {"class_name": "Sequential", "module": "keras", "registered_name": None,
            "config": {"name": "m", "layers": [INPUT, *layers]}}  # fmt: skip


@pytest.fixture(params=WRITERS)
def check(request, tmp_path):
    return lambda *layers: check_filled(
        open_source(WRITERS[request.param](model(*layers), tmp_path / f"m{request.param}")).catalog
    )


@pytest.mark.follows("check_filled: the file is damaged:")
@pytest.mark.parametrize(
    "empty",
    [
        [layer("Dense", name="x", units=3)],
        [layer("Reshape", name="r", target_shape=[1, 1, 3]), layer("Conv2D", name="x", filters=2, kernel_size=1)],
        [layer("BatchNormalization", name="x")],
        [layer("RepeatVector", name="r", n=2), layer("LSTM", name="x", units=2)],
        [{**model(layer("Dense", name="x", units=3)), "config": {"name": "inner", "layers": [INPUT, layer("Dense", name="x", units=3)]}}],
    ],
)  # fmt: skip
def test_a_layer_without_weights(check, empty):
    with pytest.raises(
        FileError, match=r"has layers of which the file holds no weights: (inner/)?x -> the file is damaged"
    ):
        check(DENSE, *empty)
    check(DENSE)


@pytest.mark.follows("check_filled: the file is damaged: #2")
def test_a_layer_whose_weights_are_narrower(check):
    with pytest.raises(
        UnsafeError, match=r"layer 'd': .* declares units: 17, and no axis of its weights is longer than 4"
    ):
        check(layer(name="d", units=17))
    check(layer(name="d", units=3))


def widened(*layers, size=4):
    """Return the layer that has weights behind others, and an input of this size."""
    told = model(*layers)
    told["config"]["layers"][0] = layer(
        "InputLayer", batch_shape=[None, *([size] if type(size) is int else size)], name="i"
    )
    return told


WIDE = {
    "Flatten": ([layer("Flatten", name="f"), DENSE], (100, 1000)),
    "Reshape": ([layer("Reshape", name="f", target_shape=[-1]), DENSE], (100, 1000)),
    "Concatenate of repeated": ([layer("RepeatVector", name="r", n=100), layer("Flatten", name="f"), DENSE], (4,)),
    "upsampled": ([layer("UpSampling1D", name="u", size=50), layer("Flatten", name="f"), DENSE], (5, 4)),
    "channels": ([layer("Conv2D", name="d", filters=3, kernel_size=1)], (2, 2, 100)),
    "channels first": (
        [layer("Conv2D", name="d", filters=3, kernel_size=1, data_format="channels_first")],
        (100, 2, 2),
    ),
    "cell": ([layer("LSTM", name="d", units=1)], (2, 100)),
    "statistics": ([layer("BatchNormalization", name="d", axis=1)], (100, 2, 2)),
}


@pytest.mark.follows("_check_geometry: the file is damaged: #2")
@pytest.mark.parametrize("kind", WIDE)
def test_a_layer_whose_input_is_wider_than_its_weights(kind, tmp_path):
    layers, size = WIDE[kind]
    for suffix, write in WRITERS.items():
        source = open_source(write(widened(*layers, size=size), tmp_path / f"m{suffix}"))
        with pytest.raises(UnsafeError, match=r"layer 'd': \d[\d,]* values go into it .* longer than 4"):
            check_filled(source.catalog)


@pytest.mark.follows("_check_geometry: the file is damaged:")
def test_a_layer_that_gives_more_than_any_machine_holds(check):
    larger = [layer("UpSampling1D", name=f"u{i}", size=10**5) for i in range(3)]
    with pytest.raises(
        UnsafeError, match=r"layer 'u2': its configuration makes 3,0{3},0{3},0{3},0{3},0{3} values of one"
    ):
        check(DENSE, layer("RepeatVector", name="r", n=1), *larger)
    check(DENSE, layer("RepeatVector", name="r", n=1), *larger[:2])


def test_shapes_by_settings_are_those_of_keras():
    from keras import Input, Model, layers

    inputs = Input((17, 23, 5))
    x = layers.Conv2D(6, 3, strides=2)(inputs)
    x = layers.ZeroPadding2D(((1, 2), (3, 0)))(layers.UpSampling2D((2, 3))(x))
    x = layers.SeparableConv2D(8, 3, padding="same", strides=3)(layers.Conv2DTranspose(4, 3, strides=2)(x))
    x = layers.MaxPooling2D()(layers.DepthwiseConv2D(3, depth_multiplier=3)(layers.Cropping2D(1)(x)))
    y = layers.LSTM(5, return_sequences=True)(layers.Reshape((-1, 24))(layers.Permute((3, 1, 2))(x)))
    y = layers.GRU(7)(layers.Conv1D(4, 3, padding="causal", dilation_rate=2)(layers.BatchNormalization()(y)))
    x = layers.Multiply()([x, layers.GlobalMaxPooling2D(keepdims=True)(x)])
    z = layers.Concatenate()([y, layers.Dense(9)(layers.Flatten()(x))])
    z = layers.Add()([z, layers.Rescaling(2.0)(z)])
    model = Model(inputs, layers.GlobalAveragePooling1D()(layers.RepeatVector(3)(z)))
    found = sample_shapes(keras_network(json.loads(model.to_json()), {}))
    assert {name: after for name, (_, after) in found.items()} == {
        each.name: each.output.shape[1:] for each in model.layers
    }


@pytest.mark.parametrize(
    "more",
    [
        [],
        [layer("Dropout", name="x", rate=0.5), layer("LayerNormalization", name="y", scale=False, center=False)],
        # Another's class, of which nobody knows whether it has weights.
        [layer("Dense", "my_layers", name="x", units=3)],
        # A layer of several models is saved with the first of them.
        [{**model(), "config": {"name": "inner", "layers": [INPUT, DENSE]}}],
    ],
)
def test_what_has_its_weights_or_needs_none(check, more):
    check(DENSE, *more)


def test_packed_integers(check):
    check(layer(name="d", units=8))  # of int4, two in a byte


def test_the_directions_of_a_bidirectional_go_by_its_own_names(tmp_path):
    """Keras 2 writes what the user called the layer that runs backwards, and its weights under another name."""
    directions = {"there": "forward_there", "back": "backward_back"}
    there, back = (layer("LSTM", name=name, units=2, go_backwards=name == "back") for name in directions)
    both = layer("Bidirectional", name="both", layer=there, backward_layer=back, merge_mode="concat")
    sequence = layer("InputLayer", batch_input_shape=[None, 5, 4], name="i")
    config = {"class_name": "Sequential", "config": {"name": "m", "layers": [sequence, both]}}
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["model_config"], file.attrs["keras_version"] = json.dumps(config).encode(), b"2.13.1"
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [b"both"]
        shapes = {"kernel": (4, 8), "recurrent_kernel": (2, 8), "bias": (8,)}
        names = {f"both/{d}/lstm_cell/{own}:0": shape for d in directions.values() for own, shape in shapes.items()}
        group.create_group("both").attrs["weight_names"] = [name.encode() for name in names]
        for name, shape in names.items():
            group["both"][name] = np.ones(shape, "f4")
    check_filled(open_source(tmp_path / "m.h5").catalog)
