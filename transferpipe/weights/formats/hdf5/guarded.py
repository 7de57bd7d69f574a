"""Looking at an HDF5 file in a child first: HDF5 can loop for ever over damage, crash, or ask for any memory.

Within a call of the HDF5 library Python sees no signal, so that neither Ctrl-C nor SIGTERM would end it. A child with
limits does all that opening does; what it survives is done again here. Where there is no `fork`, nothing is done; nor
is it where opening gets on without the library (`plain.py`).
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from transferpipe.errors import FileError, Problem
from transferpipe.files.crc import noting_promises
from transferpipe.files.stamp import Stamp, stamps_of
from transferpipe.recent import Recent

Opened = TypeVar("Opened")
# Opening takes a fraction of a second of processor time; a file of very many datasets has megabytes of headers.
_SECONDS, _SECONDS_A_BYTE, _MOST_SECONDS = 2.0, 1e-6, 120.0
_MOST_MEMORY = 1 << 30  # beside what the process has already; opening reads no value
_OUT_OF_MEMORY = 3
# A child that does nothing, and so needs no processor time, waits for a lock that it inherited: not the file's fault.
_PATIENCE = 30.0
_KNOWN: Recent[tuple[Stamp, ...]] = Recent(64)
_ALLOWED: ContextVar[bool] = ContextVar("allowed", default=True)


class _LibraryNeeded(BaseException):  # nobody on the way takes it for a fault of the file
    """The HDF5 library would have to open a file."""


def open_guarded(path: Path, opening: Callable[[], Opened]) -> Opened:
    """Return what `opening` makes of `path`; where the HDF5 library takes part in that, it is done in a child first.

    Raises:
        FileError: the child did not come to an end, crashed, or ran out of memory; or as `opening` does.
    """
    if not hasattr(os, "fork"):
        return opening()
    with contextlib.suppress(_LibraryNeeded), _without_library():
        return opening()
    try_in_child(path, opening)
    return opening()


def check_library_allowed() -> None:
    """Give up opening a file that has to be tried in a child first: whoever calls the HDF5 library asks this."""
    if not _ALLOWED.get():
        raise _LibraryNeeded


@contextlib.contextmanager
def _without_library() -> Iterator[None]:
    token = _ALLOWED.set(False)
    try:
        yield
    finally:
        _ALLOWED.reset(token)


def try_in_child(path: Path, work: Callable[[], object]) -> None:
    """Do `work`, in which the HDF5 library opens `path`, in a child first.

    What it raises in the child is left to be raised here.

    Raises:
        FileError: the child did not come to an end, crashed, or ran out of memory.
    """
    try:
        stamps, size = stamps_of([path]), path.stat().st_size
    except OSError:
        return  # opening says why
    if _KNOWN.get(path) == stamps:
        return
    ended = _run(work, min(_SECONDS + size * _SECONDS_A_BYTE, _MOST_SECONDS))
    # A damaged archive is named as such: its checksum is surer than any guess at what HDF5 met in it.
    if os.WIFSIGNALED(ended) or os.WEXITSTATUS(ended) == _OUT_OF_MEMORY:
        _check_archive(path)
    from transferpipe.weights.formats.hdf5.dataset import AGAIN  # with h5py, which other files do not need

    if os.WIFSIGNALED(ended):
        number = os.WTERMSIG(ended)
        what = "keeps HDF5 busy without end" if number == signal.SIGPROF else f"crashes HDF5 (signal {number})"
        raise FileError(Problem(str(path), what, AGAIN))
    if os.WEXITSTATUS(ended) == _OUT_OF_MEMORY:
        raise FileError(Problem(str(path), f"makes HDF5 ask for more than {_MOST_MEMORY:,} bytes", AGAIN))
    _KNOWN.keep(path, stamps)


def _check_archive(path: Path) -> None:
    """Say that an archive is damaged where its own checksum tells that: it is the reason of what HDF5 did."""
    if zipfile.is_zipfile(path):
        from transferpipe.weights.formats.keras.archive import check_weights

        check_weights(path)


def _run(work: Callable[[], object], seconds: float) -> int:
    """Return how a child that does `work` ended, as `os.waitpid` tells it."""
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        for kind in (DeprecationWarning, RuntimeWarning):  # Python's and JAX's of threads, which the child does without
            warnings.simplefilter("ignore", kind)
        child = os.fork()
    if not child:
        _be_child(work, seconds)
    os.close(writer)  # the child's end closes with the child, however that ends, and wakes `select`
    ended, begun = None, time.monotonic()
    try:
        while not select.select([reader], [], [], 0.5)[0]:
            if time.monotonic() - begun > _PATIENCE + 4 * seconds:
                return 0
        ended = os.waitpid(child, 0)[1]
        return ended
    finally:
        os.close(reader)
        if ended is None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def _be_child(work: Callable[[], object], seconds: float) -> None:
    """Do `work` and end the process."""
    status = 0
    gc.disable()  # it would write to, and so copy, every page that holds an object of the parent
    try:
        for number in (signal.SIGPROF, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        if "faulthandler" in sys.modules:
            sys.modules["faulthandler"].disable()
        # Processor time, not time on the wall: on a busy machine a sound file must not be taken for an endless one.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        _limit_memory()
        with noting_promises():  # what the child finds is not believed, and the whole file is read here afterwards
            work()
    except MemoryError:
        status = _OUT_OF_MEMORY
    except BaseException:  # the parent meets it as well, and says it
        status = 0
    finally:
        # Not `sys.exit`: handlers and buffers of the parent would run and be written a second time.
        os._exit(status)


def _limit_memory() -> None:
    import resource

    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        return
    most = pages * resource.getpagesize() + _MOST_MEMORY
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
