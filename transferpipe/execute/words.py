"""What words of the command line name where no recipe does: files stay paths, calls of builders become models."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from transferpipe.errors import Problems, RecipeError
from transferpipe.execute.open_recipe import open_origin
from transferpipe.models.building.build import check_names
from transferpipe.models.source import ModelSource
from transferpipe.models.target import ModelTarget
from transferpipe.recipe.calls import read_side
from transferpipe.recipe.parsing.origins import is_build, parse_origin

_SEED = 0


def open_words(words: Mapping[str, str], trusted: Collection[str] = ()) -> list[str | ModelTarget]:
    """Return a built model for each call of a builder, and every other word as it is: a path.

    Args:
        words: by what messages call them, such as A and B.
        trusted: packages the command line vouched for.

    Raises:
        RecipeError: a word is meant as a call and is none, or a builder raises.
        UnsafeError: a builder may not be named.
    """
    problems = Problems()
    sides = {where: read_side(word, where) for where, word in words.items()}
    origins = {where: parse_origin(side, where, problems) for where, side in sides.items() if is_build(side)}
    problems.raise_as(RecipeError)
    # Names are checked for all before any is built: that may take minutes.
    check_names([o.build for o in origins.values() if o and o.build], trusted)
    opened: list[str | ModelTarget] = []
    for where, word in words.items():
        origin = origins.get(where)
        source = open_origin(origin, where, _SEED, trusted) if origin else None
        opened.append(source.model if isinstance(source, ModelSource) else word)
    return opened
