"""The 1797 handwritten digits that come with the package, as NumPy arrays. No TensorFlow."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problems, RecipeError

Split = Literal["train", "test"]

DATA = Path(__file__).parent / "zoo" / "data"
# Height, width and channels of the digits that scikit-learn ships, as Keras's convolutions take them.
SHAPE = (8, 8, 1)
_DARKEST = 16.0  # every pixel counts the dark dots of a 4x4 block, 0..16


@functools.cache
def _read_all() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return all images and the digits they show."""
    table = np.loadtxt(DATA / "digits.csv.gz", delimiter=",", dtype=np.float32)
    images = (table[:, :-1] / _DARKEST).reshape(-1, *SHAPE)
    return images, table[:, -1].astype(np.int64)


def _rows_of(digit: int, split: Split) -> NDArray[np.int64]:
    """Rows of one digit: the first two thirds in file order are for training, the rest for testing."""
    rows = np.flatnonzero(_read_all()[1] == digit)
    cut = len(rows) * 2 // 3
    return rows[:cut] if split == "train" else rows[cut:]


def load_digits(
    labels: Sequence[int] = tuple(range(10)),
    *,
    split: Split = "train",
    per_class: int | None = None,
    seed: int = 0,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return images of the digits `labels` with their class numbers.

    The split is fixed and stratified: of each digit the first two thirds of the images, in the order of the file, are
    the training part. The file is not shuffled, and people write differently (13 of them wrote these images), so the
    test part looks less like the training part than after a random split: on the digits 0 to 4, `digits_cnn` reaches
    0.95 here, and 1.00 with as many images at random.

    Args:
        labels: the digits wanted, 0 to 9, each once.
        split: ``"train"`` or ``"test"``.
        per_class: how many images of each digit to draw without replacement; None takes all, in file order.
        seed: decides which images are drawn; of no effect without `per_class`.

    Returns:
        The images, float32 of shape (n, 8, 8, 1), from 0 (paper) to 1 (ink), and their classes, int64 of shape (n,):
        the position of the digit in `labels`, so that ``labels=[5, 6, 7]`` gives classes 0, 1 and 2.

    Raises:
        RecipeError: an unknown or repeated digit, an unknown split, or more images wanted than there are.

    >>> images, classes = load_digits([5, 6], split="test", per_class=2)
    >>> images.shape, classes.tolist()
    ((4, 8, 8, 1), [0, 0, 1, 1])
    """
    _check(labels, split, per_class)
    return _images(_draw(labels, split, per_class, seed))


def digits_left(labels: Sequence[int], per_class: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the images of the training part that ``load_digits(labels, per_class=..., seed=...)`` does not draw."""
    _check(labels, "train", per_class)
    drawn = _draw(labels, "train", per_class, seed)
    return _images([np.setdiff1d(_rows_of(int(d), "train"), rows) for d, rows in zip(labels, drawn, strict=True)])


def _draw(labels: Sequence[int], split: Split, per_class: int | None, seed: int) -> list[NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    parts = [_rows_of(int(digit), split) for digit in labels]
    return parts if per_class is None else [random.choice(rows, per_class, replace=False) for rows in parts]


def _images(parts: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    images, _ = _read_all()
    classes = np.repeat(np.arange(len(parts)), [len(rows) for rows in parts])
    return images[np.concatenate(parts)], classes  # a copy: callers never share what is cached


def _are_different_digits(labels: Sequence[Any]) -> bool:
    return len(labels) > 0 and all(label in range(10) for label in labels) and len(set(labels)) == len(labels)


def _check(labels: Any, split: Any, per_class: Any) -> None:
    """Raise everything that is wrong with a request at once."""
    problems = Problems()
    if not isinstance(labels, Sequence) or not _are_different_digits(labels):
        problems.add("labels", f"{labels!r} is not a list of different digits", "use each of 0 to 9 at most once")
    if split not in ("train", "test"):
        problems.add("split", f"{split!r} is neither 'train' nor 'test'", "use one of the two")
    problems.raise_as(RecipeError)
    if per_class is not None:
        fewest = min(len(_rows_of(int(label), split)) for label in labels)
        if not isinstance(per_class, int) or not 0 < per_class <= fewest:
            what = f"{per_class!r} images of each digit wanted, {fewest} are in the {split} part"
            problems.add("per_class", what, f"use a whole number from 1 to {fewest}")
    problems.raise_as(RecipeError)
