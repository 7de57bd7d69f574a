"""Downloading from object stores through fsspec, with the credentials that its packages find for themselves."""

from __future__ import annotations

import importlib
from typing import IO, Any

from transferpipe.errors import TransferError
from transferpipe.fetch.address import import_package, scheme_of
from transferpipe.fetch.request import Mark, WantedFile, check_length, copy
from transferpipe.progress import Progress


def download(wanted: WantedFile, out: IO[bytes], on_progress: Progress) -> Mark | None:
    """Write the object to `out`; return what tells its version, or None if it is still the one that is known.

    The version is fsspec's `ukey`, a digest of what the store says of the object (size, time, ETag):
    https://filesystem-spec.readthedocs.io/en/latest/api.html#fsspec.spec.AbstractFileSystem.ukey

    Raises:
        FileError: the package is not installed; there is no such object, or no permission; it was cut off.
    """
    scheme = scheme_of(wanted.url) or ""
    import_package(scheme, wanted.where)
    fsspec: Any = importlib.import_module("fsspec")
    try:
        store = fsspec.filesystem(scheme)
        path = f"{scheme}://{wanted.url.partition('://')[2]}"
        about = store.info(path)
        if about.get("type") == "directory":
            raise wanted.failed("it is a folder", "name one file of it")
        mark = Mark(store.ukey(path))
        if mark == wanted.known:
            return None
        with store.open(path, "rb") as file:
            done = copy(file.read, out, about.get("size"), wanted, on_progress)
        check_length(done, about.get("size"), wanted)
    except TransferError:
        raise
    except FileNotFoundError as error:
        raise wanted.failed("there is no such object", "check the address") from error
    except PermissionError as error:
        raise wanted.failed(f"no permission: {_first(error)}", "log in to the store with its own tool") from error
    except Exception as error:  # each store has its own errors
        raise wanted.unreachable(f"{type(error).__name__}: {_first(error)}") from error
    return mark


def _first(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")
