"""From the text of a path, here or elsewhere, to a file that is here and, where a digest is pinned, is the right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from transferpipe.errors import FileError, Problem, RecipeError, VerificationError
from transferpipe.execute.manifest import sha256
from transferpipe.execute.remote.address import check_address, scheme_of
from transferpipe.execute.remote.cache import fetch
from transferpipe.execute.remote.cloud import download as download_object
from transferpipe.execute.remote.http import download as download_http
from transferpipe.execute.remote.hub import (
    HubPath,
    cached_hf,
    commit_of,
    fetch_hf,
    fetch_kaggle,
    parse_hf,
    parse_kaggle,
)
from transferpipe.execute.remote.wanted import Wanted
from transferpipe.execute.reuse import Recent
from transferpipe.recipe.locate import locate
from transferpipe.weights.formats.stamp import Stamp, stamps_of

# Names of files that are nothing without others, which an address of one file does not bring.
_SEVERAL = (".index.json", ".weights.json", "/model.json", ".index", "/saved_model.pb", "/")
_ONE_FILE = "sha256: pins one file"


@dataclass(frozen=True)
class Found:
    """A file or folder that is here.

    Attributes:
        path: where it lies.
        url: where it was fetched from.
        sha256: its digest, of fetched and of pinned files; of a folder, nothing.
        advice: how to pin it; empty where it is pinned, or was always here.
        stamp: what the file was when its digest was computed.
    """

    path: Path
    url: str | None = None
    sha256: str | None = None
    advice: str = ""
    stamp: tuple[Stamp, ...] = ()


# Each address is asked for once a process: all variants of a sweep read one content.
_FOUND: Recent[Found] = Recent(16)


def find(text: str, where: str = "", pin: str | None = None) -> Found:
    """Return the file or folder that `text` means, fetched if it lies elsewhere.

    Args:
        text: a path, ``pkg://``, or an address: ``https://``, ``hf://``, ``kaggle://``, ``s3://``, ``gs://``.
        where: the recipe key that names it, for messages.
        pin: the SHA-256 that the file must have, as 64 hexadecimal digits in small letters.

    Raises:
        FileError: it cannot be found or fetched, or a package that would fetch it is not installed.
        VerificationError: its SHA-256 is another than the pinned one.
        UnsafeError: the address asks for more than it may.
        RecipeError: a digest is given for a folder.
    """
    where = where or "path"
    scheme = scheme_of(text)
    if scheme is None and pin is None:
        return Found(locate(text, where))
    key = (text, pin, str(Path.cwd()))
    known = _FOUND.get(key)
    if known and known.stamp == stamps_of([known.path]):
        return known
    if scheme is None:
        found = _checked(locate(text, where), None, pin, where)
    else:
        check_address(text, where)
        found = _WAYS[scheme](text, where, pin)
    return _FOUND.keep(key, found)


def _cached(text: str, where: str, pin: str | None) -> Found:
    """Find what is downloaded into the cache of our own."""
    if text.partition("?")[0].endswith(_SEVERAL):
        mend = "download the folder and name the copy, or name it as hf://organisation/repository/..."
        raise FileError(Problem(where, f"{text} is one of several files, or a folder, but one file is fetched", mend))
    http = scheme_of(text) in ("http", "https")
    path, digest = fetch(text, where, pin, download_http if http else download_object)
    return Found(path, text, digest, "" if pin else f"add sha256: {digest}", stamps_of([path]))


def _hf(text: str, where: str, pin: str | None) -> Found:
    address = parse_hf(text, where)
    _check_pin(address, where, pin, "a commit: hf://organisation/repository@commit/...")
    if pin and (cached := cached_hf(address, where)) and sha256(cached) == pin:
        return _checked(cached, text, pin, where)
    path = fetch_hf(address, Wanted(text, where, digest=None))
    if not path.exists():
        raise FileError(Problem(where, f"{address.repo} has no {address.inner!r}", "check the address"))
    if address.is_file:
        return _checked(path, text, pin, where)
    commit = commit_of(path)
    advice = "" if address.is_commit else f"name the commit: hf://{address.repo}@{commit}/{address.inner}"
    return Found(path, text, None, advice, stamps_of([path]))


def _kaggle(text: str, where: str, pin: str | None) -> Found:
    address = parse_kaggle(text, where)
    _check_pin(address, where, pin, "the version: kaggle://owner/model/framework/variation/version")
    path = fetch_kaggle(address, Wanted(text, where))
    if not path.exists():
        raise FileError(Problem(where, f"{address.repo} has no {address.inner!r}", "check the address"))
    if address.is_file:
        return _checked(path, text, pin, where)
    return Found(
        path, text, None, "" if address.revision else "name the version after the variation", stamps_of([path])
    )


_WAYS: Mapping[str, Callable[[str, str, str | None], Found]] = {
    "https": _cached,
    "http": _cached,
    "s3": _cached,
    "gs": _cached,
    "hf": _hf,
    "kaggle": _kaggle,
}


def _check_pin(address: HubPath, where: str, pin: str | None, instead: str) -> None:
    if pin and not address.is_file:
        what = f"{_ONE_FILE}, but {address.inner or address.repo!r} is a folder or several"
        raise RecipeError(Problem(where, what, f"leave it out and name {instead}"))


def _checked(path: Path, url: str | None, pin: str | None, where: str) -> Found:
    """Return the file after its digest was computed and, if it is pinned, compared."""
    if path.is_dir():
        raise RecipeError(Problem(where, f"{_ONE_FILE}, but {str(path)!r} is a folder", "leave it out"))
    stamp = stamps_of([path])
    try:
        digest = sha256(path)
    except OSError as error:
        what = f"{str(path)!r} cannot be read: {error.strerror or error}"
        raise FileError(Problem(where, what, "check the path and who may read it")) from error
    if pin not in (None, digest):
        what = f"{url or str(path)} has the SHA-256 {digest}, the recipe pins {pin}"
        mend = "find out which of them is right; nothing of the file was read"
        raise VerificationError(Problem(where, what, mend))
    return Found(path, url, digest, "" if pin else f"add sha256: {digest}", stamp)
