"""Rows 11 to 14 and 20 of the table of silent failures: which weight is which, as plain Keras does it and as we do."""

import sys

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from small_models import SIZE, changed, codes, dense, equal, fill, stack, values
from unfolded import unfolded

import transferpipe as tp
from transferpipe.cli.main import main


def backbone(name, **options):
    """A Functional model of three Dense layers a, b and c."""
    inputs = x = keras.Input((SIZE,))
    for layer in "abc":
        x = layers.Dense(SIZE, name=layer, **options)(x)
    return keras.Model(inputs, x, name=name)


def two_backbones(seed):
    """Two nested models of one architecture, side by side."""
    inputs = keras.Input((SIZE,))
    parts = [backbone(name) for name in ("left", "right")]
    return fill(keras.Model(inputs, layers.Add()([part(inputs) for part in parts])), seed)


def test_row_11_variable_path_as_a_key(tmp_path):
    """Row 11: a dict by Variable.path: two nested backbones both have `a/kernel`, and half of the weights vanish."""
    source, target = two_backbones(1), two_backbones(2)
    before = values(target)

    table = {w.path: w.numpy() for w in source.weights}
    assert len(table) == len(source.weights) / 2
    for weight in target.weights:
        weight.assign(table[weight.path])
    assert equal(target.get_layer("right"), source.get_layer("right"))
    assert equal(target.get_layer("left"), source.get_layer("right"))

    names = [f"{part}/{layer}/{own}" for part in ("left", "right") for layer in "abc" for own in ("kernel", "bias")]
    assert [w.name for w in tp.catalog(source)] == names
    source.save(tmp_path / "two.keras")
    assert [w.name for w in tp.catalog(tmp_path / "two.keras")] == names
    target.set_weights(before)
    tp.transfer(tmp_path / "two.keras", target, unmatched="same_name")
    assert equal(target, source)


BUILDER = """
import keras
from keras import layers

def build():
    inputs = keras.Input((8,))
    hidden = layers.Dense(8)(inputs)
    return keras.Model(inputs, layers.Dense(8)(hidden))
"""


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Return the builder of the user's module `drifting.py` in the working directory."""
    (tmp_path / "drifting.py").write_text(BUILDER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    import drifting

    yield drifting.build
    del sys.modules["drifting"]


def test_row_12_made_up_names_drift(build):
    """Row 12: the same builder twice in one process: Keras counts its names up, and by_name finds nothing."""
    keras.utils.clear_session()
    first, second = fill(build(), 1), fill(build(), 2)
    first.save("first.h5")
    before = values(second)

    assert [x.name for x in first.layers[1:]] == ["dense", "dense_1"]
    assert [x.name for x in second.layers[1:]] == ["dense_2", "dense_3"]
    second.load_weights("first.h5", by_name=True)
    assert not any(changed(before, second))

    target = {"_target_": "drifting.build"}
    plans = [tp.plan("first.h5", target, unmatched="same_name") for _ in range(2)]
    for planned in plans:
        assert [a.target for a in planned.assignments] == [
            "dense/kernel",
            "dense/bias",
            "dense_1/kernel",
            "dense_1/bias",
        ]
        assert "auto-names" not in codes(planned)  # the builder counts from the start: names and places agree
    assert plans[0].checksum == plans[1].checksum
    build()
    tp.transfer("first.h5", target, unmatched="same_name", save="second.keras")
    assert equal(keras.models.load_model("second.keras"), first)
    with pytest.raises(tp.RecipeError, match="no source has a weight called dense_"):
        tp.plan("first.h5", second, unmatched="same_name")
    by_order = {"all": {"to": "dense_.*", "from": "dense.*", "pair": "order"}}
    tp.transfer("first.h5", second, mapping=by_order)
    assert equal(second, first)


def inception(start, seed, channels=SIZE):
    """A small network of two branches whose layers are numbered like those that Keras names; Keras 2 starts at 1."""

    def block(x):
        nonlocal start
        counter = f"_{start}" if start else ""
        start += 1
        x = layers.Conv2D(SIZE, 1, use_bias=False, name=f"conv2d{counter}")(x)
        return layers.BatchNormalization(scale=False, name=f"batch_normalization{counter}")(x)

    inputs = keras.Input((4, 4, channels))
    stem = block(inputs)
    mixed = layers.Add()([block(stem), block(block(stem))])
    return fill(keras.Model(inputs, block(mixed)), seed)


def kernels(model):
    """The kernels of the convolutions in the order in which they were made."""
    made = sorted((x for x in model.layers if x.name.startswith("conv2d")), key=lambda x: (len(x.name), x.name))
    return [x.kernel.numpy() for x in made]


def right_kernels(target, source):
    return [np.array_equal(a, b) for a, b in zip(kernels(target), kernels(source), strict=True)]


BY_ARITHMETIC = {
    "conv": {"to": r"conv2d(_(?P<i>\d+))?", "from": "conv2d_{i+1}"},
    "norm": {"to": r"batch_normalization(_(?P<i>\d+))?", "from": "batch_normalization_{i+1}"},
}
BY_ORDER = {
    "conv": {"to": "conv2d.*", "from": "conv2d.*", "pair": "order"},
    "norm": {"to": "batch_normalization.*", "from": "batch_normalization.*", "pair": "order"},
}


def test_row_13_numbers_shifted_by_one_strict(tmp_path):
    """Row 13: a file numbered from 1 (Keras 2) into a model numbered from 0: shapes that differ raise half way."""
    source, target = inception(1, 1, channels=3), inception(0, 2, channels=3)
    source.save(tmp_path / "keras2.h5")

    with pytest.raises(ValueError, match="Shape mismatch in layer"):
        target.load_weights(tmp_path / "keras2.h5", by_name=True)
    with pytest.warns(UserWarning, match="Skipping loading weights"):
        target.load_weights(tmp_path / "keras2.h5", by_name=True, skip_mismatch=True)
    assert not any(right_kernels(target, source))

    tp.transfer(tmp_path / "keras2.h5", target, mapping=BY_ARITHMETIC)
    assert all(right_kernels(target, source))


@pytest.mark.parametrize("mapping", [BY_ARITHMETIC, BY_ORDER])
def test_row_13_numbers_shifted_by_one_silent(tmp_path, mapping):
    """Row 13: the same where all shapes agree: Keras says nothing and every layer holds its neighbour's weights."""
    source, target = inception(1, 1), inception(0, 2)
    source.save(tmp_path / "keras2.h5")
    before = kernels(target)

    target.load_weights(tmp_path / "keras2.h5", by_name=True)
    got, theirs = kernels(target), kernels(source)
    assert np.array_equal(got[0], before[0])
    assert equal(got[1:], theirs[:-1])
    assert not any(right_kernels(target, source))

    with pytest.raises(tp.RecipeError, match="no source has a weight called conv2d/kernel"):
        tp.transfer(tmp_path / "keras2.h5", target, unmatched="same_name")
    report = tp.transfer(tmp_path / "keras2.h5", target, mapping=mapping)
    # Only the templates rely on the numbers; by order, they mean nothing.
    assert ("auto-names" in codes(report)) == (mapping is BY_ARITHMETIC)
    assert all(right_kernels(target, source))
    image = np.random.default_rng(0).random((2, 4, 4, SIZE))
    assert np.array_equal(target.predict(image, verbose=0), source.predict(image, verbose=0))


def test_row_13_made_up_names_that_happen_to_agree(tmp_path):
    """Row 13: taken by the same made-up names as far as they go, the plan says what it relies on."""
    source, target = inception(1, 1), inception(0, 2)
    source.save(tmp_path / "keras2.h5")
    planned = tp.plan(tmp_path / "keras2.h5", target, mapping={"c": {"to": "conv2d_[23]"}}, unmatched="keep")
    assert "relies on auto-generated names such as conv2d_2 and 1 more" in unfolded(planned)
    assert "`pair: order`" not in unfolded(planned)  # the order of these two says no more than their numbers


def nested(*names):
    """A Sequential of nested models with a head, as tutorials build it."""
    return stack(*(backbone(n, use_bias=False) for n in names), layers.Dense(3, name="head"), seed=2)


def test_row_14_the_loop_of_the_tutorials():
    """Row 14: layers[1].layers[i].set_weights(base.get_weights()[i]): another layer, and another weight, than meant."""
    base = fill(backbone("trunk", use_bias=False), 1)
    with pytest.raises(AttributeError, match="no attribute 'layers'"):
        nested("trunk").layers[1].layers[1].set_weights(base.get_weights()[1])

    target = nested("trunk", "neck")
    trunk, neck = target.get_layer("trunk"), target.get_layer("neck")
    before = values(target)
    assert target.layers[1] is neck
    with pytest.raises(ValueError, match="weight list of length 8"):
        target.layers[1].layers[1].set_weights(base.get_weights()[1])
    for i in (1, 2):  # repaired until it runs: a list of one array, without the input layer
        target.layers[1].layers[i].set_weights([base.get_weights()[i]])
    assert changed(before, target) == [False, False, False, True, True, False, False, False]
    assert equal(neck.get_layer("a"), base.get_layer("b"))
    assert equal(neck.get_layer("b"), base.get_layer("c"))

    target.set_weights(before)
    tp.transfer(base, target, mapping={"trunk": {"to": "trunk/(.*)", "from": r"\1"}}, unmatched="keep")
    assert equal(trunk, base)
    assert not any(changed(before, target)[3:])


def test_row_20_a_comparison_that_cannot_fail(tmp_path, capsys):
    """Row 20: KerasFileEditor.compare calls swapped layers a success, and counts more matches than weights."""
    source, target = dense("query", "key", "value", seed=1), dense("value", "query", "key", seed=2)
    source.save_weights(tmp_path / "qkv.weights.h5")

    found = keras.saving.KerasFileEditor(str(tmp_path / "qkv.weights.h5")).compare(target)
    assert (found["status"], found["error_count"]) == ("success", 0)
    assert found["match_count"] > len(target.weights)

    planned = tp.plan(tmp_path / "qkv.weights.h5", target, unmatched="same_name")
    assert all(a.target == a.sources[0].name for a in planned.assignments)
    run = tmp_path / "run"
    tp.transfer(tmp_path / "qkv.weights.h5", target, unmatched="same_name", save="m.weights.h5", folder=run)
    assert main(["verify", str(run)]) == 0
    with h5py.File(run / "m.weights.h5", "r+") as file:
        first, second = (file[f"layers/{part}/vars/0"] for part in ("dense", "dense_1"))
        first[...], second[...] = second[...], first[...]
    again = keras.saving.KerasFileEditor(str(run / "m.weights.h5")).compare(target)
    assert again["status"] == "success"
    assert main(["verify", str(run)]) == 3
    said = capsys.readouterr().err
    assert "m.weights.h5: value/kernel: its digest is not the one in the manifest" in said
    assert "m.weights.h5: query/kernel: its digest is not the one in the manifest" in said
    assert "key/kernel" not in said
