"""Files that appear complete or not at all."""

import errno
import os
import re
import subprocess
import sys

import pytest

from transferpipe.errors import FileError
from transferpipe.files.publishing import atomic
from transferpipe.files.publishing.atomic import (
    flush,
    new_folders,
    publish,
    remove_empty,
    remove_stale,
    temporary_beside,
    write_text,
)
from transferpipe.files.publishing.staging import Staging, unused_folder


@pytest.fixture(scope="module")
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def temporary_of(path, pid, monkeypatch):
    """Return the temporary name that the process `pid` would have given."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: pid)
        return temporary_beside(path)


# Temporary names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("m.keras", ".keras"),
        ("m.weights.h5", ".weights.h5"),
        ("m.v1.weights.h5", ".weights.h5"),
        ("m.v1.npz", ".npz"),
        ("a b\nc.safetensors", ".safetensors"),
        ("manifest.json", ".json"),
    ],
)
def test_a_temporary_name_is_hidden_beside_and_of_the_same_format(tmp_path, name, suffix):
    path = temporary_beside(tmp_path / name)
    assert path.parent == tmp_path
    assert path.name.startswith(f".{name}.")
    assert path.name.endswith(f".part{suffix}")
    assert f"-{os.getpid()}-" in path.name
    assert path != temporary_beside(tmp_path / name)


# Stale temporaries --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5", "a b\nc.npz", "manifest.json"])
def test_what_a_dead_process_left_is_removed(tmp_path, dead, monkeypatch, name):
    stale = temporary_of(tmp_path / name, dead, monkeypatch)
    stale.write_text("half")
    folder = stale.with_name(f"{stale.name}.x7k2")  # a writer's own working folder beside its file
    folder.mkdir()
    (folder / "inner").write_text("half")
    remove_stale(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="the system does not say when a process was started")
def test_what_a_process_left_whose_number_lives_again_is_removed(tmp_path):
    own = temporary_beside(tmp_path / "m.keras")
    pid = re.search(rf"-{os.getpid()}-([0-9a-f]+)-", own.name)
    earlier = own.with_name(own.name.replace(f"-{pid[1]}-", f"-{'0' * len(pid[1])}-"))
    for path in (own, earlier):
        path.write_text("half")
    remove_stale(tmp_path)
    assert list(tmp_path.iterdir()) == [own]


def test_what_a_living_process_writes_is_kept(tmp_path, monkeypatch):
    own = temporary_beside(tmp_path / "m.keras")
    parent = temporary_of(tmp_path / "m.keras", os.getppid(), monkeypatch)
    for path in (own, parent):
        path.write_text("half")
    remove_stale(tmp_path)
    assert own.exists()
    assert parent.exists()


def test_what_another_user_writes_is_kept(tmp_path, monkeypatch):
    def kill(pid, signal):
        raise PermissionError

    path = temporary_beside(tmp_path / "m.keras")
    path.write_text("half")
    monkeypatch.setattr(os, "kill", kill)
    remove_stale(tmp_path)
    assert path.exists()


def test_what_another_machine_writes_into_a_shared_folder_is_kept(tmp_path, dead, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(atomic.platform, "node", lambda: "another")
        path = temporary_of(tmp_path / "m.keras", dead, monkeypatch)
    path.write_text("half")
    remove_stale(tmp_path)
    assert path.exists()


@pytest.mark.parametrize(
    "name",
    [
        *("m.keras", ".m.keras", ".m.keras.part", ".m.part.keras", ".m.keras.123-0123abcd.part.keras"),
        *("{stale}x", "x{stale}", ".{host}-{pid}-0123abcd.part", ".m.{host}-" + "9" * 30 + "-0123abcd.part"),
        ".m.{host}-{pid}-0123ABCD.part",
    ],
)
def test_files_of_other_names_are_kept(tmp_path, dead, monkeypatch, name):
    stale = temporary_of(tmp_path / "m", dead, monkeypatch).name
    host = re.fullmatch(r"\.m\.([0-9a-f]{8})-.*", stale)[1]
    path = tmp_path / name.format(stale=stale, host=host, pid=dead)
    path.write_text("kept")
    remove_stale(tmp_path)
    assert path.read_text() == "kept"


def test_a_new_run_removes_what_killed_ones_left_in_folders_of_their_own(tmp_path, dead, monkeypatch):
    """Every run has a folder of its own, so nobody else comes by there."""
    killed, finished = tmp_path / "2026-01-01", tmp_path / "2026-01-02"
    for folder in (killed, finished):
        folder.mkdir()
        temporary_of(folder / "model.keras", dead, monkeypatch).write_bytes(b"x" * 100)
    (finished / "model.keras").write_bytes(b"done")
    with unused_folder(tmp_path / "2026-01-03") as chosen:
        pass
    assert sorted(tmp_path.rglob("*")) == [finished, finished / "model.keras", chosen]


def test_what_cannot_be_removed_is_left(tmp_path, dead, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError

    stale = temporary_of(tmp_path / "m.keras", dead, monkeypatch)
    stale.write_text("half")
    monkeypatch.setattr(type(stale), "unlink", refuse)
    remove_stale(tmp_path)


# Publishing ---------------------------------------------------------------------------------------------------------


def test_publishing_replaces_what_stood_there(tmp_path):
    path, temporary = tmp_path / "m.json", tmp_path / "t"
    path.write_text("old")
    temporary.write_text("new")
    flush(temporary)
    publish(temporary, path)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_publishing_onto_a_folder_fails_and_changes_nothing(tmp_path):
    path, temporary = tmp_path / "m.json", tmp_path / "t"
    (path / "inner").mkdir(parents=True)
    temporary.write_text("new")
    with pytest.raises(FileError, match=r"m\.json: cannot be written: Is a directory -> choose another folder"):
        publish(temporary, path)
    assert (path / "inner").is_dir()


def test_a_small_file_appears_whole(tmp_path, monkeypatch):
    path, seen = tmp_path / "m.json", []
    monkeypatch.setattr(atomic, "publish", lambda t, *rest: seen.append(t.read_text()) or publish(t, *rest))
    write_text(path, "слово")
    assert path.read_bytes() == "слово".encode()
    assert seen == ["слово"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_small_file_that_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "m.json"
    path.write_text("old")

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "flush", fail)
    with pytest.raises(FileError, match=r"m\.json: cannot be written: .*No space left on device"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# New folders --------------------------------------------------------------------------------------------------------


def test_new_folders_stay_if_all_goes_well(tmp_path):
    with new_folders(tmp_path / "a" / "b"):
        pass
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_new_folders_are_removed_on_failure(tmp_path, error):
    (tmp_path / "old").mkdir()
    with pytest.raises(error), new_folders(tmp_path / "old" / "a" / "b"):
        raise error
    assert list(tmp_path.iterdir()) == [tmp_path / "old"]
    assert list((tmp_path / "old").iterdir()) == []


def test_folders_that_were_there_or_hold_something_are_kept(tmp_path):
    (tmp_path / "old").mkdir()
    with pytest.raises(ValueError, match="x"), new_folders(tmp_path / "old"):
        raise ValueError("x")
    with pytest.raises(ValueError, match="x"), new_folders(tmp_path / "a" / "b"):
        (tmp_path / "a" / "log").write_text("x")
        raise ValueError("x")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "log", "old"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "a"):
        with pytest.raises(FileError, match=r"cannot be written: .* -> choose another folder"), new_folders(folder):
            pytest.fail("the body ran")
    assert (tmp_path / "file").is_file()


def test_a_folder_that_may_not_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(FileError, match=r"no permission to write in .*a"), new_folders(tmp_path / "a"):
        pytest.fail("the body ran")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_even_be_looked_at(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "exists", refuse)
    with pytest.raises(FileError, match="Permission denied"), new_folders(tmp_path / "a"):
        pytest.fail("the body ran")


def test_remove_empty(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "file").write_text("")
    remove_empty([tmp_path / "a" / "b", tmp_path / "a", tmp_path / "c", tmp_path / "gone"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c"]


# Undoing: every call of the system fails in turn -------------------------------------------------------------------

_CALLS = ("link", "rename", "replace", "unlink", "fsync", "stat", "open")


class _Failing:
    """Lets the n-th call of any of these functions of `os` fail, before it is done or after it."""

    def __init__(self, monkeypatch, at, after):
        self.count, self.at, self.after, self.name = 0, at, after, None
        for name in _CALLS:
            monkeypatch.setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name, function):
        def call(*arguments, **options):
            self.count += 1
            if self.count != self.at:
                return function(*arguments, **options)
            self.name = name
            if self.after:
                function(*arguments, **options)
            raise OSError(errno.EIO, "Input/output error")

        return call


def _published_with_failures(folder, monkeypatch, at, after):
    """Replace two old files and make one new one, in one step; return whether it was done, and what is there then."""
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text(f"old {name}")
    done = True
    with pytest.MonkeyPatch.context() as patch, Staging() as staging:
        for name in ("a", "new", "b"):
            staging.place(folder / name).write_text(f"new {name}")
        failing = _Failing(patch, at, after)
        try:
            staging.publish(folder)
        except (FileError, OSError):
            done = False
        patch.undo()
    return done, {p.name: p.read_text() for p in folder.iterdir()}, failing


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_whatever_fails_the_old_files_are_back_or_the_new_ones_all_there(tmp_path, monkeypatch, after):
    old, new = {"a": "old a", "b": "old b"}, {n: f"new {n}" for n in ("a", "b", "new")}
    seen = set()
    for at in range(1, 200):
        done, files, failing = _published_with_failures(tmp_path / str(at), monkeypatch, at, after)
        if done:  # a second name of an old file that could not be removed is hidden, and the next run removes it
            files = {name: text for name, text in files.items() if not name.startswith(".")}
        assert files == (new if done else old), (at, failing.name, files)
        seen.add(failing.name)
        if failing.count < at:
            break
    assert {"link", "fsync", "open"} < seen
    assert "rename" in seen or "replace" in seen
    assert at > 15


def test_a_small_file_is_the_old_one_when_its_folder_cannot_be_flushed(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_text(path, "old")
    calls = []

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(FileError, match="Input/output error"):
        write_text(path, "new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("result.json", "old")]


def test_nothing_of_another_program_is_removed(tmp_path):
    """What appeared meanwhile is not ours: it stays."""
    temporary, path = tmp_path / "t", tmp_path / "m"
    temporary.write_text("ours")
    path.write_text("theirs")
    with pytest.raises(FileError, match="something else wrote it"):
        publish(temporary, path, replace=False)
    assert path.read_text() == "theirs"


@pytest.mark.parametrize("full", [True, False])
def test_an_empty_folder_is_removed_without_being_read(tmp_path, monkeypatch, full):
    (tmp_path / "parts").mkdir()
    if full:
        (tmp_path / "parts" / "one").touch()
    else:
        monkeypatch.setattr(os, "scandir", lambda *_: 1 / 0)
        monkeypatch.setattr(os, "open", lambda *_, **__: 1 / 0)
    atomic.remove(tmp_path / "parts")
    monkeypatch.undo()
    assert not (tmp_path / "parts").exists()
