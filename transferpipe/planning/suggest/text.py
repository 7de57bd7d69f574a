"""A suggestion as YAML for review: each rule with its evidence and doubt as comments."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from transferpipe.planning.suggest.sides import NOT_WRITTEN
from transferpipe.planning.suggest.suggestion import OpenChoice, SuggestedRule, Suggestion
from transferpipe.recipe.model import LIVE
from transferpipe.text.collapse import collapse, split_name
from transferpipe.text.visible import visible

_PLAIN = re.compile(r"[A-Za-z_][\w/]*(?:[.-]\w+)*")
# YAML 1.1 reads these as other things than text, in capitals too.
_NOT_TEXT = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n", "none", "nan"})
_BACKWARDS = (
    "The recipe runs backwards: its rules say which tensors of the source file each weight of the model would take, "
    "and reverse: true writes that file anew, with the model's values."
)
# What a reader compares by eye.
_MOST_CANDIDATES = 4


def suggestion_text(found: Suggestion, width: int = 80) -> str:
    """Return the recipe that is proposed."""
    return "\n".join([*head_lines(found, width), "", *recipe_lines(found, width)])


def recipe_lines(found: Suggestion, width: int = 80) -> list[str]:
    """Return the lines of the recipe without what is said before it."""
    lines = [*origin_lines(found), "", *mapping_lines(found, width)]
    if found.undecided:
        lines += ["", *_write_undecided(found, width), "unmatched: keep # until rules claim what is undecided"]
    if not found.gives_model:
        reason = "" if found.reverse else " # the target gives no model"
        lines += ["", f"save: {{path: {found.output}}}{reason}"]
    if found.unused:
        count = _count(len(found.unused), "source weight")
        what = "written as the source has them" if found.reverse else "not used"
        text = f"{count} {what}, such as {', '.join(found.unused[:3])}"
        lines += ["", *comment_lines(text, width)]
    return lines


def origin_lines(found: Suggestion) -> list[str]:
    """Return the lines of the source and the target."""
    lines = [f"{side}: {_origin(getattr(found, side))}" for side in ("source", "target")]
    return [*lines, "reverse: true"] if found.reverse else lines


def mapping_lines(found: Suggestion, width: int) -> list[str]:
    """Return the lines of the rules that are proposed."""
    lines = ["mapping:" if found.rules else "mapping: {}"]
    for i, rule in enumerate(found.rules):
        lines += [""] * (i > 0)
        lines += [f"  {line}" for line in _rule(rule, width - 2)]
    return lines


def _origin(origin: Mapping[str, Any]) -> str:
    if str(origin.get("path", "")).startswith(LIVE):
        return "{path: '???'} # a live model: name its file or its builder here"
    return _flow(origin)


def head_lines(found: Suggestion, width: int, is_ignored: bool = False) -> Iterator[str]:
    """Yield how much the rules claim, and what their plan warns of, as a comment.

    Args:
        found: what is proposed.
        width: how wide lines may be.
        is_ignored: whether the recipe says that what is unused may stay so.
    """
    taken = len(found.plan.assignments)
    total = taken + len(found.plan.kept)
    rules = sum(not r.keeps for r in found.rules)
    undecided = sum(len(c.weights) for c in found.undecided)
    kept = f"{total - taken - undecided} {NOT_WRITTEN if found.reverse else 'kept'}, {undecided} undecided"
    weights = "weights of the model" if found.reverse else "target weights"
    text = f"{_count(rules, 'rule')} for {taken} of {total} {weights}; {kept}. Nothing has been applied."
    yield from comment_lines(text, width)
    if found.reverse:
        yield from comment_lines(_BACKWARDS, width)
    warned = [w for w in found.plan.warnings if w.code != "unused" or not (is_ignored or found.reverse)]
    codes = dict.fromkeys(w.code for w in warned)
    if codes:
        text = f"The plan of these rules has {_count(len(warned), 'warning')} ({', '.join(codes)})"
        yield from comment_lines(f"{text}; `transferpipe plan` shows them.", width)


def _rule(rule: SuggestedRule, width: int) -> Iterator[str]:
    yield from comment_lines(rule.evidence, width)
    for doubt in rule.doubts:
        yield from comment_lines(f"doubt: {doubt}", width)
    entries = {key: _value(value) for key, value in rule.data.items()}
    name = quote(rule.name)
    line = f"{name}: {{{', '.join(f'{k}: {v}' for k, v in entries.items())}}}"
    if len(line) <= width:
        yield line
        return
    yield f"{name}:"
    yield from (f"  {key}: {value}" for key, value in entries.items())


def _write_undecided(found: Suggestion, width: int) -> Iterator[str]:
    pair = "{TENSOR: WEIGHT}" if found.reverse else "{TARGET: SOURCE}"
    yield from comment_lines(f"Undecided; decide with hints: {pair}, or write a rule:", width)
    for choice, alike in _series(found.undecided):
        names = choice.candidates[:_MOST_CANDIDATES]
        more = f" or {len(choice.candidates) - len(names)} more" if len(choice.candidates) > len(names) else ""
        text = f"{choice.target}: {' or '.join(names)}{more} ({choice.reason})"
        if alike:
            text += f"; likewise {collapse(alike)}"
        yield from (
            f"#   {line}"
            for line in textwrap.wrap(
                visible(text),
                max(width - 4, 20),
                break_long_words=False,
                break_on_hyphens=False,
                subsequent_indent="  ",
            )
        )


def _series(undecided: Iterable[OpenChoice]) -> Iterator[tuple[OpenChoice, list[str]]]:
    """Yield the first of those that are open alike but for numbers in names, and the targets of the others."""
    series: dict[tuple[object, ...], list[OpenChoice]] = {}
    for choice in undecided:
        parts = frozenset(split_name(name)[0] for name in choice.candidates)
        series.setdefault((split_name(choice.target)[0], parts, choice.reason), []).append(choice)
    yield from ((first, [choice.target for choice in others]) for first, *others in series.values())


def comment_lines(text: str, width: int) -> list[str]:
    """Return `text` as a comment."""
    lines = textwrap.wrap(visible(text), max(width - 2, 20), break_long_words=False, break_on_hyphens=False)
    return [f"# {line}" for line in lines]


def _value(value: Any) -> str:
    if value is None:
        return "null"
    return quote(value) if isinstance(value, str) else _flow(value)


def quote(text: str) -> str:
    """Return `text` as YAML would have it: bare where nothing in it is special, else in quotes."""
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    if not text.isprintable():  # single quotes would fold the ends of lines
        return str(yaml.safe_dump(text, default_style='"', width=10**6)).strip()
    return "'" + text.replace("'", "''") + "'"


def _flow(data: Mapping[str, Any] | Sequence[Any]) -> str:
    # So wide that YAML never breaks a line, whose second half would lose its comment sign or its indent.
    return str(yaml.safe_dump(data, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True)).strip()


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
