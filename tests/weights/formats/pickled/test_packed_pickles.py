"""Pickles packed as a whole, and those of joblib, against what wrote them."""

import bz2
import gzip
import lzma
import os
import pickle
import zlib

import numpy as np
import pytest

from transferpipe.errors import FileError, UnsafeError
from transferpipe.weights.formats import open_source
from transferpipe.weights.formats.pickled import packed

RANDOM = np.random.default_rng(3)
TREE = {
    "w": RANDOM.normal(size=(50, 40)).astype("float32"),
    "fortran": np.asfortranarray(RANDOM.normal(size=(5, 4))),
    "big": RANDOM.normal(size=7).astype(">f4"),
    "words": np.array(["a", "bcd"]),
    "objects": np.array([RANDOM.normal(size=(2, 3)), {"q": np.arange(3)}], object),
    "list": [np.arange(4), 3.0],
    "scalar": np.float32(2),
    "empty": np.zeros((0, 3)),
    "flags": np.array([True, False]),
}
WANTED = {
    **{name: TREE[name] for name in ("w", "fortran", "big", "scalar", "empty", "flags")},
    "objects/0": TREE["objects"][0],
    "objects/1/q": TREE["objects"][1]["q"],
    "list/0": TREE["list"][0],
}
PACKERS = {"gzip": gzip.compress, "zlib": zlib.compress, "bz2": bz2.compress, "xz": lzma.compress,
           "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE)}  # fmt: skip


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("owned",)


def check(path):
    source = open_source(path)
    assert (source.format, {w.name for w in source.catalog}) == ("pickle", set(WANTED))
    for name, value in WANTED.items():
        read = source.read(name)
        assert (read.dtype, read.shape) == (value.dtype.newbyteorder("="), value.shape), name
        assert np.array_equal(read, value), name
    return source


@pytest.mark.parametrize("how", PACKERS)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_packed_pickles(tmp_path, how, protocol):
    (tmp_path / "x").write_bytes(PACKERS[how](pickle.dumps(TREE, protocol)))
    assert check(tmp_path / "x").locate("w") is None


def test_packed_parts_one_after_the_other(tmp_path):
    data = pickle.dumps(TREE)
    (tmp_path / "x").write_bytes(gzip.compress(data[:999]) + gzip.compress(data[999:]))
    check(tmp_path / "x")


@pytest.mark.parametrize("compress", [0, *((how, 3) for how in ("zlib", "gzip", "bz2", "lzma", "xz"))])
def test_files_of_joblib(tmp_path, compress):
    joblib = pytest.importorskip("joblib")
    joblib.dump(TREE, tmp_path / "x", compress=compress)
    assert (check(tmp_path / "x").locate("w") is None) == bool(compress)


def test_an_estimator_in_a_file_of_joblib(tmp_path):
    joblib, sklearn = pytest.importorskip("joblib"), pytest.importorskip("sklearn.neural_network")
    made = sklearn.MLPClassifier((3,), max_iter=2).fit(RANDOM.normal(size=(20, 4)), [0, 1] * 10)
    joblib.dump(made, tmp_path / "x")
    source = open_source(tmp_path / "x")
    assert np.array_equal(source.read("coefs_/0"), made.coefs_[0])
    assert np.array_equal(source.read("intercepts_/1"), made.intercepts_[1])


@pytest.mark.parametrize("how", PACKERS)
def test_cut_off_it_is_damaged(tmp_path, how):
    data = PACKERS[how](pickle.dumps(TREE))
    (tmp_path / "x").write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(FileError, match=r"cannot be unpacked|of no known format|packed"):
        open_source(tmp_path / "x")


@pytest.mark.parametrize("how", PACKERS)
def test_nothing_runs(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").write_bytes(PACKERS[how](pickle.dumps([TREE["w"], Bomb()])))
    with pytest.raises(UnsafeError, match="nothing of it was executed"):
        open_source(tmp_path / "x")
    assert not (tmp_path / "owned").exists()


@pytest.mark.follows("unpack: save it again without")
def test_what_unpacks_to_very_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "_MOST_UNPACKED", 1000)
    zeros = pickle.dumps([np.zeros(100_000)])
    (tmp_path / "x").write_bytes(gzip.compress(zeros))
    with pytest.raises(UnsafeError, match=r"unpacks to more than .* -> save it again without compression"):
        open_source(tmp_path / "x")
    (tmp_path / "x").write_bytes(zeros)
    assert open_source(tmp_path / "x").read("0").shape == (100_000,)


def test_joblib_arrays_that_claim_more_than_there_is(tmp_path):
    joblib = pytest.importorskip("joblib")
    joblib.dump({"a": TREE["w"]}, tmp_path / "x", protocol=2)
    data = (tmp_path / "x").read_bytes()
    assert b"K2K(\x86" in data  # the shape
    (tmp_path / "x").write_bytes(data.replace(b"K2K(\x86", b"\x8a\x081111111\x01K(\x86"))
    with pytest.raises(FileError, match=r"wants .* bytes at byte|shape is unknown"):
        open_source(tmp_path / "x")
