"""The verb `suggest`: a proposed mapping between two files or builders, as YAML for review."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from transferpipe.cli.commands.transfer import check_name
from transferpipe.cli.compose.composing import Composer
from transferpipe.cli.terminal import width
from transferpipe.cli.verbs import Arguments
from transferpipe.errors import Problem, Problems, RecipeError, did_you_mean
from transferpipe.execute.propose import SIDES, propose
from transferpipe.files.publishing.atomic import new_folders, write_text
from transferpipe.planning.suggest.suggestion import Suggestion
from transferpipe.planning.suggest.text import recipe_lines, suggestion_text
from transferpipe.recipe.calls import is_call, read_side

_KEYS = (*SIDES, "hints", "recipe")
_WIDTH = 80  # what is read, pasted and compared goes no wider on a wide terminal or in a pipe
_HEADER = "# @package _global_"


def suggest(arguments: Arguments) -> int:
    """Print a proposed mapping, and write it as a recipe where that is asked for."""
    data = _read_words(arguments)
    path = arguments.value("--write")
    if path is not None:
        _check_free(Path(path))
    as_json = "--json" in arguments.flags
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():  # a builder may print
        found = propose({side: data[side] for side in SIDES}, data["hints"], arguments.values.get("--trust", ()))
    print(json.dumps(suggestion_data(found), indent=1) if as_json else suggestion_text(found, min(width(), _WIDTH)))
    if path is not None:
        _write(found, Path(path))
    return 0


def _read_words(arguments: Arguments) -> dict[str, Any]:
    """Return what the words say of source, target and hints.

    Raises:
        RecipeError: a word is no KEY=VALUE of one of the keys, or a side is missing.
    """
    problems = Problems()
    given: dict[str, Any] = {}
    plain: list[str] = []
    for word in arguments.positional:
        if (is_call(word) or "=" not in word) and len(plain) < len(SIDES):
            plain.append(word)
            continue
        key, equals, text = word.partition("=")
        first, _, inner = key.partition(".")
        if not equals or first not in _KEYS or (first == "recipe" and inner):
            near = did_you_mean(first, _KEYS) if equals else ""
            problems.add(word, f"suggest reads {', '.join(f'{k}=' for k in _KEYS)}", near)
            continue
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text  # a path with a character that YAML knows
        _put(given, first, inner, value)
    given |= {side: read_side(word, side) for side, word in zip(SIDES, plain, strict=False)}
    if "recipe" in given:
        composer, words = Composer.of([f"recipe={given.pop('recipe')}"], arguments.value("--config-dir"))
        composed = composer.compose(words)
        given = {**{side: composed.data[side] for side in SIDES if composed.data.get(side)}, **given}
    for side in SIDES:
        if isinstance(given.get(side), str | int | float):
            given[side] = {"path": str(given[side])}
        if not isinstance(given.get(side), Mapping):
            problems.add(
                side, "is missing: name a file or a builder", f"{side}=PATH, or {side}._target_=PACKAGE.FUNCTION"
            )
    hints = given.setdefault("hints", {})
    if not isinstance(hints, Mapping):
        problems.add("hints", f"is {hints!r}, not pairs", "hints={TARGET: SOURCE}")
    problems.raise_as(RecipeError)
    return given


def _put(given: dict[str, Any], first: str, inner: str, value: Any) -> None:
    if not inner:
        given[first] = (
            {**given[first], **value} if isinstance(given.get(first), dict) and isinstance(value, dict) else value
        )
        return
    there = given.get(first)
    place = given[first] = dict(there) if isinstance(there, Mapping) else {"path": there} if there else {}
    parts = [inner] if first == "hints" else inner.split(".")  # names of layers may have dots
    for part in parts[:-1]:
        place = place.setdefault(part, {})
    place[parts[-1]] = value


def suggestion_data(found: Suggestion) -> dict[str, Any]:
    """Return a suggestion as data for programs."""
    return {
        "format_version": 1,
        "recipe": found.recipe,
        "rules": {
            r.name: {"weights": len(r.weights), "evidence": r.evidence, "doubts": list(r.doubts)} for r in found.rules
        },
        "undecided": [
            {"target": c.target, "candidates": list(c.candidates), "reason": c.reason} for c in found.undecided
        ],
        "unused": list(found.unused),
        "checksum": found.plan.checksum,
    }


def _check_free(path: Path) -> None:
    """Refuse to write over a file, and names that no recipe can have, before any work is done."""
    given = path
    check_name(path.stem)
    if path.exists():
        raise RecipeError(Problem("--write", f"{path} exists, and nothing is overwritten", "choose another name"))
    if path.suffix != ".yaml":
        path = path.with_suffix(".yaml") if path.suffix == ".yml" else path.with_name(f"{path.name}.yaml")
        raise RecipeError(Problem("--write", f"{given} does not end with .yaml", f"--write {path}"))


def _write(found: Suggestion, path: Path) -> None:
    command = f"# transferpipe run recipe={path.stem}  <- proposed by `transferpipe suggest`; look at every rule"
    with new_folders(path.parent):
        # Once more: proposing takes a while.
        _check_free(path)
        write_text(path, "\n".join([_HEADER, command, *recipe_lines(found), ""]))
    print(f"wrote    {path}; `transferpipe plan recipe={path.stem}` shows what it does", file=sys.stderr)
