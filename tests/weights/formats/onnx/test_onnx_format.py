"""ONNX initialisers in every way in which the format allows them to be stored."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from protobuf_messages import ONNX, field, onnx_model, packed, raw, tensor, varint

from transferpipe.errors import FileError
from transferpipe.files.protobuf import read_fields, varints
from transferpipe.files.segment import opened, read_into
from transferpipe.weights.formats import open_source


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def opening(path, *tensors):
    path.write_bytes(onnx_model(*tensors))
    return open_source(path)


def located(source, name):
    segment = source.locate(name)
    buffer = bytearray(segment.nbytes)
    with opened(segment.path) as descriptor:
        read_into(descriptor, memoryview(buffer), segment.offset, segment.path)
    return bytes(buffer)


def numpy_dtype(name):
    return np.dtype(getattr(ml_dtypes, name, None) or name)


@pytest.mark.parametrize("dtype", ONNX)
@pytest.mark.parametrize("shape", [(), (2, 3), (0, 3)])
def test_raw_values_of_every_dtype(path, dtype, shape):
    value = np.ones(shape, numpy_dtype(dtype))
    source = opening(path, raw("a.b", value))
    assert (source.catalog["a/b"].shape, source.catalog["a/b"].dtype) == (shape, dtype)
    assert source.read("a/b").dtype == value.dtype
    assert source.read("a/b").tobytes() == value.tobytes()
    if dtype != "bool":
        assert located(source, "a/b") == value.tobytes()


@pytest.mark.parametrize("place", ["raw", "int32_data", "int32_data, packed"])
@pytest.mark.parametrize(("number", "dtype", "held"), [(21, "uint4", "uint8"), (22, "int4", "int8")])
def test_numbers_of_four_bits_share_bytes(path, number, dtype, held, place):
    """The first of two is in the lower half; the last byte of an odd count has one."""
    value = np.arange(15).reshape(3, 5).astype(numpy_dtype(dtype))
    halves = [*(int(n) & 15 for n in value.reshape(-1)), 0]
    stored = [low | high << 4 for low, high in zip(halves[::2], halves[1::2], strict=True)]
    one_by_one = b"".join(varint(5 << 3) + varint(n) for n in stored)
    fields = {"raw": field(9, bytes(stored)), "int32_data": one_by_one, "int32_data, packed": packed(5, stored)}
    source = opening(path, tensor("a", [3, 5], number, fields[place]))
    assert source.catalog["a"].dtype == held and source.locate("a") is None
    np.testing.assert_array_equal(source.read("a"), value.astype(held), strict=True)


# Which field holds values of which dtypes, and as what.
TYPED = [
    (4, "float32", "f4"),
    (4, "complex64", "f4"),
    (10, "float64", "f8"),
    (10, "complex128", "f8"),
    *((5, dtype, None) for dtype in ("int32", "int16", "int8", "uint16", "uint8", "bool")),
    *((5, dtype, "bits") for dtype in ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")),
    (7, "int64", None),
    (11, "uint64", None),
    (11, "uint32", None),
]


def values_of(dtype):
    if dtype == "bool":
        return np.array([True, False, True])
    if dtype.startswith(("int", "uint")):
        info = np.iinfo(dtype)
        return np.array([info.min, 1, info.max], dtype)
    return np.array([-1.5, 0, 2]).astype(numpy_dtype(dtype))


@pytest.mark.parametrize("style", ["packed", "single", "pieces"])
@pytest.mark.parametrize(("number", "dtype", "how"), TYPED)
def test_values_in_typed_fields(path, number, dtype, how, style):
    value = values_of(dtype)
    if how in ("f4", "f8"):
        items = [x.tobytes() for x in value.view(how)]
        kind = 5 if how == "f4" else 1
    else:
        bits = value.view(f"u{value.itemsize}") if how == "bits" else value
        items, kind = [varint(int(x)) for x in bits], 0
    if style == "packed":
        fields = field(number, b"".join(items))
    elif style == "single":
        fields = b"".join(varint(number << 3 | kind) + item for item in items)
    else:
        fields = field(number, items[0]) + field(number, b"".join(items[1:]))
    source = opening(path, tensor("x", value.shape, dtype, fields))
    assert source.catalog["x"].dtype == dtype
    assert source.read("x").dtype == value.dtype
    assert source.read("x").tobytes() == value.tobytes()
    lies_there = how in ("f4", "f8") and style == "packed"
    assert (source.locate("x") is not None) == lies_there


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        hnp.arrays(st.sampled_from(["f4", "i8", "u1", "?"]), hnp.array_shapes(min_dims=0, min_side=0)),
        min_size=1,
        max_size=5,
    )
)
def test_whatever_is_stored_comes_back_bit_for_bit(tmp_path_factory, values):
    source = opening(tmp_path_factory.mktemp("onnx") / "x", *(raw(f"t{k}", v) for k, v in enumerate(values)))
    assert [w.name for w in source.catalog] == [f"t{k}" for k in range(len(values))]
    for k, value in enumerate(values):
        assert source.read(f"t{k}").tobytes() == value.tobytes()


def test_dims_may_be_packed(path):
    message = packed(1, [2, 300]) + field(2, 2) + field(9, bytes(600)) + field(8, "x")
    assert opening(path, message).catalog["x"].shape == (2, 300)


def test_values_in_a_file_beside(path):
    entries = {"location": "data/w.bin", "offset": "4", "length": "8"}
    (path.parent / "data").mkdir()
    (path.parent / "data" / "w.bin").write_bytes(np.arange(4, dtype="f4").tobytes())
    external = b"".join(field(13, field(1, k) + field(2, v)) for k, v in entries.items())
    source = opening(path, tensor("x", [2], "float32", external, field(14, 1)))
    assert source.read("x").tolist() == [1, 2]
    assert located(source, "x") == np.float32([1, 2]).tobytes()
    assert {p.name for p in source.files} == {"model.onnx", "w.bin"}
    (path.parent / "data" / "w.bin").write_bytes(bytes(17))
    with pytest.raises(FileError, match=r"w.bin: changed"):
        source.read("x")


def test_what_is_no_weight_and_what_is_not_read(path):
    counter, narrow = raw("bn.num_batches_tracked", np.int64(3)), tensor("q.w", [2], 23, field(9, b"\0"))
    source = opening(path, raw("bn.weight", np.ones(2, "f4")), counter, narrow)
    assert [w.name for w in source.catalog] == ["bn/weight"]
    assert [w.name for w in source.others] == ["bn/num_batches_tracked"]
    assert source.details["not read"] == "q/w"
    assert [u.name for u in source.catalog.unreadable] == ["q/w"]
    assert (source.details["producer"], source.format) == ("pytorch", "onnx")


def test_file_that_changes_after_opening(path):
    source = opening(path, raw("a", np.ones(2)), tensor("b", [1], "int64", field(7, b"\x05")))
    path.write_bytes(path.read_bytes() + b"\0")
    for ask in (source.read, source.locate):
        with pytest.raises(FileError, match=r"model.onnx: changed"):
            ask("a")
    with pytest.raises(FileError, match=r"model.onnx: changed"):
        source.read("b")


@given(st.lists(st.integers(0, (1 << 64) - 1)))
def test_varints_come_back(numbers):
    assert list(varints(b"".join(map(varint, numbers)))) == numbers


@given(st.binary(max_size=60))
def test_any_bytes_are_fields_that_cover_them_or_no_message(data):
    try:
        fields = list(read_fields(lambda at, size: data[at : at + size], 0, len(data)))
    except ValueError:
        return
    assert (fields[-1].end if fields else 0) == len(data)
    assert all(0 <= f.begin <= f.end <= len(data) for f in fields)


def test_against_the_library_of_onnx(path):
    onnx = pytest.importorskip("onnx")
    values = {"a.w": np.random.default_rng(1).normal(size=(3, 4)).astype("f4"), "b": np.arange(4)}
    tensors = [onnx.numpy_helper.from_array(v, n) for n, v in values.items()]
    graph = onnx.helper.make_graph([], "g", [], [], initializer=tensors)
    onnx.save(onnx.helper.make_model(graph), path)
    source = open_source(path)
    for name, value in values.items():
        assert source.read(name.replace(".", "/")).tobytes() == value.tobytes()
