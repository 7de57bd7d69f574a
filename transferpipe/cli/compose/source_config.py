"""``${source.config.KEY}``: what the ``config.json`` beside the weights of a source says, as a recipe may use it.

Models of Hugging Face lie in folders with their weights and a configuration, which has the sizes that the builder of
the target needs (https://huggingface.co/docs/transformers/main_classes/configuration). It is data: no text in it is an
interpolation, and what it fills in is checked as if the recipe had it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from transferpipe.cli.compose.observed import note_other
from transferpipe.errors import FileError, Problem, RecipeError, did_you_mean
from transferpipe.fetch.address import scheme_of
from transferpipe.fetch.find import find
from transferpipe.files.json_text import read_mapping
from transferpipe.recipe.locate import expand_home
from transferpipe.text.listing import listed

_USED = re.compile(r"\b(source|sources\.[\w-]+)\.config\b")
_NOT_FOUND = re.compile(r"Interpolation key '(source|sources\.[\w-]+)\.config\.([^']+)' not found")
_NAME, _MOST = "config.json", 1 << 20  # as the reader of these configurations
_LISTED = 12


def with_source_config(job: DictConfig) -> tuple[DictConfig, tuple[str, ...]]:
    """Return a recipe with the configurations that it uses under its sources, and the keys of these sources.

    Raises:
        FileError: there is no such file beside a source.
        RecipeError: a source that is used so has no path.
    """
    used = dict.fromkeys(
        key for text in _texts(OmegaConf.to_container(job, resolve=False)) for key in _USED.findall(text)
    )
    places = tuple(key for key in used if _is_open(OmegaConf.select(job, key)))
    if not places:
        return job, ()
    note_other(f"the {_NAME} of a source")
    job = copy.deepcopy(job)
    for key in places:
        path = OmegaConf.select(job, f"{key}.path", throw_on_missing=False)
        if not isinstance(path, str):
            what = f"{key}.config is the {_NAME} beside a source's file, but {key} has no path"
            raise RecipeError(Problem(f"{key}.path", what, f"set {key}.path to a folder with weights and a {_NAME}"))
        with open_dict(job):
            OmegaConf.update(job, f"{key}.config", _plain(_read(path, f"{key}.path")), force_add=True)
    return job, places


def without_source_config(data: dict[str, Any], places: tuple[str, ...]) -> None:
    """Take the configurations out of a resolved recipe again."""
    for key in places:
        here: Any = data
        for part in key.split("."):
            here = here[part]
        here.pop("config", None)


def explain_missing(text: str, job: DictConfig) -> Problem | None:
    """Return what is wrong if an interpolation names a key that a configuration does not have."""
    found = _NOT_FOUND.search(text)
    if found is None or OmegaConf.select(job, f"{found[1]}.config") is None:
        return None
    keys = [str(key) for key in OmegaConf.select(job, f"{found[1]}.config")]
    what = f"the {_NAME} beside {found[1]}.path has no {found[2]!r}"
    near = did_you_mean(found[2], keys, most=1) or f"its keys are {listed(keys, _LISTED)}"
    return Problem(f"{found[1]}.config.{found[2]}", what, near)


def _is_open(source: Any) -> bool:
    """Tell whether a configuration may be put under a source, which a builder's own argument of that name forbids."""
    return source is None or (isinstance(source, DictConfig) and "config" not in source and "_target_" not in source)


def _read(path: str, where: str) -> Mapping[str, Any]:
    if scheme_of(path) is None:
        here = expand_home(path, where)
        config = (here if here.is_dir() else here.parent) / _NAME
        if not config.is_file():
            fix = f"{where}: name a folder that has one, or write the values into the recipe"
            raise FileError(Problem(str(config), "there is no such file, and the recipe uses it", fix))
    else:
        config = find(f"{path.rstrip('/').rpartition('/')[0]}/{_NAME}", where).path
    return read_mapping(config, _MOST)


def _plain(value: Any) -> Any:
    """Return data of a file without texts that OmegaConf would read as interpolations."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value.replace("${", "$ {") if isinstance(value, str) else value


def _texts(data: Any) -> Iterator[str]:
    waiting = [data]
    while waiting:
        here = waiting.pop()
        if isinstance(here, str):
            if "config" in here:
                yield here
        else:
            waiting.extend(here.values() if isinstance(here, dict) else here if isinstance(here, list) else ())
