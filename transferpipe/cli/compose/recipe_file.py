"""Looking at a recipe's file before objects are made of it: does it parse, and is it only as large as it looks?"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from omegaconf.errors import GrammarParseError
from omegaconf.grammar_parser import parse as parse_interpolations

from transferpipe.errors import Problem, RecipeError, UnsafeError
from transferpipe.files.os_errors import cannot_be_read

# A recipe of a thousand rules stays below these. A few hundred bytes of aliases can stand for billions of values.
_MOST_BYTES = 1 << 20
_MOST_NODES = 20_000
_MOST_LEVELS = 32
# Words and signs of texts with interpolations, of which ${vars.a} has six: the parser takes a tenth of a millisecond
# for each, and calls itself for every bracket.
_MOST_TOKENS, _MOST_BRACKETS = 10_000, 32
_TOKEN, _BRACKETS = re.compile(r"\w+|[^\w\s]"), {**dict.fromkeys("{[(", 1), **dict.fromkeys("}])", -1)}
# Python writes no number of more than 4,300 digits; no setting has so many, nor has a float.
_MOST_DIGITS = 400
_NUMBER = re.compile(r"[-+]?(?:0[xob])?[\da-fA-F_:.]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
# A key of Hydra's, a choice of its files, or a place below it, as in `hydra`, `override /hydra/launcher`, `base@hydra`.
_HYDRA = re.compile(r"(?:.*[@/ ])?(?:_global_\.)?hydra(?:[./@].*)?", re.DOTALL)
_TAGS = {"!", *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq"))}
_COUNTER = getattr(yaml, "CSafeLoader", None)  # twenty times as fast, where libyaml is installed
_OPENED = re.compile(r"flow (mapping|sequence)")
LOADER = yaml.SafeLoader  # the parser that OmegaConf uses: the faster one differs in what it accepts


@dataclass
class _Node:
    """A mapping or list with everything in it, aliases counted for what they stand for."""

    anchor: str | None
    nodes: int = 1
    levels: int = 0


@dataclass(frozen=True)
class Checked:
    """A file that was found to hold a recipe.

    Attributes:
        text: its content.
        events: what the parser made of that, which takes longer than all that is made of them.
        may_touch_hydra: whether anything in it could name a key of Hydra's own, or choose another file that does.
    """

    text: str
    events: Sequence[yaml.Event]
    may_touch_hydra: bool


def check_recipe_file(path: Path) -> Checked:
    """Refuse a file that holds no recipe. Nothing is built of it here; the size is counted on the parser's events.

    Raises:
        FileError: it cannot be read.
        RecipeError: it is not a YAML mapping; names the line.
        UnsafeError: it is too large, or its aliases make it so.
    """
    text = _read(path)
    # A value takes two characters at least; the slow parser would take seconds for what is refused in the end.
    if len(text) > 2 * _MOST_NODES and _has_too_many(text):
        raise UnsafeError(_too_many(path))
    try:
        seen: list[yaml.Event] = []
        _check_events(_note_events(yaml.parse(text, Loader=LOADER), seen), path)
    except yaml.YAMLError as error:
        raise RecipeError(yaml_problem(error, path)) from error
    words = [str(event.value) for event in seen if isinstance(event, yaml.ScalarEvent)]
    if sum(len(_TOKEN.findall(word)) for word in words if "${" in word) > _MOST_TOKENS:
        what = f"has interpolations of more than {_MOST_TOKENS:,} words and signs"
        raise UnsafeError(Problem(shown(path), what, "write the values out"))
    return Checked(text, seen, "defaults" in words or any("hydra" in word for word in words))


def _has_too_many(text: str) -> bool:
    """Tell whether a long text plainly has too many values. Whatever else is wrong with it, the slower parser says."""
    levels = count = 0
    try:
        for event in yaml.parse(text, Loader=_COUNTER) if _COUNTER else ():
            count += isinstance(event, yaml.NodeEvent)
            levels += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if count > _MOST_NODES or levels > _MOST_LEVELS:
                return levels <= _MOST_LEVELS
    except (yaml.YAMLError, ValueError):
        pass
    return False


def _note_events(events: Iterator[yaml.Event], seen: list[yaml.Event]) -> Iterator[yaml.Event]:
    for event in events:
        seen.append(event)
        yield event


def yaml_problem(error: yaml.YAMLError, path: Path) -> Problem:
    """Return what is wrong with the YAML of `path`, and in which line."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    what = getattr(error, "problem", None) or str(error)
    where = f"{shown(path)}, line {mark.line + 1}" if mark else shown(path)
    start, opened = getattr(error, "context_mark", None), _OPENED.search(str(getattr(error, "context", None)))
    if "duplicate key" in what:
        return Problem(where, what, "keep one of the two")
    if r"'\t'" in what:
        return Problem(where, what, "indent with spaces, not with tabs")
    if opened and start:
        bracket = "{" if opened[1] == "mapping" else "["
        return Problem(where, what, f"close the {bracket} of line {start.line + 1}, or quote strings that contain one")
    return Problem(where, what, "fix the YAML: quote strings that contain special characters")


def shown(path: Path) -> str:
    """Return `path` as the user would write it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def composed(path: Path) -> yaml.Node | None:
    """Return the nodes of a file that was found to be YAML, to look for a place in it."""
    text = _read(path)
    if _COUNTER is not None:
        with contextlib.suppress(yaml.YAMLError):  # it is much faster, and takes a little less
            return yaml.compose(text, Loader=_COUNTER)
    return yaml.compose(text, Loader=LOADER)


def find_default(paths: Sequence[Path], group: str, option: str | None = None) -> str:
    """Return the file and the line where one of `paths` builds on `option` of a group; nothing where none does.

    Without an option, on any of the group.
    """
    for path in paths:
        node = composed(path)
        top = {key.value: value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}
        listed = top.get("defaults")
        for item in listed.value if isinstance(listed, yaml.SequenceNode) else ():
            for key, value in item.value if isinstance(item, yaml.MappingNode) else ():
                said = str(key.value).split(" ")[-1].partition("@")[0].strip("/")
                if said == group and option in (None, value.value):
                    return f"{shown(path)}, line {key.start_mark.line + 1}"
            if item.value == option and group == "recipe":
                return f"{shown(path)}, line {item.start_mark.line + 1}"
    return ""


def find_unreadable(paths: Sequence[Path]) -> Problem | None:
    """Return the last key or value that a parser refuses of what `paths` hold; None where they refuse none.

    YAML's constructors and OmegaConf's grammar say what they miss in a text, and not in which line that stands.
    """
    for path in reversed(paths):
        node = composed(path)
        reader = LOADER("")
        for inner in _scalars(node) if node else ():
            if problem := _refusal(*inner, path, reader):
                return problem
    return None


def _scalars(node: yaml.Node, is_key: bool = False) -> Iterator[tuple[yaml.Node, bool]]:
    """Yield keys and values, and for each whether it is a key."""
    # A text may have the tag of a list or a mapping.
    if is_key or isinstance(node.value, str):
        yield node, is_key
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _scalars(key, is_key=True)
            yield from _scalars(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _scalars(value)


def _refusal(node: yaml.Node, is_key: bool, path: Path, reader: yaml.SafeLoader) -> Problem | None:
    """Return what is wrong with a key or a value, and what to write; None if nothing is."""
    where = f"{shown(path)}, line {node.start_mark.line + 1}"
    try:
        value = reader.construct_object(node, deep=True)
    except (yaml.YAMLError, ValueError, KeyError, IndexError, TypeError):
        what = f"{str(node.value)[:40]!r} cannot be read as the YAML type {node.tag.rpartition(':')[2]}"
        return Problem(where, what, "write a text in quotes, without a tag")
    if is_key and value is None:
        return Problem(where, "a key is empty, or null", "give it a name")
    try:
        if not is_key and isinstance(value, str) and "${" in value:
            parse_interpolations(value)
    except GrammarParseError as error:
        what = f"{value[:80]!r} has an interpolation that cannot be read: {str(error).splitlines()[0]}"
        return Problem(where, what, r"write ${KEY} with a key of this recipe, or \${ for these very characters")
    return None


def find_hydra(paths: Sequence[Path]) -> str:
    """Return the file and the line of the first key, choice or header that names Hydra's own part; nothing without."""
    for path in paths:
        text = _read(path)
        for event in yaml.parse(text, Loader=LOADER):
            if isinstance(event, yaml.ScalarEvent) and event.start_mark and _HYDRA.fullmatch(event.value):
                return f"{shown(path)}, line {event.start_mark.line + 1}"
        for number, line in enumerate(text.split("\n"), 1):
            if line.startswith("# @package") and "hydra" in line:
                return f"{shown(path)}, line {number}"
    return ""


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise cannot_be_read(shown(path), error) from error
    if len(data) > _MOST_BYTES:
        raise UnsafeError(Problem(shown(path), f"has {len(data):,} bytes; a recipe has at most {_MOST_BYTES:,}"))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        what = f"is not UTF-8 text: byte 0x{data[error.start]:02x}"
        raise RecipeError(Problem(f"{shown(path)}, line {line}", what, "save it as UTF-8")) from error


def _check_events(events: Iterator[yaml.Event], path: Path) -> None:
    known: dict[str, _Node] = {}
    open_nodes = [_Node(None)]
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent) and open_nodes[0].nodes > 1:
            raise RecipeError(Problem(shown(path), "holds several documents", "keep one; `---` separates them"))
        if isinstance(event, yaml.CollectionStartEvent):
            if len(open_nodes) == 1 and not isinstance(event, yaml.MappingStartEvent):
                raise RecipeError(_no_mapping(path, "a list"))
            _check_tag(event, path)
            open_nodes.append(_Node(event.anchor))
            _check_levels(len(open_nodes) - 1, path)
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            done = open_nodes.pop()
        elif isinstance(event, yaml.AliasEvent):
            done = _meaning(event, known, open_nodes, path)
        elif isinstance(event, yaml.ScalarEvent):
            done = _Node(event.anchor)
            _check_tag(event, path)
            _check_scalar(event, path)
            if len(open_nodes) == 1 and event.value:
                raise RecipeError(_no_mapping(path, f"the text {event.value[:40]!r}"))
        else:
            continue
        if done.anchor:
            known[done.anchor] = done
        _add(open_nodes[-1], done, path)


def _check_tag(event: yaml.CollectionStartEvent | yaml.ScalarEvent, path: Path) -> None:
    """Refuse what is to become an object, bytes or a set: a recipe has texts, numbers, lists and mappings."""
    if event.tag is not None and event.tag not in _TAGS:
        what = f"the tag {event.tag[:80]} makes an object of a value"
        raise RecipeError(Problem(_line_of(event, path), what, "take it out"))


def _check_scalar(event: yaml.ScalarEvent, path: Path) -> None:
    if "\0" in event.value:
        raise RecipeError(Problem(_line_of(event, path), "a text has a zero byte in it", "take it out"))
    if _SURROGATE.search(event.value):
        raise RecipeError(Problem(_line_of(event, path), "a text has a lone surrogate of UTF-16 in it", "take it out"))
    if "${" in event.value and _brackets(event.value) > _MOST_BRACKETS:
        what = f"an interpolation is nested more than {_MOST_BRACKETS} levels deep"
        raise UnsafeError(Problem(_line_of(event, path), what, "write the value out"))
    if event.implicit[0] and len(event.value) > _MOST_DIGITS and _NUMBER.fullmatch(event.value):
        what = f"a number has {len(event.value):,} digits"
        raise RecipeError(Problem(_line_of(event, path), what, "write smaller values"))


def _line_of(event: yaml.Event, path: Path) -> str:
    # Asked where something is wrong alone: to find the working directory for every value takes as long as to parse it.
    return f"{shown(path)}, line {event.start_mark.line + 1 if event.start_mark else 1}"


def _brackets(text: str) -> int:
    """Return how deep the brackets of a text are nested."""
    return max(itertools.accumulate(map(_BRACKETS.__getitem__, filter(_BRACKETS.__contains__, text))), default=0)


def _meaning(event: yaml.AliasEvent, known: dict[str, _Node], open_nodes: list[_Node], path: Path) -> _Node:
    anchor = str(event.anchor)
    if any(node.anchor == anchor for node in open_nodes):
        raise UnsafeError(Problem(shown(path), f"*{anchor} refers to itself", "write the values out"))
    meant = known.get(anchor, _Node(None))
    return _Node(None, meant.nodes, meant.levels)


def _add(node: _Node, inner: _Node, path: Path) -> None:
    node.nodes += inner.nodes
    node.levels = max(node.levels, inner.levels + 1)
    _check_levels(node.levels, path)
    if node.nodes > _MOST_NODES:
        raise UnsafeError(_too_many(path))


def _too_many(path: Path) -> Problem:
    what = f"unfolds to more than {_MOST_NODES:,} values"
    return Problem(shown(path), what, "write patterns, which match many names")


def _check_levels(levels: int, path: Path) -> None:
    if levels > _MOST_LEVELS:
        raise UnsafeError(Problem(shown(path), f"is nested more than {_MOST_LEVELS} levels deep", "write it flatter"))


def _no_mapping(path: Path, found: str) -> Problem:
    return Problem(shown(path), f"holds {found}, not a mapping", "a recipe has keys: source, target, mapping, ...")
