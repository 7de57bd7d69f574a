"""Try every backbone of the installed KerasHub: `python -m tests.kerashub_suite.run [NAME...] [--write-table]`.

``--write-table`` writes TABLE.md beside this file; ``--write-classes`` reads KerasHub's layer classes off the small
models anew (see `classes`).
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import importlib.metadata
import multiprocessing
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.kerashub_suite.checks import CHECKS, IN_SHORT, Checks, verdict_of
from tests.kerashub_suite.classes import read_classes, write_table
from tests.kerashub_suite.configurations import VARIANTS, backbone_names, build, build_task, task_names

TABLE = Path(__file__).parent / "TABLE.md"
GOOD = ("right", "not Keras")
_KINDS = ("right", "not Keras", "warned", "names", "refused", "wrong", "crashed")


def kind_of(verdict: str) -> str:
    """Return the first words of a verdict."""
    return verdict.partition(":")[0]


def tasks_of_backbones() -> dict[str, str]:
    """Return the first task of each backbone that has one."""
    import keras_hub

    found: dict[str, str] = {}
    for name in task_names():
        found.setdefault(getattr(keras_hub.models, name).backbone_cls.__name__, name)
    return found


def try_backbone(case: tuple[str, dict[str, Any], str | None]) -> list[tuple[str, str]]:
    """Return each check of one small backbone with its verdict; a variant of one is checked in short."""
    name, more, task = case
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        checks = Checks(lambda: build(name, **more), Path(folder), (lambda: build_task(task)) if task else None)
        return [(check, verdict_of(checks, check)) for check in (IN_SHORT if more else CHECKS)]


def all_models() -> Iterator[Any]:
    """Yield every small backbone, variant and task that can be built."""
    yield from (build(name) for name in backbone_names())
    yield from (build(name, **more) for name, more in VARIANTS)
    for name in task_names():
        try:
            yield build_task(name)
        except Exception as error:  # a task that needs a tokenizer, which no test here brings
            print(f"left out: {name}: {error}", file=sys.stderr)


def written(rows: dict[str, collections.Counter[str]], bad: list[str], backbones: int, seconds: float) -> str:
    """Return the table as Markdown."""
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("keras-hub", "keras", "tensorflow"))
    lines = [
        "# KerasHub's backbones",
        "",
        f"{backbones} small backbones, among them variants of one that are checked in short; {versions}; {seconds / 60:.0f} minutes.",
        "Made by `python -m tests.kerashub_suite.run --write-table`; `checks.py` says what each row is.",
        "`not Keras`: Keras or KerasHub itself cannot do it with the class.",
        "",
        f"| check | {' | '.join(_KINDS)} |",
        f"|---|{'---:|' * len(_KINDS)}",
        *(f"| {check} | {' | '.join(str(rows[check][k]) for k in _KINDS)} |" for check in CHECKS),
        "",
        *(["## Not right", "", *(f"* {line}" for line in bad)] if bad else ["Everything is right."]),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run what the command line names and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--write-table", action="store_true")
    parser.add_argument("--write-classes", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    if asked.write_classes:
        write_table(read_classes(all_models()))
        return 0
    began, tasks = time.time(), tasks_of_backbones()
    cases = [(name, {}) for name in backbone_names()] + list(VARIANTS)
    cases = [case for case in cases if not asked.names or case[0] in asked.names]
    rows: dict[str, collections.Counter[str]] = {check: collections.Counter() for check in CHECKS}
    bad = []
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        tried = pool.map(try_backbone, [(name, more, None if more else tasks.get(name)) for name, more in cases])
        for (name, more), verdicts in zip(cases, tried, strict=True):
            label = f"{name} {more}" if more else name
            for check, verdict in verdicts:
                rows[check][kind_of(verdict)] += 1
                if kind_of(verdict) not in GOOD:
                    bad.append(f"{label}, {check}: {' '.join(verdict.split())[:300]}")
                    print(bad[-1], flush=True)
    text = written(rows, bad, len(cases), time.time() - began)
    print(text)
    if asked.write_table:
        TABLE.write_text(text)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
