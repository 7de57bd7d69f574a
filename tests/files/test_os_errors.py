"""Whatever the operating system refuses is worded in one place, with what helps against that refusal."""

import errno
import os
from pathlib import Path

import pytest

import transferpipe
from transferpipe.errors import FileError
from transferpipe.files.atomic import new_folders, write_text
from transferpipe.files.json_text import read_mapping
from transferpipe.files.os_errors import cannot_be_read, cannot_be_written

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
        (errno.ESTALE, "check the path and who may read it"),
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
    with pytest.raises(FileError, match=r"cannot be written: File name too long -> choose a shorter name"):
        write_text(tmp_path / long, "")
    with pytest.raises(FileError, match=r"cannot be read: File name too long -> check the path"):
        read_mapping(tmp_path / long)
    with pytest.raises(FileError, match=r"cannot be read: Is a directory -> check the path"):
        read_mapping(tmp_path)


def test_nobody_else_words_what_the_system_says():
    found = {str(p.relative_to(PACKAGE)) for p in PACKAGE.rglob("*.py") if "strerror" in p.read_text(encoding="utf-8")}
    assert found == {"files/os_errors.py"}
