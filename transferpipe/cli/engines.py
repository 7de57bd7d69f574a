"""Where variants run: in this process, or wherever one of Hydra's launchers takes them (joblib, Slurm, Ray)."""

from __future__ import annotations

import functools
import json
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict, read_write

from transferpipe.cli.compose import Composed
from transferpipe.cli.resolving import resolve
from transferpipe.errors import Problem, RecipeError, TransferError
from transferpipe.execute.atomic import write_text
from transferpipe.execute.manifest import MANIFEST, PLAN, read_json
from transferpipe.execute.prepare import prepare
from transferpipe.plan.chain import read_recipe
from transferpipe.plan.model import plan_from_data
from transferpipe.sweep.job import DONE, FAILED, RESULT, STARTED, Result, read_result, run_variant
from transferpipe.sweep.variant import Variant, planned, write_variant

Told = Callable[[str, Result], None]
"""Called with the key and the result of every variant as it is finished."""

_BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
_BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
_POLL = 0.2  # seconds
PAGE = "report.html"


@dataclass(frozen=True)
class Engine:
    """Runs variants that lie in their folders.

    Attributes:
        config: the composed configuration, which says which launcher.
    """

    config: DictConfig

    @property
    def optimises(self) -> bool:
        """Whether a sweeper was chosen that decides itself what to try next."""
        return str(self.config.hydra.sweeper._target_) != _BASIC_SWEEPER

    def run(self, folders: Sequence[Path], trusted: Collection[str], told: Told) -> None:
        """Run the variants in `folders`."""
        if str(self.config.hydra.launcher._target_) == _BASIC_LAUNCHER:
            for folder in folders:
                told(folder.name, run_with_page(folder, trusted))
        elif folders:
            _launch(self.config, folders, trusted, told)


def engine_of(composed: Composed) -> Engine:
    """Return the engine that the overrides choose: `hydra/launcher=...`."""
    return Engine(composed.config)


def _launch(config: DictConfig, folders: Sequence[Path], trusted: Collection[str], told: Told) -> None:
    """Hand the variants to one of Hydra's launchers, again and one by one those that died with their worker."""
    with _watched(folders, told):
        try:
            _launch_once(config, folders, trusted)
        except Exception as error:  # a launcher raises whatever the death of a worker makes it raise
            open_ones = [f for f in folders if read_result(f) is None]
            # Those that had not begun lost nothing. Of those that had, one took its worker along.
            begun = [f for f in open_ones if (f / STARTED).exists()]
            _launch_rest(config, [f for f in open_ones if f not in begun], begun, trusted, error)


def _launch_rest(
    config: DictConfig, fresh: Sequence[Path], begun: Sequence[Path], trusted: Collection[str], error: Exception
) -> None:
    for folder in begun:
        try:
            _launch_once(config, [folder], trusted)
        except Exception as again:
            _note_death(folder, again)
        if read_result(folder) is None:
            _note_death(folder, error)
    if fresh:
        try:
            _launch_once(config, fresh, trusted)
        except Exception as again:
            left = [f for f in fresh if read_result(f) is None]
            died = [f for f in left if (f / STARTED).exists()]
            if not died:  # the launcher itself does not work
                raise RecipeError(Problem("hydra/launcher", f"{type(again).__name__}: {again}")) from again
            _launch_rest(config, [f for f in left if f not in died], died, trusted, again)


def _note_death(folder: Path, error: Exception) -> None:
    if read_result(folder) is None:
        what = f"its worker died: {type(error).__name__}"
        result = {"status": FAILED, "problems": [what], "exit": 1, "seconds": 0}
        write_text(folder / RESULT, json.dumps(result))


def _launch_once(config: DictConfig, folders: Sequence[Path], trusted: Collection[str]) -> None:
    ours = config.copy()
    with read_write(ours.hydra), open_dict(ours.hydra):
        ours.hydra.sweep.dir = str(folders[0].parent)
    HydraConfig.instance().set_config(ours)
    loader = GlobalHydra.instance().config_loader()
    context = HydraContext(config_loader=loader, callbacks=Callbacks())
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=functools.partial(_task, tuple(trusted)), config=ours
    )
    launcher.launch([[f"hydra.sweep.subdir={f.name}"] for f in folders], initial_job_idx=0)


def _task(trusted: tuple[str, ...], _: DictConfig) -> Any:
    return dict(run_with_page(Path(HydraConfig.get().runtime.output_dir), trusted))


def run_with_page(folder: Path, trusted: Collection[str]) -> Result:
    """Run the variant in `folder` and leave its report beside the result."""
    from transferpipe.show.report_page import report_page

    result = run_variant(folder, trusted)
    if result["status"] == DONE and not (folder / PAGE).exists():
        plan, manifest = plan_from_data(read_json(folder / PLAN)), read_json(folder / MANIFEST)
        write_text(folder / PAGE, report_page(plan, manifest, result["score"]))
    return result


class _watched:  # noqa: N801 - a context, named as one
    """Tells of results as they appear, while the launcher is busy."""

    def __init__(self, folders: Sequence[Path], told: Told) -> None:
        self._left, self._told, self._stop = list(folders), told, threading.Event()
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
                self._told(folder.name, result)


def optimise(base: Composed, overrides: Sequence[str], trusted: Collection[str]) -> int:
    """Let the chosen sweeper (Optuna) decide what to try; every trial returns its score."""
    engine = engine_of(base)
    if not engine.optimises:
        raise RecipeError(
            Problem("sweep", "an interval needs a sweeper that chooses from it", "hydra/sweeper=optuna, or list values")
        )
    if base.data.get("score") is None:
        raise RecipeError(Problem("score", "a sweeper needs a number to go by", "choose one: score=linear_probe"))
    HydraConfig.instance().set_config(base.config)
    context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks())
    task = functools.partial(_trial, tuple(trusted))
    sweeper = Plugins.instance().instantiate_sweeper(hydra_context=context, task_function=task, config=base.config)
    sweeper.sweep(arguments=[o for o in overrides if not o.startswith(("hydra", "sweep"))])
    return 0


def _trial(trusted: tuple[str, ...], config: DictConfig) -> float:
    """Run what the sweeper chose in the folder that Hydra gave it, and return its score."""
    data = dict(resolve(config))
    for key in ("sweep", "vars"):
        data.pop(key, None)
    folder = Path(HydraConfig.get().runtime.output_dir)
    variant = Variant(data, {"trial": folder.name})
    write_variant(folder, planned(variant, prepare(read_recipe(data), trusted)))
    result = run_with_page(folder, trusted)
    if result.get("score") is None:
        raise TransferError([Problem(str(folder), "; ".join(result.get("problems", ())))])
    value = float(result["score"]["value"])
    print(f"{folder.name}: {result['score']['name']} {value:.4f}", flush=True)
    return value
