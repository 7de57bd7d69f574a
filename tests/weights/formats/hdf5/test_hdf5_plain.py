"""HDF5 read without the library: what is read is what the library finds, and what is unusual is left to the library."""

import io
import os

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transferpipe.errors import TransferError
from transferpipe.fetch.open_path import open_path
from transferpipe.weights.formats.hdf5 import file as library
from transferpipe.weights.formats.hdf5 import guarded
from transferpipe.weights.formats.hdf5.dataset import read_strings
from transferpipe.weights.formats.hdf5.link_order import link_order
from transferpipe.weights.formats.hdf5.plain import read_items, read_root
from transferpipe.weights.formats.hdf5.stored import StoredDataset

DTYPES = [f"{kind}{size}" for kind in ("int", "uint") for size in (8, 16, 32, 64)] + ["float16", "float32", "float64"]


def written(fill, **options):
    memory = io.BytesIO()
    with h5py.File(memory, "w", **options) as file:
        fill(file)
    return memory.getvalue()


def by_us(data):
    items = read_items(lambda place, size: data[place : place + size], len(data), "m.h5")
    return None if items is None else {path: told(item, item_name, made) for path, item, item_name, made in rows(items)}


def rows(items):
    for path, item in items.items():
        is_dataset = isinstance(item, StoredDataset)
        yield path, item, None if is_dataset else item.name, () if is_dataset else item.made


def told(item, name, made):
    if isinstance(item, StoredDataset):
        return item.address, item.shape, item.dtype, item.offset
    return item.address, name, made


def by_library(data):
    with h5py.File(io.BytesIO(data), "r") as file:
        return {path: told(item, *noted(item, data)) for path, item in library.walk_items(file, "x")}


def noted(item, data):
    if isinstance(item, StoredDataset):
        return None, ()
    names = read_strings(item.id, "name", "x")
    return names and names[0], tuple(link_order(lambda place, size: data[place : place + size], item.address))


def as_keras(file):
    for number, name in enumerate(["dense", "a layer", "é"]):
        group = file.create_group(f"layers/dense_{number}/vars" if number else "layers/dense/vars")
        group.attrs["name"] = name
        group["0"] = np.full((2, 3), number, "f4")
        group["1"] = np.arange(3, dtype="i8")
    file.create_group("layers/flatten/vars").attrs["name"] = "flatten"
    file.create_group("vars")


def as_dtypes(file):
    for dtype in DTYPES:
        file[dtype] = np.zeros((2, 1), dtype)
    file["scalar"], file["empty"] = np.float32(2), np.zeros((0, 3), "f4")


def as_many(file):
    for number in np.random.default_rng(0).permutation(1500):  # a tree of three levels
        file.create_group(f"l{number}")
    file.create_group("few").attrs["name"] = "x" * 5000  # a heap of texts of its own
    del file["l7"], file["l1499"]
    file.create_group("another name, which may lie where one was deleted")


@pytest.mark.parametrize("fill", [as_keras, as_dtypes, as_many, lambda file: None])
def test_it_finds_what_the_library_finds(fill):
    data = written(fill)
    found = by_us(data)
    assert found is not None
    assert list(found.items()) == list(by_library(data).items())


def linked(file):
    file["a"], file["b"] = np.zeros(2), h5py.SoftLink("/a")


def held_twice(file):
    file["a"] = np.zeros(2)
    file["b"] = file["a"]


UNUSUAL = {
    "a soft link": linked,
    "an external link": lambda file: file.update(a=h5py.ExternalLink("other.h5", "/a")),
    "a hard link": held_twice,
    "chunks": lambda file: file.create_dataset("a", data=np.zeros(4), chunks=(2,)),
    "a filter": lambda file: file.create_dataset("a", data=np.zeros(4), compression="gzip"),
    "values elsewhere": lambda file: file.create_dataset("a", (4,), "f4", external=[("other", 0, 16)]),
    "no values": lambda file: file.create_dataset("a", (4,), "f4"),
    "booleans": lambda file: file.create_dataset("a", data=np.ones(2, bool)),
    "another order of bytes": lambda file: file.create_dataset("a", data=np.ones(2, ">f4")),
    "opaque bytes": lambda file: file.create_dataset("a", data=np.zeros(2, "V2")),
    "no shape": lambda file: file.create_dataset("a", data=h5py.Empty("f4")),
    "attributes of numbers": lambda file: file.attrs.update(name=3),
    "text of one length": lambda file: file.attrs.update(name=np.bytes_("x")),
    "several texts": lambda file: file.attrs.update(name=["x", "y"]),
    "an attribute of a dataset": lambda file: file.create_dataset("a", data=np.zeros(2)).attrs.update(dtype="x"),
    "a named datatype": lambda file: file.update(a=np.dtype("f4")),
    "a deep file": lambda file: file.create_group("/".join("a" * 102)),
}


@pytest.mark.parametrize("fill", UNUSUAL.values(), ids=list(UNUSUAL))
def test_what_is_unusual_is_left_to_the_library(fill):
    assert by_us(written(fill)) is None


@pytest.mark.parametrize(
    "data",
    [
        written(as_keras, libver="latest"),
        written(as_keras, userblock_size=512),
        written(as_keras, track_order=True),
        written(as_keras)[:-100],
        b"",
        bytes(4096),
    ],
    ids=["latest", "a block of the user's", "an order of its own", "truncated", "empty", "zeros"],
)
def test_other_layouts_are_left_to_the_library(data):
    assert by_us(data) is None


SOUND = written(as_keras)


@given(st.data())
def test_a_changed_byte_changes_nothing_that_the_library_would_not_say(data):
    # Most of such a file is room that is left, and zeros.
    place = data.draw(st.sampled_from([i for i, byte in enumerate(SOUND) if byte]))
    changed = bytearray(SOUND)
    changed[place] ^= data.draw(st.integers(1, 255))
    found = by_us(bytes(changed))
    if found is None or found == by_us(SOUND):
        return
    try:
        assert found == by_library(bytes(changed))
    except (TransferError, OSError, KeyError, ValueError) as error:
        pytest.fail(f"the library refuses what was read: {error}")


def test_a_tree_that_goes_round_in_a_circle_is_left_to_the_library():
    data = bytearray(written(as_many))
    nodes = [i for i in range(0, len(data) - 4, 8) if data[i : i + 4] == b"TREE" and data[i + 5] == 1]
    assert nodes
    for node in nodes:
        data[node + 32 : node + 40] = node.to_bytes(8, "little")
    assert by_us(bytes(data)) is None


def test_the_names_of_the_root_are_told():
    def fill(file):
        file.attrs["layer_names"] = "a"
        file.create_group("b")

    data = written(fill)
    assert read_root(lambda place, size: data[place : place + size], len(data)) == (["b"], ["layer_names"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", [".weights.h5", ".keras"])
def test_what_keras_writes_is_read_without_the_library_and_without_a_child(tmp_path, monkeypatch, kind):
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="d"), keras.layers.BatchNormalization()])
    path = tmp_path / f"m{kind}"
    (model.save if kind == ".keras" else model.save_weights)(path)
    monkeypatch.setattr(guarded, "_run", lambda *_: pytest.fail("a child was made"))
    monkeypatch.setattr(library.h5py, "File", lambda *_, **__: pytest.fail("the library was asked"))
    source = open_path(str(path), "x")
    assert [spec.name for spec in source.catalog][:2] == ["d/kernel", "d/bias"]
    for spec, weight in zip(source.catalog, model.weights, strict=True):
        np.testing.assert_array_equal(source.read(spec.name), weight.numpy())
