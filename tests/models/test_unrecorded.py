"""Arguments that a model's class leaves out of its configuration: the file does not build that model again."""

import io
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest

import transferpipe as tp

MODULE = """
import keras
from keras import layers


class Net(keras.Model):
    def __init__(self, depth=1, width=3, **keys):
        x = inputs = keras.Input((3,))
        for n in range(depth):
            x = layers.Dense(width, name=f"d{n}")(x)
        super().__init__(inputs, x, **keys)
        self.width = width

    def get_config(self):
        return {"name": self.name, "width": self.width}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


def make(depth):
    return Net(depth)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "nets_of_own", raising=False)
    (tmp_path / "nets_of_own.py").write_text(MODULE)

    def run(builder="Net", path="m.keras", **arguments):
        target = {"_target_": f"nets_of_own.{builder}", **arguments}
        return tp.transfer(None, target, unmatched="keep", save={"path": path, "overwrite": True}, folder="out")

    return run


def warned(report):
    return [w.text for w in report.warnings if w.code == "not-recorded"]


@pytest.mark.warns("not-recorded")
@pytest.mark.follows("code: not-recorded")
def test_what_the_class_does_not_record_is_named(run):
    from nets_of_own import Net

    (text,) = warned(run(depth=2))
    assert "Net does not record depth in its configuration" in text
    assert text.endswith("load it with Net(...).load_weights('m.keras')")
    with keras.utils.custom_object_scope({"Net": Net}):
        assert len(keras.models.load_model("out/m.keras").layers) == 2  # the input and one of two layers
    model = Net(2)
    model.load_weights("out/m.keras")
    with h5py.File(io.BytesIO(zipfile.ZipFile("out/m.keras").read("model.weights.h5"))) as file:
        for layer, group in (("d0", "dense"), ("d1", "dense_1")):
            np.testing.assert_array_equal(model.get_layer(layer).kernel, file[f"layers/{group}/vars/0"])


@pytest.mark.parametrize(
    "keys", [{"depth": 1}, {"width": 4}, {"builder": "make", "depth": 2}, {"depth": 2, "path": "m.npz"}]
)
def test_what_changes_nothing_or_is_recorded_is_not(keys, run):
    assert warned(run(**keys)) == []
