"""The examples in docstrings."""

import doctest
import os
import subprocess
import sys
from pathlib import Path

import pytest

import transferpipe

PACKAGE = Path(transferpipe.__file__).parent
RUN = """
import doctest, importlib, sys
finder = doctest.DocTestFinder(exclude_empty=True)
for name in sys.argv[1:]:
    found = [test for test in finder.find(importlib.import_module(name)) if test.examples]
    assert found, f"{name} has no examples"
    for test in found:
        if "import keras" not in test.docstring:  # those run below
            assert not doctest.DocTestRunner().run(test).failed, test.name
heavy = {"keras", "tensorflow"} & set(sys.modules)
assert not heavy, f"the examples imported {heavy}"
"""


def test_examples_in_docstrings_run_and_need_no_tensorflow(tmp_path):
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]
    assert len(files) > 10
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files]
    names = [name.removesuffix(".__init__") for name in names]  # under another name a package is imported once more
    known = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}  # some write files, so they run in a folder of their own
    command = [sys.executable, "-c", RUN, *names]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=known)
    assert ran.returncode == 0, ran.stdout + ran.stderr


PUBLIC = ("catalog", "diff", "inspect", "parity", "plan", "rank_sweep", "read_sweep", "suggest", "transfer", "verify")


@pytest.mark.parametrize("name", [name for name in PUBLIC if hasattr(transferpipe, name)])
def test_every_public_function_says_what_it_takes_and_returns_and_has_an_example(name):
    text = getattr(transferpipe, name).__doc__
    for part in (">>> ", "Args:\n", "Returns:\n", "Raises:\n"):
        assert part in text, part


def test_examples_that_need_keras_run(tmp_path, monkeypatch):
    pytest.importorskip("keras")
    from transferpipe import api

    monkeypatch.chdir(tmp_path)
    found = [test for test in doctest.DocTestFinder().find(api) if "import keras" in test.docstring and test.examples]
    assert found
    for test in found:
        assert not doctest.DocTestRunner().run(test).failed, test.name
