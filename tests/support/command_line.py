"""What the tests of the command line share: an answer, a folder's content, a source file's weights."""

import hashlib
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass

import numpy as np

RECIPE = """
source: {path: weights.safetensors}
target: {_target_: transferpipe.zoo.small_mlp}
mapping:
  body: {to: hidden, from: hidden}
  head: {to: classes, from: null}
ignore: [classes]
"""


@dataclass(frozen=True)
class Answer:
    """What the command line answered."""

    status: int
    out: str
    err: str

    def suggested(self):
        """Return the words of the override that the answer tells to type, as a shell would split them."""
        (line,) = re.findall(r"-> type (.*)", self.err)
        return shlex.split(line)


def tree(folder):
    """Return every file below `folder` with its digest, and every folder; Python's own caches left out."""
    found = {}
    for path in folder.rglob("*"):
        if "__pycache__" not in path.parts:
            found[str(path.relative_to(folder))] = (
                hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            )
    return found


def weights(**changed):
    """Return values for the weights of `small_mlp`, some replaced (``hidden__kernel=...``) or left out (None)."""
    random = np.random.default_rng(1)
    shapes = {"hidden/kernel": (8, 6), "hidden/bias": (6,), "classes/kernel": (6, 3), "classes/bias": (3,)}
    values = {name: random.uniform(0.1, 1, shape).astype("float32") for name, shape in shapes.items()}
    values |= {name.replace("__", "/"): value for name, value in changed.items()}
    return {name: value for name, value in values.items() if value is not None}


def process(*argv, **environment):
    """Run the command line as a process of its own."""
    command = [sys.executable, "-m", "transferpipe", *argv]
    known = {**os.environ, "COMP_LINE": "", **environment}
    return subprocess.run(command, env=known, capture_output=True, text=True, check=False)
