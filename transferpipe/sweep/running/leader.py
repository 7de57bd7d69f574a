"""The process that runs a sweep, and the end of all that it started elsewhere, should it be killed.

Workers look for themselves whether it lives, once they have come to their variant. What has not come so far, such as
an interpreter that imports still or the daemons of an engine, is ended by a guard: a small process that waits for the
end of the sweep's own. It knows them by a mark in their environment, which every process inherits from the one that
starts it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MARK = "TRANSFERPIPE_SWEEP_PROCESS"
_GUARD_POLL = 0.5  # seconds
_GRACE = 3.0  # seconds in which workers end themselves, and take back that they began a variant
_ROUNDS = 20  # looks for what was started by a process that is being ended


@dataclass(frozen=True)
class Leader:
    """The process that runs the sweep.

    Attributes:
        host: the computer on which it runs, and in which of its spaces of process numbers (a container has its own).
        pid: its number there.
        started: when, as the system says it, for numbers are used again; empty where it does not say.
    """

    host: str
    pid: int
    started: str

    @classmethod
    def here(cls) -> Leader:
        """Return this process."""
        return cls(_host(), os.getpid(), _find_start(os.getpid()))

    @property
    def mark(self) -> str:
        """What stands in the environment of what it started."""
        return f"{self.host} {self.pid} {self.started}"

    def is_alive(self) -> bool:
        """Tell whether it lives, as seen from its own computer."""
        return bool(self.started) and _find_start(self.pid) == self.started

    def is_watched_from_here(self) -> bool:
        """Tell whether the process runs on this computer, or is the parent, and is not this one."""
        near = self.host == _host() and self.is_alive()
        return self.pid != os.getpid() and (near or os.getppid() == self.pid)

    def is_gone(self) -> bool:
        """Tell whether it is known to have ended: it was seen on this computer, and is not there any more."""
        return self.host == _host() and bool(self.started) and not self.is_alive()


def _host() -> str:
    try:
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _find_start(pid: int) -> str:
    """Return when a process that is not a zombie was started; empty if there is none, or no /proc to look into."""
    fields = _stat(pid)
    return fields[19] if fields else ""


def _stat(pid: int) -> list[str]:
    """Return what proc(5) lists from field 3 on, the state, of a process that is not a zombie; else nothing."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
    return [] if fields[0] in "ZX" else fields


@contextlib.contextmanager
def guarded(leader: Leader) -> Iterator[None]:
    """Let what this process, the leader, starts in the body end with it, however it ends; on Linux alone."""
    guard = _guard_of(leader) if leader.started else None
    before = os.environ.get(_MARK)
    os.environ[_MARK] = leader.mark
    try:
        yield
    except KeyboardInterrupt:
        if guard:  # what is at work still has no use any more
            atexit.unregister(_dismiss)
        raise
    finally:
        os.environ.pop(_MARK)
        if before is not None:
            os.environ[_MARK] = before


@functools.cache
def _guard_of(leader: Leader) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-I", "-S", __file__, leader.host, str(leader.pid), leader.started, str(_GRACE)]
    nothing = subprocess.DEVNULL
    # A session of its own: what reaches every process of a terminal does not reach it.
    guard = subprocess.Popen(words, cwd="/", stdin=nothing, stdout=nothing, start_new_session=True)  # noqa: S603 - ours
    atexit.register(_dismiss, guard)
    return guard


def _dismiss(guard: subprocess.Popen[bytes]) -> None:
    guard.terminate()
    guard.wait()


def _guard(leader: Leader, grace: float) -> None:
    """Wait for the end of the leader, and end what it started once that had the time to end itself."""
    started = _Started(leader)
    while leader.is_alive():
        started.look()
        time.sleep(_GUARD_POLL)
    until = time.monotonic() + grace
    while started.look() and time.monotonic() < until:
        time.sleep(_GUARD_POLL)
    for _ in range(_ROUNDS):
        left = started.look()
        for pid in left:
            with contextlib.suppress(OSError):  # it has ended meanwhile
                os.kill(pid, signal.SIGKILL)
        if not left:
            return
        time.sleep(_GUARD_POLL)


class _Started:
    """The processes that a leader started, and that these started, from now on.

    A process may write its title over its environment, as Ray's do once they have imported Ray. So what was seen with
    the mark is remembered, and what it starts later is known by its parent.
    """

    def __init__(self, leader: Leader) -> None:
        self._entry = f"{_MARK}={leader.mark}".encode()
        self._since = int(_find_start(os.getpid()))
        self._known: set[tuple[int, str]] = set()

    def look(self) -> set[int]:
        """Return those that live."""
        fields = {int(place.name): _stat(int(place.name)) for place in Path("/proc").glob("[0-9]*")}
        living = {pid: (pid, found[19]) for pid, found in fields.items() if found and int(found[19]) >= self._since}
        ours = {pid for pid, process in living.items() if process in self._known or self._is_marked(pid)}
        ours |= {pid for pid in living if int(fields[pid][1]) in ours}
        ours.discard(os.getpid())
        self._known = {living[pid] for pid in ours}
        return ours

    def _is_marked(self, pid: int) -> bool:
        try:
            return self._entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is another user's
            return False


if __name__ == "__main__":
    _guard(Leader(sys.argv[1], int(sys.argv[2]), sys.argv[3]), float(sys.argv[4]))
