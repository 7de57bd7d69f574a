"""Where a key of a recipe was written: in which line of which file, or on the command line.

Hydra puts a recipe together from files, each with what it builds on, and from overrides; what comes last wins. A
problem names a key of the result. What is looked for is the last place that writes that key, or as much of the way to
it as anything writes, for a key that is missing is written nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from transferpipe.cli.compose.composing import Composer
from transferpipe.cli.compose.errors import COMMAND_LINE, GROUPS
from transferpipe.cli.compose.folders import UserFolder
from transferpipe.cli.compose.recipe_file import LOADER, composed, shown
from transferpipe.errors import FileError, Problem, RecipeError, TransferError, UnsafeError

_KEY = re.compile(r"[A-Za-z_]\w*(\..+)?")  # a weight's name has slashes, and a message's place may have spaces
_MERGED = "<<"
_PRIMARY = "config"  # which holds defaults, so that nothing in it is wrong


@dataclass(frozen=True)
class _WrittenPlace:
    """A place that writes a key, or the beginning of the way to it.

    Attributes:
        length: how many characters of the key it writes.
        text: the place as a message names it.
    """

    length: int
    text: str


@contextmanager
def located(composer: Composer, overrides: Sequence[str]) -> Iterator[None]:
    """Let the problems of a recipe that is read inside say where the keys that they name were written."""
    try:
        yield
    except (RecipeError, FileError, UnsafeError) as error:
        raise type(error)([*locate_problems(composer, error.problems, overrides)]) from error


def locate_problems(composer: Composer, problems: Sequence[Problem], overrides: Sequence[str]) -> Iterator[Problem]:
    """Yield the problems, those of a recipe's keys, and of the files that it names, with their place."""
    files: list[_WrittenFile] | None = None
    changes: list[_Change] = []
    for problem in problems:
        if problem.place:
            yield problem
            continue
        if files is None:
            files, changes = [*_files(composer, overrides)], [*_changes(overrides)]
        where = problem.where.partition(", ")[0]  # of several rules, the first
        # What is no key may begin as one does: the name of a weight, of a file; then only the whole of it counts.
        found = [p for file in files if (p := file.find(problem.where))]
        exact = [p for p in found if p.length == len(problem.where)]
        if where != problem.where:
            found = [p for file in files if (p := file.find(where))]
        begun = found if _KEY.fullmatch(where) else []
        places = exact or begun
        places += [p for change in changes if (p := change.find(where))]
        if not places:
            lines = (
                f"{file.name}, line {line + 1}"
                for file in reversed(files)
                if (line := file.line_of(problem.where)) is not None
            )
            yield replace(problem, place=next(lines, ""))  # of files, the last that names it
            continue
        longest = max((p.length for p in places), default=0)
        last = [p for p in places if p.length == longest][-1:]
        yield replace(problem, place=last[0].text) if last else problem


class _WrittenFile:
    """One of the files that a recipe is made of: looked through once, however many problems its keys have.

    Attributes:
        package: the key under which it is put; empty at the top.
        name: where it lies, as a message names it.
    """

    def __init__(self, package: str, node: yaml.Node, path: Path) -> None:
        self.package, self.name = package, shown(path)
        self._node, self._reader = node, LOADER("")
        self._inner: dict[int, dict[str, list[tuple[yaml.Node, yaml.Node]]]] = {}  # of nodes, which the file keeps

    def find(self, where: str) -> _WrittenPlace | None:
        """Return where as much of a key as it writes is written; None if it writes nothing of it."""
        # What is wrong is about all of the file.
        if where == self.package and not (where == "" and self._find(self._node, where)):
            return _WrittenPlace(len(where), self.name)
        rest = where if not self.package else where.removeprefix(f"{self.package}.")
        if self.package and rest == where:
            return None
        found = self._find(self._node, rest)
        if found is None:
            return None
        length, line = found
        return _WrittenPlace(len(where) - len(rest) + length, f"{self.name}, line {line + 1}")

    def line_of(self, text: str) -> int | None:
        """Return the first line in which a text stands as a value, or None."""
        return self._lines.get(text)

    @cached_property
    def _lines(self) -> dict[str, int]:
        lines: dict[str, int] = {}
        for node in _values(self._node):
            lines.setdefault(node.value, node.start_mark.line)
            # A message names a path as Python writes it, without the dots and slashes that mean nothing.
            with suppress(RuntimeError):  # the home of nobody
                lines.setdefault(str(Path(node.value).expanduser()), node.start_mark.line)
        return lines

    def _find(self, node: yaml.Node, rest: str) -> tuple[int, int] | None:
        """Return how many characters of the dotted key `rest` a node writes, and in which line the last of them."""
        inner = self._inner_of(node)
        found: list[tuple[int, int]] = []
        for name in _beginnings(rest):
            for key, value in inner.get(name, ()):
                found.append((len(name), key.start_mark.line))
                if below := self._find(value, rest[len(name) + 1 :]):
                    found.append((len(name) + 1 + below[0], below[1]))
        for _, value in inner.get(_MERGED, ()):
            if merged := self._find(value, rest):
                found.append(merged)
        return max(found, default=None)

    def _inner_of(self, node: yaml.Node) -> dict[str, list[tuple[yaml.Node, yaml.Node]]]:
        """Return keys and values of a mapping or list by the names of the keys."""
        known = self._inner.get(id(node))
        if known is None:
            known = self._inner[id(node)] = {}
            if isinstance(node, yaml.MappingNode):
                for key, value in node.value:
                    for name in self._names_of(key):
                        known.setdefault(name, []).append((key, value))
            elif isinstance(node, yaml.SequenceNode):
                known.update({str(i): [(value, value)] for i, value in enumerate(node.value)})
        return known

    def _names_of(self, key: yaml.Node) -> set[str]:
        """Return how a key is spelled, and what a message calls it that names what YAML makes of it: `yes` is True."""
        names = {str(key.value)}
        # 1e5 is OmegaConf's
        for read in (lambda: self._reader.construct_object(key, deep=True), lambda: float(key.value)):
            with suppress(yaml.YAMLError, ValueError, TypeError):
                names.add(str(read()))
        return names


def _beginnings(key: str) -> Iterator[str]:
    """Yield a key with dots, and what stands before each of its dots."""
    yield key
    yield from (key[: dot.start()] for dot in re.finditer(r"\.", key))


def _values(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    """Yield the texts that stand as values, from the top."""
    if isinstance(node, yaml.ScalarNode):
        yield node
        return
    for inner in node.value:
        yield from _values(inner[1] if isinstance(inner, tuple) else inner)


def _files(composer: Composer, overrides: Sequence[str]) -> Iterator[_WrittenFile]:
    """Yield the files in the order in which they are merged."""
    loader = composer.loader
    try:
        parts = composer.parts(overrides)
    except Exception:  # what keeps the recipe from being composed is a problem of its own
        return
    for part in parts:
        if part.config_path is None or part.config_path == _PRIMARY or part.config_path.startswith("hydra"):
            continue
        source = next((s for s in loader.get_sources() if s.is_config(part.config_path)), None)
        path = _path_in(source, part.config_path)
        try:
            node = composed(path) if path else None
        except (TransferError, yaml.YAMLError):
            continue
        if path and node is not None:
            yield _WrittenFile((part.package or "").removeprefix("_global_").lstrip("."), node, path)


def _path_in(source: Any, config_path: str) -> Path | None:
    if isinstance(source, UserFolder):
        return source.path_of(config_path)
    return Path(source.path, f"{config_path}.yaml") if source is not None and source.scheme() == "file" else None


@dataclass(frozen=True)
class _Change:
    """An override that sets, adds or deletes a key.

    Attributes:
        key: the key.
        value: what it sets; None where it sets nothing.
        is_added: whether the key, and what stands above it, need not be there.
    """

    key: str
    value: Any
    is_added: bool

    def find(self, where: str) -> _WrittenPlace | None:
        """Return how much of a key it writes; None if nothing."""
        if not (where == self.key or where.startswith(f"{self.key}.")):  # what adds a key writes what stands above it
            common = [a for a, b in zip(self.key.split("."), where.split("."), strict=False) if a == b]
            above = ".".join(common)
            begins = where.startswith(above) and self.key.startswith(f"{above}.")
            is_above = self.is_added and len(common) > 1 and begins
            return _WrittenPlace(len(above), COMMAND_LINE) if is_above else None
        written = _count_written(self.value, where[len(self.key) + 1 :])
        return _WrittenPlace(len(self.key) + written, COMMAND_LINE)


def _changes(overrides: Sequence[str]) -> Iterator[_Change]:
    """Yield what overrides change, apart from those that choose a file."""
    for override in overrides:
        try:
            parsed = OverridesParser.create().parse_override(override)
            value = parsed.value() if not parsed.is_delete() and not parsed.is_sweep_override() else None
        except (HydraException, ValueError):  # Python reads no integer of thousands of digits
            continue
        key = parsed.key_or_group
        if not (key in GROUPS and isinstance(value, str)):
            yield _Change(key, value, parsed.is_add())


def _count_written(value: Any, rest: str) -> int:
    """Return how many characters of the dotted key `rest`, and of the dot before it, a value writes."""
    inner = value if isinstance(value, Mapping) else dict(enumerate(value)) if isinstance(value, list) else {}
    names = [(str(k), v) for k, v in inner.items()]
    return max(
        (1 + len(k) + _count_written(v, rest[len(k) + 1 :]) for k, v in names if rest == k or rest.startswith(f"{k}.")),
        default=0,
    )
