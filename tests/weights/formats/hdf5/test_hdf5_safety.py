"""Hostile and odd HDF5 files: what is refused before anything is allocated, and what must still be read."""

import os
import tracemalloc
import zlib

import h5py
import ml_dtypes
import numpy as np
import pytest

from transferpipe.errors import FileError, UnsafeError
from transferpipe.weights.formats import open_source
from transferpipe.weights.formats.hdf5 import dataset as hdf5_dataset
from transferpipe.weights.formats.hdf5.file import open_hdf5, read_dataset, read_strings, walk_datasets


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.h5"


def names_in(path):
    with open_hdf5(path, "label") as file:
        return [name for name, _ in walk_datasets(file, "label")]


def only_value(path):
    with open_hdf5(path, "label") as file:
        [(_, dataset)] = walk_datasets(file, "label")
        return dataset.dtype, read_dataset(dataset, "label")


def test_walk_yields_datasets_of_all_groups_in_file_order(path):
    with h5py.File(path, "w", track_order=True) as file:
        file.create_group("z", track_order=True)["b"] = [1.0]
        file["z/a"] = [1.0]
        file["a/deep/er"] = 2.0
        file.create_group("empty")
    assert names_in(path) == ["z/b", "z/a", "a/deep/er"]


def test_walk_of_a_group_gives_paths_relative_to_it(path):
    with h5py.File(path, "w") as file:
        file["a/b/c"] = [1]
    with open_hdf5(path, "label") as file:
        assert [name for name, _ in walk_datasets(file["a"], "label")] == ["b/c"]


@pytest.mark.parametrize(
    "value",
    [
        np.float32(2.5),
        np.zeros((0, 3)),
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.array([True, False]),
        np.float16([1]),
    ],
    ids=["scalar", "empty", "big-endian", "bool", "float16"],
)
def test_ordinary_values_come_back_in_native_order(path, value):
    with h5py.File(path, "w") as file:
        file["x"] = value
    dtype, found = only_value(path)
    assert dtype == value.dtype.name
    assert found.shape == value.shape
    assert found.dtype == value.dtype.newbyteorder("=")
    assert np.array_equal(found, value)


@pytest.mark.parametrize("note", [True, False])
@pytest.mark.parametrize("shape", [(), (3,), (0,)])
def test_bfloat16_with_and_without_the_note(path, note, shape):
    value = np.full(shape, 1.5, ml_dtypes.bfloat16)
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("x", data=value)
        if note:
            dataset.attrs["dtype"] = "bfloat16"
    dtype, found = only_value(path)
    assert dtype == "bfloat16"
    assert found.dtype == ml_dtypes.bfloat16
    assert found.shape == shape
    assert np.array_equal(found, value)


def test_float8_by_its_note(path):
    value = np.array([0.5, -2], ml_dtypes.float8_e5m2)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=value.view("V1")).attrs["dtype"] = "float8_e5m2"
    dtype, found = only_value(path)
    assert dtype == "float8_e5m2"
    assert np.array_equal(found, value)


@pytest.mark.parametrize("note", [None, "int4", "float32", "os"])
def test_one_opaque_byte_is_not_guessed(path, note):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("x", data=np.zeros(2, "V1"))
        if note:
            dataset.attrs["dtype"] = note
    with pytest.raises(FileError, match=r"label: x: holds opaque bytes whose attribute `dtype`"):
        names_in(path)


@pytest.mark.parametrize(
    "value",
    [np.array([b"text"]), np.zeros(2, [("a", "f4")]), np.zeros(2, "V3"), ["a", "b"]],
    ids=["bytes", "fields", "V3", "strings"],
)
def test_values_that_are_no_numbers(path, value):
    with h5py.File(path, "w") as file:
        file["x"] = value
    with pytest.raises(FileError, match=r"label: x: holds .*not numbers"):
        names_in(path)


def test_compressed_chunks_are_read(path):
    value = np.arange(1000.0)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=value, chunks=(300,), compression="gzip", shuffle=True)
    assert np.array_equal(only_value(path)[1], value)


def test_values_in_the_header_of_their_dataset(path):
    compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    compact.set_layout(h5py.h5d.COMPACT)
    with h5py.File(path, "w") as file:
        dataset = h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((3,)), compact)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ones(3, "f4"))
    assert only_value(path)[1].tolist() == [1, 1, 1]


def test_a_dataset_under_two_names_is_fine(path):
    with h5py.File(path, "w") as file:
        file["a/x"] = [1.0]
        file["b"] = file["a/x"]
    assert names_in(path) == ["a/x", "b"]


@pytest.mark.parametrize("link", [h5py.SoftLink("/a"), h5py.ExternalLink("other.h5", "/a"), h5py.SoftLink("/nowhere")])
def test_links_are_never_followed(path, link):
    with h5py.File(path, "w") as file:
        file["a"] = [1.0]
        file["g/link"] = link
    with pytest.raises(UnsafeError, match=r"label: g/link: is a link to '.*', and links are never followed"):
        names_in(path)


def test_external_link_is_refused_without_a_look_at_its_file(path, tmp_path):
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    with h5py.File(path, "w") as file:
        file["link"] = h5py.ExternalLink(str(tmp_path / "pipe"), "/a")
    with pytest.raises(UnsafeError, match="pipe"):
        names_in(path)


def test_external_storage_is_refused(path, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(16))
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (4,), "f4", external=[(str(secret), 0, 16)])
    with pytest.raises(UnsafeError, match=r"label: x: keeps its values in .*secret"):
        names_in(path)


def test_virtual_dataset_is_refused(path, tmp_path):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (4,))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("x", layout)
    with pytest.raises(UnsafeError, match="label: x: is a virtual dataset"):
        names_in(path)


def test_group_inside_itself(path):
    with h5py.File(path, "w") as file:
        file.create_group("a/b")
        file["a/b/again"] = file["a"]
    with pytest.raises(UnsafeError, match="label: a/b/again/: is a group that the file holds in two places"):
        names_in(path)


def test_doubling_groups_cannot_make_a_small_file_take_for_ever(path):
    with h5py.File(path, "w") as file:
        group = file
        for _ in range(40):  # 2**40 paths
            inner = group.create_group("left")
            group["right"] = inner
            group = inner
        group["x"] = [1.0]
    with pytest.raises(UnsafeError, match="two places"):
        names_in(path)


def test_groups_nested_without_end(path):
    with h5py.File(path, "w") as file:
        file["/".join("g" * 150)] = [1.0]
    with pytest.raises(UnsafeError, match="more than 100 groups deep"):
        names_in(path)


@pytest.mark.parametrize("options", [{}, {"chunks": (10,)}, {"chunks": (10,), "compression": "gzip"}])
def test_values_that_were_never_written(path, options):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (1 << 40,), "f4", **options)
    with pytest.raises(FileError, match=r"label: x: declares 4,398,046,511,104 bytes, but no values were ever written"):
        names_in(path)


def test_some_chunks_missing(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (100,), "f4", chunks=(10,))[:15] = 1
    with pytest.raises(FileError, match="label: x: has only 2 of its 10 chunks"):
        names_in(path)


def test_declared_size_beyond_what_compression_can_do(path, monkeypatch):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.zeros(10_000), chunks=(500,), compression="gzip")
    assert names_in(path) == ["x"]
    monkeypatch.setattr(hdf5_dataset, "_MOST_RATIO", 10)
    with pytest.raises(FileError, match=r"label: x: declares 80,000 bytes, of which the file has at most"):
        names_in(path)


def test_chunk_larger_than_the_file(path, monkeypatch):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.zeros(10), chunks=(100_000,), maxshape=(None,), compression="gzip")
    monkeypatch.setattr(hdf5_dataset, "_MOST_RATIO", 10)
    with pytest.raises(FileError, match=r"label: x: is cut into chunks of 800,000 bytes"):
        names_in(path)


@pytest.mark.parametrize("everywhere", [False, True], ids=["dataspace", "dataspace-and-layout"])
def test_size_patched_into_the_file_allocates_nothing(path, everywhere):
    size, lie = 1_234_567, 1 << 34
    with h5py.File(path, "w") as file:
        file["x"] = np.ones(size, "i1")
    data = path.read_bytes()
    at, huge = size.to_bytes(8, "little"), lie.to_bytes(8, "little")
    assert data.count(at) >= 2
    path.write_bytes(data.replace(at, huge) if everywhere else data.replace(at, huge, 2))
    tracemalloc.start()
    try:
        with pytest.raises(FileError, match="label"):
            names_in(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_dataset_without_a_dataspace(path):
    with h5py.File(path, "w") as file:
        file["x"] = h5py.Empty("f4")
    with pytest.raises(FileError, match="label: x: is a dataset without a shape"):
        names_in(path)


def test_name_that_is_not_utf8(path):
    with h5py.File(path, "w") as file:
        file[b"\xff\xfe"] = [1.0]
    with pytest.raises(FileError, match="a name is not UTF-8"):
        names_in(path)


def test_truncated_at_any_length(path):
    with h5py.File(path, "w") as file:
        for k in range(20):
            file[f"layer{k}/kernel"] = np.arange(100.0)
    data = path.read_bytes()
    for length in [*range(0, len(data), 997), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(FileError, match="label"):
            names_in(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no such file"), (b"", "is not an HDF5 file"), (b"text" * 999, "is not an HDF5 file")],
)
def test_what_is_no_hdf5_file(path, content, message):
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileError, match=f"label: {message}"):
        open_hdf5(path, "label")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied"), "permission denied"),
        (OSError("Unable to open file (unable to lock file, errno = 11)"), "is being written by another process"),
        (OSError("Unable to open file (something else)"), "cannot be opened as HDF5: .*something else"),
    ],
)
def test_why_a_file_cannot_be_opened(path, monkeypatch, error, message):
    def refuse(*_args, **_keys):
        raise error

    path.write_bytes(b"there")
    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(FileError, match=f"label: {message}"):
        open_hdf5(path, "label")


def test_open_binary_file_in_place_of_a_path(path):
    with h5py.File(path, "w") as file:
        file["x"] = [1.0, 2.0]
    with path.open("rb") as raw, open_hdf5(raw, "label") as file:
        assert [read_dataset(d, "label").tolist() for _, d in walk_datasets(file, "label")] == [[1, 2]]


def test_value_damaged_after_opening(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(1000.0), chunks=(1000,), compression="gzip")
        offset = file["x"].id.get_chunk_info(0).byte_offset
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(bytes(100))
    with pytest.raises(FileError, match="label: /x: cannot be read"):
        only_value(path)


def test_text_attributes(path):
    with h5py.File(path, "w") as file:
        file.attrs["bytes"] = np.array([b"a", b"bc"])
        file.attrs["text"] = "é"
        file.attrs["none"] = []
        file.attrs["number"] = 3
        file.attrs["not utf-8"] = np.array([b"\xff"])
        file.attrs["nor this"] = "replaced below"
    path.write_bytes(path.read_bytes().replace(b"replaced below", b"replaced \xffelow"))
    with open_hdf5(path, "label") as file:
        assert read_strings(file.id, "bytes", "label") == ["a", "bc"]
        assert read_strings(file.id, "text", "label") == ["é"]
        assert read_strings(file.id, "none", "label") == []
        assert read_strings(file.id, "missing", "label") is None
        with pytest.raises(FileError, match="label: attribute number holds int64 where text belongs"):
            read_strings(file.id, "number", "label")
        for name in ("not utf-8", "nor this"):
            with pytest.raises(FileError, match=f"label: attribute {name}: cannot be read"):
                read_strings(file.id, name, "label")


def test_groups_without_values_are_counted(tmp_path):
    """Layers without weights have two groups each: a thousand of them are a model, ten thousand are not."""
    for layers, is_refused in ((1_000, False), (3_000, True)):
        path = tmp_path / f"{layers}.weights.h5"
        with h5py.File(path, "w") as file:
            for number in range(layers):
                file.create_group(f"layers/activation_{number}/vars")
            file["layers/dense/vars/0"] = np.ones((2, 2), "f4")
        if is_refused:
            with pytest.raises(UnsafeError, match="no model has so many empty ones"):
                open_source(path)
        else:
            assert len(open_source(path).catalog) == 1


def test_what_would_unpack_to_very_much(tmp_path):
    """Two GiB of zeros in a file of two MB."""
    packed = zlib.compress(bytes(1 << 24), 9)
    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("layers/dense/vars/0", (1 << 31,), "u1", chunks=(1 << 24,), compression="gzip")
        for start in range(0, 1 << 31, 1 << 24):
            data.id.write_direct_chunk((start,), packed)
    with pytest.raises(UnsafeError, match="would unpack to 2,147,483,648 bytes"):
        open_source(path)
