"""Orbax checkpoints: those that Keras writes, and trees by hand, sound and broken."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers as kl
from orbax_folders import VALUES, write

from transferpipe.errors import FileError, MissingPackageError, UnsafeError
from transferpipe.weights.formats import open_source


def build():
    inner = keras.Sequential([keras.Input((3,)), kl.Dense(4, name="a"), kl.BatchNormalization(name="bn")], name="inner")
    inputs = keras.Input((3,))
    return keras.Model(inputs, kl.Dense(2, name="head")(kl.Dropout(0.5)(inner(inputs))))


@pytest.mark.parametrize("ocdbt", [True, False])
def test_weights_and_what_lies_beside_them(tmp_path, ocdbt):
    source = open_source(write(tmp_path / "3", VALUES, ocdbt=ocdbt))
    assert {w.name: (w.shape, w.dtype) for w in source.catalog} == {
        "head/kernel": ((4, 2), "float32"),
        "head/bias": ((2,), "float32"),
        "inner/a/kernel": ((3, 4), "float32"),
        "inner/bn/moving_mean": ((4,), "float64"),
    }
    assert {w.name for w in source.others} == {
        "non_trainable_variables.seed_generator.seed_generator_state",
        "optimizer_variables.adam.iteration",
    }
    assert source.read("inner/a/kernel").tolist() == [[5] * 4] * 3
    assert {int(source.read_entry(w).ravel()[0]) for w in source.others} == {1, 7}
    assert (source.format, source.details["step"]) == ("orbax", "3")


def test_names_order_and_classes_come_from_the_configuration(tmp_path):
    keras.utils.clear_session(free_memory=False)
    config = json.loads(build().to_json())
    source = open_source(write(tmp_path / "1", VALUES, config=config))
    assert [(w.name, w.layer_class) for w in source.catalog] == [
        ("inner/a/kernel", "Dense"),
        ("inner/bn/moving_mean", "BatchNormalization"),
        ("head/kernel", "Dense"),
        ("head/bias", "Dense"),
    ]
    assert source.config["class_name"] == "Functional"


def test_the_last_finished_step_is_taken(tmp_path):
    for step in (2, 10, 11):
        write(tmp_path / str(step), {"trainable_variables.a.kernel": np.full(1, step, "f4")})
    (tmp_path / "11" / "_CHECKPOINT_METADATA").unlink()
    source = open_source(tmp_path)
    assert source.read("a/kernel") == 10
    assert source.details["step"] == "10"


def test_texts_and_nothing_are_passed_over(tmp_path):
    values = {"trainable_variables.a.kernel": np.ones(1), "trainable_variables.t": np.ones(1)}
    source = open_source(write(tmp_path / "1", values, types={"trainable_variables.t": "None"}))
    assert [w.name for w in source.catalog] == ["a/kernel"]


def test_what_keras_writes(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    keras.utils.clear_session(free_memory=False)
    model = build()
    model.compile("adam", "mse")
    callback = keras.callbacks.OrbaxCheckpoint(tmp_path / "steps", save_on_background=False)
    model.fit(np.ones((4, 3)), np.ones((4, 2)), epochs=2, callbacks=[callback], verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    source, whole = open_source(tmp_path / "steps"), open_source(tmp_path / "model.weights.h5")
    assert [w.name for w in source.catalog] == [w.name for w in whole.catalog]
    assert all(np.array_equal(source.read(w.name), whole.read(w.name)) for w in whole.catalog)


def test_without_tensorstore_the_error_names_the_extra(tmp_path, monkeypatch):
    write(tmp_path / "1", VALUES)
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(
        MissingPackageError, match=r"needs the package tensorstore, which .* -> pip install 'transferpipe\[orbax\]'"
    ):
        open_source(tmp_path)


def test_tensorstore_is_imported_for_no_other_format(tmp_path):
    np.save(tmp_path / "a.npy", [1.0])
    code = f"import sys; from transferpipe.weights.formats import open_source as o; from pathlib import Path; o(Path({str(tmp_path)!r})); print('tensorstore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def metadata_of(step, change):
    path = step / "pytree" / "_METADATA"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("tree_metadata"), "has no mapping `tree_metadata`"),
        (lambda d: d["tree_metadata"].update(x=3), "does not describe a tree"),
        (lambda d: d["tree_metadata"].update(x={}), "does not describe a tree: it has no 'key_metadata'"),
        (lambda d: d["tree_metadata"]["trainable_variables.head.bias"].pop("value_metadata"), "no 'value_metadata'"),
        (lambda d: d.update(use_zarr3=False), "trainable_variables.head.bias: cannot be read: NOT_FOUND"),
    ],
)
def test_trees_that_make_no_sense(tmp_path, change, message):
    step = write(tmp_path / "1", VALUES)
    metadata_of(step, change)
    with pytest.raises(FileError, match=message):
        open_source(step)


@pytest.mark.parametrize("name", ["..", "/etc", "a\0b"])
def test_names_that_lead_out_of_the_folder(tmp_path, name):
    step = write(tmp_path / "1", VALUES)
    entry = {"key_metadata": [{"key": name, "key_type": 2}], "value_metadata": {"value_type": "np.ndarray"}}
    metadata_of(step, lambda d: d["tree_metadata"].update(x=entry))
    with pytest.raises(UnsafeError, match="_METADATA names"):
        open_source(step)


def test_links_out_of_the_folder(tmp_path):
    step = write(tmp_path / "1", VALUES)
    (tmp_path / "x").write_text("")
    (step / "pytree" / "d" / "x").symlink_to(tmp_path / "x")
    with pytest.raises(UnsafeError, match="which is a link to"):
        open_source(step)


def test_arrays_of_which_pieces_are_missing(tmp_path):
    step = write(tmp_path / "1", VALUES, ocdbt=False)
    (step / "pytree" / "trainable_variables.head.kernel" / "c" / "0" / "0").unlink()
    with pytest.raises(FileError, match=r"head.kernel: cannot be read: only 0 of its 1 pieces are there"):
        open_source(step)


def test_arrays_that_are_larger_than_everything(tmp_path):
    step = write(tmp_path / "1", VALUES, ocdbt=False)
    path = step / "pytree" / "trainable_variables.head.bias" / "zarr.json"
    data = json.loads(path.read_text())
    data["shape"] = data["chunk_grid"]["configuration"]["chunk_shape"] = [1 << 40]
    path.write_text(json.dumps(data))
    with pytest.raises((UnsafeError, FileError), match=r"declares 4,398,|cannot be read"):
        open_source(step)


def contents(step):
    source = open_source(step)
    return {w.where: source.read_entry(w).tolist() for w in (*source.catalog, *source.others)}


def test_truncated_files(tmp_path):
    step = write(tmp_path / "1", VALUES)
    sound, refused = contents(step), 0
    for file in [p for p in step.rglob("*") if p.is_file() and p.name != "_CHECKPOINT_METADATA"]:
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2])
        try:  # the database keeps files of earlier states, which nothing reads
            assert contents(step) == sound
        except FileError:
            refused += 1
        file.write_bytes(data)
    assert refused >= 3
