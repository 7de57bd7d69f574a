"""The verb `init`: two files or builders become a commented recipe in ./recipes."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from transferpipe.cli.commands.suggest import suggestion_data
from transferpipe.cli.compose.composing import Composer
from transferpipe.cli.compose.folders import user_folder
from transferpipe.cli.verbs import VERBS, Arguments
from transferpipe.errors import Problem, RecipeError
from transferpipe.execute.prepare import prepare
from transferpipe.execute.propose import SIDES, propose
from transferpipe.files.publishing.atomic import new_folders, write_text
from transferpipe.planning.plan import Plan
from transferpipe.planning.reading.read_recipe import read_recipe
from transferpipe.planning.suggest.first_recipe import first_recipe
from transferpipe.recipe.calls import read_side
from transferpipe.text.collapse import counted
from transferpipe.text.visible import visible

_NAME = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)
_NOT_NAMES = frozenset({"null", "none", "true", "false", "yes", "no", "on", "off", "nan", "inf"})


def init(arguments: Arguments) -> int:
    """Write a recipe that is proposed for A and B, and print the commands that come next."""
    words, hints = _split_hints(arguments)
    origins = {side: read_side(word, letter) for side, letter, word in zip(SIDES, "AB", words, strict=False)}
    name = words[2] if len(words) > len(SIDES) else _name_of(origins["target"])
    path = user_folder() / f"{name}.yaml"
    _check_name(name, path)
    trusted = arguments.values.get("--trust", ())
    trust = "".join(f" --trust {shlex.quote(package)}" for package in trusted)
    commands = (f"transferpipe plan recipe={name}{trust}", f"transferpipe run recipe={name}{trust}")
    with contextlib.redirect_stdout(sys.stderr):  # a builder may print
        found = propose(origins, hints, trusted)
        text = first_recipe(found, commands)
        # Read as a command would read it, before it is written: what is left in ./recipes works.
        plan = _plan(text, name, trusted)
    with new_folders(path.parent):
        write_text(path, text, replace=False)
    shown = path.relative_to(Path.cwd())
    if "--json" in arguments.flags:
        data = {**suggestion_data(found), "checksum": plan.checksum, "path": str(shown), "commands": list(commands)}
        print(json.dumps(data, indent=1))
        return 0
    taken, total = len(plan.assignments), len(plan.assignments) + len(plan.kept)
    print(f"wrote    {shown}  ({taken:,} of {total:,} target weights come from the source)")
    if found.undecided:
        print(visible(f"decide   {len(found.undecided):,} undecided; the recipe lists the candidates"))
    print(f"next     {commands[0]}\n         {commands[1]}")
    return 0


def _split_hints(arguments: Arguments) -> tuple[list[str], dict[str, Any]]:
    """Return A, B and the name if there is one, and the hints."""
    words: list[str] = []
    hints: dict[str, Any] = {}
    for word in arguments.positional:
        key, equals, text = word.partition("=")
        if not equals or (key != "hints" and not key.startswith("hints.")):
            words.append(word)
            continue
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        found = value if key == "hints" else {key.removeprefix("hints."): value}
        if not isinstance(found, Mapping):
            raise RecipeError(Problem("hints", f"is {found!r}, not pairs", "hints={TARGET: SOURCE}"))
        hints.update(found)
    if not len(SIDES) <= len(words) <= len(SIDES) + 1:
        verb = VERBS[arguments.verb]
        what = f"takes two files or builders, and a name if you like, not {counted(len(words), 'word')}"
        raise RecipeError(Problem(verb.name, what, f"transferpipe {verb.name} {verb.usage}"))
    return words, hints


def _name_of(target: Mapping[str, Any]) -> str:
    """Return a name after the target's file, or its builder."""
    text = str(target["path"]).rstrip("/").rpartition("/")[2] if "path" in target else str(target["_target_"])
    stem = text.partition(".")[0] if "path" in target else text.rpartition(".")[2]
    name = re.sub(r"[^\w-]+", "_", stem, flags=re.ASCII).strip("_-")
    return name if _NAME.fullmatch(name) and name.lower() not in _NOT_NAMES else f"to_{name}".rstrip("_")


def _check_name(name: str, path: Path) -> None:
    """Refuse what cannot be chosen with recipe=, and what stands there already."""
    if not _NAME.fullmatch(name) or name.lower() in _NOT_NAMES:
        what = f"{name!r} cannot be used as a recipe's name: letters, digits, `_` and `-`, a letter first"
        raise RecipeError(Problem("NAME", what, "transferpipe init A B my_recipe"))
    for taken in (path, path.parent / "recipe" / path.name):
        if taken.exists():
            what = f"{taken.relative_to(Path.cwd())} exists, and nothing is overwritten"
            raise RecipeError(Problem("NAME", what, f"transferpipe init A B {name}_2"))


def _plan(text: str, name: str, trusted: tuple[str, ...]) -> Plan:
    """Return the plan of the recipe as a command would read it, from a folder in which nothing of it is left."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        composer, words = Composer.of([f"recipe={path}"])
        return prepare(read_recipe(composer.compose(words).data), trusted).plan
