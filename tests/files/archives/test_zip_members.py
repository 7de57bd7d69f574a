"""Archives whose directory hides, loses or doubles members are refused; those of common tools are read."""

import io
import os
import struct
import subprocess
import time
import zipfile

import numpy as np
import pytest

from transferpipe.errors import FileError, TransferError, UnsafeError
from transferpipe.files.archives.zip_members import check_members, check_names
from transferpipe.weights.formats import open_source


def arrays(count=3):
    return {f"layer{i}/kernel": np.full((2, 3), i, "f4") for i in range(count)}


@pytest.fixture
def path(tmp_path):
    np.savez(tmp_path / "m.npz", **arrays())
    return tmp_path / "m.npz"


def check(path):
    with zipfile.ZipFile(path) as archive:
        check_members(path, archive, path.stat().st_size)
        check_names(path, archive)


def test_every_damage_to_the_directory_is_refused_or_changes_nothing_that_is_read(path):
    """Each byte of the central directory in turn: no weight disappears, changes its name or its values."""
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    refused = 0
    for at in range(start, len(data)):
        for flip in (0x01, 0x40):
            data[at] ^= flip
            path.write_bytes(data)
            data[at] ^= flip
            try:
                source = open_source(path)
                found = {w.name: source.read(w.name) for w in source.catalog}
            except TransferError:
                refused += 1
                continue
            assert found.keys() == arrays().keys(), f"byte {at} of {len(data)}, {flip:#x}"
            assert all(np.array_equal(found[name], value) for name, value in arrays().items())
    assert refused > (len(data) - start) // 2


@pytest.mark.parametrize("name", ["../x.npy", "/x.npy", "a/../../x.npy", "C:/x.npy", "a\\x.npy"])
def test_names_that_lead_out_are_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        member = zipfile.ZipInfo("x.npy")
        member.filename = name
        archive.writestr(member, b"")
    with pytest.raises(UnsafeError, match="is not a name inside"):
        check(tmp_path / "m.npz")


def test_links_are_refused_and_folders_are_not(tmp_path):
    link = zipfile.ZipInfo("assets/link")
    link.external_attr = 0o120777 << 16
    for member, fine in ((zipfile.ZipInfo("assets/"), True), (link, False)):
        with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
            archive.writestr(member, b"")
        if fine:
            check(tmp_path / "m.npz")
        else:
            with pytest.raises(UnsafeError, match="is a link"):
                check(tmp_path / "m.npz")


def test_bytes_that_belong_to_no_member_are_refused(path):
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        start, second = archive.start_dir, archive.infolist()[1].header_offset
    end = bytearray(data[start:])
    place = len(end) - 6
    struct.pack_into("<L", end, place, start + 8)
    path.write_bytes(data[:start] + b"8 hidden" + end)
    with pytest.raises(FileError, match="end at"):
        check(path)
    path.write_bytes(b"8 hidden" + data)
    with pytest.raises(FileError, match="ends at 0"):
        check(path)
    assert second > 0


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (4, 1, "is one of several files"),
        (6, 2, "is one of several files"),
        (20, 0xFFFF, "65,535 bytes follow, and 0 do"),
        (20, 1, "1 bytes follow, and 0 do"),
    ],
)
def test_an_end_that_cannot_be_true_is_refused(path, at, value, said):
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, len(data) - 22 + at, value)
    path.write_bytes(data)
    with pytest.raises(FileError, match=said):
        open_source(path)


def test_a_member_called_otherwise_in_its_own_header_is_refused(path):
    path.write_bytes(path.read_bytes().replace(b"layer1/kernel.npy", b"layer7/kernel.npy", 1))
    with pytest.raises(FileError, match="is called 'layer7"):
        check(path)


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (6, b"\1\0", "other flags"),  # encrypted
        (6, b"\x08\0", "other flags"),  # streamed
        (8, b"\x08\0", "another method"),
        (14, b"\1\2\3\4", "another checksum"),
        (14, b"\0\0\0\0", "another checksum"),
        (18, b"\3\0\0\0", "other sizes"),
        (22, b"\3\0\0\0", "other sizes"),
        (22, b"\0\0\0\0", "other sizes"),
    ],
)
def test_a_member_declared_otherwise_in_its_own_header_is_refused(tmp_path, at, value, said):
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr("a.npy", b"abcd")
    data = (tmp_path / "m.npz").read_bytes()
    check(tmp_path / "m.npz")
    (tmp_path / "m.npz").write_bytes(data[:at] + value + data[at + len(value) :])
    with pytest.raises(FileError, match=f"a.npy: has {said}"):
        check(tmp_path / "m.npz")


@pytest.mark.parametrize("name", ["assets/a\x1b[31m", "assets/a\nb", "assets/a\u202egpj", "assets/\x85"])
def test_names_with_control_characters_are_refused(tmp_path, name):
    for fine in (True, False):
        with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
            archive.writestr("assets/wörter 1.txt" if fine else name, b"")
        if fine:
            check(tmp_path / "m.npz")
        else:
            with pytest.raises(UnsafeError, match="control characters"):
                check(tmp_path / "m.npz")


def test_what_would_fill_the_disk_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("transferpipe.files.archives.zip_members._MOST_UNPACKED", 1 << 20)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(1 << 22))
    with pytest.raises(UnsafeError, match="would unpack to 4,194,304"):
        check(tmp_path / "bomb.npz")
    np.savez_compressed(tmp_path / "fine.npz", x=np.random.default_rng(0).random(1 << 16))
    check(tmp_path / "fine.npz")


def test_many_members_take_linear_time(tmp_path):
    with zipfile.ZipFile(tmp_path / "many.npz", "w") as archive:
        for i in range(70_000):  # more than an end without zip64 can count
            archive.writestr(f"{i}.txt", b"")
    begun = time.process_time()
    check(tmp_path / "many.npz")
    assert time.process_time() - begun < 5


def streamed(path):
    class Pipe(io.RawIOBase):
        """What cannot seek: Python then writes descriptors behind the members."""

        def __init__(self):
            self.file = path.open("wb")

        def writable(self):
            return True

        def write(self, data):
            return self.file.write(data)

        def close(self):
            self.file.close()
            super().close()

    with Pipe() as pipe, zipfile.ZipFile(pipe, "w") as archive:
        for name, value in arrays().items():
            buffer = io.BytesIO()
            np.save(buffer, value)
            archive.writestr(f"{name}.npy", buffer.getvalue())


def commented(path):
    np.savez(path, **arrays())
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"made by hand"


def named_beyond_ascii(path):
    np.savez(path, **arrays(), **{"schicht_ä/kernel": np.ones(2)})


def wide(path):
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in arrays().items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.save(member, value)


@pytest.mark.parametrize("write", [streamed, commented, named_beyond_ascii, wide])
def test_archives_of_common_tools_are_read(tmp_path, write):
    write(tmp_path / "m.npz")
    source = open_source(tmp_path / "m.npz")
    for name, value in arrays().items():
        assert np.array_equal(source.read(name), value)


@pytest.mark.skipif(not any(os.access(f"{p}/zip", os.X_OK) for p in os.get_exec_path()), reason="needs zip")
def test_archives_of_info_zip_are_read(tmp_path):
    (tmp_path / "in/layer").mkdir(parents=True)
    np.save(tmp_path / "in/layer/kernel.npy", np.ones((2, 3), "f4"))
    subprocess.run(["zip", "-q", "-r", "../m.npz", "."], cwd=tmp_path / "in", check=True)
    assert open_source(tmp_path / "m.npz").read("layer/kernel").shape == (2, 3)
