"""Paths as recipes write them: relative, of a home folder, and inside installed packages."""

import sys
from pathlib import Path

import pytest

from transferpipe.errors import FileError, MissingPackageError, UnsafeError
from transferpipe.recipe.locate import locate


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package that fails when it is imported."""
    folder = tmp_path / "some_weights"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('imported')\n")
    (folder / "data" / "model.h5").write_text("")
    (tmp_path / "one_file.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def refused(text, error=FileError):
    with pytest.raises(error) as caught:
        locate(text, "source.path")
    (problem,) = caught.value.problems
    assert problem.where == "source.path"
    return f"{problem.what} -> {problem.fix}"


def test_plain_paths():
    assert locate("a/b.h5") == Path("a/b.h5")
    assert locate("/a/b.h5") == Path("/a/b.h5")
    assert locate("../pkg:/b.h5") == Path("../pkg:/b.h5")


@pytest.mark.follows("expand_home: write the whole path")
def test_a_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert locate("~/b.h5") == Path("/home/somebody/b.h5")
    text = refused("~nobody_of_that_name/b.h5")
    assert text.startswith("'~nobody_of_that_name/b.h5' names no home folder: ")
    assert text.endswith(" -> write the whole path")
    assert locate("/home/nobody_of_that_name/b.h5") == Path("/home/nobody_of_that_name/b.h5")


def test_a_file_in_a_package_that_is_not_imported(package):
    assert locate("pkg://some_weights/data/model.h5") == package / "data" / "model.h5"
    assert "some_weights" not in sys.modules


def test_a_file_in_a_namespace_package(tmp_path, monkeypatch):
    for part, name in (("one", "a.h5"), ("two", "b.h5")):
        (tmp_path / part / "spread_out").mkdir(parents=True)
        (tmp_path / part / "spread_out" / name).write_text("")
        monkeypatch.syspath_prepend(tmp_path / part)
    assert locate("pkg://spread_out/a.h5") == tmp_path / "one" / "spread_out" / "a.h5"
    assert locate("pkg://spread_out/b.h5") == tmp_path / "two" / "spread_out" / "b.h5"


def test_a_file_that_the_package_does_not_hold(package):
    text = refused("pkg://some_weights/data/modle.h5")
    assert text == "the package 'some_weights' holds no 'data/modle.h5' -> did you mean 'data/model.h5'?"
    assert refused("pkg://some_weights/nowhere/x.h5") == "the package 'some_weights' holds no 'nowhere/x.h5' -> "
    assert refused("pkg://one_file/x.h5") == "the package 'one_file' holds no 'x.h5' -> "


@pytest.mark.parametrize("name", ["no_such_package", "__main__"])
def test_a_package_that_is_not_installed(name, monkeypatch):
    if name == "__main__":
        monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    with pytest.raises(MissingPackageError) as caught:
        locate(f"pkg://{name}/a.h5")
    (problem,) = caught.value.problems
    assert problem.what == f"'pkg://{name}/a.h5' needs the package {name}, which is not installed"
    assert problem.fix == f"pip install {name.replace('_', '-')}"


@pytest.mark.parametrize("name", ["some-weights", "some.weights", "", "..", "a b"])
def test_what_is_not_the_name_of_a_package(package, name):
    assert refused(f"pkg://{name}/a.h5").startswith(
        f"{name!r} is not the name of a package -> write it as in an import"
    )


@pytest.mark.parametrize("inner", ["../secret.h5", "data/../../secret.h5", "/etc/passwd", "data/.."])
def test_a_path_that_leaves_the_package(package, inner):
    (package.parent / "secret.h5").write_text("")
    text = refused(f"pkg://some_weights/{inner}", UnsafeError)
    assert text == f"'pkg://some_weights/{inner}' leaves the package -> name a file inside of it"


def test_a_name_that_no_file_can_have(package):
    assert "holds no 'aaa" in refused("pkg://some_weights/" + "a" * 5000)


@pytest.mark.follows("expand_home: check the path")
def test_a_text_that_no_path_is_as_long_as():
    with pytest.raises(FileError, match="has 40,000 characters, which no path has") as caught:
        locate("ab/c" * 10_000, "source.path")
    with pytest.raises(FileError, match="has a lone surrogate of UTF-16, which no path has"):
        locate("ab/\ud800", "source.path")
    assert caught.value.problems[0].fix == "check the path"
    assert locate("ab/c", "source.path") == Path("ab/c")
