"""Turning Hydra's refusals into messages that say what to type instead."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from transferpipe.cli.compose.folders import Loaded
from transferpipe.cli.compose.hydra_private import apply_overrides
from transferpipe.cli.compose.recipe_file import composed, find_default, find_unreadable, shown, yaml_problem
from transferpipe.cli.compose.resolving import find_cause
from transferpipe.cli.compose.shorthand import quote_text
from transferpipe.errors import Problem, RecipeError, TransferError, did_you_mean
from transferpipe.files.os_errors import cannot_be_read, refusal_of
from transferpipe.packages import missing_package
from transferpipe.recipe.keys import RECIPE, SECTIONS, find_keys
from transferpipe.recipe.model import UNMATCHED

GROUPS = ("recipe", "mapping", "score")
"""The groups of files from which a recipe is put together."""
SCORE, MAPPING = "score", "mapping"
COMMAND_LINE = "command line"
_PLUGINS = {
    "joblib": "hydra_joblib_launcher",
    "submitit_local": "hydra_submitit_launcher",
    "submitit_slurm": "hydra_submitit_launcher",
    "ray": "hydra_ray_launcher",
}


class Known(Protocol):
    """What messages look up: what there is to choose from, what was loaded, and what a composition knows."""

    loaded: Loaded

    def options(self, group: str) -> list[str]:
        """Return the files of a group."""

    def chosen(self, choices: Sequence[str]) -> DictConfig:
        """Return what choices of files compose, unchecked; it is not to be changed."""


_PAIRS = {"[": "]", "{": "}", "(": ")"}
_OPENING = re.compile(r"[\[{]|(?:range|choice|glob|sort|shuffle|interval)\(")
_CALL = re.compile(r"((?:\w+\.)+\w+)\(.*\)", re.DOTALL)
_ORIGINS = ("source", "target", "source.path", "target.path")
_REFUSED_KEY = re.compile(r"Could not (?:override|append|delete)[^']*'([^']+)'")
_MAPPING_OR_LIST = re.compile(r"\{.*:.*\}|\[.*,.*\]", re.DOTALL)


_MAPPINGS, _LISTS = ("named", "named origins", "section", "mapping"), ("texts", "words")
"""The kinds of keys of a recipe that are the one, and the other."""


def explain(error: Exception, overrides: Sequence[str], known: Known) -> TransferError:
    """Return the error that says which override or file is wrong and how to fix it."""
    ours, yaml_error = find_cause(error, TransferError), find_cause(error, yaml.MarkedYAMLError)
    if ours is not None:
        return ours
    if refusal := refusal_of(error):  # a recipe that cannot be read says nothing of what it holds
        return cannot_be_read(str(refusal.filename or "recipe"), refusal)
    if yaml_error is not None:
        mark = yaml_error.problem_mark or yaml_error.context_mark
        return RecipeError(yaml_problem(yaml_error, Path(mark.name if mark else "recipe")))
    if isinstance(error, OverrideParseException):
        return RecipeError([p for o in overrides if (p := _grammar_problem(o))] or [_plain(error)])
    # Hydra has no types for these: its texts are all that tells them apart (hydra-core 1.3).
    several = re.search(r"(?:Ambiguous value for argument|Sweep parameters) '([^'=]+)=([^']*)'", str(error))
    if several:
        return RecipeError(_several_values(several[1], several[2]))
    missing = re.search(r"Could not find '([^']+)'", str(error)) or re.search(r"load '([^']+)'", str(error))
    if missing:
        return _missing_config(missing[1], known)
    listed = re.search(r"Invalid defaults list in '(?:recipe/)?([^']+)', defaults must be a list", str(error))
    if listed:
        place = shown(known.loaded.files[-1]) if known.loaded.files else ""
        return RecipeError(Problem("defaults", "must be a list", "write defaults: [NAME]", place))
    again = re.search(r"Multiple values for ([\w/]+)\. To override|([\w/]+) appears more than once", str(error))
    if again:
        group = again[1] or again[2]
        place = find_default(known.loaded.files, group)
        fix = f"write it without the slash: defaults: [{group}: NAME]"
        return RecipeError(Problem("defaults", f"choose {group} as only the command line may", fix, place))
    if _REFUSED_KEY.search(str(error)):
        return RecipeError([*_refused_keys(str(error), overrides, known)])
    files = known.loaded.files
    return RecipeError(_other_kind(str(error), files) or find_unreadable(files) or _plain(error))


def _refused_keys(said: str, overrides: Sequence[str], known: Known) -> Iterator[Problem]:
    """Yield a problem for every key that cannot be changed, added or deleted: Hydra stops at the first."""
    try:  # the groups themselves may be wrong; then that is the first thing to fix
        config = known.chosen([o for o in overrides if o.partition("=")[0] in GROUPS])
    except Exception:
        config = None
    refusals = [said] if config is None else [said, *_refuse_each(overrides, config.copy())]
    keys = {match[1]: refusal for refusal in refusals if (match := _REFUSED_KEY.search(refusal))}
    for key, refusal in keys.items():
        problem = _unknown_key(key, refusal, overrides, [] if config is None else [*keys_of(config), *GROUPS])
        typed = any(o.lstrip("+~").partition("=")[0] == key for o in overrides)
        yield replace(problem, place=COMMAND_LINE) if typed else problem


def _refuse_each(overrides: Sequence[str], config: DictConfig) -> Iterator[str]:
    """Yield how Hydra refuses each override that sets a value, all others applied to `config`."""
    for override in OverridesParser.create().parse_overrides([*overrides]):
        key = override.key_or_group
        if override.is_sweep_override() or "/" in key or key in GROUPS or key.startswith("hydra"):
            continue
        try:
            apply_overrides([override], config)
        except HydraException as error:
            yield str(error)


def _other_kind(error: str, files: Sequence[Path]) -> Problem | None:
    """Return which key of the files holds a list, or a mapping, that cannot be merged with what they build on."""
    for path in reversed(files if "with ListConfig" in error else ()):
        node = composed(path)
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            row = SECTIONS[RECIPE].get(str(key.value))
            kind, place = row.kind if row else "", f"{shown(path)}, line {key.start_mark.line + 1}"
            if isinstance(value, yaml.SequenceNode) and kind in _MAPPINGS:
                return Problem(key.value, "must be a mapping, not a list", "give each entry a name", place)
            if isinstance(value, yaml.MappingNode) and kind in _LISTS:
                return Problem(key.value, "must be a list, not a mapping", f"write {key.value}: [A, B]", place)
    return None


def _plain(error: Exception) -> Problem:
    """Return the first error of the chain that says something, without the lines about OmegaConf's types."""
    here: BaseException | None = error
    while here is not None:
        lines = [line.strip() for line in str(here).splitlines() if line.strip()]
        key = next((line.removeprefix("full_key: ") for line in lines if line.startswith("full_key: ")), "")
        said = [line for line in lines if not line.startswith(("full_key:", "object_type", "reference_type"))]
        if said:
            return Problem(key or "recipe or override", " ".join(said[:3]))
        here = here.__cause__ or here.__context__
    return Problem("recipe or override", type(error).__name__)


def _grammar_problem(override: str) -> Problem | None:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException as error:
        key, equals, value = override.partition("=")
        if not equals or "://" in key:
            return Problem(override, "is not an override", "write KEY=VALUE, or ~KEY to delete")
        if (call := _CALL.fullmatch(value)) and key in _ORIGINS:
            return Problem(key, f"{value!r} is a call", f"write {_builder_words(key, call[1])}")
        if _OPENING.match(value) and (rest := _find_unclosed(value)):
            closed, what = f"{key}={value}{rest}", f"{value!r} has a bracket that is not closed"
            is_enough = _grammar_problem(closed) is None  # `range(` lacks more than that
            return Problem(key, what, f"close it, such as {shlex.quote(closed)}" if is_enough else "")
        # In quotes a mapping or a list would be read as a text; a template ({i+1}) and a pattern ([ab]c) are texts.
        quoted = None if _MAPPING_OR_LIST.fullmatch(value) else _quote(key, value)
        if quoted is None:
            return Problem(key, str(error).splitlines()[0], "write it into a file in ./recipes instead")
        return Problem(key, f"Hydra's grammar cannot read {value!r} unquoted", f"type {quoted}")
    return None


def _find_unclosed(value: str) -> str:
    """Return what closes the brackets that `value` opens and leaves open."""
    closing: list[str] = []
    for character in value:
        if character in _PAIRS:
            closing.append(_PAIRS[character])
        elif closing and character == closing[-1]:
            closing.pop()
    return "".join(reversed(closing))


def _builder_words(key: str, name: str) -> str:
    """Return the override that makes a builder of a source or the target."""
    return f"+{key}._target_={name}"


def _quote(key: str, value: str) -> str | None:
    """Return what to type in a shell so that Hydra reads exactly `value`, if there is a way."""
    quoted = quote_text(value)
    return shlex.quote(f"{key}={quoted}") if quoted else None


def _several_values(key: str, value: str) -> Problem:
    fix = f"use `sweep`, or for a list write {key}=[{value}], or for the text {_quote(key, value)}"
    return Problem(key, f"{value!r} is a sweep", fix)


def _missing_config(name: str, known: Known) -> RecipeError:
    group, _, option = name.rpartition("/")
    if not group:
        fix = f"name a recipe without a slash, defaults: [{name}, _self_]; choose rules and a score when you run it"
        return RecipeError(Problem("defaults", f"there is no file {name!r}", f"{fix}: mapping=NAME, score=NAME"))
    if group in ("hydra/launcher", "hydra/sweeper") and option in _PLUGINS:
        return missing_package(group, repr(option), f"hydra_plugins.{_PLUGINS[option]}")
    choices = known.options(group)
    if not choices:  # Hydra looks for what a recipe builds on beside the recipe
        group = group.removeprefix("recipe/")
        choices = known.options(group)
    place = find_default(known.loaded.files, group, option)
    if group == SCORE and option in choices:
        what = f"a recipe's defaults choose recipes and rules, and {option!r} is a score"
        return RecipeError(Problem("defaults", what, f"choose it on the command line: {group}={option}", place))
    if option in choices:
        return RecipeError(Problem(group, f"{name!r} is given with a folder", f"write {option}", place))
    if group == MAPPING and option in UNMATCHED:
        by_name = f"write unmatched={option}, for weights that no rule claims"
        return RecipeError(Problem(group, f"there is no {group} called {option!r}", by_name, place))
    hint = did_you_mean(option, choices) or (f"there are {', '.join(choices)}" if choices else "")
    if group == SCORE and "." in option:
        hint = f"for a function of your own, type {shlex.quote(f'{SCORE}={{_target_: {option}}}')}"
    if group == MAPPING and not did_you_mean(option, choices):
        hint = f"put rules into recipes/mapping/{option}.yaml; mapping=none is for no others than the recipe's"
    if not choices:
        hint = did_you_mean(group, GROUPS) or f"there are {', '.join(GROUPS)}"
    return RecipeError(Problem(group, f"there is no {group} called {option!r}", hint, place))


def _unknown_key(key: str, message: str, overrides: Sequence[str], known: list[str]) -> Problem:
    """Say which of the `known` keys is near, those of what is composed without the overrides that change values."""
    adding = next((o for o in overrides if o.lstrip("+~").partition("=")[0] == key), key).lstrip("+")
    if message.startswith("Could not append"):
        return Problem(key, "already set", f"to change it, write {adding}")
    if not known and key in GROUPS and not any(o.lstrip("+~").startswith(key) for o in overrides):
        what = f"overrides the choice of {key!r}, which a recipe cannot"
        return Problem("defaults", what, f"choose it on the command line: {key}=NAME")
    unwritten = unwritten_keys(known)
    if key in unwritten and not adding.startswith("~"):
        return Problem(key, "is not set in this recipe", f"to add it, write +{adding}")
    holder, _, last = key.rpartition(".")
    beside = [k for k in known if k.rpartition(".")[0] == holder]
    if last == "_target_" and key not in known and last in find_keys(tuple(holder.split("."))):
        built = " ".join([*(f"~{k}" for k in beside), f"+{adding}"])
        return Problem(key, "is not set in this recipe", f"to build it in place of what is there, write {built}")
    known += unwritten
    if key in known and not adding.startswith("~"):  # a whole mapping was given, with keys that are not there
        fix = f"mappings are merged: add single keys with +{key}.KEY=..., delete others with ~{key}.KEY"
        return Problem(key, "holds other keys in this recipe", fix)
    if holder in known or not holder:
        near = did_you_mean(last, [k.rpartition(".")[2] for k in beside], most=1)
    else:
        near = did_you_mean(key, known, most=1)
    if not near and holder and f"{holder}._target_" not in known:
        near = did_you_mean(last, list(find_keys(tuple(holder.split(".")))), most=1)
    if near or adding.startswith("~"):
        return Problem(key, "unknown key", near)
    top = f"the keys are {', '.join(sorted({k for k in known if '.' not in k}))}" if known else ""
    return Problem(key, "unknown key", f"to add it, write +{adding}" if holder else top)


def unwritten_keys(known: Sequence[str]) -> list[str]:
    """Return the keys that a recipe may have beside the `known` ones, which are those of a composed recipe."""
    found = []
    for holder in ("", *known):
        if f"{holder}._target_" in known:  # any other keys are arguments
            continue
        keys = find_keys(tuple(holder.split(".")) if holder else ())
        paths = [f"{holder}.{key.name}".lstrip(".") for key in keys.values() if not key.composed]
        found += [path for path in paths if path not in known and not path.endswith("._target_")]
    return found


def keys_of(config: DictConfig) -> list[str]:
    """Return the dotted keys of a composed configuration, outer ones first."""
    found = []

    def visit(node: object, prefix: str) -> None:
        if isinstance(node, dict):
            for name, inner in node.items():
                path = f"{prefix}.{name}" if prefix else str(name)
                found.append(path)
                visit(inner, path)

    visit(OmegaConf.to_container(config), "")
    return found
