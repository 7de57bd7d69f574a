"""Folders of `torch.distributed.checkpoint`, by hand and by torch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_files import write_distributed

from transferpipe.errors import FileError, UnsafeError
from transferpipe.weights.formats import open_source
from transferpipe.weights.formats.torch.distributed import overlap
from transferpipe.weights.formats.torch.limited import PickleError

A, B = np.arange(24, dtype="float32").reshape(6, 4), np.arange(5, dtype="int64")
ARRAYS = {"model.a.w": A, "model.a.b": B, "one": np.float32(3).reshape(())}


def held(source):
    return {spec.name: source.read_entry(spec) for spec in (*source.catalog, *source.others)}


def test_parts_are_put_together(tmp_path):
    source = open_source(write_distributed(tmp_path, ARRAYS, {"model.a.w": 4, "model.a.b": 2}))
    assert (source.format, source.details) == ("distributed", {"not tensors": "step"})
    for name, value in ARRAYS.items():
        read = held(source)[name.replace(".", "/")]
        assert (read.dtype, read.shape) == (value.dtype, value.shape)
        assert np.array_equal(read, value)
    assert {p.name for p in source.parts} == {".metadata", "__0_0.distcp", "__1_0.distcp"}


def test_keys_on_the_way_tell_the_weights_from_the_optimizer(tmp_path):
    routes = {"model.a.w": ("model", "a.w"), "one": ("optimizer", "state", 0, "step")}
    folder = write_distributed(tmp_path, {"model.a.w": A, "one": ARRAYS["one"]}, {}, routes=routes)
    for path in (folder, folder / ".metadata", folder / "__0_0.distcp"):
        source = open_source(path)
        assert (source.select, [w.name for w in source.catalog]) == ("model", ["a/w"])
        assert [w.name for w in source.others] == ["optimizer/state/0/step"]
    assert [w.name for w in open_source(folder, select="optimizer").catalog] == ["state/0/step"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"relative_path": "../x.distcp"}, UnsafeError, "x.distcp"),
        ({"relative_path": "__9_0.distcp"}, FileError, "__9_0.distcp"),
        ({"offset": 1 << 40}, FileError, "a part lies at byte 1099511627776 of '__0_0.distcp'.*the file has"),
        ({"length": -1}, FileError, "a part lies at byte"),
        ({"length": 10}, FileError, "of 32 bytes in 10 bytes of a file"),
        ({"offset": 8}, FileError, "cannot be read|holds"),
    ],
)
def test_places_that_cannot_be(tmp_path, change, error, message):
    folder = write_distributed(
        tmp_path, {"w": A}, {"w": 3}, change=lambda begin, place: place | change if begin == (0, 0) else place
    )
    with pytest.raises(error, match=message):
        held(open_source(folder))


def test_a_packed_part_is_named_with_a_way_out(tmp_path):
    def change(begin, place):
        return place | {"transform_descriptors": ["zstd"]}

    write_distributed(tmp_path, {"w": A}, {"w": 2}, change=change)
    with pytest.raises(FileError, match="'w' is packed by a stream extension") as caught:
        open_source(tmp_path)
    assert "dcp_to_torch_save(folder, 'weights.pt')" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # The first part's shape (2, 4) and position (0, 0), as the pickle has them.
        (b"J\x02\0\0\0J\x04\0\0\0", b"J\x01\0\0\0J\x04\0\0\0", "do not fill it"),
        (b"J\x02\0\0\0J\x04\0\0\0", b"J\x09\0\0\0J\x04\0\0\0", "is not inside of it|in .* bytes of a file"),
        (b"J\x04\0\0\0J\0\0\0\0", b"J\x02\0\0\0J\0\0\0\0", "overlap"),
    ],
)
def test_parts_that_do_not_fill_the_tensor(tmp_path, old, new, message):
    write_distributed(tmp_path, {"w": A}, {"w": 3})
    path = tmp_path / ".metadata"
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1) if message != "overlap" else data.replace(old, new))
    with pytest.raises(FileError, match=message):
        held(open_source(tmp_path))


@given(st.lists(st.tuples(*[st.tuples(st.integers(0, 4), st.integers(1, 3))] * 2), min_size=1, max_size=6))
def test_parts_overlap_where_a_value_is_in_two(parts):
    begins = np.array([[begin for begin, _ in part] for part in parts])
    ends = begins + np.array([[size for _, size in part] for part in parts])
    count = np.zeros((8, 8), int)
    for begin, end in zip(begins, ends, strict=True):
        count[begin[0] : end[0], begin[1] : end[1]] += 1
    assert overlap(begins, ends) == (count > 1).any()


def test_parts_across_each_other_do_not_take_for_ever():
    places = np.arange(1 << 14)
    steps = np.stack([places, places], axis=1)
    with pytest.raises(PickleError, match="across each other"):
        overlap(steps, np.stack([np.full_like(places, len(places)), places + 1], axis=1))
    assert not overlap(steps * (1, 0), steps * (1, 0) + (1, 9))
    assert not overlap(np.argwhere(np.ones((128, 128))), np.argwhere(np.ones((128, 128))) + 1)


def test_a_description_that_names_code_is_refused(tmp_path):
    write_distributed(tmp_path, {"w": A}, {})
    (tmp_path / ".metadata").write_bytes(b"\x80\x02cos\nsystem\n(X\x02\0\0\0lstR.")
    with pytest.raises(UnsafeError, match=r"names 'os.system'"):
        open_source(tmp_path)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
@pytest.mark.parametrize("crc", [True, False])
def test_what_torch_writes(tmp_path, crc):
    torch = pytest.importorskip("torch")
    from torch.distributed import checkpoint

    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2).to(torch.bfloat16)
    )
    state = {"model": net.state_dict(), "step": 3, "optimizer": {"state": [{"exp_avg": torch.ones(3)}]}}
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(crc)
    try:
        checkpoint.save(state, checkpoint_id=tmp_path / "c", no_dist=True)
    finally:
        torch.serialization.set_crc32_options(before)
    source = open_source(tmp_path / "c")
    assert (source.select, source.details["not tensors"]) == ("model", "step")
    found = held(source)
    for name, value in net.state_dict().items():
        assert np.array_equal(found[name.replace(".", "/")].astype("f8"), value.double().numpy()), name
    assert np.array_equal(found["optimizer/state/0/exp_avg"], np.ones(3))
