"""`select: ema` takes the optimizer's averages as the values of what was trained, and the rest from the model."""

import keras
import numpy as np
import pytest
from keras import layers

import transferpipe as tp
from transferpipe.errors import RecipeError


def make(use_ema=True, trained=True, scaled=False):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="d"), layers.BatchNormalization(name="n")])
    optimizer = keras.optimizers.SGD(0.1, use_ema=use_ema, ema_momentum=0.9)
    if scaled:  # which counts no steps itself
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer, keras.losses.MeanSquaredError(), run_eagerly=True)
    data = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    for _ in range(3 if trained else 0):  # not `fit`, at whose end Keras writes the averages over the weights
        model.train_on_batch(data, np.ones((8, 3)))
    return model


def move(source, target):
    tp.transfer(source, target, mapping={"all": {"to": ".*"}})
    return target


@pytest.mark.parametrize("scaled", [False, True], ids=["", "scaled"])
@pytest.mark.parametrize("kind", ["live", "s.keras", "s.h5"])
def test_averages_are_the_values(kind, scaled, tmp_path):
    model = make(scaled=scaled)
    averages = [np.asarray(v) for v in model.optimizer.variables if v.name.endswith("_average")]
    assert not np.allclose(averages[0], model.get_layer("d").kernel)
    if kind != "live":
        model.save(tmp_path / kind)
    target = make(trained=False)
    move({"path": model if kind == "live" else str(tmp_path / kind), "select": "ema"}, target)
    for found, wanted in zip(target.trainable_variables, averages, strict=True):
        assert np.array_equal(found, wanted), found.path
    for found, wanted in zip(target.non_trainable_variables, model.non_trainable_variables, strict=True):
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"use_ema": False}, "SGD without use_ema=True"),
        ({"trained": False}, "so no averages|it was not trained yet"),
        ({"trained": False, "scaled": True}, "so no averages|it was not trained yet"),
    ],
)
@pytest.mark.parametrize("kind", ["live", "s.keras"])
def test_where_there_are_none_is_said_and_the_hint_helps(options, said, kind, tmp_path):
    model = make(**options)
    model.save(tmp_path / "s.keras")
    path = model if kind == "live" else str(tmp_path / "s.keras")
    with pytest.raises(RecipeError, match=said):
        move({"path": path, "select": "ema"}, make(trained=False))
    move({"path": path}, make(trained=False))


@pytest.mark.parametrize("key", ["ema", "model_ema", "state_dict_ema", "ema_state_dict"])
def test_torch_checkpoints_call_them_otherwise(key, tmp_path):
    torch = pytest.importorskip("torch")
    plain, average = {"d.bias": torch.zeros(3)}, {"d.bias": torch.ones(3)}
    torch.save({"model": plain, key: average}, tmp_path / "c.pt")
    target = make(trained=False)
    source = {"path": str(tmp_path / "c.pt"), "select": "ema"}
    tp.transfer(source, target, mapping={"b": {"to": "d/bias"}}, unmatched="keep")
    assert np.array_equal(target.get_layer("d").bias, np.ones(3))
    torch.save({"model": plain}, tmp_path / "c.pt")
    with pytest.raises(RecipeError, match="holds no moving averages"):
        tp.catalog(str(tmp_path / "c.pt"), select="ema")


@pytest.mark.follows("take_averages_of_file: take the whole model,")
def test_a_file_of_weights_does_not_say_which_are_averages(tmp_path):
    model = make()
    model.save_weights(tmp_path / "s.weights.h5")
    with pytest.raises(RecipeError) as caught:
        move({"path": str(tmp_path / "s.weights.h5"), "select": "ema"}, make(trained=False))
    assert caught.value.problems[0].fix == "take the whole model, saved as .keras"
    model.save(tmp_path / "s.keras")
    averages = [np.asarray(v) for v in model.optimizer.variables if v.name.endswith("_average")]
    target = move({"path": str(tmp_path / "s.keras"), "select": "ema"}, make(trained=False))
    assert all(np.array_equal(a, b) for a, b in zip(target.trainable_variables, averages, strict=True))
