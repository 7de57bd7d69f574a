"""What to write about weights that a rule claims and should not; the fate of all others stays what it is."""

from __future__ import annotations

import re
from collections.abc import Sequence

from transferpipe.planning.claims import find_units
from transferpipe.recipe.model import Rule
from transferpipe.weights.spec import Catalog

_SPECIAL = re.compile(r"([\\^$.|?*+()\[\]{}])")
# So many names still make a rule that can be read; of more, the pattern is left to whoever knows their common part.
_MOST = 4


def advise_keeping(rule: Rule | None, names: Sequence[str], target: Catalog) -> str:
    """Return how to keep the initial values of some target weights, or layers, that a rule claims.

    `from: null` alone would keep all that the rule claims.

    Args:
        rule: the rule; None under ``unmatched: same_name``.
        names: the weights, at least one.
        target: the target's catalog.
    """
    own = f"a rule {{to: {_quote('|'.join(map(_plain, names[:_MOST])))}, from: null}}"
    if rule is None:
        return f"keep it by {own}"
    if not _claims_more(rule, names, target):
        return "keep it: from=null"
    rest = " and the others likewise" if len(names) > _MOST else ""
    return f"give this rule {_taking_out(rule, names[:_MOST])}, and add {own}{rest}"


def advise_choosing(rules: Sequence[Rule], names: Sequence[Sequence[str]], target: Catalog) -> str:
    """Return what to do where two rules claim the same target weights, or layers.

    Args:
        rules: the two.
        names: what each of them calls the weights.
        target: the target's catalog.
    """
    off = f"switch one off: {' or '.join(f'mapping.{key}=null' for key in dict.fromkeys(r.key for r in rules))}"
    left = [(rule, claimed) for rule, claimed in zip(rules, names, strict=True) if _claims_more(rule, claimed, target)]
    if not left:
        return off
    if len(names[0]) > _MOST:
        return f"take them out of mapping.{left[0][0].key} with `except`, or {off}"
    ways = " or ".join(f"mapping.{rule.key} {_taking_out(rule, claimed)}" for rule, claimed in left)
    return f"give {ways}, or {off}"


def _claims_more(rule: Rule, names: Sequence[str], target: Catalog) -> bool:
    """Tell whether a rule claims more than `names`; with those taken out, a rule that does not would match nothing."""
    expanded = target.expanded
    claimed = {w for unit in find_units(rule.to, expanded) for w in unit.weights}
    claimed -= {w for p in rule.own_excepts for unit in find_units(p, expanded) for w in unit.weights}
    return [rule.to.text] != [*names] and not (claimed and claimed <= set(names))


def _taking_out(rule: Rule, names: Sequence[str]) -> str:
    """Return the key that takes weights out of a rule, beside what it takes out already."""
    patterns = [*(p.text for p in rule.own_excepts), *map(_plain, names)]
    texts = ", ".join(_quote(p) for p in patterns)
    return f"`except: {texts if len(patterns) == 1 else f'[{texts}]'}`"


def _plain(name: str) -> str:
    """Return a pattern that matches a name alone."""
    return _SPECIAL.sub(r"\\\1", name)


def _quote(text: str) -> str:
    """Return a text as YAML reads it."""
    return f"'{text.replace(chr(39), 2 * chr(39))}'"
