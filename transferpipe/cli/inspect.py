"""The verb `inspect`: the catalog of a file, without TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from transferpipe.cli.arguments import Arguments
from transferpipe.cli.terminal import is_terminal, width
from transferpipe.errors import Problem, RecipeError
from transferpipe.recipe.locate import locate
from transferpipe.show.catalog_table import catalog_data, catalog_text, statistics
from transferpipe.weights.formats import open_source


def inspect(arguments: Arguments) -> int:
    """Print the catalog of one file."""
    paths = [p for p in arguments.positional if not p.startswith("format=")]
    formats = [p.removeprefix("format=") for p in arguments.positional if p.startswith("format=")]
    if len(paths) != 1:
        raise RecipeError(
            Problem("inspect", f"takes one path, not {len(paths)}", "transferpipe inspect PATH [format=NAME]")
        )
    source = open_source(locate(paths[0], "inspect"), formats[-1] if formats else None)
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
