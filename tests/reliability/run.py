"""Measure: ``python -m tests.reliability.run [--long] [--seed N] [--only NAME …] [--readers NAME …] [--errors NAME …] [--json] [--write-table [--add]]``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import damaged, ended, guided, mutations, power, structures, sweeps, together
from .hostile import measured as hostile
from .rows import Row, upper_bound

TABLE = Path(__file__).parent / "TABLE.md"


@dataclass(frozen=True)
class Measurement:
    """One group of rows: what measures it, and how many cases of each of its parts the short and the long form have; 0: none."""

    measure: Callable[[Path, int, random.Random], Iterator[Row]]
    short: int
    long: int


MEASUREMENTS = {
    "kills": Measurement(ended.measure_kills, 3, 10_000),
    "kills-of-exports": Measurement(ended.measure_kills_of_exports, 0, 30),
    "power-cuts": Measurement(power.measure_power_cuts, 3, 10_000),
    "random-kills": Measurement(ended.measure_random_kills, 1, 100),
    "faults": Measurement(ended.measure_faults, 1, 10_000),
    "mutations": Measurement(mutations.measure_mutations, 8, 310),
    "whole-runs": Measurement(mutations.measure_whole_runs, 5, 200),
    "structures": Measurement(structures.measure_structures, 30, 10_000),
    "structures-guided": Measurement(guided.measure_guided, 0, 10_000),
    "damaged": Measurement(damaged.measure_damaged, 8, 300),
    "together": Measurement(together.measure_together, 2, 100),
    **{f"hostile-{name}": Measurement(partial(hostile.measure_hostile, name), 5, 10_000) for name in hostile.CORPORA},
    "sweeps": Measurement(sweeps.measure_sweeps, 2, 30),
    **{f"sweeps-{name}": Measurement(partial(sweeps.measure_engine, name), 0, 30) for name in sweeps.ENGINES},
    "sweeps-optuna": Measurement(sweeps.measure_searches, 0, 30),
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.run", description=__doc__)
    parser.add_argument("--long", action="store_true", help="every case: up to an hour")
    parser.add_argument("--cases", type=int, help="so many of each part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=None)
    parser.add_argument("--readers", nargs="+", choices=structures.READERS, help="those of `structures`, and no others")
    parser.add_argument("--errors", nargs="+", help="those of `faults`, such as EIO, and no others")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument(
        "--write-table", action="store_true", help=f"write {TABLE.name}; rows that were not measured stay"
    )
    parser.add_argument("--add", action="store_true", help="to the cases of other seeds in the table, which stay")
    options = parser.parse_args(argv)
    os.environ["COLUMNS"] = "400"  # that no message is folded
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only or [n for n, m in MEASUREMENTS.items() if options.long or m.short]:
            measured = []
            for row in _rows_of(name, options, Path(folder).resolve() / name):
                measured.append(row)
                if not options.json:
                    print(f"{row['cases'] - row['bad']}/{row['cases']}  {row['name']}  {row['seen']}", flush=True)
                    print(*(f"    {example}\n" for example in row["examples"]), sep="", end="", flush=True)
            rows += measured
            if options.write_table:
                write_table(measured, is_part=bool(options.readers or options.errors) or options.add, adds=options.add)
    if options.json:
        print(json.dumps(rows))
    return int(any(row["bad"] for row in rows))


def _rows_of(name: str, options: argparse.Namespace, folder: Path) -> Iterator[dict]:
    chosen = MEASUREMENTS[name]
    most = options.cases or (chosen.long if options.long else chosen.short)
    folder.mkdir()
    started = time.monotonic()
    measure = chosen.measure
    if name == "structures" and options.readers:
        measure = partial(structures.measure_structures, readers=options.readers)
    if name == "faults" and options.errors:
        measure = partial(ended.measure_faults, errors=options.errors)
    for row in measure(folder, most, random.Random(f"{options.seed} {name}")):
        took, started = time.monotonic() - started, time.monotonic()
        yield {**row.as_data(), "group": name, "seed": options.seed, "seconds": round(took, 1)}


def write_table(rows: list[dict], is_part: bool = False, adds: bool = False) -> None:
    """Write the page, and beside it, in a comment, the rows that it is made of.

    What was measured takes the place of rows of its name, or is added to them where their seeds are others; and where all
    of a group was measured, it takes the place of all rows of the group.
    """
    text = TABLE.read_text(encoding="utf-8") if TABLE.exists() else ""
    kept = json.loads(text.rpartition("<!-- ")[2].removesuffix(" -->\n")) if text else []
    new = {row["name"]: row for row in rows}
    for row in kept if adds else []:
        if row["name"] in new and not {*_seeds(row)} & {*_seeds(new[row["name"]])}:
            new[row["name"]] = _sum(row, new[row["name"]])
    groups = set() if is_part else {row["group"] for row in rows}
    stay = [new.pop(row["name"], row) for row in kept if row["group"] not in groups]
    rows = sorted([*stay, *new.values()], key=lambda row: list(MEASUREMENTS).index(row["group"]))
    python = f"Python {platform.python_version()}, {platform.system()}"
    lines = [
        "# What was killed, refused, damaged or done at the same time, and what came of it",
        "",
        "Made by `python -m tests.reliability.run --write-table` with `--long`, or with fewer `--cases` of a row where N is",
        f"smaller than what that takes ({python}). *n/N*: the cases in which what is wanted holds; *bound*: that of a failure's",
        "probability, with 95 % confidence (Clopper and Pearson; about 3/N where none failed), for cases drawn as these were.",
        "",
        "| test | wanted of every case | n/N | bound | seed | what the cases came to |",
        "|---|---|---|---|---|---|",
        *(_line(row) for row in rows),
        "",
        "## Cases that did not hold",
        "",
        *([f"* {row['name']}: `{_cell(example)}`" for row in rows for example in row["examples"]] or ["None."]),
        "",
    ]
    TABLE.write_text("\n".join([*lines, f"<!-- {json.dumps(rows)} -->", ""]), encoding="utf-8")


def _seeds(row: dict) -> list[str]:
    return str(row["seed"]).split(", ")


def _sum(row: dict, other: dict) -> dict:
    """Return the row of the cases of both, which were drawn with different seeds."""
    counts = {key: row[key] + other[key] for key in ("cases", "bad", "examples", "seconds")}
    seen = dict(Counter(row["seen"]) + Counter(other["seen"]))
    return {**other, **counts, "seen": seen, "seed": ", ".join(sorted({*_seeds(row), *_seeds(other)}, key=int))}


def _line(row: dict) -> str:
    seen = ", ".join(f"{name}: {count}" for name, count in sorted(row["seen"].items()))
    bound = f"{100 * upper_bound(row['bad'], row['cases']):.2f} %"
    held = f"{row['cases'] - row['bad']}/{row['cases']}"
    return f"| {row['name']} | {row['wanted']} | {held} | {bound} | {row['seed']} | {_cell(seen)} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("`", "'").replace("--", "–").split())[:500]


if __name__ == "__main__":
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB", file=sys.stderr)
    sys.exit(main())
