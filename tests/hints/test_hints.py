"""Hints are code: each case provokes a message, follows what it advises, and compares with an independent value."""

import importlib
import json
import re
import sys
import textwrap
import zipfile

import keras
import numpy as np
import pytest
from keras import layers

import transferpipe as tp
from transferpipe.errors import TransferError

follows = pytest.mark.follows
RANDOM = np.random.default_rng(0)


def draw(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def problem_of(source, target, mapping, **keys):
    """Return the only problem of a transfer that is refused."""
    with pytest.raises(TransferError) as caught:
        tp.transfer(source, target, mapping=mapping, **keys)
    (problem,) = caught.value.problems
    return problem


def transposes_in(text):
    return [json.loads(found) for found in re.findall(r"transpose: (\[[\d, ]+\])", text)]


def net(shape, *parts):
    return keras.Sequential([keras.Input(shape), *parts])


# Axes -----------------------------------------------------------------------------------------------------------------

# A layer, its input, and how PyTorch arranges its kernel: (out, in, spatial...), (in, out, spatial...) if transposed.
KERNELS = {
    "Dense": (lambda: layers.Dense(4, name="x"), (3,), (1, 0)),
    "Conv1D": (lambda: layers.Conv1D(4, 3, name="x"), (9, 2), (2, 1, 0)),
    "Conv2D": (lambda: layers.Conv2D(4, 3, name="x"), (9, 9, 2), (3, 2, 0, 1)),
    "Conv2D, 3x5": (lambda: layers.Conv2D(4, (3, 5), name="x"), (9, 9, 2), (3, 2, 0, 1)),
    "Conv3D": (lambda: layers.Conv3D(4, 3, name="x"), (5, 5, 5, 2), (4, 3, 0, 1, 2)),
    "Conv1DTranspose": (lambda: layers.Conv1DTranspose(4, 3, name="x"), (9, 2), (2, 1, 0)),
    "Conv2DTranspose": (lambda: layers.Conv2DTranspose(4, 3, name="x"), (9, 9, 2), (3, 2, 0, 1)),
    "DepthwiseConv2D": (lambda: layers.DepthwiseConv2D(3, name="x"), (9, 9, 4), (2, 3, 0, 1)),
}


@pytest.mark.parametrize("name", KERNELS)
@follows("assign: correct the mapping, or")
def test_axes_in_the_order_of_torch(name, tmp_path):
    make, shape, theirs = KERNELS[name]
    model = net(shape, make())
    wanted = draw(*model.weights[0].shape)
    np.savez(tmp_path / "s.npz", **{"x/kernel": wanted.transpose(theirs), "x/bias": draw(*model.weights[1].shape)})
    source = str(tmp_path / "s.npz")
    problem = problem_of(source, model, {"r": {"to": "x"}})
    advised = transposes_in(problem.fix)
    if len(advised) > 1:  # it says for which arrangement each is
        assert "as in PyTorch" in problem.fix
    tp.transfer(source, model, mapping={"r": {"to": "x", "transform": {"kernel": [{"transpose": advised[0]}]}}})
    assert np.array_equal(model.weights[0], wanted)
    # The advice keeps to the kernel: the bias of the same rule has no axes to turn.
    assert "under `transform: {kernel: [...]}`" in problem.fix


@follows("assign: correct the mapping, or")
def test_both_arrangements_are_named_where_both_fit(tmp_path):
    model = net((9, 9, 3), layers.Conv2D(4, 3, name="x"))
    wanted = draw(3, 3, 3, 4)
    np.savez(tmp_path / "s.npz", **{"x/kernel": wanted.transpose(3, 0, 1, 2)})  # (out, height, width, in)
    problem = problem_of(str(tmp_path / "s.npz"), model, {"r": {"to": "x/kernel"}}, unmatched="keep")
    torch, lite = transposes_in(problem.fix)
    assert (torch, lite) == ([2, 3, 1, 0], [1, 2, 3, 0])
    assert "as in TensorFlow Lite" in problem.fix
    rule = {"to": "x/kernel", "transform": {"kernel": [{"transpose": lite}]}}
    tp.transfer(str(tmp_path / "s.npz"), model, mapping={"r": rule}, unmatched="keep")
    assert np.array_equal(model.weights[0], wanted)


@follows("assign: correct the mapping, or")
def test_a_rule_with_transforms_is_told_where_to_add_it(tmp_path):
    model = net((3,), layers.Dense(4, use_bias=False, name="x"))
    kernel = draw(4, 3)
    np.savez(tmp_path / "s.npz", **{"x/kernel": kernel})
    problem = problem_of(str(tmp_path / "s.npz"), model, {"r": {"to": "x", "transform": [{"scale": 2}]}})
    assert problem.fix.endswith("add {transpose: [1, 0]} at the end of `transform`")
    rule = {"to": "x", "transform": [{"scale": 2}, {"transpose": [1, 0]}]}
    tp.transfer(str(tmp_path / "s.npz"), model, mapping={"r": rule})
    assert np.array_equal(model.weights[0], 2 * kernel.T)


@follows("assign: correct the mapping, or")
def test_without_a_rule_the_advice_is_one(tmp_path):
    import yaml

    model = net((3,), layers.Dense(4, use_bias=False, name="x"))
    kernel = draw(4, 3)
    np.savez(tmp_path / "s.npz", **{"x/kernel": kernel})
    problem = problem_of(str(tmp_path / "s.npz"), model, None, unmatched="same_name")
    rule = yaml.safe_load(problem.fix.partition("give it a rule: ")[2])
    tp.transfer(str(tmp_path / "s.npz"), model, mapping={"r": rule})
    assert np.array_equal(model.weights[0], kernel.T)


@pytest.mark.parametrize("cell", [layers.GRU, layers.LSTM])
def test_no_transposition_is_advised_of_gates(cell, tmp_path):
    model = net((5, 2), cell(3, name="x"))
    kernel = model.weights[0].shape
    np.savez(tmp_path / "s.npz", **{"x/cell/kernel": draw(*kernel[::-1])})
    problem = problem_of(str(tmp_path / "s.npz"), model, {"r": {"to": "x/cell/kernel"}}, unmatched="keep")
    assert "transpose" not in problem.fix
    assert "gates" in problem.fix


def test_several_orders_that_fit_are_not_chosen_between(tmp_path):
    model = net((6, 2), layers.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3), name="x"))
    np.savez(tmp_path / "s.npz", **{"x/kernel": draw(3, 2, 2)})
    problem = problem_of(str(tmp_path / "s.npz"), model, {"r": {"to": "x"}}, unmatched="keep")
    assert transposes_in(problem.fix) == []
    assert "fits 2 of them" in problem.fix


def test_axes_that_fit_as_they_are(tmp_path):
    torch = pytest.importorskip("torch")
    kernel = draw(3, 4)
    torch.save({"x.weight": torch.tensor(kernel)}, tmp_path / "s.pt")
    model = net((3,), layers.Dense(4, use_bias=False, name="x"))
    problem = problem_of(str(tmp_path / "s.pt"), model, {"r": {"to": "x/kernel", "from": "x/weight"}})
    assert "`layout: keras`" in problem.fix
    tp.transfer(str(tmp_path / "s.pt"), model, mapping={"r": {"to": "x/kernel", "from": "x/weight", "layout": "keras"}})
    assert np.array_equal(model.weights[0], kernel)


# Kinds of numbers -----------------------------------------------------------------------------------------------------


@follows("assign: if its numbers mean")
def test_integers_into_floats(tmp_path):
    model = net((3,), layers.Dense(4, use_bias=False, name="x"))
    whole = RANDOM.integers(-100, 100, (3, 4)).astype("int8")
    np.savez(tmp_path / "s.npz", **{"x/kernel": whole})
    problem = problem_of(str(tmp_path / "s.npz"), model, {"r": {"to": "x"}})
    assert "if its integers are the values themselves, add the transform {cast: float32}" in problem.fix
    assert "if they are quantized, add {add: -ZERO} after it with their zero point, where that is not 0" in problem.fix
    assert "and then {scale: SCALE} with their scale" in problem.fix
    for transforms, wanted in (
        ([{"cast": "float32"}], whole.astype("float32")),
        ([{"cast": "float32"}, {"scale": 0.5}], whole * np.float32(0.5)),
        ([{"cast": "float32"}, {"add": -12}, {"scale": 0.5}], (whole - np.float32(12)) * np.float32(0.5)),
    ):
        tp.transfer(str(tmp_path / "s.npz"), model, mapping={"r": {"to": "x", "transform": transforms}})
        assert np.array_equal(model.weights[0], wanted)


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8"])
@follows("assign: if its numbers mean")
def test_floats_into_integers(dtype, tmp_path):
    whole, small = RANDOM.integers(1, 100, (3, 4)).astype("float32"), draw(3, 4) / 10
    np.savez(tmp_path / "t.npz", **{"x/table": np.zeros((3, 4), dtype)})
    target = str(tmp_path / "t.npz")
    rule = {"to": "x/table", "transform": [{"cast": dtype}]}
    np.savez(tmp_path / "whole.npz", **{"x/table": whole})
    np.savez(tmp_path / "small.npz", **{"x/table": small})
    problem = problem_of(str(tmp_path / "whole.npz"), target, {"r": {"to": "x/table"}}, folder=tmp_path, save="o.npz")
    assert f"if all its numbers are whole, add the transform {{cast: {dtype}}}" in problem.fix
    tp.transfer(str(tmp_path / "whole.npz"), target, mapping={"r": rule}, folder=tmp_path, save="o.npz")
    assert np.array_equal(np.load(tmp_path / "o.npz")["x/table"], whole.astype(dtype))
    # Whoever follows it with numbers that are not whole loses nothing unheard.
    problem = problem_of(str(tmp_path / "small.npz"), target, {"r": rule}, folder=tmp_path, save="p.npz")
    assert "loses the weight" in problem.what


@follows("cast: give the target weight")
def test_numbers_beyond_a_dtype(tmp_path):
    large = np.array([[1, 1e5]], "float32")
    np.savez(tmp_path / "s.npz", **{"x/kernel": large})
    np.savez(tmp_path / "t.npz", **{"x/kernel": np.zeros((1, 2), "float16")})
    source = str(tmp_path / "s.npz")
    problem = problem_of(source, str(tmp_path / "t.npz"), {"r": {"to": ".*"}}, folder=tmp_path, save="o.npz")
    dtype = re.search(r"such as (\w+)", problem.fix)[1]
    assert "cast" not in problem.fix
    np.savez(tmp_path / "t.npz", **{"x/kernel": np.zeros((1, 2), dtype)})
    tp.transfer(source, str(tmp_path / "t.npz"), mapping={"r": {"to": ".*"}}, folder=tmp_path, save="o.npz")
    assert np.array_equal(np.load(tmp_path / "o.npz")["x/kernel"], large)


@follows("_check_loss: keep it in …:")
def test_a_cast_that_loses_the_weight(tmp_path):
    tiny = draw(3, 4) * np.float32(1e-10)
    np.savez(tmp_path / "s.npz", **{"x/kernel": tiny})
    np.savez(tmp_path / "t.npz", **{"x/kernel": np.zeros((3, 4), "float16")})
    source = str(tmp_path / "s.npz")
    problem = problem_of(source, str(tmp_path / "t.npz"), {"r": {"to": ".*"}}, folder=tmp_path, save="o.npz")
    dtype = re.search(r"keep it in (\w+)", problem.fix)[1]
    np.savez(tmp_path / "t.npz", **{"x/kernel": np.zeros((3, 4), dtype)})
    tp.transfer(source, str(tmp_path / "t.npz"), mapping={"r": {"to": ".*"}}, folder=tmp_path, save="o.npz")
    assert np.array_equal(np.load(tmp_path / "o.npz")["x/kernel"], tiny)


@pytest.mark.parametrize(("key", "value"), [("nonfinite", np.nan), ("negative_variance", -1.0)])
def test_values_that_are_copied_as_they_are(key, value, tmp_path):
    bad = np.array([1, value], "float32")
    for name in "st":
        np.savez(tmp_path / f"{name}.npz", **{"x/moving_variance": bad if name == "s" else np.zeros(2, "float32")})
    source, target = (str(tmp_path / f"{name}.npz") for name in "st")
    problem = problem_of(source, target, {"r": {"to": ".*"}}, folder=tmp_path, save="o.npz")
    assert f"verify.{key}=allow" in problem.fix
    tp.transfer(source, target, mapping={"r": {"to": ".*"}}, folder=tmp_path, save="o.npz", verify={key: "allow"})
    assert np.load(tmp_path / "o.npz")["x/moving_variance"].tobytes() == bad.tobytes()


# Several sources ------------------------------------------------------------------------------------------------------


def test_a_mean_of_what_sources_keep_in_parts(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    modules = {}
    for name in "ab":
        modules[name] = torch.nn.LSTM(4, 3, batch_first=True)
        torch.save({f"lstm.{k}": v for k, v in modules[name].state_dict().items()}, f"{name}.pt")

    def build():
        return net((5, 4), layers.LSTM(3, name="lstm"))

    rule = {"to": "lstm", "from": ["a:lstm", "b:lstm"], "merge": "mean"}
    merged = build()
    tp.transfer({n: f"{n}.pt" for n in "ab"}, merged, mapping={"r": rule})
    mean = torch.nn.LSTM(4, 3, batch_first=True)
    mean.load_state_dict({k: (v + modules["b"].state_dict()[k]) / 2 for k, v in modules["a"].state_dict().items()})
    x = draw(2, 5, 4)
    wanted = mean(torch.tensor(x))[0][:, -1].detach().numpy()
    assert np.allclose(merged(x), wanted, atol=1e-6)


def test_joined_sources(tmp_path):
    torch = pytest.importorskip("torch")
    kernels = {name: draw(4, 3) for name in "ab"}
    for name, kernel in kernels.items():
        torch.save({"d.weight": torch.tensor(kernel)}, tmp_path / f"{name}.pt")
    model = net((3,), layers.Dense(8, use_bias=False, name="d"))
    paths = {name: str(tmp_path / f"{name}.pt") for name in "ab"}
    rule = {"to": "d/kernel", "from": ["a:d/weight", "b:d/weight"], "transform": [{"concat": 1}]}
    tp.transfer(paths, model, mapping={"r": rule})
    assert np.array_equal(model.weights[0], np.concatenate([kernels["a"], kernels["b"]]).T)


# Names ----------------------------------------------------------------------------------------------------------------


@follows("_report_no_layer: take its layer: from=…")
def test_a_layer_rule_that_names_a_weight(tmp_path):
    kernel = draw(3, 4)
    np.savez(tmp_path / "s.npz", **{"b/kernel": kernel})
    model = net((3,), layers.Dense(4, use_bias=False, name="a"))
    problem = problem_of(str(tmp_path / "s.npz"), model, {"r": {"to": "a", "from": "b/kernel"}})
    layer = re.search(r"from=(\S+)", problem.fix)[1]
    tp.transfer(str(tmp_path / "s.npz"), model, mapping={"r": {"to": "a", "from": layer}})
    assert np.array_equal(model.weights[0], kernel)


def test_no_list_is_empty(tmp_path):
    np.savez(tmp_path / "s.npz", **{"b/c/kernel": draw(3, 4)})
    model = net((3,), layers.Dense(4, name="a"))
    for mapping in (
        {"r": {"to": "a", "from": "b"}},
        {"r": {"to": "a", "from": "zzz"}},
        {"r": {"to": "a", "from": "zzz", "pair": "order"}},
        {"r": {"to": "zzz"}},
    ):
        with pytest.raises(TransferError) as caught:
            tp.transfer(str(tmp_path / "s.npz"), model, mapping=mapping)
        for problem in caught.value.problems:
            text = str(problem)
            assert "  " not in text
            assert "()" not in text
            assert not text.endswith(("->", "holds", ": "))


# Classes of one's own -------------------------------------------------------------------------------------------------

REGISTER = "@keras.saving.register_keras_serializable()"


def scaled(register, more="", keys="**keys", given="**keys"):
    """Return a module with a layer of its own."""
    return f"""
import keras
from keras import layers


{register}
class Scaled(layers.Layer):
    def __init__(self, units, {keys}):
        super().__init__({given})
        self.units = units
{textwrap.indent(textwrap.dedent(more), "    ")}
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")

    def call(self, x):
        return x @ self.kernel


def build():
    return keras.Sequential([keras.Input((3,)), Scaled(4, name="a")])
"""


PARTS = "def get_config(self):\n    return super().get_config()\n"
WHOLE = "def get_config(self):\n    return {**super().get_config(), 'units': self.units}\n"
LAMBDA = """
import keras
from keras import layers


def build():
    return keras.Sequential([keras.Input((3,)), layers.Dense(4, use_bias=False, name="a"), layers.Lambda(lambda x: 2 * x)])
"""
TWICE = f"""
import keras
from keras import layers


{REGISTER}
class Twice(layers.Layer):
    def call(self, x):
        return 2 * x


def build():
    return keras.Sequential([keras.Input((3,)), layers.Dense(4, use_bias=False, name="a"), Twice()])
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    registered = keras.saving.get_custom_objects()
    before = dict(registered)

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        monkeypatch.delitem(sys.modules, name, raising=False)
        registered.clear()
        return {"_target_": f"{name}.build"}

    yield write
    registered.clear()
    registered.update(before)


@pytest.mark.parametrize(
    ("broken", "advice", "fixed", "factor"),
    [
        (scaled(""), REGISTER, scaled(REGISTER), 1),
        (scaled(REGISTER, PARTS), "return all arguments of the class's __init__", scaled(REGISTER, WHOLE), 1),
        (
            scaled(REGISTER, WHOLE, "name", "name=name"),
            "let the class's __init__ take **kwargs",
            scaled(REGISTER, WHOLE, "**kwargs", "**kwargs"),
            1,
        ),
        (LAMBDA, "write what the Lambda does as a layer class", TWICE, 2),
    ],
    ids=["unregistered", "half a configuration", "without kwargs", "Lambda"],
)
@follows("explain_refusal: write what the Lambda")
def test_classes_that_keras_cannot_load(broken, advice, fixed, factor, module):
    kernel, x = draw(3, 4), draw(2, 3)
    np.savez("s.npz", **{"a/kernel": kernel})
    keys = {"mapping": {"r": {"to": "a"}}, "folder": "out", "save": "m.keras", "verify": {"reload": True}}
    with pytest.raises(TransferError) as caught:
        tp.transfer("s.npz", module("before", broken), **keys)
    (problem,) = caught.value.problems
    assert advice in problem.fix
    tp.transfer("s.npz", module("after", fixed), **keys)
    assert np.allclose(keras.models.load_model("out/m.keras")(x), factor * x @ kernel, atol=1e-6)


def test_what_keras_does_not_explain_is_not_advised_on():
    from transferpipe.prove.reload import advise_loading

    assert advise_loading(OSError("disk full")) == ""
    assert advise_loading(ValueError("a model with a `Lambda` in its config={'class_name': 'Lambda'}")) == ""


@follows("_open_finished_model: correct the class that")
def test_a_finished_model_that_keras_cannot_load(module):
    kernel, x = draw(3, 4), draw(2, 3)
    np.savez("s.npz", **{"a/kernel": kernel})
    np.savez("x.npz", x)
    np.savez("y.npz", x @ kernel)
    check = {"parity": {"inputs": "x.npz", "expected": "y.npz"}}
    keys = {"mapping": {"r": {"to": "a", "from": "a", "pair": "order"}}, "save": "m.keras", "verify": check}
    for name, old, new in (("broken", b'"units": 4', b'"unitz": 4'), ("corrected", b"", b"")):
        given = module(name, scaled(REGISTER, WHOLE))
        importlib.import_module(given["_target_"].partition(".")[0]).build().save(f"{name}.keras")
        with zipfile.ZipFile(f"{name}.keras") as archive:
            held = {n: archive.read(n) for n in archive.namelist()}
        with zipfile.ZipFile(f"{name}.keras", "w") as archive:
            for n, data in held.items():
                archive.writestr(n, data.replace(old, new) if old else data)
        if name == "broken":
            with pytest.raises(TransferError) as caught:
                tp.transfer("s.npz", {"path": "broken.keras"}, folder="broken", **keys)
    fix = caught.value.problems[0].fix
    assert fix == "correct the class that it names, or give the builder of the model as the target"
    tp.transfer("s.npz", {"path": "corrected.keras"}, folder="corrected", **keys)
    assert np.allclose(keras.models.load_model("corrected/m.keras")(x), x @ kernel, atol=1e-6)
    report = tp.transfer("s.npz", module("builder", scaled("", WHOLE)), folder="of_builder", **keys)
    assert report.parity.verdict == "pass"


def test_a_configuration_that_cannot_be_written(module):
    kernel = draw(3, 4)
    np.savez("s.npz", **{"a/kernel": kernel})
    raising = "def get_config(self):\n    raise {}('no luck')\n"
    for name, kind, also in (("r1", "NotImplementedError", True), ("r2", "ValueError", False)):
        target = module(name, scaled("", raising.format(kind)))
        with pytest.raises(TransferError) as caught:
            tp.transfer("s.npz", target, mapping={"r": {"to": "a"}}, folder=name, save="m.keras")
        (problem,) = caught.value.problems
        assert ("give its classes a get_config" in problem.fix) is also
        assert "save weights only (.weights.h5, .safetensors, .npz)" in problem.fix
        tp.transfer("s.npz", target, mapping={"r": {"to": "a"}}, folder=name, save="m.npz")
        assert np.array_equal(np.load(f"{name}/m.npz")["a/kernel"], kernel)


@pytest.mark.parametrize("package", ["torchvision", "timm"])
@follows("_check_spelling: did you mean …?")
def test_builders_of_torch_are_no_files_to_put_somewhere(package, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    model = net((3,), layers.Dense(4, name="fc"))
    with pytest.raises(TransferError) as caught:
        tp.transfer({"_target_": f"{package}.models.resnet18"}, model, mapping={"r": {"to": "fc"}})
    (problem,) = caught.value.problems
    assert "torch.save(model.state_dict(), 'x.pt')" in problem.fix
    assert "working directory" not in problem.fix
    theirs = torch.nn.Sequential()
    theirs.add_module("fc", torch.nn.Linear(3, 4))
    torch.save(theirs.state_dict(), "x.pt")
    tp.transfer("x.pt", model, mapping={"r": {"to": "fc"}})
    x = draw(2, 3)
    assert np.allclose(model(x), theirs(torch.tensor(x)).detach().numpy(), atol=1e-6)


@follows("_check_model: return the model from")
def test_a_builder_that_returns_a_torch_module(module):
    pytest.importorskip("torch")
    source = module("of_torch", "import torch\n\n\ndef build():\n    return torch.nn.Linear(3, 4)\n")
    with pytest.raises(TransferError) as caught:
        tp.transfer(source, net((3,), layers.Dense(4, name="fc")), mapping={"r": {"to": "fc"}})
    (problem,) = caught.value.problems
    assert "torch.save(model.state_dict(), 'x.pt')" in problem.fix
