"""What Keras downloads for a builder, such as the weights of ``keras.applications``: noted, or refused in our words.

Keras keeps such a file in its own cache, and checks it against a digest that it knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transferpipe.errors import Problem, RecipeError
from transferpipe.files.hashing import sha256
from transferpipe.models.keras_private import cache_of_keras, modules_that_fetch
from transferpipe.models.patches import patched

# Everything in Keras and KerasHub that downloads a single file goes through this function.
_FETCH = "get_file"
_NOTED: ContextVar[_Noted | None] = ContextVar("noted_files", default=None)


@dataclass(frozen=True)
class Fetched:
    """A file that Keras fetched, or found in its cache.

    Attributes:
        url: where it came from.
        path: where it lies.
        sha256: its digest.
        checked: the digest that Keras compared it with, and how; None where it knows none.
    """

    url: str
    path: str
    sha256: str
    checked: str | None = None

    def to_data(self) -> dict[str, str]:
        """Return it as in manifest.json."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass
class _Noted:
    """What is fetched for one origin of a recipe, and how its command begins."""

    where: str
    command: str
    files: dict[str, Fetched]


@contextmanager
def files_noted(where: str, recipe: str) -> Iterator[dict[str, Fetched]]:
    """Yield a mapping to which every file is added that Keras fetches while the body runs, by its path.

    Args:
        where: the origin that a builder is called for, such as ``source``.
        recipe: the name of the recipe that a command can choose; empty where there is none.

    Raises:
        RecipeError: a file cannot be fetched.
    """
    noted = _Noted(where, f"transferpipe run recipe={recipe} {where}.path=" if recipe else "", {})
    token = _NOTED.set(noted)
    try:
        with ExitStack() as patches:
            # Modules that imported the function by name hold it themselves: each is patched.
            for module in modules_that_fetch():
                patches.enter_context(patched(module, _FETCH, _note_file))
            yield noted.files
    finally:
        _NOTED.reset(token)


def note_read(text: str, path: Path) -> None:
    """Note a file of weights that was read for a builder; `text` is how the recipe names it."""
    noted = _NOTED.get()
    if noted is not None and path.is_file():
        noted.files[str(path)] = Fetched(text, str(path), sha256(path))


def _note_file(proceed: Callable[..., Any], *args: Any, **keys: Any) -> Any:
    noted = _NOTED.get()
    if noted is None:
        return proceed(*args, **keys)
    # The order of `keras.utils.get_file`'s first two arguments.
    named = dict(zip(("fname", "origin"), args, strict=False)) | keys
    url = str(named.get("origin"))
    try:
        path = proceed(*args, **keys)
    except Exception as error:
        # Keras names the file by the end of its address where it is given no name.
        name = str(named.get("fname") or url.rpartition("/")[2])
        raise RecipeError(_not_fetched(noted, url, name, str(named.get("cache_subdir", "datasets")), error)) from error
    # `md5_hash` is the older argument, which Keras still takes.
    digest = named.get("file_hash") or named.get("md5_hash")
    how = "md5" if not named.get("file_hash") else named.get("hash_algorithm", "auto")
    # Of an archive, Keras returns the folder that it was unpacked to, which has no digest.
    if Path(path).is_file():
        checked = None if digest is None else f"{_algorithm(how, digest)} {digest}"
        noted.files[str(path)] = Fetched(url, str(path), sha256(Path(path)), checked)
    return path


def _algorithm(how: Any, digest: Any) -> str:
    """Return what Keras takes a digest for: where it is to see itself, those of 64 characters are SHA-256."""
    return str(how) if how in ("md5", "sha256") else "sha256" if len(str(digest)) == 64 else "md5"


def _not_fetched(noted: _Noted, url: str, name: str, folder: str, error: Exception) -> Problem:
    # Keras's own text repeats the address, and ends with the reason behind two dashes.
    what = f"Keras cannot fetch {url}: {str(error).rpartition(' -- ')[2] or type(error).__name__}"
    put = f"put it into {cache_of_keras(folder)}"
    if noted.where == "target":  # whose builder makes more of it than what the file holds
        return Problem(noted.where, what, f"fetch it where there is a network, and {put}")
    instead = f": {noted.command}{name}" if noted.command else " in place of the builder"
    fix = f"fetch it where there is a network, and {put}, or give it, or another file of such weights{instead}"
    return Problem(noted.where, what, fix)
