"""A recipe whose source is what TensorFlow wrote: a checkpoint of objects, of names, a SavedModel."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from command_line import tree, weights

RECIPE = """
source: {{path: {path}}}
target: {{_target_: transferpipe.zoo.small_mlp}}
mapping:
  all: {{to: '.*', from: '{from_}'}}
"""


def model():
    """Return a model like `small_mlp`, with the values that `weights` gives."""
    keras.utils.clear_session()
    layers = [keras.Input((8,)), keras.layers.Dense(6, name="hidden"), keras.layers.Dense(3, name="classes")]
    made = keras.Sequential(layers)
    made.compile("adam", "mse")
    made.fit(np.ones((2, 8)), np.ones((2, 3)), verbose=0)
    for name, value in weights().items():
        layer, own = name.split("/")
        getattr(made.get_layer(layer), own).assign(value)
    return made


@pytest.fixture
def saved(here):
    """Return a function that saves the model in one way and returns the path and the template of its layers' names."""

    def objects():
        path = tf.train.Checkpoint(model=model()).save(str(here / "run" / "ckpt"))
        return path, r"model/\0"

    def moved():
        objects()
        (here / "run" / "checkpoint").write_text('model_checkpoint_path: "/gone/run/ckpt-1"')
        (here / "run").rename(here / "moved")
        return "moved", r"model/\0"

    def served():
        model().export(here / "served", verbose=False)
        return "served", r"\0"

    def names():
        v1 = tf.compat.v1
        with tf.Graph().as_default(), v1.Session() as session:
            for name, value in weights().items():
                v1.get_variable(f"net/{name}", initializer=value, use_resource=True)
            session.run(v1.global_variables_initializer())
            v1.train.Saver().save(session, str(here / "model.ckpt"), global_step=9)
        return "model.ckpt-9", r"net/\0"

    return locals()


@pytest.mark.parametrize("kind", ["objects", "moved", "served", "names"])
def test_loading_a_model_from_a_checkpoint(cli, here, recipe, saved, kind):
    path, template = saved[kind]()
    mine = recipe(RECIPE.format(path=path, from_=template))
    before = tree(here)
    assert cli("plan", mine).status == 0
    assert tree(here) == before
    answer = cli("run", mine, "hydra.run.dir=out")
    assert answer.status == 0, answer.err
    loaded = keras.models.load_model(here / "out" / "model.keras")
    for name, value in weights().items():
        layer, own = name.split("/")
        assert np.array_equal(getattr(loaded.get_layer(layer), own), value)
    assert cli("verify", "out").status == 0
    manifest = json.loads((here / "out" / "manifest.json").read_text())
    assert manifest["sources"]["source"]["format"] in ("tf_checkpoint", "saved_model")


def test_looking_into_a_checkpoint(cli, saved):
    path, _ = saved["objects"]()
    answer = cli("inspect", path, "--all", "--stats")
    assert answer.status == 0
    assert "model/hidden/kernel" in answer.out
    assert "4 weights, 75 parameters" in answer.out
    assert "model/optimizer/learning_rate" in answer.out


def test_a_cut_checkpoint_is_refused(cli, here, refuses, recipe, saved):
    path, template = saved["names"]()
    shard = here / "model.ckpt-9.data-00000-of-00001"
    shard.write_bytes(shard.read_bytes()[:-4])
    refuses(4, ("run", recipe(RECIPE.format(path=path, from_=template))), "model.ckpt-9.index: net/", "which has 296")


def test_several_checkpoints_in_a_folder_are_listed(here, refuses, recipe):
    checkpoint = tf.train.Checkpoint(w=tf.Variable(1.0))
    for i in (1, 2):
        checkpoint.write(str(here / "many" / f"ckpt-{i}"))
    refuses(4, ("plan", recipe(RECIPE.format(path="many", from_=r"\0"))), "'ckpt-1', 'ckpt-2'", "name one")
