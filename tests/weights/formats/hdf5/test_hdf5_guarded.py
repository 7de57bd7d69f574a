"""HDF5 in a child: what loops, crashes or eats memory there ends as an error here, and Ctrl-C ends it at once."""

import os
import signal
import threading
import time

import h5py
import numpy as np
import pytest

from transferpipe.errors import FileError
from transferpipe.fetch.open_path import open_path
from transferpipe.weights.formats.hdf5 import guarded
from transferpipe.weights.formats.hdf5.guarded import try_in_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "m.weights.h5", "w", libver="latest") as file:  # a layout that only the library reads
        file["layers/dense/vars/0"] = np.ones((2, 3), "f4")
    return tmp_path / "m.weights.h5"


def loop():
    while True:
        pass


def eat():
    return [bytes(1 << 28) for _ in range(100)]


def crash():
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize(
    ("work", "said"), [(loop, "busy without end"), (crash, "crashes HDF5"), (eat, "more than 1,073")]
)
def test_what_does_not_end_well_is_said(path, monkeypatch, work, said):
    monkeypatch.setattr(guarded, "_SECONDS", 0.2)
    with pytest.raises(FileError, match=said):
        try_in_child(path, work)


def test_ctrl_c_ends_it_and_leaves_no_child(path, monkeypatch):
    monkeypatch.setattr(guarded, "_SECONDS", 20)
    number, begun = threading.get_ident(), time.monotonic()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in what a shell runs beside it
    threading.Timer(0.3, lambda: signal.pthread_kill(number, signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            try_in_child(path, loop)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - begun < 10
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_what_ends_well_is_done_again_here_and_tried_once_for_each_content(path, monkeypatch):
    tried = []
    run = guarded._run
    monkeypatch.setattr(guarded, "_run", lambda *arguments: tried.append(1) or run(*arguments))
    for _ in range(2):
        source = open_path(str(path), "x")
        assert np.all(source.read(next(iter(source.catalog)).name) == 1)
    assert len(tried) == 1
    with h5py.File(path, "a") as file:
        file["layers/dense/vars/1"] = np.ones(3, "f4")
    assert len(open_path(str(path), "x").catalog) == 2
    assert len(tried) == 2


def test_an_error_of_the_child_is_raised_here(path):
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileError, match="truncated"):
        open_path(str(path), "x")


def test_files_without_hdf5_need_no_child(tmp_path, monkeypatch):
    monkeypatch.setattr(guarded, "_run", lambda *_: pytest.fail("a child was made"))
    np.savez(tmp_path / "m.npz", x=np.ones(3))
    open_path(str(tmp_path / "m.npz"), "x")


def test_files_that_the_library_has_saved_need_no_child_in_tests_until_a_bit_of_them_is_changed(tmp_path, monkeypatch):
    keras = pytest.importorskip("keras")
    if not hasattr(guarded._KNOWN, "saved"):
        pytest.skip("Keras was not imported when the tests were collected")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, dtype="bfloat16")]).save(tmp_path / "m.keras")
    tried = []
    run = guarded._run
    monkeypatch.setattr(guarded, "_run", lambda *arguments: tried.append(1) or run(*arguments))
    open_path(str(tmp_path / "m.keras"), "x")
    assert not tried
    damaged = bytearray((tmp_path / "m.keras").read_bytes())
    damaged[damaged.index(b"TREE")] ^= 1
    (tmp_path / "m.keras").write_bytes(damaged)
    with pytest.raises(FileError):
        open_path(str(tmp_path / "m.keras"), "x")
    assert tried
