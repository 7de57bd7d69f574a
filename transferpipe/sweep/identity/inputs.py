"""What a variant's result depends on beside its plan: the content of files that its recipe names, and of modules."""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from transferpipe.errors import TransferError
from transferpipe.recipe.keys import RECIPE, SECTIONS
from transferpipe.recipe.locate import locate
from transferpipe.sweep.identity.digests import digest_of
from transferpipe.sweep.identity.modules import own_modules

_ORIGINS = tuple(key.name for key in SECTIONS[RECIPE].values() if key.kind in ("origin", "named origins"))
# Of these every text may be a file that is read.
_READING = (*_ORIGINS, "mapping", "verify", "score")
# What stands there is a regular expression, and no pattern of files.
_RULES = ("mapping",)
# A folder of weights has hundreds of files at most; a folder of data that a recipe names by mistake must not cost
# minutes. Of further files, size and time are compared.
_MOST_FILES = 10_000
_READ = ("path", "_target_")  # what stands there is never written
_VERSIONS = ("transferpipe", "keras", "tensorflow", "jax", "torch")


def inputs_of(recipe: Mapping[str, Any], written: Collection[str] = ()) -> list[list[Any]]:
    """Return what tells that the files behind `recipe` are still the same: a text that names one, and digests.

    Every text of the sources, the target, the rules, the checks and the score may name a file or a folder; the dotted
    name of a callable stands for its module and for what that imports below the working directory. A text may also be
    what the names of a checkpoint's files begin with, or a pattern of files in a folder.

    Args:
        recipe: the composed recipe.
        written: texts that the score is known to write to, such as a log: they change nothing.
    """
    # Each text once, in the order of the recipe.
    found = dict.fromkeys((part in _RULES, *pair) for part in _READING for pair in _texts(recipe.get(part)))
    marks: dict[str, list[Any]] = {}
    for is_rule, key, text in found:
        # A log that a score appends to would make its own result stale.
        if key in _READ or text not in written:
            files = _files_behind(key, text) if not is_rule or not glob.has_magic(text) else []
            marks.setdefault(text, files or [digest_of(module) for module in own_modules(text)])
    return [[text, *mark] for text, mark in marks.items() if mark]


def files_named(recipe: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return what tells what files and folders the score may write to contain, by the text that names each."""
    return {text: _files_behind(key, text) for key, text in _texts(recipe.get("score")) if key not in _READ}


def versions_of(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions of the packages on which numbers depend; of files alone, that is this one."""
    # Where nothing is built and nothing scored, no number depends on Keras.
    builds = any("_target_" in str(recipe.get(part)) for part in _READING)
    found = {name: _version(name) for name in (_VERSIONS if builds else _VERSIONS[:1])}
    return {name: version for name, version in found.items() if version}


@cache  # the metadata of a package are read from its files, and there are many variants
def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text with the key under which it stands, and of keys those that look like files of a mapping."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if "." in str(name) or "/" in str(name):
                yield key, str(name)
            yield from _texts(inner, str(name))


def _files_behind(key: str, text: str) -> list[Any]:
    """Return what tells that the files that a text names are still the same; nothing where it names none."""
    with contextlib.suppress(OSError, ValueError, TransferError):  # most texts are no paths at all
        path = locate(text.removeprefix("file://"))
        if path.is_file():
            return [digest_of(path)]
        # The working directory and what it lies in hold what the sweep writes, whose digests would make every result
        # stale as soon as it is there.
        if text and path.is_dir():
            return [] if _holds_us(path) else _digests(_files_below(path))
        if glob.has_magic(text):
            return _matching(path)
        # Of a checkpoint, whatever the key is called; a path may also lack the rest of a name.
        if key == "path" or "/" in text or path.with_name(f"{path.name}.index").is_file():
            return _digests(path.parent.glob(f"{glob.escape(path.name)}.*"))
    return []


def _holds_us(folder: Path) -> bool:
    return Path.cwd().is_relative_to(folder.resolve())


def _matching(pattern: Path) -> list[Any]:
    """Return what tells that the files are still the same that a pattern matches; of one without a folder, nothing."""
    whole = len([*itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts)])
    if _holds_us(Path(*pattern.parts[:whole])):
        return []
    return _digests(map(Path, glob.iglob(str(pattern), recursive=True)))  # noqa: PTH207 - also absolute


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and in all those in it, those that links lead to as well."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(place, name) for name in names)


def _digests(files: Iterable[Path]) -> list[Any]:
    # Listing them all takes a moment; which are read must not depend on the order in which the disk has them.
    found = [file for file in sorted(files) if file.is_file()]
    rest = [(file, file.stat()) for file in found[_MOST_FILES:]]
    return [
        *([str(file), digest_of(file)] for file in found[:_MOST_FILES]),
        *([str(file), status.st_size, status.st_mtime_ns] for file, status in rest),
    ]
