"""Measuring commands as whole processes: wall time and peak memory, in pairs, so that a drifting machine hurts both."""

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """One finished process: seconds of wall time, and peak resident memory in MB."""

    seconds: float
    megabytes: float


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
    return Run(seconds, usage.ru_maxrss / 1024)


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


def ratio(first, second):
    """Return the median of the ratios pair by pair."""
    return statistics.median(a.seconds / b.seconds for a, b in zip(first, second, strict=True))
