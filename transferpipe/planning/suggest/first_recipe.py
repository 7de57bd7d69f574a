"""A suggestion as somebody's first recipe: it plans as it stands, and says beside each choice what else there is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from transferpipe.planning.suggest.suggestion import Suggestion
from transferpipe.planning.suggest.templates import escape
from transferpipe.planning.suggest.text import comment_lines, head_lines, mapping_lines, origin_lines, quote
from transferpipe.recipe.keys import SECTIONS
from transferpipe.recipe.outputs import output_of
from transferpipe.text.visible import visible

_WIDTH = 80
_INTERPOLATION = re.compile(r"(\\*)\$\{")
_MOST_IGNORED = 20
"""Patterns that somebody reads one by one."""


def first_recipe(found: Suggestion, commands: tuple[str, str]) -> str:
    """Return the text of the recipe.

    Args:
        found: what is proposed.
        commands: what plans it and what runs it.
    """
    plan, run = commands
    safe = replace(
        found,
        source=_escape_interpolation(found.source),
        target=_escape_interpolation(found.target),
        rules=tuple(replace(rule, data=_escape_interpolation(rule.data)) for rule in found.rules),
    )
    sides = [str(o.get("path") or o.get("_target_")) for o in (found.source, found.target)]
    sides = sides[::-1] if found.reverse else sides
    lines = [f"# {run}  <- {visible(' into '.join(sides))}", *head_lines(found, _WIDTH, is_ignored=_ignores(found))]
    lines += comment_lines(f"Look at every rule, then at what it does: {plan}", _WIDTH)
    if found.undecided:
        text = "Decide first what stands under UNDECIDED; until then it keeps its initial values."
        lines += comment_lines(text, _WIDTH)
    lines += ["", *origin_lines(safe), "", *mapping_lines(safe, _WIDTH)]
    if found.undecided:
        if not found.rules:
            lines[-1] = "mapping:"
        lines += [
            "",
            *_write_undecided(safe),
            "",
            "unmatched: keep # weights without a rule; `error` once all is decided",
        ]
    lines += [*_write_unused(found), *_further(found)]
    return "\n".join([*lines, ""])


def _write_undecided(found: Suggestion) -> Iterator[str]:
    """Yield a rule for each candidate, commented out, indented as the rules that stand above."""
    names = {rule.name for rule in found.rules}
    yield from (f"  {line}" for line in comment_lines("UNDECIDED: of each, take the # from one line", _WIDTH - 2))
    for choice in found.undecided:
        stem = re.sub(r"\W+", "_", choice.target, flags=re.ASCII).strip("_") or "rule"
        # Of one name more than are in use, one is free.
        name = next(n for n in (stem, *(f"{stem}_{i}" for i in range(2, len(names) + 3))) if n not in names)
        names.add(name)
        to = _text(escape(choice.target))
        yield from (f"  {line}" for line in comment_lines(f"{choice.target}: {choice.reason}", _WIDTH - 2))
        for candidate in choice.candidates:
            literal = candidate.replace("\\", "\\\\").replace("{", "{{").replace("}", "}}")
            yield f"  # {quote(name)}: {{to: {to}, from: {_text(literal)}}}"
        yield f"  # {quote(name)}: {{to: {to}, from: null}}"


def _write_unused(found: Suggestion) -> list[str]:
    """Return what says that source weights are expected to stay unused: not before all is decided."""
    if not found.unused:
        return []
    patterns = [_text(escape(name)) for name in _find_unused_parts(found)]
    line = "ignore: [" + ", ".join(patterns) + "]"
    if not _ignores(found):
        text = f"{len(found.unused)} source weights are unused. Once all is decided, list here what may stay so:"
        return ["", *comment_lines(text, _WIDTH), "# ignore: [" + ", ".join(patterns[:_MOST_IGNORED]) + "]"]
    return ["", *comment_lines("The source's own; nothing in the target takes it.", _WIDTH), line]


def _ignores(found: Suggestion) -> bool:
    """Tell whether the recipe lists what stays unused, so that no plan of it warns of that."""
    return not found.undecided and len(_find_unused_parts(found)) <= _MOST_IGNORED


def _find_unused_parts(found: Suggestion) -> list[str]:
    """Return the outermost parts of the source all of whose weights are unused."""
    used = {w.name for w in found.plan.source_weights if w.fate != "unused"}
    above = {p for name in used for p in _prefixes(name)}
    # A pattern that covers used weights too would stay silent on the day when one of them is no longer used.
    parts = (next((p for p in _prefixes(name) if p not in above), name) for name in found.unused)
    return list(dict.fromkeys(parts))


def _prefixes(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts) + 1)]


def _further(found: Suggestion) -> list[str]:
    """Return what somebody may want next: one line a key, commented out but for what the target asks for."""
    recipe = SECTIONS["recipe"]
    # Parity computes with the source, which a file of weights alone cannot.
    runs = "_target_" in found.source or output_of(str(found.source.get("path", ""))).holds_architecture
    parity = "source" if runs else "{inputs: x.npz, expected: y.npz}"
    lines = ["", "# Further keys; `transferpipe help recipe` lists all."]
    of_models = (  # which run backwards makes none
        (recipe["freeze"].about, "# freeze: [transferred]"),
        (SECTIONS["verify"]["parity"].about, f"# verify: {{parity: {parity}}}"),
    )
    for about, line in (
        *(() if found.reverse else of_models),
        (recipe["save"].about, f"{'# ' if found.gives_model else ''}save: {{path: {found.output}}}"),
    ):
        lines += ["", *comment_lines(about, _WIDTH), line]
    return lines


def _text(text: str) -> str:
    return quote(_escape_interpolation(text))


def _escape_interpolation(value: Any) -> Any:
    """Return the value as it stands in a file in which ``${`` begins an interpolation."""
    if isinstance(value, str):
        return _INTERPOLATION.sub(lambda m: m[1] * 2 + r"\${", value)
    if isinstance(value, Mapping):
        return {k: _escape_interpolation(v) for k, v in value.items()}
    return [_escape_interpolation(v) for v in value] if isinstance(value, list | tuple) else value
