"""What is named cannot be read as it is named, or is more than is read: done as it says, and the right values are there."""

import errno
import json
import os
import re
import shutil
import tarfile
from pathlib import Path

import h5py
import numpy as np
import one_of_each
import pytest
from damage import added
from hand_made import config_of
from one_of_each import BIAS, KERNEL, LAYERS, read_all
from protobuf_messages import field, tensor, varint

from transferpipe.errors import TransferError
from transferpipe.files import json_text
from transferpipe.files.archives import zip_members
from transferpipe.weights.formats import open_source
from transferpipe.weights.formats.hdf5 import dataset as hdf5_dataset
from transferpipe.weights.formats.hdf5 import file as hdf5_file
from transferpipe.weights.formats.hdf5 import guarded
from transferpipe.weights.formats.hdf5 import stored as hdf5_stored
from transferpipe.weights.formats.keras_legacy import h5 as legacy_h5
from transferpipe.weights.formats.numpy import npz

follows = pytest.mark.follows


def advised(function, *args, **keys):
    with pytest.raises(TransferError) as caught:
        function(*args, **keys)
    return caught.value.problems[0].fix


def arrays(path, format=None):
    source = open_source(path, format)
    return {w.name: source.read(w.name) for w in source.catalog}


def holds(path, format=None, **values):
    found = arrays(path, format)
    return {*found} == {*values} and all(np.array_equal(found[n], v) for n, v in values.items())


# The wrong thing is named -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["npz", "keras", "safetensors", "torch", "onnx", "weights_h5", "gguf"])
@follows("open_source: name a file in")
def test_a_folder_where_a_file_belongs(format, tmp_path):
    np.savez(tmp_path / "m.npz", w=BIAS)
    fix = advised(arrays, tmp_path, format)
    key, value = re.search(r"leave out `(\w+): (\w+)`", fix).groups()
    assert (key, value) == ("format", format)
    if format == "npz":
        assert holds(tmp_path / "m.npz", format, w=BIAS)
    np.save(tmp_path / "w.npy", BIAS)
    assert holds(tmp_path, None, w=BIAS)


@follows("_check_path: check the path")
def test_a_name_that_no_file_can_have(tmp_path):
    np.savez(tmp_path / "m.npz", w=BIAS)
    assert advised(arrays, Path(f"{tmp_path}/m\0.npz")) == "check the path"
    assert holds(tmp_path / "m.npz", w=BIAS)


@follows("_check_path: make the link again,")
def test_a_link_that_leads_nowhere(tmp_path):
    np.savez(tmp_path / "m.npz", w=BIAS)
    (tmp_path / "link.npz").symlink_to("gone.npz")
    assert advised(arrays, tmp_path / "link.npz") == "make the link again, or name the file itself"
    assert holds(tmp_path / "m.npz", w=BIAS)
    (tmp_path / "link.npz").unlink()
    (tmp_path / "link.npz").symlink_to("m.npz")
    assert holds(tmp_path / "link.npz", w=BIAS)


@follows("_check_path: download or save it")
def test_a_file_of_no_bytes(tmp_path):
    path = tmp_path / "m.npz"
    path.touch()
    assert advised(arrays, path) == "download or save it again"
    np.savez(path, w=BIAS)
    assert holds(path, w=BIAS)


@follows("_readable: download or save it")
def test_an_archive_without_its_end(tmp_path):
    path = tmp_path / "m.npz"
    np.savez(path, w=BIAS)
    sound = path.read_bytes()
    path.write_bytes(sound[:-30])
    assert advised(arrays, path) == "download or save it again"
    path.write_bytes(sound)
    assert holds(path, w=BIAS)


@follows("_describe_refusal: name one file of")
def test_a_folder_of_no_known_format(tmp_path):
    (tmp_path / "notes.txt").touch()
    np.savez(tmp_path / "m.npz", w=BIAS)
    assert advised(arrays, tmp_path).startswith("name one file of it; formats that can be read: ")
    assert holds(tmp_path / "m.npz", w=BIAS)


@follows("_describe_refusal: name the file or")
def test_a_configuration_beside_the_weights(tmp_path):
    (tmp_path / "config.json").write_text('{"hidden": 3}')
    np.savez(tmp_path / "m.npz", w=BIAS)
    assert advised(arrays, tmp_path / "config.json").startswith("name the file or folder of the weights; ")
    assert holds(tmp_path / "m.npz", w=BIAS)


@follows("_describe_refusal: unpack it, and name")
def test_a_tar_archive(tmp_path):
    np.savez(tmp_path / "m.npz", w=BIAS)
    with tarfile.open(tmp_path / "m.tar", "w") as archive:
        archive.add(tmp_path / "m.npz", "inside.npz")
    assert advised(arrays, tmp_path / "m.tar").startswith("unpack it, and name what is inside")
    shutil.unpack_archive(tmp_path / "m.tar", tmp_path / "out")
    assert holds(tmp_path / "out" / "inside.npz", w=BIAS)


@follows("_unknown: …; if it is")
def test_a_file_of_no_known_format(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"?" * 99)
    fix = advised(arrays, path)
    assert fix.endswith("; if it is one of these, it is damaged")
    assert "gguf" in fix.partition(": ")[2].partition(";")[0].split(", ")
    path.write_bytes(one_of_each.gguf({"w": BIAS}))
    assert holds(path, w=BIAS)


@follows("open_preset: name the folder of")
def test_a_file_of_a_preset(tmp_path):
    one_of_each.write_weights(tmp_path / "model.weights.h5", LAYERS)
    (tmp_path / "config.json").write_text(json.dumps(config_of(LAYERS)))
    fix = advised(arrays, tmp_path / "config.json", "preset")
    assert fix == "name the folder of the preset"
    assert holds(tmp_path, "preset", **{"a/kernel": KERNEL, "a/bias": BIAS})


# Folders of arrays ------------------------------------------------------------------------------------------------------


@follows("open_npy_folder: check the path")
def test_a_folder_without_arrays(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    np.save(tmp_path / "b" / "w.npy", BIAS)
    assert advised(arrays, tmp_path / "a", "npy_folder") == "check the path"
    assert holds(tmp_path / "b", "npy_folder", w=BIAS)


@follows("files_below: name the folder that")
def test_a_folder_that_lies_far_above_the_arrays(tmp_path):
    inner = tmp_path / "/".join("d" * 110)
    inner.mkdir(parents=True)
    np.save(inner / "w.npy", BIAS)
    assert advised(arrays, tmp_path, "npy_folder") == "name the folder that holds the weights themselves"
    assert holds(inner, "npy_folder", w=BIAS)


@follows("files_below: give it a name")
def test_a_file_whose_name_is_not_text(tmp_path):
    np.save(tmp_path / "w.npy", BIAS)
    odd = os.fsencode(tmp_path) + b"/\xff.npy"
    os.rename(tmp_path / "w.npy", odd)
    assert advised(arrays, tmp_path, "npy_folder") == "give it a name in UTF-8"
    os.rename(odd, tmp_path / "ÿ.npy")
    assert holds(tmp_path, "npy_folder", ÿ=BIAS)


@follows("files_below: put a copy of")
def test_a_link_to_a_folder(tmp_path):
    (tmp_path / "all").mkdir()
    (tmp_path / "b").mkdir()
    np.save(tmp_path / "b" / "w.npy", BIAS)
    (tmp_path / "all" / "b").symlink_to(tmp_path / "b")
    assert advised(arrays, tmp_path / "all", "npy_folder") == "put a copy of the folder in its place"
    (tmp_path / "all" / "b").unlink()
    shutil.copytree(tmp_path / "b", tmp_path / "all" / "b")
    assert holds(tmp_path / "all", "npy_folder", **{"b/w": BIAS})


@follows("read_list: the file is damaged")
def test_a_list_that_became_something_else(tmp_path):
    path = tmp_path / "m.json"
    for text in ('{"a": 1}', '["a", 1]'):
        path.write_text(text)
        if text[0] == "{":
            assert "save it again" in advised(json_text.read_list, path)
    assert json_text.read_list(path) == ["a", 1]


# More than is read ------------------------------------------------------------------------------------------------------


@follows("check_members: save it again without")
def test_an_archive_that_would_unpack_to_very_much(tmp_path, monkeypatch):
    monkeypatch.setattr(zip_members, "_MOST_UNPACKED", 1000)
    value = np.zeros(90_000, "f4")
    np.savez_compressed(tmp_path / "m.npz", w=value)
    assert advised(arrays, tmp_path / "m.npz") == "save it again without compression"
    np.savez(tmp_path / "m.npz", w=value)
    assert holds(tmp_path / "m.npz", w=value)


@follows("too_many: save the model again")
def test_an_archive_of_very_many_members(tmp_path, monkeypatch):
    from transferpipe.weights.formats.keras import archive

    path = one_of_each.FORMATS[".keras"].write(tmp_path)
    sound = read_all(path)
    for module in (zip_members, archive):
        monkeypatch.setattr(module, "MOST_OF_KERAS", 4)
    added("assets/a", b"x")(path)
    added("assets/b", b"x")(path)
    assert advised(read_all, path) == "save the model again"
    assert read_all(one_of_each.FORMATS[".keras"].write(tmp_path)) == sound


@follows("_open_objects: write the file again")
def test_an_array_of_objects_that_is_very_large(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "_MOST_OBJECTS", 1000)
    np.savez(tmp_path / "m.npz", w=np.array([np.arange(999.0), BIAS], object))
    assert advised(arrays, tmp_path / "m.npz") == "write the file again with numpy.savez"
    np.savez(tmp_path / "m.npz", a=np.arange(999.0), b=BIAS)
    assert holds(tmp_path / "m.npz", a=np.arange(999.0), b=BIAS)


@follows("_config: the file is damaged:")
def test_a_configuration_that_is_very_long(tmp_path, monkeypatch):
    path = one_of_each.FORMATS["legacy .h5"].write(tmp_path)
    sound = read_all(path)
    monkeypatch.setattr(legacy_h5, "_MOST_CONFIG", 1000)
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"] + " " * 1000
    assert "save it again" in advised(read_all, path)
    assert read_all(one_of_each.FORMATS["legacy .h5"].write(tmp_path)) == sound


# HDF5 -------------------------------------------------------------------------------------------------------------------


def hdf5(path, value=KERNEL, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("layers/dense/vars/0", data=value, **options)
    return path


@pytest.mark.parametrize(
    ("name", "most", "options"),
    [
        pytest.param("_MOST_RATIO", 10, {"chunks": (500,)}, marks=follows("_check_size: the file is damaged #2")),
        pytest.param(
            "_MOST_RATIO", 10, {"chunks": (90_000,), "maxshape": (None,)},
            marks=follows("_check_chunks: the file is damaged #2"),
        ),
        pytest.param("_MOST_UNPACKED", 1000, {"chunks": (500,)}, marks=follows("check_dataset: save the model again #3")),
    ],
)  # fmt: skip
def test_a_dataset_that_would_unpack_to_very_much(name, most, options, tmp_path, monkeypatch):
    value = np.zeros(10_000)
    path = hdf5(tmp_path / "m.weights.h5", value, compression="gzip", **options)
    monkeypatch.setattr(hdf5_dataset, name, most)
    monkeypatch.setattr(hdf5_dataset, "_MOST_GROWTH", 2)
    assert "save" in advised(arrays, path)
    hdf5(path, value)
    assert holds(path, **{"dense/0": value})


@follows("check_groups: save the model again")
def test_a_file_of_very_many_empty_groups(tmp_path, monkeypatch):
    path = hdf5(tmp_path / "m.weights.h5")
    monkeypatch.setattr(hdf5_stored, "_MOST_GROUPS", 9)
    with h5py.File(path, "a") as file:
        for number in range(9):
            file.create_group(f"layers/activation_{number}/vars")
    with h5py.File(path) as file:
        assert advised(lambda: list(hdf5_file.walk_items(file, "m"))) == "save the model again"
    with h5py.File(hdf5(path)) as file:
        assert [name for name, _ in hdf5_file.walk_datasets(file, "m")] == ["layers/dense/vars/0"]


def test_a_file_of_very_many_layers_that_the_library_reads(tmp_path, monkeypatch):
    """Layers lie in a row in the group that holds them, each with its weights in it."""
    monkeypatch.setattr(hdf5_stored, "_MOST_GROUPS", 9)
    with h5py.File(tmp_path / "m.h5", "w", libver="latest") as file:
        for number in range(30):
            file[f"layers/dense_{number}/vars/0"] = np.ones(2)
    with h5py.File(tmp_path / "m.h5") as file:
        assert len(list(hdf5_file.walk_datasets(file, "m"))) == 30


@follows("read_strings: the file is damaged #2")
def test_an_attribute_that_is_larger_than_its_file(tmp_path, monkeypatch):
    path = hdf5(tmp_path / "m.h5")
    with h5py.File(path, "a") as file:
        file.attrs["name"] = "enc"
        monkeypatch.setattr(hdf5_dataset, "_SMALL", -1)
        with monkeypatch.context() as patch:
            patch.setattr(hdf5_dataset.math, "prod", lambda _: 1 << 40)
            assert "save it again" in advised(hdf5_dataset.read_strings, file.id, "name", "m")
        assert hdf5_dataset.read_strings(file.id, "name", "m") == ["enc"]


@follows("_open_item: the file is damaged")
def test_a_member_that_is_no_link_and_cannot_be_found(tmp_path, monkeypatch):
    path = hdf5(tmp_path / "m.h5")
    with h5py.File(path, "a") as file:
        file["soft"] = h5py.SoftLink("/nowhere")
        with monkeypatch.context() as patch:
            patch.setattr(h5py.Group, "get", lambda *_, **__: None)
            assert "save it again" in advised(hdf5_file._open_item, file.id, "soft", "m")
        del file["soft"]
        assert hdf5_file._open_item(file.id, "layers", "m") is not None


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(FileNotFoundError("no"), marks=follows("_why_unreadable: check the path")),
        pytest.param(
            PermissionError(errno.EACCES, "Permission denied"), marks=follows("_why_unreadable: check who may read")
        ),
        pytest.param(
            OSError("Unable to open file (unable to lock file, errno = 11)"),
            marks=follows("_why_unreadable: run again once nothing"),
        ),
    ],
)
def test_a_file_that_cannot_be_opened_now(error, tmp_path, monkeypatch):
    path = hdf5(tmp_path / "m.h5")

    def refuse(*_args, **_keys):
        raise error

    with monkeypatch.context() as patch:  # as if it lay elsewhere, were not ours to read, or another wrote it
        patch.setattr(h5py, "File", refuse)
        assert advised(hdf5_file.open_hdf5, path, "m")
    with hdf5_file.open_hdf5(path, "m") as file:
        assert np.array_equal(file["layers/dense/vars/0"][()], KERNEL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    "ended",
    [
        pytest.param(11, marks=follows("try_in_child: the file is damaged")),
        pytest.param(3 << 8, marks=follows("try_in_child: the file is damaged #2")),
    ],
)
def test_a_file_that_hdf5_does_not_survive(ended, tmp_path, monkeypatch):
    path = hdf5(tmp_path / "m.h5")
    with monkeypatch.context() as patch:
        patch.setattr(guarded, "_run", lambda *_: ended)
        assert "save it again" in advised(guarded.try_in_child, path, lambda: None)
    hdf5(path)
    assert np.array_equal(guarded.open_guarded(path, lambda: h5py.File(path)["layers/dense/vars/0"][()]), KERNEL)


# What only reading shows ------------------------------------------------------------------------------------------------


@follows("check_sum: the checkpoint is damaged")
def test_a_checkpoint_that_is_cut_while_it_is_read(tmp_path):
    from transferpipe.weights.formats.tensorflow.bundle.index import open_bundle
    from transferpipe.weights.formats.tensorflow.bundle.values import check_sum

    prefix = one_of_each.checkpoint().write(tmp_path / "c")
    shard = tmp_path / "c.data-00000-of-00001"
    found, sound = open_bundle(tmp_path / "c.index"), shard.read_bytes()
    entry = max(found.entries.values(), key=lambda entry: entry.offset)
    shard.write_bytes(sound[:-3])
    assert "copy or save it again" in advised(check_sum, found, entry)
    shard.write_bytes(sound)
    check_sum(found, entry)
    assert holds(prefix, **{"a/kernel": KERNEL, "a/bias": BIAS})


@follows("_read_numbers: the file is damaged")
def test_numbers_of_onnx_that_are_none(tmp_path):
    path = tmp_path / "m.onnx"
    values = [1, 2, 3, 4, 5, 6]
    for wrong in (True, False):
        numbers = b"".join(varint(300 if wrong else v) for v in values)
        path.write_bytes(one_of_each.onnx_model(tensor("w", (2, 3), "int8", field(5, numbers))))
        if wrong:
            assert "save it again" in advised(arrays, path)
    assert holds(path, w=np.int8(values).reshape(2, 3))
