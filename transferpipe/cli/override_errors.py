"""Turning Hydra's refusals into messages that say what to type instead."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from transferpipe.errors import Problem, RecipeError, did_you_mean


def explain(error: Exception, overrides: Sequence[str]) -> RecipeError:
    """Return the error that says which override or file is wrong and how to mend it."""
    if isinstance(error, OverrideParseException):
        return RecipeError([p for o in overrides if (p := _grammar_problem(o))] or [_plain(error)])
    missing = re.search(r"Could not find '([^']+)'", str(error)) or re.search(r"load '([^']+)'", str(error))
    if missing:
        return RecipeError(_missing_config(missing[1]))
    key = re.search(r"Could not (?:override|append|delete)[^']*'([^']+)'", str(error))
    if key:
        return RecipeError(_unknown_key(key[1], str(error), overrides))
    return RecipeError(_plain(error))


def _plain(error: Exception) -> Problem:
    cause: BaseException = error
    while cause.__cause__ is not None and not isinstance(cause, HydraException):
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return Problem("recipe or override", " ".join(lines[:3]) or type(cause).__name__)


def _grammar_problem(override: str) -> Problem | None:
    parser = OverridesParser.create()
    try:
        parser.parse_override(override)
    except HydraException as error:
        key, equals, value = override.partition("=")
        if not equals:
            return Problem(override, "is not an override", "write KEY=VALUE, or ~KEY to delete")
        for quote in ('"', "'"):
            quoted = f"{key}={quote}{value}{quote}"
            try:
                parser.parse_override(quoted)
            except HydraException:
                continue
            outer = "'" if quote == '"' else '"'
            return Problem(key, f"Hydra's grammar cannot read {value!r} unquoted", f"type {outer}{quoted}{outer}")
        return Problem(key, str(error).splitlines()[0])
    return None


def _missing_config(name: str) -> Problem:
    group, _, option = name.rpartition("/")
    choices = GlobalHydra.instance().config_loader().get_group_options(group) if group else []
    hint = did_you_mean(option, choices) or (f"there are {', '.join(choices)}" if choices else "")
    return Problem(group or name, f"there is no {group} called {option!r}", hint)


def _unknown_key(key: str, message: str, overrides: Sequence[str]) -> Problem:
    """Say which known key is near, composing once more without the overrides that change values."""
    groups = [o for o in overrides if o.partition("=")[0] in ("recipe", "mapping")]
    try:
        known = _keys(compose("config", groups))
    except Exception:  # the groups themselves are wrong; then that is the first thing to mend
        known = []
    near = did_you_mean(key, known, most=1)
    adding = next((o for o in overrides if o.lstrip("+~").startswith(key)), key)
    mend = near or f"to add it, write +{adding}"
    if message.startswith("Could not append"):
        return Problem(key, "is there already", f"write {adding.lstrip('+')}")
    return Problem(key, "is no key of this recipe", mend)


def _keys(config: DictConfig) -> list[str]:
    found = []

    def visit(node: object, prefix: str) -> None:
        if isinstance(node, dict):
            for name, inner in node.items():
                path = f"{prefix}.{name}" if prefix else str(name)
                found.append(path)
                visit(inner, path)

    visit(OmegaConf.to_container(config), "")
    return found
