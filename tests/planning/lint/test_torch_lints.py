"""What torch's layout cannot settle by itself, and the plan warns of."""

import keras
import numpy as np
import pytest
from keras import layers as kl
from safetensors.numpy import save_file

import transferpipe as tp


def save(tmp_path, tensors, metadata="pt"):
    save_file({k: np.zeros(s, "float32") for k, s in tensors.items()}, tmp_path / "m.safetensors", {"format": metadata})
    return str(tmp_path / "m.safetensors")


def warnings(plan):
    return {w.code: w.text for w in plan.warnings if w.code in ("flatten-order", "epsilon", "reset-after")}


def flat(*between, shape=(7, 6, 5), nested=False):
    layers = [kl.Flatten(name="flat"), *between, kl.Dense(3, name="fc")]
    if nested:
        return keras.Sequential([keras.Input(shape), keras.Sequential(layers, name="head")])
    x = start = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(start, x)


def plan_flat(tmp_path, model, **rule):
    size = int(np.prod(model.input_shape[1:]))
    source = save(tmp_path, {"fc.weight": (3, size), "fc.bias": (3,)})
    return tp.plan(source, model, mapping={"r": {"to": "(?:.*/)?fc", "from": "fc", **rule}})


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_a_dense_behind_a_flatten(nested, as_file, tmp_path):
    model = flat(kl.Dropout(0.1), nested=nested)
    if as_file:
        model.save(tmp_path / "t.keras")
        found = tp.plan(
            save(tmp_path, {"fc.weight": (3, 210), "fc.bias": (3,)}),
            str(tmp_path / "t.keras"),
            mapping={"r": {"to": "(?:.*/)?fc", "from": "fc"}},
        )
    else:
        found = plan_flat(tmp_path, model)
    assert warnings(found) == {
        "flatten-order": (
            f"{'head/' * nested}fc follows a Flatten of a map [7, 6, 5], which torch flattens in another order: "
            "give its rule the transform {kernel: [{flatten_order: [5, 7, 6]}]}"
        )
    }


def test_the_transform_of_the_warning_settles_it(tmp_path):
    rule = {"transform": {"kernel": [{"flatten_order": [5, 7, 6]}]}}
    assert warnings(plan_flat(tmp_path, flat(), **rule)) == {}


@pytest.mark.parametrize("shape", [(1, 1, 5), (7, 6, 1), (8,)])
def test_maps_whose_order_does_not_matter(shape, tmp_path):
    assert warnings(plan_flat(tmp_path, flat(shape=shape))) == {}


def test_a_map_that_was_permuted_on_purpose(tmp_path):
    x = start = keras.Input((7, 6, 5))
    x = kl.Dense(3, name="fc")(kl.Flatten()(kl.Permute((3, 1, 2))(x)))
    assert warnings(plan_flat(tmp_path, keras.Model(start, x))) == {}


def test_another_layer_between(tmp_path):
    model = flat(kl.Dense(210, name="between"))
    rules = {"r": {"to": "fc"}}
    source = save(tmp_path, {"fc.weight": (3, 210), "fc.bias": (3,)})
    assert warnings(tp.plan(source, model, mapping=rules, unmatched="keep")) == {}


def norms(**keys):
    return keras.Sequential([keras.Input((4,)), *(kl.BatchNormalization(name=f"bn{i}", **keys) for i in range(5))])


NORMS = {f"bn{i}.{n}": (4,) for i in range(5) for n in ("weight", "bias", "running_mean", "running_var")}


def test_one_warning_of_epsilon(tmp_path):
    assert warnings(tp.plan(save(tmp_path, NORMS), norms(), unmatched="same_name")) == {
        "epsilon": (
            "bn0, bn1, bn2 and 2 more: epsilon is 0.001, Keras's default, and torch's default is 1e-05; weights do not "
            "carry it: check the original's configuration (eps), and build the target with its value"
        )
    }


@pytest.mark.parametrize("epsilon", [1e-5, 1e-12, 1e-6])
def test_no_warning_where_it_is_torchs_or_was_chosen(epsilon, tmp_path):
    assert warnings(tp.plan(save(tmp_path, NORMS), norms(epsilon=epsilon), unmatched="same_name")) == {}


def test_no_warnings_of_keras_weights(tmp_path):
    norms().save_weights(tmp_path / "a.weights.h5")
    assert warnings(tp.plan(str(tmp_path / "a.weights.h5"), norms(), unmatched="same_name")) == {}


def test_a_gru_that_resets_before(tmp_path):
    model = keras.Sequential([keras.Input((3, 4)), kl.GRU(2, reset_after=False, use_bias=False, name="g")])
    source = save(tmp_path, {"g.weight_ih_l0": (6, 4), "g.weight_hh_l0": (6, 2)})
    assert list(warnings(tp.plan(source, model, unmatched="same_name"))) == ["reset-after"]


def test_a_model_before_the_head(tmp_path):
    trunk = keras.Sequential([keras.Input((7, 6, 5)), kl.ReLU(), kl.Flatten()], name="trunk")
    model = keras.Sequential([keras.Input((7, 6, 5)), trunk, kl.Dropout(0.1), kl.Dense(3, name="fc")])
    assert list(warnings(plan_flat(tmp_path, model))) == ["flatten-order"]


def test_an_order_of_other_sizes_does_not_settle_it(tmp_path):
    rule = {"transform": {"kernel": [{"flatten_order": [7, 6, 5]}]}}
    (text,) = warnings(plan_flat(tmp_path, flat(), **rule)).values()
    assert (
        "in another order, and not in that of flatten_order(7, 6, 5): give its rule the transform {kernel: [{" in text
    )


@pytest.mark.parametrize("step", [{"reshape": [210, 3]}, {"take": {"axis": 0, "indices": list(range(210))}}])
def test_whoever_arranges_the_rows_by_hand_is_believed(step, tmp_path):
    assert warnings(plan_flat(tmp_path, flat(), transform={"kernel": [step]})) == {}


def test_other_transforms_do_not_settle_it(tmp_path):
    assert list(warnings(plan_flat(tmp_path, flat(), transform={"kernel": [{"scale": 2}]}))) == ["flatten-order"]


def test_without_a_rule(tmp_path):
    source = save(tmp_path, {"fc.weight": (3, 210), "fc.bias": (3,)})
    (warning,) = tp.plan(source, flat(), unmatched="same_name").warnings
    assert (warning.code, warning.where) == ("flatten-order", "unmatched")


def test_a_normalization_of_the_row(tmp_path):
    model = keras.Sequential([keras.Input((3, 2, 4)), kl.Flatten(), kl.BatchNormalization(name="bn", epsilon=1e-5)])
    names = ("weight", "bias", "running_mean", "running_var")
    source = save(tmp_path, {f"bn.{n}": (24,) for n in names})
    rule = {"r": {"to": "bn"}}
    assert list(warnings(tp.plan(source, model, mapping=rule))) == ["flatten-order"]
    rule["r"]["transform"] = [{"flatten_order": [4, 3, 2]}]
    assert warnings(tp.plan(source, model, mapping=rule)) == {}


def written(*layers, shape=(3, 2, 4)):
    model = keras.Sequential([keras.Input(shape), *layers])
    plan = tp.plan(None, model, unmatched="keep", save={"path": "m.npz", "layout": "torch"})
    return {w.code: w.text for w in plan.warnings if w.where == "save.layout"}


def test_rows_that_are_written_in_the_order_of_keras():
    assert written(kl.Flatten(), kl.Dense(2, name="fc")) == {
        "flatten-order": (
            "fc/kernel is written with its rows in the order in which Keras flattens a map [3, 2, 4]: "
            "torch's Flatten has the channels first"
        )
    }


def test_an_epsilon_that_is_not_written():
    found = written(kl.BatchNormalization(name="bn"))
    assert list(found) == ["epsilon"]
    assert found["epsilon"].endswith("weights do not carry it: build the modules with the target's")


@pytest.mark.parametrize("lacks", ["scale", "center"])
def test_a_normalization_that_torch_has_only_whole(lacks):
    found = written(kl.BatchNormalization(name="bn", epsilon=1e-5, **{lacks: False}))
    assert found == {
        "half-affine": (
            "bn: torch's has weight and bias, or neither; what lacks is not written, so load it with strict=False"
        )
    }


def test_what_torch_has_just_so():
    layers = kl.BatchNormalization(scale=False, center=False, epsilon=1e-5), kl.LayerNormalization(epsilon=1e-5)
    assert written(*layers, kl.GlobalAveragePooling2D(), kl.Dense(2)) == {}
