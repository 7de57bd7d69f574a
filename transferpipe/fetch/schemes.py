"""How what lies elsewhere is fetched, by the scheme of its address."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from transferpipe.errors import FileError, Problem, RecipeError
from transferpipe.fetch.address import scheme_of
from transferpipe.fetch.cache import fetch
from transferpipe.fetch.cloud import download as download_object
from transferpipe.fetch.found import ONE_FILE, FoundFile, identify_file
from transferpipe.fetch.http import download as download_http
from transferpipe.fetch.hub import HubPath, commit_of, fetch_hf, fetch_kaggle, find_cached_hf, parse_hf, parse_kaggle
from transferpipe.fetch.request import WantedFile
from transferpipe.files.hashing import sha256
from transferpipe.files.stamp import stamps_of

# Names of files that are nothing without others, which an address of one file does not bring.
_SEVERAL = (".index.json", ".weights.json", "/model.json", ".index", "/saved_model.pb", "/")


def _find_cached(text: str, where: str, pin: str | None) -> FoundFile:
    """Find what is downloaded into the cache of our own."""
    if text.partition("?")[0].endswith(_SEVERAL):
        fix = "download the folder and name the copy, or name it as hf://organisation/repository/..."
        raise FileError(Problem(where, f"{text} is one of several files, or a folder, but one file is fetched", fix))
    http = scheme_of(text) in ("http", "https")
    path, digest = fetch(text, where, pin, download_http if http else download_object)
    return FoundFile(path, text, digest, "" if pin else f"add sha256: {digest}", stamps_of([path]))


def _hf(text: str, where: str, pin: str | None) -> FoundFile:
    address = parse_hf(text, where)
    _check_pin(address, where, pin, "a commit: hf://organisation/repository@commit/...")
    if pin and (cached := find_cached_hf(address, where)) and sha256(cached) == pin:
        return identify_file(cached, text, pin, where)
    path = fetch_hf(address, WantedFile(text, where, digest=None))
    if not path.exists():
        raise FileError(Problem(where, f"{address.repo} has no {address.inner!r}", "check the address"))
    if address.is_file:
        return identify_file(path, text, pin, where)
    commit = commit_of(path)
    advice = "" if address.is_commit else f"name the commit: hf://{address.repo}@{commit}/{address.inner}"
    return FoundFile(path, text, None, advice, stamps_of([path]))


def _kaggle(text: str, where: str, pin: str | None) -> FoundFile:
    address = parse_kaggle(text, where)
    _check_pin(address, where, pin, "the version: kaggle://owner/model/framework/variation/version")
    path = fetch_kaggle(address, WantedFile(text, where))
    if not path.exists():
        raise FileError(Problem(where, f"{address.repo} has no {address.inner!r}", "check the address"))
    if address.is_file:
        return identify_file(path, text, pin, where)
    return FoundFile(
        path, text, None, "" if address.revision else "name the version after the variation", stamps_of([path])
    )


WAYS: Mapping[str, Callable[[str, str, str | None], FoundFile]] = {
    "https": _find_cached,
    "http": _find_cached,
    "s3": _find_cached,
    "gs": _find_cached,
    "hf": _hf,
    "kaggle": _kaggle,
}


def _check_pin(address: HubPath, where: str, pin: str | None, instead: str) -> None:
    if pin and not address.is_file:
        what = f"{ONE_FILE}, but {address.inner or address.repo!r} is a folder or several"
        raise RecipeError(Problem(where, what, f"leave it out and name {instead}"))
