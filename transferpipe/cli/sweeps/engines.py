"""Where variants run: in this process, or wherever one of Hydra's launchers takes them (joblib, Slurm, Ray)."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.plugins import Plugins
from omegaconf import DictConfig, open_dict, read_write

from transferpipe.cli.compose.composing import Composed
from transferpipe.cli.compose.hydra_private import context_of, is_basic_launcher, is_basic_sweeper
from transferpipe.cli.sweeps.expansion import as_override
from transferpipe.cli.sweeps.threads import threads_as_here
from transferpipe.cli.sweeps.workers import PAGE, Terms, end_with, leave_page, run_in_own_process, run_steered, run_task
from transferpipe.errors import Problem, RecipeError
from transferpipe.interruption import raise_if_interrupted
from transferpipe.sweep.running.job import (
    MOST_DEATHS,
    STARTED,
    OnResult,
    has_died,
    is_begun,
    note_deaths,
    read_result,
    wait_until_free,
)
from transferpipe.sweep.running.leader import guarded

_POLL = 0.2  # seconds
_JOBLIB = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"
QUIET = ("hydra.output_subdir=null", "hydra/job_logging=none")  # what Hydra would leave is there already


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

    def run(self, folders: Sequence[Path], terms: Terms, on_result: OnResult) -> None:
        """Run the variants in `folders`."""
        if is_basic_launcher(self.composed.config):
            _run_here(folders, terms, on_result)
        elif folders:
            _launch(self.composed, folders, terms, on_result)


def engine_of(composed: Composed) -> Engine:
    """Return the engine that the overrides choose: `hydra/launcher=...`."""
    return Engine(composed)


def _run_here(folders: Sequence[Path], terms: Terms, on_result: OnResult) -> None:
    """Run the variants in this process, but one of its own for those whose process died before: they come last."""
    again = [folder for folder in folders if has_died(folder)]
    with _take_back_when_interrupted(again):
        for folder in (*(f for f in folders if f not in again), *again):
            if terms.steering.stop_reason(folder.parent):
                return
            if folder in again:
                _run_alone(folder, lambda f: run_in_own_process(f, terms))
            result = read_result(folder) if folder in again else run_steered(folder, terms)
            on_result(folder.name, result or {})
            raise_if_interrupted()


def _launch(composed: Composed, folders: Sequence[Path], terms: Terms, on_result: OnResult) -> None:
    """Hand the variants to one of Hydra's launchers.

    A launcher gives up when a worker dies, and may end the other workers, too: which of the variants that were begun
    took its worker along is not known then. So a death among others counts against none of them. Each is run again by
    itself, where a death is its own. A worker may also die before it has come to a variant, as it starts: all are
    launched once more then, and if that comes to nothing, too, it is the launcher that does not work.
    """
    idle = 0
    again = [folder for folder in folders if has_died(folder)]
    left = [folder for folder in folders if folder not in again]
    with _watched(folders, on_result), _take_back_when_interrupted(folders):
        while left or again:
            rest, errors = list[Path](), list[Exception | None]()
            for batch in _batches(composed.config, left):
                open_ones, error = _attempt(composed, batch, terms)
                rest += open_ones
                errors.append(error)
                raise_if_interrupted()
            if terms.steering.stop_reason(folders[0].parent):
                return
            begun = [folder for folder in rest if is_begun(folder)]
            for folder in (*begun, *again):
                wait_until_free(folder)  # other workers may be busy still
                _run_alone(folder, lambda f: _describe_error(_attempt(composed, [f], terms)[1]))
            idle = idle + 1 if rest and len(rest) == len(left) and not begun else 0
            if idle == MOST_DEATHS:
                fix = "correct the launcher's settings: hydra.launcher.KEY=..."
                raise RecipeError(Problem("hydra/launcher", _describe_error(errors[-1]), fix))
            left, again = [f for f in rest if f not in begun], []


def _run_alone(folder: Path, run: Callable[[Path], str]) -> None:
    """Run a variant by itself, again if its process dies, until it has a result: at last that it died too often."""
    said = ""
    for _ in range(MOST_DEATHS):
        if read_result(folder) is None:
            said = run(folder)
            raise_if_interrupted()
    if read_result(folder) is None:
        note_deaths(folder, said)


@contextlib.contextmanager
def _take_back_when_interrupted(folders: Sequence[Path]) -> Iterator[None]:
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


def _attempt(composed: Composed, folders: Sequence[Path], terms: Terms) -> tuple[list[Path], Exception | None]:
    """Launch the variants and return those without a result, and what the launcher raised."""
    error = None
    try:
        if folders:
            _launch_once(composed, folders, terms)
    except Exception as raised:  # a launcher raises whatever the death of a worker makes it raise
        error = raised
    return [f for f in folders if read_result(f) is None], error


def _describe_error(error: Exception | None) -> str:
    lines = str(error).strip().splitlines() if error else []
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__ if error else "no result was left"


def _launch_once(composed: Composed, folders: Sequence[Path], terms: Terms) -> None:
    ours = composed.config.copy()
    with read_write(ours.hydra), open_dict(ours.hydra):
        ours.hydra.sweep.dir = str(folders[0].parent)
        ours.hydra.hydra_logging = {"root": None}
    # A job is composed anew, of what was said and what stands here.
    place = f"hydra.sweep.dir={as_override(str(folders[0].parent))}"
    jobs = [[place, f"hydra.sweep.subdir={f.name}", *QUIET] for f in folders]
    # A computer of Slurm's has other cores than this one, and a job some of them.
    threads = contextlib.nullcontext() if _is_slurm(composed.config) else threads_as_here()
    with composed.composer.lent(ours), guarded(terms.leader), threads:
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context_of(composed.composer.loader),
            task_function=functools.partial(run_task, terms),
            config=ours,
        )
        if composed.config.hydra.launcher._target_ == _JOBLIB and _takes_initializers():
            # A worker that waits for its first variant would not see for five minutes that the sweep was killed.
            vars(launcher)["joblib"] |= {"initializer": end_with, "initargs": (terms.leader,)}
        launcher.launch(jobs, initial_job_idx=0)


def _is_slurm(config: DictConfig) -> bool:
    return str(config.hydra.launcher._target_).endswith("submitit_launcher.SlurmLauncher")


def _takes_initializers() -> bool:
    """Tell whether joblib does, as it does from 1.5 on."""
    from joblib import Parallel  # type: ignore[import-untyped]

    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(Parallel.__init__).parameters.values())


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
