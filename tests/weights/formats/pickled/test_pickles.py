"""Pickles of arrays: every protocol of Python 2 and 3, and nothing that runs."""

import collections
import os
import pickle

import ml_dtypes
import numpy as np
import pytest
from torch_files import Call, Named, Raw, pickled

from transferpipe.errors import FileError, UnsafeError
from transferpipe.weights.formats import open_source

A = np.random.default_rng(6).normal(size=(20, 30)).astype("float32")
ARRAYS = {
    "plain": A,
    "fortran": np.asfortranarray(A),
    "big_endian": A.astype(">f4"),
    "big_complex": (A[:2] + 1j).astype(">c8"),
    "bfloat16": A.astype(ml_dtypes.bfloat16),
    "view": A[::2],
    "flags": A > 0,
    "empty": A[:0],
    "scalar": np.float32(3),
}


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("owned",)


def write(path, data):
    path.write_bytes(data)
    return open_source(path)


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol(tmp_path, protocol):
    tree = {**ARRAYS, "n": 3, "words": np.array(["a"]), "deep": collections.OrderedDict(x=[A[:1], (A[:2], None)])}
    tree["objects"] = np.array([A[:3], {"y": A[:4]}], object)
    source = write(tmp_path / "x", pickle.dumps(tree, protocol))
    assert source.format == "pickle"
    for name, value in {
        **ARRAYS,
        "deep/x/0": A[:1],
        "deep/x/1/0": A[:2],
        "objects/0": A[:3],
        "objects/1/y": A[:4],
    }.items():
        read = source.read(name)
        assert (read.dtype, read.shape) == (value.dtype.newbyteorder("="), value.shape), name
        assert np.array_equal(read, value), name
    assert len(source.catalog) == len(ARRAYS) + 4
    assert source.details == {"not tensors": "n, words"}
    assert (source.locate("plain") is None) == (protocol < 3)  # where it is text


def python_2(opcode):
    """Return what Python 2's pickle of a list with an array is, the bytes of it by an opcode."""
    state = (1, (2, 3), Call(Named("numpy", "dtype"), (Raw(b"U\x02f4"), 0, 1)), False, Raw(opcode))
    made = Call(Named("numpy.core.multiarray", "_reconstruct"), (Named("numpy", "ndarray"), (0,), Raw(b"U\x01b")))
    return pickled([Raw(pickled(made)[2:-1] + pickled(state)[2:-1] + b"b")])


@pytest.mark.parametrize("long", [False, True])
def test_bytes_of_python_2(tmp_path, long):
    value = np.float32([[-1, 2, 3], [4, 5, 6]])
    data = value.tobytes()
    escaped = b"S'" + b"".join(b"\\x%02x" % byte for byte in data) + b"'\n"
    source = write(tmp_path / "x", python_2(b"T\x18\0\0\0" + data if long else escaped))
    assert source.read("0").tobytes() == data


def test_a_training_state_is_selected_as_in_a_checkpoint(tmp_path):
    data = pickle.dumps({"model": {"d.kernel": A}, "optimizer": {"m": A}})
    source = write(tmp_path / "x", data)
    assert ([w.name for w in source.catalog], source.select) == (["d/kernel"], "model")
    assert [w.name for w in open_source(tmp_path / "x", None, "optimizer").catalog] == ["m"]


def test_flax_variables_are_not_parted(tmp_path):
    data = pickle.dumps({"params": {"n": {"scale": A}}, "batch_stats": {"n": {"mean": A}}})
    assert [w.name for w in write(tmp_path / "x", data).catalog] == ["params/n/scale", "batch_stats/n/mean"]


def test_several_pickles_in_one_file(tmp_path):
    source = write(tmp_path / "x", pickle.dumps(A) + pickle.dumps({"b": A[0]}))
    assert [w.name for w in source.catalog] == ["0", "1/b"]
    assert np.array_equal(source.read("1/b"), A[0])
    with pytest.raises(FileError, match="the pickle is damaged"):
        write(tmp_path / "x", pickle.dumps(A) + b"more")


def test_parameters_of_paddle(tmp_path):
    pair = pickled({"w": Call(Named("builtins", "tuple"), (("linear_0.w_0", Raw(pickle.dumps(A, 2)[2:-1])),))})
    assert write(tmp_path / "x", pair).read("w").tobytes() == A.tobytes()


def test_arrays_of_jax(tmp_path):
    jax = pytest.importorskip("jax.numpy")
    assert np.array_equal(write(tmp_path / "x", pickle.dumps([jax.asarray(A)])).read("0"), A)


@pytest.mark.parametrize("packing", [np.savez, np.savez_compressed])
def test_arrays_of_objects_in_npz(tmp_path, packing):
    with (tmp_path / "x").open("wb") as file:
        packing(file, plain=A, params=np.array({"conv1": [A, A[0]]}, object))
    source = open_source(tmp_path / "x")
    assert [w.name for w in source.catalog] == ["plain", "params/conv1/0", "params/conv1/1"]
    assert np.array_equal(source.read("params/conv1/1"), A[0])


def test_arrays_of_objects_in_npy(tmp_path):
    np.save(tmp_path / "x.npy", {"conv1": [A, A[0]]}, allow_pickle=True)
    source = open_source(tmp_path / "x.npy")
    assert (source.format, [w.name for w in source.catalog]) == ("npy", ["conv1/0", "conv1/1"])
    assert np.array_equal(source.read("conv1/0"), A)


@pytest.mark.follows("_source: name it: path: …")
def test_arrays_of_objects_in_a_folder_are_named_themselves(tmp_path):
    np.save(tmp_path / "x.npy", np.array([A, A[0]], object), allow_pickle=True)
    with pytest.raises(
        UnsafeError, match=r"x.npy: is an array of objects, which is read only where it is named itself"
    ) as error:
        open_source(tmp_path)
    path = error.value.problems[0].fix.removeprefix("name it: path: ")
    assert len(open_source(tmp_path / path).catalog) == 2


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_runs(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([A, Bomb()], protocol))
    np.save(tmp_path / "x.npy", np.array([A, Bomb()], object), allow_pickle=True)
    np.savez(tmp_path / "x.npz", a=np.array([Bomb(), A], object))
    for name in ("x.pkl", "x.npy", "x.npz"):
        with pytest.raises(
            UnsafeError, match=r"names '(posix|nt).mkdir'.*nothing of it was executed -> save only the arrays"
        ):
            open_source(tmp_path / name)
    assert not (tmp_path / "owned").exists()


def state(*values):
    made = Call(Named("numpy.core.multiarray", "_reconstruct"), ())
    return pickled([Raw(pickled(made)[2:-1] + pickled(values)[2:-1] + b"b")])


F4 = Call(Named("numpy", "dtype"), ("f4", False, True))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (state(1, (5,), F4, False, bytes(16)), r"16 bytes for an array of shape \(5,\) of float32"),
        (state(1, (1 << 61, 1 << 61), F4, False, bytes(16)), "16 bytes for an array"),
        (state(1, (-1,), F4, False, bytes(16)), "impossible shape"),
        (state(1, (1,) * 40, F4, False, bytes(4)), "without a shape or a dtype"),
        (state(1, (4,), "f4", False, bytes(16)), "without a shape or a dtype"),
        (state(1, (4,), F4, False, [1.0]), "values are of type list"),
        (state(1, (4,), Call(Named("numpy", "dtype"), ("O8", False, True)), False, [1]), "objects without them"),
        (state(1, (4,)), "without a shape, a dtype and values"),
        (pickled(Call(Named("numpy.core.numeric", "_frombuffer"), (b"1",))), "without a buffer"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00.", "wants 1,099,511,627,775 bytes"),
        (b"\x80\x02}q\x00.", "is a Python pickle with no arrays in it"),
        (pickled({"a": Call(Named("joblib.numpy_pickle", "NDArrayWrapper"), ())}), "was written by joblib"),
    ],
)  # fmt: skip
def test_what_is_made_to_mislead_is_refused(tmp_path, data, message):
    with pytest.raises(FileError, match=message):
        write(tmp_path / "x", data)


def test_a_dtype_that_is_no_number_is_listed(tmp_path):
    fields = np.zeros(2, "V3")
    source = write(tmp_path / "x", pickle.dumps({"a": A, "b": fields}))
    assert [u.name for u in source.catalog.unreadable] == ["b"]
