"""Pickles in PyTorch checkpoints that are damaged, or small and mean to take much time or memory."""

import struct
import zipfile

import pytest
from torch_files import Pairs, Raw, code, plain, tensor, write_zip
from torch_refusals import BASE, WHERE, both, refused, refused_in_little_memory

from transferpipe.errors import FileError
from transferpipe.weights.formats import open_source


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "weights.pt"


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
        (b"NN\x93.", "by a value that is not text"),
        (b"\xff.", "not an opcode"),
        (b"I12x\n.", "invalid literal"),
        (b"L" + b"9" * 60_000 + b"L\n.", "is damaged"),
        (b"c" + b"x" * 70_000, "a line at byte"),
        (b"(" * 20_000 + b".", "empty stack"),
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
    root = b"\x80\x02" + code(inner) + b"q\x000" + laughs(kind) + b"."
    for file in both(path, root, {} if inner is None else None):
        words = "holds no tensors" if inner is None else "one thing in very many places"
        refused_in_little_memory(file, FileError, words)


def test_a_tuple_that_takes_for_ever_to_hash_as_a_key(path):
    tensors, stored = plain({"w": BASE})
    key = Raw(b"Nq\x000" + laughs("tuple"))
    root = Pairs([(key, 1), ("w", tensors["w"])])
    assert len(open_source(write_zip(path, root, stored)).catalog) == 1
    refused(
        write_zip(path, Pairs([(key, tensors["w"])]), stored),
        FileError,
        "under a key that is not short text but of type tuple",
    )


@pytest.mark.parametrize("depth", [200, 20_000])
@pytest.mark.parametrize("opener", [b"\x85", b"]", b"}"])
def test_deep_nesting(path, depth, opener):
    inner = code(tensor(WHERE, (24,)))
    closer = {b"\x85": b"", b"]": b"a", b"}": b"s"}[opener]
    if opener == b"\x85":
        root = inner + opener * depth
    else:
        root = (opener + (b"K\x01" if opener == b"}" else b"")) * depth + inner + closer * depth
    for file in both(path, b"\x80\x02" + root + b"."):
        refused(file, FileError, "in very many places, or in itself|more steps")


def test_a_container_in_itself(path):
    for opener, key, closer in ((b"]", b"", b"a"), (b"}", b"K\x01", b"s")):
        more = b"K\x02" if key else b""
        root = opener + b"q\x00" + key + b"h\x00" + closer + more + code(tensor(WHERE, (24,))) + closer
        for file in both(path, b"\x80\x02" + root + b"."):
            refused(file, FileError, "in very many places, or in itself")


def test_too_many_steps_for_the_size(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\x80\x02(" + b"]" * 20_000_000 + b"l.")
    refused_in_little_memory(path, FileError, "more steps than a file of this size needs")


@pytest.mark.parametrize("body", [b"N" + b"\x85" * 500_000, b"}" * 500_000, b"(t" * 500_000])
def test_hundreds_of_thousands_of_containers(path, body):
    """Each takes the time and the memory of several numbers, which files have millions of."""
    refused(write_zip(path, b"\x80\x02" + body + b".", {}), FileError, "more steps than a file of this size needs")


def test_a_million_numbers_are_data(path):
    root = b"\x80\x02](" + b"K\x01" * 1_000_000 + b"e0" + code(Pairs([("w", tensor(WHERE, (24,)))])) + b"."
    assert [spec.name for spec in open_source(write_zip(path, root, {"0": BASE.tobytes()})).catalog] == ["w"]


def test_a_pickle_that_is_too_large(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(1 << 27))
    refused(path, FileError, "'x/data.pkl' has 134,217,728 bytes, where at most")


def test_copies_of_copies(path):
    """A mapping made of a mapping is a copy, and a pickle can ask for many."""
    pairs = Pairs([(i, None) for i in range(20_000)])
    copy = b"ccollections\nOrderedDict\nh\x00\x85R0"
    refused(write_zip(path, b"\x80\x02" + code(pairs) + b"q\x000" + copy * 2000 + b"N.", {}), FileError, "more steps")
    twice = b"ccollections\nOrderedDict\nh\x00h\x00\x86R."
    refused(write_zip(path, b"\x80\x02" + code(pairs) + b"q\x000" + twice, {}), FileError, "with 2 arguments")


def test_a_large_container_in_many_places(path):
    large = code([0] * 20_000 + [tensor(WHERE, (24,))])
    root = b"\x80\x02" + large + b"q\x000](" + b"h\x00" * 20_000 + b"e."
    refused(write_zip(path, root, {"0": BASE.tobytes()}), FileError, "one thing in very many places")


@pytest.mark.parametrize("key", [Raw(b"\x8b" + struct.pack("<i", 40_000) + b"\x7f" * 40_000), "x" * 5000, None, (1, 2)])
def test_keys_that_no_name_can_be_made_of(path, key):
    tensors, stored = plain({"w": BASE})
    assert len(open_source(write_zip(path, Pairs([(key, 1), ("w", tensors["w"])]), stored)).catalog) == 1
    refused(write_zip(path, Pairs([(key, tensors["w"])]), stored), FileError, "under a key that is not short text")
