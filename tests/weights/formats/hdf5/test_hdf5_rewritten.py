"""HDF5 files that change, or are written again, while this process still has them open."""

import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

from transferpipe.errors import FileError
from transferpipe.weights.formats import open_source


def write(path, order, kind):
    with h5py.File(path, "w") as file:
        if kind == ".h5":
            file.attrs["layer_names"] = [b"a", b"b"]
            for name in order:
                group = file.create_group(name)
                group.attrs["weight_names"] = [f"{name}/kernel:0".encode()]
                group.create_dataset(f"{name}/kernel:0", data=np.full((3, 3), ord(name), "f4"))
            return
        for number, name in enumerate(order):
            group = file.create_group(f"layers/dense{f'_{number}' if number else ''}/vars")
            group.attrs["name"] = name
            group.create_dataset("0", data=np.full((3, 3), ord(name), "f4"))


@pytest.mark.parametrize("kind", [".weights.h5", ".h5"])
def test_a_file_written_anew_in_place_is_read_anew(tmp_path, kind):
    path, other = tmp_path / f"x{kind}", tmp_path / f"y{kind}"
    write(path, "ab", kind)
    write(other, "ba", kind)
    before = open_source(path)  # stays open, as in a process that makes one transfer after the other
    shutil.copyfile(other, path)
    after = open_source(path)
    for weight in after.catalog:
        assert np.all(after.read(weight.name) == ord(weight.name[0])), weight.name
    with pytest.raises(FileError, match="changed"):
        before.read(before.catalog.weights[0].name)


@pytest.mark.parametrize("kind", [".weights.h5", ".h5"])
def test_an_open_source_keeps_nobody_from_writing_it(tmp_path, kind):
    path = tmp_path / f"x{kind}"
    write(path, "ab", kind)
    source = open_source(path)
    write(path, "ba", kind)
    done = subprocess.run([sys.executable, "-c", f"import h5py; h5py.File({str(path)!r}, 'a').close()"], check=False)
    assert done.returncode == 0
    assert source.path == path


@pytest.mark.parametrize("kind", [".weights.h5", ".h5"])
def test_a_file_that_is_being_written_is_refused(tmp_path, kind):
    path = tmp_path / f"x{kind}"
    write(path, "ab", kind)
    with h5py.File(path, "a"), pytest.raises(FileError, match="is being written by another process"):
        open_source(path)
