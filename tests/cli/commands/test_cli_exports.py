"""Outputs that TensorFlow opens: a SavedModel with its signature, a checkpoint that restores completely."""

import contextlib
import json
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from command_line import RECIPE, tree, weights
from hydra.core.global_hydra import GlobalHydra
from safetensors.numpy import save_file

import transferpipe as tp
from transferpipe import zoo
from transferpipe.cli import main

BOTH = ("save.path=served", "save.also=[deep/model.ckpt,model.keras]")
RUN = ("run", "recipe=own", "hydra.run.dir=out")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A run that wrote a SavedModel, a checkpoint and a `.keras` file."""
    folder = tmp_path_factory.mktemp("original")
    (folder / "recipes").mkdir()
    (folder / "recipes" / "own.yaml").write_text(RECIPE)
    save_file(weights(), folder / "weights.safetensors")
    with contextlib.chdir(folder):
        assert main([*RUN, *BOTH]) == 0
    GlobalHydra.instance().clear()
    return folder / "out"


@pytest.fixture
def finished(here, original):
    """Return the folder of that run, for this test alone."""
    return Path(shutil.copytree(original, here / "out"))


def test_what_a_run_leaves(finished):
    names = {name for name in tree(finished) if not name.startswith(".hydra")}
    assert {n for n in names if n.startswith("deep")} == {
        "deep", "deep/model.ckpt.data-00000-of-00001", "deep/model.ckpt.index",
    }  # fmt: skip
    assert {"served/saved_model.pb", "served/variables/variables.index", "model.keras", "manifest.json"} < names
    assert not [n for n in names if ".part" in n]
    manifest = json.loads((finished / "manifest.json").read_text())
    served, checkpoint, _ = manifest["artifacts"]
    assert "bytes differ from run to run" in served["writer"]
    assert served["bytes"] == sum(p.stat().st_size for p in (finished / "served").rglob("*") if p.is_file())
    assert set(checkpoint["files"]) == {".index", ".data-00000-of-00001"}


def test_the_signature_gives_the_outputs_of_the_model(finished):
    model = keras.models.load_model(finished / "model.keras")
    serve = tf.saved_model.load(str(finished / "served")).signatures["serving_default"]
    x = np.random.default_rng(0).random((5, 8)).astype("float32")
    (_, inputs) = serve.structured_input_signature
    (outputs,) = serve(**{next(iter(inputs)): x}).values()
    assert np.allclose(outputs, model(x), atol=1e-6)
    assert np.array_equal(model.get_layer("hidden").kernel, weights()["hidden/kernel"])


def test_the_checkpoint_restores_completely(finished):
    keras.utils.clear_session()
    fresh = zoo.small_mlp()
    tf.train.Checkpoint(model=fresh).read(str(finished / "deep" / "model.ckpt")).assert_consumed()
    expected = keras.models.load_model(finished / "model.keras")
    for one, other in zip(fresh.weights, expected.weights, strict=True):
        assert np.array_equal(one, other)


def test_verify_proves_them_again(cli, finished):
    answer = cli("verify", "out")
    assert answer.status == 0, answer.err
    assert "6 weights computed again from their sources, 6 compared with their digests" in answer.out


@pytest.mark.parametrize(
    "name", ["served/saved_model.pb", "served/variables/variables.data-00000-of-00001", "deep/model.ckpt.index"]
)
def test_verify_sees_one_bit(cli, finished, name):
    data = bytearray((finished / name).read_bytes())
    data[len(data) // 2] ^= 1
    (finished / name).write_bytes(data)
    assert cli("verify", "out").status == 3


def test_verify_sees_a_missing_and_a_further_file(cli, finished):
    (finished / "served" / "assets").mkdir(exist_ok=True)
    (finished / "served" / "assets" / "more").write_text("x")
    assert cli("verify", "out").status == 3
    (finished / "served" / "assets" / "more").unlink()
    assert cli("verify", "out").status == 0
    (finished / "deep" / "model.ckpt.data-00000-of-00001").unlink()
    answer = cli("verify", "out")
    assert (answer.status, "is missing" in answer.err) == (4, True)


def test_a_keras_file_as_the_target(cli, finished, recipe):
    text = """
    source: {path: weights.safetensors}
    target: {path: out/model.keras}
    mapping: {head: {to: classes, from: classes}}
    unmatched: keep
    ignore: [hidden]
    save: {path: again.ckpt, also: [again]}
    """
    assert cli("run", recipe(text), "hydra.run.dir=two").status == 0
    assert cli("verify", "two").status == 0
    found = tf.train.load_checkpoint(str(finished.parent / "two" / "again.ckpt"))
    keys = [k for k in found.get_variable_to_shape_map() if k.endswith("VARIABLE_VALUE")]
    values = [found.get_tensor(k) for k in keys]
    for value in weights().values():
        assert any(v.shape == value.shape and np.array_equal(v, value) for v in values)


def test_what_was_written_can_be_a_source(cli, finished, recipe):
    text = "source: {path: out/deep/model.ckpt}\ntarget: {_target_: transferpipe.zoo.small_mlp}\n"
    text += "mapping: {all: {to: 'hidden|classes', from: 'model/\\0'}}\n"
    assert cli("run", recipe(text), "hydra.run.dir=back").status == 0
    text = "source: {path: out/served}\ntarget: {_target_: transferpipe.zoo.small_mlp}\nunmatched: same_name\n"
    assert cli("run", recipe(text, "served"), "hydra.run.dir=back2").status == 0


@pytest.mark.parametrize("path", ["served", "deep/model.ckpt"])
def test_outputs_of_several_files_are_never_written_over(finished, refuses, path):
    refuses(4, (*RUN, f"save.path={path}", "save.overwrite=true"), "exists already", "remove it first")


def test_a_file_without_a_model_cannot_become_one(refuses, recipe):
    text = "source: {path: weights.safetensors}\ntarget: {path: weights.safetensors}\nmapping: {all: {to: '.*'}}\n"
    for path in ("served", "model.ckpt"):
        refuses(2, ("run", recipe(text), f"save.path={path}"), "without a model", path)


def test_names_that_choose_no_format(refuses):
    refuses(2, ("plan", "recipe=own", "save.path=model.tf"), ".ckpt", "a SavedModel is a folder")
    refuses(2, ("plan", "recipe=own", "save.path=.hidden"), "a SavedModel is a folder")
    refuses(2, ("plan", "recipe=own", "save.path=out", "save.also=[out/model.keras]"), "lies inside of the SavedModel")


@pytest.mark.follows("_name_keys: save as .keras or")
def test_layers_that_tensorflow_would_leave_out(cli, refuses, recipe, here):
    (here / "listed.py").write_text(
        "import keras, numpy as np\n"
        "@keras.saving.register_keras_serializable()\n"
        "class Listed(keras.Model):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.blocks = [keras.layers.Dense(6, name='hidden'), keras.layers.Dense(3, name='classes')]\n"
        "    def call(self, x):\n"
        "        for block in self.blocks:\n"
        "            x = block(x)\n"
        "        return x\n"
        "def build():\n"
        "    model = Listed()\n"
        "    model(np.ones((1, 8), 'float32'))\n"
        "    return model\n"
    )
    text = "source: {path: weights.safetensors}\ntarget: {_target_: listed.build}\n"
    text += "mapping: {all: {to: 'blocks/(.*)', from: '\\1'}}\n"
    words = ("run", recipe(text))
    answer = refuses(2, (*words, "save.path=model.ckpt"), "leave out blocks/hidden/kernel", "save as .keras")
    for suffix in re.search(r"save as (\S+) or (\S+),", answer.err).groups():
        assert cli(*words, f"save.path=model{suffix}", f"hydra.run.dir=out{suffix}").status == 0
        assert {w.name for w in tp.catalog(here / f"out{suffix}/model{suffix}")} >= {"blocks/hidden/kernel"}


def test_nothing_is_left_behind_if_exporting_fails(refuses, monkeypatch):
    def fail(*_, **__):
        raise ValueError("no space for signatures")

    monkeypatch.setattr(keras.Model, "export", fail)
    refuses(2, (*RUN, "save.path=served", "save.also=[model.ckpt]"), "cannot be saved as a SavedModel", "signatures")
