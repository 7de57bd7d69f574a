"""The verb `inspect`: the catalog of a file, without TensorFlow."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from transferpipe.cli.terminal import in_colour, width
from transferpipe.cli.verbs import Arguments
from transferpipe.fetch.open_path import open_path
from transferpipe.show.catalog_data import Stats, catalog_data
from transferpipe.show.catalog_table import Shown, catalog_text
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.spec import WeightSpec

_OPTIONS = ("format", "match", "select")


def inspect(arguments: Arguments) -> int:
    """Print the catalog of one file, or the part of it that is asked for."""
    options = {key: value for key, _, value in (p.partition("=") for p in arguments.positional) if key in _OPTIONS}
    paths = [p for p in arguments.positional if p.partition("=")[0] not in _OPTIONS]
    (path,) = dataclasses.replace(arguments, positional=tuple(paths)).take_words(1, "one path")
    source = open_path(path, "inspect", options.get("format"), options.get("select"))
    others, of = source.others if "--all" in arguments.flags else (), None
    if "match" in options:
        from transferpipe.planning.matching import select_weights

        of = len(source.catalog)
        source, others = select_weights(source, others, options["match"])
    stats = _statistics(source, (*source.catalog, *others)) if "--stats" in arguments.flags else {}
    if "--json" in arguments.flags:
        print(json.dumps(catalog_data(source, others, stats), indent=1))
    else:
        shown = Shown(source, others, stats, of)
        print(catalog_text(shown, tree="--tree" in arguments.flags, colour=in_colour(), width=width()))
    return 0


def _statistics(source: FileSource, weights: Sequence[WeightSpec]) -> Stats:
    """Return what the numbers of `weights` are like; each is read once, in small parts."""
    from transferpipe.values.statistics import Summarizer
    from transferpipe.values.stored import Stored

    summarizer = Summarizer()

    def stored(spec: WeightSpec) -> Stored:
        return Stored(spec.shape, spec.dtype, lambda: source.read_entry(spec), source.locate_entry(spec))

    return {spec.name: summarizer.summarize(stored(spec)) for spec in weights}
