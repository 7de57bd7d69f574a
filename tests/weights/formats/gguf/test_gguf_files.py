"""GGUF: what the package gguf computes of the same bytes, and what is made to mislead."""

import struct

import ml_dtypes
import numpy as np
import pytest
from other_files import gguf, gguf_text

from transferpipe.errors import FileError, RecipeError
from transferpipe.planning.layouts import layout_called
from transferpipe.weights.formats import open_source

RNG = np.random.default_rng(5)
A = RNG.normal(size=(3, 2)).astype("float32")


def opened(tmp_path, data):
    (tmp_path / "model.bin").write_bytes(data)
    return open_source(tmp_path / "model.bin")


def blocks(count, size):
    """Return blocks with scales that are ordinary numbers, tiny, negative and zero."""
    scales = RNG.choice(np.float16([0.5, -0.37, 6e-8, 0, 1000]), count).view(np.uint8).reshape(count, 2)
    return np.concatenate([scales, RNG.integers(0, 256, (count, size - 2), np.uint8)], axis=1)


def by_hand(kind, data):
    """Return what blocks stand for, number by number."""
    found = []
    for block in data:
        scale = float(block[:2].copy().view("<f2")[0])
        if kind == "q8_0":
            found += [scale * int(q) for q in block[2:].view(np.int8)]
        else:
            found += [scale * ((int(q) & 15) - 8) for q in block[2:]] + [scale * ((int(q) >> 4) - 8) for q in block[2:]]
    return np.float32(found)


@pytest.mark.parametrize(("kind", "size"), [("q8_0", 34), ("q4_0", 18)])
def test_blocks_stand_for_exact_numbers(tmp_path, kind, size):
    data = blocks(12, size)
    source = opened(tmp_path, gguf({"blk.0.attn_q.weight": (kind, (4, 96), data.tobytes())}))
    value = source.read("blk/0/attn_q/weight")
    assert value.tobytes() == by_hand(kind, data).reshape(4, 96).tobytes()
    assert source.locate("blk/0/attn_q/weight") is None
    quants = pytest.importorskip("gguf.quants")
    kinds = pytest.importorskip("gguf").GGMLQuantizationType
    assert np.array_equal(value.ravel(), quants.dequantize(data, kinds[kind.upper()]).ravel())


def test_numbers_as_they_are_axes_and_facts(tmp_path):
    tensors = {
        "a.weight": A,
        "b.weight": A.astype(ml_dtypes.bfloat16),
        "c.bias": A[0].astype("float16"),
        "d": np.int32(A),
    }
    facts = [
        ("general.architecture", "llama"),
        ("general.name", "Tiny"),
        ("tokenizer.ggml.tokens", ["a", "bc"]),
        ("n", 3),
    ]
    source = opened(tmp_path, gguf(tensors, facts))
    for name, value in tensors.items():
        read = source.read(name.replace(".", "/"))
        assert (read.dtype, read.shape, read.tobytes()) == (value.dtype, value.shape, value.tobytes())
    assert source.details == {
        "architecture": "llama", "called": "Tiny", "stored as": "float32 (1), bfloat16 (1), float16 (1), int32 (1)",
    }  # fmt: skip
    assert source.locate("a/weight").nbytes == 24
    assert "gguf" in layout_called("torch").formats


def test_a_kind_that_is_not_read_is_listed_and_named_where_a_rule_wants_it(tmp_path):
    import transferpipe as tp

    source = opened(tmp_path, gguf({"a.weight": A, "b.weight": ("q6_k", (1, 256), bytes(210))}))
    assert [(u.name, u.reason) for u in source.catalog.unreadable] == [("b/weight", "is Q6_K, which is not read")]
    np.savez(tmp_path / "t.npz", **{"b.weight": np.zeros((1, 256), "f4")})
    with pytest.raises(RecipeError, match=r"b/weight.*is Q6_K, which is not read"):
        tp.plan(str(tmp_path / "model.bin"), str(tmp_path / "t.npz"), mapping={"b": {"to": "b/weight"}})
    with pytest.raises(FileError, match="holds no tensors that can be read: they are Q6_K"):
        opened(tmp_path, gguf({"b.weight": ("q6_k", (1, 256), bytes(210))}))


TWO = {"a": A, "b": A}
HEAD = b"GGUF" + struct.pack("<I", 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gguf(TWO, offsets=[0, 0]), "'b' lies over 'a'"),
        (gguf(TWO, offsets=[0, 20]), "'b' lies over 'a'"),
        (gguf(TWO, offsets=[0, 1 << 62]), r"'b' would end at byte 4,611,686,018,427,38.*"),
        (gguf({"a": ("float32", (1 << 40, 1 << 40), b"")}), "would end at byte"),
        (gguf({"a": ("q8_0", (2, 33), bytes(68))}), r"'a' of shape \(2, 33\) is not made of blocks of 32"),
        (gguf({"a": ("float32", (1,) * 9, bytes(4))}), "has 9 axes"),
        (gguf({"a": A}, version=1), "is of version 1, not of 2 or 3"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(64), "version 3 with its highest bytes first"),
        (HEAD + struct.pack("<QQ", 1 << 60, 0), "declares 1,152,921,504,606,846,976 tensors"),
        (HEAD + struct.pack("<QQ", 0, 1) + struct.pack("<Q", 1 << 50), "begins something of 1,125,899,906,842,624 bytes"),
        (HEAD + struct.pack("<QQ", 0, 1) + gguf_text("t") + struct.pack("<IIQ", 9, 8, 1 << 40), "has a list of 1,099,511,627,776"),
        (HEAD + struct.pack("<QQ", 0, 1) + gguf_text("t") + struct.pack("<IIQ", 9, 4, 1 << 61), "begins something of"),
        (HEAD + struct.pack("<QQ", 0, 1) + gguf_text("t") + struct.pack("<I", 99), "unknown type 99"),
        (gguf({"a": A}, [("n", 1), ("n", 2)]), "has the fact 'n' twice"),
        (gguf({"a": A}, [("general.alignment", 0)]), "multiples of 0"),
        (gguf({"a": A})[:40], "begins something of|ends at byte"),
        (gguf({}), "has no tensors"),
    ],
)  # fmt: skip
def test_what_is_made_to_mislead_is_refused(tmp_path, data, message):
    with pytest.raises(FileError, match=message):
        opened(tmp_path, data)


def test_a_name_that_is_there_twice(tmp_path):
    data = gguf(TWO).replace(gguf_text("b"), gguf_text("a"))
    with pytest.raises(FileError, match="two tensors are called 'a'"):
        opened(tmp_path, data)
