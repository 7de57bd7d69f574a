"""Hints that say in words alone what to do, each of them done: what was refused is then taken, with the right values."""

import pickle
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from compact import catalog
from keras import layers
from safetensors.numpy import load_file, save_file

import transferpipe as tp
from transferpipe.digits import load_digits
from transferpipe.errors import TransferError
from transferpipe.execute.prepare import prepare
from transferpipe.execute.run import execute
from transferpipe.planning.reading.read_recipe import read_recipe
from transferpipe.planning.transforms import TransformError, parse_transform
from transferpipe.score.checks import check_positive, check_whole_numbers
from transferpipe.score.data.digits import digits_data
from transferpipe.weights.formats import open_source
from transferpipe.zoo.digit_halves import half

follows = pytest.mark.follows
VALUES = {"a/kernel": np.arange(6, dtype="float32").reshape(2, 3), "a/bias": np.ones(3, "float32")}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file(VALUES, "source.safetensors")
    save_file({k: np.zeros_like(v) for k, v in VALUES.items()}, "target.safetensors")


def run(**recipe):
    keys = {"source": {"path": "source.safetensors"}, "target": "target.safetensors", "save": "o.safetensors"}
    execute(prepare(read_recipe({"mapping": {"r": {"to": "a"}}, **keys, **recipe})), Path())
    return load_file("o.safetensors")


def refused(call, *args, **keys):
    """Return the only problem, with its hint."""
    with pytest.raises(TransferError) as caught:
        call(*args, **keys)
    (problem,) = caught.value.problems
    return problem


def moved(made, values=VALUES):
    return all(np.array_equal(made[name], value) for name, value in values.items())


@pytest.mark.parametrize(
    ("hint", "wrong", "right"),
    [
        pytest.param("take it out", {"save": "o\u200b.safetensors"}, {"save": "o.safetensors"},
                     marks=follows("_check_save_path: take it out")),
        pytest.param("take it out", {"source": {"path": "sour\0ce.safetensors"}}, {}, marks=follows("_check_leaves: take it out")),
        pytest.param("write folder/name with slashes", {"save": "out\\o.safetensors"}, {"save": "o.safetensors"},
                     marks=follows("_check_save_path: write folder/name with slashes")),
        pytest.param("choose a shorter name", {"save": f"{'o' * 300}.safetensors"}, {"save": "o.safetensors"},
                     marks=follows("_check_save_path: choose a shorter name")),
        pytest.param("leave it out", {"mapping": {"r": {"to": "a", "transform": {"bias": [{"slice": {"axis": 0, "size": 3}}]}}},
                                      "source": {"path": "scalar.safetensors"}}, {},
                     marks=follows("SizedSlice.fit: leave it out")),
        pytest.param("leave it out", {"defaults": ["base"]}, {}, marks=follows("Fields.finish: leave it out")),
        pytest.param("save as .safetensors or .npz, or give a builder or a .keras file as the target", {"save": "folder"}, {},
                     marks=follows("_check_formats: save as .safetensors or #2")),
    ],
)  # fmt: skip
def test_what_is_taken_out_of_a_recipe_or_written_otherwise(hint, wrong, right):
    save_file({**VALUES, "a/bias": np.array(1, "float32")}, "scalar.safetensors")
    assert refused(run, **wrong).fix == hint
    assert moved(run(**right))


@follows("parse_origin: name the keys on")
def test_an_empty_selection():
    with Path("s.pickle").open("wb") as file:
        pickle.dump({"model": {"state_dict": VALUES}, "other": np.ones(3)}, file)
    fix = refused(run, source={"path": "s.pickle", "select": ""}).fix
    keys = re.search(r"such as (\S+)", fix)[1]
    assert moved(run(source={"path": "s.pickle", "select": keys}))


@follows("check_before: give a builder or")
def test_parity_of_weights_without_a_model():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3, name="a")])
    model.save("model.keras")
    rules = {"r": {"to": "a"}}
    with pytest.raises(TransferError) as caught:
        run(source={"path": "model.keras"}, verify={"parity": "source"})
    assert "give a builder or a .keras file as the target" in {p.fix for p in caught.value.problems}
    report = tp.transfer("model.keras", "model.keras", mapping=rules, save="o.keras", verify={"parity": "source"})
    assert report.verdict.function == "pass"


@follows("Cast.dtype: cast to float32 first")
def test_a_cast_that_numpy_lacks():
    with pytest.raises(TransformError) as caught:
        parse_transform({"cast": "uint4"}).dtype(["int4"])
    first = re.search(r"cast to (\w+) first", caught.value.fix)[1]
    chain = [parse_transform({"cast": name}) for name in (first, "uint4")]
    assert chain[1].dtype([chain[0].dtype(["int4"])]) == "uint4"


@follows("_average: name one of them")
def test_a_checkpoint_with_two_averages():
    with Path("s.pickle").open("wb") as file:
        pickle.dump({"model": {"x": np.ones(2)}, "model_ema": VALUES, "state_dict_ema": {"y": np.ones(3)}}, file)
    problem = refused(run, source={"path": "s.pickle", "select": "ema"})
    assert problem.fix == "name one of them"
    first = re.search(r"averages are under '?(\w+)", problem.what)[1]
    assert moved(run(source={"path": "s.pickle", "select": first}))


@follows("_choose: name one of them")
def test_a_folder_with_two_files():
    Path("folder").mkdir()
    for name, factor in (("one", 1), ("two", 2)):
        save_file({k: v * factor for k, v in VALUES.items()}, f"folder/{name}.safetensors")
    problem = refused(open_source, Path("folder"))
    assert problem.fix == "name one of them"
    two = re.search(r"\S*two\.safetensors", problem.what)[0]
    assert np.array_equal(open_source(Path("folder", two)).read("a/kernel"), 2 * VALUES["a/kernel"])


@follows("live_model: call it: a model", "live_model: call it: a model #2")
def test_what_is_no_model():
    made = keras.Sequential([keras.Input((2,)), layers.Dense(3, name="a")])

    def build():
        return made

    wrong = refused(tp.plan, "source.safetensors", build, mapping={"r": {"to": "a"}})
    assert (wrong.what, wrong.fix.partition(":")[0]) == ("is of the type function, not a keras.Model", "call it")
    assert len(tp.plan("source.safetensors", build(), mapping={"r": {"to": "a"}}).assignments) == 2
    unbuilt = keras.Sequential([layers.Dense(3, name="a")])
    assert "model.build(input_shape)" in refused(tp.plan, "source.safetensors", unbuilt, mapping={"r": {"to": "a"}}).fix
    unbuilt.build((None, 2))
    assert len(tp.plan("source.safetensors", unbuilt, mapping={"r": {"to": "a"}}).assignments) == 2
    assert refused(tp.transfer, "source.safetensors", made.layers[0], mapping={"r": {"to": "a"}}).fix == (
        "give a path or a built model"
    )
    tp.transfer("source.safetensors", made, mapping={"r": {"to": "a"}})
    assert np.array_equal(made.layers[0].kernel, VALUES["a/kernel"])


@follows("_refuse: leave select out to")
def test_a_model_without_averages():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3, name="a")])
    model.save("plain.keras")
    fix = refused(run, source={"path": "plain.keras", "select": "ema"}).fix
    assert fix == "leave select out to take the weights themselves"
    assert moved(run(source={"path": "plain.keras"}), {"a/kernel": np.asarray(model.layers[0].kernel)})


@follows("Catalog.__post_init__: give the layers (or")
def test_two_weights_of_one_name():
    text = "a/kernel 2x3\n{}/kernel 2x3"
    assert refused(catalog, text.format("a")).fix.startswith(
        "give the layers (or the weights inside one layer) different"
    )
    assert len(catalog(text.format("b"))) == 2


@follows("_note: save in the layout")
def test_a_layer_that_torch_has_not():
    gru = [
        keras.Sequential([keras.Input((3, 2)), layers.GRU(3, name="g", reset_after=after)]) for after in (False, True)
    ]
    for model, name in zip(gru, ("old", "new"), strict=True):
        model.save(f"{name}.keras")
    save = {"path": "o.safetensors", "layout": "torch", "overwrite": True}
    assert refused(
        run, source={"path": "old.keras"}, target="old.keras", mapping={"r": {"to": "g"}}, save=save
    ).fix == ("save in the layout of Keras, or change the layer")
    run(source={"path": "old.keras"}, target="old.keras", mapping={"r": {"to": "g"}}, save={**save, "layout": "keras"})
    assert np.array_equal(load_file("o.safetensors")["g/cell/kernel"], gru[0].layers[0].cell.kernel)
    run(source={"path": "new.keras"}, target="new.keras", mapping={"r": {"to": "g"}}, save=save)
    assert load_file("o.safetensors")["g.weight_hh_l0"].shape == (9, 3)


@pytest.mark.parametrize(
    ("call", "name", "wrong"),
    [
        pytest.param(lambda k: check_whole_numbers({n: (v, 1) for n, v in k.items()}), "epochs", 0,
                     marks=follows("check_whole_numbers: write one, such as")),
        pytest.param(lambda k: check_positive(*next(iter(k.items()))), "rate", -1,
                     marks=follows("check_positive: write one, such as")),
        pytest.param(lambda k: digits_data([0, 1], **{"train_per_class": 2, **k}), "val_per_class", -1,
                     marks=follows("_check_counts: write one, such as")),
    ],
)  # fmt: skip
def test_numbers_that_are_none(call, name, wrong):
    found = re.search(rf"such as {name}=(\S+)$", refused(call, {name: wrong}).fix)[1]
    call({name: float(found) if "." in found else int(found)})


@follows("_check: use each of 0")
@follows("_check: use one of the")
def test_digits_that_there_are_not():
    assert refused(load_digits, [1, 1]).fix == "use each of 0 to 9 at most once"
    assert refused(load_digits, [1, 0], split="both").fix == "use one of the two"
    inputs, labels = load_digits([1, 0], split="test")
    assert len(inputs) == len(labels)


@follows("half: choose one of the")
def test_a_half_that_there_is_not():
    assert refused(half, "C", 0).fix == "choose one of the two"
    assert {*half("A", 0), *half("B", 0)} == {*range(10)}
