"""PyTorch checkpoints that name what they should not: nothing is executed, everything is reported."""

import os
import pickle
import subprocess
import sys

import pytest
from torch_files import Call, Named, pickled
from torch_refusals import both, refused

from transferpipe.errors import FileError, UnsafeError


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "weights.pt"


class Evil:
    """An object whose pickle calls something."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("evil", "name"),
    [
        (Evil(os.system, "touch pwned"), r"(posix|nt)\.system"),
        (Evil(eval, "open('pwned', 'w')"), r"(builtins|__builtin__)\.eval"),
        (Evil(exec, "open('pwned', 'w')"), r"(builtins|__builtin__)\.exec"),
        (Evil(getattr, Evil(__import__, "os"), "system"), r"(builtins|__builtin__)\.getattr"),
        (Evil(subprocess.Popen, ["touch", "pwned"]), r"(subprocess|commands)\.Popen"),
        (Evil(open, "pwned", "w"), r"(io|_io|builtins|__builtin__)\.open"),
        (Evil(pickle.loads, b"x"), r"_?c?[pP]ickle\.loads"),
    ],
)
def test_nothing_is_called(path, evil, name, protocol):
    code = pickle.dumps({"w": evil, "more": [evil]}, protocol=protocol)
    for file in both(path, code):
        text = refused(file, UnsafeError, rf"the pickle names '{name}', .*nothing of it was executed -> save only")
        assert text.count("os.system") <= 1
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_modules_are_not_even_imported(path):
    for file in both(path, {"w": Call(Named("antigravity", "x"), ())}):
        refused(file, UnsafeError, "names 'antigravity.x'")
    assert "antigravity" not in sys.modules


def test_everything_that_is_named_is_reported(path):
    root = {str(i): Call(Named("evil", f"f{i % 30}"), ()) for i in range(90)}
    for file in both(path, root):
        text = refused(file, UnsafeError, "evil.f0")
        assert text.count("evil.f") == 20
        assert "10 further names" in text


@pytest.mark.parametrize(
    "name",
    ["torch.load", "torch.hub.load", "torch._utils._import_dotted_name", "torch.storage._load_from_bytes", "torch.jit.load",
     "torch.serialization._get_layout.__globals__", "collections.OrderedDict.__init__", "builtins.getattr",
     "numpy.load", "numpy.core.multiarray.fromfile", "numpy.lib.__class__.X", "OrderedDict", ".x", "x."],
)  # fmt: skip
def test_only_names_on_the_list_pass(path, name):
    module, _, last = name.rpartition(".")
    for code in (pickled({"w": Named(module, last)}), pickle_by_stack(module, last)):
        for file in both(path, code):
            refused(file, UnsafeError, "which no checkpoint of tensors needs")


def pickle_by_stack(module, name):
    def short(text):
        return b"\x8c" + bytes([len(text)]) + text.encode()

    return b"\x80\x04]" + short(module) + short(name) + b"\x93a."


@pytest.mark.parametrize("opcode", [b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00", b"\x97", b"N\x98"])
def test_extensions_and_buffers_are_refused(path, opcode):
    for file in both(path, b"\x80\x05]" + opcode + b"a."):
        refused(file, FileError, "the pickle uses the opcode .*, which no data needs")
