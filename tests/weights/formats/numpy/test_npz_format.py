"""The npz reader against files of NumPy, and against archives made to mislead it."""

import io
import json
import tempfile
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from transferpipe.errors import FileError, UnsafeError
from transferpipe.weights.formats.numpy import npz
from transferpipe.weights.formats.numpy.npz import open_npz

KEYS = st.text("abcXYZ019._-/ é漢", max_size=12).filter(lambda k: not k.endswith("num_batches_tracked"))
DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(sizes=(16, 32, 64), endianness="?"),
)
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.npz"


def npy(value, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(value), **options)
    return buffer.getvalue()


def npy_header(descr, shape):
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def write(path, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(KEYS, ARRAYS, max_size=5), st.booleans(), st.booleans())
def test_whatever_numpy_writes_comes_back_bit_for_bit(values, compressed, fortran):
    values = {k: np.asfortranarray(v).reshape(v.shape) if fortran else v for k, v in values.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        with path.open("wb") as file:
            (np.savez_compressed if compressed else np.savez)(file, **values)
        source = open_npz(path)
        assert {w.where.removesuffix(".npy") for w in source.catalog} == set(values)
        for weight in source.catalog:
            found, expected = source.read(weight.name), values[weight.where.removesuffix(".npy")]
            assert (weight.shape, weight.dtype) == (expected.shape, expected.dtype.name)
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype.newbyteorder("="))
            assert found.tobytes() == expected.astype(found.dtype).tobytes()


def test_order_names_counters_and_strangers(path):
    np.savez(path, **{"b.weight": np.ones(2), "a.weight": np.ones(1), "bn.num_batches_tracked": np.int64(7)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("README.txt", "hello")
    source = open_npz(path)
    assert [w.name for w in source.catalog] == ["b/weight", "a/weight"]
    assert [w.name for w in source.others] == ["bn/num_batches_tracked"]
    assert source.read_entry(source.others[0]) == 7
    assert source.details == {"not arrays, so not read": "README.txt"}
    assert source.format == "npz"


@pytest.mark.parametrize(("dtype", "stored"), [("bfloat16", "<u2"), ("bfloat16", ">u2"), ("float8_e4m3fn", "u1")])
def test_noted_dtypes(path, dtype, stored):
    value = np.array([[1.5, -2, 0]], getattr(ml_dtypes, dtype))
    raw = value.view(f"u{value.itemsize}").astype(stored)
    write(path, {"x.npy": npy(raw), "transferpipe.json": json.dumps({"dtypes": {"x": dtype}})})
    source = open_npz(path)
    assert source.catalog["x"].dtype == dtype
    assert source.read("x").dtype == value.dtype
    assert np.array_equal(source.read("x"), value)
    assert source.details == {}


def test_bfloat16_saved_by_numpy_alone_stays_opaque(path):
    np.savez(path, x=np.ones(2, ml_dtypes.bfloat16))
    source = open_npz(path)
    assert source.catalog["x"].dtype == "V2"
    assert source.catalog.nbytes == 4
    assert source.read("x").dtype == np.dtype("V2")


@pytest.mark.parametrize(
    "notes",
    [b"{", b"[]", b"{}", b'{"dtypes": []}', b'{"dtypes": {"x": "object"}}', b'{"dtypes": {"x": {}}}', b"[" * 99_999],
)
def test_notes_that_make_no_sense(path, notes):
    write(path, {"x.npy": npy(np.ones(2, "u2")), "transferpipe.json": notes})
    with pytest.raises(FileError, match=r"transferpipe.json: (cannot be read|must map keys)"):
        open_npz(path)


def test_notes_beyond_the_limit(path, monkeypatch):
    monkeypatch.setattr(npz, "_MOST_NOTES", 10)
    write(path, {"x.npy": npy(np.ones(2, "u2")), "transferpipe.json": b'{"dtypes": {}}'})
    with pytest.raises(FileError, match=r"transferpipe.json: cannot be read: more than 10 bytes"):
        open_npz(path)


@pytest.mark.parametrize("dtype", ["u1", "i2", "f2"])
def test_note_that_does_not_fit_the_array(path, dtype):
    write(path, {"x.npy": npy(np.ones(2, dtype)), "transferpipe.json": b'{"dtypes": {"x": "bfloat16"}}'})
    with pytest.raises(FileError, match=r"says bfloat16 of 'x', which holds"):
        open_npz(path)


class Bomb:
    def __reduce__(self):
        return (print, ("a pickle was loaded",))


def test_pickled_objects_are_never_loaded(path):
    write(path, {"x.npy": npy(np.array([Bomb()], object), allow_pickle=True)})
    with pytest.raises(UnsafeError, match=r"the pickle names 'builtins\.print', .*; nothing of it was executed"):
        open_npz(path)


@pytest.mark.parametrize("value", [np.array([b"a"]), np.array(["a"]), np.zeros(1, [("a", "f4")]), np.zeros(1, "M8[s]")])
def test_values_that_are_no_numbers(path, value):
    write(path, {"x.npy": npy(value)})
    with pytest.raises(FileError, match=r"x.npy: holds .*, not numbers"):
        open_npz(path)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_duplicate_members(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", npy([1.0]))
        archive.writestr("x.npy", npy([2.0]))
    with pytest.raises(UnsafeError, match=r"x.npy: is in the archive twice"):
        open_npz(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy_header("<f4", (1 << 40,)), r"holds 0 bytes, but shape \(1099511627776,\) of float32 needs 4,398,046,511"),
        (npy_header("<f4", (1 << 62, 1 << 62)) + bytes(4), "holds 4 bytes, but shape"),
        (npy_header("<f4", (-1,)), r"impossible shape \(-1,\)"),
        (npy_header("<f4", (True,)) + bytes(4), "impossible shape"),
        (npy_header("<f4", (2,)) + bytes(7), "holds 7 bytes"),
        (npy_header("<f4", (2,)) + bytes(9), "holds 9 bytes"),
        (npy_header(("<f4", (2,)), (1,)) + bytes(8), "not numbers|not a readable"),
        (npy_header("nonsense", (1,)), "is not a readable npy array"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "is not a readable npy array"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "is not a readable npy array"),
        (b"\x93NUMPY\x03\x00\x02\x00\x00\x00{}", "npy version"),
        (b"\x93NUMPY\x01\x00\xff\x7f" + b"(" * 0x7FFF, "is not a readable npy array"),
        (b"text", "is not a readable npy array"),
        (b"", "is not a readable npy array"),
    ],
)
def test_headers_that_do_not_describe_the_member(path, content, message):
    write(path, {"x.npy": content})
    with pytest.raises(FileError, match=rf"x.npy: .*({message})"):
        open_npz(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_packing(path, method):
    write(path, {"x.npy": npy([1.0, 2.0])}, method)
    assert open_npz(path).read("x").tolist() == np.load(path)["x"].tolist() == [1, 2]


def patch_member(path, field, size, value):
    """Change a field in the central directory; see section 4.3.12 of the zip specification for the offsets."""
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\1\2") + field
    data[at : at + size] = value.to_bytes(size, "little")
    path.write_bytes(data)


def test_encrypted_member(path):
    write(path, {"x.npy": npy([1.0])})
    patch_member(path, 8, 2, 1)
    with pytest.raises(FileError, match=r"x.npy: is encrypted"):
        open_npz(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_member_that_declares_more_than_packing_can_give(path, method):
    write(path, {"x.npy": npy(np.ones(1000))}, method)
    patch_member(path, 24, 4, 0x7FFFFFFF)
    with pytest.raises(UnsafeError, match=r"x.npy: declares 2,147,483,647 bytes out of"):
        open_npz(path)


def test_members_larger_than_the_archive(path):
    write(path, {"x.npy": npy(np.ones(1000))})
    patch_member(path, 20, 4, 1 << 30)
    with pytest.raises(UnsafeError, match=r"they overlap"):
        open_npz(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_flipped_bit_is_noticed(path, compressed):
    (np.savez_compressed if compressed else np.savez)(path, x=np.arange(5000.0))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    source = open_npz(path)
    with pytest.raises(FileError, match=r"x.npy: cannot be read"):
        source.read("x")


def test_file_that_changes_after_opening(path):
    np.savez(path, x=np.arange(3.0))
    source = open_npz(path)
    np.savez(path, x=np.arange(4.0))
    with pytest.raises(FileError, match=r"model.npz: changed from .* to .* bytes since it was opened"):
        source.read("x")


def test_no_value_is_read_on_opening(path, monkeypatch):
    np.savez(path, x=np.ones(10))
    monkeypatch.setattr(npz.npy, "read_array", lambda *_a, **_k: pytest.fail("a value was read"))
    assert len(open_npz(path).catalog) == 1
