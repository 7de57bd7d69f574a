"""Whether a target's layers have weights in its file: without them, or with others, Keras would refuse the copy."""

import json

import h5py
import numpy as np
import pytest
from configured_files import DENSE, WRITERS, layer

from transferpipe.errors import FileError, UnsafeError
from transferpipe.weights.formats import open_source
from transferpipe.weights.keras.filled import check_filled

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
