"""Single arrays and folders of arrays, as NumPy writes them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from transferpipe.errors import FileError
from transferpipe.files.segment import opened, read_into
from transferpipe.weights.formats import open_source


def located(source, name):
    segment = source.locate(name)
    buffer = bytearray(segment.nbytes)
    with opened(segment.path) as descriptor:
        read_into(descriptor, memoryview(buffer), segment.offset, segment.path)
    return bytes(buffer)


def folder_of(folder, **values):
    for name, value in values.items():
        path = folder / f"{name.replace('__', '/')}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, value)
    return folder


DTYPES = st.one_of(
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="?", sizes=(64,)),
    hnp.boolean_dtypes(),
)


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, min_side=0, max_side=4)), st.sampled_from("CF"))
def test_whatever_numpy_saves_comes_back_bit_for_bit(tmp_path_factory, value, order):
    path = tmp_path_factory.mktemp("npy") / "kernel.npy"
    np.save(path, np.asarray(value, order=order))
    source = open_source(path)
    (weight,) = source.catalog
    native = value.astype(value.dtype.newbyteorder("="))
    found = source.read("kernel")
    assert (weight.name, weight.shape, weight.dtype) == ("kernel", value.shape, native.dtype.name)
    assert (found.shape, found.dtype, found.tobytes()) == (native.shape, native.dtype, native.tobytes())
    if source.locate("kernel"):
        assert located(source, "kernel") == native.tobytes()


@pytest.mark.parametrize(("value", "plain"), [
    (np.arange(6, dtype="<f4").reshape(2, 3), True),
    (np.asfortranarray(np.arange(6, dtype="<f4").reshape(2, 3)), False),
    (np.arange(6, dtype=">f4"), False),
    (np.arange(6, dtype="u1"), True),
    (np.ones(3, bool), False),
])  # fmt: skip
def test_what_lies_in_the_file_as_it_is_in_memory(tmp_path, value, plain):
    np.save(tmp_path / "a.npy", value)
    assert (open_source(tmp_path / "a.npy").locate("a") is not None) == plain


def test_names_in_a_folder_are_paths(tmp_path):
    folder_of(tmp_path, conv_10__kernel=[1.0], conv_2__kernel=[[2.0]], head=np.int32(3), conv_2__bn__gamma=[4.0])
    (tmp_path / "README.md").write_text("about")
    source = open_source(tmp_path)
    names = ["conv_2/bn/gamma", "conv_2/kernel", "conv_10/kernel", "head"]
    assert [w.name for w in source.catalog] == names
    assert source.catalog["head"].shape == ()
    assert [source.read(name).tolist() for name in names] == [[4.0], [[2.0]], [1.0], 3]
    assert source.format == "npy_folder"
    assert {p.name for p in source.files if p.is_file()} == {"gamma.npy", "kernel.npy", "head.npy"}
    assert {tmp_path, tmp_path / "conv_2", tmp_path / "conv_2" / "bn"} <= set(source.files)


def test_arrays_only_in_folders_below(tmp_path):
    assert [w.name for w in open_source(folder_of(tmp_path, a__b__c=[1.0])).catalog] == ["a/b/c"]


def test_dots_are_slashes_where_all_arrays_lie_side_by_side(tmp_path):
    for name in ("layer1.0.weight", "layer1.0.num_batches_tracked"):
        np.save(tmp_path / f"{name}.npy", [1.0])
    source = open_source(tmp_path)
    assert [w.name for w in source.catalog] == ["layer1/0/weight"]
    assert [w.name for w in source.others] == ["layer1/0/num_batches_tracked"]


def test_links_inside_the_folder_are_followed(tmp_path):
    folder_of(tmp_path, a=[1.0])
    (tmp_path / "b.npy").symlink_to("a.npy")
    assert [w.name for w in open_source(tmp_path).catalog] == ["a", "b"]


def test_an_array_that_changes_after_opening(tmp_path):
    source = open_source(folder_of(tmp_path, a=[1.0], b=[2.0]))
    np.save(tmp_path / "b.npy", [1.0, 2.0])
    assert source.read("a") == 1
    for ask in (source.read, source.locate):
        with pytest.raises(FileError, match=r"b.npy: changed"):
            ask("b")
