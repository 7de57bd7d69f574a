"""KerasHub presets: the backbone's weights as in its own file, a task's beside them; and folders made to mislead."""

import json

import h5py
import keras
import numpy as np
import pytest
from keras import layers as kl
from keras.src.saving import saving_lib

import transferpipe as tp
from transferpipe.errors import FileError, UnsafeError
from transferpipe.weights.formats import open_source


def backbone():
    inputs = keras.Input((4,))
    return keras.Model(inputs, kl.LayerNormalization()(kl.Dense(3, name="proj")(inputs)), name="net")


class Task(keras.Model):
    """As KerasHub's: a Functional model that holds its backbone in an attribute too."""

    def __init__(self, net):
        logits = kl.Dense(2, name="logits")
        super().__init__(inputs=net.input, outputs=logits(net(net.input)))
        self.backbone, self.logits = net, logits


def save_preset(folder, net, task=None, shard=None):
    """Write what ``save_to_preset`` writes."""
    (folder / "config.json").write_text(json.dumps(keras.saving.serialize_keras_object(net)))
    (folder / "metadata.json").write_text(json.dumps({"keras_version": "3.15.1", "keras_hub_version": "0.32.0"}))
    if shard:
        net.save_weights(folder / "model.weights.json", max_shard_size=shard)
    else:
        net.save_weights(folder / "model.weights.h5")
    if task:
        (folder / "task.json").write_text(json.dumps({"class_name": "MyClassifier", "config": {}}))
        skipped = list(net._flatten_layers())
        saving_lib.save_weights_only(task, folder / "task.weights.h5", objects_to_skip=skipped)
    return folder


@pytest.fixture
def net():
    keras.utils.clear_session(free_memory=False)
    model = backbone()
    model.set_weights([np.random.default_rng(k).normal(size=w.shape) for k, w in enumerate(model.get_weights())])
    return model


@pytest.mark.parametrize("shard", [None, 64 / 2**30])
def test_a_backbone_has_the_names_of_its_own_file(tmp_path, net, shard):
    source = open_source(save_preset(tmp_path, net, shard=shard))
    names = ["proj/kernel", "proj/bias", "layer_normalization/gamma", "layer_normalization/beta"]
    assert [w.name for w in source.catalog] == names
    assert [w.layer_class for w in source.catalog] == ["Dense"] * 2 + ["LayerNormalization"] * 2
    assert all(np.array_equal(source.read(n), v) for n, v in zip(names, net.get_weights(), strict=True))
    assert source.locate(names[0]).nbytes == 48
    assert (source.path, source.format, source.details["keras_hub_version"]) == (tmp_path, "preset", "0.32.0")
    assert len(source.files) == (3 if shard is None else 5)


def test_names_of_older_files_come_from_the_configuration(tmp_path, net):
    save_preset(tmp_path, net)
    with h5py.File(tmp_path / "model.weights.h5", "a") as file:
        file.visititems(lambda _, item: item.attrs.pop("name", None) and None)
    assert "proj/kernel" in open_source(tmp_path).catalog


def test_weights_of_a_task_lie_beside_those_of_its_backbone(tmp_path, net):
    task = Task(net)
    source = open_source(save_preset(tmp_path, net, task))
    assert [w.name for w in source.catalog][-2:] == ["task/logits/kernel", "task/logits/bias"]
    assert len(source.catalog) == 6
    assert np.array_equal(source.read("task/logits/kernel"), task.logits.kernel)
    assert source.locate("task/logits/kernel").path == tmp_path / "task.weights.h5"
    assert source.locate("proj/kernel").path == tmp_path / "model.weights.h5"
    assert source.details["task"] == "MyClassifier"


def test_transfer_of_a_whole_task(tmp_path, net):
    task = Task(net)
    save_preset(tmp_path, net, task)
    before = [w.copy() for w in task.get_weights()]
    task.set_weights([w + 1 for w in before])
    rules = {"trunk": {"to": "net/(.*)", "from": r"\1"}, "head": {"to": "logits", "from": "task/logits"}}
    assert tp.transfer(tmp_path, task, mapping=rules, folder=tmp_path / "run").verdict.weights == "pass"
    assert all(np.array_equal(a, b) for a, b in zip(before, task.get_weights(), strict=True))


def test_a_folder_that_grows_is_opened_again(tmp_path, net):
    task = Task(net)
    save_preset(tmp_path, net)
    assert not tp.plan(tmp_path, net, unmatched="same_name").unused
    saving_lib.save_weights_only(task, tmp_path / "task.weights.h5", objects_to_skip=list(net._flatten_layers()))
    assert len(tp.plan(tmp_path, net, unmatched="same_name").unused) == 2


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5", "task.weights.h5", "metadata.json"])
def test_links_out_of_the_folder(tmp_path, net, name):
    (tmp_path / "inner").mkdir()
    save_preset(tmp_path / "inner", net, Task(net))
    (tmp_path / "inner" / name).rename(tmp_path / name)
    (tmp_path / "inner" / name).symlink_to(tmp_path / name)
    with pytest.raises(UnsafeError, match=f"names '{name}', which is a link to"):
        open_source(tmp_path / "inner")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"config.json: the file cannot be read"),
        ("[]", "config.json: the file is a list, not a mapping"),
        ('{"model_type": "bert"}', "config.json does not describe a Keras model"),
        ('{"class_name": "A", "config": 3}', "config.json does not describe a Keras model"),
    ],
)
def test_configurations_that_are_none(tmp_path, net, text, message):
    save_preset(tmp_path, net)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(FileError, match=message):
        open_source(tmp_path)


def test_weights_that_are_not_there(tmp_path, net):
    save_preset(tmp_path, net)
    (tmp_path / "model.weights.h5").unlink()
    with pytest.raises(FileError, match=r"names the file 'model.weights.h5', but there is no such file"):
        open_source(tmp_path, "preset")
    with pytest.raises(FileError, match="is not a folder -> name the folder of the preset"):
        open_source(tmp_path / "config.json", "preset")
