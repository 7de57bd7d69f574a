"""PyTorch checkpoints in several files: by their index, by their folder, and what an index may not say."""

import json

import numpy as np
import pytest
from torch_files import plain, write_zip

from transferpipe.errors import FileError, RecipeError, UnsafeError
from transferpipe.weights.formats import open_source

ONE, TWO = (
    {"a.weight": np.arange(3.0), "a.bias": np.ones(2)},
    {"b.weight": np.zeros((2, 2)), "b.num_batches_tracked": np.array(3)},
)
NAMES = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")


@pytest.fixture
def index(tmp_path):
    """Return a function that writes the index, some entries changed, and returns its path."""
    for name, arrays in zip(NAMES, (ONE, TWO), strict=True):
        write_zip(tmp_path / name, *plain(arrays))

    def write(**changes):
        places = {**dict.fromkeys(ONE, NAMES[0]), **dict.fromkeys(TWO, NAMES[1]), **changes}
        path = tmp_path / "pytorch_model.bin.index.json"
        path.write_text(
            json.dumps({"metadata": {"total_size": 1}, "weight_map": {k: v for k, v in places.items() if v}})
        )
        return path

    return write


def test_by_index_and_by_folder(index):
    path = index()
    for place in (path, path.parent):
        source = open_source(place)
        assert (source.format, source.path) == ("torch_index", place)
        assert [w.name for w in source.catalog] == ["a/weight", "a/bias", "b/weight"]
        assert [w.name for w in source.others] == ["b/num_batches_tracked"]
        assert [p.name for p in source.parts] == [path.name, *NAMES]
        for key, value in {**ONE, "b.weight": TWO["b.weight"]}.items():
            name = key.replace(".", "/")
            assert source.read(name).tobytes() == value.tobytes()
            segment = source.locate(name)
            assert segment.path.read_bytes()[segment.offset :][: segment.nbytes] == value.tobytes()


def test_a_folder_with_one_file_and_no_index(tmp_path):
    write_zip(tmp_path / "pytorch_model.bin", *plain(ONE))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "num_attention_heads": 3}))
    source = open_source(tmp_path)
    assert [w.name for w in source.catalog] == ["a/weight", "a/bias"]
    assert source.details["configuration"] == "config.json, num_attention_heads=3"
    assert source.read("a/weight").tobytes() == ONE["a.weight"].tobytes()
    assert source.path == tmp_path


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"c.weight": NAMES[1]}, FileError, r"says that '.*00002-of-00002.bin' holds 'c.weight', which it does not"),
        ({"a.bias": None}, FileError, r"does not say that '.*00001-of-00002.bin' holds 'a.bias', which it does"),
        ({"x": "pytorch_model-00003-of-00002.bin"}, FileError, "00003"),
        ({"x": "../x.bin"}, UnsafeError, "x.bin"),
        ({"x": "/etc/x.bin"}, UnsafeError, "x.bin"),
    ],
)
def test_an_index_that_is_wrong(index, changes, error, words):
    with pytest.raises(error, match=words):
        open_source(index(**changes))


def test_a_key_in_two_files(index, tmp_path):
    write_zip(tmp_path / NAMES[1], *plain({**TWO, "a.bias": np.ones(2)}))
    with pytest.raises(UnsafeError, match=r"a.bias: is in '.*00001-of-00002.bin' and in '.*00002-of-00002.bin'"):
        open_source(index())


def test_an_index_of_nothing(tmp_path, index):
    path = index()
    path.write_text("{}")
    with pytest.raises(FileError, match="has no mapping `weight_map`"):
        open_source(path, "torch_index")
    path.with_name("other.bin.index.json").write_text("{}")
    with pytest.raises(FileError, match="holds 2 indices of PyTorch files"):
        open_source(tmp_path)


def test_an_index_has_no_parts_to_select(index):
    with pytest.raises(RecipeError, match="torch_index files have no parts"):
        open_source(index(), select="a")


def test_a_shard_that_changes_is_noticed(index, tmp_path):
    source = open_source(index())
    write_zip(tmp_path / NAMES[0], *plain({**ONE, "more": np.ones(9)}))
    with pytest.raises(FileError, match=r"00001-of-00002.bin: changed"):
        source.read("a/bias")
