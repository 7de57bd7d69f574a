"""The working directory of a user who has modules of their own."""

import sys

import pytest

MY_MODELS = """
import functools, os, shutil, subprocess
from os import system as build_all
import numpy as np
from helpers.inner import inner
from transferpipe.cli.main import main
from transferpipe.zoo import small_mlp

def build(classes=2):
    return classes

class Net:
    def __init__(self, size=1):
        self.size = size

    @classmethod
    def small(cls):
        return cls(1)

@functools.wraps(build)
def wrapped():
    return "wrapped"

half = functools.partial(build, classes=1)
half_of_the_shell = functools.partial(functools.partial(os.system), "true")
net = Net(3)
number = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a module of the user's own; what gets imported from it is forgotten afterwards."""
    (tmp_path / "my_models.py").write_text(MY_MODELS)
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "inner.py").write_text("def inner(): pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    return tmp_path


@pytest.fixture(autouse=True)
def _forget():
    """Forget what was imported from a user's folder."""
    yield
    for name in [n for n in sys.modules if n.partition(".")[0] in ("my_models", "helpers", "broken", "wave", "pkg")]:
        del sys.modules[name]
