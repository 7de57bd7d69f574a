"""The verb `schema`: the JSON Schemas of recipes and records."""

from __future__ import annotations

import json

from transferpipe.cli.verbs import Arguments
from transferpipe.errors import Problem, RecipeError, did_you_mean
from transferpipe.show.schemas import SCHEMAS, read_schema


def print_schema(arguments: Arguments) -> int:
    """Print one JSON Schema: that of a recipe where no kind is named."""
    kind = arguments.take_words(1, "one kind of file")[0] if arguments.positional else "recipe"
    if kind not in SCHEMAS:
        hint = did_you_mean(kind, SCHEMAS) or f"there are {', '.join(SCHEMAS)}"
        raise RecipeError(Problem("schema", f"there is no schema {kind!r}", hint))
    print(json.dumps(read_schema(kind), indent=1))
    return 0
