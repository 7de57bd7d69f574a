"""Shapes with a 0 need no bytes, whatever else they say."""

import json

import pytest
from other_files import extension, gguf, packed

from transferpipe.errors import FileError
from transferpipe.weights.formats import open_source

HUGE = (0, 1 << 62, 1 << 62)


def safetensors(shape):
    header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    return len(header).to_bytes(8, "little") + header


def npy(shape):
    header = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header


WRITTEN = {
    "safetensors": safetensors,
    "npy": npy,
    "gguf": lambda shape: gguf({"a": ("float32", shape, b"")}),
    "flax": lambda shape: b"\x81" + packed("a") + extension(1, packed((shape, "float32", b""))),
}


@pytest.mark.parametrize("format", WRITTEN)
def test_an_empty_array_has_a_shape_that_arrays_have(tmp_path, format):
    path = tmp_path / "m"
    path.write_bytes(WRITTEN[format]((0, 3)))
    source = open_source(path)
    assert [source.read_entry(spec).shape for spec in source.catalog] == [(0, 3)]
    path.write_bytes(WRITTEN[format](HUGE))
    with pytest.raises(FileError):
        open_source(path)
