"""PyTorch checkpoints whose tensors, storages or archives cannot be what they say."""

import io
import struct
import warnings
import zipfile

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
from torch_refusals import BASE, WHERE, refused

from transferpipe.errors import FileError, RecipeError, UnsafeError
from transferpipe.weights.formats import open_source


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "weights.pt"


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
        with pytest.raises(FileError, match="the pickle refers to something outside of itself"):
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
    refused(path, FileError, "what is before it ends at")


def test_an_unknown_byte_order(path):
    refused(write_zip(path, *plain({"w": BASE}), notes={"byteorder": b"middle"}), FileError, "not little or big")


def test_names_that_are_no_text(path):
    tensors, stored = plain({"w": BASE})
    root = Pairs([(Raw(b"X\x03\x00\x00\x00\xed\xa0\x80"), tensors["w"])])
    refused(write_zip(path, root, stored), FileError, "is not text")


def test_select_of_nothing(path):
    write_zip(path, *plain({"w": BASE}))
    refused(path, RecipeError, "there is no 'x' at the top of the checkpoint -> tensors are under 'w'", "x")
