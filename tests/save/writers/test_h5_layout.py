"""The layout of a weights file: what Keras would write, with holes where the values belong."""

import errno
import io
import os
import re
from itertools import pairwise

import h5py
import ml_dtypes
import numpy as np
import pytest

from transferpipe.errors import FileError
from transferpipe.files import window as window_module
from transferpipe.save.writers.content import Content
from transferpipe.save.writers.h5_layout import lay_out
from transferpipe.weights.file_source import SavedGroup
from transferpipe.weights.spec import Catalog, WeightSpec, numpy_dtype

DTYPES = ["float32", "float16", "float64", "bfloat16", "int8", "uint8", "int32", "int64", "bool", "float8_e4m3fn"]


def content(*weights, groups=None):
    """Return what a writer is given for (name, shape, dtype), one group a layer."""
    catalog = Catalog(tuple(WeightSpec(*w) for w in weights))
    layers = {}
    for weight in catalog:
        layers.setdefault(weight.layer, []).append(weight.name)
    made = tuple(SavedGroup(n, n or None, tuple((str(i), w) for i, w in enumerate(ws))) for n, ws in layers.items())
    return Content(catalog, None, lambda _: None, lambda _: None, made if groups is None else groups)


@pytest.fixture
def lay(tmp_path):
    """A function that lays out at `base` and returns the file's bytes, the places and the size."""

    def run(wanted, base=0):
        path = tmp_path / "file"
        with path.open("wb+") as file:
            places, size = lay_out(file.fileno(), base, wanted)
        return path.read_bytes(), places, size

    return run


@pytest.mark.parametrize("base", [0, 64, 4096, 1 << 20])
def test_places_are_where_hdf5_finds_the_values(lay, base):
    weights = [(f"layer{i}/w{i}", shape, dtype) for i, (shape, dtype) in enumerate(
        (shape, dtype) for shape in [(), (3,), (1, 1), (40, 30), (2, 3, 5, 7)] for dtype in DTYPES)]  # fmt: skip
    wanted = content(*weights)
    data, places, size = lay(wanted, base)
    assert len(data) == base + size
    assert data[:base] == bytes(base)
    filled, truth = bytearray(data), {}
    for i, place in enumerate(places):
        weight = wanted.catalog[place.name]
        assert place.nbytes == weight.nbytes
        raw = np.random.default_rng(i).integers(0, 2, place.nbytes, dtype=np.uint8).tobytes()
        filled[place.offset : place.offset + place.nbytes] = raw
        truth[place.name] = np.frombuffer(raw, numpy_dtype(weight.dtype)).reshape(weight.shape)
    with h5py.File(io.BytesIO(bytes(filled[base:])), "r") as h5:
        for weight in wanted.catalog:
            dataset = h5[f"{weight.layer}/vars/0"]
            found = np.asarray(dataset[()])
            found = found.view(numpy_dtype(weight.dtype)) if found.dtype.kind == "V" else found
            assert (found.shape, found.dtype) == (weight.shape, numpy_dtype(weight.dtype)), weight
            assert found.tobytes() == truth[weight.name].tobytes(), weight


def test_places_do_not_overlap_each_other_or_the_structure(lay):
    wanted = content(*((f"layer{i}/w", (i, 7), "float32") for i in range(1, 60)))
    data, places, _ = lay(wanted)
    ends = sorted((p.offset, p.offset + p.nbytes) for p in places)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(ends))
    filled = bytearray(data)
    for place in places:
        filled[place.offset : place.offset + place.nbytes] = b"\xff" * place.nbytes
    with h5py.File(io.BytesIO(bytes(filled)), "r") as h5:
        for weight in wanted.catalog:
            assert h5[f"{weight.layer}/vars/0"].shape == weight.shape
            assert h5[f"{weight.layer}/vars"].attrs["name"] == weight.layer


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 0, 2)])
def test_empty_values_have_no_place(lay, shape):
    data, places, _ = lay(content(("a/empty", shape, "float32"), ("a/full", (2,), "float32")))
    assert [p.name for p in places] == ["a/full"]
    with h5py.File(io.BytesIO(data), "r") as h5:
        assert h5["a/vars/0"].shape == shape


def test_the_structure_is_that_of_keras(lay):
    """Groups without weights, the root's own weights, keys that are no numbers, layers without a noted name."""
    weights = [("total", (3,), "bfloat16"), ("a/b/kernel", (2,), "float32")]
    groups = (
        SavedGroup("", "root", (("0", "total"),)),
        SavedGroup("layers/a", "a", ()),
        SavedGroup("layers/a/inner", None, (("kernel:0", "a/b/kernel"),)),
    )
    data, _, _ = lay(content(*weights, groups=groups))
    with h5py.File(io.BytesIO(data), "r") as h5:
        names = []
        h5.visit(names.append)
        assert sorted(names) == sorted([
            "vars", "vars/0", "layers", "layers/a", "layers/a/vars", "layers/a/inner", "layers/a/inner/vars",
            "layers/a/inner/vars/kernel:0",
        ])  # fmt: skip
        assert dict(h5["vars"].attrs) == {"name": "root"}
        assert dict(h5["vars/0"].attrs) == {"dtype": "bfloat16"}
        assert not h5["layers/a/inner/vars"].attrs
        assert h5["vars/0"].dtype == np.dtype("V2")


def test_large_values_can_be_mapped(lay):
    weights = [(f"layer{i}/w", (i * 300,), dtype) for i in range(1, 20) for dtype in ("float32",)]
    _, places, _ = lay(content(*weights))
    assert all(p.offset % 64 == 0 for p in places if p.nbytes >= 4096)
    assert any(p.nbytes >= 4096 for p in places)


def test_the_same_content_gives_the_same_bytes(lay):
    wanted = content(*((f"layer{i}/w", (5, i), "float16") for i in range(1, 40)))
    first, _, _ = lay(wanted)
    second, _, _ = lay(wanted)
    assert first == second
    shifted, places, _ = lay(wanted, 640)
    assert shifted[640:] == first
    assert min(p.offset for p in places) > 640


def test_no_room_is_taken_for_the_values(tmp_path):
    """8 GiB are laid out on a disk that has them not: the holes take no room."""
    path = tmp_path / "file"
    with path.open("wb+") as file:
        places, size = lay_out(file.fileno(), 0, content(("big/kernel", (2 << 20, 1 << 10), "float32"),
                                                         ("big/bias", (3,), "float32")))  # fmt: skip
        assert size > 8 << 30
        assert os.fstat(file.fileno()).st_blocks * 512 < 1 << 20
        assert [p.nbytes for p in places] == [8 << 30, 12]


@pytest.mark.parametrize("allowed", [0, 1, 2, 5])
def test_no_room_left(tmp_path, monkeypatch, allowed):
    left = [allowed]
    real = os.pwrite

    def full(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(window_module.os, "pwrite", full)
    with (tmp_path / "file").open("wb+") as file, pytest.raises(OSError, match=re.escape("No space left on device")):
        lay_out(file.fileno(), 0, content(*((f"layer{i}/w", (5, 3), "float32") for i in range(300))))


def test_every_extended_float_is_noted(lay):
    names = [n for n in ("bfloat16", "float8_e4m3fn", "float8_e5m2") if hasattr(ml_dtypes, n)]
    data, _, _ = lay(content(*((f"{n}/w", (4,), n) for n in names)))
    with h5py.File(io.BytesIO(data), "r") as h5:
        assert {n: h5[f"{n}/vars/0"].attrs["dtype"] for n in names} == {n: n for n in names}


@pytest.mark.follows("_dataset: give the weight another")
def test_a_dtype_that_keras_files_do_not_know(lay, tmp_path):
    with pytest.raises(
        FileError, match="which a Keras weights file cannot hold -> give the weight another dtype, such as float32"
    ):
        lay(content(("d/kernel", (2, 3), "float4_e2m1fn")))
    data, _, _ = lay(content(("d/kernel", (2, 3), "float32")))
    (tmp_path / "m.h5").write_bytes(data)
    with h5py.File(tmp_path / "m.h5") as file:
        assert (file["d/vars/0"].shape, file["d/vars/0"].dtype) == ((2, 3), np.dtype("float32"))
