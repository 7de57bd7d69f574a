"""The embedded digits as data for a score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.digits import load_digits
from transferpipe.errors import Problem, RecipeError
from transferpipe.execute.score_checks import Given
from transferpipe.planning.structure import TargetStructure
from transferpipe.score.data.splits import Splits, make_splits


def digits_data(
    labels: Sequence[int] = tuple(range(10)),
    *,
    train_per_class: int | None = None,
    val_per_class: int = 20,
    seed: int = 0,
) -> Splits:
    """Return the handwritten digits that come with transferpipe: images (n, 8, 8, 1), values 0 to 1.

    The test part is that of `transferpipe.digits.load_digits`: fixed, about a third, mostly by other writers.
    From the rest, the seed draws the images to choose with and, for any `train_per_class`, the same first ones to learn
    from, so that fewer images are always a part of more.

    Args:
        labels: the digits to tell apart; classes are their positions in this list.
        train_per_class: images of each digit to learn from; None takes all that are left.
        val_per_class: images of each digit to choose with; 0 for none.
        seed: decides which images are drawn.

    Raises:
        RecipeError: unknown digits, or more images wanted than there are.

    >>> print(digits_data([3, 8], train_per_class=5))
    digits 3, 8: 2 classes, 10 train, 40 val, 119 test
    """
    images, classes = load_digits(labels, split="train")
    _check_counts(classes, train_per_class, val_per_class)
    random = np.random.default_rng(seed)
    train: list[NDArray[np.int64]] = []
    val: list[NDArray[np.int64]] = []
    for k in range(len(labels)):
        rows = random.permutation(np.flatnonzero(classes == k))
        val.append(rows[:val_per_class])
        end = None if train_per_class is None else val_per_class + train_per_class
        train.append(rows[val_per_class:end])
    first, chosen = np.concatenate(train), np.concatenate(val)
    return make_splits(
        f"digits {', '.join(map(str, labels))}",
        (images[first], classes[first]),
        (images[chosen], classes[chosen]) if val_per_class else None,
        load_digits(labels, split="test"),
    )


def _check_counts(classes: NDArray[np.int64], train: Any, val: Any) -> None:
    fewest = int(np.bincount(classes).min())
    wanted = [("val_per_class", val, 0), *([] if train is None else [("train_per_class", train, 1)])]
    for name, number, least in wanted:
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            what = f"{number!r} is not a whole number of at least {least}"
            raise RecipeError(Problem(f"digits_data.{name}", what, f"write one, such as {name}={max(1, least)}"))
    total = val + (1 if train is None else train)
    if total > fewest:
        what = f"{total} images of each digit are needed for training and validation; there are {fewest}"
        raise RecipeError(Problem("digits_data", what, "lower train_per_class or val_per_class"))


def check_early(given: Given, _: TargetStructure) -> None:
    """Refuse arguments out of range; see `transferpipe.execute.score_checks`."""
    digits_data(**given)
