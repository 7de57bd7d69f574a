"""Resolving a recipe's interpolations: without the environment, and only as far as a recipe may grow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import yaml
from omegaconf import DictConfig, ListConfig, Node, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from transferpipe.cli.compose.hydra_private import key_of, value_in
from transferpipe.cli.compose.process_state import WHOLE, Count, interpolations_counted, recipe_read
from transferpipe.cli.compose.source_config import explain_missing, with_source_config, without_source_config
from transferpipe.errors import Problem, RecipeError, TransferError, UnsafeError, did_you_mean

# Without a limit, thirty short lines could fill the memory. A step is one interpolation; a unit, a character or value.
_MOST_UNITS = 200_000
_UNITS_A_STEP = 100
_COPIED = "copied from the environment"
_MISSING = re.compile(r"Interpolation key '([^']+)' not found")
_Error = TypeVar("_Error", bound=BaseException)


def resolve(job: DictConfig, config: DictConfig | None = None) -> Mapping[str, Any]:
    """Return `job` as plain data, interpolations resolved.

    Args:
        job: a recipe, or any part of one.
        config: what ``${hydra:...}`` reads; what Hydra has set where it runs a job.

    Raises:
        RecipeError: an interpolation cannot be resolved.
        UnsafeError: one reads the environment, or they unfold without measure.
    """
    places: tuple[str, ...] = ()
    try:
        with recipe_read(config), interpolations_counted(_limit()):
            job, places = with_source_config(job)
            data = OmegaConf.to_container(job, resolve=True)
    except (OmegaConfBaseException, TransferError, RecursionError) as error:
        ours = find_cause(error, TransferError)
        if ours is not None:
            key = _with_dots(str(getattr(error, "full_key", "") or ""))
            raise type(ours)(
                [replace(p, where=key) if key and p.where == WHOLE else p for p in ours.problems]
            ) from error
        if missing := explain_missing(str(error), job):
            raise RecipeError(missing) from error
        where = str(getattr(error, "full_key", "") or "recipe")
        if unknown := _MISSING.search(str(error)):
            keys = [*_keys_of(OmegaConf.to_container(job, resolve=False))]
            ends = [key for key in keys if key.rpartition(".")[2] == unknown[1].rpartition(".")[2]]
            near = f"did you mean '${{{ends[0]}}}'?" if len(ends) == 1 else did_you_mean(unknown[1], keys, most=1)
            what = f"${{{unknown[1]}}} names no key of this recipe"
            raise RecipeError(
                Problem(where, what, near or "put it under vars: vars: {NAME: VALUE}, and ${vars.NAME}")
            ) from error
        fix = "write ${KEY} with a key of this recipe, or the value itself"
        raise RecipeError(Problem(where, str(error).splitlines()[0], fix)) from error
    assert isinstance(data, dict)
    without_source_config(data, places)  # type: ignore[arg-type]
    return {str(k): v for k, v in data.items()}


def yaml_text(content: Any, resolve: bool = False) -> str:
    """Return a configuration as OmegaConf writes it, with an escape for what a terminal would take for a command."""
    text = OmegaConf.to_yaml(content, resolve=resolve)
    if all(line.isprintable() for line in text.split("\n")):
        return text
    # What is quoted stays so, and what is not: 1e5 is a number to OmegaConf, and a text to PyYAML.
    return str(yaml.serialize(yaml.compose(text, Loader=yaml.SafeLoader), Dumper=yaml.SafeDumper, allow_unicode=False))


def hide_copied(hydra: DictConfig) -> None:
    """Put a word in the place of what ``hydra.job.env_copy`` has Hydra copy from the environment into `hydra`.

    The command line may ask for that, for the jobs of a launcher; no record should show it.
    """
    with read_write(hydra), open_dict(hydra):
        for name in OmegaConf.select(hydra, "job.env_copy") or ():
            hydra.job.env_set[name] = _COPIED


def _keys_of(data: Any, prefix: str = "") -> Iterator[str]:
    """Yield the keys with dots that an interpolation could name."""
    for key, inner in data.items() if isinstance(data, dict) else ():
        yield f"{prefix}{key}"
        yield from _keys_of(inner, f"{prefix}{key}.")


def find_cause(error: BaseException, kind: type[_Error]) -> _Error | None:
    """Return the first error of a kind among `error` and those behind it."""
    seen: list[BaseException] = []
    queue: list[BaseException | None] = [error]
    while queue:
        here = queue.pop(0)
        if here is None or here in seen:
            continue
        if isinstance(here, kind):
            return here
        seen.append(here)
        queue += [here.__cause__, here.__context__]
    return None


def _with_dots(key: str) -> str:
    """Return a key of OmegaConf's, a.b[0], as messages write it: a.b.0."""
    return re.sub(r"\[(\d+)\]", r".\1", key)


def _limit() -> Count:
    """Return what counts, and stops at the limit."""
    left = _MOST_UNITS

    def count(result: Any, node: Node) -> None:
        nonlocal left
        left -= _UNITS_A_STEP + _size(result)
        if left < 0:
            what = "its interpolations unfold to far more than a recipe needs"
            raise UnsafeError(Problem(_with_dots(key_of(node)) or WHOLE, what, "write the values out"))

    return count


def _size(result: Any) -> int:
    if isinstance(result, DictConfig | ListConfig):
        return _count(OmegaConf.to_container(result, resolve=False))
    return _count(value_in(result) if isinstance(result, Node) else result)


def _count(data: Any) -> int:
    if isinstance(data, str):
        return 1 + len(data)
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return 1 + sum(_count(value) for value in inner)
