"""safetensors in several files, by their index or by their folder."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from transferpipe.errors import FileError
from transferpipe.files.segment import opened, read_into
from transferpipe.weights.formats import open_source


def shards(folder, values, **index):
    """Write `values`, mappings by the name of a file, and an index of them."""
    for name, tensors in values.items():
        save_file(tensors, folder / name)
    places = {key: name for name, tensors in values.items() for key in tensors}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places, **index}))
    return path


@pytest.fixture
def index(tmp_path):
    first = {"enc.0.weight": np.arange(6.0).reshape(2, 3), "enc.0.num_batches_tracked": np.array(3)}
    return shards(tmp_path, {"a-1.safetensors": first, "a-2.safetensors": {"head.bias": np.float32([7, 8])}})


@pytest.mark.parametrize("by", ["index", "folder"])
def test_all_files_are_one_source(index, by):
    source = open_source(index if by == "index" else index.parent)
    assert [(w.name, w.shape, w.dtype) for w in source.catalog] == [
        ("enc/0/weight", (2, 3), "float64"),
        ("head/bias", (2,), "float32"),
    ]
    assert [w.name for w in source.others] == ["enc/0/num_batches_tracked"]
    assert source.read("enc/0/weight").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert source.read_entry(source.others[0]) == 3
    assert source.format == "safetensors_index"
    assert {index.name, "a-1.safetensors", "a-2.safetensors"} <= {p.name for p in source.files}


def test_values_lie_in_the_shards_as_they_are(index):
    source = open_source(index)
    segment = source.locate("head/bias")
    assert segment.path == index.parent / "a-2.safetensors"
    buffer = bytearray(segment.nbytes)
    with opened(segment.path) as descriptor:
        read_into(descriptor, memoryview(buffer), segment.offset, segment.path)
    assert bytes(buffer) == np.float32([7, 8]).tobytes()


def test_slashes_in_one_file_keep_the_dots_in_all(tmp_path):
    one = np.ones(1, "f4")
    index = shards(tmp_path, {"a.safetensors": {"a.b": one}, "b.safetensors": {"a/c.d": one}})
    assert [w.name for w in open_source(index).catalog] == ["a.b", "a/c.d"]


def test_folder_of_one_file(tmp_path):
    save_file({"a.b": np.ones(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    source = open_source(tmp_path)
    assert [w.name for w in source.catalog] == ["a/b"]
    assert source.path == tmp_path
    assert source.files == (tmp_path, tmp_path / "model.safetensors")


def test_folder_of_several_files_without_an_index(tmp_path):
    for name in "xy":
        save_file({"a": np.ones(2)}, tmp_path / f"{name}.safetensors")
    message = "holds 2 safetensors files without an index: x.safetensors, y.safetensors -> name one of them"
    with pytest.raises(FileError, match=message):
        open_source(tmp_path)


def test_cache_of_the_hub_holds_links(tmp_path):
    blobs, snapshot = tmp_path / "models--x" / "blobs", tmp_path / "models--x" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    shards(blobs, {"a.safetensors": {"a": np.ones(1)}, "b.safetensors": {"b": np.ones(1)}})
    for k, blob in enumerate(sorted(blobs.iterdir())):
        (snapshot / blob.name).symlink_to(f"../../blobs/{k}")
        blob.rename(blobs / str(k))
    assert [w.name for w in open_source(snapshot).catalog] == ["a", "b"]


def test_shard_that_changes_after_opening(index):
    source = open_source(index)
    save_file({"head.bias": np.float32([7, 8, 9])}, index.parent / "a-2.safetensors")
    assert source.read("enc/0/weight").size == 6
    with pytest.raises(FileError, match=r"a-2.safetensors: changed"):
        source.read("head/bias")


@settings(deadline=None, max_examples=20)
@given(st.dictionaries(st.text("ab.", min_size=1), st.integers(0, 3), min_size=1, max_size=9))
def test_cutting_into_shards_changes_nothing(tmp_path_factory, homes):
    folder = tmp_path_factory.mktemp("shards")
    values = {key: np.full(k, k) for k, key in enumerate(homes)}
    save_file(values, folder / "whole")
    cut = {f"{n}.safetensors": {k: values[k] for k in values if homes[k] == n} for n in set(homes.values())}
    whole, index = open_source(folder / "whole"), shards(folder, cut)
    try:
        expected = {w.name: whole.read(w.name).tolist() for w in whole.catalog}
    finally:
        assert {w.name: open_source(index).read(w.name).tolist() for w in open_source(index).catalog} == expected
