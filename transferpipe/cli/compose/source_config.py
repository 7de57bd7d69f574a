"""``${source.config.KEY}``: what the ``config.json`` beside the weights of a source says, as a recipe may use it.

Models of Hugging Face lie in folders with their weights and a configuration, which has the sizes that the builder of
the target needs (https://huggingface.co/docs/transformers/main_classes/configuration). It is data: no text in it is an
interpolation, and what it fills in is checked as if the recipe had it. Under `requires` a recipe says for which
configurations it is: weights of one architecture have the names and shapes of another that computes something else.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from transferpipe.cli.compose.observed import note_other
from transferpipe.errors import Problem, RecipeError, did_you_mean
from transferpipe.execute.required_config import CONFIG, REQUIRES, find_others, read_beside
from transferpipe.text.listing import listed

_USED = re.compile(r"\b(source|sources\.[\w-]+)\.config\b")
_NOT_FOUND = re.compile(r"Interpolation key '(source|sources\.[\w-]+)\.config\.([^']+)' not found")
_LISTED = 12


def with_source_config(job: DictConfig) -> tuple[DictConfig, tuple[str, ...]]:
    """Return a recipe with the configurations that it uses under its sources, and the keys of these sources.

    Raises:
        FileError: there is no such file beside a source.
        RecipeError: a source that is used so has no path, or the recipe is for others than its configuration.
    """
    plain = OmegaConf.to_container(job, resolve=False)
    used = dict.fromkeys(key for text in _texts(plain) for key in _USED.findall(text))
    used |= dict.fromkeys(key for key, source in _sources(plain) if REQUIRES in source)
    places = tuple(key for key in used if _is_open(OmegaConf.select(job, key)))
    if not places:
        return job, ()
    note_other(f"the {CONFIG} of a source")
    job = copy.deepcopy(job)
    for key in places:
        path = OmegaConf.select(job, f"{key}.path", throw_on_missing=False)
        if not isinstance(path, str):
            what = f"{key}.config is the {CONFIG} beside a source's file, but {key} has no path"
            raise RecipeError(Problem(f"{key}.path", what, f"set {key}.path to a folder with weights and a {CONFIG}"))
        config = read_beside(path, f"{key}.path")
        with open_dict(job):
            required = OmegaConf.select(job, f"{key}.{REQUIRES}")
            OmegaConf.update(job, f"{key}.config", _plain(config), force_add=True)
        if problems := [*find_others(_as_data(required), config, f"{key}.{REQUIRES}", key)]:
            raise RecipeError(problems)
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
    what = f"the {CONFIG} beside {found[1]}.path has no {found[2]!r}"
    near = did_you_mean(found[2], keys, most=1) or f"its keys are {listed(keys, _LISTED)}"
    return Problem(f"{found[1]}.config.{found[2]}", what, near)


def _sources(recipe: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the sources of a recipe, and the keys at which they stand."""
    named = recipe.get("sources") if isinstance(recipe, dict) else None
    found = {"source": recipe.get("source")} if isinstance(recipe, dict) else {}
    found |= {f"sources.{name}": source for name, source in named.items()} if isinstance(named, dict) else {}
    yield from ((key, source) for key, source in found.items() if isinstance(source, dict))


def _as_data(required: Any) -> Any:
    return OmegaConf.to_container(required, resolve=True) if OmegaConf.is_config(required) else required


def _is_open(source: Any) -> bool:
    """Tell whether a configuration may be put under a source, which a builder's own argument of that name forbids."""
    return source is None or (isinstance(source, DictConfig) and "config" not in source and "_target_" not in source)


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
