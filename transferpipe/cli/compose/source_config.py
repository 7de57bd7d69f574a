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
_REQUIRES = "requires"


def with_source_config(job: DictConfig) -> tuple[DictConfig, tuple[str, ...]]:
    """Return a recipe with the configurations that it uses under its sources, and the keys of these sources.

    Raises:
        FileError: there is no such file beside a source.
        RecipeError: a source that is used so has no path, or the recipe is for others than its configuration.
    """
    plain = OmegaConf.to_container(job, resolve=False)
    used = dict.fromkeys(key for text in _texts(plain) for key in _USED.findall(text))
    used |= dict.fromkeys(key for key, source in _sources(plain) if _REQUIRES in source)
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
        config = _read(path, f"{key}.path")
        with open_dict(job):
            required = OmegaConf.select(job, key).pop(_REQUIRES, None)
            OmegaConf.update(job, f"{key}.config", _plain(config), force_add=True)
        if problems := [*_find_others(_as_data(required), config, f"{key}.{_REQUIRES}", key)]:
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
    what = f"the {_NAME} beside {found[1]}.path has no {found[2]!r}"
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


def _find_others(required: Any, config: Any, where: str, key: str) -> Iterator[Problem]:
    """Yield what a configuration says otherwise than a recipe requires; what it leaves out, or null, is its default.

    Args:
        required: by the keys of the configuration, which may be nested as there, a value or a list of values.
        config: the configuration.
        where: the key of the recipe at which `required` stands.
        key: that of the source.
    """
    if not isinstance(required, dict):
        if required is not None:
            yield Problem(where, f"must be a mapping, not {required!r}", f"name keys of the {_NAME}")
        return
    for name, allowed in required.items():
        found = config.get(name) if isinstance(config, Mapping) else None
        if isinstance(allowed, dict):
            yield from _find_others(allowed, found, f"{where}.{name}", key)
        elif found is not None and found not in (values := allowed if isinstance(allowed, list) else [allowed]):
            inside = f"{where}.{name}".removeprefix(f"{key}.{_REQUIRES}.")
            meant = listed([repr(value) for value in values], _LISTED)
            what = f"the {_NAME} beside {key}.path has {inside} {found!r}, and the recipe is for {meant}"
            fix = f"take a recipe for such models; if this one gives what you want all the same, ~{where}.{name}"
            yield Problem(f"{where}.{name}", what, fix)


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
