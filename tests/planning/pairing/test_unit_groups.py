"""`units` where several units belong together: groups of convolutions, and what is normalized with others."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

import transferpipe as tp
from transferpipe.errors import RecipeError
from transferpipe.planning.transforms import parse_transform
from transferpipe.planning.transforms.protocol import TransformError

WIDEN = {"all": {"to": ".*", "units": {"widen": "copies"}}}
KEEP = {"all": {"to": ".*", "units": {"keep": "largest"}}}
follows = pytest.mark.follows


def filled(model, seed=0):
    random = np.random.default_rng(seed)
    for variable in model.weights:
        value = random.normal(size=variable.shape)
        variable.assign((np.abs(value) + 0.5 if "variance" in variable.path else value / 2).astype("float32"))
    return model


def convolved(taken, groups, made):
    """A grouped convolution between others, with a normalization behind it."""
    x = images = keras.Input((4, 4, 2))
    x = layers.Conv2D(taken, 1, activation="relu", name="one")(x)
    x = layers.Conv2D(made, 3, padding="same", groups=groups, activation="tanh", name="groups")(x)
    x = layers.Flatten()(layers.BatchNormalization(name="norm")(x))
    return keras.Model(images, layers.Dense(3, name="last")(x))


def bottleneck(width, groups):
    """ResNeXt's block."""
    x = images = keras.Input((4, 4, 2))
    x = layers.Conv2D(6, 1, name="stem")(x)
    y = layers.ReLU()(layers.BatchNormalization(name="bn1")(layers.Conv2D(width, 1, name="conv1")(x)))
    y = layers.Conv2D(width, 3, padding="same", groups=groups, use_bias=False, name="conv2")(y)
    y = layers.Conv2D(6, 1, name="conv3")(layers.ReLU()(layers.BatchNormalization(name="bn2")(y)))
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.Add()([x, y])))
    return keras.Model(images, layers.Dense(3, name="last")(x))


def normed_groups(width, groups):
    x = images = keras.Input((4, 4, 2))
    x = layers.GroupNormalization(groups, name="norm")(layers.Conv2D(width, 1, name="one")(x))
    y = layers.Conv2D(width, 3, padding="same", groups=groups, name="groups")(x)
    return keras.Model(images, layers.Dense(3, name="last")(layers.Flatten()(layers.Add()([x, y]))))


def concatenated(norm, *widths):
    """What several layers make, normalized together."""
    inputs = keras.Input((4, 3))
    made = [layers.Dense(width, name=name)(inputs) for name, width in zip(("one", "two"), widths, strict=False)]
    x = layers.Concatenate(name="join")(made if len(made) > 1 else [*made, inputs])
    return keras.Model(inputs, layers.Dense(3, name="last")(norm()(x)))


def in_groups(groups):
    return lambda *widths: concatenated(lambda: layers.GroupNormalization(groups, name="norm"), *widths)


def over_all(*widths):
    return concatenated(lambda: layers.LayerNormalization(name="norm"), *widths)


def to_length_one(*widths):
    return concatenated(lambda: layers.UnitNormalization(name="norm"), *widths)


def short(width, activation="relu"):
    """Of length one in front of something else that takes them, and beside it as they are."""
    inputs = keras.Input((4, 3))
    x = layers.Add()(
        [layers.Dense(width, activation=activation, name="one")(inputs), layers.Dense(width, name="two")(inputs)]
    )
    y = layers.MultiHeadAttention(2, 3, output_shape=3, name="attention")(
        z := layers.UnitNormalization(name="norm")(x), z
    )
    return keras.Model(inputs, layers.Add()([layers.Dense(3, name="last")(x), y]))


def short_maps(width, other):
    x = images = keras.Input((5, 5, 2))
    x = layers.DepthwiseConv2D(2, use_bias=False, name="depth")(layers.Conv2D(width, 1, name="one")(x))
    x = layers.UnitNormalization(name="norm")(layers.MaxPooling2D()(layers.LeakyReLU()(x)))
    x = layers.Flatten()(layers.SeparableConv2D(other, 1, name="two")(x))
    return keras.Model(images, layers.Dense(3, name="last")(x))


def outputs(model):
    return np.asarray(model(np.random.default_rng(3).normal(size=(5, *model.inputs[0].shape[1:])).astype("float32")))


def saved(model, path):
    model.save(path)
    return str(path)


# What is built, its widths in the source, and in the target.
WIDER = [
    (convolved, (4, 2, 4), (6, 2, 10)),
    (convolved, (8, 4, 4), (12, 4, 8)),
    (convolved, (4, 2, 4), (4, 2, 8)),
    (convolved, (4, 2, 4), (8, 4, 8)),
    (bottleneck, (8, 4), (12, 4)),
    (bottleneck, (8, 4), (16, 8)),
    (normed_groups, (4, 2), (8, 2)),
    ((in_groups(3), in_groups(3)), (4, 8), (8, 16)),
    ((in_groups(3), in_groups(4)), (4, 8), (8, 8)),
    ((in_groups(2), in_groups(2)), (3, 5), (6, 10)),
    (over_all, (3, 5), (6, 10)),
    (to_length_one, (3, 4), (5, 9)),
    (to_length_one, (3,), (7,)),
    (short, (4,), (7,)),
    (short_maps, (3, 4), (5, 6)),
]


@pytest.mark.parametrize(("make", "here", "there"), WIDER)
def test_a_wider_network_computes_what_the_narrower_one_does(make, here, there, tmp_path):
    builders = make if isinstance(make, tuple) else (make, make)
    keras.utils.clear_session()
    source, target = filled(builders[0](*here)), filled(builders[1](*there), 1)
    tp.transfer(saved(source, tmp_path / "a.keras"), target, mapping=WIDEN, strict=True)
    np.testing.assert_allclose(outputs(target), outputs(source), rtol=1e-4, atol=1e-5)


def refused(path, target, mapping=WIDEN):
    with pytest.raises(RecipeError) as caught:
        tp.plan(path, target, mapping=mapping)
    return caught.value.problems[0]


@follows("_Chooser._is_even: give all that it", "_Chooser._is_even: give it the source's")
def test_what_is_normalized_together_becomes_more_together(tmp_path):
    path = saved(filled(over_all(3, 5)), tmp_path / "a.keras")
    found = refused(path, over_all(6, 5))
    assert found.what.endswith(
        "one has 3 units in the source and 6 in the target, and norm normalizes them with others"
    )
    assert found.fix == "give all that it normalizes (one, two) the same multiple of their units"
    assert refused(path, over_all(4, 5)).fix == found.fix
    assert tp.plan(path, over_all(6, 10), mapping=WIDEN).units
    other = saved(filled(over_all(3)), tmp_path / "b.keras")  # beside an input of the model
    assert refused(other, over_all(6)).fix == "give it the source's width"
    assert tp.plan(other, over_all(3), mapping=WIDEN).assignments


@pytest.mark.parametrize(
    ("make", "there", "mapping", "why"),
    [
        (in_groups(2), (2, 4), KEEP, "a group of norm has units of two layers"),
        (in_groups(2), (5, 5), WIDEN, "norm has groups of another number and size"),
        (
            lambda width: short(width, "tanh"),
            (8,),
            WIDEN,
            "norm divides them by their norm, which copies change, and one",
        ),
    ],
)
def test_why_a_width_cannot_change(make, there, mapping, why, tmp_path):
    here = (4,) if len(there) < 2 else (3, 5)
    found = refused(saved(filled(make(*here)), tmp_path / "a.keras"), make(*there), mapping)
    assert why in found.what
    assert found.fix == "give it the source's width"


def test_every_group_keeps_its_own_units(tmp_path):
    """By numbers, and by the largest norms: of each group as many, and what it takes of them alone."""
    source = filled(convolved(8, 2, 8))
    path, kernel = saved(source, tmp_path / "a.keras"), source.get_layer("groups").get_weights()[0]
    target = filled(convolved(4, 2, 4), 1)

    def parts(taken, made):
        return np.concatenate([kernel[:, :, taken[g]][..., 4 * g + np.array(made[g])] for g in range(2)], -1)

    units = {"indices": {"one": [0, 1, 5, 6], "groups": [3, 2, 7, 4]}}
    tp.transfer(path, target, mapping={"all": {"to": ".*", "units": units}}, strict=True)
    assert np.array_equal(target.get_layer("groups").get_weights()[0], parts([[0, 1], [1, 2]], [[3, 2], [3, 0]]))
    tp.transfer(path, target, mapping=KEEP, strict=True)
    sizes = [np.abs(source.get_layer(n).get_weights()[0].astype("float64")).sum((0, 1, 2)) for n in ("one", "groups")]
    largest = [np.sort(np.argsort(-s.reshape(2, 4), axis=1)[:, :2], axis=1) for s in sizes]
    assert np.array_equal(target.get_layer("groups").get_weights()[0], parts(*largest))
    mixed = {"all": {"to": ".*", "units": {"indices": {"one": [0, 1, 2, 5], "groups": [0, 1, 4, 5]}}}}
    assert refused(path, target, mixed).fix == "give each 2 numbers of one group of 4"


def test_units_of_a_norm_may_be_left_out(tmp_path):
    """What stays is of length one by itself."""
    source = filled(to_length_one(3, 4))
    path, target = saved(source, tmp_path / "a.keras"), filled(to_length_one(2, 3), 1)
    tp.transfer(path, target, mapping=KEEP, strict=True)
    kept = [
        np.sort(np.argsort(-np.abs(source.get_layer(name).get_weights()[0].astype("float64")).sum(0))[:count])
        for name, count in (("one", 2), ("two", 3))
    ]
    for name, units in zip(("one", "two"), kept, strict=True):
        assert np.array_equal(
            target.get_layer(name).get_weights()[0], source.get_layer(name).get_weights()[0][:, units]
        )
    rows = list(itertools.chain(kept[0], kept[1] + 3))
    assert np.array_equal(target.get_layer("last").get_weights()[0], source.get_layer("last").get_weights()[0][rows])


@follows("TakeUnits._by_group: take as many of")
def test_a_step_takes_as_many_units_of_each_group():
    kernel = np.arange(2 * 6, dtype="float32").reshape(2, 6)  # two groups of two, which make three each
    step = {"axis": -2, "size": 4, "groups": 2}
    with pytest.raises(TransformError, match="group 0 takes units of another"):
        parse_transform({"units": {**step, "indices": [0, 2, 3, 3]}}).apply([kernel])
    taken = parse_transform({"units": {**step, "indices": [1, 0, 3, 3], "share": True}})
    assert taken.shape([(2, 6)]) == (2, 6)
    wanted = np.concatenate([kernel[[1, 0], :3], kernel[[1, 1], 3:] / 2], 1)
    np.testing.assert_array_equal(taken.apply([kernel]), wanted)
