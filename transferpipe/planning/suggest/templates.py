r"""Writing many pairs of names as one pattern and one template: ``block(?P<i>\d)/(conv|bn)`` from ``layer{i-1}/\2``."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from transferpipe.planning.suggest.laws import Law, Term, compute, find_laws
from transferpipe.text.numbers import is_number

_PIECES = re.compile(r"\d+|[A-Za-z]+|[^A-Za-z\d]+")
_GROUP = re.compile(r"\\g<(\d+)>(?!\d)")  # what can be written shorter, since no digit follows
_LETTERS = "ijklmnpqrstuvwxyz"  # o reads as 0
# A pattern that lists more words, values or parts is longer than what it matches says, and is written as a class.
_MOST_WORDS = 8
_MOST_VALUES = 12
_MOST_PARTS = 6
_MOST_LAWS = 4

Pieces = tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """A name of the target, of a layer or a weight, and the name in the source that it takes.

    Attributes:
        to: the target's.
        source: the source's.
        weights: the target weights that come along.
        transform: the transforms that they need, by their own names, as would be written.
    """

    to: str
    source: str
    weights: tuple[str, ...]
    transform: str = ""


@dataclass(frozen=True)
class Draft:
    """A rule that is to be tried.

    Attributes:
        to: its pattern.
        source: its template, or with `by_order` its pattern for the source.
        pairs: what it is to bring about.
        by_order: whether it pairs by order.
    """

    to: str
    source: str
    pairs: tuple[Pair, ...]
    by_order: bool = False


def split(name: str) -> Pieces:
    """Return a name as numbers, words and what stands between."""
    return tuple(_PIECES.findall(name))


def _skeleton(pieces: Pieces) -> Pieces:
    return tuple("#" if is_number(p) else p for p in pieces)


def _numbers(pieces: Pieces) -> tuple[int, ...]:
    return tuple(int(p) for p in pieces if is_number(p))


@dataclass(frozen=True)
class Shape:
    """What several pairs have in common.

    Attributes:
        to: the pieces of the target's name, with ``#`` for numbers and ``@`` for a word that both names have.
        source: those of the source's.
        is_tail: whether ``@`` stands for all that is left.
    """

    to: Pieces
    source: Pieces
    is_tail: bool = False


_Numbered = tuple[Pair, str, tuple[int, ...], tuple[int, ...]]
"""A pair, the word that stands for ``@``, and the numbers of the target's and of the source's name."""


def cluster(pairs: Sequence[Pair]) -> list[tuple[Shape, list[tuple[Pair, str]]]]:
    """Return the pairs of each shape that several pairs have, with the word that stands for ``@``."""
    found: dict[Shape, list[tuple[Pair, str]]] = {}
    for pair in pairs:
        for shape, word in _shapes_of(pair):
            found.setdefault(shape, []).append((pair, word))
    kept: list[tuple[Shape, list[tuple[Pair, str]]]] = []
    for shape, members in found.items():
        # With `@` for one word only, the shape says no more than the one that spells that word out.
        if len(members) > 1 and ("@" not in shape.to or len({word for _, word in members}) > 1):
            kept.append((shape, members))
    return kept


def _shapes_of(pair: Pair) -> Iterator[tuple[Shape, str]]:
    ours, theirs = split(pair.to), split(pair.source)
    to, source = _skeleton(ours), _skeleton(theirs)
    yield Shape(to, source), ""
    for p, word in enumerate(ours):
        for q, other in enumerate(theirs):
            if word == other and word.isalpha():
                yield Shape(_replace(to, p), _replace(source, q)), word
    for length in range(1, min(len(ours), len(theirs)) + 1):
        if ours[-length:] != theirs[-length:]:
            break
        # A tail begins behind a sign on both sides: cut inside of a word or number, names agree by chance.
        if all(len(side) == length or not side[-length - 1].isalnum() for side in (ours, theirs)):
            tail = "".join(ours[-length:])
            yield Shape((*to[:-length], "@"), (*source[:-length], "@"), is_tail=True), tail


def _replace(pieces: Pieces, at: int) -> Pieces:
    return (*pieces[:at], "@", *pieces[at + 1 :])


def drafts_of(shape: Shape, members: Sequence[tuple[Pair, str]]) -> Iterator[Draft]:
    """Yield the rules that could bring about `members`, the widest pattern first."""
    numbered = [(pair, word, *_numbers_at(shape, pair)) for pair, word in members]
    laws = find_laws([(ours, theirs) for _, _, ours, theirs in numbered])
    seen: set[tuple[Pair, ...]] = set()
    ranked = sorted(laws, key=lambda law: -sum(compute(law, n[2]) == n[3] for n in numbered))
    # Each draft costs a trial pairing of all that it claims: the laws that fewest obey are not worth one.
    for law in ranked[:_MOST_LAWS]:
        obeying = [n for n in numbered if compute(law, n[2]) == n[3]]
        for part in (obeying, *_parts(obeying)):
            chosen = tuple(n[0] for n in part)
            if chosen and chosen not in seen:
                seen.add(chosen)
                for width in range(3):
                    to, source = _write_pattern(shape, law, [(n[1], n[2]) for n in part], width)
                    yield Draft(to, source, chosen)
    if "@" not in shape.to and len(members) > 2:
        ours, theirs = [split(p.to) for p, _ in members], [split(p.source) for p, _ in members]
        for width in (0, 2):
            to, source = _as_pattern(ours, 0), _as_pattern(theirs, width)
            yield Draft(to, source, tuple(p for p, _ in members), by_order=True)


def _parts(members: Sequence[_Numbered]) -> Iterator[list[_Numbered]]:
    """Yield those of `members` that have one number in common, as a rule may be only about block 0."""
    for p in range(len(members[0][2]) if members else 0):
        values = {n[2][p] for n in members}
        for value in sorted(values) if 1 < len(values) <= _MOST_PARTS else ():
            yield [n for n in members if n[2][p] == value]


def _as_pattern(names: Sequence[Pieces], width: int) -> str:
    text = ""
    for column in zip(*names, strict=True):
        counts = is_number(column[0])
        part = _values({int(v) for v in column}, width) if counts else escape(column[0])
        text += f"(?:{part})" if counts and "|" in part else part
    return text


def _numbers_at(shape: Shape, pair: Pair) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the numbers of both names that the shape has."""
    ours, theirs = split(pair.to), split(pair.source)
    if shape.is_tail:
        ours, theirs = ours[: len(shape.to) - 1], theirs[: len(shape.source) - 1]
    return _numbers(ours), _numbers(theirs)


def _write_pattern(
    shape: Shape, law: Law, members: Sequence[tuple[str, tuple[int, ...]]], width: int
) -> tuple[str, str]:
    """Return pattern and template.

    Args:
        shape: what the names have in common.
        law: what makes the numbers of the source's names.
        members: for each pair the word for ``@`` and the numbers of the target's name.
        width: 0 lets numbers and tails be any, 1 the numbers only those of the pairs, 2 the tails as well.
    """
    values = [{numbers[p] for _, numbers in members} for p in range(len(members[0][1]))]
    references: dict[int | None, str] = {}
    letters = ("".join(name) for length in (1, 2) for name in itertools.product(_LETTERS, repeat=length))
    pattern, places = "", itertools.count()
    groups = 0
    for piece in shape.to:
        if piece == "#":
            place = next(places)
            text, reference = _number(values[place], [t for t in law if t.place == place], width, (letters, groups + 1))
            references[place] = reference
        elif piece == "@":
            words = sorted({word for word, _ in members})
            wide = shape.is_tail and (width < 2 or len(words) > _MOST_WORDS)
            text = "(.*)" if wide else f"({'|'.join(escape(w) for w in words)})"
            references[None] = f"\\g<{groups + 1}>"
        else:
            text = escape(piece)
        pattern += text
        # Named groups count too: `\g<2>` is the second of all.
        groups += piece in "#@" and text.startswith("(") and not text.startswith("(?:")
    terms = iter(law)
    parts = [_source_piece(piece, terms, references) for piece in shape.source]
    return pattern, _GROUP.sub(r"\\\1", "".join(parts))


def _number(values: set[int], terms: Sequence[Term], width: int, naming: tuple[Iterator[str], int]) -> tuple[str, str]:
    """Return the pattern for one number of the target's names, and what a template says for it.

    Args:
        values: the numbers that stand there.
        terms: what the law does with it.
        width: as for `_write_pattern`.
        naming: letters for names of groups, and the number of the next group.
    """
    text = _values(values, width)
    letters, group = naming
    # What is computed with needs a name; what is copied only the number of its group.
    if any((t.factor, t.offset) != (1, 0) for t in terms):
        letter = next(letters)
        return f"(?P<{letter}>{text})", letter
    if terms and len(values) > 1:
        return f"({text})", f"\\g<{group}>"
    return (f"(?:{text})" if "|" in text else text), str(min(values))


def _source_piece(piece: str, terms: Iterator[Term], references: Mapping[int | None, str]) -> str:
    if piece == "@":
        return references[None]
    if piece != "#":
        return piece.replace("\\", "\\\\").replace("{", "{{").replace("}", "}}")
    term = next(terms)
    if term.place is None:
        return str(term.offset)
    reference = references[term.place]
    if not reference.isalpha():
        return reference
    factor = f"{term.factor}*" if term.factor != 1 else ""
    return f"{{{factor}{reference}{f'{term.offset:+d}' if term.offset else ''}}}"


def _values(values: set[int], width: int) -> str:
    """Return a pattern for numbers."""
    if len(values) == 1:
        return str(next(iter(values)))
    if width == 0:
        return r"\d" if max(values) < 10 else r"\d+"
    ordered = sorted(values)
    if max(values) < 10 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"[{ordered[0]}-{ordered[-1]}]"
    if len(ordered) <= _MOST_VALUES or width == 2:
        return "|".join(str(v) for v in ordered)
    return r"\d+"


def escape(text: str) -> str:
    """Return a pattern that matches `text` alone, with no backslash that is not needed."""
    # `re.escape` also escapes what has a meaning only inside of a set or under re.VERBOSE; a reader would stumble.
    return re.sub(r"\\([-/ #&~])", r"\1", re.escape(text))


def alternatives(names: Iterable[str]) -> str:
    """Return a pattern for exactly these names: numbers as ranges where they fill one, else one beside the other."""
    groups: dict[Pieces, list[Pieces]] = {}
    for name in names:
        pieces = split(name)
        groups.setdefault(_skeleton(pieces), []).append(pieces)
    found = []
    for members in groups.values():
        columns = [set(c) for c in zip(*members, strict=True) if is_number(c[0])]
        # Written as ranges, numbers lose the zeros before them.
        are_plain = all(text == str(int(text)) for column in columns for text in column)
        if are_plain and math.prod(map(len, columns)) == len(members):
            found.append(_as_pattern(members, 2))
        else:
            found += [escape("".join(m)) for m in members]
    return "|".join(found)
