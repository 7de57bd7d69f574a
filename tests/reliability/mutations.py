"""Bytes of sound files changed at random, read by themselves and through whole runs."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from one_of_each import FORMATS, read_all

from transferpipe.errors import TransferError

from .children import End, call, command, warm
from .ended import KINDS, make_place
from .rows import Row

SECONDS = 10
MOST_MEMORY = 500 << 20


def mutate(data: bytes, drawn: random.Random) -> tuple[str, bytes]:
    """Return the bytes changed in one of the ways in which files come to harm, or are made to do some."""
    out, size = bytearray(data), len(data)
    at, length = drawn.randrange(size), drawn.choice([1, 4, 16, 64, 400])
    match kind := drawn.choice(["bit"] * 3 + ["bytes", "zeros", "cut", "moved", "twice", "more", "less", "number"]):
        case "bit":
            out[at] ^= 1 << drawn.randrange(8)
        case "bytes":
            for _ in range(drawn.choice([2, 8, 40])):
                out[drawn.randrange(size)] = drawn.randrange(256)
        case "zeros":
            out[at : at + length] = bytes(min(length, size - at))
        case "cut":
            del out[at:]
        case "moved":
            other = drawn.randrange(size)
            out[at : at + length] = data[other : other + length][: size - at]
        case "twice":
            out[at:at] = data[at : at + length]
        case "more":
            out[at:at] = drawn.randbytes(length)
        case "less":
            del out[at : at + length]
        case "number":  # a length or an offset, which stand at the beginning and the end
            near = drawn.randrange(min(size, 200))
            at = drawn.choice([near, size - 1 - near])
            wide = drawn.choice([1, 2, 4, 8])
            out[at : at + wide] = drawn.choice([b"\xff", b"\x7f", b"\x00", b"\x80"]) * min(wide, size - at)
    return kind, bytes(out)


def measure_mutations(folder: Path, most: int, drawn: random.Random) -> Iterator[Row]:
    """Every format, read: `most` mutations of each."""
    wanted = "refused, or read as it was; no crash, no other error, 10 s, 500 MB"
    for name, format in FORMATS.items():
        if not format.forks:
            continue
        place = folder / name.replace("/", "_")
        place.mkdir()
        path = format.write(place)
        sound, files = read_all(path), {p: p.read_bytes() for p in sorted(place.rglob("*")) if p.is_file()}
        row = Row(f"mutations of {name}", wanted + ("; never silent" if format.is_checked else "; no checksum in it"))
        while row.cases < most:
            file = drawn.choice(list(files))
            kind, data = mutate(files[file], drawn)
            if data == files[file]:
                continue
            file.write_bytes(data)
            end = call(lambda path=path: _read(path), place, SECONDS, limit=True)
            file.write_bytes(files[file])
            seen, faults = _judge(end, sound, format.is_checked)
            row.count(seen, faults, f"{file.name}, {kind}, sha1 {hashlib.sha1(data).hexdigest()[:10]}")
        yield row


def _read(path: Path) -> list:
    try:
        return ["read", read_all(path)]
    except TransferError as error:
        return ["refused", type(error).__name__, str(error)[:200]]


def _judge(end: End, sound: dict[str, str], is_checked: bool) -> tuple[str, list[str]]:
    faults = _ill_effects(end)
    if faults or end.value is None:
        return "ill", faults or ["no answer"]
    if end.value[0] == "refused":
        return "refused", []
    if end.value[1] == sound:
        return "as it was", []
    different = sorted(n for n in {*sound, *end.value[1]} if sound.get(n) != end.value[1].get(n))
    return "silent", [f"silent: {different[:3]}"] if is_checked else []


def _ill_effects(end: End) -> list[str]:
    if end.status is None:
        return [f"still running after {end.seconds:.0f} s"]
    if end.status:
        return [f"status {end.status}: {' '.join(end.err[-500:].split())}"]
    return [f"takes {end.grown >> 20} MB"] if end.grown > MOST_MEMORY else []


def measure_whole_runs(folder: Path, most: int, drawn: random.Random) -> Iterator[Row]:
    """Sources with a recorded digest changed before a run, and outputs changed after it."""
    row = Row("mutated source with its digest in the recipe, run", "refused with status 3 or 4, nothing written")
    place = make_place(folder / "source", KINDS[".safetensors"])
    source = place.folder / "b.keras"
    data = source.read_bytes()
    digest = f"+source.sha256={hashlib.sha256(data).hexdigest()}"
    words = ("run", "recipe=k", "source.path=b.keras", digest, "hydra.run.dir=out", *place.words)
    warm(command(*words), place.folder)
    for _ in range(most):
        kind, changed = mutate(data, drawn)
        if changed == data:
            continue
        place.put_back(False)
        source.write_bytes(changed)
        end = call(command(*words), place.folder, SECONDS, limit=True)
        good = end.status in (3, 4) and place.kind() == "old"
        row.count(f"status {end.status}", [] if good else [f"{end.status}, {place.kind()}: {end.err[-300:]}"], kind)
    yield row
    for output in (".keras", ".weights.h5", ".safetensors", ".npz"):
        row = Row(f"mutated output {output}, verify", "never passed")
        place = make_place(folder / output.strip("."), KINDS[output])
        (name,) = place.old
        data = (place.out / name).read_bytes()
        for _ in range(most):
            kind, changed = mutate(data, drawn)
            if changed == data:
                continue
            (place.out / name).write_bytes(changed)
            end = call(command("verify", "out"), place.folder, SECONDS, limit=True)
            good = end.status in (3, 4, 5) and end.grown <= MOST_MEMORY
            row.count(f"status {end.status}", [] if good else [f"status {end.status}: {end.err[-300:]}"], kind)
        shutil.rmtree(place.folder)
        yield row
