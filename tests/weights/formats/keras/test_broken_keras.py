"""Damaged `.keras` archives: whatever breaks in them is said of the file, and nothing takes for ever."""

import json
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import transferpipe
from transferpipe.errors import TransferError, UnsafeError
from transferpipe.weights.formats import open_source

HOW = {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}  # fmt: skip


@pytest.fixture(params=HOW)
def archive(tmp_path, request):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        for k in range(8):
            group = file.create_group(f"layers/dense_{k}/vars")
            group.attrs["name"] = f"layer{k}"
            group["0"] = np.random.default_rng(k).random((7, 5), "f4")
    layers = [{"class_name": "Dense", "module": "keras.layers", "config": {"name": f"layer{k}"}} for k in range(8)]
    config = {"class_name": "Sequential", "module": "keras", "config": {"name": "m", "layers": layers}}
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w", HOW[request.param]) as whole:
        whole.writestr("metadata.json", json.dumps({"keras_version": "3.15.0"}))
        whole.writestr("config.json", json.dumps(config))
        whole.write(tmp_path / "w.h5", "model.weights.h5")
    return path


def read_all(path):
    source = open_source(path)
    return [source.read(weight.name) for weight in source.catalog]


def test_an_archive_without_damage_is_read(archive):
    assert len(read_all(archive)) == 8


def test_any_byte_may_be_wrong(archive):
    good = archive.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(0, len(good), 120):
        bad = bytearray(good)
        bad[place] ^= int(rng.integers(1, 256))
        archive.write_bytes(bad)
        try:
            read_all(archive)
        except TransferError:
            refused += 1
    assert refused > 60  # a bit of padding, or of a date, may be anything


def test_any_end_may_be_missing(archive):
    good = archive.read_bytes()
    for end in np.linspace(4, len(good) - 1, 40).astype(int):
        archive.write_bytes(good[:end])
        with pytest.raises(TransferError):
            read_all(archive)


def test_a_hole_in_the_heap_of_names_is_found_before_hdf5_runs_in_circles(archive):
    """Where 64 zeros stand in its global heap, HDF5 looks for an end that never comes."""
    data = bytearray(archive.read_bytes())
    at = data.find(b"GCOL")
    if at < 0:
        pytest.skip("the heap is compressed")
    data[at + 16 : at + 80] = bytes(64)
    archive.write_bytes(data)
    with pytest.raises(TransferError, match="its checksum is"):
        read_all(archive)


def test_a_member_that_is_encrypted(archive):
    """The flag alone, in the local header and in the directory, is enough to keep Python from reading it."""
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := data.find(signature, at + 1)) >= 0:
            data[at + offset] |= 1
    archive.write_bytes(data)
    with pytest.raises(TransferError):
        read_all(archive)


@pytest.mark.parametrize("count", [9_000, 30_000])
def test_many_members_take_linear_time_up_to_a_limit(tmp_path, count):
    digits = Path(transferpipe.__file__).parent / "zoo/data/digits_0_4.keras"
    with zipfile.ZipFile(digits) as given, zipfile.ZipFile(tmp_path / "many.keras", "w") as archive:
        for name in given.namelist():
            archive.writestr(name, given.read(name))
        for i in range(count):
            archive.writestr(f"assets/{i}", b"")
    begun = time.process_time()
    if count < 10_000:
        assert len(open_source(tmp_path / "many.keras").assets) == count
    else:
        with pytest.raises(UnsafeError, match="has 30,003 members"):
            open_source(tmp_path / "many.keras")
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("config", [{}, {"config": {"layers": []}}, {"class_name": "Sequential", "config": 3}])
def test_a_configuration_that_is_not_one_of_a_model(archive, config):
    with zipfile.ZipFile(archive) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(archive, "w") as whole:
        for name, data in {**members, "config.json": json.dumps(config)}.items():
            whole.writestr(name, data)
    with pytest.raises(TransferError, match=r"config\.json does not describe a Keras model"):
        open_source(archive)
