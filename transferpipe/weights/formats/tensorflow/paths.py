"""From what a user names to the index of a checkpoint or the graph of a SavedModel."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from transferpipe.errors import FileError, Problem, did_you_mean
from transferpipe.files.os_errors import cannot_be_read
from transferpipe.text.listing import quoted
from transferpipe.weights.formats.tensorflow.bundle.sstable import is_table

STATE = "checkpoint"
_INDEX = ".index"
_SHARD = re.compile(r"(?P<stem>.*)\.data-\d{5}-of-\d{5}", re.DOTALL)
_NAMED = re.compile(r'^\s*model_checkpoint_path\s*:\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE)
_ESCAPED = re.compile(r"\\([0-7]{1,3}|.)", re.DOTALL)
# The file named `checkpoint` is text: a line for each checkpoint that was kept.
_MOST_STATE = 1 << 20
_MOST_LISTED = 10


def has_checkpoint(names: Collection[str]) -> bool:
    """Tell whether a folder with files of these names holds a checkpoint."""
    return any(name.endswith(_INDEX) for name in names)


def is_part(path: Path) -> bool:
    """Tell whether `path` is a file of a checkpoint: its index, or a shard or the file `checkpoint` beside one.

    Raises:
        OSError: it cannot be read.
    """
    shard = _SHARD.fullmatch(path.name)
    if shard:
        index = path.with_name(shard["stem"] + _INDEX)
        return index.is_file() and is_table(index)
    if path.name == STATE:
        with path.open("rb") as file:
            return b"model_checkpoint_path" in file.read(_MOST_STATE)
    return is_table(path)


def find_index(path: Path) -> tuple[Path, tuple[Path, ...]]:
    """Return the index of the checkpoint that `path` means, and what else that was found in.

    Raises:
        FileError: there is none, or none of several is named.
    """
    if path.is_dir():
        return _in_folder(path)
    shard = _SHARD.fullmatch(path.name)
    if path.name == STATE and path.is_file() and not is_table(path):
        return _in_folder(path.parent)
    if shard:
        return path.with_name(shard["stem"] + _INDEX), ()
    beside = path.with_name(path.name + _INDEX)
    return (path if path.is_file() and not beside.is_file() else beside), ()


def _in_folder(folder: Path) -> tuple[Path, tuple[Path, ...]]:
    """Choose the checkpoint that the file `checkpoint` names, or the only one.

    That file may hold the path at which the folder lay when it was written, so only the last part of it counts.
    """
    try:
        names = sorted(e.name.removesuffix(_INDEX) for e in folder.iterdir() if e.name.endswith(_INDEX))
        named = _find_named_part(folder / STATE)
    except OSError as error:
        raise cannot_be_read(folder, error) from error
    if named in names:
        return folder / f"{named}{_INDEX}", (folder / STATE,)
    if named is None and len(names) == 1:
        return folder / f"{names[0]}{_INDEX}", ()
    there = quoted(names, _MOST_LISTED)
    if not names:
        raise FileError(Problem(str(folder), "holds no index of a checkpoint", "copy all files of the checkpoint"))
    if named is None:
        what = f"holds {len(names)} checkpoints and no file {STATE!r} that names one: {there}"
        raise FileError(Problem(str(folder), what, f"name one: {folder / names[-1]}"))
    what = f"names the checkpoint {named!r}, but the folder holds {there}"
    fix = f"name one: {folder / names[-1]}"
    raise FileError(Problem(str(folder / STATE), what, f"{did_you_mean(named, names)} {fix}".strip()))


def _find_named_part(state: Path) -> str | None:
    """Return the last part of the path that the file `checkpoint` names; None if there is no such file."""
    if not state.is_file():
        return None
    with state.open("rb") as file:
        # Escapes are bytes in octal: as latin-1 each is one letter, until all of them together are read as UTF-8.
        found = _NAMED.search(file.read(_MOST_STATE).decode("latin-1"))
    if not found:
        return None
    path = _ESCAPED.sub(_unescape, found[1]).encode("latin-1", "replace").decode("utf-8", "replace")
    name = re.split(r"[/\\]", path)[-1]
    return "" if name == "." else name


def _unescape(match: re.Match[str]) -> str:
    if match[1][0] in "01234567":
        return chr(int(match[1], 8) & 0xFF)
    return {"n": "\n", "t": "\t", "r": "\r"}.get(match[1], match[1])


def is_basename(path: Path) -> bool:
    """Tell whether `path`, which does not exist, is what the names of the files of a checkpoint begin with."""
    return path.with_name(path.name + ".index").is_file()


MODEL = "saved_model.pb"


TEXT_MODEL = "saved_model.pbtxt"


KERAS_METADATA = "keras_metadata.pb"


VARIABLES = Path("variables", "variables.index")


def is_saved_model(names: Collection[str]) -> bool:
    """Tell whether a folder with files of these names is a SavedModel."""
    return MODEL in names or TEXT_MODEL in names


def is_model_file(path: Path) -> bool:
    """Tell whether `path` is the file that makes its folder a SavedModel."""
    return is_saved_model([path.name]) and (path.parent / "variables").is_dir()
