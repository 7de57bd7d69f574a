"""The walk over a model that Keras takes to save it, recorded: whose each group is, what can be assigned or trained."""

import keras
import model_zoo as zoo
import numpy as np
import pytest

import transferpipe as tp
from transferpipe.errors import RecipeError
from transferpipe.models.walk import walk
from transferpipe.weights.formats import open_source


@pytest.fixture(autouse=True)
def made_up_names_start_over():
    keras.utils.clear_session(free_memory=False)


def built(model):
    model(np.zeros((2, 4), "float32"))
    return model


def test_every_layer_is_the_one_that_keras_saves_there():
    model = zoo.moody()
    one, two = model._parts["one"], model._parts["two"]
    layers = walk(model, "").layers
    # `fresh` comes first by name: a list that holds a dict of a list and a layer, and so on.
    inner = "fresh/container/container"
    lists = [f"{inner}/dense", f"{inner}/container/dense", f"{inner}/container/container/dense"]
    assert list(layers) == ["", *lists, "fresh/container/dense"]
    assert [id(layer) for layer in layers.values()] == [id(x) for x in (model, one[0], one[1][0], one[1][1][0], two)]


def test_a_property_that_gives_its_layer_only_once_is_asked_once():
    model = built(zoo.Fickle())
    walked = walk(model, "")
    assert [w.name for w in walked.catalog] == ["dense/kernel", "dense/bias"]
    assert walked.layers["dense"] is model._layer
    assert model.asked == 1


def test_values_are_the_models_own_variables():
    model = zoo.dense_net()
    walked = walk(model, "")
    assert walked.values["first/kernel"] is model.get_layer("first").kernel
    model.get_layer("first").kernel.assign(np.full((4, 4), 3.0))
    assert (walked.read("first/kernel") == 3).all()


def test_moving_statistics_are_not_trainable_and_a_frozen_layer_still_could_be():
    model = zoo.dense_net()
    model.get_layer("first").trainable = False
    walked = walk(model, "")
    assert "first/kernel" in walked.trainable
    assert {w.name for w in walked.catalog} - walked.trainable == {"norm/moving_mean", "norm/moving_variance"}
    assert not walked.fixed
    assert not walked.switched_off


def test_a_weight_that_a_layer_computes_when_it_is_saved_is_fixed():
    class Computed(keras.layers.Layer):
        def build(self, shape):
            self.raw = self.add_weight(shape=(3,), name="raw")

        def save_own_variables(self, store):
            store["doubled"] = keras.ops.convert_to_numpy(self.raw) * 2

        def load_own_variables(self, store):
            self.raw.assign(store["doubled"] / 2)

        def call(self, x):
            return x * self.raw

    walked = walk(zoo.stack((3,), Computed(name="odd")), "")
    assert [w.name for w in walked.catalog] == ["odd/doubled"]
    assert walked.fixed == {"odd/doubled"}


def test_a_layer_that_saves_what_no_weight_holds_is_named():
    class Written(keras.layers.Layer):
        def save_own_variables(self, store):
            store["note"] = "a text"

        def call(self, x):
            return x

    with pytest.raises(RecipeError, match=r"Written cannot save its weights: ValueError: Invalid dtype.*save_own_vari"):
        walk(zoo.stack((3,), Written(name="odd")), "")


def test_unnamed_weights_keep_their_numbers():
    assert [w.name for w in walk(zoo.stack((4,), zoo.Nameless(name="n")), "").catalog] == ["n/0", "n/1"]


def test_metrics_optimizers_and_seeds_are_not_weights():
    assert {w.layer for w in walk(zoo.tracked(), "").catalog} == {"dense", "also_small", "two_scalars"}
    keras.utils.clear_session(free_memory=False)
    assert {w.layer for w in walk(zoo.dropouts(), "").catalog} == {"dense", "dense_1"}


# Models whose configuration cannot be written ------------------------------------------------------------------------


@pytest.fixture
def unrecorded(tmp_path):
    model = zoo.held(a=lambda: keras.layers.Dense(4), b=lambda: keras.layers.Dense(4))()
    model.save_weights(tmp_path / "m.weights.h5")
    for variable in model.variables:
        variable.assign(variable + 1)
    return model, tmp_path / "m.weights.h5"


def test_a_model_without_configuration_takes_a_transfer(unrecorded):
    model, path = unrecorded
    report = tp.transfer(path, model, unmatched="same_name", freeze=["a"])
    assert report.verdict.weights == "pass"
    assert (model.a.kernel.numpy() == open_source(path).read("a/kernel")).all()
    assert not model.a.trainable
    assert str(tp.plan(path, model, unmatched="same_name"))


@pytest.mark.parametrize("suffix", [".weights.h5", ".npz", ".safetensors"])
def test_a_model_without_configuration_is_saved_as_weights(unrecorded, suffix, tmp_path):
    model, path = unrecorded
    tp.transfer(path, model, unmatched="same_name", folder=tmp_path, save={"path": f"out{suffix}"})
    source = open_source(path)
    again = open_source(tmp_path / f"out{suffix}")
    for name in ("a/kernel", "a/bias", "b/kernel", "b/bias"):
        assert (again.read(name) == source.read(name)).all()
    if suffix == ".weights.h5":
        model.load_weights(tmp_path / "out.weights.h5")


def test_a_model_without_configuration_cannot_be_saved_whole(unrecorded, tmp_path):
    model, path = unrecorded
    before = model.a.kernel.numpy()
    with pytest.raises(RecipeError) as refusal:
        tp.transfer(path, model, unmatched="same_name", folder=tmp_path, save={"path": "out.keras"})
    for part in ("Held 'held'", "its configuration cannot be written", "the parts are not recorded", ".weights.h5"):
        assert part in str(refusal.value)
    assert not (tmp_path / "out.keras").exists()
    assert (model.a.kernel.numpy() == before).all()
