"""PyTorch checkpoints made by hand, in both forms: names, values, views, what lies beside the weights."""

import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_files import (
    STORAGES,
    Call,
    Named,
    Raw,
    code,
    plain,
    storage,
    tensor,
    write_both,
    write_legacy,
    write_zip,
)

from transferpipe.errors import FileError
from transferpipe.weights.formats import open_source

BASE = np.arange(24, dtype="float32")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


def located(source, name):
    """Return the bytes that the segment of a weight points at."""
    segment = source.locate(name)
    with segment.path.open("rb") as file:
        file.seek(segment.offset)
        return file.read(segment.nbytes)


def test_both_forms(tmp_path):
    arrays = {"layer1.0.conv.weight": BASE.reshape(2, 3, 4), "layer1.0.conv.bias": BASE[:2] + 0.5}
    for file in write_both(tmp_path, arrays):
        source = open_source(file)
        assert source.format == "torch"
        assert [(w.name, w.shape, w.dtype) for w in source.catalog] == [
            ("layer1/0/conv/weight", (2, 3, 4), "float32"),
            ("layer1/0/conv/bias", (2,), "float32"),
        ]
        assert source.catalog["layer1/0/conv/bias"].where == "layer1.0.conv.bias"
        assert (source.others, source.select, dict(source.details)) == ((), None, {})
        for key, value in arrays.items():
            name = key.replace(".", "/")
            assert source.read(name).tobytes() == located(source, name) == value.tobytes()
            assert source.read(name).shape == value.shape


@pytest.mark.parametrize("dtype", STORAGES)
@pytest.mark.parametrize("order", ["little", "big"])
def test_dtypes_and_byte_orders(path, dtype, order):
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    value = np.arange(7).astype(kind) * (1 + 2j if kind.kind == "c" else 1)
    value = value.astype(kind)
    stored = value.tobytes()
    if order == "big":
        size = kind.itemsize // 2 if kind.kind == "c" else kind.itemsize
        stored = np.frombuffer(stored, "u1").reshape(-1, size)[:, ::-1].tobytes()
    write_zip(path, {"a": tensor(storage("0", dtype, 7), (7,))}, {"0": stored}, notes={"byteorder": order.encode()})
    source = open_source(path)
    assert source.catalog["a"].dtype == dtype
    assert source.read("a").dtype == kind
    assert source.read("a").tobytes() == value.tobytes()
    in_place = dtype != "bool" and (order == "little" or kind.itemsize == 1)
    assert (source.locate("a") is not None) == in_place
    if in_place:
        assert located(source, "a") == value.tobytes()


def test_a_bool_that_is_neither_is_true(path):
    write_zip(path, {"a": tensor(storage("0", "bool", 3), (3,))}, {"0": b"\0\1\7"})
    assert open_source(path).read("a").tobytes() == b"\0\1\1"


@pytest.mark.parametrize("compress", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((4, 6), (6, 1), 0),
        ((6, 4), (1, 6), 0),
        ((2, 3), (1, 2), 5),
        ((), (), 23),
        ((3, 4), (0, 2), 1),
        ((5, 1, 2), (2, 99, 1), 3),
        ((0, 3), (3, 1), 24),
        ((3, 2), (1, 1), 0),
    ],
)
def test_views(path, compress, shape, strides, offset):
    where = storage("0", "float32", 24)
    write_zip(path, {"v": tensor(where, shape, strides, offset)}, {"0": BASE.tobytes()}, compress=compress)
    source = open_source(path)
    expected = np.lib.stride_tricks.as_strided(BASE[offset:], shape, [4 * s for s in strides])
    assert source.read("v").shape == shape
    assert np.array_equal(source.read("v"), expected)
    if source.locate("v"):
        assert compress == zipfile.ZIP_STORED
        assert located(source, "v") == expected.tobytes()


def test_what_lies_in_one_piece_is_streamed(path):
    where = storage("0", "float32", 24)
    tensors = {
        "whole": tensor(where, (24,)),
        "rows": tensor(where, (2, 6), None, 12),
        "turned": tensor(where, (6, 4), (1, 6)),
    }
    source = open_source(write_zip(path, tensors, {"0": BASE.tobytes()}))
    assert [source.locate(n) is not None for n in ("whole", "rows", "turned")] == [True, True, False]
    assert source.locate("rows").offset - source.locate("whole").offset == 48


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_view_that_stays_inside_is_read_and_any_other_is_refused(tmp_path_factory, data):
    rank = data.draw(st.integers(0, 4))
    shape = tuple(data.draw(st.lists(st.integers(0, 4), min_size=rank, max_size=rank)))
    strides = tuple(data.draw(st.lists(st.integers(0, 9), min_size=rank, max_size=rank)))
    offset = data.draw(st.integers(0, 30))
    file = tmp_path_factory.mktemp("view") / "v.pt"
    write_zip(file, {"v": tensor(storage("0", "float32", 24), shape, strides, offset)}, {"0": BASE.tobytes()})
    indices = offset + sum((np.indices(shape)[i] * s for i, s in enumerate(strides)), np.zeros(shape, int))
    if offset + indices.size * 0 > 24 or (indices.size and indices.max() >= 24):
        with pytest.raises(FileError, match=r"v.pt: v: reaches element \d+ of a storage of 24"):
            open_source(file)
    else:
        assert np.array_equal(open_source(file).read("v"), BASE[indices] if indices.size else indices)


def test_tied_weights_are_read_by_both_names(path):
    where = storage("0", "float32", 24)
    tied = Raw(code(tensor(where, (24,))) + b"q\x07")  # the second name gets what the first left in the memo
    source = open_source(write_zip(path, {"emb.weight": tied, "out.weight": Raw(b"h\x07")}, {"0": BASE.tobytes()}))
    assert source.read("emb/weight").tobytes() == source.read("out/weight").tobytes() == BASE.tobytes()


def test_parts_of_storages_in_the_form_without_zip(path):
    whole, part = storage("7", "float32", 24, None), storage("7", "float32", 24, ("8", 4, 10))
    root = {"whole": tensor(whole, (24,)), "part": tensor(part, (2, 4), None, 1), "rest": tensor(part, (10,))}
    source = open_source(write_legacy(path, root, {"7": BASE.tobytes()}))
    assert source.read("part").tolist() == [[5, 6, 7, 8], [9, 10, 11, 12]]
    assert located(source, "part") == BASE[5:13].tobytes()
    assert source.read("rest").tolist() == list(range(4, 14))
    write_legacy(path, {"part": tensor(part, (11,))}, {"7": BASE.tobytes()})
    with pytest.raises(FileError, match=r"part: reaches element 11 of a storage of 10"):
        open_source(path)


def test_bytes_as_any_dtype(path):
    """Dtypes newer than the storage classes lie in storages of bytes."""
    values = np.arange(8, dtype="uint16")
    for name, kind in {"uint16": "uint16", "float8_e5m2": "float8_e5m2", "bfloat16": "bfloat16"}.items():
        count = 16 // np.dtype(getattr(ml_dtypes, kind, kind)).itemsize
        made = Call(
            Named("torch._utils", "_rebuild_tensor_v3"),
            (storage("0", "UntypedStorage", 16), 0, (count,), (1,), False, None, Named("torch", name)),
        )
        source = open_source(write_zip(path, {"a": made}, {"0": values.tobytes()}))
        assert (source.catalog["a"].dtype, source.read("a").tobytes()) == (kind, values.tobytes())


def test_parameters_are_their_tensors(path):
    tensors, stored = plain({"a": BASE})
    hooks = Call(Named("collections", "OrderedDict"), ())
    root = {
        "p": Call(Named("torch._utils", "_rebuild_parameter"), (tensors["a"], True, hooks)),
        "s": Call(Named("torch._utils", "_rebuild_parameter_with_state"), (tensors["a"], True, hooks, {"x": 1})),
        "t": Call(
            Named("torch._tensor", "_rebuild_from_type_v2"),
            (tensors["a"].function, Named("torch", "Tensor"), tensors["a"].arguments, {"note": "x"}),
        ),
        "o": Call(Named("torch._utils", "_rebuild_tensor"), tensors["a"].arguments[:4]),
    }
    source = open_source(write_zip(path, root, stored))
    assert [source.read(n).tobytes() for n in "psto"] == [BASE.tobytes()] * 4


def test_counters_are_no_weights(path):
    arrays = {"bn.weight": BASE, "bn.num_batches_tracked": np.array(7)}
    source = open_source(write_zip(path, *plain(arrays)))
    assert [w.name for w in source.catalog] == ["bn/weight"]
    assert [w.name for w in source.others] == ["bn/num_batches_tracked"]
    assert source.read_entry(source.others[0]) == 7


def test_names_with_slashes_keep_their_dots(path):
    assert [w.name for w in open_source(write_zip(path, *plain({"a/b.c": BASE, "d.e": BASE}))).catalog] == [
        "a/b.c",
        "d.e",
    ]


def test_nested_names_and_lists(path):
    tensors, stored = plain({"x.y": BASE, "b": BASE})
    root = {"enc": {"x.y": tensors["x.y"]}, "parts": [1, (tensors["b"],)], 3: {"n": tensors["b"]}}
    source = open_source(write_zip(path, root, stored))
    assert [w.name for w in source.catalog] == ["enc/x/y", "parts/1/0", "3/n"]


def test_one_tensor_alone(path):
    tensors, stored = plain({"a": BASE})
    assert [w.name for w in open_source(write_zip(path, tensors["a"], stored)).catalog] == ["tensor"]


def test_two_entries_of_one_name(path):
    tensors, stored = plain({"x": BASE, "b": BASE})
    with pytest.raises(FileError, match=r"two tensors are at 'a\.b'"):
        open_source(write_zip(path, {"a.b": tensors["x"], "a": {"b": tensors["b"]}}, stored))


def test_plain_values_beside_the_weights_stay_closed(path):
    tensors, stored = plain({"w": BASE})
    root = {
        "w": tensors["w"],
        "epoch": 3,
        "args": Raw(code(Call(Named("argparse", "Namespace"), ())) + code({"lr": 0.1}) + b"b"),
        "path": Call(Named("pathlib", "PosixPath"), ("/", "tmp")),
        "best": Call(
            Named("numpy.core.multiarray", "scalar"), (Call(Named("numpy", "dtype"), ("f8", False, True)), b"12345678")
        ),
        "size": Call(Named("torch", "Size"), ((1, 2),)),
        "kind": Named("torch", "float32"),
        "device": Call(Named("torch", "device"), ("cpu",)),
        "set": Call(Named("builtins", "set"), ([1, 2],)),
        "log": Raw(code(Call(Named("collections", "deque"), ())) + b"K\x01a"),
    }
    source = open_source(write_zip(path, root, stored))
    assert [w.name for w in source.catalog] == ["w"]
    assert source.details == {"not tensors": "epoch, args, path, best, size, kind, device, set, log"}


def test_what_cannot_be_read_is_named_and_the_rest_is_read(path):
    tensors, stored = plain({"w": BASE})
    conjugated = Call(tensors["w"].function, (*tensors["w"].arguments, {"conj": True, "neg": False}))
    root = {
        "w": tensors["w"],
        "q": Call(Named("torch._utils", "_rebuild_qtensor"), ()),
        "s": Call(Named("torch._utils", "_rebuild_sparse_tensor"), ()),
        "c": conjugated,
        "h": tensor(storage("9", "QInt8Storage", 4), (4,)),
    }
    source = open_source(write_zip(path, root, stored))
    assert [w.name for w in source.catalog] == ["w"]
    assert source.read("w").tobytes() == BASE.tobytes()
    found = source.catalog.unreadable
    assert [u.name for u in found] == ["q", "s", "c", "h"]
    for unread, word in zip(found, ("quantised", "sparse", "conjugated", "qint8"), strict=True):
        assert word in unread.reason


def test_what_is_never_read_may_be_unreadable(path):
    tensors, stored = plain({"w": BASE})
    sparse = Call(Named("torch._utils", "_rebuild_sparse_tensor"), ())
    optimizer = {"x": sparse, "h": tensor(storage("9", "QInt8Storage", 4), (4,))}
    source = open_source(write_zip(path, {"model": tensors, "optimizer": optimizer}, stored))
    assert (len(source.catalog), source.others) == (1, ())
    assert source.details["cannot be read"] == "optimizer.x, optimizer.h"
    lost = tensor(storage("9", "float32", 4), (4,))
    with pytest.raises(FileError, match=r"optimizer\.h: lies in the storage '9', which is missing"):
        open_source(write_zip(path, {"model": tensors, "optimizer": {"h": lost}}, stored))
