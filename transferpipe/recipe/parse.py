"""From the plain data of a recipe to a checked `Recipe`, reporting all problems at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from transferpipe.errors import Problems, RecipeError
from transferpipe.recipe.fields import Fields, describe
from transferpipe.recipe.model import SINGLE, UNMATCHED, Build, Ignore, Origin, Recipe, Rule, Save, Verify
from transferpipe.recipe.parse_origin import is_build, parse_build, parse_origin
from transferpipe.recipe.parse_rules import compile_pattern, compile_patterns, parse_edit, parse_rule, split_source
from transferpipe.recipe.patterns import Pattern

SAVE_SUFFIXES = (".keras", ".weights.h5", ".safetensors", ".npz")
TRANSFERRED, NOTHING = "transferred", "none"

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
    fields = Fields(data, "", problems)
    sources = _parse_sources(fields)
    recipe = Recipe(
        target=_parse_target(fields),
        sources=sources,
        rules=_parse_rules(fields, tuple(sources), check_rule),
        unmatched=fields.choice("unmatched", UNMATCHED, "error"),
        unused=fields.choice("unused", ("report", "error"), "report"),
        ignore=_parse_ignore(fields, tuple(sources)),
        edits=tuple(e for k, v in fields.mapping("edit").items() if (e := parse_edit(k, v, problems))),
        freeze=_parse_freeze(fields),
        freeze_transferred=TRANSFERRED in fields.texts("freeze"),
        save=_parse_save(fields, absolute_save),
        verify=_parse_verify(fields),
        score=_parse_score(fields),
        seed=fields.integer("seed", 0),
        name=fields.text("name") or "recipe",
        expect=fields.text("expect"),
    )
    _check_sources_are_there(recipe, problems)
    fields.finish()
    problems.raise_as(RecipeError)
    return recipe


def _parse_sources(fields: Fields) -> dict[str, Origin]:
    single, several = fields.raw("source"), fields.mapping("sources")
    if single is not None and several:
        fields.note("sources", "`source` and `sources` are both given", "keep one of them")
    written = {SINGLE: single} if single is not None else dict(several)
    where = "" if single is not None else "sources."
    parsed = {alias: parse_origin(value, f"{where}{alias}", fields.problems) for alias, value in written.items()}
    return {alias: origin for alias, origin in parsed.items() if origin}


def _parse_target(fields: Fields) -> Origin | None:
    value = fields.raw("target")
    if value is None:
        fields.note("target", "a target is required", "give `_target_:` of a builder, or `path:` of a saved model")
        return None
    return parse_origin(value, "target", fields.problems)


def _parse_rules(fields: Fields, sources: tuple[str, ...], check: RuleCheck) -> tuple[Rule, ...]:
    rules = []
    for name, value in fields.mapping("mapping").items():
        if value is None:  # an overlay switched the rule off
            continue
        rule = parse_rule(str(name), value, sources, fields.problems)
        if rule:
            check(rule, fields.problems)
            rules.append(rule)
    return tuple(rules)


def _parse_ignore(fields: Fields, sources: tuple[str, ...]) -> tuple[Ignore, ...]:
    found = []
    for i, text in enumerate(fields.texts("ignore")):
        alias, rest = split_source(text, sources)
        pattern = compile_pattern(rest, f"ignore.{i}", fields.problems)
        if pattern:
            found.append(Ignore(alias, pattern))
    return tuple(found)


def _parse_freeze(fields: Fields) -> tuple[Pattern, ...]:
    texts = [t for t in fields.texts("freeze") if t not in (TRANSFERRED, NOTHING)]
    return compile_patterns(texts, "freeze", fields.problems)


def _parse_save(fields: Fields, absolute: bool) -> Save:
    value = fields.raw("save")
    if isinstance(value, str):
        value = {"path": value}
    if value is not None and not isinstance(value, Mapping):
        fields.note("save", f"must be a path or a mapping, not {describe(value)}")
    inner = Fields(value if isinstance(value, Mapping) else {}, "save", fields.problems)
    save = Save(inner.text("path", Save.path) or Save.path, inner.texts("also"), inner.flag("overwrite"))
    for path in (save.path, *save.also):
        _check_save_path(path, inner, absolute)
    if len({save.path, *save.also}) < 1 + len(save.also):
        inner.note("also", f"names the same file twice: {', '.join((save.path, *save.also))}")
    inner.finish()
    return save


def _check_save_path(path: str, inner: Fields, absolute: bool) -> None:
    key = "path" if path == inner.raw("path", Save.path) else "also"
    if not path.endswith(SAVE_SUFFIXES):
        inner.note(key, f"{path!r} has none of the suffixes {', '.join(SAVE_SUFFIXES)}, which choose the format")
    if PurePath(path).is_absolute() and not absolute:
        inner.note(
            key,
            f"{path!r} is absolute; a recipe writes inside its run folder",
            f"say it on the command line: save.{key}=...",
        )
    if ".." in PurePath(path).parts:
        inner.note(key, f"{path!r} leaves the run folder", "give a path without '..'")


def _parse_verify(fields: Fields) -> Verify:
    inner = Fields(fields.mapping("verify"), "verify", fields.problems)
    verify = Verify(
        inner.flag("reload"),
        inner.choice("nonfinite", ("error", "allow"), "error"),
        inner.choice("negative_variance", ("error", "allow"), "error"),
    )
    inner.finish()
    return verify


def _parse_score(fields: Fields) -> Build | None:
    value = fields.raw("score")
    if value is None:
        return None
    if not is_build(value):
        fields.note("score", f"must name a callable with `_target_:`, not {describe(value)}")
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
