"""Weights of networks that a recipe trains by itself: made once, and then taken from the user's cache folder."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = list[NDArray[Any]]


def trained_once(path: Path, train: Callable[[], Weights]) -> Weights:
    """Return the weights stored at `path`, or those that `train` makes, which are then stored there.

    Args:
        path: a `.npz` file whose name holds everything that decides the weights.
        train: makes them.
    """
    # A file that is missing, or is not what was written there, is made anew.
    with contextlib.suppress(OSError, KeyError, ValueError, zipfile.BadZipFile), np.load(path) as stored:
        return [stored[f"arr_{i}"] for i in range(len(stored.files))]
    weights = train()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.npz")
    np.savez(temporary, *weights)
    temporary.replace(path)
    return weights
