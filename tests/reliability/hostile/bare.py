"""A process that has made one plan, without Keras, and forks a child for every case that it reads."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.reliability.children import End, call, command, warm

HEAVY = ("keras", "tensorflow", "tf_keras", "torch", "jax", "keras_hub")
_WATCHED = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pty.spawn", "socket.connect",
            "socket.getaddrinfo", "socket.bind", "webbrowser.open")  # fmt: skip


def main() -> None:
    warm(command("plan", "recipe=k"), Path(sys.argv[1]))
    importlib.import_module("h5py")  # which a plan need not have done, and which starts `uname` to know its processor
    if found := [name for name in HEAVY if name in sys.modules]:
        raise RuntimeError(f"{found} are imported already")
    for line in sys.stdin:
        case = json.loads(line)
        end = call(lambda case=case: _carry_out(case["words"]), Path(case["folder"]), case["seconds"])
        sys.stdout.write(json.dumps(_as_data(end)) + "\n")
        sys.stdout.flush()


def _carry_out(words: list[str]) -> list[Any]:
    done: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _WATCHED:
            done.append(f"{event} {str(arguments)[:100]}")

    sys.addaudithook(watch)
    started = os.times()
    status = command(*words)()
    now = os.times()
    took = now.user - started.user + now.system - started.system
    # What a case imports belongs to it, and so does what its own children did.
    took += now.children_user + now.children_system
    return [status, took, done, [name for name in HEAVY if name in sys.modules]]


def _as_data(end: End) -> dict[str, Any]:
    return {
        "status": end.status,
        "out": end.out,
        "err": end.err,
        "peak": end.peak,
        "seconds": end.seconds,
        "value": end.value,
    }


if __name__ == "__main__":
    main()
