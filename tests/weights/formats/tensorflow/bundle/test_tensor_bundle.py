"""The reader of tensor bundles against bundles made by hand, sound and broken."""

import os
import time

import ml_dtypes
import numpy as np
import pytest
import tf_bundles as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from transferpipe.errors import FileError, UnsafeError
from transferpipe.weights.formats import open_source
from transferpipe.weights.formats.tensorflow.bundle.entry import NUMBERS, slice_key
from transferpipe.weights.spec import numpy_dtype


@pytest.fixture
def prefix(tmp_path):
    return tmp_path / "ckpt-1"


def two():
    """Return a checkpoint of two variables of TensorFlow 1."""
    return (
        tf.Checkpoint()
        .add("a/w", np.arange(6, dtype="float32").reshape(2, 3))
        .add("a/b", np.array([1.5, -2.0], "float32"))
    )


def refused(prefix, *words, error=FileError):
    started = time.perf_counter()
    with pytest.raises(error) as caught:
        open_source(prefix)
    assert time.perf_counter() - started < 2
    for word in words:
        assert word in str(caught.value)
    assert "->" in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(NUMBERS.values())))
def test_every_dtype_comes_back_bit_for_bit(prefix, name):
    dtype = numpy_dtype(name)
    raw = np.random.default_rng(0).integers(0, 256, 6 * dtype.itemsize, dtype=np.uint8)
    value = (raw[:6] % 2 == 1 if name == "bool" else raw.view(dtype)).reshape(2, 3)
    source = open_source(tf.Checkpoint().add("x", value).write(prefix))
    (weight,) = source.catalog
    assert (weight.name, weight.shape, weight.dtype) == ("x", (2, 3), name)
    assert source.read("x").dtype == dtype
    assert source.read("x").tobytes() == value.tobytes()
    segment = source.locate("x")
    if name == "bool":
        assert segment is None
    else:
        assert segment.path.read_bytes()[segment.offset : segment.offset + segment.nbytes] == value.tobytes()


@settings(deadline=None, max_examples=25)
@given(st.dictionaries(st.text("ab/", min_size=1, max_size=40), st.integers(0, 300), max_size=40), st.integers(1, 9))
def test_any_names_in_any_blocks(tmp_path_factory, sizes, per_block):
    checkpoint = tf.Checkpoint([b"", b""])
    for i, (name, size) in enumerate(sizes.items()):
        checkpoint.add(f"v/{name}/end", np.full(size, i, "int16"), shard=i % 2)
    source = open_source(checkpoint.write(tmp_path_factory.mktemp("c") / "x", per_block=per_block))
    assert {w.name: w.shape for w in source.catalog} == {f"v/{n}/end": (s,) for n, s in sizes.items()}
    for i, name in enumerate(sizes):
        assert (source.read(f"v/{name}/end") == i).all()


def test_a_tensor_in_pieces_is_put_together(prefix):
    value = np.arange(60, dtype="float32").reshape(5, 12)
    pieces = [((0, None), (0, 5)), ((0, None), (5, 4)), ((0, None), (9, 3))]
    source = open_source(tf.Checkpoint().cut("emb", value, pieces).write(prefix))
    assert [w.name for w in source.catalog] == ["emb"]
    assert np.array_equal(source.read("emb"), value)
    assert source.locate("emb") is None


@pytest.mark.parametrize(
    ("pieces", "word"),
    [
        ([((0, 2), (0, None)), ((3, 2), (0, None))], "do not cover"),
        ([((0, 3), (0, None)), ((2, 3), (0, None))], "do not cover"),
        ([((0, 2), (0, 2)), ((2, 3), (2, 2))], "along 2 axes"),
        ([((0, 3), (0, None))], "do not cover"),
    ],
)
def test_pieces_that_do_not_fit(prefix, pieces, word):
    value = np.zeros((5, 4), "float32")
    tf.Checkpoint().cut("emb", value, pieces).write(prefix)
    refused(prefix, "emb", word)


def test_a_piece_is_missing(prefix):
    checkpoint = tf.Checkpoint().cut("emb", np.zeros((4, 2), "float32"), [((0, 2), (0, None)), ((2, 2), (0, None))])
    del checkpoint.entries[slice_key("emb", ((2, 2), (0, None)))]
    checkpoint.write(prefix)
    refused(prefix, "one of them is missing")


def test_texts_and_objects_are_named_and_not_read(prefix):
    checkpoint = two().add("vocabulary", "some words")
    checkpoint.entries[b"object"] = tf.entry_of(21, (), len(checkpoint.shards[0]), 3)
    checkpoint.shards[0] += b"abc"
    source = open_source(checkpoint.write(prefix))
    assert [w.name for w in source.catalog] == ["a/b", "a/w"]
    assert source.details["not numbers, so not read"] == "object, vocabulary"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 20}, ["lies in 20 bytes", "needs 24"]),
        ({"shape": (2, 4)}, ["lies in 24 bytes", "needs 32"]),
        ({"shape": (1 << 40, 1 << 40)}, ["impossible shape"]),
        ({"shape": (1,) * 33}, ["more than 32 axes"]),
        ({"shape": ((1 << 64) - 1,)}, ["where a size belongs"]),
        ({"offset": 1 << 60}, ["lies at bytes", "which has"]),
        ({"offset": (1 << 64) - 8}, ["where a size belongs"]),
        ({"shape": (1 << 30, 1 << 30), "size": 1 << 62}, ["lies at bytes"]),
    ],
)
def test_an_entry_that_says_something_impossible(prefix, change, words):
    two().add("c", np.zeros((2, 3), "float32"), **change).write(prefix)
    refused(prefix, *words)


def test_a_shard_beyond_the_last(prefix):
    checkpoint = two()
    checkpoint.entries[b"c"] = tf.entry_of(1, (2,), 0, 8, shard=7)
    checkpoint.write(prefix)
    refused(prefix, "shard 7", "there are 1")


def test_values_that_overlap(prefix):
    two().add("c", np.zeros(2, "float32"), offset=20).write(prefix)
    refused(prefix, "overlaps")


def test_a_key_twice(prefix):
    entries = [(b"", tf.message((1, 1))), (b"a", tf.entry_of(1, (0,))), (b"a", tf.entry_of(1, (0,)))]
    two().write(prefix)
    for per_block in (1, 3):
        prefix.with_name("ckpt-1.index").write_bytes(tf.table(entries, per_block=per_block))
        refused(prefix, "twice")


def test_big_endian_values(prefix):
    checkpoint = two()
    checkpoint.header = tf.message((1, 1), (2, 1))
    checkpoint.write(prefix)
    refused(prefix, "big-endian")


@pytest.mark.parametrize("kind", [1, 4])
def test_packed_blocks_are_of_the_old_kind(prefix, kind):
    two().write(prefix, kind=kind)
    refused(prefix, "packed", "numpy.savez")


def test_the_old_kind_is_recognised_by_its_first_entry(tmp_path):
    path = tmp_path / "model.ckpt"
    path.write_bytes(tf.table([(b"", tf.field_of(1, tf.field_of(1, b"x"))), (b"\0a", b"")]))
    refused(path, "V1", "numpy.savez")


def test_a_missing_shard_is_named(prefix):
    checkpoint = tf.Checkpoint([b"", b""]).add("a", np.ones(2)).add("b", np.ones(2), shard=1)
    checkpoint.write(prefix)
    prefix.with_name("ckpt-1.data-00001-of-00002").unlink()
    refused(prefix, "ckpt-1.data-00001-of-00002", "missing")


def test_a_cut_shard(prefix):
    two().write(prefix)
    shard = prefix.with_name("ckpt-1.data-00000-of-00001")
    shard.write_bytes(shard.read_bytes()[:-1])
    refused(prefix, "a/b", "which has 31")


def test_a_shard_that_is_a_link_out_of_the_folder(prefix, tmp_path):
    two().write(prefix)
    shard = prefix.with_name("ckpt-1.data-00000-of-00001")
    elsewhere = tmp_path / "deep" / "secret"
    elsewhere.parent.mkdir()
    shard.rename(elsewhere)
    shard.symlink_to(elsewhere)
    refused(prefix, "link out of its folder", error=UnsafeError)
    shard.unlink()
    elsewhere.rename(tmp_path / "beside")
    shard.symlink_to("beside")
    assert len(open_source(prefix).catalog) == 2


def test_a_shard_that_is_no_file(prefix):
    two().write(prefix)
    shard = prefix.with_name("ckpt-1.data-00000-of-00001")
    shard.unlink()
    os.mkfifo(shard)
    refused(prefix, "not an ordinary file")


@pytest.mark.parametrize("step", [1, 7])
def test_an_index_cut_or_changed_anywhere_is_refused_or_changes_nothing(prefix, step):
    two().write(prefix)
    index = prefix.with_name("ckpt-1.index")
    sound = index.read_bytes()
    for at in range(0, len(sound), step):
        for broken in (sound[:at], sound[:at] + bytes([sound[at] ^ 1 << at % 8]) + sound[at + 1 :]):
            index.write_bytes(broken)
            try:
                source = open_source(prefix, "tf_checkpoint")
            except FileError:
                continue
            assert [(w.name, w.shape) for w in source.catalog] == [("a/b", (2,)), ("a/w", (2, 3))]
            assert len(broken) == len(sound)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xff\xff\x7f",
        tf.varint(0) + tf.varint(1 << 40) + tf.varint(0) + b"\0\0\0\0",
        tf.varint(5) + tf.varint(0) + tf.varint(0) + b"\0\0\0\0",
        b"\xff" * 11 + b"\0\0\0\0",
        b"\x80\0\0\0",
    ],
)
def test_blocks_of_nonsense(prefix, content):
    two().write(prefix)
    prefix.with_name("ckpt-1.index").write_bytes(tf.table([(b"x", b"")], blocks=[content]))
    refused(prefix, "ckpt-1.index")


def test_keys_that_would_fill_the_memory(prefix):
    long = b"a" * 60_000
    entries = [tf.varint(0) + tf.varint(len(long)) + tf.varint(0) + long]
    entries += [tf.varint(len(long)) + tf.varint(4) + tf.varint(0) + i.to_bytes(4, "big") for i in range(100_000)]
    content = b"".join(entries) + (0).to_bytes(4, "little")
    two().write(prefix)
    prefix.with_name("ckpt-1.index").write_bytes(tf.table([(b"x", b"")], blocks=[content]))
    refused(prefix, "ckpt-1.index")


def test_a_changed_value_is_noticed(prefix):
    two().write(prefix)
    shard = prefix.with_name("ckpt-1.data-00000-of-00001")
    data = bytearray(shard.read_bytes())
    data[3] ^= 1
    shard.write_bytes(data)
    source = open_source(prefix)
    assert source.read("a/b")[0] == 1.5
    for reads in (source.read, source.locate):
        with pytest.raises(FileError, match="CRC-32C"):
            reads("a/w")


@pytest.mark.parametrize("entry", ["a/w", "a/b"])
def test_every_flipped_bit_of_every_value_is_noticed(prefix, entry):
    two().write(prefix)
    shard = prefix.with_name("ckpt-1.data-00000-of-00001")
    whole, refused = shard.read_bytes(), set()
    for bit in range(8 * len(whole)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        shard.write_bytes(data)
        source = open_source(prefix)
        try:
            source.locate(entry)
        except FileError:
            refused.add(bit // 8)
    assert len(refused) == source.catalog[entry].nbytes


def test_a_file_that_changes_after_opening(prefix):
    source = open_source(two().write(prefix))
    shard = prefix.with_name("ckpt-1.data-00000-of-00001")
    os.utime(shard, ns=(1, 1))
    with pytest.raises(FileError, match="changed"):
        source.read("a/w")


def test_bfloat16_is_read_as_itself(prefix):
    value = np.array([1.5, -3.0], ml_dtypes.bfloat16)
    source = open_source(tf.Checkpoint().add("x", value).write(prefix))
    assert np.array_equal(source.read("x"), value)
