"""What a search chooses from: the values of every axis, some of which vary only where others have certain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep

from transferpipe.cli.sweeps.expansion import Axes, check_conditions, conditions_of, fits, where_it_varies
from transferpipe.errors import Problem, Problems, RecipeError


@dataclass(frozen=True)
class Space:
    """What may be chosen.

    Attributes:
        axes: what varies.
        fixed: the values that hold for every trial, by key.
        when: by the key of an axis, what other keys must have for it to vary.
    """

    axes: Axes
    fixed: Mapping[str, str]
    when: Mapping[str, Mapping[str, Any]]

    def check(self) -> None:
        """Refuse what cannot be chosen from.

        Raises:
            RecipeError: what should be an interval is not, or a condition names what has no value.
        """
        for key, text in self.axes.open.items():
            _interval(key, text)
        check_conditions(self.axes, {}, self.when, self.fixed)

    def distributions(self) -> dict[str, Any]:
        """Return Optuna's distribution of every key.

        Raises:
            RecipeError: what should be an interval is not, such as one from 0 that is to be spread by its logarithm.
        """
        from optuna.distributions import CategoricalDistribution

        found: dict[str, Any] = {key: CategoricalDistribution(values) for key, values in self.axes.axes.items()}
        return found | {key: _distribution(key, text) for key, text in self.axes.open.items()}

    def choose(self, trial: Any) -> dict[str, str]:
        """Return what the sampler of one of Optuna's trials chooses, as texts, of the keys that vary there.

        It is not asked for the others: it would learn from values that changed nothing.
        """
        distributions, conditions = self.distributions(), conditions_of(self.when)
        left, chosen = list(distributions), dict[str, str]()
        while left:
            # Those whose conditions are known; where they wait for each other, all of them, and what fits is kept.
            known = [key for key in left if not conditions.get(key, {}).keys() & {*left}]
            for key in known or left:
                if not known or fits({**self.fixed, **chosen}, conditions.get(key, {})):
                    chosen[key] = str(_suggest(trial, key, distributions[key]))
            left = [key for key in left if key not in known] if known else []
        return dict(where_it_varies(tuple(chosen.items()), self.fixed, conditions))


def check_same_space(study: Any, space: Space) -> None:
    """Refuse to go on with a stored study whose trials chose from other values.

    Raises:
        RecipeError: with every such key.
    """
    from optuna.distributions import check_distribution_compatibility

    problems, wanted = Problems(), space.distributions()
    before = {key: kind for trial in study.trials for key, kind in trial.distributions.items()}
    for key in wanted.keys() & before.keys():
        try:
            check_distribution_compatibility(before[key], wanted[key])
        except ValueError:
            what = f"the study {study.study_name!r} in hydra.sweeper.storage has chosen from {_text(before[key])}, "
            what += f"and Optuna keeps to that; now it is {_text(wanted[key])}"
            problems.add(key, what, "begin another study beside it: hydra.sweeper.study_name=NAME")
    problems.raise_as(RecipeError)


def _text(distribution: Any) -> str:
    if hasattr(distribution, "choices"):
        return ", ".join(str(value) for value in distribution.choices)
    return f"interval({distribution.low},{distribution.high})"


def _suggest(trial: Any, key: str, distribution: Any) -> Any:
    if hasattr(distribution, "choices"):
        return trial.suggest_categorical(key, distribution.choices)
    suggest = trial.suggest_int if isinstance(distribution.low, int) else trial.suggest_float
    return suggest(key, distribution.low, distribution.high, log=distribution.log)


def _interval(key: str, text: str) -> tuple[float, float, bool]:
    """Return the ends of an interval, and whether it is to be spread by its logarithm."""
    value = OverridesParser.create().parse_override(f"{key}={text}").value()
    if not isinstance(value, IntervalSweep) or value.start is None or value.end is None:
        raise RecipeError(Problem(key, f"{text!r} is not an interval"))
    return value.start, value.end, "log" in value.tags


def _distribution(key: str, text: str) -> Any:
    from optuna.distributions import FloatDistribution, IntDistribution

    low, high, log = _interval(key, text)
    try:
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(low, high, log=log)
    except ValueError as error:
        raise RecipeError(Problem(key, f"{text!r} is not an interval: {error}")) from error
