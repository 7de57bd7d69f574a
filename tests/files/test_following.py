"""Hashing a file while it is written: the same digest as of the finished file, and never a wait that does not end."""

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from transferpipe.files import hashing as following_module
from transferpipe.files.hashing import followed


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(following_module, "CHUNK", 64)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.mark.parametrize("steps", [[0], [1], [63, 64, 65], [1000], [10, 10, 500], []])
def test_the_digest_is_that_of_the_finished_file(pool, tmp_path, steps):
    path = tmp_path / "x"
    path.write_bytes(b"")
    with path.open("r+b", buffering=0) as file, followed(path, pool) as (following, entry):
        for step, size in enumerate(steps):
            file.write(bytes([step + 1]) * size)
            following.settled(file.tell())
        file.write(b"the end, of which nobody was told")
    data = path.read_bytes()
    assert entry.result(10) == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_bytes_that_are_not_settled_may_change(pool, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes(1000))
    with path.open("r+b", buffering=0) as file, followed(path, pool) as (following, entry):
        following.settled(100)
        time.sleep(0.05)  # it has read what it may by now
        file.seek(100)
        file.write(b"other")
    assert entry.result(10)["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_writer_that_fails_ends_the_thread(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes(10))
    with pytest.raises(ZeroDivisionError), ThreadPoolExecutor(1) as pool, followed(path, pool) as (following, _):
        following.settled(5)
        raise ZeroDivisionError
    assert threading.active_count() == 1 or not any("ThreadPool" in t.name for t in threading.enumerate())
