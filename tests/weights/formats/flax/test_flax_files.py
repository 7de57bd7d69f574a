"""Flax's files: what Flax wrote, and what is made to mislead."""

import struct

import ml_dtypes
import numpy as np
import pytest
from other_files import Chunked, extension, packed

from transferpipe.errors import FileError, UnsafeError
from transferpipe.weights.formats import open_source

KERNEL = np.arange(12, dtype="float32").reshape(3, 4)
TREE = {
    "params": {
        "Dense_0": {"kernel": KERNEL, "bias": np.arange(4).astype(ml_dtypes.bfloat16)},
        "table": Chunked(KERNEL.astype("float16"), 5),
        "scale": np.float32(3),
    },
    "opt_state": {"0": {"mu": KERNEL}},
    "step": 3,
    "turn": 1 + 2j,
    "count": np.int32(7),
}


def write(path, tree=None, data=None):
    path.write_bytes(packed(tree) if data is None else data)
    return open_source(path)


def test_arrays_scalars_chunks_and_what_is_beside(tmp_path):
    source = write(tmp_path / "model.bin", TREE)
    values = {w.name: source.read(w.name) for w in source.catalog}
    assert source.format == "flax"
    assert list(values) == ["params/Dense_0/kernel", "params/Dense_0/bias", "params/table", "params/scale"]
    assert values["params/Dense_0/bias"].dtype == ml_dtypes.bfloat16
    assert values["params/table"].tobytes() == KERNEL.astype("float16").tobytes()
    assert values["params/scale"] == 3
    assert [s.name for s in source.others] == ["opt_state/0/mu", "count"]
    assert source.details == {"not arrays": "step, turn"}
    assert source.locate("params/table") is None
    assert source.locate("params/Dense_0/kernel").nbytes == 48


def test_what_flax_writes(tmp_path):
    serialization = pytest.importorskip("flax.serialization")
    expected = serialization.msgpack_restore(packed(TREE))  # our hand is Flax's own
    assert expected["params"]["table"].shape == (3, 4)
    tree = {"params": {"a": KERNEL, "b": [np.ones(2), {}]}, "batch_stats": {"a": {"mean": np.zeros(3)}}}
    source = write(tmp_path / "m.msgpack", data=serialization.to_bytes(tree))
    assert [w.name for w in source.catalog] == ["params/a", "params/b/0", "batch_stats/a/mean"]
    assert source.read("params/a").tobytes() == KERNEL.tobytes()


def test_names_with_dots_of_a_flat_tree(tmp_path):
    assert [w.name for w in write(tmp_path / "m", {"d.kernel": KERNEL}).catalog] == ["d/kernel"]


def test_a_dtype_that_numpy_lacks_is_listed(tmp_path):
    odd = extension(1, packed(((2,), "int4x", b"12")))
    source = write(tmp_path / "m", data=b"\x82" + packed("a") + packed(KERNEL) + packed("b") + odd)
    assert [(u.name, u.reason) for u in source.catalog.unreadable] == [("b", "is int4x, which NumPy does not have")]


def array(shape, dtype="float32", values=bytes(16)):
    return b"\x81" + packed("a") + extension(1, packed((shape, dtype, values)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (array((5,)), r"has 16 bytes, but shape \(5,\) of float32 needs 20"),
        (array((1 << 60, 1 << 60)), "needs 5,316,911,983,139,663,491,615,228,241,121,378,304"),
        (array((-4,)), "something else where a size belongs"),
        (array((1,) * 40), "has no shape"),
        (array((4,)) + b"\xc0", "its items end at byte"),
        (b"\x82" + packed("a") + packed(KERNEL), "it ends at byte"),
        (b"\x81" + packed("a") + b"\xdf\xff\xff\xff\xff", "begins something of 8,589,934,590 bytes"),
        (b"\x81" + packed("a") + b"\xc9\xff\xff\xff\xff\x01", "begins something of 4,294,967,295 bytes"),
        (b"\x81" + packed("a") + extension(1, packed(((4,), "float32"))), "three parts of an array"),
        (b"\x81" + packed("a") + extension(1, packed(((4,), "float32", bytes(16))) + b"\xc0"), "does not end with its values"),
        (b"\x81" + packed("a") + b"\x81\x01\xc0", "where a short text belongs"),
        (b"\x81" + packed("a") * 1 + (b"\x81" + packed("a")) * 120 + b"\xc0", "more than 100 deep"),
        (packed({"a": {"b": 1}}), "without an array of Flax"),
        (packed({"t": {"x": 1, "a": None}}), "without an array of Flax"),
    ],
)  # fmt: skip
def test_what_is_made_to_mislead_is_refused(tmp_path, data, message):
    (tmp_path / "m").write_bytes(data)
    with pytest.raises(FileError, match=message):
        open_source(tmp_path / "m", "flax")


@pytest.mark.parametrize("change", [{"shape": (4, 4)}, {"chunks": []}, {"mixed": True}])
def test_chunks_that_do_not_make_up_the_array(tmp_path, change):
    parts = [np.zeros(6, "float32"), np.zeros(6, "int32" if "mixed" in change else "float32")]
    tree = {
        "__msgpack_chunked_array__": True,
        "shape": {str(k): n for k, n in enumerate(change.get("shape", (3, 4)))},
        "chunks": {str(k): v for k, v in enumerate(change.get("chunks", parts))},
    }
    with pytest.raises(FileError, match=r"a has chunks of \d+ values for the shape"):
        write(tmp_path / "m", {"a": tree})


def test_a_key_that_is_there_twice(tmp_path):
    with pytest.raises(UnsafeError, match="has the key 'a' twice"):
        write(tmp_path / "m", data=b"\x82" + 2 * (packed("a") + packed(KERNEL)))


def test_chunks_with_two_shapes(tmp_path):
    """The second one was added to the first as more axes."""
    shape, chunks = packed("shape") + packed({"0": 4}), packed("chunks") + packed({"0": np.zeros(4, "f4")})
    mark = packed("__msgpack_chunked_array__") + packed(True)
    with pytest.raises(UnsafeError, match="has the key 'shape' twice"):
        write(tmp_path / "m", data=b"\x81" + packed("a") + b"\x84" + mark + 2 * shape + chunks)


def test_opening_reads_no_values(tmp_path):
    path = tmp_path / "m"
    with path.open("wb") as file:  # four gigabytes of nothing
        size = (1 << 32) - 64
        inner = (
            packed((size,))[:0]
            + b"\x93\x91"
            + b"\xd3"
            + struct.pack(">q", size)
            + packed("uint8")
            + b"\xc6"
            + struct.pack(">I", size)
        )
        file.write(b"\x81" + packed("a") + b"\xc9" + struct.pack(">I", len(inner) + size) + b"\x01" + inner)
        file.truncate(file.tell() + size)
    assert open_source(path).catalog["a"].shape == (size,)
