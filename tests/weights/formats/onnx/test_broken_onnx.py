"""ONNX files made to mislead."""

import time

import numpy as np
import pytest
from protobuf_messages import field, onnx_model, packed, raw, tensor, varint

from transferpipe.errors import FileError, UnsafeError
from transferpipe.weights.formats import open_source
from transferpipe.weights.formats.onnx.model import open_onnx

ONES = field(9, np.ones(2, "f4").tobytes())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def refused(path, data, message, error=FileError):
    path.write_bytes(data)
    with pytest.raises(error, match=message):
        open_onnx(path)


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (tensor("x", [3], 1, ONES), r"'x' has 8 bytes, but shape \(3,\) of float32 needs 12"),
        (tensor("x", [3], 22, field(9, b"1")), r"'x' has 1 bytes, but shape \(3,\) of int4 needs 2"),
        (tensor("x", [3], 21, field(5, b"\1")), "'x' has 1 bytes for 2 numbers"),
        (tensor("x", [1 << 40, 1 << 40], 1, ONES), "needs 4,835,703,278,458,516,698,824,704"),
        (tensor("x", [-2], 1, ONES), r"'x' has the impossible shape \[-2\]"),
        (tensor("x", [1] * 33, 1, ONES), "'x' has the impossible shape"),
        (tensor("x", [2], 99, ONES), "'x' has the dtype number 99"),
        (tensor("x", [2], 0, ONES), "'x' has the dtype number 0"),
        (tensor("x", [2], 1), r"'x' has no values, but shape \(2,\) of float32 needs 8 bytes"),
        (tensor("", [2], 1, ONES), "is a tensor without a name"),
        (field(1, 2) + field(2, 1) + ONES, "is a tensor without a name"),
        (tensor("x", [2], 1, ONES, ONES), "field 9 of a tensor is there twice"),
        (tensor("x", [2], 1, ONES, field(4, bytes(8))), "'x' keeps its values in several fields"),
        (tensor("x", [2], 1, field(10, bytes(16))), "'x' keeps values of float32 in field 10"),
        (tensor("x", [2], 7, field(5, b"\1\1")), "'x' keeps values of int64 in field 5"),
        (tensor("x", [2], 1, field(4, bytes(12))), "'x' has 12 bytes"),
        (tensor("x", [2], 6, field(5, b"\1")), "'x' has 1 bytes for 2 numbers"),
        (tensor("x", [1], 6, field(5, b"\1" * 11)), "'x' has 11 bytes for 1 numbers"),
        (tensor("x", [2], 1, field(9, 3)), "field 9 of a tensor is stored as kind 0"),
        (tensor("x", [2], 1, field(4, 3)), "field 4 of a tensor is stored as kind 0"),
        (tensor("x", [2], 1, ONES) + field(8, "y"), "field 8 of a tensor is there twice"),
        (field(1, 2) + field(2, 1) + ONES + field(8, b"\xff"), "utf-8"),
        (field(8, b"n" * 5000), "a name has 5,000 bytes"),
        (field(1, b"\1" * 999), "a tensor has a shape of 999 bytes"),
        (b"\x4a\xff\xff\xff\xff\x7f", r"field 9 at byte \d+ declares 34,359,738,367 bytes"),
        (b"\x00\x00", "begins a field of the number 0"),
        (b"\x0b", "begins a field of the kind 3, which is never written"),
        (b"\xff" * 11, "does not end"),
    ],
)
def test_tensors_that_make_no_sense(path, message, what):
    refused(path, onnx_model(raw("sound", np.ones(1, "f4")), message), what)


def external(**entries):
    texts = b"".join(field(13, field(1, k) + field(2, v)) for k, v in entries.items())
    return onnx_model(tensor("x", [2], 1, texts, field(14, 1)))


@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "a/../../w.bin", "..\\w.bin"])
def test_values_outside_of_the_folder(path, location):
    refused(path, external(location=location), "which is not in its folder", UnsafeError)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "gone.bin"}, "there is no such file"),
        ({"offset": "0"}, "where the name of a file belongs"),
        ({"location": "w.bin", "offset": "1"}, "'x' has 7 bytes"),
        ({"location": "w.bin", "offset": "4", "length": "8"}, "lies at bytes 4 to 12 of 'w.bin', which has 8"),
        ({"location": "w.bin", "offset": "99"}, "lies at bytes 99 to 99 of 'w.bin'"),
        ({"location": "w.bin", "offset": "-1"}, "lies at offset '-1'"),
        ({"location": "w.bin", "offset": "١"}, "lies at offset"),
        ({"location": "w.bin", "length": "9" * 30}, "length '999"),
        ({"location": "w.bin", "length": "4"}, "'x' has 4 bytes"),
    ],
)
def test_values_beside_that_are_not_there(path, entries, message):
    (path.parent / "w.bin").write_bytes(bytes(8))
    refused(path, external(**entries), message)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (field(1, 8), "holds 0 graphs, not one"),
        (onnx_model() + field(7, b""), "holds 2 graphs, not one"),
        (onnx_model()[2:], "no version of ONNX is given"),
        (b"\x08", "does not end"),
    ],
)
def test_models_that_are_none(path, data, message):
    refused(path, data, message)
    with pytest.raises(FileError, match="is of no known format"):
        open_source(path)


def test_tensor_that_is_no_message(path):
    refused(path, field(1, 8) + field(7, field(5, 3)), "a tensor is stored as kind 0, not as a message")


def test_two_tensors_of_one_name(path):
    refused(path, onnx_model(raw("x", np.ones(1)), raw("x", np.ones(1))), "x: is in the file twice", UnsafeError)


@pytest.mark.parametrize(
    ("dtype", "data", "message"),
    [
        (6, varint(1 << 40) + b"\1", "holds numbers that are no int32"),
        (3, varint(200) + b"\1", "holds numbers that are no int8"),
        (10, varint(1 << 16) + b"\1", "holds numbers that are no float16"),
        (22, varint(256), "holds numbers that are no int8"),
        (6, b"\1\1\1", r"holds 3 numbers, but shape \(2,\) needs 2"),
        (6, b"\1\xff", "a number does not end"),
        (6, b"\xff" * 15, "a number has more than ten bytes"),
    ],
)
def test_numbers_that_are_none_of_the_dtype(path, dtype, data, message):
    path.write_bytes(onnx_model(tensor("x", [2], dtype, field(5, data))))
    with pytest.raises(FileError, match=rf"model.onnx: x: {message}"):
        open_source(path).read("x")


def test_millions_of_fields_are_given_up_in_time(path):
    start = time.process_time()
    refused(path, onnx_model(nodes=b"") + b"\x10\x01" * 4_000_000, "more than 1,000,000 fields")
    assert time.process_time() - start < 10


def test_values_beside_the_model_do_not_lie_in_it(tmp_path):
    pairs = {"location": "m.onnx", "offset": "0", "length": "24"}
    external = b"".join(field(13, field(1, k) + field(2, v)) for k, v in pairs.items())
    (tmp_path / "m.onnx").write_bytes(
        onnx_model(packed(1, (2, 3)) + field(2, 1) + field(8, "a.w") + external + field(14, 1))
    )
    with pytest.raises(FileError, match="is said to be the model itself"):
        open_source(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("op", "attribute"),
    [
        ("Flatten", field(1, "axis") + field(4, "a")),
        ("Flatten", field(1, "axis") + field(8, 1) + field(8, 2)),
        ("Reshape", field(1, "shape") + field(9, "a")),
        ("Squeeze", field(1, "axes") + field(9, "a")),
        ("Reshape", field(1, "operands") + field(3, 5)),
        ("Squeeze", field(1, "operands") + field(3, 5)),
    ],
)
def test_settings_of_another_kind_than_their_operator_has_are_not_believed(path, op, attribute):
    nodes = b"".join(
        field(1, field(1, name) + field(2, f"{name}'") + field(4, op) + field(5, attribute)) for name in "xi"
    )
    value = np.ones((1, 2), "f4")
    path.write_bytes(
        field(1, 8) + field(7, nodes + field(2, "net") + field(5, raw("x", value)) + field(11, field(1, "i")))
    )
    source = open_onnx(path)
    assert np.array_equal(source.read("x"), value)
    assert source.catalog.network is not None and [n.name for n in source.catalog.network.nodes] == ["i", "i'"]
