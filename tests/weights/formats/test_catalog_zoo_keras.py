"""Names and catalogs of many models: in a model and in the files that Keras writes of it; a whole transfer of each."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import keras
import model_zoo as zoo
import numpy as np
import pytest

import transferpipe as tp
from transferpipe.models.walk import walk
from transferpipe.weights.formats import open_source
from transferpipe.weights.spec import Catalog

# Models whose configuration Keras cannot write, so that there is no `.keras` file of them.
UNRECORDED = {
    *("lists", "nested_lists", "dicts", "attributes", "named", "custom_attributes", "one_custom", "held_composites"),
    "layers_in_layers",
}
# Classes that have no optional weights but the last.
SURE = {"Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D", "SeparableConv2D", "Embedding", "PReLU", "LSTMCell"}


def build(name):
    keras.utils.clear_session(free_memory=False)
    return zoo.ZOO[name]()


def fill(model, seed):
    """Give every weight values of its own, so that no two of the same shape are equal."""
    random = np.random.default_rng(seed)
    for value in walk(model, "model").values.values():
        if isinstance(value, keras.Variable):
            whole = not str(value.dtype).startswith(("float", "bfloat"))
            value.assign(random.integers(1, 9, value.shape) if whole else random.uniform(0.1, 1, value.shape))


def contents(model):
    walked = walk(model, "model")
    return {name: walked.read(name).tobytes() for name in walked.catalog.by_name}


@dataclass
class Saved:
    """A model of the zoo: its catalog, values and files, and another model that the same builder made."""

    name: str
    catalog: Catalog
    values: dict
    files: list[Path]
    sharded: Path
    fresh: keras.Model


@pytest.fixture(scope="module", params=zoo.ZOO)
def saved(request, tmp_path_factory):
    name, folder = request.param, tmp_path_factory.mktemp("zoo")
    model = build(name)
    fill(model, 7)
    catalog, values, files = walk(model, "model").catalog, contents(model), [folder / "model.weights.h5"]
    model.save_weights(files[0])
    if name not in UNRECORDED:
        files.append(folder / "model.keras")
        model.save(files[1])
    # Shards of little more than the largest weight, so that many layers span two.
    sharded, largest = folder / "many.weights.json", max((w.nbytes for w in catalog), default=0)
    model.save_weights(sharded, max_shard_size=(largest + 8) / 2**30)
    yield Saved(name, catalog, values, files, sharded, build(name))
    shutil.rmtree(folder)


def facts(weight):
    return weight.layer, weight.shape, weight.dtype, weight.where


def test_files_give_the_names_order_shapes_and_dtypes_of_the_model(saved):
    for file in saved.files:
        catalog = open_source(file).catalog
        assert [facts(w) for w in catalog] == [facts(w) for w in saved.catalog], file
        for theirs, ours in zip(catalog, saved.catalog, strict=True):
            assert theirs.layer_class in (ours.layer_class, None)
            if theirs.own_name != ours.own_name:
                assert theirs.own_name == theirs.where.rpartition("/")[2]
                assert theirs.layer_class not in SURE or saved.name == "quantized"


def test_values_in_the_files_are_those_of_the_model(saved):
    for source in map(open_source, saved.files):
        ours = [saved.values[w.name] for w in saved.catalog]
        assert [source.read(w.name).tobytes() for w in source.catalog] == ours, source.label


def test_shards_give_what_one_file_gives(saved):
    whole, shards = open_source(saved.files[0]), open_source(saved.sharded)
    assert shards.catalog.weights == whole.catalog.weights
    assert (shards.others, shards.groups) == (whole.others, whole.groups)
    assert len(shards.files) > 2 or len(shards.catalog) < 3
    for name in shards.catalog.by_name:
        assert shards.read(name).tobytes() == whole.read(name).tobytes()


def test_a_whole_transfer_into_a_model_of_the_same_builder(saved, tmp_path):
    for file in saved.files:
        fill(saved.fresh, 8)
        report = tp.transfer(file, saved.fresh, folder=tmp_path, save={"path": file.name}, unmatched="same_name")
        assert report.verdict.weights == "pass"
        assert contents(saved.fresh) == saved.values
        again = open_source(tmp_path / file.name).catalog
        assert [facts(w) for w in again] == [facts(w) for w in saved.catalog]


@pytest.mark.parametrize("name", ["unnamed", "recurrent", "recorded", "many", "customs"])
def test_a_builder_called_again_in_one_process_gives_the_same_names(name, monkeypatch):
    monkeypatch.chdir(Path(zoo.__file__).parent)
    plans = [tp.plan(None, {"_target_": f"model_zoo.{name}"}, unmatched="keep") for _ in range(2)]
    names = [[kept.target for kept in plan.kept] for plan in plans]
    assert names[0] == names[1]
    assert sorted(names[0]) == sorted(walk(build(name), "").catalog.by_name)
