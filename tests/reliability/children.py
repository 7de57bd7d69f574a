"""Forked children: the same warm process again and again, each time to be ended in another way."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RAISED = 98  # the status of a child that an exception ended
_PATIENCE = 10  # how many times its seconds a child may take that waits, for others or for ever
MOST_GROWN = 1500 << 20  # of address space: what asks for more fails, so that no case takes the machine with it


@dataclass(frozen=True)
class End:
    """How a child ended.

    Attributes:
        status: its exit status; negative for a signal; None where it was still running when its time was over.
        out: what it printed.
        err: what it printed as errors.
        seconds: how long it took.
        grown: by how many bytes its memory grew beyond that of its parent.
        peak: how many bytes it had at most.
        value: what its function returned, or the text of what it raised.
    """

    status: int | None
    out: str
    err: str
    seconds: float
    grown: int
    peak: int
    value: Any = None

    @property
    def is_killed(self) -> bool:
        return self.status == -signal.SIGKILL

    @property
    def is_internal(self) -> bool:
        """Whether it ended in a way that says nothing to a user."""
        return self.status in (1, RAISED) or (self.status or 0) < 0 or "Traceback" in self.err + self.out


def is_at_work(pid: int) -> bool:
    """Tell whether a process lives; one that only waits to be noticed does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def is_catching(pid: int, number: signal.Signals) -> bool:
    """Tell whether a process has a handler of its own for a signal; before that, the signal ends it as it ends any."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)


@dataclass
class Child:
    """A child at work."""

    pid: int
    files: tuple[Any, Any, Any]
    started: float

    def finish(self, seconds: float = 60) -> End:
        """Wait for its end, which comes after `seconds` of work at the latest: on a busy machine that takes longer."""
        status = None
        while True:
            pid, code, used = os.wait4(self.pid, os.WNOHANG)
            took = time.monotonic() - self.started
            if pid:
                status = os.waitstatus_to_exitcode(code)
                break
            if took > seconds and (_worked(self.pid) > seconds or took > _PATIENCE * seconds):
                os.kill(self.pid, signal.SIGKILL)
                _, _, used = os.wait4(self.pid, 0)
                break
            time.sleep(0.002)
        texts = []
        for file in self.files:
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
            file.close()
        peak = used.ru_maxrss * 1024
        return End(
            status,
            texts[0],
            texts[1],
            took,
            max(0, peak - _resident()),
            peak,
            json.loads(texts[2]) if texts[2] else None,
        )


def start(function: Callable[[], Any], folder: Path, limit: bool = False) -> Child:
    """Start a child that calls `function` in `folder`; what it returns is its exit status if that is a number."""
    files = tuple(tempfile.TemporaryFile() for _ in range(3))  # noqa: SIM115 - `finish` closes them
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        _be_child(function, folder, files, limit)
    return Child(pid, files, time.monotonic())


def call(function: Callable[[], Any], folder: Path, seconds: float = 60, limit: bool = False) -> End:
    """Call `function` in a child."""
    return start(function, folder, limit).finish(seconds)


def command(*words: object) -> Callable[[], int]:
    """Return what runs one command line."""

    def run() -> int:
        from transferpipe.cli import main

        return main([str(word) for word in words])

    return run


def warm(function: Callable[[], Any], folder: Path) -> None:
    """Call `function` in this process, that its children need not import what it does."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as err:
            status = function()
    finally:
        os.chdir(before)
    if status:
        raise RuntimeError(err.getvalue())
    gc.collect()
    gc.freeze()


def _be_child(function: Callable[[], Any], folder: Path, files: tuple[Any, Any, Any], limit: bool) -> None:
    status = RAISED
    try:
        # What a shell starts in the background ignores Ctrl-C, and so would this: nothing would be interrupted.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(folder)
        os.dup2(files[0].fileno(), 1)
        os.dup2(files[1].fileno(), 2)
        sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", closefd=False), write_through=True)
        sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb", closefd=False), write_through=True)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if limit:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + MOST_GROWN
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        gc.disable()
        try:
            value = function()
        except BaseException:
            traceback.print_exc()
        else:
            if isinstance(value, int):
                status = value
            else:
                status = 0
                os.write(files[2].fileno(), json.dumps(value).encode())
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _worked(pid: int) -> float:
    """Return how many seconds of the processor a process has taken: fields 14 and 15 of proc(5)."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
