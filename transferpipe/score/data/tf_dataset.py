"""Data of a user's own from tf.data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from transferpipe.errors import Problem, RecipeError
from transferpipe.score.data.splits import PARTS, Part, Splits, make_splits, split_off

# A dataset may never end: it is kept in memory so that every model sees the same samples in the same order.
_MOST_BYTES = 4 << 30


def tf_data(
    datasets: Any, *, batched: bool = True, val_fraction: float = 0.2, test_fraction: float = 0.2, seed: int = 0
) -> Splits:
    """Return what a function of the user's own gives as `tf.data.Dataset`, read into memory once.

    In a recipe: ``data: {_target_: transferpipe.score.tf_data, datasets: {_target_: my_data.load}}``.

    Args:
        datasets: a mapping with ``train`` and perhaps ``test`` and ``val``, or a sequence of them in the order train,
            test or train, val, test. Each dataset gives pairs of inputs and labels, a finite number.
        batched: whether an element is a batch, so that its first axis counts examples, and not a single example.
        val_fraction: how much of the examples to choose with, of every class, where there is no ``val``; 0 for none.
        test_fraction: how much to measure on, where there is no ``test``.
        seed: decides what is drawn for these two.

    Raises:
        RecipeError: something else was given, a dataset does not end or does not fit into 4 GiB, or its elements are
            not labelled examples.
    """
    given = _by_part(datasets)
    parts = {part: _read(dataset, part, batched) for part, dataset in given.items()}
    checked = make_splits("tf.data", parts["train"], parts.get("val"), parts.get("test"))
    train, drawn = checked.train, {"val": checked.val, "test": checked.test}
    for part, fraction in (("test", test_fraction), ("val", val_fraction)):
        if part not in parts and fraction:
            train, drawn[part] = split_off(train, fraction, seed)
    val, test = (pair if len(pair[1]) else None for pair in drawn.values())
    return make_splits("tf.data", train, val, test)


def _by_part(datasets: Any) -> dict[str, Any]:
    orders = {2: ("train", "test"), 3: PARTS}
    if isinstance(datasets, tuple | list) and len(datasets) in orders:
        return dict(zip(orders[len(datasets)], datasets, strict=True))
    if isinstance(datasets, Mapping) and "train" in datasets and set(datasets) <= set(PARTS):
        return {part: datasets[part] for part in PARTS if part in datasets}
    what = f"got an object of type {type(datasets).__name__}, not datasets for train, val and test"
    raise RecipeError(Problem("tf_data.datasets", what, "return {'train': ..., 'test': ...} of tf.data.Dataset"))


def _read(dataset: Any, part: str, batched: bool) -> Part:
    """Return all inputs and labels of one dataset."""
    where = f"tf_data.datasets: {part}"
    if not hasattr(dataset, "as_numpy_iterator"):
        raise RecipeError(Problem(where, f"is a {type(dataset).__name__}, not a tf.data.Dataset"))
    # `tf.data.INFINITE_CARDINALITY`. Of an unknown one, -2, the bound on its bytes finds the end.
    if int(dataset.cardinality()) == -1:
        raise RecipeError(Problem(where, "never ends", "take a part: dataset.take(...)"))
    inputs: list[Any] = []
    labels: list[Any] = []
    size = 0
    for element in dataset.as_numpy_iterator():
        if not isinstance(element, tuple) or len(element) != 2:
            raise RecipeError(Problem(where, "its elements are not pairs of inputs and labels", "map it to pairs"))
        x, y = (np.asarray(array) if batched else np.asarray(array)[None] for array in element)
        size += x.nbytes
        if size > _MOST_BYTES:
            raise RecipeError(Problem(where, f"holds more than {_MOST_BYTES >> 30} GiB", "take a part: take(...)"))
        inputs.append(x)
        labels.append(y)
    if not inputs:
        raise RecipeError(Problem(where, "is empty"))
    return np.concatenate(inputs), np.concatenate(labels)
