"""The verb `inspect`: the catalog of a file, without TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from transferpipe.cli.terminal import is_terminal, width
from transferpipe.cli.verbs import Arguments
from transferpipe.errors import Problem, RecipeError
from transferpipe.fetch.open_path import open_path
from transferpipe.show.catalog_table import catalog_data, catalog_text, statistics

_OPTIONS = ("format", "select")


def inspect(arguments: Arguments) -> int:
    """Print the catalog of one file."""
    options = {key: value for key, _, value in (p.partition("=") for p in arguments.positional) if key in _OPTIONS}
    paths = [p for p in arguments.positional if p.partition("=")[0] not in _OPTIONS]
    if len(paths) != 1:
        fix = "transferpipe inspect PATH [format=NAME] [select=KEYS]"
        raise RecipeError(Problem("inspect", f"takes one path, not {len(paths)}", fix))
    source = open_path(paths[0], "inspect", options.get("format"), options.get("select"))
    others = source.others if "--all" in arguments.flags else ()
    stats: dict[str, dict[str, Any]] = {}
    if "--stats" in arguments.flags:
        stats = {w.name: statistics(source.read_entry(w)) for w in _all(source.catalog, others)}
    if "--json" in arguments.flags:
        print(json.dumps(catalog_data(source, others, stats), indent=1))
    else:
        print(catalog_text(source, others, stats, colour=is_terminal(), width=width()))
    return 0


def _all(*parts: Iterable[Any]) -> Iterable[Any]:
    return (item for part in parts for item in part)
