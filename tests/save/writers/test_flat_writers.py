"""npz and safetensors, read back by the libraries that own the formats; whole models never lie in memory."""

import json
import resource
import subprocess
import sys
import tracemalloc
import zipfile
from itertools import pairwise
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open
from safetensors.numpy import load_file

from transferpipe.errors import FileError
from transferpipe.files.segment import Segment
from transferpipe.save.writers import writer_for
from transferpipe.save.writers.content import Content
from transferpipe.weights.formats import open_source
from transferpipe.weights.spec import Catalog, WeightSpec, numpy_dtype

PLAIN = [
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
]  # fmt: skip
EXTENDED = ["bfloat16", "float8_e4m3fn", "float8_e5m2"]
MIB = 1 << 20


def content_of(arrays, segments=None):
    catalog = Catalog(tuple(WeightSpec(n, a.shape, a.dtype.name) for n, a in arrays.items()))
    return Content(catalog, arrays.__getitem__, (segments or {}).get, lambda _: None)


def write(path, content):
    with path.open("wb+") as file:
        writer_for(path.name)(file.fileno(), content)
    return path


@st.composite
def models(draw, dtypes):
    names = draw(st.lists(st.text("abcdeé/ .", min_size=1, max_size=8), min_size=1, max_size=6, unique=True))
    shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
    return {n: draw(hnp.arrays("uint8", draw(shapes))).astype(numpy_dtype(draw(dtypes))) for n in names}


def assert_same(found, arrays):
    assert sorted(found) == sorted(arrays)
    for name, array in arrays.items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype), name
        assert found[name].tobytes() == array.tobytes(), name


@settings(deadline=None, max_examples=60)
@given(models(st.sampled_from(PLAIN)))
def test_npz_is_what_numpy_loads(tmp_path_factory, arrays):
    path = write(tmp_path_factory.mktemp("npz") / "m.npz", content_of(arrays))
    with np.load(path, allow_pickle=False) as found:
        assert list(found.files) == list(arrays)
        assert_same({n: found[n] for n in found.files}, arrays)


@settings(deadline=None, max_examples=60)
@given(models(st.sampled_from(PLAIN)))
def test_safetensors_is_what_its_library_loads(tmp_path_factory, arrays):
    path = write(tmp_path_factory.mktemp("st") / "m.safetensors", content_of(arrays))
    assert_same(load_file(path), arrays)
    with safe_open(path, "np") as file:
        assert file.metadata() == {"format": "keras"}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@settings(deadline=None, max_examples=40)
@given(models(st.sampled_from(PLAIN + EXTENDED)))
def test_our_own_readers_agree(tmp_path_factory, suffix, arrays):
    arrays = {f"layer/w{i}": a for i, a in enumerate(arrays.values())}
    path = write(tmp_path_factory.mktemp("own") / f"m{suffix}", content_of(arrays))
    source = open_source(path)
    assert_same({n: source.read(n) for n in source.catalog.by_name}, arrays)


def test_npz_notes_the_floats_that_numpy_does_not_know(tmp_path):
    arrays = {n: np.array([1.5, -2.0], numpy_dtype(n)) for n in [*EXTENDED, "float32"]}
    path = write(tmp_path / "m.npz", content_of(arrays))
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("transferpipe.json")) == {"dtypes": {n: n for n in EXTENDED}}
    with np.load(path) as found:
        assert found["bfloat16"].view(ml_dtypes.bfloat16).tolist() == [1.5, -2.0]


def test_safetensors_keeps_every_value_at_a_multiple_of_its_element(tmp_path):
    """Readers that map the file fail otherwise; the order is the catalog's but for that."""
    dtypes = ["int8", "float32", "float64", "bool", "float16", "float32"]
    arrays = {f"w{i}": np.ones(3, dtype) for i, dtype in enumerate(dtypes)}
    path = write(tmp_path / "m.safetensors", content_of(arrays))
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert list(header) == ["__metadata__", "w2", "w1", "w5", "w4", "w0", "w3"]
    assert (8 + length) % 8 == 0
    for name, array in arrays.items():
        assert header[name]["data_offsets"][0] % array.dtype.itemsize == 0
    assert_same(load_file(path), arrays)


def test_safetensors_of_one_dtype_keeps_the_order_of_the_catalog(tmp_path):
    arrays = {n: np.ones(2, "float32") for n in ("z", "a", "m")}
    source = open_source(write(tmp_path / "m.safetensors", content_of(arrays)))
    assert list(source.catalog.by_name) == ["z", "a", "m"]


@pytest.mark.follows("_entry: save as .npz, or")
def test_a_dtype_that_safetensors_does_not_know(tmp_path):
    value = np.array([1, 2j])
    with pytest.raises(
        FileError, match=r"w: is complex128, which a safetensors file cannot hold -> save as \.npz"
    ) as caught:
        write(tmp_path / "m.safetensors", content_of({"w": value}))
    assert np.array_equal(np.load(write(tmp_path / "m.npz", content_of({"w": value})))["w"], value)
    known = caught.value.problems[0].fix.partition("safetensors knows ")[2].split(", ")
    cast = value.astype(next(name for name in known if name.startswith("complex")))
    assert np.array_equal(load_file(write(tmp_path / "m.safetensors", content_of({"w": cast})))["w"], cast)


@pytest.mark.follows("write_npz: give the weight another")
def test_a_dtype_that_npz_does_not_know(tmp_path):
    value = np.array([0.5, 2], ml_dtypes.float8_e4m3b11fnuz)
    with pytest.raises(
        FileError, match="which an npz archive cannot hold -> give the weight another dtype, such as float32"
    ):
        write(tmp_path / "m.npz", content_of({"w": value}))
    path = write(tmp_path / "m.npz", content_of({"w": value.astype("float32")}))
    assert np.array_equal(np.load(path)["w"], [0.5, 2])


def test_npz_values_can_be_mapped(tmp_path):
    arrays = {f"layer{i}/w": np.ones(i, "float32") for i in range(1, 40)}
    path = write(tmp_path / "m.npz", content_of(arrays))
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name, extra = (int.from_bytes(data[info.header_offset + at :][:2], "little") for at in (26, 28))
            assert (info.header_offset + 30 + name + extra) % 64 == 0
            assert (info.compress_type, info.date_time) == (zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_an_empty_catalog(tmp_path, suffix):
    path = write(tmp_path / f"m{suffix}", content_of({}))
    if suffix == ".npz":
        with np.load(path) as found:
            assert found.files == []
    else:
        assert load_file(path) == {}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".weights.h5"])
def test_memory_holds_one_computed_value_at_a_time(tmp_path, suffix):
    """Forty values of 1 MiB each, none of which lies in a file."""
    arrays = {f"layer{i}/w": np.ones(MIB // 4, "float32") for i in range(3)}
    content = content_of(arrays)
    catalog = Catalog(tuple(WeightSpec(f"layer{i}/w", (MIB // 4,), "float32") for i in range(40)))
    content = Content(catalog, lambda _: np.ones(MIB // 4, "float32"), lambda _: None, lambda _: None)
    tracemalloc.start()
    try:
        write(tmp_path / f"m{suffix}", content)
        assert tracemalloc.get_traced_memory()[1] < 6 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".keras"])
def test_values_beyond_4_gib(tmp_path, suffix):
    """Holes instead of values: the sizes and offsets are what counts, and the disk has not that much room."""
    size = 1 << 31
    catalog = Catalog(tuple(WeightSpec(f"layer{i}/w", (size // 4,), "float32") for i in range(3)))
    code = (
        "import sys, pathlib, zlib\n"
        "sys.path[:0] = sys.argv[2:]\n"
        "from test_flat_writers import write_holes\n"
        "write_holes(pathlib.Path(sys.argv[1]))\n"
    )
    path = tmp_path / f"m{suffix}"
    done = subprocess.run(
        [sys.executable, "-c", code, path, Path(__file__).parent, Path(__file__).parents[2] / "support"],
        capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (4 << 30,) * 2),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert path.stat().st_blocks * 512 < MIB
    assert path.stat().st_size > 3 * size
    source = open_source(path)
    assert [w.shape for w in source.catalog] == [w.shape for w in catalog]
    if suffix == ".safetensors":
        places = [source.locate_entry(w).offset for w in source.catalog]
        assert [b - a for a, b in pairwise(places)] == [size, size]


def write_holes(path):
    """Write a model of three values of 2 GiB whose pieces are skipped instead of moved."""
    from crc_of_zeros import crc_of_zeros

    from transferpipe.save.writers import fill
    from transferpipe.weights.file_source import SavedGroup

    fill._move_all = lambda descriptor, pieces, content: [crc_of_zeros(p.segment.nbytes) for p in pieces]
    size = 1 << 31
    names = [f"layer{i}/w" for i in range(3)]
    catalog = Catalog(tuple(WeightSpec(n, (size // 4,), "float32") for n in names))
    groups = tuple(SavedGroup(f"layers/dense_{i}", f"layer{i}", (("0", n),)) for i, n in enumerate(names))
    config = json.dumps({"class_name": "Functional", "config": {"layers": []}})
    content = Content(catalog, None, lambda _: Segment(path, 0, size, "float32"), lambda _: None, groups, config)
    write(path, content)
