"""Every recipe that comes with the package, run, and its claims checked by readers that are not ours."""

import hashlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.error
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import yaml
from compact import assert_golden
from hub_folders import write_folders

from transferpipe.cli import main
from transferpipe.cli.compose.folders import conf_folder
from transferpipe.digits import load_digits
from transferpipe.zoo import digit_halves, digits_cnn, signals

RECIPES = sorted((conf_folder() / "recipe").glob("*.yaml"))
DATA = Path(__file__).parents[1] / "transferpipe" / "zoo" / "data"
HERE = {
    "same_layer",
    "set_element",
    "prune",
    "every_second_layer",
    "nested_vgg16",
    "from_checkpoint",
    "digits",
    "yosinski",
    "rethinking",
}
MERGED = {"soup", "interpolate", "ties", "task_arithmetic"}  # test_merge_recipes.py
WIDTHS = {"deeper", "upscale", "wider", "narrower", "rebasin"}  # test_surgery_recipes.py
FOLDED = {"fold_batchnorm", "merge_lora", "dequantize"}  # test_surgery_recipes.py
ROWS = {"more_classes", "class_names", "grow_vocabulary"}  # there, too
OLD = {"modernise"}  # tests/execute/test_upgraded_target.py
MTCNN = {"mtcnn_pnet", "mtcnn_rnet", "mtcnn_onet"}  # tests/real/test_mtcnn.py
VISION = {"rgb_to_grey", "more_bands", "bigger_image", "bigger_patch", "inflate_3d"}  # tests/test_vision_recipes.py
HUB = {"hf_bert", "hf_gpt2", "hf_llama", "hf_vit", "timm_resnet"}  # tests/test_hub_recipes.py
REAL = {"hed_to_vgg16", "fer_to_digits", *MTCNN}  # tests/real/test_real_recipes.py


def raw(path):
    """Return every dataset of a Keras file by its place, read with h5py."""
    data = zipfile.ZipFile(path).read("model.weights.h5") if path.suffix == ".keras" else path.read_bytes()
    found = {}
    with h5py.File(io.BytesIO(data)) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def by_layer(model):
    """Return the weights of every layer by its name, those of nested models too."""
    return {x.name: [np.asarray(w) for w in x.weights] for x in model._flatten_layers() if not hasattr(x, "layers")}


def fresh(builder, **arguments):
    """Return the weights of a model as anybody would build it from seed 0."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    return by_layer(builder(**arguments))


def equal(one, other):
    """Tell whether two lists of arrays agree bit for bit."""
    return len(one) == len(other) and all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Return a function that runs a shipped recipe and returns the model file."""
    monkeypatch.chdir(tmp_path)

    def run(name, *overrides, folder="out", verdict=0):
        status = main(["run", f"recipe={name}", *overrides, f"hydra.run.dir={folder}"])
        assert status == 0, capsys.readouterr().err
        assert main(["verify", folder]) == verdict
        return tmp_path / folder / "model.keras"

    return run


def test_every_recipe_is_tested():
    assert {path.stem for path in RECIPES} == HERE | MERGED | VISION | OLD | WIDTHS | FOLDED | ROWS | HUB | REAL


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_first_line_is_a_command_that_composes(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_folders(tmp_path)
    first = next(x for x in path.read_text().splitlines() if x.startswith("#") and "@package" not in x)
    command, arrow, purpose = first.removeprefix("# ").partition("  <- ")
    program, *argv = shlex.split(command)
    assert (program, argv[:2], bool(arrow and purpose)) == ("transferpipe", ["run", f"recipe={path.stem}"], True)
    assert main([*argv, "--cfg", "job", "--resolve"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["name"] == path.stem


def test_same_layer(run):
    result = by_layer(keras.models.load_model(run("same_layer")))
    source = by_layer(keras.models.load_model(DATA / "digits_0_4.keras"))
    built = fresh(digits_cnn, classes=10)
    assert equal(result["conv1"], source["conv1"])
    assert not equal(result["conv1"], built["conv1"])
    assert all(equal(result[name], built[name]) for name in built if name != "conv1")


def test_yosinski(run, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digit_halves, "_EPOCHS", 1)
    model = keras.models.load_model(run("yosinski", "vars.cut=3", "seed=7", "score.epochs=1", verdict=3))
    source, built = by_layer(digit_halves.trained_on_half("A", 7)), {}
    keras.utils.clear_session()
    keras.utils.set_random_seed(7)
    built = by_layer(digit_halves.digits_net())
    result = by_layer(model)
    assert [n for n in result if result[n] and equal(result[n], source[n])] == ["layer1", "layer2", "layer3"]
    assert [n for n in result if result[n] and equal(result[n], built[n])] == ["layer4", "layer5", "head"]
    assert [x.name for x in model.layers if not x.trainable] == ["layer1", "layer2", "layer3"]
    digit_halves._train_weights.cache_clear()


def test_rethinking(run, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(signals, "_EPOCHS", 1)
    monkeypatch.setattr(signals, "_PER_SOURCE_CLASS", 2)
    result = by_layer(
        keras.models.load_model(run("rethinking", "vars.examples=3", "seed=7", "score.epochs=1", verdict=3))
    )
    source, built = by_layer(signals.trained_on_signals(7)), {}
    keras.utils.clear_session()
    keras.utils.set_random_seed(7)
    built = by_layer(signals.signals_net())
    assert [n for n in result if result[n] and equal(result[n], source[n])] == ["layer1", "layer2", "layer3"]
    assert [n for n in result if result[n] and equal(result[n], built[n])] == ["head"]
    signals._train_weights.cache_clear()


def test_set_element(run):
    path = run("set_element")
    before, after = raw(DATA / "digits_0_4.keras"), raw(path)
    assert before.keys() == after.keys()
    changed = [(k, *i) for k in before for i in np.argwhere(before[k] != after[k]).tolist()]
    assert len(changed) == 1
    assert changed[0][1:] == (3, 2)
    assert after[changed[0][0]][3, 2] == np.float32(99.0)
    assert keras.models.load_model(path).get_layer("head").kernel[3, 2] == 99.0


def test_prune(run):
    before, after = raw(DATA / "digits_0_4.keras"), raw(run("prune"))
    kernels = [name for name in before if before[name].ndim > 1]
    sizes = np.concatenate([np.abs(before[name]).ravel() for name in kernels])
    limit = np.sort(sizes)[round(sizes.size / 2) - 1]
    for name, value in before.items():
        wanted = np.where(np.abs(value) <= limit, np.float32(0), value) if name in kernels else value
        assert after[name].tobytes() == wanted.tobytes(), name


def test_every_second_layer(run):
    made = keras.saving.load_model(run("every_second_layer"), compile=False)
    there = keras.saving.load_model(DATA / "vit_digits.keras", compile=False)
    assert not any(layer.name.startswith("block2") for layer in made.layers)
    for layer in made.layers:
        assert equal(layer.get_weights(), there.get_layer(layer.name).get_weights()), layer.name


def test_from_checkpoint(run):
    result, checkpoint = raw(run("from_checkpoint")), raw(DATA / "digits_0_4.weights.h5")
    assert len(checkpoint) == 12
    assert result.keys() == checkpoint.keys()
    assert equal(list(result.values()), [checkpoint[k] for k in result])


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    """Return a folder with one small-image VGG16 in three formats, and its weights; no two weights are equal."""
    keras.utils.set_random_seed(7)
    model = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    for i, weight in enumerate(w for w in model.weights if len(w.shape) == 1):
        weight.assign(np.linspace(i, i + 1, weight.shape[0]))
    folder = tmp_path_factory.mktemp("vgg16")
    model.save(folder / "vgg16.keras")
    model.save_weights(folder / "vgg16.weights.h5")
    model.save(folder / "vgg16.h5")
    return folder, by_layer(model)


def test_nested_vgg16(run, vgg):
    folder, source = vgg
    small = "target.backbone.input_shape=[32,32,3]"
    paths = [
        run("nested_vgg16", f"source.path={folder}/{name}", small, folder=name)
        for name in ("vgg16.keras", "vgg16.weights.h5", "vgg16.h5")
    ]
    first, *others = [path.read_bytes() for path in paths]
    assert all(other == first for other in others)

    model = keras.models.load_model(paths[0])
    result = by_layer(model)
    trained = [name for name in source if source[name]]  # the name of an input depends on the tests before
    assert sum(len(result[name]) for name in trained) == 26
    assert all(equal(result[name], source[name]) for name in trained)
    assert [w.path for w in model.trainable_variables] == ["predictions/kernel", "predictions/bias"]
    assert result["predictions"][0].shape == (512, 2)
    assert 0 < np.abs(result["predictions"][0]).max() < 1
    assert not result["predictions"][1].any()


NOTOP = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
SMALL = "target.backbone.input_shape=[32,32,3]"


@pytest.fixture
def published(vgg, tmp_path):
    """Return a file of such weights as Keras publishes them, which another version of it named."""
    folder, source = vgg
    path = tmp_path / "server" / NOTOP
    path.parent.mkdir()
    model = keras.models.load_model(folder / "vgg16.keras", compile=False)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            own = [f"{layer.name}_{w}_1:0" for w in ("W", "b")] if layer.weights else []
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [name.encode() for name in own]
            for name, weight in zip(own, source.get(layer.name, ()), strict=False):
                group[name] = weight
    return path


@pytest.fixture
def network(monkeypatch, tmp_path):
    """Return a function that lets Keras fetch from a file, or from nowhere, into a cache of its own."""
    from keras.src.utils import file_utils

    def come_from(path):
        def fetch(url, target, *_):
            if path is None:
                raise urllib.error.URLError("[Errno -2] Name or service not known")
            shutil.copy(path, target)

        monkeypatch.setattr(file_utils, "urlretrieve", fetch)
        (tmp_path / "cache").mkdir(exist_ok=True)  # Keras would take one that others share
        monkeypatch.setattr(file_utils.config, "keras_home", lambda: str(tmp_path / "cache"))
        monkeypatch.setattr(file_utils, "validate_file", lambda file, *_, **__: Path(file).exists())

    return come_from


def test_nested_vgg16_as_it_stands_takes_what_keras_fetches(run, vgg, published, network, capsys):
    network(published)
    before = keras.utils.get_file
    path = run("nested_vgg16", SMALL, verdict=3)  # no file of ours holds the source
    shown = capsys.readouterr().out
    result, source = by_layer(keras.models.load_model(path)), vgg[1]
    assert all(equal(result[name], source[name]) for name in source if source[name])
    manifest = json.loads((path.parent / "manifest.json").read_text())
    (fetched,) = manifest["fetched"]["source"]
    assert fetched["sha256"] == hashlib.sha256(published.read_bytes()).hexdigest()
    assert fetched["url"].endswith(f"/vgg16/{NOTOP}")
    assert fetched["checked"] == "md5 6d6bbae143d832006294945121d1f1fc"
    assert "all 26 arrays of vgg16 equal the source's, bit for bit" in shown
    assert keras.utils.get_file is before


@pytest.mark.follows("_not_fetched: fetch it where there #2")
def test_nested_vgg16_without_a_network_says_which_file_to_give(run, vgg, published, network, capsys, tmp_path):
    network(None)
    assert main(["run", "recipe=nested_vgg16", SMALL]) == 2
    refused = capsys.readouterr().err
    assert f"Keras cannot fetch https://storage.googleapis.com/tensorflow/keras-applications/vgg16/{NOTOP}" in refused
    assert not (tmp_path / "outputs").exists()
    program, verb, recipe, given = re.search(r"transferpipe run recipe=\S+ \S+", refused)[0].split()
    assert (program, verb, recipe) == ("transferpipe", "run", "recipe=nested_vgg16")
    shutil.copy(published, tmp_path / given.partition("=")[2])
    result = by_layer(keras.models.load_model(run("nested_vgg16", given, SMALL)))
    assert all(equal(result[name], arrays) for name, arrays in vgg[1].items() if arrays)
    assert "all 26 arrays of vgg16 equal the source's, bit for bit" in capsys.readouterr().out
    # The other advice: the file in the cache.
    cache = tmp_path / "cache" / "models"
    assert str(cache) in refused
    cache.mkdir(parents=True, exist_ok=True)
    shutil.copy(published, cache / NOTOP)
    assert main(["plan", "recipe=nested_vgg16", SMALL]) == 0


@pytest.mark.follows("_not_fetched: fetch it where there")
def test_a_target_that_keras_cannot_fetch_is_refused_with_the_folder_to_put_it_in(
    vgg, published, network, tmp_path, capsys
):
    network(None)
    words = ["plan", "recipe=nested_vgg16", f"source.path={vgg[0]}/vgg16.h5", SMALL, "target.backbone.weights=imagenet"]
    assert main(words) == 2
    folder = re.search(r"put it into (\S+)", capsys.readouterr().err)[1]
    shutil.copy(published, Path(folder) / NOTOP)
    assert main(words) == 0


def test_a_file_on_the_command_line_takes_the_place_of_a_builder(vgg, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = f"source.path={vgg[0]}/vgg16.h5"
    for words in ([file], [file, "+source.format=legacy_h5"]):
        assert main(["run", "recipe=nested_vgg16", *words, SMALL, "--cfg", "job", "--resolve"]) == 0
        source = yaml.safe_load(capsys.readouterr().out)["source"]
        assert set(source) == {"path"} | ({"format"} if len(words) > 1 else set())
    assert main(["run", "recipe=nested_vgg16", "--cfg", "job", "--resolve"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["source"]["_target_"] == "keras.applications.VGG16"


# What is printed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "same_layer",
            [
                "equal    all 2 arrays of trunk/conv1 equal the source's, bit for bit",
                "kept     all 10 arrays of trunk/bn1, trunk/conv{2..3}, head keep the initial values",
            ],
        ),
        (
            "set_element",
            ["edited   head/kernel[3, 2]  -0.0265 -> 99.0; the other 639 elements and 11 weights unchanged"],
        ),
        ("from_checkpoint", ["equal    all 12 arrays of the model equal the source's, bit for bit"]),
    ],
)
def test_a_run_says_at_a_glance_what_it_did(name, lines, run, capsys):
    run(name)
    shown = capsys.readouterr().out
    for line in lines:
        assert line in shown.splitlines()
    assert "as built" not in shown
    if name == "set_element":
        assert "initial values" not in shown
        before = raw(DATA / "digits_0_4.keras")
        assert "-0.0265" in {str(round(float(v[3, 2]), 4)) for v in before.values() if v.shape == (128, 5)}


SHOWN = ["digits", "same_layer", "set_element", "from_checkpoint"]


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("name", SHOWN)
def test_the_plan_of_a_shipped_recipe_looks_as_it_did(name, width, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["plan", f"recipe={name}"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown
    assert_golden(shown.rstrip("\n"), Path(__file__).parent / "planning" / "golden" / f"{name}_{width}.txt")


@pytest.mark.parametrize("name", SHOWN)
def test_wider_terminals_show_the_same_words(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shown = []
    for width in (80, 120, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        assert main(["plan", f"recipe={name}"]) == 0
        shown.append(sorted(re.sub(r"\s", "", capsys.readouterr().out)))
    assert shown[0] == shown[1] == shown[2]


def test_digits_is_the_default_and_ends_with_a_score_and_its_controls(tmp_path):
    """The one slow test here: the whole program, as a user types it."""
    command = [sys.executable, "-m", "transferpipe"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "COMP_LINE": ""})
    assert done.returncode == 0, done.stderr
    for word in (
        "recipe  digits",
        "weights: pass, 12",
        "validation accuracy",
        "this model, test part",
        "random trunk",
        "raw pixels",
    ):
        assert word in done.stdout
    (folder,) = (tmp_path / "outputs" / "digits").iterdir()
    score = json.loads((folder / "score.json").read_text())
    assert [c["name"] for c in score["controls"]] == ["random trunk", "raw pixels"]
    assert 0.85 < score["value"] <= 1
    assert {"model.keras", "plan.json", "manifest.json", "report.html", ".hydra"} <= {p.name for p in folder.iterdir()}

    model = keras.models.load_model(folder / "model.keras")
    result, source = by_layer(model), by_layer(keras.models.load_model(DATA / "digits_0_4.keras"))
    built = fresh(digits_cnn, classes=5)
    trunk = ("conv1", "bn1", "conv2", "conv3")
    assert all(equal(result[name], source[name]) for name in trunk)
    assert equal(result["head"], built["head"])
    assert [w.path for w in model.trainable_variables] == ["head/kernel", "head/bias"]
    assert not model.get_layer("trunk").get_layer("bn1").trainable


def score_of(folder, capsys, *words):
    """Run the command line and return the score that it left in the folder."""
    assert main(["run", *words, f"hydra.run.dir={folder}"]) == 0, capsys.readouterr().err
    return json.loads((folder / "score.json").read_text())


@pytest.mark.parametrize(
    ("words", "kind", "low", "high"),
    [
        (["score=linear_probe"], "trained", 0.95, 1),
        (["score=linear_probe", "score.layer=trunk/conv1", "score.pool=average"], "trained", 0.3, 0.93),
        (["score=finetune", "score.epochs=3"], "trained", 0.35, 1),
        (["score=finetune", "score.epochs=3", "score.metric=loss", "score.repeats=2"], "trained", 0.2, 2),
        (["score=logme"], "heuristic", 0.3, 0.7),
        (["score=h_score"], "heuristic", 3, 4),
        (["score=leep"], "heuristic", -1.5, -0.5),
        (["score=parity"], "heuristic", 0, 0),
        (["score=evaluate"], "measured", 0.05, 0.5),  # the head is fresh
        (["score=linear_probe", "score/data=npz", "score.data.path=own.npz"], "trained", 0.95, 1),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_the_presets_of_scores_on_the_digits(words, kind, low, high, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images, classes = load_digits([5, 6, 7, 8, 9])
    np.savez("own.npz", x=images, y=classes)
    score = score_of(tmp_path / "out", capsys, "recipe=digits", *words)
    assert score["kind"] == kind
    assert low <= score["value"] <= high
    assert (score["spread"] is not None) == ("score.repeats=2" in words)
    printed = capsys.readouterr().out
    assert f"({kind}, {'higher' if score['higher_is_better'] else 'lower'} is better, " in printed
    assert score["name"] in (tmp_path / "out" / "report.html").read_text()
