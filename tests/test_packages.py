"""Packages that may be missing: every line that is advised installs the package, and one place words that."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import transferpipe
from transferpipe.errors import MissingPackageError, RecipeError
from transferpipe.packages import EXTRAS, install_line, is_installed, missing_package

PACKAGE = Path(transferpipe.__file__).parent
PROJECT = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def installed_by(line):
    """Return the distributions that a line of pip brings, by way of what pyproject.toml says."""
    command, verb, wanted = shlex.split(line)
    assert (command, verb) == ("pip", "install")
    extra = re.fullmatch(r"transferpipe\[(\w+)\]", wanted)
    wanted = PROJECT["optional-dependencies"][extra[1]] if extra else [wanted]
    return {re.match(r"[\w.-]+", requirement)[0].replace("-", "_") for requirement in wanted}


@pytest.mark.follows("missing_package: …, or …")
@pytest.mark.parametrize("package", EXTRAS)
def test_what_is_advised_installs_what_is_missing(package):
    fix = missing_package("where", "x", package, "leave it out").problems[0].fix
    line, _, instead = fix.partition(", or ")
    name = package.rpartition(".")[2]
    # mlflow-skinny is the part of mlflow that a logger needs, under the same name.
    assert {name, f"{name}_skinny"} & installed_by(line)
    assert instead == "leave it out"
    assert missing_package("where", "x", package).problems[0].fix == line


def test_a_package_of_nobody_we_know():
    assert installed_by(install_line("some_builders")) == {"some_builders"}


def test_a_missing_package_is_an_error_of_the_command():
    error = missing_package("sources.a", "this", "not_there")
    assert isinstance(error, MissingPackageError | RecipeError)
    assert (error.status, error.title) == (2, "a package is missing")
    assert str(error).startswith("sources.a: this needs the package not_there, which is not installed -> pip")


def test_a_package_that_is_there_and_lacks_something_itself(tmp_path, monkeypatch):
    (tmp_path / "broken_reader.py").write_text("import nowhere_else")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError) as caught:
        importlib.import_module("broken_reader")
    text = str(missing_package("x", "this", "broken_reader", error=caught.value))
    assert "which cannot be imported: No module named 'nowhere_else'" in text


def test_whether_a_package_is_there(monkeypatch):
    assert is_installed("json")
    assert not is_installed("not_there")
    assert not is_installed("not_there.inner")
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    assert not is_installed("__main__")


def test_nobody_else_says_how_to_install():
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if re.search("pip install (?!--upgrade)", path.read_text(encoding="utf-8"))
    }
    assert found <= {"packages.py", "models/building/build.py"}


def test_what_lies_in_the_working_directory_stands_in_for_no_library(tmp_path):
    """Python itself looks there first, with `python -m`."""
    np.savez(tmp_path / "a.npz", w=np.ones(3))
    for name in ("numpy", "re2", "rich", "yaml", "xxhash"):
        (tmp_path / f"{name}.py").write_text(f"open('ran', 'w')\nraise ImportError('{name}')\n")
    places = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    words = [sys.executable, "-m", "transferpipe", "inspect", "a.npz", "--json"]
    done = subprocess.run(words, cwd=tmp_path, env=places, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["weights"][0]["name"]) == (0, "w"), done.stderr
    assert not (tmp_path / "ran").exists()
