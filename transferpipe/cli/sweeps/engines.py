"""Where variants run: in this process, or wherever one of Hydra's launchers takes them (joblib, Slurm, Ray)."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, open_dict, read_write

from transferpipe.cli.compose.composing import Composed
from transferpipe.cli.compose.hydra_private import context_of, is_basic_launcher, is_basic_sweeper
from transferpipe.cli.sweeps.expansion import as_override
from transferpipe.errors import Problem, RecipeError
from transferpipe.files.atomic import write_text
from transferpipe.planning.model import plan_from_data
from transferpipe.prove.manifest import MANIFEST, PLAN, read_json
from transferpipe.sweep.job import (
    DONE,
    RESULT,
    STARTED,
    OnResult,
    Result,
    failed,
    is_begun,
    read_result,
    run_variant,
    wait_until_free,
)
from transferpipe.sweep.variant import read_variant

_POLL, _PARENT_POLL = 0.2, 1.0  # seconds
QUIET = ("hydra.output_subdir=null", "hydra/job_logging=none")  # what Hydra would leave is there already
PAGE, SWEEP_PAGE = "report.html", "sweep.html"


@dataclass(frozen=True)
class Engine:
    """Runs variants that lie in their folders.

    Attributes:
        composed: the recipe of the sweep, whose configuration says which launcher.
    """

    composed: Composed

    @property
    def optimises(self) -> bool:
        """Whether a sweeper was chosen that decides itself what to try next."""
        return not is_basic_sweeper(self.composed.config)

    def run(self, folders: Sequence[Path], trusted: Collection[str], on_result: OnResult) -> None:
        """Run the variants in `folders`."""
        if is_basic_launcher(self.composed.config):
            for folder in folders:
                on_result(folder.name, run_with_page(folder, trusted))
        elif folders:
            _launch(self.composed, folders, trusted, on_result)


def engine_of(composed: Composed) -> Engine:
    """Return the engine that the overrides choose: `hydra/launcher=...`."""
    return Engine(composed)


def _launch(composed: Composed, folders: Sequence[Path], trusted: Collection[str], on_result: OnResult) -> None:
    """Hand the variants to one of Hydra's launchers, again and one by one those that died with their worker."""
    with _watched(folders, on_result), _interrupted(folders):
        left = [
            folder for batch in _batches(composed.config, folders) for folder in _attempt(composed, batch, trusted)[0]
        ]
        while left:
            begun = [f for f in left if is_begun(f)]
            for folder in begun:
                # A launcher gives up at the first death, while other workers are still busy: they are waited for.
                wait_until_free(folder)
                if read_result(folder) is None:
                    _note_death(folder, _attempt(composed, [folder], trusted)[1])
            left, error = _attempt(composed, [f for f in left if f not in begun], trusted)
            if left and not any(is_begun(f) for f in left):
                raise RecipeError(
                    Problem("hydra/launcher", _said(error), "correct the launcher's settings: hydra.launcher.KEY=...")
                )


@contextlib.contextmanager
def _interrupted(folders: Sequence[Path]) -> Iterator[None]:
    """Where the sweep is interrupted, take back that variants were begun: their workers end with it, not by them."""
    try:
        yield
    except KeyboardInterrupt:
        for folder in folders:
            if is_begun(folder):
                (folder / STARTED).unlink(missing_ok=True)
        raise


def _batches(config: DictConfig, folders: Sequence[Path]) -> list[Sequence[Path]]:
    """Return the variants as they are launched: all at once, but where that would start a process for each at once."""
    if not str(config.hydra.launcher._target_).endswith("submitit_launcher.LocalLauncher"):
        return [folders]
    size = os.cpu_count() or 1
    return [folders[i : i + size] for i in range(0, len(folders), size)]


def _attempt(
    composed: Composed, folders: Sequence[Path], trusted: Collection[str]
) -> tuple[list[Path], Exception | None]:
    """Launch the variants and return those without a result, and what the launcher raised."""
    error = None
    try:
        if folders:
            _launch_once(composed, folders, trusted)
    except Exception as raised:  # a launcher raises whatever the death of a worker makes it raise
        error = raised
    return [f for f in folders if read_result(f) is None], error


def _note_death(folder: Path, error: Exception | None) -> None:
    """Give a variant that died twice its result."""
    if read_result(folder) is None:
        result = failed([f"its worker died, twice: {_said(error)}"], 1)
        write_text(folder / RESULT, json.dumps({**result, "seconds": 0}, indent=1))


def _said(error: Exception | None) -> str:
    lines = str(error).strip().splitlines() if error else []
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__ if error else "no result was left"


def _launch_once(composed: Composed, folders: Sequence[Path], trusted: Collection[str]) -> None:
    ours = composed.config.copy()
    with read_write(ours.hydra), open_dict(ours.hydra):
        ours.hydra.sweep.dir = str(folders[0].parent)
        ours.hydra.hydra_logging = {"root": None}
    # A job is composed anew, of what was said and what stands here.
    place = f"hydra.sweep.dir={as_override(str(folders[0].parent))}"
    jobs = [[place, f"hydra.sweep.subdir={f.name}", *QUIET] for f in folders]
    with composed.composer.lent(ours):
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context_of(composed.composer.loader),
            task_function=functools.partial(_task, tuple(trusted), list(sys.path), os.getpid()),
            config=ours,
        )
        launcher.launch(jobs, initial_job_idx=0)


def _task(trusted: tuple[str, ...], search: list[str], leader: int, _: DictConfig) -> Any:
    from transferpipe.execute.open_recipe import keep_builds

    if os.getppid() == leader:
        _end_with(leader)
    keep_builds()
    sys.path += [place for place in search if place not in sys.path]  # a worker finds the user's modules as we do
    return dict(run_with_page(Path(HydraConfig.get().runtime.output_dir), trusted))


@functools.cache
def _end_with(leader: int) -> None:
    """Let this worker end when the process that started it is gone: a killed sweep leaves nothing running."""

    def watch() -> None:
        while os.getppid() == leader:
            time.sleep(_PARENT_POLL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


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


def leave_missing_pages(folders: Sequence[Path]) -> None:
    """Write the reports that finished variants have lost.

    Raises:
        FileError: as `leave_page`.
    """
    for folder in folders:
        result = read_result(folder)
        if result and not (folder / PAGE).exists():
            leave_page(folder, result)


class _watched:  # noqa: N801 - a context, named as one
    """Tells of results as they appear, while the launcher is busy."""

    def __init__(self, folders: Sequence[Path], on_result: OnResult) -> None:
        self._left, self._on_result, self._stop = list(folders), on_result, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._stop.is_set():
            self._look()
            time.sleep(_POLL)

    def _look(self) -> None:
        for folder in list(self._left):
            result = read_result(folder)
            if result is not None:
                self._left.remove(folder)
                self._on_result(folder.name, result)
