"""What Hydra and OmegaConf keep for the whole process: set while it is needed, and put back as it was found.

A notebook, or an application that runs on Hydra itself, keeps its version base, its configuration, its resolvers and
its places of configuration; `GlobalHydra`, `ConfigStore` and the environment are not touched at all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime, setup_globals
from hydra.version import VersionBase, setbase
from omegaconf import DictConfig, Node, OmegaConf

from transferpipe.cli.compose.derived import FUNCTIONS
from transferpipe.cli.compose.folders import SOURCES
from transferpipe.cli.compose.hydra_private import resolve_parse_tree_by, resolvers, source_types
from transferpipe.cli.compose.observed import note_other
from transferpipe.errors import Problem, UnsafeError

WHOLE = "recipe"
"""Where a problem of an interpolation lies as long as nobody has said in which key."""
_VERSION, _NAME = "1.3", "transferpipe"
_LOCK = threading.RLock()
_OURS = ("hydra", "now", "python_version", "oc.env", "oc.deprecated", *FUNCTIONS)
_REFUSED = {
    # What it says would land in the records of the run.
    "oc.env": ("reads the environment with ${oc.env:...}", "give the value as an override"),
    # Whatever characters the text has, Python would print it as a warning.
    "oc.deprecated": ("prints a text of its own with ${oc.deprecated:...}", "write ${KEY} with the key that it names"),
}
"""What a recipe may not ask OmegaConf for, and what to write instead."""
_FIXED = {
    "hydra",
    "python_version",
    "oc.create",
    "oc.decode",
    "oc.select",
    "oc.dict.keys",
    "oc.dict.values",
    *FUNCTIONS,
}
"""The resolvers that give the same for the same configuration, whenever and wherever they are asked."""

Count = Callable[[Any, Node], None]
"""Called with what every interpolation brings in, and where it stands; it raises where that is too much."""
_READING: ContextVar[bool] = ContextVar("reading", default=False)
_COUNT: ContextVar[Count | None] = ContextVar("count", default=None)


@contextmanager
def hydra_lent(
    config: DictConfig | None = None, extra: Mapping[str, Callable[[], str]] = MappingProxyType({})
) -> Iterator[None]:
    """Let Hydra work in this process as it does for us, as long as the context lasts.

    Args:
        config: the configuration that ``${hydra:...}`` reads.
        extra: further resolvers.
    """
    Plugins.instance()  # Hydra finds its plug-ins once, which is not ours to put back
    version, current, job = VersionBase.instance(), HydraConfig.instance(), JobRuntime.instance()
    types, known = source_types(), resolvers()
    names = [*_OURS, *extra]
    before = (version.version_base, current.cfg, job.conf.copy(), dict(types), {n: known.get(n) for n in names})
    try:
        setbase(_VERSION)
        setup_globals()
        job.set("name", _NAME)
        types.update({source.scheme(): source for source in SOURCES})
        for name, resolver in {**FUNCTIONS, **extra}.items():
            OmegaConf.register_new_resolver(name, resolver, replace=True, use_cache=False)
        if config is not None:
            current.cfg = _hydra_part(config, current)
        yield
    finally:
        version.version_base, current.cfg, job.conf = before[:3]
        # In place: others hold the table itself.
        types.clear()
        types.update(before[3])
        for name, earlier in before[4].items():
            if earlier is None:
                known.pop(name, None)
            else:
                known[name] = earlier


_LATEST: list[tuple[DictConfig, Any]] = []
"""The configuration that was read last, and what Hydra makes of it, which nothing can write into."""


def _hydra_part(config: DictConfig, current: HydraConfig) -> Any:
    """Return what ``${hydra:...}`` reads of a configuration: one is read for many variants, and copied once."""
    for known, part in _LATEST:
        if known is config:
            return part
    current.set_config(config)
    _LATEST[:] = [(config, current.cfg)]
    return current.cfg


@contextmanager
def recipe_read(config: DictConfig | None = None, loads: bool = False) -> Iterator[None]:
    """Lend Hydra the process for reading a recipe, one thread at a time, without what a recipe may not ask for.

    Other threads read the environment as ever.

    Args:
        config: what ``${hydra:...}`` reads.
        loads: whether files are merged, and nothing is filled in.
    """
    with _LOCK, hydra_lent(config):
        known = resolvers()
        # OmegaConf asks for what it overwrites, such as the name that Hydra gives run folders, and makes nothing of it.
        fixed = {*_FIXED, "now"} if loads else _FIXED
        others = {name: resolver for name, resolver in known.items() if name not in fixed}
        known.update({name: _note_use(name, resolver) for name, resolver in others.items()})
        known.update({name: _refuse(name, others[name]) for name in _REFUSED})
        token = _READING.set(True)
        try:
            yield
        finally:
            _READING.reset(token)
            known.update(others)


def _refuse(name: str, resolver: Callable[..., Any]) -> Callable[..., Any]:
    """Return a resolver that refuses the thread that reads a recipe."""

    def refuse_or_resolve(*args: Any, **kwargs: Any) -> Any:
        if _READING.get():
            what, fix = _REFUSED[name]
            raise UnsafeError(Problem(WHOLE, what, fix))
        return resolver(*args, **kwargs)

    return refuse_or_resolve


def _note_use(name: str, resolver: Callable[..., Any]) -> Callable[..., Any]:
    """Return a resolver whose use is noted: it may give something else at another time."""

    def note_and_resolve(*args: Any, **kwargs: Any) -> Any:
        note_other(f"${{{name}:...}}")
        return resolver(*args, **kwargs)

    return note_and_resolve


@contextmanager
def interpolations_counted(count: Count) -> Iterator[None]:
    """Call `count` with what every interpolation of this thread brings in, those inside of others too."""
    token = _COUNT.set(count)
    try:
        with _LOCK, resolve_parse_tree_by(_tell):
            yield
    finally:
        _COUNT.reset(token)


def _tell(result: Any, node: Node) -> None:
    count = _COUNT.get()
    if count is not None:
        count(result, node)
