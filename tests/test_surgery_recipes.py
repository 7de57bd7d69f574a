"""The shipped recipes for classes, tokens and folding, run; what they give, by NumPy from the files that they name."""

import json
import shutil
from importlib.resources import files
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file

from transferpipe.cli import main
from transferpipe.digits import load_digits
from transferpipe.zoo import small_vit

DATA = Path(str(files("transferpipe.zoo") / "data"))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Return a function that runs a shipped recipe, proves it again, and returns the model and the manifest."""
    monkeypatch.chdir(tmp_path)

    def run(name, *overrides, verdict=0):
        status = main(["run", f"recipe={name}", *overrides, "hydra.run.dir=out"])
        assert status == 0, capsys.readouterr().err
        assert main(["verify", "out"]) == verdict
        manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
        return keras.models.load_model(tmp_path / "out" / "model.keras"), manifest

    return run


@pytest.fixture(scope="module")
def head():
    """Return kernel and bias of the source's head: five classes, zero to four."""
    return keras.models.load_model(DATA / "digits_0_4.keras").get_layer("head").get_weights()


def test_fold_batchnorm(run):
    model, manifest = run("fold_batchnorm")
    assert manifest["verdict"]["function"] == "pass"
    images, _ = load_digits(split="test")
    source = keras.models.load_model(DATA / "digits_normed.keras")
    np.testing.assert_allclose(model(images[:64]), source(images[:64]), atol=1e-5)
    assert not any("BatchNormalization" in type(layer).__name__ for layer in model.layers)


@pytest.fixture(scope="module")
def colours():
    """Return images in colour and the network that tells the digits on them apart."""
    images = np.random.default_rng(0).random((32, 8, 8, 3), "float32")
    return images, keras.models.load_model(DATA / "colour_digits.keras", compile=False)


def test_deeper(run, colours):
    model, manifest = run("deeper")
    images, source = colours
    assert manifest["verdict"]["function"] == "pass"
    assert len(model.layers) == len(source.layers) + 2
    assert model.get_layer("conv2_more").kernel.shape == (3, 3, 16, 16)
    np.testing.assert_allclose(model(images), source(images), atol=1e-5)


def test_wider(run, colours):
    model, manifest = run("wider")
    images, source = colours
    assert manifest["verdict"]["function"] == "pass"
    assert [model.get_layer(name).kernel.shape[-1] for name in ("conv1", "conv2", "head")] == [20, 24, 10]
    np.testing.assert_allclose(model(images), source(images), atol=1e-5)


def test_narrower(run, colours):
    """Its units are those with the largest kernels; the network is the whole one whose other units are held at zero."""
    model, _ = run("narrower")
    images, source = colours
    for name, count in (("conv1", 8), ("conv2", 12)):
        kernel, bias = source.get_layer(name).get_weights()
        out = np.argsort(-np.abs(kernel).sum((0, 1, 2)))[count:]
        kernel[..., out], bias[out] = 0, 0
        source.get_layer(name).set_weights([kernel, bias])
    np.testing.assert_allclose(model(images), source(images), atol=1e-5)


def test_rebasin(run):
    model, manifest = run("rebasin")
    assert manifest["warnings"] == [], "the output's bias of the other network is not for taking"
    assert manifest["verdict"]["function"] == "pass"
    one, two = (load_file(DATA / f"digits_mlp_{name}.safetensors") for name in ("run1", "other"))
    made = {f"{x.name}/{w.name}": np.asarray(w) for x in model.layers for w in x.weights}

    def distance(held):
        return sum(float(((held[name] - one[name]) ** 2).sum()) for name in one)

    assert distance(made) < 0.9 * distance(two)
    for name in ("hidden1/bias", "hidden1/kernel"):
        assert np.array_equal(np.sort(made[name], axis=-1), np.sort(two[name], axis=-1))


def test_merge_lora(run):
    model, manifest = run("merge_lora")
    assert manifest["verdict"]["function"] == "pass"
    from transferpipe.weights.formats import open_source

    def held(name):
        source = open_source(DATA / name)
        return {w.name: source.read(w.name) for w in source.catalog}

    base, factors = held("lora_base.safetensors"), held("lora_adapter/adapter_model.safetensors")
    a, b = (factors[f"base_model/model/hidden/lora_{x}/weight"] for x in "AB")
    merged = base["hidden/weight"] + 8 / 2 * b @ a
    np.testing.assert_allclose(model.get_layer("hidden").get_weights()[0], merged.T, rtol=1e-5, atol=1e-6)
    # What the recipe compares with is what base and factors give one beside the other.
    x = np.load(DATA / "lora_inputs.npz")["inputs"]
    hidden = x @ base["hidden/weight"].T + base["hidden/bias"] + 4 * (x @ a.T) @ b.T
    scores = np.exp(np.maximum(hidden, 0) @ base["classes/weight"].T + base["classes/bias"])
    expected = np.load(DATA / "lora_outputs.npz")["classes"]
    np.testing.assert_allclose(expected, scores / scores.sum(1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_dequantize(run, mode):
    model, manifest = run("dequantize", f"source.mode={mode}", verdict=3)  # no file holds the source
    assert manifest["verdict"]["function"] == "pass"
    before = keras.models.load_model(DATA / "digits_normed.keras").get_layer("head").get_weights()[0]
    found = model.get_layer("head").get_weights()[0]
    assert found.dtype == "float32"
    assert 0 < np.abs(found - before).max() < 0.6 * np.abs(before).max() / (127 if mode == "int8" else 7)


def test_more_classes(run, head):
    model, _ = run("more_classes")
    kernel, bias = model.get_layer("head").get_weights()
    assert np.array_equal(kernel[:, :5], head[0]) and np.array_equal(bias[:5], head[1])
    np.testing.assert_allclose(kernel[:, 5:], np.repeat(head[0].mean(1, keepdims=True), 3, 1), rtol=1e-5, atol=1e-7)


def test_class_names(run, head, tmp_path):
    model, manifest = run("class_names")
    kernel, bias = model.get_layer("head").get_weights()
    old, new = (DATA / "digits_0_4.txt").read_text().split(), json.loads((DATA / "digits_other.json").read_text())
    for place, name in enumerate(new):
        if name in old:
            assert np.array_equal(kernel[:, place], head[0][:, old.index(name)]), name
            assert bias[place] == head[1][old.index(name)]
        else:
            assert not (kernel[:, place : place + 1] == head[0]).all(0).any()
    assert {Path(written).name for written in manifest["inputs"]} == {"digits_0_4.txt", "digits_other.json"}
    assert all(Path(entry["path"]).is_file() for entry in manifest["inputs"].values())


def test_the_lists_of_a_run_are_read_again_when_it_is_proved(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lists = [shutil.copy(DATA / name, tmp_path / name) for name in ("digits_0_4.txt", "digits_other.json")]
    rule = "mapping.head.transform=[{class_names: {from: digits_0_4.txt, to: digits_other.json}}]"
    assert main(["run", "recipe=class_names", rule, "hydra.run.dir=out"]) == 0
    monkeypatch.chdir("/")
    assert main(["verify", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    from transferpipe.fetch import name_list
    from transferpipe.recent import Recent

    monkeypatch.setattr(name_list, "_READ", Recent(8))  # as another process
    Path(lists[1]).write_text('["zero"]')
    assert main(["verify", str(tmp_path / "out")]) == 3
    assert "digits_other.json cannot be read any more" in " ".join(capsys.readouterr().out.split())


def test_a_list_that_is_wrong_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "twice.txt").write_text("one\ntwo\none\n")
    for path, said in (("twice.txt", "has the name 'one' twice"), ("none.txt", "none.txt")):
        rule = f"mapping.head.transform=[{{class_names: {{from: 'pkg://transferpipe/zoo/data/digits_0_4.txt', to: {path}}}}}]"
        assert main(["run", "recipe=class_names", rule, "hydra.run.dir=out"]) == 4
        assert said in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tied", [True, False])
def test_grow_vocabulary(run, tied):
    model, _ = run("grow_vocabulary", f"+source.tied={tied}", f"+target.tied={tied}", verdict=3)
    from transferpipe.zoo import token_model

    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    before = token_model(12, tied).get_layer("tokens").get_weights()
    after = model.get_layer("tokens").get_weights()
    old = (DATA / "tokens_12.txt").read_text().splitlines()
    new = list(json.loads((DATA / "tokens_16.json").read_text())["model"]["vocab"])
    assert len(after) == (1 if tied else 2)
    for rows, ours in zip([before[0], *(w.T for w in before[1:])], [after[0], *(w.T for w in after[1:])], strict=True):
        for place, token in enumerate(new):
            if token in old:
                assert np.array_equal(ours[place], rows[old.index(token)]), token
        for token, pieces in (("cats", ["cat", "##s"]), ("catdog", ["cat", "dog"]), ("running", ["run", "##ning"])):
            mean = np.mean([rows[old.index(piece)] for piece in pieces], 0)
            np.testing.assert_allclose(ours[new.index(token)], mean, rtol=1e-5, atol=1e-7)


def test_upscale(run):
    """The model of three blocks computes what the one of two does, and can be trained on."""
    model, manifest = run("upscale", "save.path=model.keras")
    assert manifest["verdict"]["function"] == "pass"
    source, images = keras.models.load_model(DATA / "vit_digits.keras"), load_digits(split="test")[0]
    np.testing.assert_allclose(model(images[:64]), source(images[:64]), atol=1e-6)
    assert [x.name for x in model.layers] == [x.name for x in small_vit(depth=3).layers]
    old = source.get_layer("block2_norm1").gamma
    np.testing.assert_array_equal(model.get_layer("block3_norm1").gamma, old)
    assert not np.array_equal(model.get_layer("block2_norm1").gamma, old)
