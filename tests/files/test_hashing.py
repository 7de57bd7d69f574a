"""SHA-256 of what is read anyway: that of the whole file, of the bytes that were handed out, each read once; flushing."""

import hashlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from transferpipe.errors import FileError
from transferpipe.files import hashing as hashing_module
from transferpipe.files.hashing import HashedRead, written_back

SIZE = 100_003


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(np.random.default_rng(0).integers(0, 256, SIZE, np.uint8).tobytes())
    return path


@pytest.fixture
def reads(monkeypatch):
    """Return how many bytes were read so far, in a list of one; gaps are read in small parts."""
    monkeypatch.setattr(hashing_module, "CHUNK", 1000)
    real, count = hashing_module.read_into, [0]

    def read_into(descriptor, buffer, *arguments):
        count[0] += len(buffer)
        return real(descriptor, buffer, *arguments)

    monkeypatch.setattr(hashing_module, "read_into", read_into)
    return count


def entry_of(data):
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


IN_ORDER = {
    "nothing": [],
    "all of it": [(0, SIZE)],
    "parts in a row": [(k, min(7000, SIZE - k)) for k in range(0, SIZE, 7000)],
    "with gaps": [(10, 50), (60, 1), (5000, 20_000), (90_000, 10)],
    "nothing at the end": [(SIZE, 0)],
    "more than a buffer is large": [(3, 90_000)],
}


@pytest.mark.parametrize("parts", IN_ORDER.values(), ids=IN_ORDER)
def test_what_is_asked_for_in_order_is_read_once(file, reads, parts):
    data = file.read_bytes()
    with HashedRead(file) as hashed:
        assert all(hashed.read(offset, size).tobytes() == data[offset : offset + size] for offset, size in parts)
        assert hashed.entry() == entry_of(data)
    assert reads == [SIZE]


@pytest.mark.parametrize("seed", range(5))
def test_the_digest_is_that_of_the_file_in_whatever_order_it_is_read(file, reads, seed):
    data, random = file.read_bytes(), np.random.default_rng(seed)
    with HashedRead(file) as hashed:
        for offset in random.integers(0, SIZE, 40):
            size = int(random.integers(0, SIZE - offset + 1))
            assert hashed.read(int(offset), size).tobytes() == data[offset : offset + size]
        assert hashed.entry() == entry_of(data)


def test_what_was_handed_out_is_what_is_hashed(file):
    """A byte that changes behind the reader is in neither the comparison nor the digest; one before it in both."""
    data = bytearray(file.read_bytes())
    with HashedRead(file) as hashed, file.open("r+b", buffering=0) as other:
        assert hashed.read(0, 50_000).tobytes() == data[:50_000]
        for place in (100, 70_000):
            other.seek(place)
            other.write(bytes([data[place] ^ 1]))
        data[70_000] ^= 1
        assert hashed.read(50_000, 50_003).tobytes() == data[50_000:]
        assert hashed.entry() == entry_of(data)


def test_a_file_that_is_cut_is_refused_and_leaves_no_thread(file):
    before = threading.active_count()
    with pytest.raises(FileError, match="ends at byte 60,000"), HashedRead(file) as hashed:
        hashed.read(0, 50_000)
        os.truncate(file, 60_000)
        hashed.read(50_000, 50_003)
    assert threading.active_count() == before


def test_a_file_is_flushed_while_it_is_written(file, monkeypatch):
    monkeypatch.setattr(hashing_module, "_WRITE_BACK", 1000)
    flushed = threading.Semaphore(0)
    monkeypatch.setattr(hashing_module, "_flush_data", lambda descriptor: flushed.release())
    with ThreadPoolExecutor(1) as pool, written_back(file, pool) as following:
        following.settled(999)
        time.sleep(0.02)
        assert not flushed.acquire(blocking=False)
        for end in (1000, 5000):
            following.settled(end)
            assert flushed.acquire(timeout=10)


def test_a_writer_that_fails_ends_the_thread(file):
    with pytest.raises(ZeroDivisionError), ThreadPoolExecutor(1) as pool, written_back(file, pool) as following:
        following.settled(5)
        raise ZeroDivisionError
    assert threading.active_count() == 1 or not any("ThreadPool" in t.name for t in threading.enumerate())
