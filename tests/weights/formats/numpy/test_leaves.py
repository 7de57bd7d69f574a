"""Arrays one after the other, as Equinox writes them."""

import ml_dtypes
import numpy as np
import pytest
from other_files import leaves

from transferpipe.errors import FileError, UnsafeError
from transferpipe.weights.formats import open_source

A = np.arange(6, dtype="float32").reshape(2, 3)


def opened(tmp_path, data):
    (tmp_path / "m.bin").write_bytes(data)
    return open_source(tmp_path / "m.bin")


def test_leaves_go_by_their_places(tmp_path):
    half = A.astype(ml_dtypes.bfloat16)
    source = opened(tmp_path, leaves(A, np.float64(0.5), np.asfortranarray(A), half, True, settings={"width": 3}))
    assert (source.format, source.details) == ("equinox", {"settings": '{"width": 3}'})
    assert [w.name for w in source.catalog] == ["0", "2", "3"]
    assert [w.name for w in source.others] == ["1", "4"]
    assert np.array_equal(source.read("2"), A)
    assert source.read("3").tobytes() == half.tobytes()
    assert source.read("3").dtype == ml_dtypes.bfloat16
    assert (source.locate("0").nbytes, source.locate("2")) == (24, None)


def test_what_equinox_writes(tmp_path):
    equinox, jax = pytest.importorskip("equinox"), pytest.importorskip("jax")
    model = equinox.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
    equinox.tree_serialise_leaves(tmp_path / "m.eqx", model)
    source = open_source(tmp_path / "m.eqx")
    found = [source.read(w.name) for w in source.catalog]
    expected = [np.asarray(x) for x in jax.tree_util.tree_leaves(model) if equinox.is_array(x)]
    assert [x.tobytes() for x in found] == [x.tobytes() for x in expected]


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (leaves(A, A)[:-1], FileError, "array 1: would end at byte 304, and the file does at byte 303"),
        (leaves(A, A) + b"x", FileError, "array 2: is not a readable npy array"),
        (leaves(A, np.array(["a"])), FileError, "array 1: holds <U1, not numbers"),
        (leaves(A, np.array([{}], object)), UnsafeError, "array 1: is a pickle among arrays"),
        (leaves(A).replace(b"(2, 3)", b"(9, 9)") + leaves(A), FileError, "needs 324"),
    ],
)
def test_damage(tmp_path, data, error, message):
    with pytest.raises(error, match=message):
        opened(tmp_path, data)
