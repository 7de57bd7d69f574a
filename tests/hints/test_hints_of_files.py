"""What is advised of files that cannot be read as they are named, done as it is printed: the right values are found."""

import json
import re
import sys

import h5py
import numpy as np
import pytest
from advice import offered
from torch_files import plain, write_zip

import transferpipe as tp
from transferpipe.errors import TransferError
from transferpipe.fetch.open_path import open_path
from transferpipe.recipe.locate import locate

follows = pytest.mark.follows
RANDOM = np.random.default_rng(5)


def advised(function, *args, **keys):
    with pytest.raises(TransferError) as caught:
        function(*args, **keys)
    return caught.value.problems[0].fix


def read(path, format=None, select=None):
    source = open_path(str(path), "source", format, select)
    return {w.name: source.read(w.name) for w in source.catalog}


def same(found, expected):
    return found.keys() == expected.keys() and all(np.array_equal(found[n], v) for n, v in expected.items())


# Checkpoints of PyTorch -----------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path):
    """Return a function that writes a checkpoint of several parts, and the path; each part holds `w` of its own."""

    def write(*parts):
        values = {part: RANDOM.normal(size=(2, 3)).astype("float32") for part in parts}
        tensors, stored = plain({f"{part}": value for part, value in values.items()})
        root = {part: {"w": tensors[part]} for part in parts}
        write_zip(tmp_path / "c.pt", root, stored)
        return tmp_path / "c.pt", values

    return write


@follows("_wrapper: choose one: select: …")
def test_one_of_several_parts(checkpoint, tmp_path):
    path, values = checkpoint("model", "state_dict")
    fix = advised(read, path)
    key, name = re.search(r"(select): (\S+) under", fix).groups()
    assert same(read(path, **{key: name}), {"w": values[name]})
    option = re.search(r"or (select=\S+) for inspect", fix)[1]
    assert dict([option.split("=")]) == {key: name}
    np.savez(tmp_path / "t.npz", w=np.zeros((2, 3), "float32"))
    source = {"path": str(path), key: name}
    tp.transfer(source, str(tmp_path / "t.npz"), mapping={"r": {"to": "w"}}, folder=tmp_path, save="o.npz")
    assert np.array_equal(np.load(tmp_path / "o.npz")["w"], values[name])


@pytest.mark.parametrize("select", ["modl", "zzz", "model/zzz"])
@follows("_resolve: …")
def test_a_part_that_there_is_not(select, checkpoint):
    path, values = checkpoint("model", "other")
    fix = advised(read, path, select=select)
    if select == "modl":
        name = offered(fix)[0]
        assert same(read(path, select=name), {"w": values[name]})
    names = re.findall("'(.*?)'", fix.partition("under ")[2])
    for name in names:
        assert read(path, select=name if "/" not in select else f"model/{name}")
    assert names == (["w"] if "/" in select else ["model", "other"])


@follows("_resolve: … #2")
def test_a_part_without_tensors(tmp_path):
    tensors, stored = plain({"w": np.ones((2, 3), "float32")})
    write_zip(tmp_path / "c.pt", {"model": {"w": tensors["w"]}, "epoch": {"n": 3}}, stored)
    (name,) = re.findall("'(.*?)'", advised(read, tmp_path / "c.pt", select="epoch"))
    assert same(read(tmp_path / "c.pt", select=name), {"w": np.ones((2, 3), "float32")})


@follows("_average: …")
def test_averages_that_there_are_not(checkpoint):
    path, values = checkpoint("model", "other")
    names = re.findall("'(.*?)'", advised(read, path, select="ema"))
    assert names == ["model", "other"]
    assert same(read(path, select=names[1]), {"w": values["other"]})


@follows("_order_by_part: save them under other")
def test_two_tensors_of_one_name(tmp_path):
    values = {"x": np.ones((2, 3), "float32"), "y": np.zeros((2, 3), "float32")}
    tensors, stored = plain(values)
    write_zip(tmp_path / "c.pt", {"a": {"b": tensors["x"]}, "a.b": tensors["y"]}, stored)
    assert advised(read, tmp_path / "c.pt") == "save them under other keys"
    write_zip(tmp_path / "c.pt", {"a": {"b": tensors["x"]}, "c.b": tensors["y"]}, stored)
    assert same(read(tmp_path / "c.pt"), {"a/b": values["x"], "c/b": values["y"]})


@follows("open_source: leave select out; only")
def test_a_format_without_parts(tmp_path):
    np.savez(tmp_path / "m.npz", w=np.ones(2))
    fix = advised(read, tmp_path / "m.npz", select="a")
    assert fix.startswith("leave select out")
    assert same(read(tmp_path / "m.npz"), {"w": np.ones(2)})


# Folders and formats --------------------------------------------------------------------------------------------------


@follows("_why_unreadable: check the path, or")
def test_another_format(tmp_path):
    with (tmp_path / "m.h5").open("wb") as file:
        np.savez(file, w=np.ones(2))
    fix = advised(read, tmp_path / "m.h5", "h5")
    key = re.search("`(.*?):`", fix)[1]
    assert same(read(tmp_path / "m.h5", **{key: "npz"}), {"w": np.ones(2)})
    with h5py.File(tmp_path / "right.weights.h5", "w") as file:
        file["layers/d/vars/0"] = np.ones(2)
    assert read(tmp_path / "right.weights.h5")


@follows("_read_text: name another `format:`")
def test_json_that_is_none(tmp_path, monkeypatch):
    from transferpipe.files import json_text

    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {f"w{i}": "a" for i in range(99)}}))
    with pytest.raises(TransferError) as caught:
        json_text.read_mapping(path, most=20)
    key = re.search("`(.*?):`", caught.value.problems[0].fix)[1]
    with (tmp_path / "model.json").open("wb") as file:
        np.savez(file, w=np.ones(2))
    assert same(read(tmp_path / "model.json", **{key: "npz"}), {"w": np.ones(2)})


@follows("open_npy_folder: name the folder of")
def test_a_folder_of_arrays(tmp_path):
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays/w.npy", np.ones(2))
    fix = advised(read, tmp_path / "arrays/w.npy", "npy_folder" if "npy_folder" in formats() else "npy_dir")
    assert same(read((tmp_path / "arrays/w.npy").parent), {"w": np.ones(2)})
    key, format = re.search(r"`(\w+): (\w+)`", fix).groups()
    assert next(iter(read(tmp_path / "arrays/w.npy", **{key: format}).values())).sum() == 2


def formats():
    from transferpipe.weights.formats import FORMATS

    return FORMATS


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(None, marks=follows("_in_folder: name one: …")),
        pytest.param('model_checkpoint_path: "ckpt-3"\n', marks=follows("_in_folder: …")),
    ],
)
def test_one_of_several_checkpoints(state, tmp_path):
    tf = pytest.importorskip("tensorflow")
    for number in (1, 2):
        tf.train.Checkpoint(w=tf.Variable([float(number)])).write(str(tmp_path / f"ckpt-{number}"))
    (tmp_path / "checkpoint").unlink(missing_ok=True)
    if state:
        (tmp_path / "checkpoint").write_text(state)
    fix = advised(read, tmp_path)
    path = fix.partition("name one: ")[2]
    assert same(read(path), {"w": np.array([2], "float32")})
    if state:
        (tmp_path / "checkpoint").write_text(state.replace("ckpt-3", offered(fix)[0]))
        assert next(iter(read(tmp_path).values()))[0] in (1, 2)


@follows("_check_path: name a file or")
def test_what_is_neither_a_file_nor_a_folder(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    np.savez(tmp_path / "m.npz", w=np.ones(2))
    assert advised(read, tmp_path / "pipe") == "name a file or a folder"
    assert same(read(tmp_path / "m.npz"), {"w": np.ones(2)})


@follows("locate: did you mean …?")
def test_a_file_of_a_package():
    name = offered(advised(locate, "pkg://transferpipe/code.py"))[0]
    assert locate(f"pkg://transferpipe/{name}").is_file()


# Trust ----------------------------------------------------------------------------------------------------------------


@follows("_refuse_name: if you trust it,")
def test_a_module_that_is_loaded_already(monkeypatch, tmp_path):
    import ml_dtypes

    from transferpipe.recipe.trust import resolve

    flags = advised(resolve, "ml_dtypes.finfo", "target").partition("command line: ")[2].split()
    assert flags == ["--trust", "ml_dtypes"]
    assert resolve("ml_dtypes.finfo", "target", trusted=flags[1:]) is ml_dtypes.finfo


@pytest.mark.parametrize("name", ["os.getcwd", "keras.applications.vgg16.os.getcwd", "my_models.os.getcwd"])
@follows("_refuse_name: write a function that")
def test_a_function_of_the_users_own(name, monkeypatch, tmp_path):
    from transferpipe.recipe.trust import check_name, resolve

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which the folder of a recipe is added
    (tmp_path / "my_models.py").write_text("import os\n\ndef build():\n    return 3\n")
    monkeypatch.delitem(sys.modules, "my_models", raising=False)
    fix = advised(check_name, name, "target")
    assert resolve(fix.rpartition(" ")[2], "target")() == 3
    monkeypatch.delitem(sys.modules, "my_models")


# Backends -------------------------------------------------------------------------------------------------------------


@follows("require_keras: did you mean …?")
def test_the_backend_of_keras(monkeypatch):
    from transferpipe.models.building.build import require_keras

    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflw")
    monkeypatch.setenv("KERAS_BACKEND", offered(advised(require_keras, "target", "a model"))[0])
    require_keras("target", "a model")
    monkeypatch.setenv("KERAS_BACKEND", "zzz")
    names = advised(require_keras, "target", "a model").removeprefix("Keras has the backends ").split(", ")
    assert "tensorflow" in names


@follows("import_keras: reinstall keras and …,")
def test_a_backend_that_is_broken(monkeypatch):
    import importlib.machinery
    from types import SimpleNamespace

    from transferpipe.models.building.build import import_keras

    def exec_module(_):
        raise ImportError("libcudart.so: cannot open\nmore")

    broken = SimpleNamespace(create_module=lambda _: None, exec_module=exec_module)
    spec = importlib.machinery.ModuleSpec("keras", broken)
    finder = SimpleNamespace(find_spec=lambda name, *_: spec if name == "keras" else None)
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "keras", raising=False)
        patch.setattr(sys, "meta_path", [finder, *sys.meta_path])
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setattr(
            "transferpipe.models.building.build.is_installed", lambda _: True
        )  # torch too, wherever this runs
        fix = advised(import_keras)
    monkeypatch.setenv("KERAS_BACKEND", re.search(r"set KERAS_BACKEND=(\w+)", fix)[1])
    assert import_keras().layers.Dense


@pytest.mark.parametrize(
    "module, check, args",
    [
        pytest.param("transferpipe.models.building.build", "require_tensorflow", ("save", "it"),
                     marks=follows("require_tensorflow: unset KERAS_BACKEND, or set")),
        pytest.param("transferpipe.save.exports", "_check_backend", (None,),
                     marks=follows("_check_backend: set KERAS_BACKEND=tensorflow, or save")),
    ],
)  # fmt: skip
def test_what_only_tensorflow_can(module, check, args, monkeypatch):
    import importlib
    from types import SimpleNamespace

    found = importlib.import_module(module)
    target = SimpleNamespace(structure=SimpleNamespace(label="m"))
    args = tuple(target if a is None else a for a in args)
    fake = SimpleNamespace(config=SimpleNamespace(backend=lambda: "jax"))
    monkeypatch.setattr(found, "backend_of_keras", lambda: "jax", raising=False)
    monkeypatch.setattr(found, "import_keras", lambda: fake)
    fix = advised(getattr(found, check), *args)
    backend = re.search(r"(?:KERAS_BACKEND=|set it to )(\w+)", fix)[1]
    monkeypatch.setattr(found, "backend_of_keras", lambda: backend, raising=False)
    fake.config.backend = lambda: backend
    getattr(found, check)(*args)
