"""What values show at no cost: each fault is warned of, and its right twin is not."""

import shutil

import keras
import numpy as np
import pytest
from keras import layers

import transferpipe as tp

ALL = {"all": {"to": ".*"}}


def net():
    stack = [keras.Input((8, 8, 3))]
    for i in range(4):
        stack += [
            layers.Conv2D(6, 3, padding="same", name=f"c{i}"),
            layers.BatchNormalization(name=f"n{i}"),
        ]
    return keras.Sequential(
        [*stack, layers.GlobalAveragePooling2D(), layers.Dense(6, name="d0"), layers.Dense(6, name="d1")]
    )


def trained(seed=0, build=net):
    """Return a model whose weights look as training leaves them."""
    model, random = build(), np.random.default_rng(seed)
    for v in model.variables:
        value = random.normal(0.1, 0.4, v.shape) / np.sqrt(max(1, np.prod(v.shape[:-1])))
        v.assign(np.abs(value) + 0.3 if "variance" in v.path else value)
    return model


def warned(source, build=net, mapping=ALL, **keys):
    """Return the warnings about values, by code, of a transfer into a new model."""
    report = tp.transfer(source, build(), mapping=mapping, **keys)
    return {w.code: w.text for w in report.warnings if w.code != "auto-names"}


def test_a_trained_source_is_not_warned_of():
    assert warned(trained()) == {}


@pytest.mark.parametrize(("number", "said"), [(0, "only zeros"), (0.25, "0.25 in all its places")])
def test_a_constant_kernel(number, said):
    source = trained()
    source.get_layer("c2").kernel.assign(np.full((3, 3, 6, 6), number))
    found = warned(source)
    assert set(found) == {"constant-kernel"}
    assert found["constant-kernel"].startswith("c2/kernel gets ")
    assert said in found["constant-kernel"]


def test_kernels_that_a_rule_fills_are_meant():
    mapping = {"c": {"to": "c2/kernel", "transform": [{"fill": 0}]}}
    mapping["rest"] = {"to": "[cdn].*/.*", "except": "c2/kernel"}
    assert warned(trained(), mapping=mapping) == {}


def test_zero_biases_are_no_fault():
    source = trained()
    for layer in source.layers:
        if hasattr(layer, "bias"):
            layer.bias.assign(np.zeros(layer.bias.shape))
    assert warned(source) == {}


def test_a_layer_that_holds_a_copy_of_another():
    source = trained()
    for one, two in zip(source.get_layer("c3").weights, source.get_layer("c1").weights, strict=True):
        one.assign(two)
    found = warned(source)
    assert set(found) == {"duplicate-weights"}
    assert found["duplicate-weights"].startswith("c1 and c3 hold the same values, bit for bit (kernel")


def test_weights_that_are_equal_in_the_target_too_are_tied(tmp_path):
    """A class of somebody's own ties them, and Keras saves the one variable in both places of the file."""
    source, target = trained(), trained()
    for name, model in (("s", source), ("t", target)):
        for one, two in zip(model.get_layer("c3").weights, model.get_layer("c1").weights, strict=True):
            one.assign(two + (name == "t"))
            two.assign(one)
        model.save(tmp_path / f"{name}.keras")
    report = tp.transfer(
        tmp_path / "s.keras", tmp_path / "t.keras", unmatched="same_name", save="o.keras", folder=tmp_path / "out"
    )
    assert "duplicate-weights" not in {w.code for w in report.warnings}


def test_forget_gates_as_they_are_built_are_no_copies():
    def recurrent():
        parts = [layers.LSTM(3, return_sequences=True, name="one"), layers.LSTM(3, name="two")]
        return keras.Sequential([keras.Input((5, 3)), *parts])

    source = recurrent()  # its two biases are zeros, with ones for the forget gates
    assert source.layers[0].cell.bias.shape == source.layers[1].cell.bias.shape
    assert "duplicate-weights" not in warned(source, recurrent)


def test_one_source_for_two_layers_is_no_copy():
    mapping = {"c3": {"to": "c3", "from": "c1"}, "rest": {"to": "[cdn].*", "except": "c3"}}
    assert warned(trained(), mapping=mapping, unmatched="keep", ignore=["c3"]) == {}


def test_a_network_that_is_held_twice_is_meant():
    def twice():
        inner = keras.Input((8,))
        parts = [
            keras.Sequential([keras.Input((8,)), *(layers.Dense(8, name=f"d{i}") for i in range(4))], name=name)
            for name in ("online", "target")
        ]
        return keras.Model(inner, [p(inner) for p in parts])

    source = trained(build=twice)
    source.get_layer("target").set_weights(source.get_layer("online").get_weights())
    assert warned(source, twice) == {}


def test_tensors_that_share_their_place_in_a_file_are_tied(tmp_path):
    torch = pytest.importorskip("torch")
    one = torch.nn.Linear(8, 8)
    torch.save(
        {"a.weight": one.weight, "a.bias": one.bias, "b.weight": one.weight, "b.bias": one.bias}, tmp_path / "t.pt"
    )

    def build():
        return keras.Sequential([keras.Input((8,)), layers.Dense(8, name="a"), layers.Dense(8, name="b")])

    found = warned(str(tmp_path / "t.pt"), build)
    assert "duplicate-weights" not in found


def test_one_batch_normalization_as_built_among_trained_ones():
    source = trained()
    layer = source.get_layer("n1")
    layer.moving_mean.assign(np.zeros(6))
    layer.moving_variance.assign(np.ones(6))
    found = warned(source)
    assert set(found) == {"reset-statistics"}
    assert found["reset-statistics"].startswith("n1 gets mean 0 and variance 1")


@pytest.mark.parametrize(("given", "had"), [(False, True), (False, False), (True, True), (True, False)])
def test_an_adapted_normalization_gets_the_statistics_of_one_that_never_was(given, had):
    def build(adapted, seed):
        statistics, head = layers.Normalization(name="stats"), layers.Dense(2, name="d")
        if adapted:
            statistics.adapt(np.random.default_rng(seed).normal(3, 2, (20, 6)).astype("float32"))
        model = keras.Sequential([keras.Input((6,)), statistics, head])
        head.bias.assign([0.1, 0.2])
        return model

    def found(**keys):
        return warned(build(given, 0), lambda: build(had, 1), **keys)

    lost = had and not given
    assert found() == (
        {
            "reset-statistics": "stats gets mean 0 and variance 1 from stats, which was never adapted, and the target's was"
        }
        if lost
        else {}
    )
    assert found(state="keep") == {}  # as the table of warnings advises


def test_a_kernel_ten_thousand_times_less_wide():
    source = trained()
    source.get_layer("c2").kernel.assign(source.get_layer("c2").kernel / 1e4)
    found = warned(source)
    assert set(found) == {"outlier-spread"}
    assert "c2/kernel spread" in found["outlier-spread"]
    assert "times less wide" in found["outlier-spread"]


@pytest.mark.parametrize("scales", [{"c2": 1e-9}, {"c1": 1e-4, "c2": 1e-3}, {"d1": 1e-4}, {"c0": 0.1, "c2": 0.003}])
def test_layers_that_weight_decay_or_labels_made_small(scales):
    source = trained()
    for name, scale in scales.items():
        source.get_layer(name).kernel.assign(source.get_layer(name).kernel * scale)
    assert warned(source) == {}


@pytest.mark.parametrize("pruned", [False, True])
def test_half_of_a_small_kernel_zero(pruned):
    source, random = trained(), np.random.default_rng(0)
    kernel = np.copy(keras.ops.convert_to_numpy(source.get_layer("d0").kernel))
    if pruned:
        kernel[random.random(kernel.shape) < 0.6] = 0
        kernel[-1, -5:] = 0
    else:
        kernel.flat[-10:] = 0
    source.get_layer("d0").kernel.assign(kernel)
    assert set(warned(source)) == (set() if pruned else {"zeros-at-end"})


def test_a_kernel_a_hundred_times_as_wide():
    source = trained()
    kernel = source.get_layer("c2").kernel
    kernel.assign(np.asarray(kernel) * 1000)
    found = warned(source)
    assert set(found) == {"outlier-spread"}
    assert found["outlier-spread"].startswith("the values of c2/kernel spread ")


def cut_short(kernel):
    kernel.reshape(-1)[kernel.size // 2 :] = 0


def flip_a_bit(kernel):
    kernel.reshape(-1).view("uint32")[17] ^= np.uint32(1 << 30)


@pytest.mark.parametrize(("damage", "code"), [(cut_short, "zeros-at-end"), (flip_a_bit, "outlier-value")])
def test_a_damaged_kernel(damage, code):
    source = trained()
    kernel = np.asarray(source.get_layer("c2").kernel).copy()
    damage(kernel)
    source.get_layer("c2").kernel.assign(kernel)
    found = warned(source)
    assert code in found
    assert "c2/kernel" in found[code]


def test_pruned_and_padded_kernels_are_no_damage():
    source = trained()
    kernel = np.asarray(source.get_layer("c2").kernel).copy()
    kernel[np.random.default_rng(1).random(kernel.shape) < 0.8] = 0
    source.get_layer("c2").kernel.assign(kernel)
    assert warned(source) == {}
    wide = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(6, 3, padding="same", name="c0")])
    rule = {"to": "c0", "transform": {"kernel": [{"slice": {"axis": 2, "stop": 1}}, {"pad": {"axis": 2, "after": 2}}]}}
    report = tp.transfer(source, wide, mapping={"r": rule}, ignore=["c[1-3]", "n.*", "d.*"])
    assert [w.code for w in report.warnings] == []


@pytest.mark.parametrize("code", ["constant-kernel", "duplicate-weights", "reset-statistics", "outlier-spread"])
def test_a_run_into_a_file_shows_the_same(code, tmp_path):
    source = trained()
    layer, norm, kernel = source.get_layer("c2"), source.get_layer("n1"), source.get_layer("c3").kernel
    faults = {
        "constant-kernel": lambda: layer.kernel.assign(np.zeros(layer.kernel.shape)),
        "duplicate-weights": lambda: layer.kernel.assign(kernel),
        "reset-statistics": lambda: (norm.moving_mean.assign(np.zeros(6)), norm.moving_variance.assign(np.ones(6))),
        "outlier-spread": lambda: kernel.assign(np.asarray(kernel) * 1000),
    }
    faults[code]()
    source.save(tmp_path / "s.keras")
    trained(1).save(tmp_path / "t.keras")
    report = tp.transfer(str(tmp_path / "s.keras"), str(tmp_path / "t.keras"), mapping=ALL, folder=tmp_path / "o")
    assert [w.code for w in report.warnings if w.code != "auto-names"] == [code]


def test_an_edit_of_a_file_is_not_told_that_nothing_changes(tmp_path):
    """Nor is a file that is its own source; a copy is."""
    trained().save(tmp_path / "s.keras")
    path, copy = str(tmp_path / "s.keras"), str(tmp_path / "t.keras")
    shutil.copy(path, copy)
    edit = {"e": {"at": "c0/bias", "index": [0], "set": 9.0}}
    runs = [
        (copy, {"edit": edit}),
        (copy, {}),
        (path, {}),
    ]
    codes = [[w.code for w in tp.transfer(path, target, mapping=ALL, folder=tmp_path / str(i), **keys).warnings]
             for i, (target, keys) in enumerate(runs)]  # fmt: skip
    assert ["already-equal" in c for c in codes] == [False, True, False]


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("same", [False, True])
def test_a_kernel_whose_rows_follow_another_vocabulary(same, adapted, tmp_path):
    def build(words):
        lookup = layers.StringLookup(vocabulary=None if adapted else words, output_mode="one_hot", name="look")
        if adapted:
            lookup.adapt(np.array([w for i, w in enumerate(words) for _ in range(9 - i)]))
        inputs = keras.Input((1,), dtype="string")
        return keras.Model(inputs, layers.Dense(2, name="d")(lookup(inputs)))

    trained(build=lambda: build(["a", "b", "c"])).save(tmp_path / "s.keras")
    target = build(["a", "b", "c"] if same else ["c", "b", "a"])
    report = tp.transfer(str(tmp_path / "s.keras"), target, mapping={"d": {"to": "d"}}, state="keep")
    found = {w.code for w in report.warnings} - {"untrained-source"}
    assert ("other-vocabulary" in found) == (not same)
    assert same or adapted or "between-differs" in found
    assert not same or found == set()
