"""The cache of fetched files: a folder an address, and in it one a content, which never changes once it has its name.

So a copy that a run has read stays what it was when the address gets a new content, and no reader meets a file that is
being replaced. Everything in the cache can be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from transferpipe.errors import FileError, Problem, VerificationError
from transferpipe.fetch.request import Mark, WantedFile
from transferpipe.files.hashing import sha256
from transferpipe.files.locks import lock_folder
from transferpipe.files.os_errors import cannot_be_written, reason_of
from transferpipe.files.private_cache import user_cache
from transferpipe.files.publishing.atomic import flush, publish, remove_stale, temporary_beside, write_text
from transferpipe.progress import SHOWN, Progress

Download = Callable[[WantedFile, IO[bytes], Progress], Mark | None]
_LATEST = "latest.json"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ODD = re.compile(r"[^\w.+-]")
# File systems take 255 bytes; the digest, the suffixes of temporary files and of locks need their part of it.
_MOST_NAME = 120


def cache_folder() -> Path:
    """Return the folder of the cache."""
    return user_cache() / "remote"


@dataclass(frozen=True)
class _Latest:
    """The content that an address had when it was last asked for."""

    url: str
    sha256: str
    mark: Mark


def kept_copy(url: str, digest: str) -> Path:
    """Return where the copy of `url` with this SHA-256 lies if the cache has it."""
    return _folder(url) / digest / _name(url)


def fetch(url: str, where: str, pin: str | None, download: Download) -> tuple[Path, str]:
    """Return the local copy of `url` and its SHA-256.

    A pinned copy in the cache is used without asking anybody. Without a pin the server is asked whether there is
    another version by now. One process at a time fetches from one address; a download that fails leaves nothing.

    Args:
        url: the checked address.
        where: the recipe key that names it.
        pin: the SHA-256 that the file must have; None takes what the server has.
        download: writes the file.

    Raises:
        FileError: it cannot be fetched or kept.
        VerificationError: its digest is not the pinned one.
    """
    if pin and _is_intact(kept_copy(url, pin), pin):
        return kept_copy(url, pin), pin
    with _open_folder(_folder(url)) as folder:
        if pin and _is_intact(kept_copy(url, pin), pin):  # another process has fetched it meanwhile
            return kept_copy(url, pin), pin
        latest = None if pin else _read_latest(folder)
        wanted = WantedFile(url, where, pinned=pin is not None)
        if latest and _is_intact(kept_copy(url, latest.sha256), latest.sha256):
            wanted = replace(wanted, known=latest.mark, digest=latest.sha256)
        found = _download(wanted, folder, pin, download)
        return kept_copy(url, found), found


def _download(wanted: WantedFile, folder: Path, pin: str | None, download: Download) -> str:
    """Fetch the file, check it, and give it its name; return its digest, or that of the copy that is still right."""
    temporary = temporary_beside(folder / _name(wanted.url))
    try:
        with _new_file(temporary) as out, SHOWN.get()() as on_progress:
            mark = download(wanted, out, on_progress)
        if mark is None:
            assert wanted.digest is not None
            return wanted.digest
        digest = sha256(temporary)
        if pin not in (None, digest):
            fix = f"if the new file is meant, write sha256: {digest}; nothing of it was read or kept"
            what = f"{wanted.url} has the SHA-256 {digest}, the recipe pins {pin}"
            raise VerificationError(Problem(wanted.where, what, fix))
        _keep(temporary, kept_copy(wanted.url, digest))
        write_text(folder / _LATEST, json.dumps(asdict(_Latest(wanted.url, digest, mark)), indent=1))
        return digest
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to write; what is written survives a power cut."""
    try:
        with path.open("xb") as out:
            yield out
        flush(path)
    except OSError as error:
        raise cannot_be_written(path, error) from error


def _keep(temporary: Path, path: Path) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise cannot_be_written(path, error) from error
    publish(temporary, path)


def _is_intact(path: Path, digest: str) -> bool:
    try:
        return sha256(path) == digest
    except OSError:
        return False


def _read_latest(folder: Path) -> _Latest | None:
    """Return what is noted about the last download; anything odd counts as nothing, and it is downloaded again."""
    try:
        data = json.loads((folder / _LATEST).read_text(encoding="utf-8"))
        latest = _Latest(data["url"], data["sha256"], Mark(**data["mark"]))
        return latest if _DIGEST.fullmatch(latest.sha256) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


@contextlib.contextmanager
def _open_folder(folder: Path) -> Iterator[Path]:
    """Make the folder of one address, hold it alone, and remove what killed downloads have left in it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        what = f"the cache cannot be written: {reason_of(error)}"
        raise FileError(Problem(str(folder), what, "set XDG_CACHE_HOME to a folder that can be written")) from error
    with lock_folder(folder):
        remove_stale(folder)
        yield folder


def _folder(url: str) -> Path:
    return cache_folder() / hashlib.sha256(url.encode()).hexdigest()


def _name(url: str) -> str:
    """Return the last part of the address as the name of a file, for messages; the content decides the format."""
    name = _ODD.sub("_", unquote(urlsplit(url).path).rpartition("/")[2])[-_MOST_NAME:]
    return name.lstrip(".") or "file"
