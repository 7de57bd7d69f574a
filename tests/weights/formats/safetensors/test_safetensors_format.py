"""The safetensors reader against files of the safetensors library, and against files made to mislead it."""

import json
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from transferpipe.errors import FileError, UnsafeError
from transferpipe.weights.formats.safetensors.file import open_safetensors

NUMPY_DTYPES = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
NUMPY_DTYPES += ["float16", "float32", "float64", "complex64"]
EXTENDED_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu")
KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12).filter(
    lambda k: k != "__metadata__" and not k.endswith("num_batches_tracked")
)


def write(path, header, values=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + values)


def tensor(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@st.composite
def arrays(draw):
    dtype = np.dtype(draw(st.sampled_from(NUMPY_DTYPES)))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    size = int(np.prod(shape)) * dtype.itemsize
    raw = draw(st.binary(min_size=size, max_size=size))
    values = np.frombuffer(raw, np.uint8) % 2 == 1 if dtype.kind == "b" else np.frombuffer(raw, dtype)
    return values.reshape(shape)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(KEYS, arrays(), max_size=6))
def test_whatever_the_library_writes_comes_back_bit_for_bit(values):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        save_file(values, path)
        source = open_safetensors(path)
        assert {w.where for w in source.catalog} == set(values)
        for weight in source.catalog:
            found, expected = source.read(weight.name), values[weight.where]
            assert (weight.shape, weight.dtype) == (expected.shape, expected.dtype.name)
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
            assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("shape", [(), (2, 3), (0, 4)])
@pytest.mark.parametrize("dtype", EXTENDED_DTYPES)
def test_extended_floats(path, dtype, shape):
    value = np.full(shape, 2, getattr(ml_dtypes, dtype))
    save_file({"x": value}, path)
    source = open_safetensors(path)
    assert source.catalog["x"].dtype == dtype
    assert np.array_equal(source.read("x"), value)
    assert source.read("x").dtype == value.dtype


def test_torch_names_counters_and_details(path):
    one = np.ones(1, "f4")
    names = ("layer1.0.bn1.weight", "layer1.0.bn1.running_mean", "layer1.0.bn1.num_batches_tracked")
    save_file(dict.fromkeys(names, one), path, {"format": "pt", "long": "x" * 5000})
    source = open_safetensors(path)
    assert {w.name for w in source.catalog} == {"layer1/0/bn1/weight", "layer1/0/bn1/running_mean"}
    assert [w.name for w in source.others] == ["layer1/0/bn1/num_batches_tracked"]
    assert source.read_entry(source.others[0]) == one
    assert source.details == {"format": "pt"}
    assert source.format == "safetensors"


def test_names_with_slashes_keep_their_dots(path):
    save_file({"enc/conv.1/kernel": np.ones(1), "plain.name": np.ones(1)}, path)
    assert {w.name for w in open_safetensors(path).catalog} == {"enc/conv.1/kernel", "plain.name"}


def test_bytes_that_are_no_bool_are_true(path):
    write(path, {"x": tensor([3], 0, 3, "BOOL")}, b"\0\1\2")
    assert open_safetensors(path).read("x").tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": tensor([2], 0, 8), "b": tensor([2], 4, 12)}, "b: lies at bytes 4 to 12 and overlaps 'a', "),
        ({"a": tensor([2], 0, 8), "b": tensor([2], 0, 8)}, "b: lies at bytes 0 to 8 and overlaps 'a'"),
        ({"a": tensor([1], 4, 8), "b": tensor([1], 8, 12)}, "a: lies at bytes 4 to 8, after a gap: 'the header'"),
        ({"a": tensor([2], 0, 8)}, "has 4 bytes behind the last tensor"),
        ({}, "has 12 bytes behind the last tensor"),
        ({"a": tensor([4], 0, 16)}, "a: lies at bytes 0 to 16, but the values end at 12"),
        (
            {"a": tensor([2], 0, 8), "b": tensor([2], 8, 16), "c": tensor([2], 16, 24), "d": tensor([2], 24, 32)},
            r"b: lies at bytes 8 to 16, but the values end at 12; 2 others lie beyond that, too -> the file is damaged[^>]*again$",
        ),
        ({"a": tensor([1 << 62, 0], 1 << 60, 1 << 60)}, "the values end at 12"),
        ({"a": tensor([4], 0, 12)}, r"a: lies in 12 bytes, but shape \(4,\) of float32 needs 16"),
        ({"a": tensor([1 << 40, 1 << 40], 0, 12)}, "needs 4,835,703,278,458,516,698,824,704"),
        ({"a": tensor([3], 12, 0)}, "a: lies in -12 bytes"),
        ({"a": tensor([-3], 0, 12)}, r"a: has \[-3\] where a list of sizes belongs"),
        ({"a": tensor([True, 3], 0, 12)}, "where a list of sizes belongs"),
        ({"a": tensor([3.0], 0, 12)}, "where a list of sizes belongs"),
        ({"a": tensor("3", 0, 12)}, "a: has 3 where a list of sizes belongs"),
        ({"a": {**tensor([3], 0, 12), "data_offsets": [0, 6, 12]}}, "a: too many values"),
        ({"a": tensor([1] * 33, 0, 4)}, "a: has 33 axes"),
        ({"a": tensor([3], 0, 12, "F5")}, "a: has the dtype 'F5'; known are BOOL"),
        ({"a": tensor([3], 0, 12, ["F32"])}, "a: has the dtype"),
        ({"a": {"dtype": "F32", "shape": [3]}}, "a: has no 'data_offsets'"),
        ({"a": [3]}, "a: is not described by a mapping"),
        ([], "the header is a list, not a mapping"),
        (b"{" + b" " * 9, "the header cannot be read"),
        (b'{"a": "\xff"}', "the header cannot be read"),
        (b'{"a":' * 99_999, "the header cannot be read"),
        (b'{"a": ' + b"9" * 9999 + b"}", "the header cannot be read"),
        (b'{"\\ud800": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}', "surrogates not allowed"),
    ],
)
def test_headers_that_do_not_describe_the_file(path, header, message):
    write(path, header, bytes(12))
    with pytest.raises(FileError, match=message):
        open_safetensors(path)


def test_every_bad_tensor_is_reported_at_once(path):
    write(path, {"a": [3], "b": tensor([3], 0, 4), "c": tensor([1], 0, 4)}, bytes(4))
    with pytest.raises(FileError) as caught:
        open_safetensors(path)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("header", ['{"a": %s, "a": %s}', '{"a": {"dtype": "F32", "dtype": "F16"}, "b": [%s, %s]}'])
def test_duplicate_keys(path, header):
    entry = json.dumps(tensor([3], 0, 12))
    write(path, (header % (entry, entry)).encode(), bytes(12))
    with pytest.raises(UnsafeError, match=rf"{path}: the header has the key '(a|dtype)' twice"):
        open_safetensors(path)


@pytest.mark.parametrize("length", [0, 1, 1000, 100_000_001, (1 << 64) - 1])
def test_header_lengths_that_cannot_be(path, length):
    write(path, {}, length=length)
    with pytest.raises(FileError, match=rf"declares a header of {length:,} bytes, where at most 2 can be"):
        open_safetensors(path)


@pytest.mark.parametrize("change", ["shorter", "same size", "gone"])
def test_file_that_changes_after_opening(path, change):
    save_file({"a": np.arange(9.0)}, path)
    source = open_safetensors(path)
    if change == "gone":
        path.unlink()
    else:
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data[:-8] if change == "shorter" else data)
    with pytest.raises(FileError, match=r"model.safetensors: (changed.* since it was opened|cannot be read)"):
        source.read("a")


def test_file_that_ends_early_under_the_reader(path, monkeypatch):
    save_file({"a": np.arange(9.0)}, path)
    source = open_safetensors(path)
    monkeypatch.setattr("transferpipe.weights.formats.raw_value.check_unchanged", lambda *_: None)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(FileError, match=r"a: cannot be read: the file ends after 64 of 72 bytes"):
        source.read("a")


@pytest.mark.follows("_check_long: the file is damaged")
def test_a_long_header_describes_many_tensors(path):
    entry = json.dumps({"a": tensor([3], 0, 12)})
    for header in (entry + " " * (10 << 20), f'{entry[:-1]}, "__metadata__": {{"a": "{"a" * (10 << 20)}"}}}}'):
        write(path, header.encode(), bytes(12))
        with pytest.raises(UnsafeError, match=r"has a header of 10,4\d\d,\d\d\d bytes that describes 1 tensors"):
            open_safetensors(path)
    many = {f"{'long/' * 80}{i}": tensor([0], 0, 0) for i in range(20_000)}
    write(path, many, b"")
    assert path.stat().st_size > 8 << 20
    assert len(open_safetensors(path).catalog) == 20_000
    write(path, {"a": tensor([3], 0, 12), "__metadata__": {"workflow": "a" * (6 << 20)}}, bytes(12))
    assert len(open_safetensors(path).catalog) == 1
