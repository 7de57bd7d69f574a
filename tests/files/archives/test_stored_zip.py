"""Archives that are filled in place, read back by Python's zipfile and by what it says of every field."""

import os
import struct
import zipfile
import zlib

import pytest
from crc_of_zeros import crc_of_zeros
from hypothesis import given, settings
from hypothesis import strategies as st

from transferpipe.files.archives.stored_zip import StoredZip, write_at

HUGE = (4 << 30) + 12_345
EDGE = 0xFFFFFFFF


@pytest.fixture
def opened(tmp_path):
    """A new file, and a function that opens it as an archive once it is written."""
    path = tmp_path / "a.zip"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    yield descriptor, lambda: zipfile.ZipFile(path)
    os.close(descriptor)


def hold(archive, descriptor, name, data):
    """Add a member by filling it in place."""
    start = archive.begin(name)
    write_at(descriptor, data, start)
    archive.seal(archive.end(name, len(data)), zlib.crc32(data))
    return start


@settings(deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\\"), min_size=1),
                       st.binary(max_size=200), max_size=6))  # fmt: skip
def test_members_come_back(tmp_path_factory, members):
    path = tmp_path_factory.mktemp("zip") / "a.zip"
    with path.open("wb+") as file:
        archive = StoredZip(file.fileno())
        for i, (name, data) in enumerate(members.items()):
            if i % 2:
                hold(archive, file.fileno(), name, data)
            else:
                archive.add(name, [data[:3], data[3:]])
        archive.close()
    with zipfile.ZipFile(path) as found:
        assert found.testzip() is None
        assert found.namelist() == list(members)
        assert {n: found.read(n) for n in members} == members


def test_an_empty_archive(opened):
    StoredZip(opened[0]).close()
    with opened[1]() as found:
        assert found.namelist() == []


def test_members_begin_at_multiples_of_64_and_bear_the_earliest_date(opened):
    descriptor, reopen = opened
    archive = StoredZip(descriptor)
    starts = [hold(archive, descriptor, "x" * n, b"data" * n) for n in range(1, 70)]
    archive.close()
    assert all(start % 64 == 0 for start in starts)
    with reopen() as found:
        assert found.testzip() is None
        assert {i.date_time for i in found.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {(i.compress_type, i.flag_bits) for i in found.infolist()} == {(zipfile.ZIP_STORED, 0)}


def test_members_may_be_sealed_in_any_order(opened):
    descriptor, reopen = opened
    archive = StoredZip(descriptor)
    members = []
    for name in ("one", "two", "three"):
        write_at(descriptor, name.encode(), archive.begin(name))
        members.append(archive.end(name, len(name)))
    for member in reversed(members):
        archive.seal(member, zlib.crc32(member.name))
    archive.close()
    with reopen() as found:
        assert found.testzip() is None
        assert found.namelist() == ["one", "two", "three"]
        assert found.read("two") == b"two"


def test_names_beyond_ascii_are_marked_as_utf8(opened):
    descriptor, reopen = opened
    archive = StoredZip(descriptor)
    archive.add("assets/größe/vocabulary.txt", [b"a"])
    archive.close()
    with reopen() as found:
        assert found.namelist() == ["assets/größe/vocabulary.txt"]
        assert found.infolist()[0].flag_bits == 0x800


def test_writing_over_an_older_archive_leaves_nothing_of_it(opened):
    descriptor, reopen = opened
    for data in (b"long" * 1000, b"short"):
        archive = StoredZip(descriptor)
        archive.add("x", [data])
        archive.close()
    with reopen() as found:
        assert found.read("x") == b"short"
    assert os.fstat(descriptor).st_size < 1000


@pytest.mark.parametrize("size", [EDGE - 1, EDGE, EDGE + 1, HUGE])
def test_a_member_of_4_gib_and_what_comes_behind_it(opened, size):
    """The file is sparse: its zeros take no room on the disk, and their CRC is computed, not read."""
    descriptor, reopen = opened
    archive = StoredZip(descriptor)
    archive.add("before", [b"b"])
    start = archive.begin("huge")
    os.ftruncate(descriptor, start + size)
    huge = archive.end("huge", size)
    archive.add("behind", [b"hello"])
    archive.seal(huge, 0)
    archive.close()
    with reopen() as found:
        infos = {i.filename: i for i in found.infolist()}
        assert list(infos) == ["before", "huge", "behind"]
        assert (infos["huge"].file_size, infos["huge"].compress_size) == (size, size)
        assert infos["behind"].header_offset > EDGE
        assert found.read("behind") == b"hello"
        at = infos["huge"].header_offset
    name, extra = struct.unpack("<2H", os.pread(descriptor, 4, at + 26))
    assert at + 30 + name + extra == start
    assert os.fstat(descriptor).st_blocks * 512 < 1 << 20


def test_the_checksum_of_a_huge_member_stands_in_both_headers(opened):
    descriptor, reopen = opened
    archive = StoredZip(descriptor)
    start = archive.begin("zeros")
    os.ftruncate(descriptor, start + HUGE)
    archive.seal(archive.end("zeros", HUGE), crc_of_zeros(HUGE))
    archive.close()
    with reopen() as found:
        assert crc_of_zeros(HUGE) == found.infolist()[0].CRC
    assert struct.unpack("<L", os.pread(descriptor, 4, 14))[0] == crc_of_zeros(HUGE)
    local = os.pread(descriptor, 20, 30 + len("zeros"))
    assert struct.unpack("<HHQQ", local) == (1, 16, HUGE, HUGE)


@pytest.mark.parametrize("count", [0xFFFE, 0xFFFF, 0x10001])
def test_more_members_than_16_bits_can_count(opened, count):
    descriptor, reopen = opened
    archive = StoredZip(descriptor)
    for i in range(count):
        archive._sealed.append((archive.end(f"{i}", 0), 0))  # headers would take seconds; only the count matters
    archive.close()
    with reopen() as found:
        assert len(found.namelist()) == count
        assert found.namelist()[-1] == str(count - 1)
