"""Checking that a PyTorch checkpoint is refused: in time, in little memory, in the right words."""

import time
import tracemalloc

import numpy as np
import pytest
from torch_files import storage, write_legacy, write_zip

from transferpipe.weights.formats import open_source

BASE = np.arange(24, dtype="float32")
WHERE = storage("0", "float32", 24)
# Far above what it takes, so that only work out of all proportion to the file's size is noticed.
MOST_SECONDS, MOST_BYTES = 20.0, 60 << 20


def refused(path, error, words, select=None):
    """Check that opening fails in time and with these words."""
    started = time.process_time()
    with pytest.raises(error, match=words) as raised:
        open_source(path, "torch", select)
    assert time.process_time() - started < MOST_SECONDS
    assert type(raised.value) is error
    assert len(str(raised.value)) < 8000
    return str(raised.value)


def refused_in_little_memory(path, error, words):
    """Check the same, and how much memory it takes."""
    refused(path, error, words)
    tracemalloc.start()
    with pytest.raises(error):
        open_source(path, "torch")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_BYTES


def both(path, root, stored=None):
    """Write `root` in both forms, one after the other."""
    stored = {"0": BASE.tobytes()} if stored is None else stored
    yield write_zip(path, root, stored)
    yield write_legacy(path, root, stored)
