"""Labelled data in three parts, as a score gets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from transferpipe.errors import Problems, RecipeError

Part = tuple[NDArray[Any], NDArray[np.int64]]
PARTS = ("train", "val", "test")
_VAL_FRACTION = 0.2


@dataclass(frozen=True, eq=False)
class Splits:
    """Labelled examples in three parts. Nothing is drawn from `test` but the number in the end.

    Attributes:
        x_train: inputs to learn from, of shape (n, ...).
        y_train: their class numbers, of shape (n,), from 0.
        x_val: inputs to choose with: when to stop, how strongly to regularise; may be empty.
        y_val: their class numbers.
        x_test: inputs that the number is measured on; may be empty for scores that need none.
        y_test: their class numbers.
        classes: how many classes there are.
        name: what the data is, for notes.
    """

    x_train: NDArray[Any] = field(repr=False)
    y_train: NDArray[np.int64] = field(repr=False)
    x_val: NDArray[Any] = field(repr=False)
    y_val: NDArray[np.int64] = field(repr=False)
    x_test: NDArray[Any] = field(repr=False)
    y_test: NDArray[np.int64] = field(repr=False)
    classes: int
    name: str = "data"

    @property
    def train(self) -> Part:
        """Inputs and classes to learn from."""
        return self.x_train, self.y_train

    @property
    def val(self) -> Part:
        """Inputs and classes to choose with."""
        return self.x_val, self.y_val

    @property
    def test(self) -> Part:
        """Inputs and classes to measure on."""
        return self.x_test, self.y_test

    @property
    def test_digest(self) -> str:
        """What tells the test part from others."""
        return digest_of_part(self.test)

    def __str__(self) -> str:
        sizes = ", ".join(f"{len(getattr(self, f'y_{part}'))} {part}" for part in PARTS)
        return f"{self.name}: {self.classes} classes, {sizes}"


def make_splits(name: str, train: Any, val: Any = None, test: Any = None) -> Splits:
    """Return checked `Splits`.

    Args:
        name: what the data is.
        train: inputs of shape (n, ...) and classes, a pair.
        val: the same, or None for an empty part.
        test: the same, or None for an empty part.

    Raises:
        RecipeError: with everything that is wrong: lengths, shapes, labels that are not class numbers, a class
            without an example to learn from, a value that is not finite.
    """
    problems = Problems()
    given = {part: value for part, value in zip(PARTS, (train, val, test), strict=True) if value is not None}
    parts = {part: _part(value, f"{name}: {part}", problems) for part, value in given.items()}
    problems.raise_as(RecipeError)
    shape, dtype = parts["train"][0].shape[1:], parts["train"][0].dtype
    empty = (np.zeros((0, *shape), dtype), np.zeros(0, np.int64))
    classes = 1 + int(max(labels.max(initial=0) for _, labels in parts.values()))
    for part, (inputs, labels) in parts.items():
        if inputs.shape[1:] != shape:
            what = f"its inputs have the shape {inputs.shape[1:]}, those to learn from {shape}"
            problems.add(f"{name}: {part}", what, "bring both into one shape")
        present = np.unique(labels)
        if part == "train" and len(present) < classes:
            first = next((k for k, label in enumerate(present) if k != label), len(present))
            what = f"no example of class {first} of {classes}"
            problems.add(f"{name}: {part}", what, "number the classes from 0, and give each an example to learn from")
    problems.raise_as(RecipeError)
    (x, y), (x_val, y_val), (x_test, y_test) = (parts.get(part, empty) for part in PARTS)
    return Splits(x, y, x_val, y_val, x_test, y_test, classes, name)


def digest_of_part(part: Part) -> str:
    """Return what tells one part from others."""
    digest = xxhash.xxh3_64()
    for array in part:
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def splits_of(value: Any) -> Any:
    """Return what a function of the user's own gave as `Splits`, if that are pairs of inputs and labels by part.

    They stand in a mapping with the names of the parts, or in the order train, test or train, val, test, as
    ``keras.datasets`` gives them. A validation part that is not there is drawn from the examples to learn from: a fifth
    of every class. Anything else is given back as it came.
    """
    orders = {2: ("train", "test"), 3: PARTS}
    if isinstance(value, tuple | list) and len(value) in orders:
        value = dict(zip(orders[len(value)], value, strict=True))
    if not isinstance(value, Mapping) or "train" not in value or not set(value) <= set(PARTS):
        return value
    if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in value.values()):
        return value
    checked = make_splits("data", value["train"], value.get("val"), value.get("test"))
    if "val" in value:
        return checked
    train, val = split_off(checked.train, _VAL_FRACTION, 0)
    return make_splits("data", train, val if len(val[1]) else None, value.get("test"))


def _part(value: Any, where: str, problems: Problems) -> Part:
    """Return inputs and class numbers of one part, one-hot labels turned into numbers."""
    inputs, labels = (np.asarray(array) for array in value)
    if (
        labels.ndim == 2
        and labels.shape[1] > 1
        and (labels.sum(axis=1) == 1).all()
        and set(np.unique(labels)) <= {0, 1}
    ):
        labels = labels.argmax(axis=1)
    elif labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not _are_class_numbers(labels):
        what = f"its labels, {labels.dtype} of shape {labels.shape}, are not class numbers"
        problems.add(where, what, "give whole numbers from 0, one an example, or one-hot rows")
    elif len(inputs) != len(labels) or not len(labels):
        problems.add(where, f"has {len(inputs)} inputs and {len(labels)} labels", "give as many of both, at least one")
    if inputs.dtype.kind not in "fiub":
        problems.add(where, f"its inputs are {inputs.dtype}, not numbers", "store numbers")
    elif inputs.dtype.kind == "f" and not np.isfinite(inputs).all():
        problems.add(where, "holds inputs that are not finite", "take them out")
    whole = labels if labels.dtype.kind in "iub" else np.zeros(0)
    return inputs if inputs.dtype.kind == "f" else inputs.astype(np.float32), whole.astype(np.int64)


def _are_class_numbers(labels: NDArray[Any]) -> bool:
    if labels.dtype.kind == "f":
        return False
    return labels.dtype.kind in "iub" and (not len(labels) or 0 <= int(labels.min()) <= int(labels.max()) < 1 << 31)


def split_off(part: Part, fraction: float, seed: int) -> tuple[Part, Part]:
    """Return two parts of `part`: the rest, and of every class about `fraction`, drawn by `seed`.

    Of each class at least one example stays in the first part.
    """
    inputs, labels = part
    random = np.random.default_rng(seed)
    taken = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(round(fraction * len(rows)), len(rows) - 1)
        taken[random.permutation(rows)[:count]] = True
    return (inputs[~taken], labels[~taken]), (inputs[taken], labels[taken])
