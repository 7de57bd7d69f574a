"""Warnings together: grouped by their kind for people to read, and refused where a recipe is strict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from transferpipe.errors import Problem, TransferError
from transferpipe.planning.model import PlanWarning
from transferpipe.recipe.model import Recipe
from transferpipe.text.listing import and_more

# Hundreds of warnings of one kind are repaired by kind: three examples show what they share.
_EXAMPLES = 3
_LISTED = 12
"""Up to so many warnings, a strict recipe lists every one; of more, the first of each kind."""


def group_by_code(warnings: Iterable[PlanWarning]) -> dict[str, list[PlanWarning]]:
    """Return the warnings by their code, each once, in the order in which they come."""
    groups: dict[str, list[PlanWarning]] = {}
    for warning in dict.fromkeys(warnings):
        groups.setdefault(warning.code, []).append(warning)
    return groups


def pick_examples(group: Sequence[PlanWarning]) -> list[PlanWarning]:
    """Return a few of many: those of different places first, since one place has mostly one reason."""
    first = {w.where: w for w in reversed(group)}
    chosen = [w for w in group if first[w.where] is w][:_EXAMPLES]
    chosen += [w for w in group if w not in chosen][: _EXAMPLES - len(chosen)]
    return [w for w in group if w in chosen]


def describe_warnings(warnings: Iterable[PlanWarning]) -> list[list[str]]:
    """Return an entry a kind: one line, or a line with the count and then some of them.

    >>> describe_warnings([PlanWarning("unused", "unused", "1 source weight is not used: a/bias")])
    [['[unused] 1 source weight is not used: a/bias']]
    """
    entries = []
    for code, group in group_by_code(warnings).items():
        if len(group) == 1 or not code:  # those of earlier versions have no code
            entries += [[str(w)] for w in group]
            continue
        examples = pick_examples(group)
        more = len(group) - len(examples)
        rest = [and_more(more, "more (all are in plan.json and manifest.json)").strip()] if more else []
        entries.append([f"[{code}] {len(group):,} of this kind", *(f"{w.where}: {w.text}" for w in examples), *rest])
    return entries


def shorten_warnings(warnings: Iterable[PlanWarning]) -> list[str]:
    """Return the warnings as texts that stand alone, of many of one kind the first few and a count."""
    texts = []
    for code, group in group_by_code(warnings).items():
        examples = pick_examples(group) if code else group
        more = len(group) - len(examples)
        texts += [str(w) for w in examples] + ([f"[{code}]{and_more(more, 'more like these')}"] if more else [])
    return texts


def refuse_warnings(recipe: Recipe, warnings: Iterable[PlanWarning], error: type[TransferError]) -> None:
    """Raise `error` with all warnings that a strict recipe does not allow; return if there is none.

    Warnings that are allowed stay warnings. A recipe that is not strict allows all.
    """
    if not recipe.strict:
        return
    refused = {code: group for code, group in group_by_code(warnings).items() if code not in recipe.allow}
    count = sum(map(len, refused.values()))
    if not count:
        return
    what = f"{count:,} warnings are errors here" if count > 1 else "1 warning is an error here"
    codes = ",".join(dict.fromkeys([*recipe.allow, *refused]))
    pass_by = f"fix what is wrong (see `transferpipe help warnings`), or allow: 'allow=[{codes}]'"
    raise error([Problem("strict", what, pass_by), *_problems(refused.values(), count)])


def _problems(groups: Iterable[Sequence[PlanWarning]], count: int) -> Iterable[Problem]:
    for group in groups:
        shown = group if count <= _LISTED else group[:1]
        for warning in shown:
            more = and_more(len(group) - len(shown), "more of this kind").strip()
            yield Problem(f"{warning.where} [{warning.code}]", f"{warning.text} ({more})" if more else warning.text)
