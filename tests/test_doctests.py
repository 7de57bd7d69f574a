"""The examples in docstrings."""

import os
import subprocess
import sys
from pathlib import Path

import transferpipe

PACKAGE = Path(transferpipe.__file__).parent
RUN = """
import doctest, importlib, sys
for name in sys.argv[1:]:
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried, f"{name} has no examples"
    assert not failed, name
heavy = {"keras", "tensorflow"} & set(sys.modules)
assert not heavy, f"the examples imported {heavy}"
"""


def test_examples_in_docstrings_run_and_need_no_tensorflow(tmp_path):
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]
    assert len(files) > 10
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files]
    known = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}  # some write files, so they run in a folder of their own
    command = [sys.executable, "-c", RUN, *names]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=known)
    assert ran.returncode == 0, ran.stdout + ran.stderr
