"""Proving a run again takes memory for a few parts of a value, whatever the value's size."""

import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import save_file

import transferpipe as tp
from transferpipe.prove.run_folder import verify_run

LARGE = (6 << 20, 2)


@pytest.fixture
def finished(tmp_path):
    """Return the folder of a run with a moved, a kept and a computed weight of which two are large."""
    random = np.random.default_rng(0)
    large = {name: random.random(LARGE, np.float32) for name in ("a/kernel", "b/kernel")}
    save_file({**large, "c/kernel": np.ones((2, 3), np.float32)}, tmp_path / "target.safetensors")
    save_file({"a/kernel": large["a/kernel"] + 1, "c/kernel": np.ones((3, 2), np.float32)}, tmp_path / "x.safetensors")
    rules = {
        "a": {"to": "a/kernel"},
        "b": {"to": "b/kernel", "from": None},
        "c": {"to": "c/kernel", "transform": ["transpose"]},
    }
    source, target = tmp_path / "x.safetensors", tmp_path / "target.safetensors"
    save = {"path": "m.safetensors"}
    tp.transfer(source, {"path": str(target)}, folder=tmp_path / "out", mapping=rules, save=save, name="large")
    return tmp_path / "out"


def peak_of(function, *arguments):
    tracemalloc.start()
    try:
        return function(*arguments), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_large_values_are_not_held(finished):
    verdict, peak = peak_of(verify_run, finished)
    assert (verdict.verdict.weights, verdict.checked.partition(",")[0]) == (
        "pass",
        "3 weights computed again from their sources",
    )
    assert peak < 16 << 20


def test_large_values_without_their_source_are_not_held(finished):
    (finished.parent / "x.safetensors").unlink()
    verdict, peak = peak_of(verify_run, finished)
    assert "2 compared with their digests" in verdict.checked
    assert peak < 16 << 20


def test_a_large_value_that_its_source_no_longer_gives(finished):
    source = finished.parent / "x.safetensors"
    with source.open("r+b") as file:
        file.seek(source.stat().st_size // 2)
        file.write(b"\x01\x02\x03\x04")
    with pytest.raises(tp.VerificationError, match=r"m.safetensors: a/kernel: differs from what its sources give now"):
        verify_run(finished)


def test_a_source_with_a_value_that_is_refused_now(finished):
    source = finished.parent / "x.safetensors"
    with source.open("r+b") as file:
        file.seek((source.stat().st_size // 8) * 4)
        file.write(np.full(4, np.nan, np.float32).tobytes())
    with pytest.raises(tp.VerificationError, match=r"a/kernel: cannot be computed again: .*NaN"):
        verify_run(finished)
