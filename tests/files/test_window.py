"""A stretch of a file that behaves like a file."""

import errno
import io
import os

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transferpipe.files import window as window_module
from transferpipe.files.window import FileWindow

START = 37


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * START)
    return path


def grown(path):
    return FileWindow(os.open(path, os.O_RDWR), START)


actions = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.binary(max_size=20)),
        st.tuples(st.just("read"), st.integers(0, 30)),
        st.tuples(st.just("seek"), st.integers(0, 60)),
        st.tuples(st.just("end"), st.integers(-5, 5)),
        st.tuples(st.just("truncate"), st.integers(0, 50)),
    ),
    max_size=25,
)


@settings(deadline=None)
@given(actions)
def test_a_growing_window_behaves_like_a_file(tmp_path_factory, actions):
    path = tmp_path_factory.mktemp("w") / "file"
    path.write_bytes(b"x" * START)
    model = io.BytesIO()
    with grown(path) as window:
        for action, value in actions:
            if action == "write":
                assert window.write(value) == model.write(value)
            elif action == "read":
                assert window.read(value) == model.read(value)
            elif action == "seek":
                assert window.seek(value) == model.seek(value)
            elif action == "end" and len(model.getvalue()) + value >= 0:
                assert window.seek(value, os.SEEK_END) == model.seek(value, os.SEEK_END)
            elif action == "truncate":
                # Unlike BytesIO, and like a file, a window grows when it is truncated to more than it has.
                model.seek(0, os.SEEK_END)
                model.write(bytes(max(0, value - model.tell())))
                model.truncate(value)
                model.seek(window.tell())
                window.truncate(value)
            assert window.tell() == model.tell()
        window.seek(0)
        # A seek beyond the end grows neither.
        assert window.read(1000) == model.getvalue()
    assert path.read_bytes()[:START] == b"x" * START


def test_a_fixed_window_ends_where_it_ends(path):
    path.write_bytes(b"x" * START + b"0123456789" + b"behind")
    with FileWindow(os.open(path, os.O_RDONLY), START, 10) as window:
        assert window.read(100) == b"0123456789"
        assert window.seek(-3, os.SEEK_END) == 7
        assert window.read(100) == b"789"
        window.seek(20)
        assert window.read(5) == b""
        assert not window.writable()
        with pytest.raises(io.UnsupportedOperation):
            window.write(b"x")
        with pytest.raises(io.UnsupportedOperation):
            window.truncate(3)
    assert path.read_bytes().endswith(b"behind")


def test_a_fixed_window_on_a_file_that_ends_early_gives_what_there_is(path):
    path.write_bytes(b"x" * START + b"012")
    with FileWindow(os.open(path, os.O_RDONLY), START, 10) as window:
        assert window.read(100) == b"012"


def test_nothing_lies_before_the_beginning(path):
    with grown(path) as window, pytest.raises(ValueError, match="before the beginning"):
        window.seek(-1)


def test_closing_closes_the_descriptor_once(path):
    window = grown(path)
    descriptor = window._descriptor
    window.close()
    other = os.open(path, os.O_RDONLY)  # takes the number that became free
    window.close()
    assert other == descriptor
    os.fstat(other)
    os.close(other)


def test_hdf5_lives_in_a_window(path):
    with grown(path) as window, h5py.File(window, "w") as h5:
        h5["deep/value"] = np.arange(100_000)
    data = path.read_bytes()
    with h5py.File(io.BytesIO(data[START:]), "r") as h5:
        assert np.array_equal(h5["deep/value"], np.arange(100_000))
    with FileWindow(os.open(path, os.O_RDONLY), START, len(data) - START) as window, h5py.File(window, "r") as h5:
        assert np.array_equal(h5["deep/value"], np.arange(100_000))


@pytest.mark.parametrize("allowed", [0, 1, 3, 10])
def test_a_write_that_fails_is_kept_and_nothing_is_written_after_it(path, monkeypatch, allowed):
    """HDF5 would crash, or raise something that says nothing of the reason."""
    left = [allowed]
    real = os.pwrite

    def full(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(window_module.os, "pwrite", full)
    with grown(path) as window:
        with h5py.File(window, "w") as h5:
            for i in range(100):
                h5[f"group{i}/value"] = np.arange(100)
        assert window.error is not None
        assert window.error.errno == errno.ENOSPC
    assert left[0] == -1
    assert path.stat().st_size <= START + window.size


def test_a_short_write_is_continued(path, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(window_module.os, "pwrite", lambda fd, data, offset: real(fd, bytes(data[:3]), offset))
    with grown(path) as window:
        window.write(b"0123456789")
    assert path.read_bytes()[START:] == b"0123456789"
