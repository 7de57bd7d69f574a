"""Keras's sharded weights by hand; those that Keras writes are compared with whole files over the zoo of models."""

import json

import h5py
import numpy as np

from transferpipe.weights.formats import open_source


def write(folder, *shards, **options):
    """Write shards, each a mapping from groups to their layer's name and keys, and the list of them."""
    places = {}
    for number, groups in enumerate(shards):
        with h5py.File(folder / f"x_{number}.weights.h5", "w", **options) as file:
            for path, (name, keys) in groups.items():
                group = file.create_group(f"{path}/vars")
                if name:
                    group.attrs["name"] = name
                for key in keys:
                    group[key] = np.full((2, 2) if key == "0" else 2, number, "f4")
                if keys:
                    places.setdefault(group.name, []).append(f"x_{number}.weights.h5")
    path = folder / "x.weights.json"
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return path


def names(path):
    return [w.name for w in open_source(path).catalog]


def test_a_layer_that_spans_shards_has_the_name_noted_where_it_begins(tmp_path):
    path = write(tmp_path, {"layers/dense": ("head", ["0"])}, {"layers/dense": (None, ["1"])})
    source = open_source(path)
    assert names(path) == ["head/kernel", "head/bias"]
    assert [int(source.read(n).ravel()[0]) for n in names(path)] == [0, 1]
    assert [source.locate(n).path.name for n in names(path)] == ["x_0.weights.h5", "x_1.weights.h5"]


def test_a_layer_of_which_the_first_shard_has_only_the_name(tmp_path):
    first = {"layers/dense": ("a", ["0", "1"]), "layers/dense_1": ("b", [])}
    assert names(write(tmp_path, first, {"layers/dense_1": (None, ["0", "1"])})) == [
        *("a/kernel", "a/bias", "b/kernel", "b/bias"),
    ]


def test_layers_of_later_shards_come_later_where_the_files_do_not_tell_in_which_order_groups_were_made(tmp_path):
    many = {f"layers/dense_{k}" if k else "layers/dense": (f"d{k}", ["0"]) for k in range(9)}
    path = write(tmp_path, many, {"layers/conv2d": ("c", ["0"])}, libver="latest")
    assert names(path)[-1].startswith("c/")
