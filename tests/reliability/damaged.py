"""Folders of runs and sweeps whose records are damaged, or made by somebody who wants something."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from transferpipe.prove.manifest import MANIFEST, PLAN, seal

from .children import End, call, command, warm
from .ended import KINDS, digests, make_place
from .mutations import SECONDS, mutate
from .rows import Row
from .structures import changed, several

_COUNTED = re.compile(r"(\d+)\s+weights\s+computed\s+again\s+from\s+their\s+sources,\s+(\d+)\s+compared")
_WEIGHTS = 4  # of the models that `make_place` makes


def measure_damaged(folder: Path, most: int, drawn: random.Random) -> Iterator[Row]:
    """`most` damaged and as many hostile run folders, proved again; `most` sweep folders, reported."""
    place = make_place(folder / "run", KINDS[".safetensors"])
    outside = place.folder / "outside"
    outside.mkdir()
    shutil.copy(place.kept / "model.safetensors", outside)
    sound = digests(place.kept)
    for name, hurt in (("damaged", _damage), ("hostile, its seal renewed", _forge)):
        row = Row(f"verify, {name} run folder", "no pass with nothing compared, no read outside, no internal error")
        for number in range(most):
            place.put_back(False)
            what = hurt(place.out, drawn)
            end = _watched(command("verify", "out"), place.folder, outside)
            faults = _judge_verified(end, what, digests(place.out) == sound)
            row.count(f"status {end.status}", faults, f"{number}: {what}")
        yield row
    words = ("sweep", "recipe=k", "source.path=a.keras,b.keras", "hydra.sweep.dir=sw", *place.words)
    if (end := call(command(*words), place.folder)).status:
        raise RuntimeError(end.err)
    sweep = place.folder / "sw"
    shutil.copytree(sweep, place.folder / "sw kept")
    warm(command("report", "sw"), place.folder)
    row = Row("report, damaged sweep folder", "no read outside, no internal error")
    for number in range(most):
        shutil.rmtree(sweep)
        shutil.copytree(place.folder / "sw kept", sweep)
        what = _damage_sweep(sweep, drawn)
        end = _watched(command("report", "sw"), place.folder, outside)
        row.count(f"status {end.status}", _ill(end), f"{number}: {what}")
    yield row


def _watched(function: Callable[[], int], folder: Path, outside: Path) -> End:
    """Call `function` in a child that says when anything in `outside` is opened."""

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if (
            event == "open"
            and isinstance(arguments[0], str)
            and os.path.abspath(arguments[0]).startswith(f"{outside}/")
        ):
            os.write(2, b"OUTSIDE WAS READ\n")

    def run() -> int:
        sys.addaudithook(watch)
        return function()

    return call(run, folder, SECONDS, limit=True)


def _ill(end: End) -> list[str]:
    if end.status is None:
        return ["hangs"]
    if end.is_internal:
        return [f"status {end.status}: {' '.join(end.err[-500:].split())}"]
    return ["reads outside"] if "OUTSIDE WAS READ" in end.err else []


def _judge_verified(end: End, what: str, is_sound: bool) -> list[str]:
    faults = _ill(end)
    if end.status == 0:
        counted = _COUNTED.search(end.out)
        compared = int(counted[1]) + int(counted[2]) if counted else 0
        if not is_sound or compared < _WEIGHTS:
            faults.append(f"passes with {compared} weights compared, outputs {'sound' if is_sound else 'changed'}")
    return faults


def _damage(folder: Path, drawn: random.Random) -> str:
    """Do to one file of a run what disks, editors and downloads do."""
    return _hurt(folder / drawn.choice([MANIFEST, MANIFEST, PLAN, "model.safetensors"]), drawn)


def _hurt(path: Path, drawn: random.Random) -> str:
    data = path.read_bytes()
    kind = drawn.choice(["missing", "empty", "bytes", "bytes", "keys", "keys", "deep", "folder", "pipe", "text"])
    if kind == "keys" and path.suffix == ".json":
        path.write_text(json.dumps(several(changed, json.loads(data), drawn)))
    elif kind in ("bytes", "keys"):
        while (other := mutate(data, drawn)[1]) == data:
            pass
        path.write_bytes(other)
    elif kind == "text":
        path.write_bytes(drawn.choice([b"null", b"[]", b"{}", b"1", b'"x"', b"\xff\xfe", b'{"a": NaN}', b"{" * 9]))
    elif kind == "deep":
        path.write_bytes(b'{"a":' * 20_000)
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
    return f"{path.name}, {kind}"


def _forge(folder: Path, drawn: random.Random) -> str:
    """Change a manifest, or a plan, and seal it again."""
    manifest = json.loads((folder / MANIFEST).read_text())
    text = (folder / PLAN).read_text()
    kind = drawn.choice(["path"] * 3 + ["none", "no weights", "half", "keys", "keys", "keys", "plan", "plan"])
    if kind == "path":
        (folder / "link").symlink_to(folder.parent / "outside")
        ways = ("../outside", "link", "x/../../outside", str(folder.parent / "outside"))
        name = drawn.choice([f"{way}/model.safetensors" for way in ways])
        manifest["artifacts"][0]["path"] = name
        kind = f"path {name}"
    elif kind == "none":
        manifest["artifacts"] = []
    elif kind == "no weights":
        manifest["weights"] = []
    elif kind == "half":
        manifest["weights"] = manifest["weights"][::2]
    elif kind == "keys":
        manifest = several(changed, manifest, drawn)
    else:
        text = json.dumps(several(changed, json.loads(text), drawn))
        (folder / PLAN).write_text(text)
    if isinstance(manifest, dict):
        manifest = {k: v for k, v in manifest.items() if k not in ("seal", "plan_sha256")}
        manifest = seal({**manifest, "plan_sha256": hashlib.sha256(text.encode()).hexdigest()}, text)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return kind


def _damage_sweep(folder: Path, drawn: random.Random) -> str:
    path = drawn.choice([p for p in sorted(folder.rglob("*.json")) if p.is_file()] + [folder / "sweep.json"] * 4)
    if path.name == "sweep.json" and drawn.random() < 0.4:
        data = json.loads(path.read_text())
        variant = drawn.choice(data["variants"])
        kind = drawn.choice(["key", "path", "words"])
        if kind == "key":
            variant["key"] = drawn.choice(["../outside", str(folder.parent / "outside"), "\x1b[31m", "=1+1", ""])
        elif kind == "path":
            variant["artifacts"][0]["path"] = drawn.choice(["../../outside/model.safetensors", "/etc/passwd", "\0"])
        else:
            variant["words"] = drawn.choice([["a=1"], [], ["\x1b]0;x\7"], ["x" * 10_000], [1], "x"])
        path.write_text(json.dumps(data))
        return f"sweep.json, {kind} of a variant"
    return _hurt(path, drawn)
