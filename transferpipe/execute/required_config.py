"""``config.json`` beside the weights of a source, and what a recipe requires of it.

Models of Hugging Face lie in folders with their weights and a configuration
(https://huggingface.co/docs/transformers/main_classes/configuration). Weights of one architecture have the names and
shapes of another that computes something else, so a recipe says under `requires` for which configurations it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from transferpipe.errors import FileError, Problem, RecipeError
from transferpipe.fetch.address import scheme_of
from transferpipe.fetch.find import find
from transferpipe.files.json_text import read_mapping
from transferpipe.recipe.locate import expand_home
from transferpipe.text.listing import listed

CONFIG = "config.json"
REQUIRES = "requires"
_MOST = 1 << 20  # as the reader of these configurations
_LISTED = 12


def check_required(path: str, required: Any, key: str) -> None:
    """Refuse a source whose configuration says otherwise than is required.

    Args:
        path: the source's.
        required: by the keys of the configuration, which may be nested as there, a value or a list of values.
        key: that of the source.

    Raises:
        FileError: there is no such file beside it.
        RecipeError: the recipe is for others.
    """
    if required and (problems := [*find_others(required, read_beside(path, f"{key}.path"), f"{key}.{REQUIRES}", key)]):
        raise RecipeError(problems)


def read_beside(path: str, where: str) -> Mapping[str, Any]:
    """Return the configuration beside a source's file, or in its folder.

    Args:
        path: the source's, or its address.
        where: the key of the recipe at which that stands.

    Raises:
        FileError: there is none.
    """
    if scheme_of(path) is None:
        here = expand_home(path, where)
        config = (here if here.is_dir() else here.parent) / CONFIG
        if not config.is_file():
            fix = f"{where}: name a folder that has one, or write the values into the recipe"
            raise FileError(Problem(str(config), "there is no such file, and the recipe uses it", fix))
    else:
        config = find(f"{path.rstrip('/').rpartition('/')[0]}/{CONFIG}", where).path
    return read_mapping(config, _MOST)


def find_others(required: Any, config: Any, where: str, key: str) -> Iterator[Problem]:
    """Yield what a configuration says otherwise than a recipe requires; what it leaves out, or null, is its default.

    Args:
        required: by the keys of the configuration, which may be nested as there, a value or a list of values.
        config: the configuration.
        where: the key of the recipe at which `required` stands.
        key: that of the source.
    """
    if not isinstance(required, dict):
        if required is not None:
            yield Problem(where, f"must be a mapping, not {required!r}", f"name keys of the {CONFIG}")
        return
    for name, allowed in required.items():
        found = config.get(name) if isinstance(config, Mapping) else None
        if isinstance(allowed, dict):
            yield from find_others(allowed, found, f"{where}.{name}", key)
        elif found is not None and found not in (values := allowed if isinstance(allowed, list) else [allowed]):
            inside = f"{where}.{name}".removeprefix(f"{key}.{REQUIRES}.")
            meant = listed([repr(value) for value in values], _LISTED)
            what = f"the {CONFIG} beside {key}.path has {inside} {found!r}, and the recipe is for {meant}"
            fix = f"take a recipe for such models; if this one gives what you want all the same, ~{where}.{name}"
            yield Problem(f"{where}.{name}", what, fix)
