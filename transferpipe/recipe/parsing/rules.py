"""Reading `mapping`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from transferpipe.errors import Problems, did_you_mean
from transferpipe.recipe.model import SINGLE, From, Rule, RuleUnits, Steps
from transferpipe.recipe.parsing.fields import Fields, describe
from transferpipe.recipe.patterns import Pattern
from transferpipe.recipe.templates import Template


def compile_pattern(text: str, where: str, problems: Problems) -> Pattern | None:
    """Return the pattern, or None with the problem noted."""
    try:
        return Pattern(text)
    except ValueError as error:
        problems.add(where, str(error))
        return None


def compile_template(
    text: str, pattern: Pattern | None, where: str, problems: Problems, key: str = ""
) -> Template | None:
    """Return the template whose groups are those of `pattern`, or None with a problem noted at `where`.

    Args:
        text: the template as written.
        pattern: what has the groups; None if it could not be read.
        where: the place of the template.
        problems: where problems are noted.
        key: under which key the pattern stands, where that is not the place itself.
    """
    try:
        template = Template(text)
    except ValueError as error:
        problems.add(where, str(error))
        return None
    unknown = template.unknown_groups(pattern) if pattern else []
    if pattern and unknown:
        has = f"{pattern.group_count} group(s)" + (
            f" and the names {', '.join(sorted(pattern.group_names))}" if pattern.group_names else ""
        )
        shown = f"`{key}: {pattern.text}`" if key else f"`{pattern.text}`"
        what = f"{text!r} uses {', '.join(unknown)}, but {shown} has {has}"
        problems.add(where, what, f"add the group to {f'`{key}`' if key else 'the pattern'}")
        return None
    return template


def compile_patterns(texts: Sequence[str], where: str, problems: Problems) -> tuple[Pattern, ...]:
    """Return those of the patterns that are valid; one that is written twice counts once."""
    return tuple(p for t in dict.fromkeys(texts) if (p := compile_pattern(t, where, problems)))


def split_source(text: str, sources: Sequence[str]) -> tuple[str | None, str]:
    r"""Split ``teacher:block\1`` into the source's name and the rest; other prefixes are part of the name."""
    alias, colon, rest = text.partition(":")
    return (alias, rest) if colon and alias in sources else (None, text)


def parse_rule(name: str, value: Any, sources: Sequence[str], problems: Problems) -> Rule | None:
    """Return one rule, or None with the problems noted."""
    if not isinstance(value, Mapping):
        problems.add(f"mapping.{name}", f"must be a mapping with `to` and `from`, or null, not {describe(value)}")
        return None
    before = len(problems.found)
    fields = Fields(value, f"mapping.{name}", problems, "rule")
    to_text = fields.text("to")
    if not to_text and len(problems.found) == before:
        fields.note("to", "a pattern over target names is required")
    to = compile_pattern(to_text, fields.at("to"), problems) if to_text else None
    pair = fields.choice("pair")
    froms = _parse_froms(fields, to, pair, sources)
    rule = Rule(
        name=name,
        to=to or Pattern(""),  # with a problem noted, the rule is only looked at for further problems
        keep=fields.is_null("from"),
        froms=froms,
        pair=pair,
        excepts=compile_patterns(fields.texts("except"), fields.at("except"), problems),
        transform=_parse_transform(fields),
        merge=_parse_merge(fields, froms),
        on_mismatch=fields.choice("on_mismatch"),
        optional=fields.flag("optional"),
        layout=fields.choice("layout"),
        fold=tuple(f for t in fields.texts("fold") if (f := _parse_from(t, fields, to, "fold", sources))),
        fold_with=_parse_fold_with(fields),
        units=_parse_units(fields, to, froms, sources),
    )
    _check_combination(fields, rule)
    fields.finish()
    return rule


def _check_combination(fields: Fields, rule: Rule) -> None:
    for key in ("transform", "merge", "layout", "fold", "units"):
        if rule.keep and fields.raw(key) is not None:
            fields.note(key, "has nothing to work on: `from` is null, which keeps the initial values")
    if rule.fold and (rule.merge is not None or rule.pair == "order" or any(f.transform for f in rule.froms)):
        what = "cannot go with `merge`, `pair: order`, or steps of single sources"
        fields.note("fold", what, "write the sources and a transform such as fold_batchnorm in its place")
    if rule.fold and len(rule.fold) < len(rule.froms):
        what = f"has {len(rule.fold)} entries, `from` has {len(rule.froms)}"
        fields.note("fold", what, "name one for each, and at the end one for each branch without a layer")
    if rule.units and (rule.fold or rule.pair == "order"):
        fields.note("units", "cannot go with `fold` or `pair: order`", "do that in a run before this one")
    if rule.units and rule.units.method != "align" and len(rule.froms) > 1:
        fields.note("units", f"takes one source, not {len(rule.froms)}", "merge in one run, choose units in the next")
    if rule.pair == "order" and rule.on_mismatch == "keep":
        fields.note("on_mismatch", "cannot be keep with `pair: order`, under which every shape must agree")


def _parse_froms(fields: Fields, to: Pattern | None, pair: str, sources: Sequence[str]) -> tuple[From, ...]:
    if fields.is_null("from"):
        return ()
    if not fields.has("from"):
        texts: tuple[str, ...] = (r"\0",) if pair == "name" else (to.text,) if to else ()
        entries: list[tuple[str, Steps]] = [(text, ()) for text in texts]
    else:
        entries = _parse_entries(fields)
    if pair == "order" and len(entries) > 1:
        fields.note("from", f"takes one pattern with `pair: order`, not {len(entries)}")
    found = [(_parse_from(text, fields, to, pair, sources), steps) for text, steps in entries]
    return tuple(replace(origin, transform=steps) for origin, steps in found if origin)


def _parse_entries(fields: Fields) -> list[tuple[str, Steps]]:
    """Return the text and the steps of each entry of `from`: a name, or a mapping with the name and its steps."""
    value = fields.raw("from")
    items = value if isinstance(value, list | tuple) else [value]
    if not items:
        fields.note("from", "is an empty list", "name a source, or set it to null to keep the weights")
    entries: list[tuple[str, Steps]] = []
    for k, item in enumerate(items):
        if isinstance(item, str):
            entries.append((item, ()))
        elif isinstance(item, Mapping):
            inner = Fields(item, fields.at(f"from.{k}" if items is value else "from"), fields.problems, "entry")
            name = inner.text("name")
            if item.get("name") is None:
                inner.note("name", "the source's name is required", r"write {name: 'enc/\1', transform: [...]}")
            entries.append((name or "", _parse_transform(inner)))
            inner.finish()
        elif value is not None:
            what = f"must be a name, or a mapping with `name` and `transform`, or a list of these, not {describe(item)}"
            fields.note("from", what)
            break
    return entries


_UNITS = r"write one of units: {widen: copies}, {keep: largest}, {indices: {dense1: [0, 2]}}, {align: 'other:\0'}"


def _parse_units(fields: Fields, to: Pattern | None, froms: Sequence[From], sources: Sequence[str]) -> RuleUnits | None:
    """Return how units are chosen: one of the ways, or None where all are switched off."""
    value = fields.raw("units")
    if value is None:
        return None
    if not isinstance(value, Mapping):
        fields.note("units", f"must be a mapping, not {describe(value)}", _UNITS)
        return None
    inner = Fields(value, fields.at("units"), fields.problems, "units")
    before = len(fields.problems.found)
    widen, keep, norm, listed = (
        inner.choice("widen"),
        inner.choice("keep"),
        inner.choice("norm"),
        inner.mapping("indices"),
    )
    text = inner.text("align")
    reference = _parse_from(text, inner, to, "align", sources) if text else None
    indices = {str(layer): _parse_indices(inner, layer, numbers) for layer, numbers in listed.items()}
    inner.finish()
    ways: dict[str, bool] = {"widen": bool(widen), "largest": bool(keep), "indices": bool(indices), "align": bool(text)}
    found = [way for way, there in ways.items() if there]
    if not found and inner.raw("norm") is None:  # all are switched off, or one is wrong
        return None
    if len(found) != 1 and len(fields.problems.found) == before:
        fields.note("units", f"has {len(found)} ways to choose units; it takes one", _UNITS)
    if len(found) != 1 or len(fields.problems.found) > before:
        return None
    if reference and [(f.source, f.text) for f in froms] == [(reference.source, reference.text)]:
        inner.note("align", "is what the rule takes: there is nothing to align it with", "name another network")
    return RuleUnits(found[0], norm, indices, reference)  # type: ignore[arg-type]


def _parse_indices(fields: Fields, layer: Any, numbers: Any) -> tuple[int, ...]:
    good = isinstance(numbers, list | tuple) and all(type(n) is int for n in numbers)
    if not good or not numbers or len(set(numbers)) < len(numbers):
        what = f"{layer}: must be a list of different numbers, not {describe(numbers)}"
        fields.note("indices", what, "write {dense1: [0, 2, 3]}")
        return ()
    return tuple(numbers)


_FOLD_WITH = "write fold_with: {epsilon: 0.001}, or {alpha: 16, rank_stabilized: true}"


def _parse_fold_with(fields: Fields) -> Mapping[str, Any]:
    """Return the settings of folding; a number that YAML reads as a text, such as 1e-5, is one."""
    found: dict[str, Any] = {}
    for key, value in fields.mapping("fold_with").items():
        if key == "rank_stabilized" and isinstance(value, bool):
            found[key] = value
            continue
        number = float("nan")
        if not isinstance(value, bool):
            with contextlib.suppress(TypeError, ValueError, OverflowError):  # whole numbers may be of any size
                number = float(value)
        if key not in ("epsilon", "alpha") or not (math.isfinite(number) and number >= 0):
            fields.note("fold_with", f"{key}: {describe(value)} is not a setting of folding", _FOLD_WITH)
        else:
            found[str(key)] = number
    return found


def _parse_from(text: str, fields: Fields, to: Pattern | None, pair: str, sources: Sequence[str]) -> From | None:
    """Return an entry of `from`, or of `fold` or `align` where `pair` is that word."""
    key = pair if pair in ("fold", "align") else "from"
    alias, rest = split_source(text, sources)
    if alias is None and len(sources) > 1:
        fields.note(
            key, f"{text!r} does not say which source", f"write one of {', '.join(f'{s}:...' for s in sources)}"
        )
        return None
    source = alias or (sources[0] if sources else SINGLE)
    if pair == "order":
        pattern = compile_pattern(rest, fields.at(key), fields.problems)
        return From(source, rest, pattern=pattern) if pattern else None
    template = compile_template(rest, to, fields.at(key), fields.problems, "to")
    return From(source, rest, template=template) if template else None


def _parse_transform(fields: Fields) -> Steps:
    value = fields.raw("transform")
    if value is None:
        return ()
    if isinstance(value, list | tuple):
        return tuple(value)
    if isinstance(value, Mapping) and all(isinstance(v, list | tuple) for v in value.values()):
        return {str(k): tuple(v) for k, v in value.items()}
    fields.note("transform", f"must be a list of transforms, or a list for each weight name, not {describe(value)}")
    return ()


def _parse_merge(fields: Fields, froms: Sequence[From]) -> Any:
    """Return the merge as written, its `base` as a place in `from` where it is the name of a source."""
    merge = fields.raw("merge")
    name, arguments = next(iter(merge.items())) if isinstance(merge, Mapping) and len(merge) == 1 else (None, None)
    base = arguments.get("base") if isinstance(arguments, Mapping) else None
    if not isinstance(base, str) or not isinstance(arguments, Mapping):
        return merge
    places = [place for place, item in enumerate(froms) if item.source == base]
    if len(places) == 1:
        return {name: {**arguments, "base": places[0]}}
    known = list(dict.fromkeys(item.source for item in froms))
    if places:
        what = f"base {base!r} is the source of {len(places)} entries of `from`"
        fields.note("merge", what, f"give the place of the base in `from`: {' or '.join(map(str, places))}")
    elif froms:
        what = f"base {base!r} is not a source that the rule takes from: {', '.join(known)}"
        fields.note("merge", what, did_you_mean(base, known) or f"write base: {known[0]}")
    return {name: {**arguments, "base": 0}}  # with the problem noted, it is only looked at for further ones
