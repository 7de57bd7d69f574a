"""What ``freeze`` makes of the whole model, seen from the root as Keras sees it."""

import dataclasses

import pytest
from compact import codes, plan_of, problems_of, structure

from transferpipe.planning.structure import LayerState, loaded_flags

WEIGHTS = """
    enc/conv/kernel 2x3
    enc/bn/gamma 3
    enc/bn/beta 3
    enc/bn/moving_mean 3
    enc/bn/moving_variance 3
    head/kernel 3x4
    head/bias 4
"""
LAYERS = """
    . Functional
    enc Functional
    head Dense
    flatten Flatten
    enc/conv Dense
    enc/bn BatchNormalization
    enc/drop Dropout
"""
TRUNK = {"trunk": {"to": "enc"}}


def plan_frozen(freeze, layers=LAYERS, source="x", mapping=None, **keys):
    return plan_of(structure(WEIGHTS, layers), source, mapping or {}, **{"unmatched": "keep", **keys}, freeze=freeze)


def freezing(freeze, layers=LAYERS, **keys):
    return plan_frozen(freeze, layers, **keys).freezing


def refused(freeze, **keys):
    return problems_of(structure(WEIGHTS, LAYERS), "x", **{"unmatched": "keep", **keys}, freeze=freeze)


def test_nothing_is_frozen_unless_asked_for():
    found = freezing(None)
    assert found.layers == found.frozen_weights == found.stored_statistics == ()
    assert (found.trainable_parameters, found.parameters) == (6 + 3 + 3 + 12 + 4, 6 + 4 * 3 + 12 + 4)
    assert found.batch_norms == ("enc/bn",)


def test_a_layer_is_frozen_with_everything_below():
    found = freezing(["enc"])
    assert found.layers == ("enc", "enc/conv", "enc/bn", "enc/drop")
    assert found.frozen_weights == tuple(WEIGHTS.split()[:10:2])
    assert found.trainable_parameters == 16
    assert found.stored_statistics == ("enc/bn",)


def test_one_layer():
    found = freezing(["enc/conv"])
    assert (found.layers, found.frozen_weights) == (("enc/conv",), ("enc/conv/kernel",))
    assert found.stored_statistics == ()
    assert freezing(["enc/bn"]).stored_statistics == ("enc/bn",)


def test_a_pattern_over_several_layers_and_layers_without_weights():
    assert freezing(["head|flatten", ".*/drop"]).layers == ("head", "flatten", "enc/drop")


def test_what_was_frozen_before_is_not_switched_off_again():
    layers = LAYERS.replace("enc Functional", "enc Functional off").replace("enc/conv Dense", "enc/conv Dense off")
    found = freezing(["enc/conv"], layers)
    assert found.layers == ()
    assert "enc/conv/kernel" in found.frozen_weights


def test_a_frozen_root_freezes_everything():
    found = freezing(None, LAYERS.replace(". Functional", ". Functional off"))
    assert (found.trainable_parameters, len(found.frozen_weights)) == (0, 7)


def test_a_layer_switched_on_again_below_a_frozen_one_trains():
    """``base.trainable = False; base.layers[-1].trainable = True`` trains that layer: measured with Keras 3.15."""
    layers = LAYERS.replace("enc Functional", "enc Functional off").replace("enc/drop", "enc/drop off")
    found = freezing(None, layers.replace("enc/bn BatchNormalization", "enc/bn BatchNormalization off"))
    assert found.frozen_weights == tuple(f"enc/bn/{n}" for n in ("gamma", "beta", "moving_mean", "moving_variance"))
    assert found.trainable_parameters == 6 + 16
    assert freezing(["enc"], layers).trainable_parameters == 16


def test_what_is_above_a_layer_but_the_root_does_not_decide():
    """Keras asks the root's flag and each variable's own, and a variable has the flag of its layer."""
    layers = LAYERS.replace("enc Functional", "enc Functional off").replace(
        "enc/conv Dense", "enc/conv Dense unrecorded"
    )
    assert freezing(None, layers).frozen_weights == ()
    off = layers.replace("enc/conv Dense", "enc/conv Dense off")
    assert {name.rpartition("/")[0] for name in freezing(None, off).frozen_weights} == {"enc/conv"}


@pytest.mark.parametrize("holder, flag", [("LSTM", False), ("MultiHeadAttention", True), ("ConvLSTM2D", True)])
def test_parts_that_a_configuration_does_not_record_are_loaded_as_their_layer_makes_them(holder, flag):
    states = [LayerState("", "Functional", True, True), LayerState("m", holder, False, True)]
    loaded = loaded_flags([*states, LayerState("m/part", "Dense", True, False)])
    assert [layer.trainable for layer in loaded] == [True, False, flag]


def test_own_variables_of_a_model_are_its_layers():
    found = plan_of(structure("w\n enc/w", ". Model off\n enc Dense"), "x", unmatched="keep").freezing
    assert found.frozen_weights == ("w", "enc/w")


def test_containers_that_are_no_layers():
    target = structure("blocks/a/k\n blocks/b/k\n head/k", ". Model\n head Dense\n blocks/a Dense\n blocks/b Dense")
    found = plan_of(target, "x", unmatched="keep", freeze=["blocks"]).freezing
    assert (found.layers, found.frozen_weights) == (("blocks/a", "blocks/b"), ("blocks/a/k", "blocks/b/k"))


# Transferred --------------------------------------------------------------------------------------------------------


def test_transferred_means_layers_all_of_whose_weights_came_from_a_source():
    found = freezing("transferred", source=WEIGHTS, mapping={"k": {"to": "enc/conv"}, "h": {"to": "head/bias"}})
    assert found.layers == ("enc/conv",)
    found = freezing(["transferred", "flatten"], source=WEIGHTS, mapping=TRUNK)
    assert found.layers == ("enc", "flatten", "enc/conv", "enc/bn", "enc/drop")


def test_what_differs_in_shape_is_not_transferred():
    mapping = {"h": {"to": "head", "on_mismatch": "keep"}, "c": {"to": "enc/conv"}}
    found = freezing("transferred", source=WEIGHTS.replace("head/kernel 3x4", "head/kernel 3x5"), mapping=mapping)
    assert found.layers == ("enc/conv",)


def test_transferred_where_nothing_is():
    assert refused("transferred") == [
        "freeze: 'transferred' matches nothing: no layer gets all of its weights from a source"
    ]


def test_a_rule_that_fails_is_the_only_problem():
    (text,) = refused("transferred", mapping={"r": {"to": "enc", "from": "gone"}})
    assert text.startswith("mapping.r.from")


# Patterns that match nothing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("enc/cnov", "'enc/cnov' matches no layer of the target -> did you mean 'enc/conv', 'enc/bn', 'enc/drop'?"),
        ("zzzzz", "'zzzzz' matches no layer of the target"),
        (
            "head/kernel",
            "'head/kernel' matches no layer of the target; it matches the weight head/kernel, and freezing is set on"
            " layers -> name its layer: head",
        ),
    ],
)
def test_a_pattern_that_matches_nothing(pattern, text):
    assert refused([pattern]) == [f"freeze: {text}"]


# Warnings -----------------------------------------------------------------------------------------------------------


def warned(plan, code):
    return [(w.where, w.text) for w in plan.warnings if w.code == code]


def test_a_frozen_layer_that_kept_fresh_weights():
    mapping = {"conv": {"to": "enc/conv"}, "bn": {"to": "enc/bn", "from": None}}
    found = warned(plan_frozen(["enc"], source=WEIGHTS, mapping=mapping), "frozen-fresh")
    assert found[0] == (
        "mapping.bn",
        "4 weights are frozen and keep their initial values, which training will never change: enc/bn/gamma, enc/bn/beta, "
        "enc/bn/moving_mean and 1 more",
    )
    assert len(found) == 1
    found = warned(plan_frozen(["head"], source=WEIGHTS, mapping={"conv": {"to": "enc/conv"}}), "frozen-fresh")
    assert [w for w, _ in found] == ["unmatched"]


def test_freezing_without_a_transfer_is_no_mistake():
    assert warned(plan_frozen(["enc"], source=None), "frozen-fresh") == []


def test_nothing_trainable():
    assert warned(plan_frozen([".*"]), "nothing-trainable") == [("freeze", "no parameter of the result is trainable")]
    off = LAYERS.replace(". Functional", ". Functional off")
    assert warned(plan_frozen(None, off), "nothing-trainable") == [
        ("freeze", "no parameter of the result is trainable (the model itself is frozen, and a frozen ancestor wins)")
    ]
    assert "nothing-trainable" not in codes(plan_of(structure("bn/moving_mean 3"), "x", unmatched="keep"))


def test_freezing_that_a_file_of_weights_does_not_hold():
    found = warned(plan_frozen(["head"], save="w.npz"), "freeze-not-saved")
    assert found == [("save", "w.npz holds weights only, not which layers are frozen")]
    assert warned(plan_frozen(["head"], save={"also": ["w.npz"]}), "freeze-not-saved") == []  # model.keras holds it
    assert warned(plan_frozen(["head"], save={"also": ["b.keras"]}), "freeze-not-saved") == []
    assert warned(plan_frozen(None, save="w.npz"), "freeze-not-saved") == []


def test_freezing_that_a_configuration_does_not_record():
    layers = LAYERS.replace("enc/bn BatchNormalization", "enc/bn BatchNormalization unrecorded")
    assert warned(plan_frozen(["enc/bn"], layers), "freeze-not-saved") == [
        (
            "freeze",
            "enc is saved without the flags of its parts: enc/bn is trainable again after load_model;"
            " set trainable=False there again",
        )
    ]
    assert len(warned(plan_frozen(["enc"], layers), "freeze-not-saved")) == 1
    handed = layers.replace("enc Functional", "enc LSTM")
    assert warned(plan_frozen(["enc"], handed), "freeze-not-saved") == []
    assert [w for w, _ in warned(plan_frozen(["enc/bn"], layers, save="w.npz"), "freeze-not-saved")] == ["save"]


def test_a_cell_is_kept_frozen_by_the_flag_of_its_layer():
    layers = LAYERS.replace("enc Functional", "enc LSTM").replace("enc/conv Dense", "enc/conv LSTMCell unrecorded")
    plan = plan_frozen(["enc/conv"], layers)
    assert {"enc", "enc/conv"} <= set(plan.freezing.layers)
    assert warned(plan, "freeze-not-saved") == []
    other = layers.replace("enc LSTM", "enc ConvLSTM1D")  # makes its cell without its own flag
    assert plan_frozen(["enc/conv"], other).freezing.layers == ("enc/conv",)
    assert len(warned(plan_frozen(["enc/conv"], other), "freeze-not-saved")) == 1


def test_below_a_frozen_root_only_moving_statistics_are_lost():
    layers = LAYERS.replace("enc/conv Dense", "enc/conv Dense unrecorded")
    assert warned(plan_frozen(["enc/conv"], layers), "freeze-not-saved")
    assert warned(plan_frozen([""], layers), "freeze-not-saved") == []
    norm = LAYERS.replace("enc/bn BatchNormalization", "enc/bn BatchNormalization unrecorded")
    assert len(warned(plan_frozen([""], norm), "freeze-not-saved")) == 1


def test_the_empty_name_is_the_root_which_a_pattern_for_everything_is_not():
    assert freezing([""]).layers[0] == ""
    assert freezing([""]).trainable_parameters == 0
    assert "" not in freezing([".*"]).layers


def test_loras_factors_train_though_no_file_holds_them():
    target = structure("d/kernel 2x3", ". Model\n d Dense off")
    assert "nothing-trainable" in codes(plan_of(target, "d/kernel 2x3", {"r": {"to": "d"}}))
    lora = dataclasses.replace(target, trained_beside=frozenset({"d"}))
    assert "nothing-trainable" not in codes(plan_of(lora, "d/kernel 2x3", {"r": {"to": "d"}}))


def test_spectral_normalization_divides_its_kernel_frozen_or_not():
    layers = LAYERS.replace("head Dense", "head SpectralNormalization")
    found = warned(plan_frozen(["head"], layers), "frozen-divided")
    assert len(found) == 1 and "head is frozen, and SpectralNormalization divides the kernel" in str(found)
    assert warned(plan_frozen(["enc"], layers), "frozen-divided") == []
    assert warned(plan_frozen(None, layers), "frozen-divided") == []
