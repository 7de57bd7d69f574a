"""Several files that get their names as one step, whatever ends the process in the middle."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from transferpipe.errors import FileError
from transferpipe.files.publishing.atomic import NOTE, remove_stale, temporary_beside
from transferpipe.files.publishing.publish import publish_together, settle
from transferpipe.files.publishing.staging import Staging, unused_folder
from transferpipe.prove.run_folder import verify_run

# A process that is killed is one that does nothing more: the n-th call of these leaves a child at once.
KILLED = """
import json, os, sys
from pathlib import Path
from transferpipe.files.publishing.publish import settle
from transferpipe.files.publishing.staging import Staging

base, after = Path(sys.argv[1]), sys.argv[2] == "after"
CALLS = ("open", "close", "fsync", "link", "rename", "replace", "unlink", "mkdir", "stat", "write")

def child(folder, at):
    count = 0
    def wrapped(function):
        def call(*arguments, **options):
            nonlocal count
            count += 1
            mine = count == at
            if mine and not after:
                os._exit(9)
            try:
                return function(*arguments, **options)
            finally:
                if mine:
                    os._exit(9)
        return call
    with Staging(folder) as staging:
        for name in ("a", "new", "b", "sub/c"):
            staging.place(folder / name).write_text(f"new {name}")
        for name in CALLS:
            setattr(os, name, wrapped(getattr(os, name)))
        staging.publish(folder)
    os._exit(0)

def shown(folder):
    files = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_text() for p in files}

rows = []
for at in range(1, 400):
    folder = base / str(at)
    (folder / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c"):
        (folder / name).write_text(f"old {name}")
    if (pid := os.fork()) == 0:
        try:
            child(folder, at)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    killed = shown(folder)
    settle(folder)
    settled = shown(folder)
    with Staging(folder) as staging:
        staging.place(folder / "sub/c")
        staging.place(folder / "a")
    rows.append((status, killed, settled, shown(folder)))
    if status != 9:
        break
print(json.dumps(rows))
"""
OLD = {name: f"old {name}" for name in ("a", "b", "sub/c")}
NEW = {name: f"new {name}" for name in ("a", "b", "sub/c", "new")}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a copy of the process")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_any_call_all_files_are_of_one_kind_once_settled(tmp_path, moment):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path, moment], capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)
    assert rows[-1][0] == 0, "the last one was not killed"
    halves = 0
    for at, (_, killed, settled, cleaned) in enumerate(rows, 1):
        visible = {name: text for name, text in settled.items() if not Path(name).name.startswith(".")}
        assert visible in (OLD, NEW), at
        assert cleaned == visible, at  # and the next run removes whatever else there was
        halves += not any(all(killed.get(n) == t for n, t in kind.items()) for kind in (OLD, NEW))
    assert halves > 5  # without the note so many would have stayed so
    assert len(rows) > 40
    assert "its files are now all in place" in done.stderr


@pytest.fixture
def interrupted(tmp_path):
    """A folder in which a run was killed when one of two files had its name."""
    folder = tmp_path / "run"
    folder.mkdir()
    steps = []
    for name in ("a", "b"):
        (folder / name).write_text(f"old {name}")
        temporary, backup = temporary_beside(folder / name), temporary_beside(folder / name)
        temporary.write_text(f"new {name}")
        steps.append(step(temporary.name, name, backup.name, f"new {name}"))
        if name == "a":
            (folder / name).rename(backup)
            temporary.rename(folder / name)
    write_note(folder, steps)
    return folder


def step(temporary, path, backup, content, **changes):
    digest = hashlib.sha256(content.encode()).hexdigest()
    found = {"temporary": temporary, "path": path, "backup": backup, "replace": True, "replaced": True}
    return {**found, "size": len(content), "digest": digest, **changes}


def write_note(folder, steps):
    (folder / NOTE).write_text(json.dumps({"steps": steps}))


def read_steps(folder):
    return json.loads((folder / NOTE).read_text())["steps"]


def shown(folder):
    return {p.name: p.read_text() for p in folder.iterdir()}


def test_what_is_whole_is_finished(interrupted, caplog):
    settle(interrupted)
    assert shown(interrupted) == {"a": "new a", "b": "new b"}
    assert "an earlier run was interrupted while it published; its files are now all in place" in caplog.text


@pytest.mark.parametrize("damage", ["missing", "truncated", "other"])
def test_what_is_not_whole_is_undone(interrupted, caplog, damage):
    (entry,) = [e for e in read_steps(interrupted) if e["path"] == "b"]
    temporary = interrupted / entry["temporary"]
    temporary.unlink() if damage == "missing" else temporary.write_text("new" if damage == "truncated" else "nev b")
    settle(interrupted)
    assert shown(interrupted) == {"a": "old a", "b": "old b"}
    assert "every file is again as it was before that run" in caplog.text


def test_what_somebody_put_there_meanwhile_is_left_alone(interrupted):
    """The other file cannot be finished, and this one is none of the run's."""
    (interrupted / "a").write_text("by hand")
    settle(interrupted)
    assert shown(interrupted) == {"a": "by hand", "b": "old b"}


def test_a_name_that_was_free_and_is_taken_now_is_left_alone(interrupted):
    steps = read_steps(interrupted)
    write_note(interrupted, [steps[0], {**steps[1], "replace": False, "replaced": False}])
    settle(interrupted)
    assert shown(interrupted) == {"a": "old a", "b": "old b"}


def test_nothing_is_removed_that_settling_needs(interrupted):
    before = shown(interrupted)
    for entry in read_steps(interrupted):  # as if the process that wrote them were long gone
        assert (interrupted / entry["temporary"]).exists() or (interrupted / entry["backup"]).exists()
    assert not remove_stale(interrupted)
    assert shown(interrupted) == before


@pytest.mark.parametrize("who", ["its own next run", "a run beside it"])
def test_the_next_run_settles(interrupted, who):
    if who == "its own next run":
        with Staging(interrupted):
            pass
    else:
        with unused_folder(interrupted.with_name("other")):
            pass
    assert shown(interrupted) == {"a": "new a", "b": "new b"}


@pytest.mark.parametrize(
    "changes",
    [
        *({"temporary": "../victim"}, {"path": "../victim"}, {"path": "/etc/passwd"}),
        *({"backup": "../victim"}, {"temporary": "victim"}, {"backup": "a"}, {"path": "link/victim"}, {"path": ""}),
        *({"path": "a\0b"}, {"digest": "../x"}, {"size": "many"}, {"path": 3}, {"digest": 5}, {"more": 1}),
    ],
)
def test_a_note_from_elsewhere_reaches_nothing(interrupted, changes):
    victim = interrupted.parent / "victim"
    victim.write_text("mine")
    (interrupted / "link").symlink_to(interrupted.parent)
    steps = read_steps(interrupted)
    write_note(interrupted, [{**steps[0], **changes}, steps[1]])
    with pytest.raises(FileError, match=r"is not a note that transferpipe wrote.* remove it"):
        settle(interrupted)
    assert victim.read_text() == "mine"
    assert (interrupted / "b").read_text() == "old b"


@pytest.mark.follows("_read_note: look at the files")
@pytest.mark.parametrize("text", ["", "[]", "{}", '{"steps": 1}', '{"steps": [[]]}', "[" * 10_000, "\xff"])
def test_a_damaged_note_is_named(interrupted, text):
    (interrupted / NOTE).write_text(text)
    with pytest.raises(FileError, match="is not a note that transferpipe wrote"):
        settle(interrupted)
    (interrupted / NOTE).unlink()
    settle(interrupted)
    remove_stale(interrupted)
    assert (interrupted / "a").read_text() == "new a"


@pytest.mark.follows("_settle_locked: look at the files")
@pytest.mark.parametrize("kind", ["a pipe", "a folder"])
def test_a_note_that_is_not_a_file_is_named(interrupted, kind):
    (interrupted / NOTE).unlink()
    os.mkfifo(interrupted / NOTE) if kind == "a pipe" else (interrupted / NOTE).mkdir()
    with pytest.raises(FileError, match=r"is not a file.*then remove it"):
        settle(interrupted)
    (interrupted / NOTE).unlink() if kind == "a pipe" else (interrupted / NOTE).rmdir()
    settle(interrupted)


@pytest.mark.follows("settle: run `transferpipe verify …`")
def test_where_nothing_can_be_written_the_message_says_what_to_do(interrupted, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    with (
        monkeypatch.context() as patch,
        pytest.raises(FileError, match=r"was interrupted while it published here.*Permission denied.*verify"),
    ):
        patch.setattr(Path, "replace", refuse)
        settle(interrupted)
    with pytest.raises(FileError, match="manifest"):  # it is none of a run; but settled it is
        verify_run(interrupted)
    assert shown(interrupted) == {"a": "new a", "b": "new b"}


def test_a_file_alone_needs_no_note(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("transferpipe.files.publishing.publish.flush", lambda path: seen.append(path))
    temporary = temporary_beside(tmp_path / "a")
    temporary.write_text("new")
    publish_together(tmp_path, [(temporary, tmp_path / "a", True)])
    assert shown(tmp_path) == {"a": "new"}
    assert not seen


@pytest.mark.follows("_undone.remove_unless_needed: once that is put")
def test_what_cannot_be_undone_is_undone_later(tmp_path, monkeypatch):
    """The disk refuses from the second file on, also that the first one is put back."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"old {name}")
    staging = Staging(tmp_path)
    for name in ("a", "b"):
        staging.place(tmp_path / name).write_text(f"new {name}")
    real = Path.replace

    def replace(path, target):
        if Path(target).name in ("a", "b") and (tmp_path / "a").read_text() == "new a":
            raise OSError(28, "No space left on device")
        return real(path, target)

    with monkeypatch.context() as patch, staging, pytest.raises(FileError, match=r"put back.*No space.*verify"):
        patch.setattr(Path, "replace", replace)
        staging.publish(tmp_path)
    assert (tmp_path / "a").read_text() == "new a"
    with pytest.raises(FileError, match="manifest"):  # what the message says; it is none of a run, but settled it is
        verify_run(tmp_path)
    assert shown(tmp_path) == {"a": "old a", "b": "old b"}
