"""The verb `diff`: two files or builders, weight by weight, by name or through the rules of a recipe."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transferpipe.cli.terminal import width
from transferpipe.cli.verbs import VERBS, Arguments
from transferpipe.errors import Problem, RecipeError
from transferpipe.progress import Progress
from transferpipe.recipe.calls import is_call, read_side
from transferpipe.recipe.model import Recipe

_OVERRIDE = re.compile(r"[+~]*[\w./@-]+=.*", re.DOTALL)


def diff(arguments: Arguments) -> int:
    """Compare A with B and print how they differ; return 0 where they are equal, and 1 where they are not."""
    overrides = [w for w in arguments.positional if _OVERRIDE.fullmatch(w) and not is_call(w) and not Path(w).exists()]
    words = [w for w in arguments.positional if w not in overrides]
    if len(words) != 2:
        verb = VERBS[arguments.verb]
        what = f"takes two files or builders, A and B, not {len(words)}"
        raise RecipeError(Problem(verb.name, what, f"transferpipe {verb.name} {verb.usage}"))
    composed: Mapping[str, Any] = {}
    if overrides:
        composed = _compose_recipe(overrides, arguments.value("--config-dir"))
    recipe = _recipe(words, composed)
    from transferpipe.differences.compare import compare
    from transferpipe.differences.table import diff_text

    as_json = "--json" in arguments.flags
    with contextlib.redirect_stdout(sys.stderr), _progress() as on_progress:  # a builder may print
        found = compare(recipe, arguments.values.get("--trust", ()), on_progress=on_progress)
    if as_json:
        print(found.to_json())
    else:
        print(diff_text(found, width(), every="--all" in arguments.flags))
    return 0 if found.equal else 1


@contextlib.contextmanager
def _progress() -> Iterator[Progress | None]:
    """Yield a bar for a person who waits; whoever else compares needs no line about it."""
    if not sys.stderr.isatty():
        yield None
        return
    from transferpipe.cli.terminal import progress

    with progress() as shown:
        yield shown


def _compose_recipe(overrides: list[str], config_dir: str | None) -> Mapping[str, Any]:
    """Return the recipe that the overrides select and change; without ``recipe=`` one that says nothing."""
    from transferpipe.cli.compose.composing import Composer

    chosen = any(o.startswith("recipe=") for o in overrides)
    composer, words = Composer.of(overrides, config_dir)
    return composer.compose(words if chosen else ["~recipe", "name=diff", *words]).data


def _recipe(words: list[str], composed: Mapping[str, Any]) -> Recipe:
    from transferpipe.planning.reading.read_recipe import read_comparison

    sides = [read_side(word, letter) for letter, word in zip("AB", words, strict=True)]
    return read_comparison(sides[0], sides[1], composed)
