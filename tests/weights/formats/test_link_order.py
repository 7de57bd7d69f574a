"""The order in which the members of HDF5 groups were made."""

import random

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transferpipe.weights.formats.hdf5.link_order import link_order


def orders(path, groups):
    with h5py.File(path) as file, path.open("rb") as raw:

        def read(place, size):
            raw.seek(place)
            return raw.read(size)

        return {g: link_order(read, h5py.h5o.get_info(file[g].id).addr) for g in groups}


@pytest.mark.parametrize("seed", range(6))
def test_members_come_in_the_order_in_which_they_were_made(tmp_path, seed):
    """Hundreds of members, so that heaps grow and trees have levels; attributes, so that headers are continued."""
    rng, path, made = random.Random(seed), tmp_path / "x.h5", {}
    with h5py.File(path, "w") as file:
        groups = ["/"]
        for k in range(rng.choice((3, 50, 1500))):
            parent = rng.choice(groups[-3:])
            name = "".join(rng.choices("abcdefgh_", k=rng.randint(1, 30))) + str(k)
            if rng.random() < 0.9:
                file[parent].create_dataset(name, data=np.zeros(rng.randint(0, 9)))
            else:
                groups.append(file[parent].create_group(name).name)
                file[groups[-1]].attrs["name"] = "x" * rng.randint(1, 300)
            made.setdefault(parent, []).append(name)
    assert orders(path, made) == made


@pytest.mark.parametrize("options", [{"libver": "latest"}, {"userblock_size": 512}])
def test_other_layouts_of_the_file_tell_nothing(tmp_path, options):
    with h5py.File(tmp_path / "x.h5", "w", **options) as file:
        file["b"], file["a"] = 1, 2
    assert orders(tmp_path / "x.h5", ["/"]) == {"/": []}


def test_a_group_that_tracks_its_order_itself_tells_nothing_here(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w", track_order=True) as file:
        file["b"], file["a"] = 1, 2
    assert orders(tmp_path / "x.h5", ["/"]) == {"/": []}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("links") / "x.h5"
    with h5py.File(path, "w") as file:
        for k in range(40):
            file.create_group(f"member_{40 - k}")
        address = h5py.h5o.get_info(file.id).addr
    return path.read_bytes(), address


def reader(data):
    return lambda place, size: data[place : place + size] if 0 <= place < 1 << 40 else b""


def test_the_whole_file_is_read(whole):
    data, address = whole
    assert link_order(reader(data), address) == [f"member_{40 - k}" for k in range(40)]


@settings(max_examples=3 * settings().max_examples)
@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=8), st.floats(0, 1))
def test_damage_gives_names_or_nothing_and_ends(whole, damage, part):
    good, address = whole
    bad = bytearray(good)
    for place, byte in damage:
        bad[place % len(good)] = byte
    cut = int(part * len(good))
    for content, where in ((bytes(bad), address), (good[:cut], address), (good, cut)):
        assert all(isinstance(name, str) for name in link_order(reader(content), where))


def test_a_tree_that_is_its_own_child_ends(whole):
    good, address = whole
    at = good.index(b"TREE")
    count = int.from_bytes(good[at + 6 : at + 8], "little")
    bad = bytearray(good)
    for k in range(count):
        place = at + 24 + 8 * (2 * k + 1)
        bad[place : place + 8] = at.to_bytes(8, "little")
    assert link_order(reader(bytes(bad)), address) == []


def test_addresses_that_no_file_has_give_nothing(whole, tmp_path):
    good, address = whole
    path = tmp_path / "x.h5"
    bad = bytearray(good)
    at = good.index(b"HEAP")
    bad[at + 24 : at + 32] = b"\xff" * 8
    path.write_bytes(bad)
    with path.open("rb") as raw:

        def read(place, size):
            raw.seek(place)
            return raw.read(size)

        assert link_order(read, address) == []
