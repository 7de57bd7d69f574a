"""What a recipe's arguments may make a builder do: no code, no file but through our own readers, no absurd size.

Keras and KerasHub deserialise an argument that is a mapping, and open one that is a path, of whatever size: the
allow-list of configurations and the readers of files stand before both. A builder of the user's own gets its arguments
as they are but for configurations of code.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from transferpipe.errors import FileError, Problem, RecipeError, UnsafeError
from transferpipe.fetch.open_path import open_path
from transferpipe.files.os_errors import cannot_be_read
from transferpipe.models.building.fetched import note_read
from transferpipe.models.building.sizes import (
    LIBRARIES,
    Number,
    check_calls,
    check_sizes,
    check_together,
    is_usual,
    numbers_in,
    plain,
)
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
_LONGEST_PRESET = 1000  # which a path may have, too
# How HDF5 and zip begin.
_LOADED = (b"\x89HDF", b"PK\3\4")
_MOST_CONFIG = 1 << 26
_AGAIN = "the file is damaged: download or save it again"


def make_voucher(trusted: Collection[str]) -> Vouched:
    """Return what tells whether the user vouches for a class: by a word, its place, or by having registered it."""
    known: dict[str, bool] = {}  # a configuration names a few modules a thousand times

    def vouched(module: str, registered: str) -> bool:
        if module and module not in known:
            known[module] = vouches_for(module, trusted)
        # By where the class comes from, or by the package that it was registered for.
        if module and known[module]:
            return True
        package = registered.rpartition(">")[0]
        if package and package in trusted:
            return True
        # Not imported for this: a class that is registered has imported it.
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
    calls = list(builds)
    # The number of calls first: what follows walks through all of them.
    check_calls(calls)
    for build in walk_builds(calls):
        for key, value in build.arguments.items():
            where = f"{build.where}.{key}"
            # Inner calls are looked at by themselves, and are no data.
            check_classes(plain(value), where, make_voucher(trusted))
            if build.target.startswith(LIBRARIES):
                _check_library(build, key, value, where)
        if build.target.startswith(LIBRARIES):
            check_together(build, _numbers(build))
        if file := weights_file(build):
            # Opened now, so that a file that cannot be read is said before anything is built.
            open_path(file, f"{build.where}.{_WEIGHTS}")


def is_of_libraries(build: Build) -> bool:
    """Tell whether a call, and all in it, are those of libraries, so that no code of the user's runs."""
    return all(b.target.startswith(LIBRARIES) for b in walk_builds(build))


def needs_trial(build: Build) -> bool:
    """Tell whether a call of libraries' builders has arguments that no published model has."""
    return not all(is_usual(_numbers(b), plain(b.arguments)) for b in walk_builds(build))


def _numbers(build: Build) -> list[Number]:
    """Return all numbers that a call is made with: its own, and those of a preset in a folder."""
    found = [number for key, value in build.arguments.items() for number in numbers_in(key, plain(value))]
    for value in build.arguments.values():
        # A preset's sizes stand in its folder, not in the call.
        if build.target.startswith(_HUB) and isinstance(value, str) and (folder := _folder(value)):
            found += [n for path in sorted(folder.glob("*.json")) for n in numbers_in("", _sizes_of(path))]
    return found


def _folder(text: str) -> Path | None:
    # Most texts are names, and the system would refuse the longest with an error.
    is_path = "://" not in text and "\0" not in text and len(text) <= 1000
    return Path(text) if is_path and Path(text).is_dir() else None


def _sizes_of(path: Path) -> Any:
    data = _json(path)
    return data.get("config") if isinstance(data, dict) else None


def weights_file(build: Build) -> str | None:
    """Return the file that a builder of ``keras.applications`` is to load weights from; None where there is none."""
    given = build.arguments.get(_WEIGHTS)
    if not build.target.startswith(_APPLICATIONS) or not isinstance(given, str):
        return None
    # A name to Keras in any case; pictures often lie in a folder that is called so.
    if given == "imagenet":
        return None
    return given if not _NAMED.fullmatch(given) or Path(given).exists() else None


def load_weights_file(model: Any, build: Build, file: str) -> None:
    """Give a model the weights of a file, read by our own readers and matched by name.

    Raises:
        RecipeError: the file does not hold exactly the model's weights.
    """
    where = f"{build.where}.{_WEIGHTS}"
    # By our own readers, which check what the file declares, and by name rather than by the order of layers.
    source, walked = open_path(file, where), walk(model, build.target)
    there = {w.name: tuple(w.shape) for w in source.catalog}
    wanted = {w.name: tuple(w.shape) for w in walked.catalog}
    # Exactly the model's weights: Keras would refuse others too, and half of a file is no start.
    for name in (*wanted, *there):
        if wanted.get(name) != there.get(name):
            held = f"{there[name]} in the file" if name in there else "missing from the file"
            needed = f"{wanted[name]} in the model" if name in wanted else "missing from the model"
            fix = f"build it with weights: null, and give the file as the source: source: {{path: {file}}}"
            raise RecipeError(Problem(where, f"{file}: {name} is {held} and {needed}", fix))
    load_values(walked, {name: source.read(name) for name in wanted})
    for path in source.files:
        # The manifest names what a builder has read, as it does sources.
        note_read(file, path)


def _check_library(build: Build, key: str, value: Any, where: str) -> None:
    if key == _WEIGHTS and build.target.startswith(_APPLICATIONS) and not isinstance(value, str | None):
        raise RecipeError(Problem(where, "must be a name, a file or null", "leave it out"))
    # `keras.applications` takes no configurations; what it is given as `input_tensor` would be made an object.
    if isinstance(value, Mapping) and build.target.startswith(_APPLICATIONS):
        raise UnsafeError(Problem(where, "is a mapping, which Keras would make an object of", "leave it out"))
    check_sizes(build, key, plain(value), where)
    # KerasHub opens texts wherever they stand in an argument.
    for leaf in _leaves(plain(value)):
        if isinstance(leaf, str) and build.target.startswith(_HUB):
            _check_hub_text(build, leaf, where)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(inner)
    else:
        yield value


def _check_hub_text(build: Build, text: str, where: str) -> None:
    """Refuse what KerasHub would open itself, but for presets of its own and folders that were looked through."""
    # Addresses of other kinds would be fetched by whatever library knows them.
    if "://" in text and not _PRESET.fullmatch(text):
        raise UnsafeError(Problem(where, f"{text!r} is not an address of a preset", "name the folder of the preset"))
    # The longest names of presets have some sixty letters; KerasHub would ask a server for any.
    if build.target.endswith(".from_preset") and len(text) > _LONGEST_PRESET:
        what = f"{text[:80]!r}... has {len(text):,} characters, which no name of a preset has"
        raise UnsafeError(Problem(where, what, "name the folder of the preset"))
    path = Path(text)
    # What is no file here is a name of a preset, or a plain word.
    if "://" in text or "\0" in text or len(text) > 1000 or not path.exists():
        return
    if path.is_dir():
        _check_preset(build, path, where)
    elif not path.resolve().is_relative_to(Path.cwd().resolve()):
        # A recipe of a stranger must not read the user's files elsewhere, a token say.
        raise UnsafeError(
            Problem(where, f"names the file {text!r} outside of the working directory", "copy the file itself")
        )
    elif _begins(path) in _LOADED:
        # By its first bytes: a suffix is only what somebody called it.
        raise UnsafeError(Problem(where, f"names the file {text!r}, which KerasHub would load", "leave it out"))


def _begins(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4)
    except OSError as error:
        raise cannot_be_read(path, error) from error


def _check_preset(build: Build, folder: Path, where: str) -> None:
    # Every one, whatever its name: KerasHub reads several, such as config.json, task.json and tokenizer.json.
    for path in sorted(folder.rglob("*.json")):
        # Nobody vouches for what a folder names: the word on the command line was for the recipe.
        check_classes(_json(path), f"{where}: {path}", make_voucher(()))
        for key, value in (_sizes_of(path) or {}).items() if isinstance(_sizes_of(path), Mapping) else ():
            check_sizes(build, str(key), value, f"{where}: {path}: {key}")
    # Opening one checks that it is what it claims; the manifest then names it.
    for path in sorted(folder.rglob("*.h5")):
        source: FileSource = open_source(path)
        note_read(str(path), source.path)


def _json(path: Path) -> Any:
    try:
        # Before it is read: a configuration of gigabytes would be read whole.
        if path.stat().st_size > _MOST_CONFIG:
            raise UnsafeError(Problem(str(path), f"is larger than {_MOST_CONFIG:,} bytes", _AGAIN))
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(Problem(str(path), f"cannot be read: {error}", _AGAIN)) from error
