"""Runs that are killed before one of their file calls, or that one or more of their calls fail in."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from hand_made import dense, write_archive
from one_of_each import read_all

from transferpipe.errors import TransferError
from transferpipe.files.publishing.atomic import NOTE, TEMPORARY, final_name

from .calls import CHANGES, REFUSES, Calls
from .children import Child, End, call, command, is_at_work, start, warm
from .rows import Row

RECIPE = """
source: {path: a.keras}
target: {path: t.keras}
mapping: {all: {to: ".*"}}
save: {path: model.keras, overwrite: true}
"""
KINDS = {
    ".keras": ["save.path=model.keras"],
    ".weights.h5": ["save.path=model.weights.h5"],
    ".safetensors": ["save.path=model.safetensors"],
    ".npz": ["save.path=model.npz"],
    "shards": ["save.path=model.safetensors", "save.shard=100"],
    "three outputs": ["save.path=model.keras", "save.also=[more.safetensors,more.npz]"],
}
EXPORTS = {
    ".ckpt": ["save.path=model.ckpt"],
    "SavedModel": ["save.path=model"],
}
NEVER_OVER = {"shards", *EXPORTS}  # several files that are never written over
_RECORDS = ("manifest.json", "plan.json")


@dataclass
class Place:
    """A folder in which runs of one kind of output are made: from `a` what is called old here, from `b` the new one."""

    folder: Path
    words: list[str]
    old: dict[str, str]
    new: dict[str, str]
    kept: Path
    never_over: bool = False

    @property
    def is_export(self) -> bool:
        return self.words in EXPORTS.values()

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def run(self, source: str) -> Callable[[], int]:
        return command("run", "recipe=k", f"source.path={source}.keras", "hydra.run.dir=out", *self.words)

    def verify(self) -> End:
        return call(command("verify", "out"), self.folder)

    def put_back(self, fresh: bool) -> None:
        """Make the run folder what it was before the run: the old one's, or none."""
        shutil.rmtree(self.out, ignore_errors=True)
        if not fresh:
            shutil.copytree(self.kept, self.out)

    def state(self) -> dict[str, str]:
        return value_digests(self.out) if self.is_export else digests(self.out)

    def kind(self) -> str:
        """Tell whether the outputs are the old ones, the new ones, none, or something that must not be."""
        state = self.state()
        for name, wanted in (("old", self.old), ("new", self.new), ("none", {})):
            if state == wanted:
                return name
        if self.is_export and _is_half_published(self.out):
            return "mixed"
        ours = [
            state.get(name) in (None, self.old.get(name), self.new.get(name)) for name in self.old | self.new | state
        ]
        return "mixed" if all(ours) else "torn"


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of every output in a run folder; records, and what has a temporary's name, left out."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("*"))
        if path.is_file() and path.suffix not in (".html", ".csv") and path.name not in _RECORDS and path.name[0] != "."
    }


def value_digests(folder: Path) -> dict[str, str]:
    """Return a digest of the values of an export, whose bytes differ from run to run; nothing where nothing has its name."""
    name = next((words[0].partition("=")[2] for words in EXPORTS.values() if _has_any(folder, words)), "")
    if not name:
        return {}
    try:
        return {name: hashlib.sha256(json.dumps(read_all(folder / name)).encode()).hexdigest()}
    except TransferError as error:
        return {name: str(error)}


def _has_any(folder: Path, words: list[str]) -> bool:
    name = words[0].partition("=")[2]
    return any((folder / f"{name}{end}").exists() for end in ("", ".index", ".data-00000-of-00001"))


def _is_half_published(folder: Path) -> bool:
    """Tell whether a checkpoint is on its way: every file that has its name already is whole, and the index comes last.

    Nobody takes values without an index for a checkpoint: TensorFlow finds none. Bytes differ from run to run, so that the
    note of the publishing, which has the digest of each file, tells what whole is.
    """
    note = folder / NOTE
    steps = json.loads(note.read_text())["steps"] if note.exists() else []
    there = [step for step in steps if (folder / step["path"]).exists()]
    whole = [hashlib.sha256((folder / step["path"]).read_bytes()).hexdigest() == step["digest"] for step in there]
    has_index = any(step["path"].endswith(".index") for step in there)
    return 0 < len(there) < len(steps) and all(whole) and not has_index


def strays(folder: Path) -> list[str]:
    """Return what a run left half done."""
    return sorted(p.name for p in folder.glob(".*") if TEMPORARY.fullmatch(p.name) or p.name.startswith(".publishing"))


def make_place(folder: Path, words: list[str], layers: int = 2, width: int = 4) -> Place:
    """Make three models, a recipe, and an old run."""
    (folder / "recipes").mkdir(parents=True)
    (folder / "recipes" / "k.yaml").write_text(RECIPE)
    for number, name in enumerate("abt"):
        listed = [dense(f"d{i}", width, width, 100 * number + i) for i in range(layers)]
        write_archive(folder / f"{name}.keras", listed)
    place = Place(folder, words, {}, {}, folder / "kept", words in [{**KINDS, **EXPORTS}[k] for k in NEVER_OVER])
    if place.is_export:
        call(lambda: _save_with_keras(folder / "t.keras", layers, width), folder, 300)
    for source in "ba":
        shutil.rmtree(place.out, ignore_errors=True)
        if not place.is_export:
            warm(place.run(source), folder)
        elif (end := call(place.run(source), folder, 300)).status:  # TensorFlow has threads, which no fork survives
            raise RuntimeError(end.err)
        place.old, place.new = place.state(), place.old or place.state()
    shutil.copytree(place.out, place.kept)
    warm(command("verify", "out"), folder)
    return place


def _save_with_keras(path: Path, layers: int, width: int) -> None:
    """Save a target that Keras can load, which exports need."""
    import keras

    dense_layers = [keras.layers.Dense(width, name=f"d{i}") for i in range(layers)]
    keras.Sequential([keras.Input((width,)), *dense_layers]).save(path)


def count_calls(place: Place, kinds: set[str], fresh: bool) -> list[tuple[str, str]]:
    """Return the calls that a run makes."""
    calls = Calls(place.folder, kinds)

    def counted() -> Any:
        calls.install()
        if status := place.run("b")():
            raise RuntimeError(f"status {status}")
        return list(calls.seen)

    place.put_back(fresh)
    end = call(counted, place.folder)
    if end.status:
        raise RuntimeError(end.err)
    return end.value


def spread(count: int, most: int, drawn: random.Random) -> list[int]:
    """Return all numbers from 1 to `count`, or `most` of them, one from each part of equal length."""
    if count <= most:
        return list(range(1, count + 1))
    return [1 + drawn.randrange(k * count // most, (k + 1) * count // most) for k in range(most)]


def measure_kills(folder: Path, most: int, drawn: random.Random) -> Iterator[Row]:
    """SIGKILL before every file call of a run over an earlier one, and of the first run in a folder."""
    yield from _measure_kills(KINDS, folder, most, drawn)


def _measure_kills(kinds: Mapping[str, list[str]], folder: Path, most: int, drawn: random.Random) -> Iterator[Row]:
    for name, words in kinds.items():
        row = Row(f"SIGKILL before a file call, {name}", "old or new and whole, all of one kind; the next run cleans")
        place = make_place(folder / name.strip("."), words)
        for fresh in (True,) if name in NEVER_OVER else (False, True):
            calls = count_calls(place, CHANGES, fresh)
            for at in spread(len(calls), most if not fresh or name in EXPORTS else max(1, most // 3), drawn):
                kind, path = calls[at - 1]
                place.put_back(fresh)
                end = call(_with_calls(place, Calls(place.folder, CHANGES, at)), place.folder)
                _judge_killed(row, place, end, fresh, f"call {at} ({kind} {final_name(Path(path))}, fresh {fresh})")
        yield row


def measure_kills_of_exports(folder: Path, most: int, drawn: random.Random) -> Iterator[Row]:
    """SIGKILL before file calls of runs that write what only TensorFlow can, whose own calls do not count."""
    import_module("keras")
    yield from _measure_kills(EXPORTS, folder, most, drawn)


def measure_random_kills(folder: Path, times: int, drawn: random.Random) -> Iterator[Row]:
    """SIGKILL at `times` random times, for each kind of output, between a run's first file and its end."""
    for name, words in KINDS.items():
        row = Row(
            f"SIGKILL at a random time of writing, {name}", "old or new and whole, all of one kind; the next run cleans"
        )
        fresh = name in NEVER_OVER
        place = make_place(folder / f"random {name}", words, layers=8, width=400)
        took = max(_time_of_writing(place, fresh) for _ in range(3))
        for number in range(times):
            child, wait = _begin_writing(place, fresh), drawn.uniform(0, took)
            time.sleep(wait)
            os.kill(child.pid, signal.SIGKILL)
            _judge_killed(row, place, child.finish(), fresh, f"time {number}, {wait:.4f} s after its first file")
        yield row


def _begin_writing(place: Place, fresh: bool) -> Child:
    """Start a run, and return once it has made its first file, or is over."""
    place.put_back(fresh)
    before = _names_in(place)
    child = start(place.run("b"), place.folder)
    while _names_in(place) == before and is_at_work(child.pid):
        time.sleep(0.0002)
    return child


def _time_of_writing(place: Place, fresh: bool) -> float:
    """Return how long a run takes from its first file to its end."""
    child = _begin_writing(place, fresh)
    begun = time.monotonic()
    while is_at_work(child.pid):
        time.sleep(0.0002)
    took = time.monotonic() - begun
    child.finish()
    return took


def _names_in(place: Place) -> set[str]:
    return {path.name for path in place.out.glob("*")} if place.out.exists() else set()


def _with_calls(place: Place, calls: Calls) -> Callable[[], int]:
    def run() -> int:
        calls.install()
        return place.run("b")()

    return run


def _judge_killed(row: Row, place: Place, end: End, fresh: bool, case: str) -> None:
    faults = [] if end.is_killed or not end.status else [f"status {end.status}: {end.err[-300:]}"]
    seen, more = judge_settled(place, ("new", "none" if fresh else "old"))
    row.count(seen, faults + more, case)


def judge_settled(place: Place, wanted: tuple[str, ...]) -> tuple[str, list[str]]:
    """Tell what a run that was cut off has left once `verify` has settled it, and what is wrong, now or after another."""
    faults = []
    at_once = place.kind()
    verified = place.verify() if place.out.exists() else None
    kind = place.kind()
    if kind not in wanted:
        faults.append(f"{kind}: {sorted(place.state())}")
    if at_once == "torn":
        faults.append("a file is torn before anything settles")
    if verified and (verified.status if kind != "none" else verified.status not in (2, 4)):
        faults.append(f"verify gives {verified.status}: {verified.err[-300:]}")
    if place.never_over and kind == "new":
        shutil.rmtree(place.out)
    again = call(place.run("a"), place.folder)
    if again.status or place.state() != place.old or (left := strays(place.out)):
        said = f"{again.err[-300:]}" if again.status else f"leaves {left if place.state() == place.old else ''}"
        faults.append(f"the next run gives {again.status}, {place.kind()}, {said}")
    return kind if at_once == kind else f"{kind}, once settled", faults


def measure_faults(folder: Path, most: int, drawn: random.Random, errors: Sequence[str] = ()) -> Iterator[Row]:
    """An error once at, and from, every file call: all errors, or those that are named."""
    places = {name: make_place(folder / name.strip("."), words) for name, words in KINDS.items()}
    fresh = {name: name in NEVER_OVER for name in KINDS}
    for code, kinds in REFUSES.items():
        name = errno.errorcode[code]
        for onwards in (False, True):
            own = random.Random(drawn.random())  # the same numbers whichever errors are measured
            if errors and name not in errors:
                continue
            row = Row(
                f"{name} {'from' if onwards else 'once at'} a file call",
                "nothing lost or mixed, no internal error, status 4 and the file named",
            )
            for output, place in places.items():
                calls = count_calls(place, kinds, fresh[output])
                for at in spread(len(calls), most, own):
                    place.put_back(fresh[output])
                    failing = Calls(place.folder, kinds, at, code, onwards)
                    end = call(_with_calls(place, failing), place.folder)
                    kind, path = calls[at - 1]
                    case = f"{output}, call {at} ({kind} {final_name(Path(path))})"
                    _judge_failed(row, place, end, _Fault(code, onwards, kind, calls, fresh[output]), case)
            yield row


@dataclass(frozen=True)
class _Fault:
    """An error, whether it stays, the kind of the first call that meets it, and whether the folder was new.

    `all_calls` are those of a run that goes well. They come in another order where threads make them, so which file must
    be named is not known to the letter.
    """

    code: int
    onwards: bool
    kind: str
    all_calls: list[tuple[str, str]]
    fresh: bool


def _judge_failed(row: Row, place: Place, end: End, fault: _Fault, case: str) -> None:
    kind, faults, old = place.kind(), [], "none" if fault.fresh else "old"
    left = strays(place.out) if place.out.exists() else []
    if end.is_internal or end.status is None:
        faults.append(f"status {end.status}: {end.err[-600:]}")
    elif end.status not in (0, 4):
        faults.append(f"status {end.status} for a fault of the disk: {end.err[-300:]}")
    if end.status == 4 and not any(_names(end.err, path, fault.code) for _, path in fault.all_calls):
        faults.append(f"names neither what could not be used nor why: {end.err[-300:]}")
    # What cannot be removed stays; and where waiting for the disk fails while two threads write, a hidden temporary may
    # be left, which the next run removes.
    if left and not fault.onwards and fault.kind not in ("unlink", "fsync"):
        faults.append(f"leaves {left}")
    if place.out.exists() and (verified := place.verify()).status != (4 if place.kind() == "none" else 0):
        faults.append(f"verify gives {verified.status}: {verified.err[-300:]}")
    # Where nothing more can be renamed or removed, the next verification puts things right; it finishes what is whole.
    settled = place.kind()
    if settled != (old if end.status else "new") and not (fault.onwards and settled == "new"):
        faults.append(f"status {end.status}, {settled}")
    if kind != settled and not fault.onwards:
        faults.append(f"{kind} at first")
    row.count(f"status {end.status}, {settled}" + (", once settled" if kind != settled else ""), faults, case)


def _names(err: str, path: str, code: int) -> bool:
    """Tell whether an error names the file, or its folder, and the system's reason."""
    known = Path(path).name, final_name(Path(path)), Path(path).parent.name
    return any(name in err for name in known) and os.strerror(code) in err
