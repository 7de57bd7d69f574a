"""Formats of installed packages: recognized where ours are not, opened by name, and guarded."""

import zipfile

import numpy as np
import pytest

from transferpipe.errors import FileError, RecipeError
from transferpipe.weights.formats import open_source

TOY = """
import json
from transferpipe.files.stamp import file_stamp
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.format import Format
from transferpipe.weights.formats.raw_value import Stretch
from transferpipe.weights.spec import Catalog, WeightSpec


def open_toy(path):
    stamp = file_stamp(path)
    text = path.read_bytes()[4:]
    spec = WeightSpec("d/kernel", (2,), "float32", None, "d/kernel")
    if text[:3] == b"bad":
        raise ZeroDivisionError("a mistake")
    stretch = Stretch(path, stamp, 4)
    def read(spec):
        return {}["no"] if text[:3] == b"odd" else stretch.read(spec)
    return FileSource(path, "something else", Catalog((spec,), str(path)), read)


FORMAT = Format(
    open_toy,
    begins=b"TOY!",
    is_folder=lambda folder, names: "toys.txt" in names,
    is_archive=lambda names: "toy" in names,
    is_json=lambda data: data["toy"] == 1,
)
WRONG = Format(open_toy, is_content=lambda path, head: 1 / 0)
"""
VALUES = np.array([1, 2], "float32")


@pytest.fixture
def path(tmp_path, install):
    (tmp_path / "a.bin").write_bytes(b"TOY!" + VALUES.tobytes())
    return tmp_path / "a.bin"


@pytest.fixture
def toy(install):
    install("toys", {"format": {"toy": "FORMAT", "wrong": "WRONG"}}, TOY)


@pytest.mark.follows("format_called: did you mean …?")
def test_a_format_is_known_by_its_name_and_its_content(toy, path):
    for format in (None, "toy"):
        source = open_source(path, format)
        assert source.format == "toy"
        assert (source.read("d/kernel") == VALUES).all()
    with pytest.raises(RecipeError) as refused:
        open_source(path, "tyo")
    (problem,) = refused.value.problems
    assert problem.fix == "did you mean 'toy'?"
    assert open_source(path, problem.fix.split("'")[1]).format == "toy"
    with pytest.raises(RecipeError, match="toy files have no parts"):
        open_source(path, "toy", "a")


def test_without_the_package_the_file_is_of_no_known_format(path):
    with pytest.raises(FileError, match=r"a.bin: is of no known format"):
        open_source(path)


def test_folders_archives_and_json_are_recognized_too(toy, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "toys.txt").touch()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("toy", "1")
    (tmp_path / "a.json").write_text('{"toy": 1}')
    assert [open_source(tmp_path / name).format for name in ("a.zip", "a.json")] == ["toy", "toy"]
    with pytest.raises(FileError, match="IsADirectoryError"):
        open_source(tmp_path / "folder")
    (tmp_path / "b.json").write_text('{"other": 1}')  # the predicate fails there: that is no answer
    with pytest.raises(FileError, match="is JSON that lists no weights"):
        open_source(tmp_path / "b.json")


@pytest.mark.follows("_guard_open.guard.call: report it to the")
def test_what_the_package_does_wrong_is_said_of_the_file_and_the_package(toy, path, install):
    path.write_bytes(b"TOY!bad")
    with pytest.raises(
        FileError, match=r"a.bin: the format toy of the package toys 1.0 failed: ZeroDivisionError: a mis"
    ):
        open_source(path)
    path.write_bytes(b"TOY!odd")
    source = open_source(path)
    with pytest.raises(FileError, match=r"a.bin: the format toy of the package toys 1.0 failed: KeyError"):
        source.read("d/kernel")
    path.write_bytes(b"TOY!short, so that a value is not there"[:7])
    with pytest.raises(FileError, match="cannot be read"):
        open_source(path).read("d/kernel")
    path.write_bytes(b"TOY!" + VALUES.tobytes())
    install("toys", {"format": {"toy": "FORMAT"}}, TOY.replace('b"bad"', "None"), version="1.1")  # once it is corrected
    assert (open_source(path).read("d/kernel") == VALUES).all()


def test_a_broken_package_disturbs_no_other_file_and_is_named_where_it_may_have_helped(install, path):
    install("toys", {"format": {"toy": "FORMAT"}}, "raise ImportError('no such thing')")
    np.savez(path.with_name("a.npz"), a=VALUES)
    assert open_source(path.with_name("a.npz")).format == "npz"
    with pytest.raises(FileError, match=r"the format toy of the package toys 1.0 cannot be loaded .*no such thing"):
        open_source(path)
    with pytest.raises(RecipeError, match="pip install --upgrade toys"):
        open_source(path, "toy")


def test_ours_are_never_given_to_a_package(install, path):
    install("toys", {"format": {"npz": "FORMAT"}}, TOY)
    np.savez(path.with_name("a.npz"), a=VALUES)
    assert (open_source(path.with_name("a.npz"), "npz").read("a") == VALUES).all()
    path.write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(FileError, match="is a Python pickle with no arrays"):
        open_source(path)
