"""Numbers in the groups of a weights file: only what counts is read as one."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from transferpipe.weights.formats import open_source


@pytest.mark.parametrize("digits", ["²", "१२²", "٣", "9" * 5000])
def test_keys_and_counters_of_any_digits_are_names(tmp_path: Path, digits: str) -> None:
    """Those of a file: ``int`` refuses superscripts, and more than 4300 digits."""
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        group = file.create_group(f"layers/dense_{digits}/vars")
        group["0"], group[digits] = np.ones((2, 2), "float32"), np.ones(2, "float32")
        file.create_group("vars")
    assert {spec.shape for spec in open_source(tmp_path / "m.weights.h5").catalog} == {(2, 2), (2,)}
