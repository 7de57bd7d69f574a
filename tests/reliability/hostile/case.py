"""One hostile case and its twin, and the folder in which both are run."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from hand_made import dense, write_archive

UNSAFE, INVALID, UNREADABLE = 5, 2, 4
"""What refuses may say: it is not to be trusted, the recipe is wrong, the file is no such file."""

# What a payload does that runs: it leaves a file in the folder above.
COMMAND = "touch ../ran"
HERE = "  # here"
LAYERS = [dense("d0", 4, 4, 1), dense("d1", 4, 4, 2)]
_MODULE = """
import os
import subprocess
from os import system
from pathlib import Path

def build(note=None, **more):
    import keras
    keras.utils.clear_session()
    layers = [keras.layers.Dense(4, name=name) for name in ("d0", "d1")]
    return keras.Sequential([keras.Input((4,)), *layers])

def score(model, note=None, **more):
    return 1.0

def part(**more):
    return 3
"""


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        name: what is wanted, and where that stands.
        write: makes its files in the folder in which the command is run.
        words: the command.
        statuses: those that a refusal may have; 0 for a twin.
        where: what the message must say of the place.
        needs_keras: whether Keras must be imported to carry it out.
    """

    name: str
    write: Callable[[Path], object]
    words: tuple[str, ...]
    statuses: tuple[int, ...] = (UNSAFE,)
    where: str = ""
    needs_keras: bool = False


@dataclass(frozen=True)
class Pair:
    """A hostile case and its twin, which must be accepted."""

    hostile: Case
    twin: Case


@dataclass
class RecipeText:
    """A recipe's lines by what they are about; a line of which a part is marked is what is hostile in it."""

    lines: dict[str, str] = field(
        default_factory=lambda: {
            "source": "source: {path: a.keras}",
            "target": "target: {path: t.keras}",
            "mapping": 'mapping: {all: {to: ".*"}}',
            "save": "save: {path: model.keras}",
        }
    )

    def with_lines(self, text: str, first: bool = False) -> str:
        """Return the recipe with `text` in place of the lines of the same keys."""
        text = textwrap.dedent(text).strip("\n")
        keys = set(re.findall(r"^(\w+):", text, re.MULTILINE))
        kept = [line for key, line in self.lines.items() if key not in keys]
        return "\n".join([text, *kept] if first else [*kept, text]) + "\n"


def line_of_mark(text: str) -> int:
    """Return the number of the line that is marked, from 1; 0 where none is."""
    return next((n for n, line in enumerate(text.split("\n"), 1) if HERE in line), 0)


def write_recipe(text: str, name: str = "k.yaml") -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        path = folder / "recipes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))

    return write


def recipe_case(
    name: str,
    text: str,
    statuses: tuple[int, ...] = (UNSAFE,),
    *,
    words: tuple[str, ...] = ("run", "recipe=k"),
    files: tuple[Callable[[Path], object], ...] = (),
    where: str | None = None,
    needs_keras: bool = False,
) -> Case:
    """Return the case of one recipe, whose marked line a refusal must name."""
    line = line_of_mark(text)
    said = where if where is not None else f"recipes/k.yaml, line {line}" if line else "recipes/k.yaml"
    writes = (write_recipe(text), *files)

    def write(folder: Path) -> None:
        for one in writes:
            one(folder)

    return Case(name, write, words, statuses, said if statuses != (0,) else "", needs_keras)


def make_folder(work: Path, canary: str) -> Path:
    """Make what every case finds: two models, a module of the user's, and outside of the folder what it must not touch."""
    here, outside = work / "here", work / "outside"
    here.mkdir(parents=True)
    outside.mkdir()
    write_archive(here / "a.keras", LAYERS)
    write_archive(here / "t.keras", LAYERS)
    write_archive(outside / "secret.keras", LAYERS)
    names = [f"{entry['name']}/{name}" for entry in LAYERS for name in ("kernel", "bias")]
    np.savez(here / "like.npz", **dict(zip(names, [a for entry in LAYERS for a in entry["arrays"]], strict=True)))
    (here / "my_models.py").write_text(_MODULE)
    (outside / "secret.txt").write_text(canary)
    (here / "link").symlink_to(outside)
    (here / "link.keras").symlink_to(outside / "secret.keras")
    return here
