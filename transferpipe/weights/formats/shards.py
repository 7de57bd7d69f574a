"""Weights in several files, and the index that says which file holds which."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from transferpipe.errors import FileError, Problems
from transferpipe.files.inside import check_number_named, file_inside
from transferpipe.text.listing import quoted

# Enough to see whether one name is wrong or a whole part of the model is.
_MOST_LISTED = 10
_AGAIN = "copy or download all files of the model again"


def shard_paths(index: Path, names: Iterable[object]) -> dict[str, Path]:
    """Return the files that `index` names, by those names, in their order, which is how writers number them.

    Raises:
        FileError: what is not a name, or no file; all are reported.
        UnsafeError: a file is not in the folder of the index, or they are very many.
    """
    problems, paths = Problems(), {}
    by_text = {str(n): n for n in names}
    check_number_named(by_text, str(index))
    for key, name in by_text.items():
        try:
            paths[key] = file_inside(index.parent, name, str(index))
        except FileError as error:
            problems.found.extend(error.problems)
    problems.raise_as(FileError)
    return dict(sorted(paths.items()))


def check_places(index: Path, stated: Mapping[str, Collection[str]], held: Mapping[str, Collection[str]]) -> None:
    """Refuse files that hold something else than their index says.

    Args:
        index: the index.
        stated: for every file, what the index says that it holds.
        held: for every file, what it holds.

    Raises:
        FileError: all disagreements, a problem for each file and direction.
    """
    problems = Problems()
    for name in stated:
        if missing := sorted(set(stated[name]) - set(held[name])):
            problems.add(
                str(index), f"says that {name!r} holds {quoted(missing, _MOST_LISTED)}, which it does not", _AGAIN
            )
        if extra := sorted(set(held[name]) - set(stated[name])):
            problems.add(
                str(index), f"does not say that {name!r} holds {quoted(extra, _MOST_LISTED)}, which it does", _AGAIN
            )
    problems.raise_as(FileError)
