"""A call of a library's builder with unusual arguments, carried out in a process of its own first.

What it would take (memory, time, weights, a crash) is found out where it harms nobody: the child has limits, and Ctrl-C
ends it. It is a new interpreter, and no fork of this one, which may have threads that a fork would leave waiting.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from transferpipe.errors import Problem, TransferError, UnsafeError
from transferpipe.models.building.limits import (
    WITHOUT_VALUES,
    Limits,
    OverLimitError,
    counted,
    memory_limited,
    room_for_values,
)
from transferpipe.models.building.sizes import memory_of_machine
from transferpipe.recent import Recent
from transferpipe.recipe.model import Build

SMALLER = "give it smaller arguments"
# This interpreter's places of modules first: with an option for isolation others could be found, or none.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.readline()); "
    "from transferpipe.models.building.tried import be_child; be_child()"
)
# The limit is one of addresses: contexts of GPUs, and threads with memory of their own, would use it up by themselves.
_WITHOUT_ADDRESSES = {
    "CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu", "MALLOC_ARENA_MAX": "2",
    "TF_NUM_INTEROP_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1",
}  # fmt: skip
_SECONDS, _PATIENCE = 60, 600.0  # of processor time; on the wall, for one that waits
_CALL = "_call_"
_PASSED: Recent[bool] = Recent(64)


def try_in_child(build: Build, called: str) -> None:
    """Carry out a call in a child, and return if it takes no more there than a builder may.

    What it raises there is left to be raised here.

    Args:
        build: the call, in which everything is a library's.
        called: the call as text.

    Raises:
        UnsafeError: it takes too much, or ends the process.
    """
    # Equal texts are equal calls: a sweep tries each of its builders once.
    if _PASSED.get(called):
        return
    if over := _try(build):
        raise UnsafeError(Problem(build.where, f"{build.target} {over}", SMALLER))
    _PASSED.keep(called, True)


def _try(build: Build) -> str:
    """Return what the call takes too much of; empty if it does not."""
    # By standard input: arguments on a command line would be seen by every user of the machine.
    request = f"{json.dumps(sys.path)}\n{json.dumps([_to_data(build), memory_of_machine(), _SECONDS])}"
    with subprocess.Popen(  # noqa: S603 -- ourselves
        # -P: what lies in the working directory is not imported in place of a library.
        [sys.executable, "-P", "-c", _PROGRAM],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, **_WITHOUT_ADDRESSES},
    ) as process:  # fmt: skip
        try:
            out, _ = process.communicate(request, timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            return f"is still at work after {_PATIENCE:.0f} seconds"
        finally:  # Ctrl-C as well
            if process.poll() is None:
                process.kill()
                process.wait()
    # The system ended it at the limit of processor time.
    if process.returncode == -getattr(signal, "SIGXCPU", 0):
        return f"takes more than {_SECONDS} seconds of processor time"
    if process.returncode < 0:
        return f"ends the process that it was tried in ({signal.Signals(-process.returncode).name})"
    # A child that ended without an answer has found nothing that would be too much: the call itself says what is wrong.
    with contextlib.suppress(ValueError):
        return str(json.loads(out.rpartition("\n")[2] or '""'))
    return ""


def be_child() -> None:
    """Carry out the call that standard input names, and say on standard output what it takes too much of."""
    build, weights, seconds = json.loads(sys.stdin.read())
    # Kept before 1 leads elsewhere.
    answer = os.dup(1)
    os.dup2(2, 1)  # what libraries print is not the answer
    over = _carry_out(_from_data(build), weights, seconds)
    # In a line of its own: it is told apart from whatever went before.
    os.write(answer, f"\n{json.dumps(over)}".encode())
    os._exit(0)  # nothing that is to be put in order


def _carry_out(build: Build, weights: int, seconds: int) -> str:
    from transferpipe.models.building.build import call, import_keras

    keras = import_keras()
    # After the import, whose time is not the call's.
    _limit_time(seconds)

    def without_values() -> None:
        # Variables without values first: they take no memory, and nearly all that is absurd shows.
        with keras.StatelessScope(initialize_variables=False):
            call(build)

    over, is_whole = _find_excess(keras, without_values, Limits(weights), WITHOUT_VALUES)
    # A builder that computes with values cannot be carried out without them: it is tried with them then.
    if over or is_whole:
        return over
    keras.utils.clear_session(free_memory=False)
    return _find_excess(keras, lambda: call(build), Limits(weights), room_for_values())[0]


def _find_excess(keras: Any, make: Callable[[], object], limits: Limits, memory: int) -> tuple[str, bool]:
    """Return what `make` takes too much of, and whether it came to its end."""
    try:
        with memory_limited(memory), counted(keras, limits):
            make()
    except OverLimitError as error:
        return error.what, False
    except (TransferError, MemoryError) as error:
        return limits.over or (f"takes more than {memory:,} bytes of memory" if is_of_memory(error) else ""), False
    except BaseException:  # the parent meets it as well, and says it
        return limits.over, False
    return "", True


def is_of_memory(error: BaseException | None) -> bool:
    """Tell whether an error, or one that led to it, says that there is not enough memory."""
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":  # TensorFlow's
            return True
        error = error.__cause__ or error.__context__
    return False


def _limit_time(seconds: int) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        # A crash is expected here: its image of memory would fill the disk.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # The limit counts from the start of the process, the import included.
        used = int(sum(os.times()[:2]))
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        # The soft one: a signal ends the process by which the parent knows why.
        resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, hard))


def _to_data(value: Any) -> Any:
    if isinstance(value, Build):
        arguments = {key: _to_data(inner) for key, inner in value.arguments.items()}
        # As JSON, not as pickles: what the child reads cannot be code.
        return {_CALL: value.target, "where": value.where, "arguments": arguments}
    if isinstance(value, Mapping):
        return {key: _to_data(inner) for key, inner in value.items()}
    return [_to_data(inner) for inner in value] if isinstance(value, list | tuple) else value


def _from_data(data: Any) -> Any:
    if isinstance(data, dict) and _CALL in data:
        return Build(data[_CALL], {key: _from_data(v) for key, v in data["arguments"].items()}, data["where"])
    if isinstance(data, dict):
        return {key: _from_data(inner) for key, inner in data.items()}
    return [_from_data(inner) for inner in data] if isinstance(data, list) else data
