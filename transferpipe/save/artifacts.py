"""Outputs as files on disk: which an output consists of, their digests, and how they get their names."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transferpipe.files.hashing import sha256
from transferpipe.files.publishing.atomic import flush
from transferpipe.recipe.outputs import output_of
from transferpipe.save.writers.safetensors_shards import INDEX
from transferpipe.weights.spec import Catalog

STEM = "ckpt"
"""What the names of a checkpoint's files begin with as long as they lie in a folder of their own."""


def is_exported(name: str) -> bool:
    """Tell whether the output called `name` is one that Keras and TensorFlow write: a SavedModel or a checkpoint."""
    return not output_of(name).streams


def is_sharded(temporary: Path) -> bool:
    """Tell whether an output is safetensors that were cut into several files, which lie in a folder until published."""
    return output_of(temporary.name).splits and temporary.is_dir()


def artifact_name(name: str, temporary: Path) -> str:
    """Return what an output is opened by: its own name, or that of the index of its shards."""
    return f"{name}{INDEX}" if is_sharded(temporary) else name


def taken_names(path: Path, shard: int | None = None) -> tuple[Path, ...]:
    """Return the names that the output `path` may take: itself, or those of a checkpoint's files, or of shards."""
    output = output_of(path.name)
    if shard and output.splits:
        # The names of folders and models may hold brackets, which a pattern would take for its own.
        stem = glob.escape(path.name.removesuffix(output.suffix))
        return (path, path.with_name(path.name + INDEX), *sorted(path.parent.glob(f"{stem}-*-of-*{output.suffix}")))
    if output.files == "beside":
        return (path, *(path.with_name(path.name + end) for end in (".index", ".data-00000-of-00001")))
    return (path,)


def placed(catalog: Catalog, places: Mapping[str, str]) -> Catalog:
    """Return `catalog` with the places that its weights have in an output."""
    # Only exported outputs have places of their own; all others are found by their names or layout.
    if not places:
        return catalog
    return Catalog(tuple(dataclasses.replace(w, where=places[w.name]) for w in catalog), catalog.label)


def final_names(temporary: Path, path: Path) -> dict[Path, Path]:
    """Return what is to be renamed to what once the output that was written to `temporary` is verified.

    A folder is renamed as a whole; the files of a checkpoint, and shards, leave theirs, the index last.
    """
    if is_sharded(temporary):
        # Sorted, so that the index (".safetensors.index.json") comes behind the shards ("-00001-of-"): whoever finds it
        # finds all.
        return {part: path.with_name(part.name) for part in sorted(temporary.iterdir())}
    if output_of(path.name).files != "beside":
        return {temporary: path}
    # What else lies in the folder is not the checkpoint's: a file "checkpoint", say, which names the latest of a
    # folder.
    parts = sorted(p for p in temporary.iterdir() if p.name.startswith(f"{STEM}."))
    return {part: path.with_name(path.name + part.name.removeprefix(STEM)) for part in parts}


def _ends(temporary: Path) -> dict[str, Path]:
    """Return the files of an output of several by what their paths have behind that of the output."""
    if output_of(temporary.name).files == "beside":
        return {p.name.removeprefix(STEM): p for p in sorted(temporary.iterdir())}
    if is_sharded(temporary):
        return {p.name: p for p in sorted(temporary.iterdir())}
    files = (p for p in temporary.rglob("*") if not p.is_dir())
    return {f"/{p.relative_to(temporary).as_posix()}": p for p in sorted(files)}


def flush_output(temporary: Path) -> None:
    """Make an output, and everything in it if it is a folder, survive a power cut."""
    # Folders as well: the names of new files stand in them.
    for inner in temporary.rglob("*") if temporary.is_dir() else ():
        flush(inner)
    flush(temporary)


def output_digest(temporary: Path) -> dict[str, Any]:
    """Return size and SHA-256 of an output; of one of several files, also those of each, by the ends of their paths.

    Shards go by their whole names.
    """
    if not temporary.is_dir():
        return {"bytes": temporary.stat().st_size, "sha256": sha256(temporary)}
    # By the ends of the paths: a manifest then holds wherever the output is moved to.
    files = _ends(temporary)
    digests = {end: sha256(file) for end, file in files.items()}
    size = sum(file.stat().st_size for file in files.values())
    return {"bytes": size, "sha256": _of_list(digests), "files": digests}


def part_digests(temporary: Path, artifact: Mapping[str, Any]) -> dict[Path, str]:
    """Return the SHA-256 of every file that `final_names` gives a name of its own, from what `output_digest` gave."""
    if not temporary.is_dir():
        return {temporary: artifact["sha256"]}
    if output_of(temporary.name).files != "beside" and not is_sharded(temporary):
        return {}
    return {file: artifact["files"][end] for end, file in _ends(temporary).items()}


def digest_again(path: Path, artifact: Mapping[str, Any]) -> str | None:
    """Return the SHA-256 of a finished output as the manifest counts it; None if it, or a part of it, is missing."""
    if "files" not in artifact:
        return sha256(path) if path.is_file() else None
    shards = path.name.endswith(INDEX)
    files = {end: path.with_name(end) if shards else Path(f"{path}{end}") for end in artifact["files"]}
    # Files that were added count as well: a SavedModel is all that lies in its folder.
    if path.is_dir():
        files |= _ends(path)
    # A missing file is another answer than a changed one.
    if not all(file.is_file() for file in files.values()):
        return None
    # Sorted by the same ends as when they were first counted.
    return _of_list({end: sha256(file) for end, file in sorted(files.items())})


def _of_list(digests: Mapping[str, str]) -> str:
    """Return the SHA-256 of the list of files, as `sha256sum` would print it."""
    return hashlib.sha256("".join(f"{digest}  {end}\n" for end, digest in sorted(digests.items())).encode()).hexdigest()
