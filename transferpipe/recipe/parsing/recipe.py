"""From the plain data of a recipe to a checked `Recipe`, reporting all problems at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from transferpipe.codes import WARNINGS
from transferpipe.errors import Problems, RecipeError, did_you_mean
from transferpipe.recipe.model import (
    NOTHING,
    SINGLE,
    TRANSFERRED,
    UNMATCHED,
    UNNAMED,
    Build,
    Ignore,
    Origin,
    Recipe,
    Rule,
)
from transferpipe.recipe.parsing.edits import parse_edit
from transferpipe.recipe.parsing.fields import Fields, describe
from transferpipe.recipe.parsing.origins import OF_A_FILE, is_build, parse_build, parse_origin
from transferpipe.recipe.parsing.rules import compile_pattern, compile_patterns, parse_rule, split_source
from transferpipe.recipe.parsing.save import parse_save
from transferpipe.recipe.parsing.verify import parse_verify

_TARGET, _UNMATCHED = "target", "unmatched"
_ALIAS = re.compile(r"\w[\w.-]*")
_MOST_BITS = 8192  # Python writes no number of more than 4,300 digits
_LARGEST_SEED = 2**32 - 1  # what NumPy and Keras take

RuleCheck = Callable[[Rule, Problems], None]
"""A further check of one rule, such as that of its transforms, which another room knows how to read."""


def parse_recipe(data: Mapping[str, Any], check_rule: RuleCheck, *, absolute_save: bool = False) -> Recipe:
    """Return the checked recipe.

    Args:
        data: the recipe as plain mappings, lists, texts and numbers.
        check_rule: called with every rule that could be read.
        absolute_save: whether `save` may leave the run folder (only the command line may ask for that).

    Raises:
        RecipeError: with every problem found; no file was opened.
    """
    problems = Problems()
    _check_leaves(data, "", problems)
    problems.raise_as(RecipeError)  # nothing else can be said of such values: not even shown
    fields = Fields(data, "", problems)
    written = _read_sources(fields)
    aliases = tuple(written)
    freeze, target = fields.texts("freeze"), _parse_target(fields)
    recipe = Recipe(
        target=target,
        sources=_parse_sources(fields, written),
        rules=_parse_rules(fields, aliases, check_rule),
        unmatched=fields.choice("unmatched"),
        unused=fields.choice("unused"),
        ignore=_parse_ignore(fields, aliases),
        edits=tuple(e for k, v in fields.mapping("edit").items() if (e := parse_edit(str(k), v, problems))),
        freeze=compile_patterns([t for t in freeze if t not in (TRANSFERRED, NOTHING)], "freeze", problems),
        freeze_transferred=TRANSFERRED in freeze,
        save=parse_save(fields, absolute_save, target),
        verify=parse_verify(fields, aliases),
        score=_parse_score(fields),
        seed=_parse_seed(fields),
        name=fields.text("name") or UNNAMED,
        expect=fields.text("expect"),
        strict=fields.flag("strict"),
        allow=_parse_allow(fields),
        quantize=fields.choice("quantize"),
        optimizer=fields.choice("optimizer"),
        state=fields.choice("state"),
        reverse=fields.flag("reverse"),
    )
    _check_sources_are_there(recipe, problems)
    fields.finish()
    problems.raise_as(RecipeError)
    return recipe


def _check_leaves(value: Any, where: str, problems: Problems) -> None:
    """Note values that no file can be called and no number can be."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_leaves(inner, f"{where}.{key}".lstrip("."), problems)
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            _check_leaves(inner, f"{where}.{place}", problems)
    elif isinstance(value, str) and "\0" in value:
        problems.add(where, "the text has a zero byte in it", "take it out")
    elif isinstance(value, int) and value.bit_length() > _MOST_BITS:
        problems.add(where, f"the number has {value.bit_length():,} bits", "write smaller values")


def _read_sources(fields: Fields) -> dict[str, Any]:
    single, several = fields.raw("source"), fields.mapping("sources")
    if single is not None and several:
        fields.note("sources", "`source` and `sources` are both given", "keep one of them")
    if single is not None:
        return {SINGLE: single}
    for alias in several:
        if not _ALIAS.fullmatch(str(alias)) or alias == _TARGET:
            fields.note(f"sources.{alias}", f"{alias!r} cannot be a source's name", "use letters, digits and _ - .")
    return {str(alias): value for alias, value in several.items()}


def _parse_sources(fields: Fields, written: Mapping[str, Any]) -> dict[str, Origin]:
    where = "sources." if fields.raw(SINGLE) is None else ""
    parsed = {
        alias: parse_origin(value, f"{where}{alias}", fields.problems, "source") for alias, value in written.items()
    }
    return {alias: origin for alias, origin in parsed.items() if origin}


def _parse_seed(fields: Fields) -> int:
    seed = fields.integer("seed")
    if seed > _LARGEST_SEED:
        fields.note("seed", f"must be at most {_LARGEST_SEED}, not {seed}")
    return seed


def _parse_allow(fields: Fields) -> tuple[str, ...]:
    """Return the codes of warnings that may pass where warnings are errors."""
    codes = fields.texts("allow")
    for code in dict.fromkeys(codes):
        if code not in WARNINGS:
            hint = did_you_mean(code, WARNINGS) or "the codes are in `transferpipe help warnings`"
            fields.note("allow", f"{code!r} is not the code of a warning", hint)
    return codes


def _parse_target(fields: Fields) -> Origin | None:
    value = fields.raw(_TARGET)
    if value is None and fields.has(_TARGET) and not fields.is_null(_TARGET):
        return None  # left at ???, which is noted
    if value is None:
        fields.note("target", "a target is required", "give `_target_:` of a builder, or `path:` of a saved model")
        return None
    if fields.flag("reverse") and is_build(value) and value.get("path"):
        # Backwards, the weights come from a finished model of what the recipe builds.
        value = {key: value[key] for key in OF_A_FILE if key in value}
    return parse_origin(value, "target", fields.problems, "target")


def _parse_rules(fields: Fields, sources: tuple[str, ...], check: RuleCheck) -> tuple[Rule, ...]:
    if (word := fields.raw("mapping")) in UNMATCHED:  # the word for what no rule claims, in the place of rules
        what = f"must be a mapping, not {describe(word)}"
        fields.note("mapping", what, f"write `unmatched: {word}`, for weights that no rule claims")
        return ()
    rules: dict[str, Rule] = {}
    for name, value in fields.mapping("mapping").items():
        if value is None:  # an overlay switched the rule off
            continue
        if name == _UNMATCHED or str(name) in rules:
            what = "is reserved for the weights without a rule" if name == _UNMATCHED else "names two rules"
            fields.note(f"mapping.{name}", what, "choose another name")
        rule = parse_rule(str(name), value, sources, fields.problems)
        if rule:
            check(rule, fields.problems)
            rules[rule.name] = rule
    return tuple(rules.values())


def _parse_ignore(fields: Fields, sources: tuple[str, ...]) -> tuple[Ignore, ...]:
    found = []
    for i, text in enumerate(fields.texts("ignore")):
        alias, rest = split_source(text, sources)
        pattern = compile_pattern(rest, f"ignore.{i}", fields.problems)
        if pattern:
            found.append(Ignore(alias, pattern))
    return tuple(found)


def _parse_score(fields: Fields) -> Build | None:
    value = fields.raw("score")
    if value is None:
        return None
    if not is_build(value):
        named = f"write score: {{_target_: transferpipe.score.{value}}}" if isinstance(value, str) else ""
        fields.note("score", f"must name a callable with `_target_:`, not {describe(value)}", named)
        return None
    return parse_build(value, "score", fields.problems)


def _check_sources_are_there(recipe: Recipe, problems: Problems) -> None:
    needed = [r.where for r in recipe.rules if not r.keep] or (
        ["unmatched"] if recipe.unmatched.startswith("same_name") else []
    )
    if needed and not recipe.sources and not any(p.where.startswith("source") for p in problems.found):
        problems.add(
            "source", f"a source is required: {needed[0]} takes weights from one", "give `path:` or `_target_:`"
        )
