"""Noticing that a file changed, with every value or at the ends."""

import os

import pytest

from transferpipe.errors import FileError
from transferpipe.files import stamp
from transferpipe.files.stamp import check_unchanged, checked_at_ends, file_stamp


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"1234")
    return path


def change(path):
    path.write_bytes(b"12345")


def test_a_change_is_seen(file):
    before = file_stamp(file)
    check_unchanged(file, before)
    change(file)
    with pytest.raises(FileError, match="changed from 4 to 5 bytes"):
        check_unchanged(file, before)


@pytest.mark.parametrize("what", ["changed", "replaced", "removed"])
def test_a_change_after_the_first_look_is_seen_at_the_end(file, what):
    before, body = file_stamp(file), []

    def alter():
        if what == "replaced":
            other = file.with_name("other")
            other.write_bytes(b"5678")
            os.replace(other, file)
        else:
            file.unlink() if what == "removed" else change(file)

    with pytest.raises(FileError, match="cannot be read" if what == "removed" else "changed"), checked_at_ends():
        check_unchanged(file, before)
        alter()
        check_unchanged(file, before)
        body.append("went on")
    assert body


def test_a_change_before_the_first_look_is_seen_at_once(file):
    before = file_stamp(file)
    change(file)
    with checked_at_ends(), pytest.raises(FileError, match="changed"):
        check_unchanged(file, before)


def test_of_thousands_of_values_the_file_is_looked_at_twice(file, monkeypatch):
    before, looks = file_stamp(file), []
    real = stamp.file_stamp
    monkeypatch.setattr(stamp, "file_stamp", lambda path: looks.append(path) or real(path))
    with checked_at_ends():
        for _ in range(1000):
            check_unchanged(file, before)
    assert looks == [file, file]


def test_what_the_body_raises_is_raised(file):
    before = file_stamp(file)
    with pytest.raises(ValueError, match="mine"), checked_at_ends():
        check_unchanged(file, before)
        change(file)
        raise ValueError("mine")
