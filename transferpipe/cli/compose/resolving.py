"""Resolving a recipe's interpolations: without the environment, and only as far as a recipe may grow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from omegaconf import Container, DictConfig, ListConfig, Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from transferpipe.cli.compose.hydra_private import value_in
from transferpipe.errors import Problem, RecipeError, TransferError, UnsafeError

# Without a limit, thirty short lines could fill the memory. A step is one interpolation; a unit, a character or value.
_MOST_UNITS = 300_000
_UNITS_A_STEP = 100
_Error = TypeVar("_Error", bound=BaseException)


def resolve(job: DictConfig) -> Mapping[str, Any]:
    """Return `job` as plain data, interpolations resolved.

    Raises:
        RecipeError: an interpolation cannot be resolved.
        UnsafeError: one reads the environment (see `no_environment`), or they unfold without measure.
    """
    try:
        with _limited():
            data = OmegaConf.to_container(job, resolve=True)
    except (OmegaConfBaseException, TransferError, RecursionError) as error:
        ours = find_cause(error, TransferError)
        if ours is not None:
            raise ours from error
        where = str(getattr(error, "full_key", "") or "recipe")
        raise RecipeError(Problem(where, str(error).splitlines()[0], "fix the interpolation")) from error
    assert isinstance(data, dict)
    return {str(k): v for k, v in data.items()}


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


@contextmanager
def no_environment() -> Iterator[None]:
    """Refuse ``${oc.env:...}`` while a recipe is read: what it says would land in the records of the run."""

    def refuse(*_: str) -> str:
        what = "reads the environment with ${oc.env:...}"
        raise UnsafeError(Problem("recipe", what, "give the value as an override"))

    OmegaConf.register_new_resolver("oc.env", refuse, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


@contextmanager
def _limited() -> Iterator[None]:
    """Count what every interpolation brings in, those inside of others too, and stop at the limit."""
    original = Container.resolve_parse_tree
    left = _MOST_UNITS

    def resolve_and_count(self: Container, *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        result = original(self, *args, **kwargs)
        left -= _UNITS_A_STEP + _size(result)
        if left < 0:
            what = "its interpolations unfold to far more than a recipe needs"
            raise UnsafeError(Problem("recipe", what, "write the values out"))
        return result

    Container.resolve_parse_tree = resolve_and_count  # type: ignore[method-assign]
    try:
        yield
    finally:
        Container.resolve_parse_tree = original  # type: ignore[method-assign]


def _size(result: Any) -> int:
    if isinstance(result, DictConfig | ListConfig):
        return _count(OmegaConf.to_container(result, resolve=False))
    return _count(value_in(result) if isinstance(result, Node) else result)


def _count(data: Any) -> int:
    if isinstance(data, str):
        return 1 + len(data)
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return 1 + sum(_count(value) for value in inner)
