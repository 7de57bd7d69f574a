"""Two models at hand: opened, paired by name or by a plan, run on one input and compared."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from transferpipe.fetch.open_path import open_path
from transferpipe.models.building.build import import_keras
from transferpipe.models.keras_private import closing_name_scopes
from transferpipe.models.settings import settings_kept
from transferpipe.models.source import live_model
from transferpipe.models.target import ModelTarget
from transferpipe.planning.plan import Plan
from transferpipe.prove.parity.compare import tolerance_for
from transferpipe.prove.parity.compare_runners import Given, compare_runners, runner_dtypes
from transferpipe.prove.parity.keras_trace import KerasRunner
from transferpipe.prove.parity.pairs import pairs_of_plan
from transferpipe.prove.parity.references import check_runnable, opened_reference
from transferpipe.prove.parity.result import INCONCLUSIVE, Parity
from transferpipe.prove.parity.runner import CannotRunError, Runner


@dataclass(frozen=True)
class ParitySettings:
    """On what two models are compared.

    Attributes:
        inputs: an npz file, or arrays by the inputs' names; None draws them from `seed`.
        atol: the largest difference allowed, with `rtol` in place of the tolerances that are scaled by themselves.
        rtol: the same as a part of the expected value.
        seed: of random inputs.
    """

    inputs: str | Mapping[str, NDArray[Any]] | None = None
    atol: float | None = None
    rtol: float | None = None
    seed: int = 0


@closing_name_scopes()
def compare_models(original: Any, model: Any, settings: ParitySettings, plan: Plan | None = None) -> Parity:
    """Compare `model` with `original`: each a path, a built `keras.Model`, or what a builder made.

    Args:
        original: the one that is right.
        model: the one that is judged.
        settings: what both are run on.
        plan: pairs their layers; left out, layers of one name belong together.

    Raises:
        RecipeError: one of them holds weights without a model, or the inputs are none of the model's.
        FileError, UnsafeError: a file cannot be read, or holds code.
    """
    import_keras()
    with settings_kept():
        try:
            with _open(original, "A") as reference, _open(model, "B") as target:
                pairs = pairs_of_plan(plan, "source") if plan else _by_name(reference, target)
                dtypes = [*runner_dtypes(reference), *runner_dtypes(target)]
                alike = isinstance(reference, KerasRunner) and isinstance(target, KerasRunner)
                tolerance = tolerance_for(dtypes, settings.atol, settings.rtol, alike)
                given = Given(settings.inputs, settings.seed, tolerance, may_end_elsewhere=plan is not None)
                return compare_runners(reference, target, pairs, given)
        except CannotRunError as error:
            inputs = settings.inputs if isinstance(settings.inputs, str) else "given or random"
            return Parity(INCONCLUSIVE, _label(original), inputs, reason=str(error))


@contextlib.contextmanager
def _open(model: Any, where: str) -> Iterator[Runner]:
    if isinstance(model, str | Path):
        source = open_path(str(model), where)
        check_runnable(source, where)
        with opened_reference(source) as runner:
            yield runner
        return
    live = model if isinstance(model, ModelTarget) else live_model(model, where)
    yield KerasRunner(live.model, live.label, live.walked)


def _label(model: Any) -> str:
    if isinstance(model, ModelTarget):
        return model.label
    return str(model) if isinstance(model, str | Path) else f"{type(model).__name__} {model.name!r}"


def _by_name(reference: Runner, target: Runner) -> dict[str, str]:
    """Pair the layers that have one name; the others below a nested model that only one of the two has."""
    here, there = _with_weights(target), _with_weights(reference)
    found = {name: name for name in here if name in there}
    for name in here:
        inner = name.partition("/")[2]
        if name not in found and inner in there and inner not in found.values():
            found[name] = inner
    left = {name.partition("/")[2]: name for name in there if name not in found.values()}
    return found | {name: left[name] for name in here if name not in found and name in left}


def _with_weights(runner: Runner) -> list[str]:
    layers: Mapping[str, Any] = getattr(runner, "layers", {})
    return [name for name, layer in layers.items() if layer is None or getattr(layer, "weights", None)]
