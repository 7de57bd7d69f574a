"""Telling the format of a file from its content; the suffix is never asked.

Each format says itself what its files are like (`transferpipe.weights.formats.format`); here is who is asked in which
order, and what is said of a file that is nobody's.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from transferpipe.errors import FileError, Problem
from transferpipe.files.os_errors import cannot_be_read
from transferpipe.weights.formats import FORMATS, OUTSIDE, list_formats
from transferpipe.weights.formats.format import ZIP, Format, Seen
from transferpipe.weights.formats.strangers import recognise, recognise_archive, recognise_folder, refusal
from transferpipe.weights.formats.tensorflow.paths import is_basename

# The magic of POSIX tar (IEEE 1003.1, ustar header block) and its offset.
_TAR = (b"ustar", 257)
Ask = Callable[[Format, Seen], bool]
_OF_FILES: tuple[Ask, ...] = (Format.is_by_content, Format.is_by_json)


def detect_format(path: Path) -> str:
    """Return the name of the format of `path`: of ours, or else of the installed packages'.

    Args:
        path: a folder, a non-empty file, or what the names of several files begin with.

    Raises:
        FileError: not readable, or of an unknown format.
        UnsafeError: it is JSON in which a key stands twice.
    """
    seen = Seen(path)
    if not path.exists() and is_basename(path):
        return "tf_checkpoint"
    rounds: tuple[Ask, ...] = (Format.is_by_names,) if path.is_dir() else (Format.is_by_path, *_OF_FILES)
    with _readable(path):
        for ask in rounds:
            found = next((name for name, format in FORMATS.items() if ask(format, seen)), None)
            if found:
                return found
    # After all of ours: a package cannot take over the files of a format that was read before it was installed.
    for plugin, format in OUTSIDE.each():
        with contextlib.suppress(Exception):  # one that fails does not know the file
            if any(ask(format, seen) for ask in rounds):
                return plugin.name
    raise _describe_refusal(seen, list_formats() + "".join(_find_broken()))


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        if isinstance(error, OSError):
            raise cannot_be_read(path, error) from error
        raise FileError(Problem(str(path), f"cannot be read: {error}", "download or save it again")) from error


def _find_broken() -> Iterator[str]:
    """Yield what is wrong with the formats of packages that could not be asked."""
    for plugin in OUTSIDE.offered():
        fault = OUTSIDE.fault(plugin)
        if fault:
            yield f"; {plugin.label} {fault}"


def _describe_refusal(seen: Seen, listed: str) -> FileError:
    """Return what is wrong with a path of which no format says that it is its own."""
    path = seen.path
    if path.is_dir():
        if stranger := recognise_folder(seen.names):
            return refusal(path, stranger)
        count = len(seen.names)
        what = f"is a folder of {count} files that are together of no known format" if count else "is an empty folder"
        return FileError(Problem(str(path), what, f"name one file of it; {listed}"))
    head = seen.head
    if head.startswith(ZIP):
        if stranger := recognise_archive(seen.members):
            return refusal(path, stranger)
        return _unknown(path, "is a zip archive, but neither of Keras nor of NumPy nor of PyTorch", listed)
    if head.lstrip()[:1] == b"{" and not recognise(path, head):
        what = "is JSON that lists no weights"
        return FileError(Problem(str(path), what, f"name the file or folder of the weights; {listed}"))
    if head[_TAR[1] :].startswith(_TAR[0]):
        fix = (
            "unpack it, and name what is inside; if PyTorch wrote it (before 0.1.10), load and save it with a version "
            "of PyTorch that still can"
        )
        return FileError(Problem(str(path), "is a tar archive, which is no longer a format for weights", fix))
    if stranger := recognise(path, head):
        return refusal(path, stranger)
    return _unknown(path, "is of no known format", listed)


def _unknown(path: Path, what: str, listed: str) -> FileError:
    return FileError(Problem(str(path), what, f"{listed}; if it is one of these, it is damaged"))
