"""Measuring commands as whole processes: wall and processor time and peak memory, in pairs, so that drift hurts both.

Rows of a table are kept as numbers, so that two results can be compared: see `regressions`.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One finished process: seconds of wall time and of processor time, and peak resident memory in MB."""

    seconds: float
    megabytes: float
    cpu: float = 0.0


def run_once(command, cwd):
    """Run `command` and return what it cost; output is thrown away, a failure is an error."""
    started = time.perf_counter()
    # As after an ordinary installation: modules are compiled once and not at every start.
    known = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(command, cwd=cwd, env=known, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    errors = process.stderr.read().decode(errors="replace")
    process.stderr.close()
    if process.returncode:
        sys.exit(f"{command} failed with {process.returncode}:\n{errors[-2000:]}")
    return Run(seconds, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)


def pairs(first, second, cwd, count, between=lambda: None):
    """Run two commands in turn, `count` times after one warm-up; return the runs of each."""
    results = ([], [])
    for i in range(count + 1):
        for command, kept in zip((first, second), results, strict=True):
            between()
            run = run_once(command, cwd)
            if i:
                kept.append(run)
    return results


def median(runs, field="seconds"):
    """Return the median of one field."""
    return statistics.median(getattr(r, field) for r in runs)


def ratio(first, second, field="seconds"):
    """Return the median of the ratios pair by pair."""
    return statistics.median(getattr(a, field) / getattr(b, field) for a, b in zip(first, second, strict=True))


@dataclass(frozen=True)
class Row:
    """What was measured of one command, beside another or alone; what was not measured is None.

    Attributes:
        name: what was compared with what.
        seconds: wall time, the median.
        cpu: processor time.
        other: wall time of the other.
        ratio: the median of the ratios of wall times, pair by pair.
        cpu_ratio: the same of processor times, which a busy machine changes less.
        goal: the most that `ratio` is to be, or `seconds` where there is no other.
        megabytes: peak memory.
        other_megabytes: that of the other.
        most_megabytes: the most that `megabytes` is to be.
    """

    name: str
    seconds: float
    cpu: float | None = None
    other: float | None = None
    ratio: float | None = None
    cpu_ratio: float | None = None
    goal: float | None = None
    megabytes: float | None = None
    other_megabytes: float | None = None
    most_megabytes: float | None = None

    @property
    def is_reached(self):
        """Whether the goals are reached; None where there is none."""
        if self.goal is None:
            return None
        light = self.most_megabytes is None or self.megabytes <= self.most_megabytes
        return light and (self.seconds if self.ratio is None else self.ratio) <= self.goal

    def cells(self):
        """Return the row as texts."""

        def text(value, form, unit=""):
            return "" if value is None else f"{value:{form}}{unit}"

        memory = "" if self.most_megabytes is None else f", {self.most_megabytes:.0f} MB"
        goal = "" if self.goal is None else f"≤ {self.goal:g}{' s' * (self.ratio is None)}{memory}"
        return (
            self.name, text(self.seconds, ".2f", " s"), text(self.cpu, ".2f", " s"), text(self.other, ".2f", " s"),
            text(self.ratio, ".3f"), text(self.cpu_ratio, ".3f"), goal,
            "" if self.is_reached is None else "yes" if self.is_reached else "no",
            text(self.megabytes, ".0f", " MB"), text(self.other_megabytes, ".0f", " MB"),
        )  # fmt: skip


HEADER = (
    "against", "transferpipe", "processor", "other", "ratio", "of processor time", "goal", "reached", "peak memory",
    "of the other",
)  # fmt: skip


def compared(name, mine, theirs, goal, most_megabytes=None):
    """Return the row of runs in pairs."""
    return Row(
        name, median(mine), median(mine, "cpu"), median(theirs), ratio(mine, theirs), ratio(mine, theirs, "cpu"), goal,
        median(mine, "megabytes"), median(theirs, "megabytes"), most_megabytes,
    )  # fmt: skip


def alone(name, runs, goal=None):
    """Return the row of runs that are compared with nothing."""
    return Row(name, median(runs), median(runs, "cpu"), goal=goal, megabytes=median(runs, "megabytes"))


def table(rows):
    """Return the rows as a Markdown table."""
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    return "\n".join([*lines, *("| " + " | ".join(row.cells()) + " |" for row in rows)])


def regressions(rows, before, most=1.1):
    """Yield a text for each row that became slower, or larger, than `most` times what an earlier result says of it.

    Where two commands were compared, their ratio counts, which says the same on another machine. Rows that are in one
    result only are left out.

    Args:
        rows: the rows measured now.
        before: those of an earlier result, as in its file.
        most: what counts as no change.
    """
    known = {row["name"]: row for row in before}
    for row in rows:
        old = known.get(row.name)
        for field in ("ratio" if row.ratio is not None else "seconds", "megabytes"):
            was, now = old and old.get(field), getattr(row, field)
            if was and now and now > most * was:
                yield f"{row.name}: {field} {was:.3g} -> {now:.3g}, {now / was:.2f} times as much"


def report(rows, arguments):
    """Print the table, write it and its numbers where `arguments` say, and exit with 1 where something became worse."""
    print(table(rows))
    if arguments.out:
        arguments.out.write_text(table(rows) + "\n")
    if arguments.json:
        facts = {"load": os.getloadavg()[0], "processors": os.cpu_count(), "rows": [asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n")
    if arguments.against:
        worse = list(regressions(rows, json.loads(arguments.against.read_text())["rows"]))
        print(*(worse or [f"nothing became worse than in {arguments.against}"]), sep="\n")
        sys.exit(bool(worse))


def add_result_options(parser):
    """Add the options that `report` reads."""
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--against", type=Path, help="compare with such a file, and exit with 1 where it became worse")
