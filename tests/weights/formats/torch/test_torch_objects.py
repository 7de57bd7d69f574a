"""Objects beside and around the tensors of a checkpoint: harmless ones stay closed, nothing of theirs is run."""

import pickle
import zipfile

import numpy as np
import pytest
from torch_files import Call, Named, Pairs, Raw, code, plain, storage, tensor, write_legacy, write_zip
from torch_refusals import both, refused

from transferpipe.errors import UnsafeError
from transferpipe.weights.formats import open_source

VALUE = np.arange(4, dtype="float32")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pt"


def made(kind, state=None, items=None):
    """Return the opcodes by which protocol 2 makes an object: NEWOBJ, its items, its attributes."""
    parts = [code(kind), b")\x81"]
    if items is not None:
        parts.append(b"(" + b"".join(code(k) + code(v) for k, v in items.items()) + b"u")
    return Raw(b"".join(parts) + (code(state) + b"b" if state is not None else b""))


LEFTOVERS = {
    "a counter": Call(Named("collections", "defaultdict"), (Named("__builtin__", "long"),)),
    "a range": Call(Named("__builtin__", "xrange"), (0, 3, 1)),
    "a range of Python 3": Call(Named("builtins", "range"), (0, 3, 1)),
    "a set": Call(Named("__builtin__", "set"), ([1, 2],)),
    "arguments": made(Named("argparse", "Namespace"), {"lr": 0.1}),
    "a configuration": made(Named("omegaconf.dictconfig", "DictConfig"), {"_content": {"lr": 0.1}}),
    "an own configuration": made(Named("mmengine.config", "ConfigDict"), {"a": 1}, {"lr": 0.1}),
    "a member of an Enum": Call(Named("somebodys.config", "Mode"), (1,)),
    "a type": Call(Named("operator", "getitem"), (Named("typing", "Union"), (Named("builtins", "int"), None))),
    "an activation": Named("torch.nn.functional", "gelu"),
    "a class": Named("torch.optim.adam", "Adam"),
    "a generator of NumPy": Raw(pickle.dumps(np.random.default_rng(0), 2)[2:-1]),  # without its opcodes PROTO and STOP
    "a generator of 2002": Raw(pickle.dumps(np.random.Generator(np.random.MT19937(0)), 2)[2:-1]),
    "an object in itself": Raw(code(Named("somebodys", "Node")) + b")\x81q\x01}(X\x04\x00\x00\x00selfh\x01ub"),
}


@pytest.mark.parametrize("left", LEFTOVERS.values(), ids=LEFTOVERS)
@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_what_is_left_of_a_training_run_is_no_obstacle(path, write, left):
    tensors, stored = plain({"d.weight": VALUE}, view=(None,) if write is write_legacy else ())
    source = open_source(write(path, {"state_dict": tensors, "seen": left}, stored))
    assert [w.name for w in source.catalog] == ["d/weight"]
    assert source.others == ()
    assert source.details["not tensors"] == "seen"
    assert source.read("d/weight").tolist() == VALUE.tolist()


WEIGHTS = {"a.weight": tensor(storage("0", "float32", 4), (4,))}


@pytest.mark.parametrize(
    "state_dict",
    [
        Raw(code(Call(Named("somebodys", "Dict"), ())) + b"(" + b"".join(map(code, *WEIGHTS.items())) + b"u"),
        Call(Named("somebodys", "Dict"), ([*WEIGHTS.items()],)),
        Call(Named("somebodys", "Dict"), (WEIGHTS,)),
        made(Named("somebodys", "Attributes"), {"version": 1}, WEIGHTS),
        Call(Named("copy_reg", "_reconstructor"), (Named("somebodys", "D"), Named("__builtin__", "dict"), WEIGHTS)),
    ],
)
def test_a_mapping_of_an_unknown_class_is_one(path, state_dict):
    for root in (state_dict, {"state_dict": state_dict, "epoch": 1}):
        source = open_source(write_zip(path, root, {"0": VALUE.tobytes()}))
        assert [w.name for w in source.catalog] == ["a/weight"]
        assert source.read("a/weight").tolist() == VALUE.tolist()


def module(kind="somebodys.models.Net", parameters=None, buffers=None, modules=None, **attributes):
    """Return a module of torch as it is pickled as a whole."""
    where, _, name = kind.rpartition(".")
    parts = {"_parameters": parameters or {}, "_buffers": buffers or {}, "_modules": modules or {}}
    return made(Named(where, name), {"training": True, **parts, **attributes})


def test_a_module_gives_parameters_buffers_and_modules_and_no_other_attribute(path):
    one, two, three = (tensor(storage("0", "float32", 4), (1,), offset=i) for i in range(3))
    left = Call(Named("__builtin__", "set"), (["scratch"],))
    buffers = {"mean": two, "scratch": three}
    inner = module(parameters={"weight": one, "bias": None}, buffers=buffers, _non_persistent_buffers_set=left)
    outer = module(parameters={"scale": three}, modules={"layer": inner}, last_output=two, hooks=[one])
    source = open_source(write_zip(path, {"model": outer, "ema": None}, {"0": VALUE.tobytes()}))
    values = {w.name: source.read(w.name).item() for w in source.catalog}
    assert values == {"scale": 2.0, "layer/weight": 0.0, "layer/mean": 1.0}


def test_a_tensor_of_an_unknown_class_is_the_only_thing_that_is_not_read(path):
    where = storage("0", "float32", 4)
    function, kind = Named("torch._utils", "_rebuild_tensor_v2"), Named("somebodys.nn", "Params4bit")
    packed = Call(
        Named("torch._tensor", "_rebuild_from_type_v2"), (function, kind, (where, 0, (4,), (1,), False, Pairs([])), {})
    )
    source = open_source(write_zip(path, {"a": tensor(where, (4,)), "b": packed}, {"0": VALUE.tobytes()}))
    assert [w.name for w in source.catalog] == ["a"]
    (left,) = source.catalog.unreadable
    assert (left.name, left.reason) == ("b", "is of the class somebodys.nn.Params4bit")
    assert left.fix == "save it as a plain tensor"


@pytest.mark.parametrize(
    "evil",
    [
        Call(Named("somebodys", "run"), ("touch pwned",)),
        Call(Named("torch.hub", "load"), ("x",)),
        Call(Named("torch.nn.functional", "gelu"), (1,)),
        Call(Named("functools", "partial"), (Named("os", "system"), "x")),
        Call(Named("copy_reg", "_reconstructor"), (Named("subprocess", "Popen"), Named("__builtin__", "object"), None)),
        made(Named("subprocess", "Popen"), {}),
        made(Named("torch.utils", "load_url"), {}),
        Named("somebodys.Net.__init__", "__globals__"),
        module("os.PathLike"),
    ],
)
def test_what_could_reach_the_system_is_still_refused(path, evil):
    for file in both(path, {"w": tensor(storage("0", "float32", 24), (24,)), "x": evil}):
        refused(file, UnsafeError, "which no checkpoint of tensors needs; nothing of it was executed")


@pytest.mark.parametrize("protocol", [2, 4])
def test_arrays_of_numpy_in_the_place_of_tensors(tmp_path, protocol):
    """As `torch.save` writes a dict of them: nothing but the pickle; numbers beside them are not weights."""
    arrays = {"a.weight": np.arange(6, dtype="float32").reshape(2, 3), "b": np.arange(3, dtype=">f4")}
    held = {"state_dict": {**arrays, "c": np.asfortranarray(arrays["a.weight"])}, "epoch": 3, "sizes": slice(1, 2)}
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps(held, protocol))
        archive.writestr("x/version", "3\n")
    source = open_source(tmp_path / "x.pt")
    found = {w.name: source.read(w.name) for w in source.catalog}
    wanted = {"a/weight": arrays["a.weight"], "b": arrays["b"].astype("float32"), "c": arrays["a.weight"]}
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_the_constants_of_a_frozen_module(tmp_path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval()
    torch.jit.save(torch.jit.freeze(torch.jit.script(model)), tmp_path / "x.pt")
    source = open_source(tmp_path / "x.pt")
    found = [source.read(w.name) for w in source.catalog]
    assert [w.name for w in source.catalog] == [f"constants/{k}" for k in range(4)]
    for value in model.state_dict().values():
        assert sum(np.array_equal(value.numpy(), f) for f in found) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["TorchScript", "module"])
def test_the_packed_weights_of_quantized_layers_go_by_the_names_of_their_state_dict(path, kind):
    torch = pytest.importorskip("torch")
    layers = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    model = torch.ao.quantization.quantize_dynamic(layers, {torch.nn.Linear}, dtype=torch.qint8)
    if kind == "TorchScript":
        torch.jit.script(model).save(path)
    else:
        torch.save(model, path)
    source, state = open_source(path), model.state_dict()
    for layer in "02":
        _, bias = state[f"{layer}._packed_params._packed_params"]
        name = f"{layer}/_packed_params/_packed_params"
        assert np.array_equal(source.read(f"{name}/1"), bias.detach().numpy())
    found = {(u.name, u.reason) for u in source.catalog.unreadable}
    assert found == {(f"{layer}/_packed_params/_packed_params/0", "is quantised") for layer in "02"}
