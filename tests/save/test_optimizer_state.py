"""The state of an optimizer is kept with the file that it belongs to, or dropped with a line that says so."""

import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from unfolded import unfolded

import transferpipe as tp
from transferpipe.errors import RecipeError

EDIT = {"e": {"at": "a/kernel", "index": [0, 0], "set": 9.0}}


def trained(path, optimizer="adam", **options):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="a"), layers.Dense(1, name="b")])
    model.compile(optimizer, "mse", **options)
    model.fit(np.random.default_rng(0).normal(size=(16, 4)), np.ones((16, 1)), epochs=3, verbose=0)
    model.save(path)
    return model


def transfer(folder, source=None, **recipe):
    recipe = {"unmatched": "keep", "save": {"path": "out.keras", "overwrite": True}, **recipe}
    return tp.transfer(source, folder / "t.keras", folder=folder, **recipe)


def state(model):
    return [np.asarray(v) for v in model.optimizer.variables]


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop", keras.optimizers.AdamW(use_ema=True, amsgrad=True)])
def test_an_edit_keeps_it_and_training_goes_on_from_it(optimizer, tmp_path):
    before = trained(tmp_path / "t.keras", optimizer, metrics=["mae"])
    report = transfer(tmp_path, edit=EDIT)
    after = keras.models.load_model(tmp_path / "out.keras")
    assert report.plan.optimizer.fate == "kept"
    assert all(map(np.array_equal, state(before), state(after)))
    assert int(after.optimizer.iterations) == 3
    before.layers[0].kernel.assign(after.layers[0].kernel)
    x, y = np.random.default_rng(1).normal(size=(16, 4)), np.ones((16, 1))
    for model in (before, after):
        model.fit(x, y, shuffle=False, verbose=0)
    assert all(np.allclose(p, q, atol=1e-6) for p, q in zip(before.get_weights(), after.get_weights(), strict=True))


def test_the_weights_file_alone_keeps_it_too(tmp_path):
    before = trained(tmp_path / "t.keras")
    transfer(tmp_path, edit=EDIT, save={"path": "out.weights.h5"})
    after = keras.models.load_model(tmp_path / "t.keras")
    after.fit(np.ones((16, 4)), np.ones((16, 1)), verbose=0)
    after.load_weights(tmp_path / "out.weights.h5")
    assert all(map(np.array_equal, state(before), state(after)))


def test_rules_that_bring_other_weights_drop_it_and_say_so(tmp_path):
    trained(tmp_path / "t.keras")
    report = transfer(tmp_path, tmp_path / "t.keras", mapping={"a": {"to": "a"}})
    assert (report.plan.optimizer.fate, report.plan.optimizer.arrays) == ("dropped", 10)
    assert "optimizer state dropped (10 arrays): rules bring other weights; optimizer=keep keeps it" in unfolded(
        report.plan
    )
    with zipfile.ZipFile(tmp_path / "out.keras") as archive, h5py.File(archive.open("model.weights.h5")) as h5:
        assert "optimizer" not in h5


def test_the_hint_is_followed(tmp_path):
    trained(tmp_path / "t.keras")
    report = transfer(tmp_path, tmp_path / "t.keras", mapping={"a": {"to": "a"}}, optimizer="keep")
    assert report.plan.optimizer.fate == "kept"
    assert int(keras.models.load_model(tmp_path / "out.keras").optimizer.iterations) == 3


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ({"freeze": ["a"]}, "frozen layers have no part in it"),
        ({"save": {"path": "out.npz"}}, "files hold it"),
        ({"optimizer": "drop"}, "the recipe says so"),
    ],
)
def test_why_it_is_dropped(recipe, reason, tmp_path):
    trained(tmp_path / "t.keras")
    report = transfer(tmp_path, edit=EDIT, **recipe)
    assert report.plan.optimizer.fate == "dropped"
    assert reason in report.plan.optimizer.reason


def test_that_of_a_source_is_never_dropped_without_a_line(tmp_path):
    trained(tmp_path / "s.keras")
    keras.Sequential([keras.Input((4,)), layers.Dense(3, name="a"), layers.Dense(1, name="b")]).save(
        tmp_path / "t.keras"
    )
    report = transfer(tmp_path, tmp_path / "s.keras", mapping={"all": {"to": ".*"}})
    assert "optimizer state dropped (10 arrays): that of" in unfolded(report.plan)


@pytest.mark.follows("plan_optimizer: set optimizer=drop", "plan_optimizer: leave `optimizer` out")
def test_what_cannot_be_kept_is_refused(tmp_path):
    trained(tmp_path / "t.keras")
    with pytest.raises(RecipeError, match="cannot be kept: frozen layers") as caught:
        transfer(tmp_path, edit=EDIT, freeze=["a"], optimizer="keep")
    key, value = caught.value.problems[0].fix.removeprefix("set ").split("=")
    assert transfer(tmp_path, edit=EDIT, freeze=["a"], **{key: value}).plan.optimizer.fate == "dropped"
    assert not keras.models.load_model(tmp_path / "out.keras", compile=False).get_layer("a").trainable
    keras.Sequential([keras.Input((4,)), layers.Dense(3, name="a")]).save(tmp_path / "t.keras")
    with pytest.raises(RecipeError, match="holds no state of an optimizer") as caught:
        transfer(tmp_path, edit=EDIT, optimizer="keep")
    recipe = {"edit": EDIT, "optimizer": "keep"}
    recipe.pop(caught.value.problems[0].fix.split("`")[1])
    transfer(tmp_path, **recipe)
    assert keras.models.load_model(tmp_path / "out.keras").get_weights()[0].shape == (4, 3)


def test_a_plan_says_it_again_after_it_was_written(tmp_path):
    from transferpipe.planning.reading.read_plan import plan_from_data

    trained(tmp_path / "t.keras")
    plan = transfer(tmp_path, edit=EDIT).plan
    assert plan_from_data(plan.to_data()) == plan
    assert tp.plan(None, tmp_path / "t.keras", unmatched="keep", edit=EDIT, optimizer="drop").checksum != plan.checksum
