"""Legacy files that Keras itself wrote, against the `.keras` file of the same model: names, order and values."""

import h5py
import keras
import numpy as np
import pytest
from keras import layers as kl
from keras.src.legacy.saving import legacy_h5_format
from layer_zoo import BUILDERS, attention, nested, plain, small

from transferpipe.errors import RecipeError
from transferpipe.weights.formats import open_source


def save_everywhere(model, folder):
    """Save `model` with random weights as `.h5`, as legacy weights without a configuration, and as `.keras`."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(rng.uniform(0.1, 1, variable.shape))
    model.save(folder / "model.h5")
    model.save(folder / "model.keras")
    with h5py.File(folder / "weights.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return folder


def assert_equals_the_keras_file(folder):
    legacy, native = open_source(folder / "model.h5"), open_source(folder / "model.keras")
    assert (legacy.format, native.format) == ("h5", "keras")
    assert [(w.name, w.shape, w.dtype, w.layer_class) for w in legacy.catalog] == [
        (w.name, w.shape, w.dtype, w.layer_class) for w in native.catalog
    ]
    for weight in legacy.catalog:
        assert np.array_equal(legacy.read(weight.name), native.read(weight.name)), weight.name


@pytest.fixture(scope="module", params=BUILDERS, ids=lambda b: b.__name__)
def saved(request, tmp_path_factory):
    keras.utils.clear_session()
    return save_everywhere(request.param(), tmp_path_factory.mktemp(request.param.__name__))


def test_a_whole_model_equals_the_keras_file(saved):
    assert_equals_the_keras_file(saved)


def test_weights_alone_have_the_same_values_and_keep_the_outermost_layer(saved):
    whole, alone = open_source(saved / "model.h5"), open_source(saved / "weights.h5")
    assert (alone.format, len(alone.catalog)) == ("h5", len(whole.catalog))
    names = {w.where: w.name for w in whole.catalog}
    for weight in alone.catalog:
        name = names[f"model_weights/{weight.where}"]
        assert weight.name.split("/")[0] == name.split("/")[0]
        assert weight.own_name == name.rpartition("/")[2]
        assert np.array_equal(alone.read(weight.name), whole.read(name))


@pytest.mark.parametrize("build", [plain, attention])
def test_weights_alone_of_layers_that_are_no_models_have_the_same_names(tmp_path, build):
    save_everywhere(build(), tmp_path)
    whole, alone = open_source(tmp_path / "model.h5"), open_source(tmp_path / "weights.h5")
    assert {w.name for w in alone.catalog} == {w.name for w in whole.catalog}


def test_two_inner_layers_of_one_name(tmp_path):
    save_everywhere(nested(last="a"), tmp_path)
    assert_equals_the_keras_file(tmp_path)
    with pytest.raises(
        RecipeError, match=r"middle/a/kernel: two weights .* middle/a/kernel and .* middle/middle/a/kernel"
    ):
        open_source(tmp_path / "weights.h5")


def test_optimizer_weights_are_no_weights(tmp_path):
    model = small("m")
    model.compile("adam", "mse")
    model.fit(np.zeros((2, 8)), np.zeros((2, 4)), verbose=0)
    model.save(tmp_path / "m.h5")
    source = open_source(tmp_path / "m.h5")
    assert len(source.catalog) == len(model.weights)
    assert len(source.others) == len(model.optimizer.variables)
    assert {w.name.split("/")[0] for w in source.others} == {"optimizer_weights"}


def test_bfloat16(tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, kl.Dense(2, dtype="bfloat16", name="d")(inputs))
    model.save(tmp_path / "m.h5")
    source = open_source(tmp_path / "m.h5")
    assert source.catalog["d/kernel"].dtype == "bfloat16"
    expected = keras.ops.convert_to_numpy(keras.ops.cast(model.get_layer("d").kernel, "float32"))
    assert np.array_equal(source.read("d/kernel").astype("float32"), expected)


def test_subclassed_model(tmp_path):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.body = small("inner")
            self.temperature = self.add_weight(shape=(), name="temperature", initializer="ones")

        def call(self, x):
            return self.body(x) * self.temperature

    model = Net()
    model(np.zeros((1, 8)))
    model.save(tmp_path / "m.h5")
    source = open_source(tmp_path / "m.h5")
    assert [w.name for w in source.catalog][:2] == ["temperature", "inner/a/kernel"]
    assert source.read("temperature") == 1


def test_layer_names_cut_into_several_attributes(tmp_path):
    model = keras.Sequential([keras.Input((1,))] + [kl.Dense(1, name=f"{'x' * 900}{k:03}") for k in range(80)])
    model.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5") as file:
        assert "layer_names1" in file["model_weights"].attrs
    source = open_source(tmp_path / "m.h5")
    assert [w.layer for w in source.catalog][::2] == [layer.name for layer in model.layers]
