"""The verb `inspect`: the catalog of a file, without TensorFlow."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from transferpipe.cli.terminal import in_colour, width
from transferpipe.cli.verbs import Arguments
from transferpipe.errors import Problem, RecipeError, did_you_mean
from transferpipe.fetch.open_path import open_path
from transferpipe.show.catalog_table import catalog_text
from transferpipe.show.inspection import inspect_source

_OPTIONS = ("format", "match", "select")


def inspect(arguments: Arguments) -> int:
    """Print the catalog of one file, or the part of it that is asked for."""
    options = {key: value for key, _, value in (p.partition("=") for p in arguments.positional) if key in _OPTIONS}
    paths = [p for p in arguments.positional if p.partition("=")[0] not in _OPTIONS]
    for word in paths:
        key, equals, _ = word.partition("=")
        if equals and key.isidentifier() and not Path(word).exists():
            hint = did_you_mean(key, _OPTIONS)
            raise RecipeError(Problem(key, f"inspect reads {', '.join(f'{k}=' for k in _OPTIONS)} and no {key}=", hint))
    (path,) = dataclasses.replace(arguments, positional=tuple(paths)).take_words(1, "one path")
    source = open_path(path, "inspect", options.get("format"), options.get("select"))
    found = inspect_source(source, options.get("match"), "--stats" in arguments.flags, "--all" in arguments.flags)
    if "--json" in arguments.flags:
        print(json.dumps(found.to_data(), indent=1))
    else:
        print(catalog_text(found.shown, tree="--tree" in arguments.flags, colour=in_colour(), width=width()))
    return 0
