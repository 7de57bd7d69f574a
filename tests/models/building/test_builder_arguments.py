"""What a recipe's arguments make a builder of a library do: files of weights are read by our readers, code is refused."""

import h5py
import keras
import numpy as np
import pytest

import transferpipe as tp
from transferpipe.errors import FileError, RecipeError, UnsafeError
from transferpipe.models.building.arguments import check_arguments
from transferpipe.models.building.build import build_model
from transferpipe.recipe.model import Build

LAMBDA = {"class_name": "Lambda", "module": "keras.layers", "config": {}}


def mobile(**arguments):
    small = {"input_shape": [32, 32, 3], "classes": 2, "alpha": 0.25, "weights": None}
    return Build("keras.applications.MobileNet", {**small, **arguments}, "target")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a folder with weights of a small MobileNet, and with those of one of another head."""
    folder = tmp_path_factory.mktemp("weights")
    for name, classes in (("two", 2), ("three", 3)):
        model = keras.applications.MobileNet(weights=None, input_shape=(32, 32, 3), classes=classes, alpha=0.25)
        drawn = np.random.default_rng(classes)
        model.set_weights([drawn.random(w.shape, "f4") for w in model.get_weights()])
        model.save_weights(folder / f"{name}.weights.h5")
    return folder


def test_a_file_of_weights_is_loaded_as_keras_loads_it(files):
    path = str(files / "two.weights.h5")
    model, deferred = build_model(mobile(weights=path), 0)
    expected = keras.applications.MobileNet(weights=path, input_shape=(32, 32, 3), classes=2, alpha=0.25)
    assert not deferred
    for one, other in zip(model.get_weights(), expected.get_weights(), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.follows("load_weights_file: build it with weights:")
def test_a_file_of_another_model_is_refused_and_can_be_the_source(files):
    path = str(files / "three.weights.h5")
    with pytest.raises(RecipeError, match=r"2\) in the model") as caught:
        build_model(mobile(weights=path), 0)
    assert f"source: {{path: {path}}}" in str(caught.value)
    head = {"trunk": {"to": ".*", "except": "conv_preds"}, "head": {"to": "conv_preds", "from": None}}
    target = {"_target_": "keras.applications.MobileNet", **mobile().arguments}
    assert len(tp.plan(path, target, mapping=head).assignments) == len(build_model(mobile(), 0)[0].weights) - 2


def test_a_bomb_is_refused_before_keras_sees_it(files, tmp_path):
    bomb = tmp_path / "bomb.weights.h5"
    bomb.write_bytes((files / "two.weights.h5").read_bytes())
    with h5py.File(bomb, "a") as file:
        del file["layers/conv2d/vars/0"]
        file["layers/conv2d/vars"].create_dataset("0", (990_000_000,), "f4", chunks=(1 << 20,))
    with pytest.raises(FileError, match="declares 3,960,000,000 bytes"):
        check_arguments([mobile(weights=str(bomb))])


@pytest.mark.parametrize(
    ("target", "arguments", "error"),
    [
        ("keras.applications.VGG16", {"classifier_activation": LAMBDA}, UnsafeError),
        ("keras.applications.VGG16", {"classifier_activation": {"class_name": "ReLU", "config": {}}}, UnsafeError),
        ("keras.applications.VGG16", {"weights": {"class_name": "x"}}, RecipeError),
        ("keras.applications.VGG16", {"weights": "missing.h5"}, FileError),
        ("keras.applications.VGG16", {"weights": "../nothing/here"}, FileError),
        ("keras.applications.VGG16", {"classes": 10**12}, UnsafeError),
        ("keras.applications.VGG16", {"input_shape": [10**9, 32, 3]}, UnsafeError),
        ("keras.applications.VGG16", {"alpha": float("inf")}, UnsafeError),
        ("keras.applications.VGG16", {"input_shape": [10**6, 10**6, 3]}, UnsafeError),
        ("keras_hub.models.Backbone.from_preset", {"preset": "file:///etc"}, UnsafeError),
        ("keras_hub.models.Backbone.from_preset", {"preset": "gs://bucket/x"}, UnsafeError),
        ("keras_hub.models.Backbone.from_preset", {"preset": "https://example.org/x"}, UnsafeError),
        ("keras_hub.tokenizers.BytePairTokenizer", {"vocabulary": "/etc/passwd"}, UnsafeError),
        (
            "keras_hub.models.BertBackbone",
            {"dtype": {"class_name": "Evil", "module": "evil", "config": {}}},
            UnsafeError,
        ),
        ("transferpipe.zoo.nested_classifier", {"head": [{"deep": LAMBDA}]}, UnsafeError),
        ("my_models.build", {"activation": LAMBDA}, UnsafeError),
    ],
)
def test_arguments_that_reach_beyond_the_recipe_are_refused_before_anything_is_imported(target, arguments, error):
    with pytest.raises(error, match=r"target\.|missing|here"):
        check_arguments([Build(target, arguments, "target")])


@pytest.mark.follows("_limit_call: give it smaller arguments")
def test_a_call_that_would_fill_the_memory_is_refused_before_it_does(tmp_path, monkeypatch):
    pytest.importorskip("keras")
    from transferpipe.models.building import build

    monkeypatch.chdir(tmp_path)
    (tmp_path / "wide_models.py").write_text(
        "import keras\n\ndef build(units, inner=1):\n"
        "    return keras.Sequential([keras.Input((4000,)), keras.layers.Dense(units), keras.layers.Dense(inner)])\n"
    )
    monkeypatch.setattr(build, "memory_of_machine", lambda: 1 << 30)
    for arguments in ({"units": 90_000_000}, {"units": 80_000, "inner": 80_000}):
        with pytest.raises(UnsafeError, match="more than 1,073,741,824 bytes of weights"):
            build.build_model(Build("wide_models.build", arguments, "source"), 0, may_defer=False)
    model, _ = build.build_model(Build("wide_models.build", {"units": 3}, "source"), 0, may_defer=False)
    assert model.count_params() == 4000 * 3 + 3 + 3 + 1


def test_a_preset_folder_is_looked_through(tmp_path):
    (tmp_path / "config.json").write_text(
        '{"module": "keras_hub.src.models.bert.bert_backbone", "class_name": "BertBackbone", "config": {}}'
    )
    build = Build("keras_hub.models.Backbone.from_preset", {"preset": str(tmp_path)}, "target")
    check_arguments([build])
    (tmp_path / "task.json").write_text('{"module": "os", "class_name": "Evil", "config": {}}')
    with pytest.raises(UnsafeError, match=r"task\.json"):
        check_arguments([build])


def test_imagenet_is_a_name_beside_a_folder_of_that_name(tmp_path, monkeypatch):
    """Keras takes it for one, and pictures often lie in such a folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet").mkdir()
    check_arguments([Build("keras.applications.VGG16", {"weights": "imagenet"}, "target")])


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("keras.applications.VGG16", {"weights": "imagenet", "classes": 1000, "classifier_activation": "softmax"}),
        ("keras.applications.VGG16", {"weights": None, "include_top": False, "input_shape": [None, None, 3]}),
        ("keras_hub.models.Backbone.from_preset", {"preset": "bert_tiny_en_uncased"}),
        ("keras_hub.models.Backbone.from_preset", {"preset": "hf://google/vit-base-patch16-224"}),
        ("keras_hub.models.Backbone.from_preset", {"preset": "kaggle://keras/bert/keras/bert_tiny_en_uncased/3"}),
        ("keras_hub.models.BertBackbone", {"vocabulary_size": 30522, "dtype": "float32", "seed": 2**40}),
        ("my_models.build", {"settings": {"name": "x", "config": {"depth": 3}}, "huge": 10**15, "module": "os"}),
        ("my_models.build", {"layer": {"class_name": "Dense", "module": "keras.layers", "config": {"units": 3}}}),
    ],
)
def test_what_a_builder_is_for_is_allowed(target, arguments):
    check_arguments([Build(target, arguments, "target")])


FROM_PRESET, VGG = "keras_hub.models.Backbone.from_preset", "keras.applications.VGG16"


@pytest.mark.parametrize(
    ("target", "wrong", "key"),
    [
        (VGG, {"weights": 3}, "_check_library: leave it out"),
        (VGG, {"classifier_activation": {"class_name": "ReLU", "config": {}}}, "_check_library: leave it out #2"),
        (VGG, {"classes": 10**12}, "check_sizes: leave it out"),
        (VGG, {"input_shape": [10**6, 10**6, 3]}, "check_sizes: leave it out #2"),
        ("keras_hub.models.BertBackbone", {"num_layers": 5000}, "check_sizes: leave it out #3"),
        ("keras_hub.tokenizers.BytePairTokenizer", {"vocabulary": "w.h5"}, "_check_hub_text: leave it out"),
    ],
)
def test_an_argument_that_is_left_out(target, wrong, key, request, tmp_path, monkeypatch):
    request.node.add_marker(pytest.mark.follows(key))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.h5").write_bytes(b"\x89HDF")
    with pytest.raises((RecipeError, UnsafeError)) as caught:
        check_arguments([Build(target, {"name": "x", **wrong}, "target")])
    assert caught.value.problems[0].fix == "leave it out"
    check_arguments([Build(target, {"name": "x"}, "target")])


@pytest.mark.follows("_check_hub_text: name the folder of", "_check_hub_text: name the folder of #2")
def test_an_address_or_a_text_that_is_none_of_a_preset(tmp_path):
    for text in ("gs://bucket/x", "9" * 5000):
        with pytest.raises(UnsafeError) as caught:
            check_arguments([Build(FROM_PRESET, {"preset": text}, "target")])
        assert caught.value.problems[0].fix == "name the folder of the preset"
    (tmp_path / "config.json").write_text("{}")
    check_arguments([Build(FROM_PRESET, {"preset": str(tmp_path)}, "target")])


@pytest.mark.follows("_check_hub_text: copy the file itself")
def test_a_file_outside_of_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    tokenizer = "keras_hub.tokenizers.BytePairTokenizer"
    with pytest.raises(UnsafeError) as caught:
        check_arguments([Build(tokenizer, {"vocabulary": str(tmp_path / "vocab.txt")}, "target")])
    assert caught.value.problems[0].fix == "copy the file itself"
    (tmp_path / "here" / "vocab.txt").write_text((tmp_path / "vocab.txt").read_text())
    check_arguments([Build(tokenizer, {"vocabulary": "vocab.txt"}, "target")])


@pytest.mark.parametrize(
    ("text", "most"),
    [
        pytest.param("{", 99, marks=pytest.mark.follows("_json: the file is damaged: #2")),
        pytest.param("{}" + " " * 99, 99, marks=pytest.mark.follows("_json: the file is damaged:")),
    ],
)
def test_a_damaged_preset(text, most, tmp_path, monkeypatch):
    monkeypatch.setattr("transferpipe.models.building.arguments._MOST_CONFIG", most)
    (tmp_path / "config.json").write_text(text)
    build = Build(FROM_PRESET, {"preset": str(tmp_path)}, "target")
    with pytest.raises((FileError, UnsafeError), match="download or save it again"):
        check_arguments([build])
    (tmp_path / "config.json").write_text("{}")
    check_arguments([build])
