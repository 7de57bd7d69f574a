"""Data of a user's own from an npz file."""

from __future__ import annotations

from typing import Any

from transferpipe.errors import Problem, RecipeError
from transferpipe.execute.score_checks import Given
from transferpipe.fetch.address import scheme_of
from transferpipe.fetch.find import find
from transferpipe.planning.structure import TargetStructure
from transferpipe.score.data.splits import PARTS, Splits, make_splits, split_off
from transferpipe.text.listing import listed
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.numpy.npz import open_npz


def npz_data(path: str, *, val_fraction: float = 0.2, test_fraction: float = 0.2, seed: int = 0) -> Splits:
    """Return the arrays of an npz file, as `numpy.savez` writes it.

    The file holds either ``x_train, y_train`` and, if it likes, ``x_val, y_val, x_test, y_test``; or ``x`` and ``y``
    alone. A part that is not there is drawn from what there is to learn from, of every class its fraction.

    Args:
        path: the file; ``pkg://package/inner/path`` is one inside an installed package.
        val_fraction: how much of the examples to choose with, where the file has no ``x_val``; 0 for none.
        test_fraction: how much to measure on, where it has no ``x_test``.
        seed: decides what is drawn.

    Raises:
        FileError, UnsafeError: the file cannot be read, or holds pickled objects.
        RecipeError: it lacks arrays, or they are not labelled examples.
    """
    _check_fractions(val_fraction, test_fraction)
    file = open_npz(find(path, "npz_data.path").path)
    parts = {part: (file.read(x), file.read(y)) for part, (x, y) in _pairs(file, path).items()}
    # Checked before anything is drawn, so that what is wrong is said about the file.
    checked = make_splits(path, parts["train"], parts.get("val"), parts.get("test"))
    train = checked.train
    drawn: dict[str, Any] = {"val": checked.val, "test": checked.test}
    for part, fraction in (("test", test_fraction), ("val", val_fraction)):
        if part not in parts and fraction:
            train, drawn[part] = split_off(train, fraction, seed)
    rest = {part: pair if len(pair[1]) else None for part, pair in drawn.items()}
    return make_splits(path, train, rest["val"], rest["test"])


def _check_fractions(val_fraction: Any, test_fraction: Any) -> None:
    for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not isinstance(fraction, int | float) or not 0 <= fraction < 1:
            raise RecipeError(Problem(f"npz_data.{name}", f"{fraction!r} is not a number from 0 to below 1"))


def _pairs(file: FileSource, path: str) -> dict[str, tuple[str, str]]:
    """Return the names of the pairs of arrays that the file holds, by part."""
    keys = {weight.name for weight in file.catalog}
    wanted = {part: (f"x_{part}", f"y_{part}") for part in PARTS}
    if keys & {"x", "y"} and not keys & set(wanted["train"]):
        wanted["train"] = ("x", "y")
    found = {part: pair for part, pair in wanted.items() if keys & set(pair)}
    lacking = [key for pair in (found or {"train": wanted["train"]}).values() for key in pair if key not in keys]
    if lacking or "train" not in found:
        what = f"holds {listed(sorted(keys), 8)}, but no {' and no '.join(lacking or ['x_train'])}"
        raise RecipeError(Problem(path, what, "save x and y, or x_train, y_train, x_test, y_test"))
    return found


def check_early(given: Given, _: TargetStructure) -> None:
    """Refuse a file that is not there, lacks arrays, or cannot be read; see `transferpipe.execute.score_checks`."""
    _check_fractions(given["val_fraction"], given["test_fraction"])
    if isinstance(given["path"], str) and scheme_of(given["path"]) is None:  # nothing is fetched for a check
        _pairs(open_npz(find(given["path"], "npz_data.path").path), given["path"])
