"""Opening by content: which format a file is of, and what is said where it is of none."""

import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from transferpipe.errors import FileError, RecipeError, UnsafeError
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats import FORMATS, detection, open_source
from transferpipe.weights.spec import Catalog

ALL = f"formats that can be read: {', '.join(FORMATS)}"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.bin"


@pytest.fixture
def opened(monkeypatch):
    """Replace every open function by one that notes which format was asked for."""
    asked = []

    def opener(format):
        def note(path):
            asked.append((format, path))
            return FileSource(path, format, Catalog(()), lambda spec: None)

        return note

    monkeypatch.setattr("transferpipe.weights.formats._opener", opener)
    return asked


def legacy(path, *, attribute="layer_names", **options):
    with h5py.File(path, "w", **options) as file:
        file.attrs[attribute] = [b"a"]
        file["a/kernel"] = [1.0]
        file["a"].attrs["weight_names"] = [b"kernel"]


def whole_legacy(path):
    with h5py.File(path, "w") as file:
        file.create_group("model_weights").attrs["layer_names"] = []


def weights_h5(path, **options):
    with h5py.File(path, "w", **options) as file:
        file["layers/dense/vars/0"] = [1.0]


def numpy_archive(path):
    with path.open("wb") as file:
        np.savez(file, a=np.ones(3))


def keras_archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", b"")


TORCH = 0x1950A86A20F9469CFC6C  # the magic number of PyTorch's files without zip


def torch_archive(path, folder):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{folder}data.pkl", b"")


@pytest.mark.parametrize(
    ("write", "format"),
    [
        (legacy, "h5"),
        (lambda p: legacy(p, attribute="layer_names0"), "h5"),
        (lambda p: legacy(p, userblock_size=512), "h5"),
        (whole_legacy, "h5"),
        (weights_h5, "weights_h5"),
        (lambda p: weights_h5(p, userblock_size=4096), "weights_h5"),
        (numpy_archive, "npz"),
        (keras_archive, "keras"),
        (lambda p: save_file({"a": np.ones(3)}, p), "safetensors"),
        (lambda p: save_file({}, p), "safetensors"),
        (lambda p: torch_archive(p, "archive/"), "torch"),
        (lambda p: torch_archive(p, ""), "torch"),
        *((lambda p, k=k: p.write_bytes(pickle.dumps(TORCH, protocol=k)), "torch") for k in range(6)),
    ],
)
def test_format_is_told_by_content(path, opened, write, format):
    write(path)
    open_source(path)
    assert opened == [(format, path)]


@pytest.mark.parametrize("write", [legacy, numpy_archive, lambda p: save_file({"a": np.ones(3)}, p)])
def test_the_file_is_really_opened(path, write):
    write(path)
    source = open_source(path)
    assert len(source.catalog) == 1
    assert source.path == path
    assert source.read(source.catalog.weights[0].name)[0] == 1


def test_format_overrides_the_content(path, opened):
    numpy_archive(path)
    open_source(path, "safetensors")
    assert opened == [("safetensors", path)]


def test_every_format_of_the_table_can_be_opened():
    from transferpipe.weights.formats import _opener

    assert all(callable(_opener(format)) for format in FORMATS)


def test_unknown_format(path):
    with pytest.raises(RecipeError, match=r"format: there is no format 'safetensor' -> did you mean 'safetensors'"):
        open_source(path, "safetensor")
    with pytest.raises(RecipeError, match=f"there is no format 'xyz' -> {ALL}"):
        open_source(path, "xyz")


def test_missing_file_names_its_neighbours(path):
    (path.parent / "weight.bin").touch()
    with pytest.raises(FileError, match=r"weights.bin: there is no such file -> did you mean 'weight.bin'\?"):
        open_source(path)
    path.symlink_to("far")
    with pytest.raises(FileError, match=r"weights.bin: is a link to 'far', where there is nothing -> make the"):
        open_source(path)
    path.unlink()
    with pytest.raises(FileError, match=r"there is no such file -> check the path \(the folder holds 1 other files\)"):
        open_source(path.with_name("else"))


def test_missing_folder(path):
    with pytest.raises(FileError, match=r"there is no such file -> there is no folder '.*/nowhere' either"):
        open_source(path.parent / "nowhere" / "x.h5")


def test_folder_of_nothing(tmp_path):
    with pytest.raises(FileError, match="is an empty folder -> name one file of it; formats that can be read: "):
        open_source(tmp_path)


def test_empty_file(path):
    path.touch()
    with pytest.raises(FileError, match=r"weights.bin: is empty"):
        open_source(path)


def test_pipe_is_not_waited_for(path):
    os.mkfifo(path)
    with pytest.raises(FileError, match=r"is not an ordinary file"):
        open_source(path)


@pytest.mark.parametrize("name", ["a\0b", "x" * 300])
def test_path_that_cannot_be(tmp_path, name):
    with pytest.raises(FileError, match=r"cannot be read"):
        open_source(tmp_path / name)


def test_permission_denied(path, monkeypatch):
    path.write_bytes(b"x" * 99)

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(FileError, match=r"weights.bin: cannot be read: .*Permission denied"):
        open_source(path)


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"hello world, this is no weight file",
        (1 << 40).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        zipped(other="x"),
        zipped(a__b__data="x"),
        zipped(**{"a__data.pkl": "x", "b__data.pkl": "x"}),
        zipped(),
    ],
)
def test_unknown_content_lists_the_formats(path, content):
    path.write_bytes(content)
    with pytest.raises(FileError, match=rf"weights.bin: is .* -> {ALL}; if it is one of these, it is damaged"):
        open_source(path)


@pytest.mark.parametrize(
    "content",
    [pickle.dumps({"a": 1}), pickle.dumps([1], protocol=2), pickle.dumps(0x1950A86A20F9469CFC6C + 1, protocol=2)],
)
def test_pickles_without_arrays(path, content):
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"is a Python pickle with no arrays in it -> save only the arrays"):
        open_source(path)


def test_tar_of_the_first_pytorch(path):
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    with pytest.raises(
        FileError, match=r"is a tar archive, which is no longer a format .* -> unpack it.* if PyTorch wrote it"
    ):
        open_source(path)


def test_only_checkpoints_can_be_selected_from(path):
    numpy_archive(path)
    with pytest.raises(
        RecipeError, match=r"select: 'a' is to be selected from .*, but npz files have no parts -> leave"
    ):
        open_source(path, select="a")


def test_telling_the_format_follows_no_link(path):
    os.mkfifo(path.parent / "pipe")  # opening it would wait for ever
    with h5py.File(path, "w") as file:
        file["model_weights"] = h5py.ExternalLink("pipe", "/")
    assert detection.detect_format(path) == "h5"
    with pytest.raises(UnsafeError, match=r"model_weights: is a link to 'pipe:/'"):
        open_source(path)


def test_reading_weights_never_imports_keras():
    code = (
        "import sys, transferpipe.weights.formats as formats\n"
        "assert 'h5py' not in sys.modules\n"
        "[formats._opener(name) for name in formats.FORMATS]\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('keras', 'tensorflow', 'torch', 'hydra')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == []
