"""Writing under fire: no room, no permission, sources that change or end while they are copied.

Whatever happens, the error says what and where, what stood there before is as it was, and nothing is left over.
"""

import errno
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hand_made import assert_same, dense, named, read_weights, write_archive

import transferpipe as tp
from transferpipe.save.assets import archived
from transferpipe.save.writers import fill
from transferpipe.weights.formats import open_source
from transferpipe.weights.formats.keras import archive

SUFFIXES = [".keras", ".weights.h5", ".safetensors", ".npz"]
OLD = b"what stood there before"
LAYERS = 6


@pytest.fixture
def files(tmp_path):
    """A source, a target with an asset, and a folder with an older output of every format."""
    source = write_archive(tmp_path / "s.keras", [dense(f"d{i}", 20, 10, i) for i in range(LAYERS)])
    others = [dense(f"d{i}", 20, 10, 100 + i) for i in range(LAYERS)]
    target = write_archive(tmp_path / "t.keras", others, assets={"assets/v.txt": b"a\n" * 9})
    out = tmp_path / "out"
    out.mkdir()
    for suffix in SUFFIXES:
        (out / f"model{suffix}").write_bytes(OLD)
    return source, target, out


def run(files, suffix=".keras", **recipe):
    source, target, out = files
    save = {"path": f"model{suffix}", "overwrite": True}
    rules = {"all": {"to": "d[0-3]"}}
    return tp.transfer(source, target, folder=out, mapping=rules, unmatched="keep", save=save, **recipe)


def assert_untouched(out):
    assert sorted(p.name for p in out.iterdir()) == sorted(f"model{s}" for s in SUFFIXES)
    assert all(p.read_bytes() == OLD for p in out.iterdir())


def fail_after(monkeypatch, allowed, error):
    """Let `os.pwrite` fail once it was called so often; return the number of calls left."""
    left, real = [allowed], os.pwrite

    def pwrite(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise error
        return real(*arguments)

    monkeypatch.setattr(os, "pwrite", pwrite)
    return left


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_room_at_any_write(files, monkeypatch, suffix):
    """Every single write may be the one that does not fit."""
    with monkeypatch.context() as patch:
        left = fail_after(patch, 10**9, OSError())
        run(files, suffix)
        writes = 10**9 - left[0]
    shutil.rmtree(files[2])
    files[2].mkdir()
    for s in SUFFIXES:
        (files[2] / f"model{s}").write_bytes(OLD)
    assert writes > LAYERS
    for allowed in [0, 1, 2, *range(3, writes, max(1, writes // 12)), writes - 1]:
        with monkeypatch.context() as patch:
            fail_after(patch, allowed, OSError(errno.ENOSPC, "No space left on device"))
            with pytest.raises(tp.FileError, match=f"{files[2]}: cannot be written: No space left on device -> make"):
                run(files, suffix)
        assert_untouched(files[2])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_in_which_nothing_can_be_made(files, monkeypatch, suffix):
    real = os.open

    def refuse(path, flags, *rest, **more):
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system")
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(tp.FileError, match="cannot be written: Read-only file system"):
        run(files, suffix)
    monkeypatch.undo()
    assert_untouched(files[2])


LIMITED = """
import resource, sys, transferpipe as tp
source, target, *cases = sys.argv[1:]
for case in cases:
    limit, _, path = case.partition(":")
    folder, _, name = path.rpartition("/")
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    try:
        tp.transfer(
            source, target, folder=folder, mapping={}, unmatched="keep", save={"path": name, "overwrite": True}
        )
    except tp.FileError as error:
        print(error)
"""


def test_the_system_refuses_to_write_more(files):
    """As with a quota. HDF5's own writes are among those refused, which must not bring the process down."""
    source, target, out = files
    cases = {}
    for suffix in SUFFIXES:
        size = run(files, suffix).artifacts[0].stat().st_size
        assert size > 3000
        cases |= {
            out.with_name(f"out{limit}{suffix}") / f"model{suffix}": min(limit, size - 500) for limit in (2000, 9000)
        }
    for case in cases:
        case.parent.mkdir()
        for suffix in SUFFIXES:
            (case.parent / f"model{suffix}").write_bytes(OLD)
    done = subprocess.run(  # nothing is transferred, of which it warns
        [sys.executable, "-W", "ignore", "-c", LIMITED, source, target, *(f"{n}:{case}" for case, n in cases.items())],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for case, line in zip(cases, done.stdout.splitlines(), strict=True):
        assert line.startswith(f"{case.parent}: cannot be written: File too large -> make room")
        assert_untouched(case.parent)


def in_the_middle(monkeypatch, action, after=1):
    """Do something to the source after the first piece was copied, before the second; or after so many pieces."""
    real, done = fill._move, []

    def move(*arguments):
        result = real(*arguments)
        done.append(result)
        if len(done) == after:
            action()
        return result

    monkeypatch.setattr(fill, "_move", move)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("which", ["source", "target"])
def test_a_file_that_is_written_to_while_it_is_copied(files, monkeypatch, suffix, which):
    path = files[which == "target"]

    def change():
        with path.open("r+b") as file:
            file.seek(3000)
            file.write(b"\0" * 4000)

    in_the_middle(monkeypatch, change)
    with pytest.raises(tp.FileError, match=f"{path}: changed since it was opened -> run again"):
        run(files, suffix)
    assert_untouched(files[2])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_source_that_is_cut_while_it_is_copied(files, monkeypatch, suffix):
    in_the_middle(monkeypatch, lambda: os.truncate(files[0], 5000))
    with pytest.raises(tp.FileError, match=r"s\.keras: ends at byte 5,000, before the values"):
        run(files, suffix)
    assert_untouched(files[2])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_source_that_is_replaced_while_it_is_copied(files, monkeypatch, suffix):
    other = write_archive(files[0].with_name("other.keras"), [dense(f"d{i}", 20, 10, 50 + i) for i in range(LAYERS)])
    in_the_middle(monkeypatch, lambda: other.replace(files[0]))
    with pytest.raises(tp.FileError, match=r"s\.keras: changed.* since it was opened"):
        run(files, suffix)
    assert_untouched(files[2])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_source_that_vanishes_while_it_is_copied(files, monkeypatch, suffix):
    in_the_middle(monkeypatch, files[0].unlink)
    with pytest.raises(tp.FileError, match=r"s\.keras: cannot be read: No such file"):
        run(files, suffix)
    assert_untouched(files[2])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("which", ["source", "target"])
@pytest.mark.parametrize("place", ["moved", "not moved", "between"])
def test_a_large_file_that_is_damaged(files, monkeypatch, suffix, which, place):
    """One that is not summed up when it is opened: also where the damage is in what nobody takes."""
    monkeypatch.setattr(archive, "_CHECKED_FIRST", 0)
    path, seed = files[which == "target"], 100 if which == "target" else 0
    data = bytearray(path.read_bytes())
    # Of the source d0 to d3 are taken, of the target the others are kept.
    taken, left = ("d1", "d5") if which == "source" else ("d5", "d1")
    if place == "between":  # an alignment of HDF5, or of the archive's member
        name, at = taken, -1
    else:
        name, at = (taken if place == "moved" else left), 5
    number = int(name[1])
    data[data.index(dense(name, 20, 10, seed + number)["arrays"][0].tobytes()) + at] ^= 1
    path.write_bytes(data)
    with pytest.raises(tp.FileError, match=f"{path}: model.weights.h5: is damaged: its checksum is"):
        run(files, suffix)
    assert_untouched(files[2])


def test_a_change_that_hides_its_time_is_found_by_the_proof(files, monkeypatch):
    times = files[0].stat()

    def change():
        data = bytearray(files[0].read_bytes())
        at = data.index(dense("d0", 20, 10, 0)["arrays"][0].tobytes())  # what was copied already
        data[at : at + 4] = b"\1\2\3\4"
        with files[0].open("r+b") as file:
            file.write(data)
        os.utime(files[0], ns=(times.st_atime_ns, times.st_mtime_ns))

    in_the_middle(monkeypatch, change, after=2 * LAYERS)
    with pytest.raises(tp.VerificationError, match="d0/kernel: the value in the file is not the one"):
        run(files)
    assert_untouched(files[2])


def test_an_archive_that_changes_before_its_assets_are_read(files, monkeypatch):
    """They come last, when every value was copied; all weights come from elsewhere, so nothing else asks the target."""
    in_the_middle(monkeypatch, lambda: os.utime(files[1]))
    with pytest.raises(tp.FileError, match=r"t\.keras: changed since it was opened"):
        save = {"path": "model.keras", "overwrite": True}
        tp.transfer(files[0], files[1], folder=files[2], mapping={"all": {"to": ".*"}}, save=save)
    assert_untouched(files[2])


@pytest.mark.follows("_chunks: the file is damaged:")
def test_a_damaged_asset(files):
    sound = files[1].read_bytes()
    data = bytearray(files[1].read_bytes())
    at = data.index(b"a\na\na\n")
    data[at] ^= 1
    files[1].write_bytes(data)
    with pytest.raises(tp.FileError, match=r"t\.keras: assets/v\.txt: cannot be read: Bad CRC-32"):
        run(files)
    assert_untouched(files[2])
    files[1].write_bytes(sound)  # copied again
    run(files)


@pytest.mark.follows("archived: run again")
def test_an_archive_that_is_away_for_a_moment(files):
    source = open_source(files[1])
    files[1].rename(files[1].with_name("away"))
    with pytest.raises(tp.FileError, match="-> run again"):
        list(archived(source))
    files[1].with_name("away").rename(files[1])
    assert [(name, b"".join(parts)) for name, parts in archived(open_source(files[1]))] == [
        ("assets/v.txt", b"a\n" * 9)
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_interrupted_in_the_middle(files, monkeypatch, suffix, error):
    def stop():
        raise error

    in_the_middle(monkeypatch, stop)
    with pytest.raises(error):
        run(files, suffix)
    assert_untouched(files[2])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_output_on_another_file_system(files, suffix):
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == files[0].stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    out = elsewhere / f"transferpipe-{os.getpid()}"
    try:
        run((files[0], files[1], out), suffix)
        assert sorted(p.name for p in out.iterdir()) == sorted([f"model{suffix}", "manifest.json", "plan.json"])
        if suffix == ".keras":
            wanted = [dense(f"d{i}", 20, 10, i if i < 4 else 100 + i) for i in range(LAYERS)]
            assert_same(read_weights(out / "model.keras"), named(wanted))
    finally:
        shutil.rmtree(out, ignore_errors=True)


def test_a_failed_publish_keeps_the_old_file_where_files_have_no_second_names(files, monkeypatch):
    """As on FAT and some network file systems; the folder in the way makes the publication fail half way."""
    (files[2] / "plan.json").mkdir()

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(tp.FileError, match=r"plan\.json"):
        run(files)
    (files[2] / "plan.json").rmdir()
    assert_untouched(files[2])


def test_nothing_of_a_longer_run_before_is_left_in_the_file(files):
    """The new file is smaller than the old one."""
    (files[2] / "model.keras").write_bytes(b"x" * 10**6)
    run(files)
    with zipfile.ZipFile(files[2] / "model.keras") as archive:
        assert archive.testzip() is None
    assert (files[2] / "model.keras").stat().st_size < 10**5
