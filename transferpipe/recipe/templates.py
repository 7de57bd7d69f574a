r"""Templates for source names: ``\1``, ``\g<1>``, ``\g<name>``, and integer arithmetic on named groups, ``{i+1}``.

A part that sources spell differently is written as in a pattern: ``(gamma|weight)``, or ``(bert/)?`` for one that some
lack. Of the names that this gives, the one that the source has is meant.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from transferpipe.recipe.patterns import NameMatch, Pattern

_TOKEN = re.compile(
    r"\\g<(?P<named>[^>]*)>|\\(?P<number>\d+)|\\(?P<escaped>.)|(?P<twice>\{\{|\}\})|\{(?P<sum>[^{}]*)\}"
)
# Ten to the 18 is less than 2**63: every number in a name, and what is computed of it, stays a machine's integer.
_MOST_DIGITS = 18
# Beyond what a pattern that can be read captures; a reference to more is a typing error.
_MOST_GROUPS = 999
_VARIED = re.compile(r"(?<!\\)\(([^()]*)\)(\??)")
# Names of models differ in a prefix and a word or two; every one is looked up for every weight.
_MOST_CHOICES = 64
# Longer sums are a mistake or an attack; short ones neither nest deeply nor grow large.
_LONGEST_SUM = 60

_OPERATORS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


@dataclass(frozen=True)
class Template:
    r"""A source name in terms of what the rule's `to` matched.

    Raises:
        ValueError: the text cannot be parsed; says which part.

    >>> Template(r"stage{i+1}/conv\2").fill(Pattern(r"block(?P<i>\d)_conv(\d)").match("block3_conv1"))
    'stage4/conv1'
    """

    text: str

    def __post_init__(self) -> None:
        for token in self._tokens():
            if token["sum"] is not None:
                _parse_sum(token["sum"])
            elif token["escaped"] is not None and token["escaped"].isalnum():
                raise ValueError(f"{self.text!r} has \\{token['escaped']}, which is neither \\1 nor \\g<name>")
            elif isinstance(group := _reference(token), int) and group > _MOST_GROUPS:
                raise ValueError(f"{self.text!r} has {token[0]}; write \\g<1>0 for group 1 and a digit")
        if len(self.choices) > _MOST_CHOICES:
            raise ValueError(f"{self.text!r} stands for more than {_MOST_CHOICES} names; write several rules")
        rest = _TOKEN.sub("", self.text)
        if "{" in rest or "}" in rest:
            raise ValueError(f"{self.text!r} has an unpaired brace; write {{{{ or }}}} for the character itself")

    def _tokens(self) -> list[re.Match[str]]:
        return list(_TOKEN.finditer(self.text))

    @cached_property
    def choices(self) -> tuple[str, ...]:
        """The template once for each alternative in it, in the order in which they are written.

        >>> Template("(bert/)?pooler/(gamma|weight)").choices
        ('bert/pooler/gamma', 'bert/pooler/weight', 'pooler/gamma', 'pooler/weight')
        """
        found = [""]
        end = 0
        for part in _VARIED.finditer(self.text):
            words = [*part[1].split("|"), *([""] if part[2] else [])]
            if len(words) == 1:  # brackets in a name
                continue
            before = self.text[end : part.start()]
            # Cut on the way: a few alternatives more, each of two, would be millions before they are counted.
            found = [f"{one}{before}{word}" for one in found[: _MOST_CHOICES + 1] for word in words]
            end = part.end()
        return tuple(f"{one}{self.text[end:]}" for one in found)

    @property
    def computes(self) -> bool:
        """Whether the template has arithmetic, and does not merely copy what `to` matched."""
        return any(token["sum"] is not None and not token["sum"].strip().isidentifier() for token in self._tokens())

    def groups_in(self, match: NameMatch) -> dict[str, str]:
        r"""Return what the groups that the template names are in a match, each as the template would name it alone.

        >>> Template(r"{i // 2}").groups_in(Pattern(r"h(?P<i>\d)").match("h3"))
        {'i': '3'}
        """
        found: dict[str, str | None] = {}
        for token in self._tokens():
            group = _reference(token)
            if isinstance(group, int):
                found[f"\\{group}"] = match.groups[group - 1] if group else match.name
            elif group is not None:
                found[group] = match.named[group]
            elif token["sum"] is not None:
                found |= {name: match.named[name] for name in sorted(_names_in(_parse_sum(token["sum"])))}
        return {name: text or "" for name, text in found.items()}

    def unknown_groups(self, pattern: Pattern) -> list[str]:
        """Return the groups that the template uses and `pattern` does not have."""
        unknown = []
        for token in self._tokens():
            group = _reference(token)
            known = group <= pattern.group_count if isinstance(group, int) else group in pattern.group_names
            if group is not None and not known:
                unknown.append(token[0])
            elif token["sum"] is not None:
                names = _names_in(_parse_sum(token["sum"]))
                unknown += [f"{{{n}}}" for n in sorted(names - pattern.group_names)]
        return unknown

    def fill(self, match: NameMatch, *known: Callable[[str], bool]) -> str:
        """Return the name for one match; an optional group that matched nothing is empty, and 0 in arithmetic.

        Args:
            match: what `to` matched.
            *known: tell whether the source has a name, the first that any satisfies counts; where the template has
                alternatives and the source has none of them, the name is the first.

        Raises:
            ValueError: a group used in arithmetic is not an integer, the sum cannot be computed, or the source has two
                of the alternatives.
        """
        if len(self.choices) == 1:
            return self._fill(self.text, match)
        names = list(dict.fromkeys(self._fill(choice, match) for choice in self.choices))
        for is_known in known:
            there = [name for name in names if is_known(name)]
            if len(there) > 1:
                raise ValueError(f"the source has both {there[0]!r} and {there[1]!r}; name the one that is meant")
            if there:
                return there[0]
        return names[0]

    def _fill(self, text: str, match: NameMatch) -> str:
        def replace(token: re.Match[str]) -> str:
            group = _reference(token)
            if isinstance(group, int):
                return (match.groups[group - 1] if group else match.name) or ""
            if group is not None:
                return match.named[group] or ""
            if token["sum"] is not None:
                return str(_evaluate(_parse_sum(token["sum"]), match.named))
            return (token["escaped"] or token["twice"])[0]

        return _TOKEN.sub(replace, text)


def _reference(token: re.Match[str]) -> int | str | None:
    """Return the number or the name of the group that a token refers to."""
    text: str | None = token["named"] if token["number"] is None else token["number"]
    if text is None or not text.isdecimal():
        return text
    # Python refuses to read thousands of digits, with another error than a recipe's.
    return int(text) if len(text) <= len(str(_MOST_GROUPS)) else _MOST_GROUPS + 1


def _parse_sum(text: str) -> ast.expr:
    if len(text) > _LONGEST_SUM:
        raise ValueError(f"{{{text[:_LONGEST_SUM]}...}} is longer than {_LONGEST_SUM} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"{{{text}}} is not integer arithmetic on named groups, such as {{i+1}}") from None
    # Parsed, and never run by Python: only these nodes are evaluated, by `_evaluate`.
    for node in ast.walk(tree):
        allowed = isinstance(node, ast.BinOp | ast.Name | ast.operator | ast.USub | ast.expr_context) or (
            (isinstance(node, ast.Constant) and type(node.value) is int)
            or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub))
        )
        if not allowed or (isinstance(node, ast.BinOp) and type(node.op) not in _OPERATORS):
            raise ValueError(f"{{{text}}} may use only named groups, integers and + - * // %")
    return tree


def _names_in(tree: ast.expr) -> frozenset[str]:
    return frozenset(n.id for n in ast.walk(tree) if isinstance(n, ast.Name))


def _evaluate(node: ast.expr, named: Mapping[str, str | None]) -> int:
    if isinstance(node, ast.Name):
        text = named[node.id] or "0"
        if not re.fullmatch(r"\d+", text) or len(text) > _MOST_DIGITS:
            raise ValueError(f"the group {node.id!r} matched {text!r}, which is not an integer")
        return int(text)
    if isinstance(node, ast.Constant):
        return int(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.UnaryOp):
        return -_evaluate(node.operand, named)
    assert isinstance(node, ast.BinOp)
    left, right = _evaluate(node.left, named), _evaluate(node.right, named)
    if right == 0 and isinstance(node.op, ast.FloorDiv | ast.Mod):
        raise ValueError("division by zero in the template")
    return _OPERATORS[type(node.op)](left, right)
