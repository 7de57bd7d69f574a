"""The builders, and the trained file made with one of them."""

import keras
import numpy as np
import pytest
from keras import layers

import transferpipe.zoo
from transferpipe.digits import DATA, load_digits
from transferpipe.errors import RecipeError
from transferpipe.zoo import digits_cnn, nested_classifier, small_mlp
from transferpipe.zoo import train_digits as training


def names_in(model):
    return [layer.name for layer in model.layers if layer.weights]


def weight_names(layer):
    return [f"{layer.name}/{weight.name}" for weight in layer.weights]


def test_digits_cnn_nests_the_trunk_under_the_head_with_given_names():
    model = digits_cnn(7)
    assert names_in(model) == ["trunk", "head"]
    assert names_in(model.get_layer("trunk")) == ["conv1", "bn1", "conv2", "conv3"]
    assert weight_names(model.get_layer("trunk").get_layer("bn1")) == [
        f"bn1/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")
    ]
    assert (model.input_shape, model.output_shape) == ((None, 8, 8, 1), (None, 7))


def test_no_name_is_made_up_so_a_second_build_has_the_same():
    for build in (digits_cnn, small_mlp, lambda: nested_classifier(digits_cnn().get_layer("trunk"), 2)):
        first, second = build(), build()
        assert [layer.name for layer in first._flatten_layers()] == [layer.name for layer in second._flatten_layers()]


def test_digits_cnn_gives_probabilities():
    outputs = digits_cnn()(load_digits(split="test", per_class=1)[0]).numpy()
    assert outputs.shape == (10, 5)
    assert outputs.min() > 0
    assert outputs.sum(-1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("shape", [[32, 32, 3], (32, 32, 3)])
def test_a_backbone_is_one_layer_under_its_own_name(shape):
    backbone = keras.applications.VGG16(weights=None, include_top=False, input_shape=shape)
    model = nested_classifier(backbone=backbone, classes=2)
    assert [layer.name for layer in model.layers] == ["inputs", "vgg16", "flatten", "predictions"]
    assert model.get_layer("vgg16") is backbone
    assert model.input_shape == (None, 32, 32, 3)
    assert model.output_shape == (None, 2)
    assert model.name == "nested_classifier"


def test_a_flat_backbone_is_not_flattened_again_and_the_model_takes_a_name():
    backbone = keras.Sequential([layers.Input((4,)), layers.Dense(3, name="dense")], name="flat")
    model = nested_classifier(backbone, 2, name="mine")
    assert [layer.name for layer in model.layers] == ["inputs", "flat", "predictions"]
    assert model.name == "mine"
    assert model(np.ones((1, 4), np.float32)).numpy().sum() == pytest.approx(1)


def test_a_backbone_of_integers_gets_integers():
    backbone = keras.Sequential([layers.Input((6,), dtype="int32"), layers.Embedding(10, 2, name="words")], name="text")
    assert nested_classifier(backbone, 2).inputs[0].dtype == "int32"


def test_a_backbone_of_unknown_size_is_refused():
    backbone = keras.Sequential([layers.Input((None, None, 3)), layers.Conv2D(2, 1, name="conv")], name="open")
    with pytest.raises(RecipeError, match=r"backbone 'open': .*\(None, None, None, 2\).* -> build it with a fixed"):
        nested_classifier(backbone, 2)


def test_a_backbone_with_two_inputs_is_refused():
    inputs = [layers.Input((2,)), layers.Input((2,))]
    backbone = keras.Model(inputs, layers.Add()(inputs), name="pair")
    with pytest.raises(RecipeError, match="backbone 'pair': it has 2 inputs and 1 outputs"):
        nested_classifier(backbone, 2)


def test_builders_build_in_a_scope_that_makes_no_values():
    with keras.StatelessScope(initialize_variables=False):
        model = nested_classifier(digits_cnn().get_layer("trunk"), 3)
        small_mlp()
    keras.utils.clear_session(free_memory=False)  # else a later scope would initialize what is pending
    assert len(model.weights) == 12


def test_small_mlp_puts_the_prefix_before_both_names():
    assert names_in(small_mlp()) == ["hidden", "classes"]
    model = small_mlp(inputs=5, hidden=4, classes=2, prefix="old_")
    assert names_in(model) == ["old_hidden", "old_classes"]
    assert [weight.shape for weight in model.weights] == [(5, 4), (4,), (4, 2), (2,)]


def test_everything_exported_can_be_built():
    assert all(callable(getattr(transferpipe.zoo, name)) for name in transferpipe.zoo.__all__)


def test_the_shipped_file_is_a_trained_digits_cnn_without_optimizer():
    path = DATA / "digits_0_4.keras"
    model = keras.models.load_model(path)
    assert [w.shape for w in model.weights] == [w.shape for w in digits_cnn(5).weights]
    assert not model.compiled
    assert path.stat().st_size < 200_000
    images, classes = load_digits(training.LABELS, split="test")
    accuracy = (model(images).numpy().argmax(-1) == classes).mean()
    assert accuracy == pytest.approx(0.95, abs=0.005)
    assert model.get_layer("trunk").get_layer("bn1").moving_variance.numpy().max() < 1  # the statistics were learnt


def test_training_learns_and_leaves_the_optimizer_behind(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training, "train_digits", lambda train=training.train_digits: train(epochs=2))
    # The switch holds for the whole process and cannot be taken back: other tests should not depend on it.
    monkeypatch.setattr("tensorflow.config.experimental.enable_op_determinism", lambda: None)
    out = tmp_path / "small.keras"
    training.main(["--out", str(out)])
    printed = capsys.readouterr().out
    assert float(printed.split("test accuracy ")[1].split(",")[0]) > 0.7
    assert not keras.models.load_model(out).compiled
