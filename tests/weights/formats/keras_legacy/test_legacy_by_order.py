"""A model's own legacy file fits the model, whatever the names in it: Keras goes by the order of `layer.weights`."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from keras.src.legacy.saving import legacy_h5_format

import transferpipe as tp
from transferpipe.errors import RecipeError


class Unnamed(layers.Layer):
    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 3))
        self.b = self.add_weight(shape=(3,))

    def call(self, x):
        return ops.matmul(x, self.w) + self.b


class Held(layers.Layer):
    """Holds layers in a list and a dict, which Keras walks by the alphabet when it saves and not when it counts."""

    def __init__(self, **options):
        super().__init__(**options)
        self.steps = [layers.Dense(3), layers.Dense(3)]
        self.by_key = {"norm": layers.BatchNormalization(), "last": layers.Dense(3)}

    def build(self, shape):
        for layer in (*self.steps, *self.by_key.values()):
            layer.build(shape)

    def call(self, x):
        return self.by_key["last"](self.by_key["norm"](self.steps[1](self.steps[0](x))))


class Namesakes(layers.Layer):
    """Two weights of one name, which files number."""

    def build(self, shape):
        self.ws = [self.add_weight(shape=(3, 3), name="w", initializer="random_normal") for _ in range(2)]
        self.scale = self.add_weight(shape=(3,), name="scale")

    def call(self, x):
        return ops.matmul(ops.matmul(x, self.ws[0]), self.ws[1]) * self.scale


def model(kind, seed, name="a"):
    made = keras.Sequential([keras.Input((3,)), layers.Dense(3, name="first"), kind(name=name)])
    random = np.random.default_rng(seed)
    for v in made.weights:
        v.assign(np.abs(random.normal(size=v.shape)))
    return made


def arrays(made):
    return [np.asarray(w) for w in made.get_weights()]


RULES = {
    "layers": {"mapping": {"all": {"to": ".*"}}},
    "same name": {"unmatched": "same_name"},
    "renamed": {"mapping": {"a": {"to": "b", "from": "a"}}, "unmatched": "same_name"},
}


@pytest.mark.parametrize("kind", [Unnamed, Held])
@pytest.mark.parametrize("rules", RULES)
def test_a_models_own_legacy_file(kind, rules, tmp_path):
    source, target = model(kind, 0), model(kind, 1, "b" if rules == "renamed" else "a")
    legacy_h5_format.save_model_to_hdf5(source, str(tmp_path / "s.h5"))
    tp.transfer(tmp_path / "s.h5", target, **RULES[rules])
    assert all(map(np.array_equal, arrays(source), arrays(target)))


def test_roles_that_disagree_are_refused(tmp_path):
    class Other(layers.Layer):
        def build(self, shape):
            self.bias = self.add_weight(shape=(3,), name="bias")
            self.scale = self.add_weight(shape=(3,), name="scale")

    class Swapped(layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(3,), name="scale")
            self.shift = self.add_weight(shape=(3,), name="shift")

    legacy_h5_format.save_model_to_hdf5(model(Other, 0), str(tmp_path / "s.h5"))
    with pytest.raises(RecipeError, match="holds no 'shift'"):
        tp.plan(tmp_path / "s.h5", model(Swapped, 1), mapping={"all": {"to": ".*"}})


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_two_weights_of_one_name_go_by_their_numbers(suffix, tmp_path):
    source, target = model(Namesakes, 0), model(Namesakes, 1)
    path = tmp_path / f"s{suffix}"
    source.save(path) if suffix == ".keras" else source.save_weights(path)
    assert [w.name for w in tp.catalog(target)][2:] == ["a/0", "a/1", "a/scale"]
    tp.transfer(path, target, mapping={"all": {"to": ".*"}})
    assert all(map(np.array_equal, arrays(source), arrays(target)))


class Holding(keras.Model):
    """A model whose legacy file has the names of its layers, and not those of the attributes."""

    def __init__(self, shift=0):
        super().__init__()
        self.blocks = [keras.layers.Dense(4, name="one"), keras.layers.Dense(4)]
        self.head = {"a": keras.layers.Dense(4 + shift, name="last"), "b": keras.layers.BatchNormalization()}
        self.enc = keras.Sequential([keras.layers.Dense(4, name="in_it"), keras.layers.Dense(4)])

    def build(self, _):
        for layer in (*self.blocks, *self.head.values(), self.enc):
            layer.build((None, 4))
        self.built = True


def filled(model, seed):
    model.build((None, 4))
    for k, w in enumerate(model.weights):
        w.assign(np.random.default_rng((seed, k)).uniform(1, 2, w.shape))
    return model


@pytest.mark.parametrize("recipe", [{"unmatched": "same_name"}, {"mapping": {"all": {"to": ".*"}}},
                                    {"mapping": {"b": {"to": "blocks"}}, "unmatched": "keep"}])  # fmt: skip
def test_layers_in_lists_and_dicts_go_by_the_order_of_the_models_layers(recipe, tmp_path):
    source, target = filled(Holding(), 0), filled(Holding(), 1)
    legacy_h5_format.save_model_to_hdf5(source, str(tmp_path / "m.h5"))
    tp.transfer(tmp_path / "m.h5", target, **recipe)
    pairs = zip(source.weights, target.weights, strict=True)
    same = [np.array_equal(x, y) for x, y in pairs]
    assert all(same) if "unmatched" not in recipe or recipe["unmatched"] == "same_name" else sum(same) == 4


def test_another_shape_shows_that_they_are_other_layers(tmp_path):
    legacy_h5_format.save_model_to_hdf5(filled(Holding(), 0), str(tmp_path / "m.h5"))
    with pytest.raises(RecipeError, match="no source has a weight called blocks/one/kernel"):
        tp.transfer(tmp_path / "m.h5", filled(Holding(1), 1), unmatched="same_name")
