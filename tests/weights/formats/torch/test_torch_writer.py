"""Checkpoints that torch itself wrote, in both forms: what torch has and what is read here agree bit for bit."""

import argparse
import collections
import pathlib
import warnings

import numpy as np
import pytest

from transferpipe.weights.formats import open_source

torch = pytest.importorskip("torch")

DTYPES = ("float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128 uint16 uint32 uint64 "
          "float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu")  # fmt: skip
FORMS = [(True, 2), (True, 4), (True, 5), (False, 1), (False, 2), (False, 4)]


@pytest.fixture(params=FORMS, ids=lambda p: f"{'zip' if p[0] else 'legacy'}-{p[1]}")
def save(request, tmp_path):
    """Return a function that saves with torch, and opens."""
    new, protocol = request.param

    def save(root, select=None):
        with warnings.catch_warnings(action="ignore"):
            torch.save(root, tmp_path / "x.pt", _use_new_zipfile_serialization=new, pickle_protocol=protocol)
        return open_source(tmp_path / "x.pt", select=select)

    return save


def raw(value):
    """Return the bytes of a tensor in C order."""
    return bytes(value.detach().contiguous().flatten().view(torch.uint8).numpy()) if value.numel() else b""


def agree(source, state):
    """Check names, shapes, dtypes and bits of all tensors of a flat state dict, read and streamed."""
    assert [w.name for w in source.catalog] == [k.replace(".", "/") for k in state]
    streamed = 0
    for key, value in state.items():
        weight = source.catalog[key.replace(".", "/")]
        assert (weight.shape, weight.dtype) == (tuple(value.shape), str(value.dtype).removeprefix("torch."))
        read = source.read(weight.name)
        assert (read.shape, read.tobytes()) == (weight.shape, raw(value))
        if segment := source.locate(weight.name):
            streamed += 1
            with segment.path.open("rb") as file:
                file.seek(segment.offset)
                assert file.read(segment.nbytes) == raw(value)
    return streamed


def test_every_dtype(save):
    bits = torch.arange(48, dtype=torch.uint8)
    state = {d: bits.view(getattr(torch, d)) if d != "bool" else bits % 2 == 0 for d in DTYPES.split()}
    state = {d: value.clone() for d, value in state.items()}
    assert agree(save(state), state) == len(state) - 1


def test_views(save):
    base = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5)
    state = {
        "whole": base,
        "turned": base.permute(2, 0, 1),
        "part": base[1:, 1:3, ::2],
        "row": base[2],
        "element": base[1, 2, 3],
        "expanded": base[0, 0].expand(7, 5),
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 3),
        "channels_last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    }
    assert agree(save(state), state) == 4


def test_parameters_tied_weights_and_counters(save):
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    )
    model[3].weight = model[2].weight
    state = model.state_dict(keep_vars=True)
    source = save(state)
    assert [w.name for w in source.others] == ["1/num_batches_tracked"]
    agree(source, {k: v for k, v in state.items() if "num_batches" not in k})


def test_parameters_with_attributes(save):
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.note = "mine"
    agree(save({"p": parameter}), {"p": parameter})


def test_a_training_checkpoint(save):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    root = {
        "epoch": 3,
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 3).state_dict(),
        "best_acc1": torch.tensor(0.5),
        "args": argparse.Namespace(lr=0.1, out=pathlib.Path("/tmp")),
        "history": collections.defaultdict(list, loss=[0.5, np.float64(0.25)]),
        "score": np.float32(0.5),
        "rng": np.random.RandomState(0).get_state()[1],
        "shape": torch.Size([1, 2]),
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "tags": {"a", "b"},
    }
    source = save(root)
    assert (source.select, [w.name for w in source.catalog]) == ("state_dict", ["weight", "bias"])
    agree(source, model.state_dict())
    assert {"optimizer/state/0/exp_avg", "optimizer/state/1/step", "best_acc1"} <= {w.name for w in source.others}
    moment = next(w for w in source.others if w.name == "optimizer/state/0/exp_avg")
    assert source.read_entry(moment).tobytes() == raw(optimizer.state_dict()["state"][0]["exp_avg"])


PLAIN = {"plain": torch.ones(2)}


def unread(source):
    """Return the only weight of a file, beside a plain one, that cannot be read."""
    assert [w.name for w in source.catalog] == ["plain"]
    (found,) = source.catalog.unreadable
    return found


def test_sparse_and_quantised_tensors_are_named(save):
    with warnings.catch_warnings(action="ignore"):
        sparse = torch.eye(3).to_sparse()
    found = unread(save({"a": {"b": sparse}, **PLAIN}))
    assert (found.name, found.reason, found.where) == ("a/b", "is sparse", "a.b")
    assert "to_dense()" in found.fix
    with warnings.catch_warnings(action="ignore"):
        quantised = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    found = unread(save({"a": {"b": quantised}, **PLAIN}))
    assert (found.name, found.reason) == ("a/b", "is quantised")
    assert "dequantize()" in found.fix


def test_conjugated_tensors_are_named(save):
    conjugated = torch.ones(3, dtype=torch.complex64).conj()
    found = unread(save({"z": conjugated, **PLAIN}))
    assert "conjugated" in found.reason and found.fix == "save what its resolve_conj().resolve_neg() gives"
    assert save({"z": conjugated.resolve_conj().resolve_neg()}).read("z").tobytes() == raw(conjugated.resolve_conj())


def test_a_tensor_without_values_is_named(save):
    found = unread(save({"m": torch.empty(3, device="meta"), **PLAIN}))
    assert found.reason == "is a meta tensor, which has no values"
    assert found.fix == "load the model's weights, and save it then"


def test_shared_storages_keep_their_parts(save):
    base = torch.arange(10, dtype=torch.float32)
    agree(save({"a": base[2:5], "b": base[4:]}), {"a": base[2:5], "b": base[4:]})


def test_files_without_checksums(tmp_path):
    config = pytest.importorskip("torch.utils.serialization").config
    with config.patch("save.compute_crc32", False):
        torch.save({"a": torch.ones(3)}, tmp_path / "x.pt")
    agree(open_source(tmp_path / "x.pt"), {"a": torch.ones(3)})


class Net(torch.nn.Module):
    """Has every way in which a module may hold tensors, and in which it may not."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.ReLU())
        self.scale = torch.nn.Parameter(torch.rand(3))
        self.register_buffer("grid", torch.rand(2, 2))
        self.register_buffer("scratch", torch.rand(5), persistent=False)
        self.act = torch.nn.functional.gelu

    def forward(self, x):
        return self.body(x) * self.scale[:, None, None]


def state_of(net):
    return {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: {"epoch": 3, "model": m, "ema": None}])
def test_a_whole_module_gives_its_state_dict(save, wrap):
    net = Net()
    source = save(wrap(net))
    assert [w.name.replace("/", ".") for w in source.catalog] == list(state_of(net))
    agree(source, state_of(net))


@pytest.mark.parametrize("make", ["script", "trace"])
def test_the_tensors_of_a_torchscript_archive_are_read(tmp_path, make):
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Sequential(torch.nn.BatchNorm1d(3))).eval()
    with warnings.catch_warnings(action="ignore"):
        program = torch.jit.script(net) if make == "script" else torch.jit.trace(net, torch.rand(4, 2))
        torch.jit.save(program, tmp_path / "x.pt")
    source = open_source(tmp_path / "x.pt")
    assert {w.name.replace("/", ".") for w in source.catalog} == set(state_of(net))
    agree(source, state_of(net))
