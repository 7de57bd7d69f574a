"""Reading a stretch of a file into a buffer."""

import errno
import os
import re

import pytest

from transferpipe.errors import FileError
from transferpipe.files import segment
from transferpipe.files.segment import Segment, held_open, opened, read_into, read_small, read_stretches


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    return path


@pytest.mark.parametrize(("offset", "count"), [(0, 100), (0, 0), (100, 0), (7, 20), (99, 1)])
def test_fills_the_buffer(path, offset, count):
    buffer = bytearray(count)
    with opened(path) as descriptor:
        read_into(descriptor, memoryview(buffer), offset, path)
    assert buffer == path.read_bytes()[offset : offset + count]


def test_short_reads_are_continued(path, monkeypatch):
    real = os.preadv
    monkeypatch.setattr(segment.os, "preadv", lambda fd, buffers, offset: real(fd, [buffers[0][:7]], offset))
    buffer = bytearray(60)
    with opened(path) as descriptor:
        read_into(descriptor, memoryview(buffer), 11, path)
    assert buffer == path.read_bytes()[11:71]


@pytest.mark.parametrize(("offset", "count"), [(0, 101), (99, 2), (100, 1), (5000, 10)])
def test_a_file_that_ends_early(path, offset, count):
    message = re.escape(f"{path}: ends at byte 100, before the values that it declares -> it is truncated")
    with opened(path) as descriptor, pytest.raises(FileError, match=message):
        read_into(descriptor, memoryview(bytearray(count)), offset, path)


def test_a_disk_that_fails(path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(segment.os, "preadv", fail)
    with opened(path) as descriptor, pytest.raises(FileError, match="cannot be read: Input/output error -> check the"):
        read_into(descriptor, memoryview(bytearray(1)), 0, path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileError, match="cannot be read: No such file or directory"), opened(tmp_path / "none"):
        pass


def test_the_descriptor_is_closed_whatever_happens(path):
    with pytest.raises(KeyError), opened(path) as descriptor:
        raise KeyError
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.follows("opened_anew: name a file")
def test_a_pipe_is_not_waited_for(path):
    pipe = path.with_name("pipe")
    os.mkfifo(pipe)
    with pytest.raises(FileError, match="is not an ordinary file -> name a file"), opened(pipe):
        pass
    with opened(path) as descriptor:
        assert os.read(descriptor, 1)


def test_stretches_are_put_in_a_row(path):
    data = path.read_bytes()
    assert read_stretches(path, [(3, 5), (0, 0), (1, 4)]) == data[3:5] + data[1:4]
    with pytest.raises(FileError):
        read_stretches(path, [(0, len(data) + 1)])


def test_a_file_is_opened_once_where_it_is_held_open_and_closed_behind_that(tmp_path, monkeypatch):
    path, opens = tmp_path / "f", []
    path.write_bytes(b"0123456789")
    open_it = os.open
    monkeypatch.setattr(segment.os, "open", lambda *given: opens.append(given[0]) or open_it(*given))
    with held_open():
        for begin in range(5):
            with opened(path) as descriptor:
                assert read_small(descriptor, Segment(path, begin, 2, "uint8")) == b"0123456789"[begin : begin + 2]
    assert opens == [path]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    with opened(path):
        assert opens == [path, path]


def test_small_values_beyond_the_end_of_a_file_are_refused(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"01")
    with opened(path) as descriptor, pytest.raises(FileError, match="ends at byte 2"):
        read_small(descriptor, Segment(path, 1, 4, "uint8"))
