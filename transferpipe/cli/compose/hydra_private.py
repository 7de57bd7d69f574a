"""The one door to what Hydra and OmegaConf do not publish: a release that moves something breaks this module alone."""

from __future__ import annotations

import copy
import io
import logging
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache, lru_cache, partial
from typing import Any

import omegaconf.base
import yaml
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigSource
from hydra.types import HydraContext
from omegaconf import AnyNode, Container, DictConfig, ListConfig, Node, OmegaConf
from omegaconf._utils import get_yaml_loader
from omegaconf.basecontainer import BaseContainer
from omegaconf.errors import OmegaConfBaseException

__all__ = [
    "INFO",
    "FileConfigSource",
    "NotingLoader",
    "apply_overrides",
    "context_of",
    "copy_of_keys",
    "info_text",
    "is_basic_launcher",
    "is_basic_sweeper",
    "key_of",
    "loader_of",
    "read_config",
    "resolve_parse_tree_by",
    "resolvers",
    "source_types",
    "value_in",
]


_HEADER = 512  # characters at the beginning of a file, in which Hydra looks for one
_REGISTERED = "structured"  # Hydra's scheme of what is registered in the process instead of lying in files


class NotingLoader(ConfigLoaderImpl):
    """A loader of Hydra's that keeps what the files alone compose, before any override of a value, if asked to.

    Attributes:
        keeps_files: whether it is asked to: that is a copy, with all of Hydra's own part.
        from_files: that configuration of the last such composition; None before one.
        parts: the files of the last composition, in the order in which they are merged; None before one.
    """

    keeps_files: bool = False
    from_files: DictConfig | None = None
    parts: Sequence[ResultDefault] | None = None

    def _compose_config_from_defaults_list(
        self, defaults: list[ResultDefault], *args: Any, **kwargs: Any
    ) -> DictConfig:
        self.parts = defaults
        config = super()._compose_config_from_defaults_list(defaults, *args, **kwargs)
        self.from_files = config.copy() if self.keeps_files else None
        return config


def loader_of(primary: str, before: Sequence[tuple[str, str]]) -> NotingLoader:
    """Return a loader of Hydra's that nobody else uses.

    Args:
        primary: the folder that holds the primary configuration.
        before: further places, as provider and path with scheme; a later one wins.
    """
    search_path = create_config_search_path(primary)
    for provider, path in before:
        search_path.prepend(provider, path)
    loader = NotingLoader(config_search_path=search_path)
    _share_store(loader)
    return loader


def _share_store(loader: ConfigLoaderImpl) -> None:
    """Have the configurations that Hydra and its plug-ins register copied when they are handed out, as they are anyway.

    Hydra copies all places of configuration for each composition, and with this one all that is registered: more than a
    third of what composing copies. Its plug-ins are imported by a way of their own, so that no class tells this place.
    """
    for source in loader.repository.get_sources():
        if source.scheme() == _REGISTERED:
            vars(source)["__deepcopy__"] = partial(_itself, source)


def _itself(source: ConfigSource, _memo: object) -> ConfigSource:
    return source


INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
"""What Hydra's applications print for ``--info``."""


def info_text(loader: ConfigLoader, what: str, words: Sequence[str]) -> str:
    """Return what Hydra prints for ``--info``, which it logs; the process's loggers are left as they were."""
    root, out = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    try:
        root.handlers.clear()
        with redirect_stdout(out):
            Hydra("transferpipe", loader).show_info(what, "config", [*words])
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    return out.getvalue()


def read_config(text: str, events: Sequence[yaml.Event]) -> tuple[dict[str, str | None], Container]:
    """Return the header of a configuration's text, and the configuration, as Hydra reads them.

    Args:
        text: the text.
        events: what PyYAML parsed of it. To parse it once more would take as long again.
    """
    beginning = io.StringIO(text, newline=None).read(_HEADER)
    loader = _replaying_loader()(events)
    try:
        data = loader.get_single_data()
    finally:
        loader.dispose()
    return ConfigSource._get_header_dict(beginning), _configure({} if data is None else data)


def _configure(data: Any) -> Container:
    """Return plain data as a configuration.

    OmegaConf compares each value with types that a recipe does not declare, which takes a third of what composing does.
    """
    if isinstance(data, dict):
        try:
            return _fill(DictConfig({}), data)
        except (OmegaConfBaseException, TypeError):  # which OmegaConf says with the place
            pass
    config: Container = OmegaConf.create(data)
    return config


def _fill(config: DictConfig, data: dict[Any, Any]) -> DictConfig:
    content = config.__dict__["_content"]
    for key, value in data.items():
        if type(key) is not str:
            raise TypeError(key)
        content[key] = _node_of(value, key, config)
    return config


def _node_of(value: Any, key: str | int, parent: Container) -> Node:
    if type(value) is dict:
        return _fill(DictConfig({}, key=key, parent=parent), value)
    if type(value) is list:
        config = ListConfig([], key=key, parent=parent)
        config.__dict__["_content"].extend(_node_of(inner, i, config) for i, inner in enumerate(value))
        return config
    return AnyNode(value, key, parent)


def copy_of_keys(config: DictConfig, keys: Iterable[Any]) -> DictConfig:
    """Return a copy of some keys of a configuration, nothing resolved.

    OmegaConf's own copies each value with all that it knows of it and checks it again: of a recipe of thousands of
    values, a sixth of what composing takes.
    """
    copied = DictConfig({})
    copied.__dict__["_content"].update({key: _copy_of(config._get_node(key), key, copied) for key in keys})
    return copied


def _copy_of(node: Any, key: Any, parent: Container) -> Node:
    content = node.__dict__.get("_content")
    if type(node) is AnyNode and not node._metadata.flags:
        return AnyNode(node._value(), key, parent)
    if type(node) is DictConfig and type(content) is dict and _is_plain(node, dict):
        mapping = DictConfig({}, key=key, parent=parent)
        mapping.__dict__["_content"].update({name: _copy_of(value, name, mapping) for name, value in content.items()})
        return mapping
    if type(node) is ListConfig and type(content) is list and _is_plain(node, list):
        items = ListConfig([], key=key, parent=parent)
        items.__dict__["_content"].extend(_copy_of(value, i, items) for i, value in enumerate(content))
        return items
    other: Node = copy.deepcopy(node)
    other._set_parent(parent)
    other._set_key(key)
    return other


def _is_plain(node: Any, kind: type) -> bool:
    """Tell whether a container holds anything, as YAML does, and has no settings of its own."""
    known = node._metadata
    return not known.flags and known.object_type in (kind, None) and known.element_type is Any


@cache
def _replaying_loader() -> type[Any]:
    """Return OmegaConf's loader of YAML, which takes events that were parsed before."""

    class ReplayingLoader(get_yaml_loader()):  # type: ignore[misc]
        def __init__(self, events: Sequence[yaml.Event]) -> None:
            super().__init__("")
            self._next: yaml.Event | None = None
            self._rest = iter(events)
            self.get_event()

        def check_event(self, *choices: type[yaml.Event]) -> bool:
            return self._next is not None and (not choices or isinstance(self._next, choices))

        def peek_event(self) -> yaml.Event | None:
            return self._next

        def get_event(self) -> yaml.Event | None:
            event, self._next = self._next, next(self._rest, None)
            return event

    return ReplayingLoader


def source_types() -> MutableMapping[str, type[ConfigSource]]:
    """Return Hydra's table of what reads places of configuration, by scheme."""
    return SourcesRegistry.instance().types


def resolvers() -> MutableMapping[str, Callable[..., Any]]:
    """Return OmegaConf's table of resolvers, as it calls them."""
    return BaseContainer._resolvers


@contextmanager
def resolve_parse_tree_by(on_resolved: Callable[[Any, Node], None]) -> Iterator[None]:
    """Call `on_resolved` with the result of every interpolation and its place, in whatever thread.

    A text is parsed once, however often others stand for it: parsing is four fifths of what resolving takes. And it is
    resolved once: of ten texts, each with ten times the one before, the last would be resolved 10^9 times.
    """
    original, parse = Container.resolve_parse_tree, omegaconf.base.parse  # type: ignore[attr-defined]

    known = dict[tuple[int, int, int], tuple[str, Container, Any, Node]]()  # with what has these numbers

    def resolve_and_tell(self: Container, parse_tree: Any, node: Node, *args: Any, **kwargs: Any) -> Any:
        place = id(self), id(parse_tree), id(node)
        result = known[place][0] if place in known else original(self, parse_tree, node, *args, **kwargs)
        if isinstance(result, str):
            known[place] = result, self, parse_tree, node
        on_resolved(result, node)
        return result

    Container.resolve_parse_tree = resolve_and_tell  # type: ignore[method-assign]
    omegaconf.base.parse = lru_cache(parse)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        omegaconf.base.parse = parse  # type: ignore[attr-defined]
        Container.resolve_parse_tree = original  # type: ignore[method-assign]


def apply_overrides(overrides: Sequence[Override], config: DictConfig) -> None:
    """Change a composed configuration as Hydra does after composing."""
    ConfigLoaderImpl._apply_overrides_to_config([*overrides], config)


def context_of(loader: ConfigLoader) -> HydraContext:
    """Return what a launcher or sweeper is made with, without callbacks."""
    return HydraContext(config_loader=loader, callbacks=Callbacks())


def is_basic_launcher(config: DictConfig) -> bool:
    """Tell whether a composed configuration chooses the launcher that Hydra has when none is chosen."""
    return str(config.hydra.launcher._target_) == f"{BasicLauncher.__module__}.{BasicLauncher.__qualname__}"


def is_basic_sweeper(config: DictConfig) -> bool:
    """Tell whether a composed configuration chooses the sweeper that Hydra has when none is chosen."""
    return str(config.hydra.sweeper._target_) == f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}"


def node_inside(node: Node | None, name: str) -> Node | None:
    """Return the node that a mapping has under a name, nothing resolved; None if it has none, or is not a mapping."""
    found = node._get_node(name) if isinstance(node, DictConfig) and not node._is_none() else None
    return found if isinstance(found, Node) else None


def key_of(node: Node) -> str:
    """Return the key of a node, with dots, from the top."""
    return node._get_full_key(None)


def value_in(node: Node) -> Any:
    """Return what a node holds, nothing resolved."""
    return node._value()
