"""PyTorch checkpoints that mean harm or are damaged: a typed error, quickly, and nothing is ever executed."""

import io
import os
import pickle
import struct
import subprocess
import sys
import time
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from torch_files import (
    MAGIC,
    Call,
    Named,
    Pairs,
    Persistent,
    Raw,
    pickled,
    plain,
    storage,
    tensor,
    write_legacy,
    write_zip,
)

from transferpipe.errors import FileError, RecipeError, TransferError, UnsafeError
from transferpipe.weights.formats import open_source

BASE = np.arange(24, dtype="float32")
WHERE = storage("0", "float32", 24)
# Far above what it takes, so that only work out of all proportion to the file's size is noticed.
MOST_SECONDS, MOST_BYTES = 20.0, 60 << 20


class Evil:
    """An object whose pickle calls something."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "weights.pt"


def refused(path, error, words, select=None):
    """Check that opening fails in time and with these words."""
    started = time.process_time()
    with pytest.raises(error, match=words) as raised:
        open_source(path, "torch", select)
    assert time.process_time() - started < MOST_SECONDS
    assert type(raised.value) is error
    assert len(str(raised.value)) < 8000
    return str(raised.value)


def refused_in_little_memory(path, error, words):
    """Check the same, and how much memory it takes."""
    refused(path, error, words)
    tracemalloc.start()
    with pytest.raises(error):
        open_source(path, "torch")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_BYTES


def both(path, root, stored=None):
    """Write `root` in both forms, one after the other."""
    stored = {"0": BASE.tobytes()} if stored is None else stored
    yield write_zip(path, root, stored)
    yield write_legacy(path, root, stored)


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
     "numpy.load", "numpy.core.multiarray.fromfile", "torch.nn.modules.linear.Linear", "OrderedDict", ".x", "x."],
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


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (b"", "is damaged"),
        (b".", "takes something from an empty stack"),
        (b"\x80\x02", "is damaged|wants 1 bytes"),
        (b"\x80\x02}", "is damaged|wants 1 bytes"),
        (b"0.", "empty stack"),
        (b"(0.", "empty stack"),
        (b"t.", "a mark that is not there"),
        (b"NNR.", "calls a NoneType"),
        (b"h\x05.", "entry 5 of its memo"),
        (b"j\xff\xff\xff\xff.", "entry 4294967295 of its memo"),
        (b"NNb0.", "empty stack"),
        (b"N)a.", "appends to a NoneType"),
        (b"]NNs.", "sets an item of a list"),
        (b"}(Nu.", "a key without a value"),
        (b"(o.", "is damaged|empty"),
        (b"Nq\x00Q.", "describes no storage"),
        (b"Pabc\n.", "describes no storage"),
        (b"NN\x93.", "by what is no text"),
        (b"\xff.", "unknown"),
        (b"I12x\n.", "invalid literal"),
        (b"L" + b"9" * 60_000 + b"L\n.", "is damaged"),
        (b"c" + b"x" * 70_000, "a line at byte"),
        (b"(" * 50_000 + b".", "empty stack"),
    ],
)  # fmt: skip
def test_damaged_pickles(path, code, words):
    for file in both(path, code):
        refused(file, FileError, words)


LENGTHS = {
    "LONG4": b"\x8b\xff\xff\xff\x7f", "BINUNICODE": b"X\xff\xff\xff\xff", "BINUNICODE8": b"\x8d" + b"\xff" * 7 + b"\x7f",
    "BINBYTES": b"B\xff\xff\xff\xff", "BINBYTES8": b"\x8e\x00\x00\x00\x00\x10\x00\x00\x00",
    "BYTEARRAY8": b"\x96\x00\x00\x00\x00\x10\x00\x00\x00", "BINSTRING": b"T\xff\xff\xff\x7f",
    "FRAME": b"\x95" + b"\xff" * 8 + b"N", "LONG1": b"\x8a\xff", "SHORT_BINUNICODE": b"\x8c\xff",
}  # fmt: skip


@pytest.mark.parametrize("name", LENGTHS)
def test_lengths_that_cannot_be(path, name):
    for file in both(path, b"\x80\x04]" + LENGTHS[name] + b"a"):
        refused_in_little_memory(file, FileError, r"the pickle (is damaged|wants|does not end)")


def test_huge_memo_index_costs_nothing(path):
    tensors, stored = plain({"w": BASE})
    tensors["x"] = Raw(b"Kr\xff\xff\xff\xff".replace(b"Kr", b"K\x01r"))
    assert len(open_source(write_zip(path, tensors, stored)).catalog) == 1


def laughs(kind, depth=60):
    """Return opcodes of a container that holds, in the end, one thing 2**depth times."""
    pair = {"tuple": b"h\x00h\x00\x86q\x00", "list": b"](h\x00h\x00eq\x00", "dict": b"}(K\x01h\x00K\x02h\x00uq\x00"}[
        kind
    ]
    return (pair + b"0") * (depth - 1) + pair


@pytest.mark.parametrize("kind", ["tuple", "list", "dict"])
@pytest.mark.parametrize("inner", [None, tensor(WHERE, (24,))])
def test_billion_laughs(path, kind, inner):
    from torch_files import code

    root = b"\x80\x02" + code(inner) + b"q\x000" + laughs(kind) + b"."
    for file in both(path, root, {} if inner is None else None):
        if inner is None:
            assert len(open_source(file).catalog) == 0
        else:
            refused_in_little_memory(file, FileError, "one thing in very many places")


def test_a_tuple_that_takes_for_ever_to_hash_as_a_key(path):
    from torch_files import code

    tensors, stored = plain({"w": BASE})
    key = Raw(b"Nq\x000" + laughs("tuple"))
    root = Pairs([(key, 1), ("w", tensors["w"])])
    assert len(open_source(write_zip(path, root, stored)).catalog) == 1
    refused(write_zip(path, Pairs([(key, tensors["w"])]), stored), FileError, "under a key that is a tuple")
    assert code(root)


@pytest.mark.parametrize("depth", [200, 50_000])
@pytest.mark.parametrize("opener", [b"\x85", b"]", b"}"])
def test_deep_nesting(path, depth, opener):
    from torch_files import code

    inner = code(tensor(WHERE, (24,)))
    closer = {b"\x85": b"", b"]": b"a", b"}": b"s"}[opener]
    if opener == b"\x85":
        root = inner + opener * depth
    else:
        root = (opener + (b"K\x01" if opener == b"}" else b"")) * depth + inner + closer * depth
    for file in both(path, b"\x80\x02" + root + b"."):
        refused(file, FileError, "in very many places, or in itself|more steps")


def test_a_container_in_itself(path):
    from torch_files import code

    for opener, key, closer in ((b"]", b"", b"a"), (b"}", b"K\x01", b"s")):
        more = b"K\x02" if key else b""
        root = opener + b"q\x00" + key + b"h\x00" + closer + more + code(tensor(WHERE, (24,))) + closer
        for file in both(path, b"\x80\x02" + root + b"."):
            refused(file, FileError, "in very many places, or in itself")


def test_too_many_steps_for_the_size(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\x80\x02(" + b"]" * 20_000_000 + b"l.")
    refused_in_little_memory(path, FileError, "more steps than a file of this size needs")


def test_a_pickle_that_is_too_large(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(1 << 27))
    refused(path, FileError, "'x/data.pkl' has 134,217,728 bytes, where at most")


def test_keys_twice(path):
    tensors, stored = plain({"w": BASE, "v": BASE})
    root = Pairs([("w", tensors["w"]), ("w", tensors["v"])])
    refused(write_zip(path, root, stored), UnsafeError, "has the key 'w' twice")
    refused(write_zip(path, {"model": root}, stored), UnsafeError, "has the key 'w' twice")


def test_members_twice(path):
    write_zip(path, *plain({"w": BASE}))
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x/data/0", bytes(96))
    refused(path, UnsafeError, "x/data/0: is in the archive twice")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (tensor(WHERE, (25,)), "w: reaches element 25 of a storage of 24"),
        (tensor(WHERE, (5, 5)), "w: reaches element 25 of a storage of 24"),
        (tensor(WHERE, (24,), None, 1), "w: reaches element 25"),
        (tensor(WHERE, (2,), (24,)), "w: reaches element 25"),
        (tensor(WHERE, (1 << 40, 1 << 40), (0, 0)), "w: repeats 1 stored elements to make"),
        (tensor(WHERE, (1 << 30, 24), (0, 1)), "w: repeats 24 stored elements to make"),
        (tensor(WHERE, (-1,), (1,)), "where a size belongs"),
        (tensor(WHERE, (1,), (-1,)), "where a size belongs"),
        (tensor(WHERE, (1,), (1,), -1), "where a size belongs"),
        (tensor(WHERE, (1,), (1,), 1 << 70), "where a size belongs"),
        (tensor(WHERE, (True,), (1,)), "where a size belongs"),
        (tensor(WHERE, (2, 3), (1,)), "2 axes and 1 strides"),
        (tensor(WHERE, (1,) * 65), "more than 64 axes"),
        (tensor(WHERE, "ab", "ab"), "without a shape"),
        (tensor("nothing", (1,), (1,)), "a tensor without a storage"),
        (tensor(storage("1", "float32", 24), (24,)), "w: lies in the storage '1', which is missing"),
        (tensor(storage("0", "float32", 1 << 40), (1 << 40,)), "w: lies in a storage of 4,398,046,511,104 bytes"),
        (tensor(storage("0", "float64", 24), (24,)), "w: lies in a storage of 192 bytes, but the file has 96"),
        (tensor(storage("0", "float32", 24, ("1", 20, 8)), (8,)), "a part that reaches element 28 of a storage of 24"),
        (tensor(storage("0", "float32", 24, ("1", 20)), (8,)), "an unknown part"),
        (tensor(storage("../data.pkl", "float32", 24), (24,)), "which is missing"),
        (tensor(storage(7, "float32", 24), (24,)), "without a class or a key"),
        (tensor(Persistent(("storage", "FloatStorage", "0", "cpu", 24)), (24,)), "without a class"),
        (tensor(Persistent(("other", 1, 2, 3, 4)), (24,)), "describes no storage"),
        (Call(Named("torch._utils", "_rebuild_tensor_v2"), ()), "_rebuild_tensor_v2 with 0 arguments"),
        (Call(Named("torch._utils", "_rebuild_parameter"), ()), "_rebuild_parameter with 0 arguments"),
        (Call(Named("torch._tensor", "_rebuild_from_type_v2"), (Named("collections", "OrderedDict"), Named("torch", "Tensor"), (), ())),
         "makes a tensor by collections.OrderedDict"),
        (Call(tensor(WHERE, (24,)), ()), "calls a Tensor"),
        (Call(Named("torch", "FloatStorage"), ()), "calls a StorageClass"),
    ],
)  # fmt: skip
def test_tensors_that_cannot_be(path, made, words):
    stored = {"0": BASE.tobytes()}
    refused(write_zip(path, {"w": made}, stored), FileError, words)


def test_33_axes_or_more_are_as_many_as_numpy_has(path):
    made = tensor(WHERE, (1,) * 64)
    assert open_source(write_zip(path, {"w": made}, {"0": BASE.tobytes()})).read("w").shape == (1,) * 64


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"magic": MAGIC + 1}, "PyTorch's magic number"),
        ({"protocol": 1000}, "PyTorch's protocol number"),
        ({"keys": ["0", "0"]}, "lists the storage '0' twice"),
        ({"keys": ["1"]}, "'1' that nothing uses"),
        ({"keys": []}, "w: lies in the storage '0', which is missing"),
        ({"keys": [0]}, "does not list the keys"),
        ({"keys": 3}, "does not list the keys"),
        ({"itemsize": 1}, "holds 96 elements of storage '0', and declares 24"),
        ({"itemsize": 97}, "holds 0 elements of storage '0', and declares 24"),
    ],
)
def test_the_form_without_zip(path, changes, words):
    tensors, stored = plain({"w": BASE})
    write_legacy(path, tensors, stored, **changes)
    if changes.get("magic"):
        path.write_bytes(pickled(MAGIC + 1).join(path.read_bytes().split(pickled(MAGIC + 1))))
        with pytest.raises(UnsafeError, match="pickled objects are never loaded"):
            open_source(path)
    else:
        refused(path, FileError, words)


def test_more_storages_than_bytes(path):
    many = {str(i): tensor(storage(str(i), "float32", 1 << 20), (1 << 20,)) for i in range(500)}
    code = pickled(many)
    write_legacy(path, code, {}, keys=list(many))
    with path.open("ab") as file:
        file.write(struct.pack("<q", 1 << 20))
    refused(path, FileError, r"ends at byte [\d,]+, but storage '0' reaches")


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_truncated_and_flipped(path, write):
    """Cut or changed anywhere, a file is refused, or gives the right values (legacy files have no checksums)."""
    tensors, stored = plain({"a.b": BASE, "c": BASE[:3]})
    data = write(path, tensors, stored).read_bytes()
    for length in range(1, len(data), max(1, len(data) // 60)):
        path.write_bytes(data[:length])
        with pytest.raises(TransferError):
            open_source(path, "torch")
    for at in range(0, len(data), max(1, len(data) // 150)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        try:
            source = open_source(path, "torch")
            values = [source.read(w.name) for w in source.catalog]
            assert write is write_legacy or not values or values[0].tobytes() in (BASE.tobytes(), b"")
        except TransferError:
            continue


def test_a_flipped_bit_in_the_values_is_noticed(path):
    data = bytearray(write_zip(path, *plain({"w": BASE})).read_bytes())
    data[data.index(BASE.tobytes()) + 50] ^= 1
    path.write_bytes(data)
    source = open_source(path)
    for use in (source.read, source.locate):
        with pytest.raises(FileError, match="storage 0: is damaged: its CRC-32 is"):
            use("w")


def test_a_file_that_changes_is_noticed(path):
    source = open_source(write_zip(path, *plain({"w": BASE})))
    write_zip(path, *plain({"w": BASE, "v": BASE}))
    with pytest.raises(FileError, match=r"changed .* since it was opened"):
        source.read("w")


def rezipped(path, **changes):
    """Change fields of the central directory's entry of the storage."""
    with zipfile.ZipFile(path) as archive:
        infos = {i.filename: (i, archive.read(i)) for i in archive.infolist()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, (_, content) in infos.items():
            archive.writestr(name, content)
        info = archive.getinfo("x/data/0")
        for key, value in changes.items():
            setattr(info, key, value)
    path.write_bytes(buffer.getvalue())


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"file_size": 1 << 40}, UnsafeError),
        ({"file_size": 1 << 40, "compress_size": 1 << 40}, UnsafeError),
        ({"header_offset": 1 << 20}, FileError),
        ({"header_offset": 3}, FileError),
        ({"header_offset": 0}, FileError),
        ({"compress_type": 12}, FileError),
        ({"flag_bits": 1}, FileError),
    ],
)
def test_directories_that_lie(path, changes, error):
    write_zip(path, *plain({"w": BASE}))
    rezipped(path, **changes)
    with pytest.raises(error):
        source = open_source(path, "torch")
        source.read("w")


def test_storages_that_overlap(path):
    write_zip(path, *plain({"w": BASE, "v": BASE}))
    with zipfile.ZipFile(path, "a") as archive:
        archive.getinfo("x/data/1").header_offset = archive.getinfo("x/data/0").header_offset
        archive._didModify = True
    refused(path, FileError, "where it cannot be")


def test_an_unknown_byte_order(path):
    refused(write_zip(path, *plain({"w": BASE}), notes={"byteorder": b"middle"}), FileError, "not little or big")


def test_names_that_are_no_text(path):
    tensors, stored = plain({"w": BASE})
    root = Pairs([(Raw(b"X\x03\x00\x00\x00\xed\xa0\x80"), tensors["w"])])
    refused(write_zip(path, root, stored), FileError, "is no text")


def test_select_of_nothing(path):
    write_zip(path, *plain({"w": BASE}))
    refused(path, RecipeError, "there is no 'x' at the top of the checkpoint -> tensors are under 'w'", "x")
