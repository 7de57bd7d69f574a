"""Running a variant in a process that another one started: it finds what that finds, and ends when that is gone."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from transferpipe.files.publishing.atomic import write_text
from transferpipe.interruption import interruptions
from transferpipe.models.idle_threads import share_cores
from transferpipe.planning.reading.read_plan import plan_from_data
from transferpipe.prove.manifest import MANIFEST, PLAN, read_json
from transferpipe.sweep.running.job import DONE, STARTED, Result, read_result, run_variant
from transferpipe.sweep.running.leader import Leader
from transferpipe.sweep.running.steering import Steering
from transferpipe.sweep.variant import read_variant

PAGE, SWEEP_PAGE = "report.html", "sweep.html"
_LEADER_POLL = 1.0  # seconds
_running: list[Path] = []


@dataclass(frozen=True)
class Terms:
    """What every worker gets beside its variant.

    Attributes:
        trusted: packages that recipes may name.
        search: where the sweep's process looks for modules.
        leader: the sweep's process.
        steering: when it stops.
    """

    trusted: tuple[str, ...]
    search: tuple[str, ...]
    leader: Leader
    steering: Steering

    @classmethod
    def of(cls, trusted: Collection[str], steering: Steering) -> Terms:
        """Return the terms of a sweep that this process runs."""
        return cls(tuple(trusted), tuple(sys.path), Leader.here(), steering)


def run_task(terms: Terms, _: DictConfig) -> Any:
    """Run the variant whose folder Hydra's launcher names."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    share_cores()
    return None if terms.steering.stop_reason(folder.parent) else dict(_run(folder, terms))


def _run(folder: Path, terms: Terms) -> Result:
    from transferpipe.execute.open_recipe import keep_builds

    end_with(terms.leader)
    keep_builds()
    sys.path += [place for place in terms.search if place not in sys.path]  # the user's modules are found here as there
    _running.append(folder)
    try:
        with interruptions(signal.SIGINT):  # Ctrl-C reaches every process of a terminal
            return run_steered(folder, terms)
    finally:
        _running.remove(folder)


def end_with(leader: Leader) -> None:
    """Let this process end when `leader` is gone: a killed sweep leaves nothing running and blames no variant.

    To be called before anything is begun: it may be gone already.
    """
    if leader.is_gone():
        os._exit(1)
    if leader.is_watched_from_here():
        _watch(leader)


@functools.cache
def _watch(leader: Leader) -> None:
    is_child = os.getppid() == leader.pid

    def watch() -> None:
        while os.getppid() == leader.pid if is_child else leader.is_alive():
            time.sleep(_LEADER_POLL)
        for folder in _running:
            (folder / STARTED).unlink(missing_ok=True)
        # A thread cannot end the process in any other way, and nobody is left to wait for an orderly end.
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_steered(folder: Path, terms: Terms) -> Result:
    """Run the variant in `folder` as often as the sweep's settings say."""
    return terms.steering.run(folder, lambda: run_with_page(folder, terms.trusted))


def run_in_own_process(folder: Path, terms: Terms) -> str:
    """Run the variant in a process of its own, and return how that ended; empty if the variant has a result."""
    # -P: what lies in the working directory is not imported in place of a library. It is searched last, as here.
    command = [sys.executable, "-P", "-m", __name__]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, terms.search))}
    task = json.dumps({"folder": str(folder), **asdict(terms)})
    ended = subprocess.run(  # noqa: S603 - our own
        command, input=task, capture_output=True, text=True, check=False, env=environment
    )
    if read_result(folder) is not None:
        return ""
    if ended.returncode < 0:
        return f"signal {signal.Signals(-ended.returncode).name}"
    lines = ended.stderr.strip().splitlines()
    return f"exit status {ended.returncode}{f': {lines[-1]}' if lines else ''}"


def _serve() -> None:
    task = json.load(sys.stdin)
    leader, steering = Leader(**task["leader"]), Steering(**task["steering"])
    _run(Path(task["folder"]), Terms(tuple(task["trusted"]), tuple(task["search"]), leader, steering))


def run_with_page(folder: Path, trusted: Collection[str]) -> Result:
    """Run the variant in `folder` and leave its report beside the result."""
    return run_variant(folder, trusted, leave_page)


def leave_page(folder: Path, result: Result) -> None:
    """Write the report of the variant in `folder`, if it is done.

    Raises:
        FileError: its plan or manifest cannot be read, or the report cannot be written.
    """
    from transferpipe.show.report_page import report_page

    if result["status"] == DONE:
        plan, manifest = plan_from_data(read_json(folder / PLAN)), read_json(folder / MANIFEST)
        title = (read_variant(folder)[0].label, f"../{SWEEP_PAGE}")
        write_text(folder / PAGE, report_page(plan, manifest, result["score"], title), lasting=False)


if __name__ == "__main__":
    _serve()
