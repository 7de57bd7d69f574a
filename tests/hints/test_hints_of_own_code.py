"""Code of the user's own is at fault: a builder, a layer, a module, a score. It is corrected as the message says."""

import importlib
import re
import sys

import numpy as np
import pytest

import transferpipe as tp
from transferpipe.errors import TransferError

follows = pytest.mark.follows
RANDOM = np.random.default_rng(8)
VALUES = {"a/kernel": RANDOM.normal(size=(3, 4)).astype("f4"), "a/bias": RANDOM.normal(size=4).astype("f4")}
X = RANDOM.normal(size=(2, 3)).astype("f4")
EXPECTED = X @ VALUES["a/kernel"] + VALUES["a/bias"]
HEAD = """
import keras
from keras import layers


@keras.saving.register_keras_serializable(package="NAME")
class Own(layers.Dense):
    CLASS


def build(units=4):
    BUILD
"""
MODEL = "return keras.Sequential([keras.Input((3,)), Own(units, name='a')])"

SCOPED = f"with keras.StatelessScope(initialize_variables=False):\n        {MODEL.replace('return', 'model =')}"
SCOPED += "\n    model.compile()\n    return model"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Return a function that writes a module with a class and a builder of the user's own, and the call of the builder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    np.savez("s.npz", **VALUES)
    count = iter(range(99))

    def write(build=MODEL, inside="pass", **arguments):
        name = f"own_{re.sub('[^a-z0-9]', '_', tmp_path.name)}_{next(count)}"
        text = HEAD.replace("NAME", f"{tmp_path.name}_{name}").replace("CLASS", inside).replace("BUILD", build)
        (tmp_path / f"{name}.py").write_text(text)
        return {"_target_": f"{name}.build", **arguments}

    return write


def advised(function, *args, **keys):
    with pytest.raises(TransferError) as caught:
        function(*args, **keys)
    return caught.value.problems[0].fix


def transfer(target, save="m.npz", **keys):
    folder = target["_target_"].partition(".")[0]
    tp.transfer("s.npz", target, mapping={"r": {"to": "a"}}, folder=folder, save=save, **keys)
    return folder


def is_right(folder):
    with np.load(f"{folder}/m.npz") as found:
        return {*found} == {*VALUES} and all(np.array_equal(found[name], value) for name, value in VALUES.items())


# Builders ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        pytest.param(
            {"build": "return keras.Sequential([Own(units, name='a')])"},
            {"build": "model = keras.Sequential([Own(units, name='a')]); model.build((None, 3)); return model"},
            marks=follows("_check_model: call model.build(input_shape), or the"),
            id="not built",
        ),
        pytest.param(
            {"build": "return keras.Sequential([Own(units, name='a')])"},
            {"build": "model = keras.Sequential([Own(units, name='a')]); model(keras.ops.zeros((1, 3))); return model"},
            marks=follows("_check_model: call model.build(input_shape), or the"),
            id="not called",
        ),
        pytest.param(
            {"build": SCOPED},
            {},
            marks=follows("_check_model: build it outside of"),
            id="in a scope",
        ),
        pytest.param(
            {"units": "four"}, {"units": 4}, marks=follows("call: fix the builder or"), id="argument"
        ),
        pytest.param(
            {"build": "raise ValueError('no luck')"}, {}, marks=follows("call: fix the builder or"), id="raises"
        ),
        pytest.param(
            {"build": "return keras.Sequential([keras.Input((3,)), layers.Flatten()])"},
            {},
            marks=follows("open_target: name another, or build"),
            id="without weights",
        ),
        pytest.param(
            {"inside": "def load_own_variables(self, store):\n        self.kernel.assign(store['zero'])"},
            {"inside": "def load_own_variables(self, store):\n        self.kernel.assign(store['0'])\n        self.bias.assign(store['1'])"},
            marks=follows("_load: correct its load_own_variables"),
            id="hook",
        ),
        pytest.param(
            {"inside": "def load_own_variables(self, store):\n        self.kernel.assign(2 * store['0'])\n        self.bias.assign(store['1'])"},
            {"inside": "def load_own_variables(self, store):\n        self.kernel.assign(store['0'])\n        self.bias.assign(store['1'])"},
            marks=follows("transfer_live: let its load_own_variables take"),
            id="hook that changes",
        ),
    ],
)  # fmt: skip
def test_a_builder_that_is_corrected(wrong, right, written):
    given = written(**wrong)
    if "inside" in wrong:
        assert advised(tp.transfer, "s.npz", live(given), mapping={"r": {"to": "a"}})
    else:
        assert advised(transfer, given)
    given = written(**right)
    if "inside" in right:
        model = live(given)
        tp.transfer("s.npz", model, mapping={"r": {"to": "a"}})
        assert np.allclose(model(X), EXPECTED, atol=1e-6)
    assert is_right(transfer(given))


def live(given):
    return importlib.import_module(given["_target_"].partition(".")[0]).build()


@follows("_import_failure: fix the module")
def test_a_module_that_cannot_be_imported(written, tmp_path):
    given = written()
    path = tmp_path / f"{given['_target_'].partition('.')[0]}.py"
    text = path.read_text()
    path.write_text(text.replace("def build", "def buil d"))
    assert advised(transfer, given) == "fix the module"
    path.write_text(text)
    assert is_right(transfer(given))


@follows("ModelTarget._write_config: save weights only (.weights.h5,")
def test_a_configuration_that_cannot_be_written(written):
    inside = "def get_config(self):\n        raise {}('no luck')"
    for kind in ("ValueError", "NotImplementedError"):
        given = written(inside=inside.format(kind))
        fix = advised(transfer, given, save="m.keras")
        for suffix in re.findall(r"(\.[\w.]+\w)[,)]", fix):
            folder = transfer(given, save=f"m{suffix}")
            assert (
                (suffix == ".npz") <= np.array_equal(np.load(f"{folder}/m.npz")["a/kernel"], VALUES["a/kernel"])
                if suffix == ".npz"
                else True
            )
    assert "give its classes a get_config" in fix
    given = written(inside="def get_config(self):\n        return super().get_config()")
    assert is_right(transfer(given))


@follows("_unsavable: correct its save_own_variables")
def test_a_layer_that_cannot_hand_over_its_weights(written):
    assert advised(
        transfer, written(inside="def save_own_variables(self, store):\n        raise ValueError('no luck')")
    )
    right = "def save_own_variables(self, store):\n        store['0'] = self.kernel\n        store['1'] = self.bias"
    assert is_right(transfer(written(inside=right)))
