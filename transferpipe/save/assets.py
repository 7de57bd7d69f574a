"""What a `.keras` archive holds beside configuration and weights, such as vocabularies."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterable, Iterator

from transferpipe.errors import FileError, Problem
from transferpipe.files.archives.opening import open_zip
from transferpipe.files.segment import CHUNK
from transferpipe.models.target import FileTarget, ModelTarget, Target
from transferpipe.save.by_keras import asset_files
from transferpipe.weights.file_source import FileSource


def assets_of(target: Target) -> Iterable[tuple[str, Iterable[bytes]]]:
    """Return the further members of the archive that `target` is saved as: names, and their bytes in parts."""
    if isinstance(target, FileTarget):
        return _with_learned(target)
    return asset_files(target.model) if isinstance(target, ModelTarget) and target.keeps_files else ()


def _with_learned(target: FileTarget) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Yield the members of the target's archive, those of lookup layers as these take them from elsewhere."""
    learned = target.learned_assets
    for name, chunks in archived(target.source):
        # What these layers learned before is replaced: of two members of one name, readers would take either.
        if name not in learned:
            yield name, chunks
    yield from ((name, [text]) for name, text in learned.items() if text is not None)


def archived(source: FileSource) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Yield the further members of an archive, such as vocabularies.

    Raises:
        FileError: the archive is damaged, or is not the one that was opened.
    """
    if not source.assets:
        return
    try:
        with open_zip(source.path) as archive:
            for name in source.assets:
                # In parts, while the archive is open: a vocabulary need not fit into memory.
                yield name, _chunks(source, archive, name)
    except (OSError, zipfile.BadZipFile) as error:
        raise FileError(Problem(source.label, f"cannot be read: {error}", "run again")) from error
    source.locate(source.catalog.weights[0].name)  # looks whether the file changed


def _chunks(source: FileSource, archive: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    try:
        with archive.open(name) as member:
            while chunk := member.read(CHUNK):
                yield chunk
    except (OSError, EOFError, RuntimeError, KeyError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        fix = "the file is damaged: copy or save it again"
        raise FileError(Problem(f"{source.label}: {name}", f"cannot be read: {error}", fix)) from error
