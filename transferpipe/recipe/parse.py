"""From the plain data of a recipe to a checked `Recipe`, reporting all problems at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from transferpipe.codes import WARNINGS
from transferpipe.errors import Problems, RecipeError, did_you_mean
from transferpipe.recipe.fields import Fields, describe
from transferpipe.recipe.model import (
    NOTHING,
    SINGLE,
    TRANSFERRED,
    UNNAMED,
    Build,
    Ignore,
    Origin,
    Recipe,
    Rule,
    Save,
)
from transferpipe.recipe.outputs import known_suffixes, output_of, outputs_of, suffixes_with
from transferpipe.recipe.parse_edits import parse_edit
from transferpipe.recipe.parse_origin import is_build, parse_build, parse_origin
from transferpipe.recipe.parse_rules import compile_pattern, compile_patterns, parse_rule, split_source
from transferpipe.recipe.parse_verify import parse_verify
from transferpipe.recipe.sizes import parse_size

_TARGET, _UNMATCHED = "target", "unmatched"
_ALIAS = re.compile(r"\w[\w.-]*")
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
    fields = Fields(data, "", problems)
    written = _written_sources(fields)
    aliases = tuple(written)
    freeze = fields.texts("freeze")
    recipe = Recipe(
        target=_parse_target(fields),
        sources=_parse_sources(fields, written),
        rules=_parse_rules(fields, aliases, check_rule),
        unmatched=fields.choice("unmatched"),
        unused=fields.choice("unused"),
        ignore=_parse_ignore(fields, aliases),
        edits=tuple(e for k, v in fields.mapping("edit").items() if (e := parse_edit(str(k), v, problems))),
        freeze=compile_patterns([t for t in freeze if t not in (TRANSFERRED, NOTHING)], "freeze", problems),
        freeze_transferred=TRANSFERRED in freeze,
        save=_parse_save(fields, absolute_save),
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
    )
    _check_sources_are_there(recipe, problems)
    fields.finish()
    problems.raise_as(RecipeError)
    return recipe


def _written_sources(fields: Fields) -> dict[str, Any]:
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
    parsed = {alias: parse_origin(value, f"{where}{alias}", fields.problems) for alias, value in written.items()}
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
    return parse_origin(value, "target", fields.problems)


def _parse_rules(fields: Fields, sources: tuple[str, ...], check: RuleCheck) -> tuple[Rule, ...]:
    rules: dict[str, Rule] = {}
    for name, value in fields.mapping("mapping").items():
        if value is None:  # an overlay switched the rule off
            continue
        if name == _UNMATCHED or str(name) in rules:
            what = "is what plans call the weights without a rule" if name == _UNMATCHED else "names two rules"
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


def _parse_save(fields: Fields, absolute: bool) -> Save:
    value = fields.raw("save")
    if isinstance(value, str):
        value = {"path": value}
    if value is not None and not isinstance(value, Mapping):
        fields.note("save", f"must be a path or a mapping, not {describe(value)}")
    inner = Fields(value if isinstance(value, Mapping) else {}, "save", fields.problems, "save")
    path, layout = inner.text("path"), inner.choice("layout")
    save = Save(
        Save.path if path is None else path, inner.texts("also"), inner.flag("overwrite"), layout, _parse_shard(inner)
    )
    for key, paths in (("path", (save.path,)), ("also", save.also)):
        for path in paths:
            _check_save_path(path, key, inner, absolute)
    _check_folders(save, inner)
    if len({PurePath(p) for p in (save.path, *save.also)}) < 1 + len(save.also):
        inner.note("also", f"names the same file twice: {', '.join((save.path, *save.also))}")
    outputs = outputs_of((save.path, *save.also))
    if layout != Save.layout and not any(o.names_tensors for o in outputs):
        named = ", ".join(suffixes_with("names_tensors"))
        inner.note("layout", f"{layout} needs a file of named tensors", f"save one of {named}")
    if save.shard and not any(o.splits for o in outputs):
        first, *others = suffixes_with("splits")
        what = f"needs a {' or '.join((first, *others))} file, which can be cut into several"
        inner.note("shard", what, f"save.path=model{first}")
    inner.finish()
    return save


def _parse_shard(inner: Fields) -> int | None:
    value = inner.raw("shard")
    size = parse_size(value)
    if value is not None and size is None:
        inner.note("shard", f"must be a size above 0, not {describe(value)}", "such as 2GB, 500MB or 1GiB")
    return size


def _check_folders(save: Save, inner: Fields) -> None:
    """Refuse an output inside of a SavedModel, which is a folder."""
    folders = [PurePath(p) for p in (save.path, *save.also) if PurePath(p).name and not PurePath(p).suffix]
    for path in (save.path, *save.also):
        outer = next((f for f in folders if f in PurePath(path).parents), None)
        if outer:
            inner.note("also", f"{path!r} lies inside of the SavedModel {str(outer)!r}", "choose another folder")


def _check_save_path(path: str, key: str, inner: Fields, absolute: bool) -> None:
    name = PurePath(path).name
    if not output_of(path).suffix and (PurePath(path).suffix or not name or name.startswith(".")):
        what = f"{path!r} has none of the suffixes {', '.join(known_suffixes())}, which choose the format"
        inner.note(key, what, "add one; a SavedModel is a folder, whose name has none")
    elif PurePath(path).name == output_of(path).suffix:
        inner.note(key, f"{path!r} is a suffix without a name", f"such as model{PurePath(path).name}")
    if path.startswith("~"):
        inner.note(key, f"{path!r} begins with ~, which is not expanded here", "write the folder out")
    if PurePath(path).is_absolute() and not absolute:
        inner.note(
            key,
            f"{path!r} is absolute; a recipe writes inside its run folder",
            f"set it on the command line: save.{key}=...",
        )
    if ".." in PurePath(path).parts:
        inner.note(key, f"{path!r} leaves the run folder", "give a path without '..'")


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
