"""What a variant's result depends on beside its plan: the content of files that its recipe names, and of modules."""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from transferpipe.errors import TransferError
from transferpipe.recipe.keys import RECIPE, SECTIONS
from transferpipe.sweep.identity.digests import digest_of
from transferpipe.sweep.identity.modules import own_modules

_ORIGINS = tuple(key.name for key in SECTIONS[RECIPE].values() if key.kind in ("origin", "named origins"))
# Of these every text may be a file that is read.
_READING = (*_ORIGINS, "mapping", "verify", "score")
# A folder of weights has hundreds of files at most; a folder of data that a recipe names by mistake must not cost
# minutes.
_MOST_FILES = 10_000
_READ = ("path", "_target_")  # what stands there is never written
_VERSIONS = ("transferpipe", "keras", "tensorflow", "jax", "torch")


def inputs_of(recipe: Mapping[str, Any], written: Collection[str] = ()) -> list[list[Any]]:
    """Return what tells that the files behind `recipe` are still the same: a text that names one, and digests.

    Every text of the sources, the target, the rules, the checks and the score may name a file or a folder; the dotted
    name of a callable stands for its module and for what that imports below the working directory. A `path` may also
    be what the names of a checkpoint's files begin with.

    Args:
        recipe: the composed recipe.
        written: texts that the score is known to write to, such as a log: they change nothing.
    """
    # Each text once, in the order of the recipe.
    found = dict.fromkeys(pair for part in _READING for pair in _texts(recipe.get(part)))
    marks: dict[str, list[Any]] = {}
    for key, text in found:
        # A log that a score appends to would make its own result stale.
        if key in _READ or text not in written:
            marks.setdefault(text, _mark(text) or (_beginning(text) if key == "path" else []))
    return [[text, *mark] for text, mark in marks.items() if mark]


def files_named(recipe: Mapping[str, Any]) -> dict[str, str | None]:
    """Return what files the score may write to contain, by the text that names each; None where there is none yet."""
    texts = {text for key, text in _texts(recipe.get("score")) if key not in _READ}
    found: dict[str, str | None] = {}
    for text in texts:
        with contextlib.suppress(OSError, ValueError, TransferError):
            found[text] = digest_of(Path(text)) if Path(text).is_file() else None
    return found


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
    """Yield every text with the key under which it stands."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, str(name))


def _mark(text: str) -> list[Any]:
    with contextlib.suppress(OSError, ValueError, TransferError):  # most texts are no paths at all
        path = Path(text)
        if path.is_file():
            return [digest_of(path)]
        # The working directory and what it lies in hold what the sweep writes, whose digests would make every result
        # stale as soon as it is there.
        if text and path.is_dir() and not Path.cwd().is_relative_to(path.resolve()):
            return _digests(path.rglob("*"))
        return [digest_of(module) for module in own_modules(text)]
    return []


def _beginning(path: str) -> list[Any]:
    with contextlib.suppress(OSError, ValueError, TransferError):
        place = Path(path)
        return _digests(place.parent.glob(f"{glob.escape(place.name)}.*"))
    return []


def _digests(files: Iterator[Path]) -> list[Any]:
    # Listing them all takes a moment; which are read must not depend on the order in which the disk has them.
    found = sorted(files)
    digests = [[str(file), digest_of(file)] for file in found[:_MOST_FILES] if file.is_file()]
    return [*digests, *([["all", len(found)]] if len(found) > _MOST_FILES else [])]
