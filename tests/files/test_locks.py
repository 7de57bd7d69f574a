"""Locks between processes and between threads: who waits, who is turned away, and what a killed process leaves."""

import errno
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import filelock
import pytest

from transferpipe.errors import FileError
from transferpipe.files.locks import is_locked, lock_file, lock_file_if_free, lock_folder
from transferpipe.sweep.running.lock import is_running, only_one

HOLD = """
import sys, time
from pathlib import Path
from transferpipe.files import locks
from transferpipe.sweep.running.lock import only_one
kind, path = sys.argv[1], Path(sys.argv[2])
with {"file": locks.lock_file, "folder": locks.lock_folder, "sweep": only_one}[kind](path):
    print("held", flush=True)
    time.sleep(60)
"""
KINDS = {"file": (lock_file, "x.lock"), "folder": (lock_folder, "")}


@pytest.fixture
def hold():
    """Return a function that starts a process which holds a lock for as long as it lives."""
    started = []

    def start(kind, path):
        process = subprocess.Popen([sys.executable, "-c", HOLD, kind, str(path)], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def waiting(lock, path, entered):
    with lock(path):
        entered.set()


@pytest.mark.parametrize("kind", KINDS)
def test_who_waits_goes_on_when_the_holder_is_killed(hold, tmp_path, kind):
    lock, name = KINDS[kind]
    holder, entered = hold(kind, tmp_path / name), threading.Event()
    thread = threading.Thread(target=waiting, args=(lock, tmp_path / name, entered), daemon=True)
    thread.start()
    assert not entered.wait(0.3)
    holder.send_signal(signal.SIGKILL)
    assert entered.wait(10)
    thread.join()


@pytest.mark.parametrize("kind", KINDS)
def test_threads_of_one_process_wait_for_each_other(tmp_path, kind):
    lock, name = KINDS[kind]
    entered = threading.Event()
    thread = threading.Thread(target=waiting, args=(lock, tmp_path / name, entered), daemon=True)
    with pytest.raises(KeyError), lock(tmp_path / name):
        thread.start()
        assert not entered.wait(0.3)
        raise KeyError
    assert entered.wait(10)
    thread.join()


def test_a_folder_is_locked_without_a_file(tmp_path):
    with lock_folder(tmp_path):
        assert not list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_a_lock_that_is_held_is_not_waited_for(hold, tmp_path):
    path = tmp_path / "x.lock"
    assert not is_locked(path)
    assert not path.exists()
    holder = hold("file", path)
    assert is_locked(path)
    with lock_file_if_free(path) as free:
        assert not free
    holder.kill()
    holder.wait()
    assert not is_locked(path)
    with lock_file_if_free(path) as free:
        assert free
        assert is_locked(path)


def test_a_killed_sweep_keeps_nobody_out(hold, tmp_path):
    holder = hold("sweep", tmp_path)
    assert is_running(tmp_path)
    with pytest.raises(FileError, match="another sweep is running in this folder"), only_one(tmp_path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not is_running(tmp_path)
    with only_one(tmp_path):
        assert is_running(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF])
def test_a_file_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch, number):
    def refuse(handle, *, blocking):
        raise OSError(number, "no locks")

    monkeypatch.setattr(filelock, "lock_descriptor", refuse)
    begun = time.monotonic()
    with (
        lock_folder(tmp_path),
        lock_file(tmp_path / "x"),
        only_one(tmp_path),
        lock_file_if_free(tmp_path / "y") as free,
    ):
        assert free
    assert time.monotonic() - begun < 5


def test_a_lock_that_cannot_be_made(tmp_path):
    (tmp_path / "taken").write_text("")
    with (
        pytest.raises(FileError, match=f"{tmp_path / 'taken'}: cannot be written"),
        lock_file(Path(tmp_path / "taken/x")),
    ):
        pass
