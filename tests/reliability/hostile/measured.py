"""Every case of the corpora, run and judged: how it ends, what it took, what it left behind and what it said."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.reliability.rows import Row

from .builders import hostile_builders
from .case import Case, Pair, RecipeText, make_folder, write_recipe
from .configurations import hostile_configurations
from .files import hostile_files
from .names import hostile_names
from .recipes import SECRET, hostile_recipes

CORPORA: dict[str, Callable[[], Iterator[Pair]]] = {
    "recipes": hostile_recipes,
    "builders": hostile_builders,
    "names": hostile_names,
    "configurations": hostile_configurations,
    "files": hostile_files,
}
SECONDS, MOST_SECONDS, MOST_MEMORY = 30, 1.0, 100 << 20
_TRIES = 3  # of a case that takes too long and does nothing else wrong: others may keep the machine busy
_FEW = 20
_SLOW = re.compile(r"takes [\d.]+ s")
# Characters that a terminal takes for commands, or that turn a line around.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def measure_hostile(name: str, folder: Path, most: int, drawn: random.Random) -> Iterator[Row]:
    """One corpus, or `most` pairs of it; of few, without the twins that need Keras where others need none."""
    canary, pairs = secrets.token_hex(16), list(CORPORA[name]())
    kept = make_folder(folder / "kept", canary).parent
    if len(pairs) > most:
        pairs = drawn.sample(pairs, most)
        light = pairs if most > _FEW else [p for p in pairs if not p.twin.needs_keras]
    else:
        light = pairs
    with _bare_process(canary, kept) as ask:
        yield _refused(name, [p.hostile for p in pairs], kept, canary, ask)
    yield _accepted(name, [p.twin for p in light or pairs[:2]], kept)


def _refused(name: str, cases: list[Case], kept: Path, canary: str, ask: Callable[..., dict[str, Any]]) -> Row:
    wanted = "right status and place, 1 s, 100 MB, no Keras, nothing run, nothing written, no canary"
    row = Row(f"hostile {name}", wanted)
    for case in cases:
        for _ in range(_TRIES):
            status, faults = _outcome(case, kept, canary, ask)
            if not faults or not all(_SLOW.fullmatch(fault) for fault in faults):
                break
        row.count(f"status {status}", faults, case.name)
    return row


def _outcome(case: Case, kept: Path, canary: str, ask: Callable[..., dict[str, Any]]) -> tuple[int | None, list[str]]:
    """Run a case; return its exit status and what is wrong with how it ended."""
    work = _work(kept)
    case.write(work / "here")
    before = _listing(work)
    end = ask(words=case.words, folder=str(work / "here"), seconds=SECONDS)
    faults = _judge(case, end)
    if (after := _listing(work)) != before:
        faults.append(f"leaves {sorted(after ^ before)[:3]}")
    said = end["out"] + end["err"] + "".join(p.read_text(errors="replace") for p in _new_files(work, before))
    faults += ["the canary is in what it says"] if canary in said else []
    shutil.rmtree(work)
    return end["status"] if end["value"] is None else end["value"][0], faults


def _judge(case: Case, end: dict[str, Any]) -> list[str]:
    if end["value"] is None:
        return [f"status {end['status']} after {end['seconds']:.0f} s: {' '.join(end['err'][-300:].split())}"]
    status, took, done, heavy = end["value"]
    faults, said = [], " ".join(end["err"].split())
    if status not in case.statuses:
        faults.append(f"status {status}: {said[-300:]}")
    elif case.where not in end["err"]:
        faults.append(f"says nothing of {case.where}: {said[-300:]}")
    if "internal error" in end["err"] or "Traceback" in end["err"]:
        faults.append(f"internal error: {said[-300:]}")
    if took > MOST_SECONDS:
        faults.append(f"takes {took:.1f} s")
    if end["peak"] > MOST_MEMORY:
        faults.append(f"takes {end['peak'] >> 20} MB")
    faults += [f"imports {listed}" for listed in [", ".join(heavy)] if heavy]
    faults += [f"does {what}" for what in done[:2]]
    if found := _CONTROL.search(end["out"] + end["err"]):
        faults.append(f"prints {found[0]!r}")
    return faults


def _accepted(name: str, cases: list[Case], kept: Path) -> Row:
    """Run the twins: every one that is different, those that need Keras in a process that keeps it."""
    row, seen = Row(f"twins of hostile {name}", "accepted"), set()
    chosen = []
    for case in cases:
        work = _work(kept)
        case.write(work / "here")
        content = json.dumps(
            [list(case.words), sorted((str(p.relative_to(work)), p.read_bytes().hex()) for p in _files(work))]
        )
        if content in seen:
            row.count("accepted before", [], case.name)
            shutil.rmtree(work)
            continue
        seen.add(content)
        chosen.append((case, work))
    request = json.dumps([[str(work / "here"), list(case.words)] for case, work in chosen])
    for (case, work), (status, err) in zip(chosen, _run_in_one(request), strict=True):
        row.count(
            f"status {status}", [] if status == 0 else [f"status {status}: {' '.join(err[-400:].split())}"], case.name
        )
        shutil.rmtree(work)
    return row


def _run_in_one(request: str) -> list[list[Any]]:
    command = [sys.executable, "-m", f"{__package__}.measured"]
    done = subprocess.run(
        command, input=request, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3]
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return list(json.loads(done.stdout.rpartition("\n@@")[2]))


def _run_twins() -> None:
    from transferpipe.cli import main

    found = []
    for folder, words in json.loads(sys.stdin.read()):
        os.chdir(folder)
        for name in [n for n, m in sys.modules.items() if getattr(m, "__file__", None) and n == "my_models"]:
            del sys.modules[name]
        sys.path[:] = [p for p in sys.path if not p.endswith("/here")]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as err:
            status = main(words)
        found.append([status, err.getvalue()])
    sys.stdout.write("\n@@" + json.dumps(found))


@contextlib.contextmanager
def _bare_process(canary: str, kept: Path) -> Iterator[Callable[..., dict[str, Any]]]:
    """Yield what runs a command in a child of a process that has imported nothing else."""
    environment = {**os.environ, SECRET: canary, "COLUMNS": "400"}
    work = _work(kept)
    write_recipe(RecipeText().with_lines("name: x"))(work / "here")
    command = [sys.executable, "-m", f"{__package__}.bare", str(work / "here")]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def ask(**case: Any) -> dict[str, Any]:
        stdin.write(json.dumps(case) + "\n")
        stdin.flush()
        answer: dict[str, Any] = json.loads(stdout.readline())
        return answer

    try:
        yield ask
    finally:
        stdin.close()
        process.wait()


def _work(kept: Path) -> Path:
    work = kept.with_name(secrets.token_hex(4))
    shutil.copytree(kept, work, symlinks=True)
    return work


def _files(work: Path) -> list[Path]:
    return sorted(p for p in work.rglob("*") if p.is_file() and not p.is_symlink() and "__pycache__" not in p.parts)


def _listing(work: Path) -> set[tuple[str, int]]:
    return {(str(p.relative_to(work)), p.stat().st_mtime_ns) for p in _files(work)}


def _new_files(work: Path, before: set[tuple[str, int]]) -> list[Path]:
    known = {name for name, _ in before}
    return [p for p in _files(work) if str(p.relative_to(work)) not in known]


if __name__ == "__main__":
    _run_twins()
