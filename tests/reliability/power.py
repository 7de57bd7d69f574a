"""Power cuts, simulated: what a disk may hold afterwards where the file system keeps no more than it was asked to keep.

A run is recorded: after every call that may change something, what files hold and folders name is compared with before.
A moment of it is then what was flushed, and what was not. After a cut, a file may hold what it held when it was flushed
last, what it holds by now, or half of that; of the names that a folder got or lost since it was flushed itself, any may
be there, since POSIX promises no order, nor that who flushes a file flushes its name.
"""

from __future__ import annotations

import _pyio
import base64
import builtins
import hashlib
import io
import itertools
import json
import logging
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transferpipe.errors import TransferError
from transferpipe.files.publishing.atomic import NOTE, TEMPORARY
from transferpipe.files.publishing.publish import settle

from .children import call
from .ended import KINDS, NEVER_OVER, Place, judge_settled, make_place
from .rows import Row

_CHANGING = ("write", "pwrite", "ftruncate", "truncate", "posix_fallocate", "sendfile", "copy_file_range", "rename", "replace",
             "link", "symlink", "unlink", "remove", "mkdir", "rmdir")  # fmt: skip
_FLUSHING = ("fsync", "fdatasync")
_WRITES = os.O_WRONLY | os.O_RDWR
_FEW = 10
ROOT = 0  # the number of the folder above the run folder, of which only the run folder's name counts


@dataclass
class Recorder:
    """What happens to the run folder called `name` in `above`, as events that can be written as JSON.

    Files and folders go by numbers. Events are ``["made", number, whether a folder]``, ``["holds", number, text]``,
    ``["names", folder, {name: number or None}]``, all of one call, ``["flushed", number]``, and ``["begun"]`` behind those
    of what was there before.
    """

    above: Path
    name: str
    events: list[list[Any]] = field(default_factory=list)
    _numbers: dict[tuple[int, int], int] = field(default_factory=dict)
    _held: dict[int, Any] = field(default_factory=lambda: {ROOT: {}})
    _count: itertools.count = field(default_factory=lambda: itertools.count(1))
    _lock: Any = field(default_factory=threading.RLock)

    def install(self) -> None:
        """Note what there is, as flushed, and wrap the functions, for the rest of this process."""
        self._open, self._read, self._close = os.open, os.read, os.close
        self._numbers[_identity(os.stat(self.above))] = ROOT
        self._look()
        self.events += [*(["flushed", number] for number in self._held), ["begun"]]
        builtins.open = io.open = _pyio.open  # type: ignore[assignment]
        for name in (*_CHANGING, *_FLUSHING, "open"):
            setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*arguments: Any, **options: Any) -> Any:
            if name == "open" and not (arguments[1] if len(arguments) > 1 else options["flags"]) & _WRITES:
                return function(*arguments, **options)
            with self._lock:
                result = function(*arguments, **options)
                self._look()
                if name in _FLUSHING:
                    number = self._numbers.get(_identity(os.fstat(arguments[0])))
                    self.events += [["flushed", number]] if number is not None else []
                return result

        return recorded

    def _look(self) -> None:
        seen = {ROOT}
        path = self.above / self.name
        self._note_names(ROOT, {self.name: self._look_at(path, seen)} if path.exists() else {})
        # The number of a file that is gone may be given to a new one.
        self._numbers = {key: number for key, number in self._numbers.items() if number in seen}

    def _look_at(self, path: Path, seen: set[int]) -> int:
        """Note what is new at `path` and below, and return its number."""
        key, is_folder = _identity(os.stat(path)), path.is_dir()
        if key not in self._numbers:
            self._numbers[key] = next(self._count)
            self.events.append(["made", self._numbers[key], is_folder])
            self._held[self._numbers[key]] = {} if is_folder else ""
        number = self._numbers[key]
        if number in seen:
            return number
        seen.add(number)
        if is_folder:
            self._note_names(number, {e.name: self._look_at(Path(e.path), seen) for e in os.scandir(path)})
        elif (text := self._content(path)) != self._held[number]:
            self._held[number] = text
            self.events.append(["holds", number, text])
        return number

    def _note_names(self, folder: int, names: dict[str, int]) -> None:
        before = self._held[folder]
        if names != before:
            changes = {n: names.get(n) for n in sorted({*names, *before}) if names.get(n) != before.get(n)}
            self._held[folder] = names
            self.events.append(["names", folder, changes])

    def _content(self, path: Path) -> str:
        handle, data = self._open(path, os.O_RDONLY), b""
        try:
            while more := self._read(handle, 1 << 20):
                data += more
        finally:
            self._close(handle)
        return base64.b64encode(data).decode()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


@dataclass
class Moment:
    """What was flushed by some moment of a run, and what was not.

    Attributes:
        flushed: by number, what a file held, or a folder named, when it was flushed last.
        now: what each holds.
        waiting: the names that folders got or lost since they were flushed, in their order.
    """

    flushed: dict[int, Any] = field(default_factory=lambda: {ROOT: {}})
    now: dict[int, Any] = field(default_factory=lambda: {ROOT: {}})
    waiting: list[tuple[int, dict[str, int | None]]] = field(default_factory=list)

    def go_on(self, event: list[Any]) -> None:
        """Let one event happen."""
        match event:
            case ["made", number, is_folder]:
                self.flushed[number] = self.now[number] = {} if is_folder else b""
            case ["holds", number, text]:
                self.now[number] = base64.b64decode(text)
            case ["names", folder, changes]:
                self.now[folder] = _with_names(self.now[folder], changes)
                self.waiting.append((folder, changes))
            case ["flushed", number]:
                self.flushed[number] = self.now[number]
                self.waiting = [w for w in self.waiting if w[0] != number]

    def disks(self, drawn: random.Random, most: int) -> Iterator[dict[str, Any]]:
        """Yield what the disk may hold: the extremes, every name alone and alone left out, and `most` at random."""
        everything, data = range(len(self.waiting)), ("flushed", "now", "half")
        for kept, state in itertools.product(({*everything}, set()), data):
            yield self._disk(kept, lambda _, state=state: state)
        for one, state in itertools.product(everything, ("flushed", "now")):
            yield self._disk({one}, lambda _, state=state: state)
            yield self._disk({*everything} - {one}, lambda _, state=state: state)
        for _ in range(most):
            states = {number: drawn.choice(data) for number in self.now}
            yield self._disk({k for k in everything if drawn.random() < 0.5}, states.__getitem__)

    def disk_as_it_is(self) -> dict[str, Any]:
        """Return what there is without a cut."""
        return self._disk({*range(len(self.waiting))}, lambda _: "now")

    def _disk(self, kept: set[int], state: Callable[[int], str]) -> dict[str, Any]:
        names = {number: dict(held) for number, held in self.flushed.items() if isinstance(held, dict)}
        for at in sorted(kept):
            folder, changes = self.waiting[at]
            names[folder] = _with_names(names[folder], changes)

        def below(number: int) -> Any:
            if number in names:
                return {name: below(inner) for name, inner in names[number].items()}
            held = {"flushed": self.flushed[number], "now": self.now[number]}
            # What was flushed before is not lost by what is written behind it.
            half = self.now[number][: len(self.now[number]) // 2]
            return held.get(state(number), half if self.now[number] != self.flushed[number] else self.now[number])

        return dict(below(ROOT))


def _with_names(names: dict[str, int], changes: dict[str, int | None]) -> dict[str, int]:
    changed = {**names, **changes}
    return {name: number for name, number in changed.items() if number is not None}


def record(place: Place, fresh: bool) -> list[list[Any]]:
    """Return the events of a run over the old one, or of the first in a new folder."""
    recorder = Recorder(place.folder, place.out.name)
    place.put_back(fresh)

    def recorded() -> Any:
        recorder.install()
        if status := place.run("b")():
            raise RuntimeError(f"status {status}")
        return list(recorder.events)

    end = call(recorded, place.folder)
    if end.status:
        raise RuntimeError(end.err)
    return list(end.value)


def disks_after_cuts(
    events: list[list[Any]], drawn: random.Random, most: int
) -> list[tuple[int, bool, dict[str, Any]]]:
    """Return the number of events before a cut, whether it comes after the run, and a disk; each disk once."""
    moment, found = Moment(), {}
    begin = events.index(["begun"])
    for number, event in enumerate(events):
        moment.go_on(event)
        if number < begin:
            continue
        is_over = number == len(events) - 1
        for disk in moment.disks(drawn, most):
            found.setdefault((is_over, _digest(disk)), (number, is_over, disk))
    return list(found.values())


def _digest(disk: Any) -> str:
    def plain(thing: Any) -> Any:
        return {k: plain(v) for k, v in thing.items()} if isinstance(thing, dict) else hashlib.sha1(thing).hexdigest()

    return json.dumps(plain(disk), sort_keys=True)


def write_disk(folder: Path, disk: dict[str, Any]) -> None:
    """Write what the disk holds into `folder`."""
    for name, held in disk.items():
        if isinstance(held, dict):
            (folder / name).mkdir()
            write_disk(folder / name, held)
        else:
            (folder / name).write_bytes(held)


def measure_power_cuts(folder: Path, most: int, drawn: random.Random) -> Iterator[Row]:
    """Every disk that a cut during, or after, a run of each kind may leave, settled; `most` of them verified as well.

    The short form has the kind with the most files only.
    """
    logging.getLogger("transferpipe").addHandler(logging.NullHandler())  # it says so of every disk that it settles
    kinds = KINDS if most > _FEW else {"three outputs": KINDS["three outputs"]}
    for name, words in kinds.items():
        settled = Row(f"power cut, settled, {name}", "old or new as a whole, records too; new once the run has ended")
        verified = Row(
            f"power cut, verified, {name}", "old or new and whole, new once the run has ended; next run cleans"
        )
        place = make_place(folder / name.strip("."), words)
        for fresh in (True,) if name in NEVER_OVER else (False, True):
            events = record(place, fresh)
            disks = disks_after_cuts(events, drawn, 6)
            kinds_of_all = _whole(events)
            for number, is_over, disk in disks:
                case = f"event {number}, {'after' if is_over else 'during'} the run, fresh {fresh}"
                kind = _settled_kind(place, disk, kinds_of_all)
                good = kind == "new" if is_over else kind in ("old", "new")
                settled.count(kind if kind != "old" or not fresh else "none", [] if good else [kind], case)
            if len(disks) > most:  # a third of them after the run
                after = [d for d in disks if d[1]]
                disks = drawn.sample(after, min(len(after), -(-most // 3))) + drawn.sample(disks, most - most // 3)
            for number, is_over, disk in disks:
                _put(place, disk)
                case = f"event {number}, {'after' if is_over else 'during'} the run, fresh {fresh}"
                verified.count(
                    *judge_settled(place, ("new",) if is_over else ("new", "none" if fresh else "old")), case
                )
        yield settled
        yield verified


def _whole(events: list[list[Any]]) -> dict[str, dict[str, str]]:
    """Return what there is to be seen before the run, and after it."""
    moment, found = Moment(), {}
    for event in events:
        moment.go_on(event)
        if event == ["begun"]:
            found["old"] = _seen(moment.disk_as_it_is())
    return {**found, "new": _seen(moment.disk_as_it_is())}


def _seen(disk: dict[str, Any], above: str = "") -> dict[str, str]:
    """Return the digest of every file that is an output or a record; pages, which are made again, are none."""
    found: dict[str, str] = {}
    for name, held in disk.items():
        if TEMPORARY.fullmatch(name) or name == NOTE or name.endswith((".html", ".csv")):
            continue
        if isinstance(held, dict):
            found |= _seen(held, f"{above}{name}/")
        else:
            found[above + name] = hashlib.sha256(held).hexdigest()
    return found


def _settled_kind(place: Place, disk: dict[str, Any], whole: dict[str, dict[str, str]]) -> str:
    """Settle a disk and tell which of what is whole it then holds."""
    _put(place, disk)
    if place.out.exists():
        flush, os.fsync = os.fsync, lambda _: None  # of no use here, and it takes most of the time
        try:
            settle(place.out)
        except TransferError as error:
            return f"not settled: {error}"
        finally:
            os.fsync = flush
    found = _seen(_read(place.out)) if place.out.exists() else {}
    inner = {name.partition("/")[2]: digest for name, digest in whole["new"].items()}
    before = {name.partition("/")[2]: digest for name, digest in whole["old"].items()}
    if found in (inner, before):
        return "new" if found == inner else "old"
    return f"mixed: {sorted(n for n in {*found, *inner} if found.get(n) != inner.get(n))} are not new"


def _read(folder: Path) -> dict[str, Any]:
    return {p.name: _read(p) if p.is_dir() else p.read_bytes() for p in folder.iterdir()}


def _put(place: Place, disk: dict[str, Any]) -> None:
    shutil.rmtree(place.out, ignore_errors=True)
    write_disk(place.folder, disk)
