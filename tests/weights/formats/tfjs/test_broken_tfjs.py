"""TensorFlow.js models made to mislead."""

import json
import time

import numpy as np
import pytest
from tfjs_models import packed, weight, write_model

from transferpipe.errors import FileError, RecipeError, UnsafeError
from transferpipe.weights.formats import open_source

ONES = np.ones(2, "f4")


def entry(**keys):
    """Return the entry of two floats with `keys` changed; those set to None are left out."""
    whole = {"name": "w", "shape": [2], "dtype": "float32", **keys}
    return {k: v for k, v in whole.items() if v is not None}


def pack(**keys):
    return entry(quantization={"dtype": "uint8", "scale": 0.5, "min": 0.0, **keys})


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (entry(shape=[3]), "needs 12 bytes, of which its files have 8 left"),
        (entry(shape=[1]), "has 4 bytes that nothing describes"),
        (entry(shape=[1 << 40, 1 << 40]), "needs 4,835,703,278,458,516,698,824,704 bytes"),
        (entry(shape=[-2]), "has the shape"),
        (entry(shape=[True, 2]), "has the shape"),
        (entry(shape="2"), "has the shape 2, which is not a list of sizes"),
        (entry(shape=[1] * 33), "has 33 axes"),
        (entry(shape=None), "has no 'shape'"),
        (entry(name=None), "has no 'name'"),
        (entry(name=3), "is not described by a mapping with a name"),
        (entry(name="\ud800"), "surrogates not allowed"),
        ([3], "is not described by a mapping"),
        (entry(dtype="float64"), "has the dtype 'float64'; known are float32"),
        (entry(dtype=["float32"]), "has the dtype"),
        (entry(dtype="object"), "has the dtype"),
        (pack(dtype="int8"), "is a float32 packed as int8"),
        (pack(dtype=["uint8"]), "is a float32 packed as"),
        (entry(dtype="bool", quantization={"dtype": "uint8"}), "is a bool packed as uint8"),
        (entry(dtype="int32", quantization={"dtype": "float16"}), "is a int32 packed as float16"),
        (entry(quantization=[]), "is a float32 packed as None"),
        (entry(quantization={"dtype": "uint8"}), "has no 'scale'"),
        (pack(scale="1"), "which are no numbers"),
        (pack(scale=float("nan")), "which are no numbers"),
        (pack(min=10**400), "too large"),
        (pack(scale=1e38), "which lead out of float32"),
        (pack(), "has 6 bytes that nothing describes"),
        (entry(dtype="string", shape=[1 << 50]), "more than its files can hold"),
        (entry(dtype="string", shape=[2]), "holds texts that end behind the end|needs [0-9,]+ bytes"),
    ],
)
def test_manifests_that_do_not_describe_the_files(tmp_path, described, message):
    write_model(tmp_path, [(described, ONES.tobytes())])
    with pytest.raises(FileError, match=message):
        open_source(tmp_path)


def test_whole_numbers_beyond_their_dtype(tmp_path):
    write_model(tmp_path, [packed("w", np.array([1], "u2"), "int32", 1e6, 0)])
    with pytest.raises(FileError, match="which lead out of int32"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (None, "is not a list of groups"),
        ({}, "is not a list of groups"),
        ([3], "group 1 of the weights manifest: does not list `paths` and `weights`"),
        ([{"paths": "x", "weights": []}], "does not list"),
        ([{"paths": ["x"], "weights": []}], "names the file 'x', but there is no such file"),
        ([{"paths": [3], "weights": []}], "where the name of a file belongs"),
    ],
)
def test_manifests_that_are_none(tmp_path, manifest, message):
    (tmp_path / "model.json").write_text(json.dumps({"weightsManifest": manifest}))
    with pytest.raises(FileError, match=message):
        open_source(tmp_path)


def test_bad_groups_are_all_reported(tmp_path):
    (tmp_path / "model.json").write_text(json.dumps({"weightsManifest": [3, {"paths": ["x"], "weights": []}]}))
    with pytest.raises(FileError) as caught:
        open_source(tmp_path)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    "groups", [[{"paths": ["x"] * 10_001, "weights": []}], [{"paths": ["x"], "weights": []}] * 10_001, [3] * 10_001]
)
def test_very_many_files_are_not_looked_for(tmp_path, groups):
    (tmp_path / "model.json").write_text(json.dumps({"weightsManifest": groups}))
    with pytest.raises(UnsafeError, match=r"names 10,001 files"):
        open_source(tmp_path)


@pytest.mark.parametrize("name", ["../x.bin", "/etc/passwd", "a/../../x.bin"])
def test_files_outside_of_the_folder(tmp_path, name):
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "x.bin").write_bytes(bytes(8))
    (folder / "model.json").write_text(json.dumps({"weightsManifest": [{"paths": [name], "weights": [entry()]}]}))
    with pytest.raises(UnsafeError, match="which is not in its folder"):
        open_source(folder)


@pytest.mark.parametrize(
    "topology",
    [
        {"model_config": {"class_name": "Sequential", "config": {"layers": 3}}},
        {"model_config": {"class_name": "Sequential", "config": [3, None, {"class_name": []}]}},
        {"class_name": 3, "config": {"name": []}},
        {"model_config": {"class_name": "Sequential", "config": "x"}},
        [],
        "x",
    ],
)
def test_topologies_that_make_no_sense_do_not_matter(tmp_path, topology):
    source = open_source(write_model(tmp_path, [weight("a/kernel", ONES)], modelTopology=topology))
    assert [w.name for w in source.catalog] == ["a/kernel"]


def test_topology_nested_without_end(tmp_path):
    inner = {"class_name": "Sequential", "config": {"name": "s", "layers": []}}
    for _ in range(60):
        inner = {"class_name": "Sequential", "config": {"name": "s", "layers": [inner]}}
    model = write_model(tmp_path, [weight("a/kernel", ONES)], modelTopology={"model_config": inner})
    with pytest.raises(FileError, match="modelTopology: makes no sense: layers are nested more than"):
        open_source(model)


def test_two_weights_of_one_name(tmp_path):
    write_model(tmp_path, [weight("a/kernel", ONES), weight("a/kernel", ONES)])
    with pytest.raises(RecipeError, match="a/kernel: two weights have this name"):
        open_source(tmp_path)


def test_millions_of_texts_are_looked_at_in_time(tmp_path):
    described = entry(dtype="string", shape=[1_000_000])
    write_model(tmp_path, [(described, bytes(4_000_000)), weight("b", ONES)])
    start = time.perf_counter()
    assert open_source(tmp_path).read("b").tolist() == [1, 1]
    assert time.perf_counter() - start < 5
