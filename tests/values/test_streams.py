"""Merges of values that lie in files, block by block: the same bits as of arrays in memory, and nothing held as a whole."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import transferpipe as tp
from transferpipe.errors import VerificationError
from transferpipe.planning.transforms import blocks
from transferpipe.values.compute import Values

NAMES = ("base", "one", "two")
SHAPES = {"a/kernel": (40, 30), "a/bias": (30,), "b/kernel": (7, 3, 11), "c": ()}
MERGES = ["mean", {"linear": [0.2, 0.5, 0.3]}, {"task_arithmetic": {"base": "base", "scale": 0.5}},
          {"ties": {"base": "base", "density": 0.3}}, {"dare": {"base": "base", "density": 0.5}},
          {"della": {"base": "base", "density": 0.5}}, {"model_stock": {"base": "base"}}]  # fmt: skip


@pytest.fixture
def files(tmp_path):
    for seed, name in enumerate(NAMES):
        rng = np.random.default_rng(seed)
        save_file(
            {k: rng.standard_normal(s).astype("float32") for k, s in SHAPES.items()}, tmp_path / f"{name}.safetensors"
        )
    return {name: str(tmp_path / f"{name}.safetensors") for name in NAMES}


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "CHUNK", 64)
    monkeypatch.setattr(blocks, "PIECE", 16)


def run(files, merge, folder, **options):
    rule = {"to": ".*", "from": [rf"{n}:\0" for n in NAMES], "merge": merge}
    return tp.transfer(
        files, files["base"], mapping={"all": rule}, folder=folder, **{"save": "o.safetensors", **options}
    )


@pytest.mark.parametrize("merge", MERGES)
def test_stretches_have_the_bits_of_the_whole(merge, files, tmp_path, monkeypatch, small_blocks):
    report = run(files, merge, tmp_path / "stretches")
    assert str(report.verdict).startswith("weights: pass") and report.compared == len(SHAPES)
    monkeypatch.setattr(Values, "parts", lambda self, name: None)
    run(files, merge, tmp_path / "whole")
    files = [tmp_path / folder / "o.safetensors" for folder in ("stretches", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_no_kernel_is_held_as_a_whole(files, tmp_path, monkeypatch):
    """Neither while it is written nor while it is proved; warnings go by what was seen then."""
    asked, whole = [], Values._assign
    monkeypatch.setattr(Values, "_assign", lambda self, a: asked.append(a.target) or whole(self, a))
    run(files, "mean", tmp_path)
    assert asked == []


@pytest.mark.parametrize("place", [0, 700, 1199])
def test_nan_in_a_source_is_found_where_it_is(place, files, tmp_path, small_blocks):
    weights = load_file(files["two"])
    weights["a/kernel"].reshape(-1)[place] = np.nan
    save_file(weights, files["two"])
    with pytest.raises(VerificationError) as caught:
        run(files, {"ties": {"base": "base", "density": 0.3}}, tmp_path)
    (problem,) = caught.value.problems
    assert problem.where.endswith("two.safetensors: a/kernel")
    assert f"at [{place // 30}, {place % 30}]" in problem.what
    assert not (tmp_path / "o.safetensors").exists()


def test_large_numbers_whose_sum_is_infinite_are_finite(files, tmp_path):
    save_file({"k": np.full((8, 8), 3e38, "float32")}, files["base"])
    for name in ("one", "two"):
        save_file({"k": np.full((8, 8), 3e38, "float32")}, files[name])
    run(files, "mean", tmp_path)
    assert (load_file(tmp_path / "o.safetensors")["k"] == np.float32(3e38)).all()
    with pytest.raises(VerificationError, match="cannot hold them"):
        run(files, {"linear": [1, 1, 1]}, tmp_path, save="p.safetensors")


def test_a_merge_that_is_damaged_on_its_way_is_found(files, tmp_path, monkeypatch, small_blocks):
    """The proof computes every stretch again, and compares each bit."""
    from transferpipe.save.writers import fill

    write_at, done = fill.write_at, []

    def damaged(descriptor, view, at):
        done.append(at)
        data = bytearray(view)
        data[0] ^= len(done) == 9
        write_at(descriptor, bytes(data), at)

    monkeypatch.setattr(fill, "write_at", damaged)
    with pytest.raises(VerificationError, match="is not the one that the plan gives"):
        run(files, "mean", tmp_path)
    assert len(done) > 9
    assert not (tmp_path / "o.safetensors").exists()
