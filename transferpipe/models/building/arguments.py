"""What a recipe's arguments may make a builder do: no code, no file but through our own readers, no absurd size.

Keras and KerasHub deserialise an argument that is a mapping, and open one that is a path, of whatever size: the
allow-list of configurations and the readers of files stand before both. A builder of the user's own gets its arguments
as they are but for configurations of code.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from transferpipe.errors import FileError, Problem, RecipeError, UnsafeError
from transferpipe.fetch.open_path import open_path
from transferpipe.files.os_errors import cannot_be_read
from transferpipe.models.building.fetched import note_read
from transferpipe.models.loading import load_values
from transferpipe.models.walk import walk
from transferpipe.recipe.model import Build, walk_builds
from transferpipe.recipe.trust import vouches_for
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats import open_source
from transferpipe.weights.keras.allowed import Vouched, check_classes

_APPLICATIONS, _HUB = "keras.applications.", "keras_hub."
_WEIGHTS = "weights"
# What Keras and KerasHub fetch by name, check and keep in their own cache: imagenet, bert_tiny_en_uncased, hf://a/b.
_NAMED = re.compile(r"[\w-]+")
_PRESET = re.compile(r"(?:kaggle|hf|modelscope)://[\w./@-]+|[\w.-]+(?:/[\w.-]+)*")
# How HDF5 and zip begin.
_LOADED = (b"\x89HDF", b"PK\3\4")
_MOST = 10**8
_MOST_CONFIG = 1 << 26
_MOST_SHAPE = 10**10  # of values a sample has: a hundred pictures of the largest cameras
# Wider layers, and larger matrices, are those of vocabularies and of mistakes: what they come to is looked at first.
_LARGE, _LARGE_MATRIX = 200_000, 5 * 10**8
_UNKNOWN_MEMORY = 1 << 36
_AGAIN = "the file is damaged: download or save it again"


def vouched_by(trusted: Collection[str]) -> Vouched:
    """Return what tells whether the user vouches for a class: by a word, its place, or by having registered it."""
    known: dict[str, bool] = {}  # a configuration names a few modules a thousand times

    def vouched(module: str, registered: str) -> bool:
        if module and module not in known:
            known[module] = vouches_for(module, trusted)
        if module and known[module]:
            return True
        package = registered.rpartition(">")[0]
        if package and package in trusted:
            return True
        saving = getattr(sys.modules.get("keras"), "saving", None)
        return saving is not None and saving.get_registered_object(registered) is not None

    return vouched


def check_arguments(builds: Iterable[Build], trusted: Collection[str] = ()) -> None:
    """Refuse arguments that a recipe may not give, before anything is imported.

    Raises:
        RecipeError: a mapping where a text belongs.
        UnsafeError: code, a file that may not be read, an absurd size.
        FileError: a file of weights cannot be read.
    """
    for build in walk_builds(list(builds)):
        for key, value in build.arguments.items():
            where = f"{build.where}.{key}"
            check_classes(_plain(value), where, vouched_by(trusted))
            if build.target.startswith((_APPLICATIONS, _HUB, "transferpipe.")):
                _check_library(build, key, value, where)
        if file := weights_file(build):
            open_path(file, f"{build.where}.{_WEIGHTS}")


def is_large(build: Build) -> bool:
    """Tell whether a call has an argument that may make its model larger than any machine."""
    given = (value for b in walk_builds(build) for key, value in b.arguments.items() if key != "seed")
    leaves = (leaf for value in given for leaf in _leaves(_plain(value)))
    sizes = sorted(abs(n) for n in leaves if isinstance(n, int | float) and not isinstance(n, bool))
    # Two arguments multiplied are the largest matrix that a layer makes of them; three are rarely one weight.
    return bool(sizes) and (sizes[-1] > _LARGE or math.prod(sizes[-2:]) > _LARGE_MATRIX)


def memory_of_machine() -> int:
    """Return how many bytes of memory this machine has."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows does not say
        return _UNKNOWN_MEMORY


def weights_file(build: Build) -> str | None:
    """Return the file that a builder of ``keras.applications`` is to load weights from; None where there is none."""
    given = build.arguments.get(_WEIGHTS)
    if not build.target.startswith(_APPLICATIONS) or not isinstance(given, str):
        return None
    return given if not _NAMED.fullmatch(given) or Path(given).exists() else None


def load_weights_file(model: Any, build: Build, file: str) -> None:
    """Give a model the weights of a file, read by our own readers and matched by name.

    Raises:
        RecipeError: the file does not hold exactly the model's weights.
    """
    where = f"{build.where}.{_WEIGHTS}"
    source, walked = open_path(file, where), walk(model, build.target)
    there = {w.name: tuple(w.shape) for w in source.catalog}
    wanted = {w.name: tuple(w.shape) for w in walked.catalog}
    for name in (*wanted, *there):
        if wanted.get(name) != there.get(name):
            held = f"{there[name]} in the file" if name in there else "missing from the file"
            needed = f"{wanted[name]} in the model" if name in wanted else "missing from the model"
            fix = f"build it with weights: null, and give the file as the source: source: {{path: {file}}}"
            raise RecipeError(Problem(where, f"{file}: {name} is {held} and {needed}", fix))
    load_values(walked, {name: source.read(name) for name in wanted})
    for path in source.files:
        note_read(file, path)


def _plain(value: Any) -> Any:
    """Return a value without the calls in it, whose arguments are looked at by themselves."""
    if isinstance(value, Build):
        return None
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _check_library(build: Build, key: str, value: Any, where: str) -> None:
    if key == _WEIGHTS and build.target.startswith(_APPLICATIONS) and not isinstance(value, str | None):
        raise RecipeError(Problem(where, "must be a name, a file or null", "leave it out"))
    if isinstance(value, Mapping) and build.target.startswith(_APPLICATIONS):
        raise UnsafeError(Problem(where, "is a mapping, which Keras would make an object of", "leave it out"))
    sizes = [n for n in value if isinstance(n, int)] if isinstance(value, list) else []
    if math.prod(max(1, abs(n)) for n in sizes) > _MOST_SHAPE:
        raise UnsafeError(Problem(where, f"{str(value)[:40]} is larger than any model needs", "leave it out"))
    for leaf in _leaves(_plain(value)):
        if isinstance(leaf, int | float) and key != "seed" and not (math.isfinite(leaf) and abs(leaf) <= _MOST):
            raise UnsafeError(Problem(where, f"{str(leaf)[:40]} is larger than any model needs", "leave it out"))
        if isinstance(leaf, str) and build.target.startswith(_HUB):
            _check_hub_text(leaf, where)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(inner)
    else:
        yield value


def _check_hub_text(text: str, where: str) -> None:
    """Refuse what KerasHub would open itself, but for presets of its own and folders that were looked through."""
    if "://" in text and not _PRESET.fullmatch(text):
        raise UnsafeError(Problem(where, f"{text!r} is not an address of a preset", "name the folder of the preset"))
    path = Path(text)
    if "://" in text or "\0" in text or len(text) > 1000 or not path.exists():
        return
    if path.is_dir():
        _check_preset(path, where)
    elif not path.resolve().is_relative_to(Path.cwd().resolve()):
        raise UnsafeError(
            Problem(where, f"names the file {text!r} outside of the working directory", "copy the file itself")
        )
    elif _begins(path) in _LOADED:
        raise UnsafeError(Problem(where, f"names the file {text!r}, which KerasHub would load", "leave it out"))


def _begins(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4)
    except OSError as error:
        raise cannot_be_read(path, error) from error


def _check_preset(folder: Path, where: str) -> None:
    for path in sorted(folder.rglob("*.json")):
        check_classes(_json(path), f"{where}: {path}", vouched_by(()))
    for path in sorted(folder.rglob("*.h5")):
        source: FileSource = open_source(path)
        note_read(str(path), source.path)


def _json(path: Path) -> Any:
    try:
        if path.stat().st_size > _MOST_CONFIG:
            raise UnsafeError(
                Problem(
                    str(path),
                    f"is larger than {_MOST_CONFIG:,} bytes",
                    "the file is damaged: download or save it again",
                )
            )
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(
            Problem(str(path), f"cannot be read: {error}", "the file is damaged: download or save it again")
        ) from error
