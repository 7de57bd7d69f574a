"""Whatever the operating system refuses is worded in one place, with what helps against that refusal."""

import errno
import os
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

import transferpipe
from transferpipe.errors import FileError, Problem
from transferpipe.files.json_text import read_mapping
from transferpipe.files.os_errors import (
    cannot_be_read,
    cannot_be_written,
    check_folder_readable,
    close_file,
    explain_machine_error,
    refusals_said,
)
from transferpipe.files.publishing.atomic import new_folders, write_text
from transferpipe.models.building.limits import memory_limited
from transferpipe.weights.formats import open_source

PACKAGE = Path(transferpipe.__file__).parent


@pytest.mark.parametrize(
    ("code", "helps"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EFBIG, "make room"),
        (errno.EDQUOT, "remove files of your own"),
        (errno.EACCES, "who may write"),
        (errno.EPERM, "who may write"),
        (errno.EROFS, "nothing can be written to this disk"),
        (errno.ENAMETOOLONG, "shorter name"),
        (errno.ENOTDIR, "another folder"),
        (errno.ENOENT, "another folder"),
        (errno.EIO, "check the disk"),
        (errno.EMFILE, "allow more open files"),
        (errno.ENFILE, "allow more open files"),
        (errno.ENOMEM, "more memory"),
        (errno.ESTALE, "mount the network drive again"),
        (errno.EBUSY, "no other program uses it"),
        (None, "save elsewhere"),
    ],
)
def test_what_keeps_a_file_from_being_written(code, helps):
    error = OSError("a library's own text") if code is None else OSError(code, os.strerror(code))
    refused = cannot_be_written(Path("folder/x.keras"), error)
    assert (type(refused), refused.status) == (FileError, 4)
    problem = refused.problems[0]
    assert problem.where == str(Path("folder/x.keras"))
    assert (
        problem.what
        == f"cannot be written: {'a library' + chr(39) + 's own text' if code is None else os.strerror(code)}"
    )
    assert helps in problem.fix


@pytest.mark.parametrize(
    ("code", "helps"),
    [
        (errno.ENOENT, "check the path"),
        (errno.ENAMETOOLONG, "check the path"),
        (errno.EACCES, "check who may read it"),
        (errno.EIO, "check the disk"),
        (errno.EMFILE, "run fewer at once, or allow more open files (`ulimit -n`)"),
        (errno.ESTALE, "mount the network drive again, and run again"),
        (errno.ENOMEM, "close other programs, run fewer at once, or use a machine with more memory"),
        (errno.ETXTBSY, "wait until no other program uses it, and run again"),
        (errno.EBADF, "check the path and who may read it"),
    ],
)
def test_what_keeps_a_file_from_being_read(code, helps):
    problem = cannot_be_read("x", OSError(code, os.strerror(code))).problems[0]
    assert (problem.what, problem.fix) == (f"cannot be read: {os.strerror(code)}", helps)


def test_what_this_system_refuses(tmp_path):
    taken, long = tmp_path / "taken", "x" * 300
    taken.write_text("")
    with pytest.raises(FileError, match=r"it is a file, not a folder -> choose another folder"), new_folders(taken):
        pass
    with pytest.raises(FileError, match=r"Not a directory -> choose another folder"), new_folders(taken / "in"):
        pass
    (tmp_path / "lost").symlink_to("nowhere")
    with pytest.raises(FileError, match=r"lost: cannot be written: it is a link that leads nowhere -> choose another"):
        new_folders(tmp_path / "lost" / "in").__enter__()
    with pytest.raises(FileError, match=r"cannot be written: File name too long -> choose a shorter name"):
        write_text(tmp_path / long, "")
    with pytest.raises(FileError, match=r"cannot be read: File name too long -> check the path"):
        read_mapping(tmp_path / long)
    with pytest.raises(FileError, match=r"cannot be read: Is a directory -> check the path"):
        read_mapping(tmp_path)


def test_thousands_of_folders_in_each_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    deep = Path(*["a"] * 1200)
    with pytest.raises(RuntimeError), new_folders(deep):
        assert deep.is_dir()
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_disk_that_nobody_can_write_to_is_no_matter_of_permissions(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(FileError, match="no permission to write in it -> save elsewhere, or change who may write"):
        new_folders(tmp_path).__enter__()
    flags = os.statvfs_result([0] * 8 + [os.ST_RDONLY, 0])
    monkeypatch.setattr(os, "statvfs", lambda _: flags)
    with pytest.raises(FileError, match="Read-only file system -> save elsewhere: nothing can be written"):
        new_folders(tmp_path).__enter__()
    with pytest.raises(FileError, match="cannot be read: Permission denied -> check who may read it"):
        check_folder_readable(tmp_path)


def test_errors_of_descriptors_name_the_file():
    with pytest.raises(OSError, match="some/where"):
        close_file(1 << 20, Path("some/where"))


@pytest.mark.follows("explain_machine_error: change to another folder")
def test_a_working_directory_that_is_gone(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(FileNotFoundError) as caught:
        Path.cwd()
    (problem,) = explain_machine_error(caught.value).problems
    assert str(problem).startswith("the working directory: is not there any more: somebody removed it -> change to")
    monkeypatch.chdir(tmp_path)
    assert Path.cwd() == tmp_path


def test_nobody_else_words_what_the_system_says():
    found = {str(p.relative_to(PACKAGE)) for p in PACKAGE.rglob("*.py") if "strerror" in p.read_text(encoding="utf-8")}
    assert found == {"files/os_errors.py"}


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.EACCES, errno.ENOSPC])
@pytest.mark.parametrize("how", ["as it is", "as a cause", "behind a library's error"])
def test_what_the_machine_refuses_is_not_said_to_be_the_files_fault(code, how):
    """zipfile says "not a zip file" of an archive whose end cannot be read, and that is what a reader passes on."""

    def read():
        refused = OSError(code, os.strerror(code), "folder/part")
        if how == "as it is":
            raise refused
        try:
            raise refused
        except OSError as error:
            if how == "as a cause":
                raise FileError(Problem("x", "is damaged", "download it again")) from error
            try:
                raise zipfile.BadZipFile("not a zip file")
            except zipfile.BadZipFile as hidden:
                raise FileError(Problem("x", "is damaged", "download it again")) from hidden

    with pytest.raises(FileError) as caught, refusals_said(Path("x")):
        read()
    (problem,) = caught.value.problems
    assert (problem.where, problem.what) == ("folder/part", f"cannot be read: {os.strerror(code)}")
    assert "download" not in problem.fix


def test_what_is_the_files_fault_stays_so():
    with pytest.raises(FileError, match="is damaged"), refusals_said(Path("x")):
        raise FileError(Problem("x", "is damaged")) from ValueError("odd")
    with pytest.raises(FileNotFoundError), refusals_said(Path("x")):
        raise FileNotFoundError(errno.ENOENT, "none", "x")


@pytest.mark.parametrize(
    ("code", "helps"),
    [
        (errno.ENOSPC, "make room, or save elsewhere"),
        (errno.EDQUOT, "remove files of your own from this disk, or save elsewhere"),
        (errno.EROFS, "save elsewhere: nothing can be written to this disk"),
        (errno.EIO, "check the disk"),
        (errno.EMFILE, "run fewer at once, or allow more open files (`ulimit -n`)"),
        (errno.EBUSY, "wait until no other program uses it, and run again"),
        (errno.EACCES, "check the paths and who may read and write them"),
    ],
)
def test_what_nobody_has_said_anything_of(code, helps):
    refused = explain_machine_error(OSError(code, os.strerror(code), "folder/x"))
    assert (refused.status, refused.problems[0].where) == (4, "folder/x")
    assert refused.problems[0].what == f"cannot be read or written: {os.strerror(code)}"
    assert refused.problems[0].fix == helps
    assert explain_machine_error(OSError(code, "x")).problems[0].where == "a file of this run"


@pytest.mark.follows("explain_machine_error: close other programs, run #2")
def test_threads_that_the_system_refuses(monkeypatch):
    """What it allows more of, it starts; refused as Python itself does."""
    allowed = []
    name = next(
        n for n in ("_start_joinable_thread", "_start_new_thread") if hasattr(threading, n)
    )  # since 3.13, before
    start = getattr(threading, name)
    monkeypatch.setattr(threading, name, lambda *given, **keys: start(*given, **keys) if allowed else refuse())

    def refuse():
        raise RuntimeError("can't start new thread")

    thread = threading.Thread(target=lambda: allowed.append(2))
    with pytest.raises(RuntimeError) as caught:
        thread.start()
    (problem,) = explain_machine_error(caught.value).problems
    assert (problem.what, problem.fix) == (
        "the system lets no more threads be started",
        "close other programs, run fewer at once, or allow more processes (`ulimit -u`)",
    )
    assert explain_machine_error(RuntimeError("something else")) is None
    allowed.append(1)
    thread = threading.Thread(target=lambda: allowed.append(2))
    thread.start()
    thread.join()
    assert allowed == [1, 2]


@pytest.mark.follows("explain_machine_error: close other programs, run")
def test_memory_and_what_libraries_say_without_a_code():
    with pytest.raises(MemoryError) as caught, memory_limited(1 << 28):
        np.ones(1 << 27)
    assert "there is not enough memory -> close other programs" in str(explain_machine_error(caught.value))
    assert np.ones(1 << 26).nbytes == 1 << 29  # with more memory
    assert explain_machine_error(OSError("a library's own text")) is None


@pytest.mark.follows(
    "cannot_be_read: check who may read",
    "cannot_be_written: save elsewhere, or change",
    "explain_machine_error: check the disk",
)
def test_more_open_files_are_allowed(tmp_path):
    """What the message advises, by the same system call that `ulimit -n` makes."""
    resource = pytest.importorskip("resource")
    np.save(tmp_path / "a.npy", np.ones(3))
    assert open_source(tmp_path / "a.npy").read("a").size == 3  # imports what it needs
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        with pytest.raises(FileError) as caught:
            open_source(tmp_path / "a.npy")
        with pytest.raises(FileError) as unwritten:
            write_text(tmp_path / "x.json", "{}")
        with pytest.raises(OSError) as unsaid:
            (tmp_path / "x.json").open("w")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "Too many open files -> run fewer at once, or allow more open files (`ulimit -n`)" in str(caught.value)
    assert open_source(tmp_path / "a.npy").read("a").tolist() == [1, 1, 1]
    assert "Too many open files -> run fewer at once, or allow more open files (`ulimit -n`)" in str(unwritten.value)
    assert "x.json: cannot be read or written: Too many open files -> run fewer" in str(
        explain_machine_error(unsaid.value)
    )
    write_text(tmp_path / "x.json", "{}")
