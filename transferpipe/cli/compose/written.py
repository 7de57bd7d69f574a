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
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode

from transferpipe.cli.compose.composing import Composer
from transferpipe.cli.compose.errors import COMMAND_LINE, GROUPS
from transferpipe.cli.compose.folders import UserFolder
from transferpipe.cli.compose.recipe_file import LOADER, composed, shown
from transferpipe.errors import FileError, Problem, RecipeError, TransferError, UnsafeError

_KEY = re.compile(r"[A-Za-z_]\w*(\..+)?")  # a weight's name has slashes, and a message's place may have spaces
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
    files: list[tuple[str, yaml.Node, Path]] | None = None
    for problem in problems:
        if problem.place:
            yield problem
            continue
        files = [*_files(composer, overrides)] if files is None else files
        where = problem.where.partition(", ")[0]  # of several rules, the first
        # What is no key may begin as one does: the name of a weight, of a file; then only the whole of it counts.
        exact = [p for file in files if (p := _in_file(problem.where, *file)) and p.length == len(problem.where)]
        begun = [p for file in files if (p := _in_file(where, *file))] if _KEY.fullmatch(where) else []
        places = exact or begun
        places += [p for override in overrides if (p := _in_override(where, override))]
        if not places:
            lines = (
                f"{shown(path)}, line {line + 1}"
                for _, node, path in reversed(files)
                for line in _naming(node, problem.where)
            )
            yield replace(problem, place=next(lines, ""))  # of files, the last that names it
            continue
        longest = max((p.length for p in places), default=0)
        last = [p for p in places if p.length == longest][-1:]
        yield replace(problem, place=last[0].text) if last else problem


def _files(composer: Composer, overrides: Sequence[str]) -> Iterator[tuple[str, yaml.Node, Path]]:
    """Yield what every file is put under, what it holds, and its path, in the order in which they are merged."""
    loader = composer.loader
    try:
        with composer.reading():
            parts = loader.compute_defaults_list(_PRIMARY, composer.words(overrides), RunMode.RUN).defaults
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
            yield (part.package or "").removeprefix("_global_").lstrip("."), node, path


def _path_in(source: Any, config_path: str) -> Path | None:
    if isinstance(source, UserFolder):
        return source.path_of(config_path)
    return Path(source.path, f"{config_path}.yaml") if source is not None and source.scheme() == "file" else None


def _naming(node: yaml.Node, text: str) -> Iterator[int]:
    """Yield the lines in which a text stands as a value."""
    if isinstance(node, yaml.ScalarNode):
        # A message names a path as Python writes it, without the dots and slashes that mean nothing.
        if text in (node.value, str(Path(node.value).expanduser())):
            yield node.start_mark.line
        return
    for inner in node.value:
        yield from _naming(inner[1] if isinstance(inner, tuple) else inner, text)


def _in_file(where: str, package: str, node: yaml.Node, path: Path) -> _WrittenPlace | None:
    if where == package and not (where == "" and _find(node, where)):  # what is wrong is about all of the file
        return _WrittenPlace(len(where), shown(path))
    rest = where if not package else where.removeprefix(f"{package}.")
    if package and rest == where:
        return None
    found = _find(node, rest)
    if found is None:
        return None
    length, line = found
    return _WrittenPlace(len(where) - len(rest) + length, f"{shown(path)}, line {line + 1}")


def _find(node: yaml.Node, rest: str) -> tuple[int, int] | None:
    """Return how many characters of the dotted key `rest` are written in a node, and in which line the last of them."""
    if isinstance(node, yaml.MappingNode):
        inner = [(name, key, value) for key, value in node.value for name in _names_of(key)]
    elif isinstance(node, yaml.SequenceNode):
        inner = [(str(i), value, value) for i, value in enumerate(node.value)]
    else:
        return None
    found: list[tuple[int, int]] = []
    for name, key, value in inner:
        if rest == name or rest.startswith(f"{name}."):
            found.append((len(name), key.start_mark.line))
            if below := _find(value, rest[len(name) + 1 :]):
                found.append((len(name) + 1 + below[0], below[1]))
        elif name == "<<" and (merged := _find(value, rest)):
            found.append(merged)
    return max(found, default=None)


def _names_of(key: yaml.Node) -> set[str]:
    """Return how a key is spelled, and what a message calls it that names what YAML makes of it: `yes` is True."""
    names = {str(key.value)}
    for read in (lambda: LOADER("").construct_object(key, deep=True), lambda: float(key.value)):  # 1e5 is OmegaConf's
        with suppress(yaml.YAMLError, ValueError, TypeError):
            names.add(str(read()))
    return names


def _in_override(where: str, override: str) -> _WrittenPlace | None:
    try:
        parsed = OverridesParser.create().parse_override(override)
        value = parsed.value() if not parsed.is_delete() and not parsed.is_sweep_override() else None
    except (HydraException, ValueError):  # Python reads no integer of thousands of digits
        return None
    key = parsed.key_or_group
    if key in GROUPS and isinstance(value, str):
        return None
    if not (where == key or where.startswith(f"{key}.")):  # what adds a key writes what stands above it, too
        common = [a for a, b in zip(key.split("."), where.split("."), strict=False) if a == b]
        above = ".".join(common)
        is_above = parsed.is_add() and len(common) > 1 and where.startswith(above) and key.startswith(f"{above}.")
        return _WrittenPlace(len(above), COMMAND_LINE) if is_above else None
    return _WrittenPlace(len(key) + _written_in(value, where[len(key) + 1 :]), COMMAND_LINE)


def _written_in(value: Any, rest: str) -> int:
    """Return how many characters of the dotted key `rest`, and of the dot before it, a value writes."""
    inner = value if isinstance(value, Mapping) else dict(enumerate(value)) if isinstance(value, list) else {}
    names = [(str(k), v) for k, v in inner.items()]
    return max(
        (1 + len(k) + _written_in(v, rest[len(k) + 1 :]) for k, v in names if rest == k or rest.startswith(f"{k}.")),
        default=0,
    )
