r"""Writing many similar names as few: ``block{1,{2,3}{a,b}}_{conv,bn}/*``, as a shell would read it, and exactly.

What is written stands for the names that were given and for no others:

* ``{1..3}`` and ``{a..c}`` are ranges, ``{1..3,7}`` and ``{conv,bn}`` lists; braces may stand in braces;
* several in one text mean every combination, the last changing first;
* ``\1`` is what the first braces of the same text stand for, once more.

Names that are compared as pairs (`Grid`) are written so that both texts stand for their names in the same order.
"""

from __future__ import annotations

import itertools
import math
import re
import sys
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

_NUMBER, _LETTER = r"(?<!\d)\d{1,18}(?!\d)", r"(?<![^\W\d_])[A-Za-z](?![^\W\d_])"
_INDEX = re.compile(f"{_NUMBER}|{_LETTER}")
_COMPOUND = re.compile(rf"{_NUMBER}{_LETTER}|{_INDEX.pattern}")
_PARTS = re.compile(f"({_COMPOUND.pattern})")
_BRACES = re.compile(r"\{(?:[^{}]|\{[^{}]*\})*\}")
_WRITTEN_OTHERWISE = re.compile(r"[{}*,\\]")


def counted(count: int, noun: str) -> str:
    """Return ``1 weight``, ``2 weights``."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def is_plain(name: str) -> bool:
    r"""Tell whether a name has nothing in it that means something in the way series are written.

    >>> is_plain("block1/conv"), is_plain("a{1}"), is_plain(r"a\b")
    (True, False, False)
    """
    return not _WRITTEN_OTHERWISE.search(name)


def braces(names: Iterable[str]) -> str:
    """Return ``kernel``, or ``{kernel,bias}`` for several names.

    >>> braces(["kernel", "bias", "kernel"])
    '{kernel,bias}'
    """
    unique = list(dict.fromkeys(names))
    return unique[0] if len(unique) == 1 else "{" + ",".join(unique) + "}"


def collapse(names: Iterable[str]) -> str:
    """Return one text for `names`: its parts between commas that stand outside of braces are `series_of` them.

    >>> collapse(["block1_conv1", "block1_conv2", "block2_conv1", "head"])
    'block1_conv{1..2}, block2_conv1, head'
    """
    unique = list(dict.fromkeys(names))
    return unique[0] if len(unique) == 1 else ", ".join(text for text, _ in series_of(unique))


def series_of(names: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Return few texts that stand for all `names`, each with its own, in the order of their first.

    Names are of one series where they differ in numbers and single letters, and in words of their last part behind
    those: ``block{4{a..c},5{a..e}}_{expand,project}_conv``; or in words alone, where all have the same words behind
    them: ``{stem,top}_{conv,bn}``.
    """
    unique = list(dict.fromkeys(names))
    place = {name: k for k, name in enumerate(unique)}
    stems: dict[tuple[str, ...], dict[tuple[str, ...], dict[str, str]]] = {}
    for name, (before, values, ending) in _stems([n for n in unique if is_plain(n)]).items():
        # An empty ending beside others would have to be written {,_bn}: it is a series of its own.
        stems.setdefault((*before, "" if ending else "."), {}).setdefault(values, {})[ending] = name
    found = [(name, [name]) for name in unique if not is_plain(name)]
    found += _series_of_words(stems)
    for (*pieces, _), by_values in stems.items():
        alike: dict[tuple[str, ...], list[SeriesMember]] = {}
        for values, named in by_values.items():
            alike.setdefault(tuple(sorted(named)), []).append(SeriesMember(values))
        for pairs in alike.values():
            for grid in grids(pairs):
                endings, last = _alternatives([*by_values[grid.pairs[0].target]])
                text = write(pieces, grid.columns) + last
                found.append((text, [by_values[p.target][e] for p in grid.pairs for e in endings]))
    return sorted(found, key=lambda entry: min(place[name] for name in entry[1]))


def _series_of_words(
    stems: dict[tuple[str, ...], dict[tuple[str, ...], dict[str, str]]],
) -> list[tuple[str, list[str]]]:
    """Take those out of `stems` that count nothing and have the same several endings; return their texts and names."""
    alike: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for key, by_values in stems.items():
        if [*by_values] == [()] and len(by_values[()]) > 1:
            above = key[0][: key[0].rfind("/") + 1]
            alike.setdefault((above, *sorted(by_values[()])), []).append(key)
    found = []
    for (above, *_), keys in alike.items():
        if len(keys) > 1:
            named = [stems.pop(key)[()] for key in keys]
            endings, last = _alternatives([*named[0]])
            text = above + braces(key[0][len(above) :] for key in keys) + last
            found.append((text, [names[ending] for names in named for ending in endings]))
    return found


def split_name(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the texts between the numbers and single letters of a name, and these.

    >>> split_name("block1_conv2_b/kernel")
    (('block', '_conv', '_', '/kernel'), ('1', '2', 'b'))
    """
    return tuple(_INDEX.split(name)), tuple(_INDEX.findall(name))


def _stems(names: Sequence[str]) -> dict[str, tuple[tuple[str, ...], tuple[str, ...], str]]:
    """Return of each name the texts between its indices, these, and the words behind them that may take turns."""
    shapes: dict[tuple[str, ...], dict[str, tuple[str, ...]]] = {}
    for name in names:
        parts = _PARTS.split(name)  # texts and indices in turn; of thousands of names, the indices are few
        shapes.setdefault(tuple(parts[::2]), {})[name] = tuple(map(sys.intern, parts[1::2]))
    stems: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {}
    for texts, alike in shapes.items():
        varying = [k for k, values in enumerate(zip(*alike.values(), strict=True)) if len(set(values)) > 1]
        count = varying[-1] + 1 if varying else 0
        # Behind what varies, all are the same.
        first, marks = next(iter(alike.items()))
        end = sum(map(len, (*texts[:count], *marks[:count])))
        cut = _cut(first, end)
        pieces, ending = (*texts[:count], first[end:cut]), first[cut:]
        stems |= {name: (pieces, marks[:count], ending) for name, marks in alike.items()}
    return stems


def _cut(name: str, end: int) -> int:
    """Return where the words of a name begin that may take turns: in its last part, behind `end`."""
    last = name.rfind("/") + 1
    if end:
        return max(end, last)
    word = name.rfind("_", last + 1)
    return word if word > 0 else last or len(name)


def _alternatives(endings: Sequence[str]) -> tuple[list[str], str]:
    """Return the endings of names and one text for them in that order, what they have in common outside the braces.

    >>> _alternatives(["_expand_conv", "_project_conv"])
    (['_expand_conv', '_project_conv'], '_{expand,project}_conv')
    >>> _alternatives(["_se_reduce", "_bn", "_se_expand"])
    (['_se_reduce', '_se_expand', '_bn'], '_{se_{reduce,expand},bn}')
    """
    if len(endings) == 1:
        return [*endings], endings[0]
    words = [re.findall(r"_|[^_]+", e) for e in endings]
    if grid := _word_grid(words):
        return [*map("".join, itertools.product(*_word_columns(words)))], grid
    front = 0
    while all(len(w) > front + 1 and w[front] == words[0][front] for w in words):
        front += 1
    back = 0
    while all(len(w) > front + back + 1 and w[-1 - back] == words[0][-1 - back] for w in words):
        back += 1
    before, behind = "".join(words[0][:front]), "".join(words[0][len(words[0]) - back :])
    middle, text = _by_first_word(["".join(w[front : len(w) - back]) for w in words])
    return [before + m + behind for m in middle], before + text + behind


def _by_first_word(endings: Sequence[str]) -> tuple[list[str], str]:
    """Return endings in the order in which one text with braces stands for them, their first words written once.

    >>> _by_first_word(["a_x", "a_y", "b_x", "b_y", "c"])[1]
    '{{a,b}_{x,y},c}'
    """
    rests: dict[str, list[str]] = {}
    for ending in endings:
        first = ending[: (ending.find("_", 1) + 1 or len(ending) + 1) - 1]
        rests.setdefault(first, []).append(ending[len(first) :])
    alike: dict[tuple[str, ...], list[str]] = {}
    for first, behind in rests.items():
        if len(behind) > 1 and "" not in behind:
            alike.setdefault(tuple(behind), []).append(first)
        else:  # nothing can be written once
            alike |= {(first + rest,): [""] for rest in behind}
    order, parts = list[str](), list[str]()
    for same, firsts in alike.items():
        found, text = _alternatives(same)
        order += [first + rest for first in firsts for rest in found]
        parts.append(braces(firsts) + text)
    return order, braces(parts)


def _word_grid(words: Sequence[Sequence[str]]) -> str:
    """Return one text for endings that are all combinations of words at the same places; nothing for others.

    >>> _word_grid([["_", "a", "_", "c"], ["_", "b", "_", "c"], ["_", "a", "_", "d"], ["_", "b", "_", "d"]])
    '_{a,b}_{c,d}'
    """
    if len({len(w) for w in words}) > 1:
        return ""
    columns = _word_columns(words)
    return "".join(map(braces, columns)) if math.prod(map(len, columns)) == len(words) else ""


def _word_columns(words: Sequence[Sequence[str]]) -> list[list[str]]:
    return [list(dict.fromkeys(column)) for column in zip(*words, strict=True)]


# Grids --------------------------------------------------------------------------------------------------------------

Column = list[str] | int
"""The values at one place of a series, or the earlier place whose value it repeats."""


@dataclass(frozen=True, slots=True)
class SeriesMember:
    """What tells one of a series from the others, on both sides.

    Attributes:
        target: the values at its places.
        origins: the same of each name that it goes with.
    """

    target: tuple[str, ...]
    origins: tuple[tuple[str, ...], ...] = ()


class Grid:
    """Pairs whose targets are all combinations of a few values, while their origins count up as they do.

    An origin's place has one value throughout, or one for each value of one place of the target, in the same order.
    An origin has such a place for each place of the target that varies, or for none. So both texts, read in order,
    give the pairs.
    """

    def __init__(self, pairs: Sequence[SeriesMember]) -> None:
        self.pairs = sorted(pairs, key=lambda p: tuple(map(_order, p.target)))
        self._columns = list(zip(*(p.target for p in self.pairs), strict=True))
        self.columns = _describe(self._columns)

    @cached_property
    def _free(self) -> list[int]:
        return [k for k, column in enumerate(self.columns) if not isinstance(column, int) and len(column) > 1]

    def origin_columns(self, k: int) -> list[Column] | None:
        """Return the places of origin `k`; None if they do not count up as the target's do."""
        columns = list(zip(*(p.origins[k] for p in self.pairs), strict=True))
        described, used = _describe(columns), []
        for place, column in enumerate(described):
            if isinstance(column, int) or len(column) == 1:
                continue
            leader = next((f for f in self._free if _follows(self._columns[f], columns[place])), None)
            if leader is None:
                return None
            used.append(leader)
        return described if used in ([], self._free) else None

    @property
    def holds(self) -> bool:
        """Whether it is a grid."""
        sizes = [len(column) for column in self.columns if not isinstance(column, int)]
        if math.prod(sizes) != len(self.pairs):
            return False
        return all(self.origin_columns(k) is not None for k in range(len(self.pairs[0].origins)))


def _describe(columns: Sequence[tuple[str, ...]]) -> list[Column]:
    found: list[Column] = []
    for place, column in enumerate(columns):
        values = sorted(set(column), key=_order)
        earlier = columns.index(column)
        found.append(earlier if len(values) > 1 and earlier < place else values)
    return found


def _follows(column: Sequence[str], other: Sequence[str]) -> bool:
    """Tell whether `other` has one value for each of those of `column`, counting up as they do."""
    pairs = sorted(set(zip(column, other, strict=True)), key=lambda p: (_order(p[0]), _order(p[1])))
    return all(_order(a) < _order(b) and _order(x) < _order(y) for (a, x), (b, y) in pairwise(pairs))


def grids(pairs: Sequence[SeriesMember]) -> list[Grid]:
    """Return few grids that together are the pairs, whose targets must differ."""
    found = _split(pairs)
    while len(found) > 1:
        fewer = _merge_grids(found)
        if len(fewer) == len(found):
            break
        found = fewer
    return found


def _split(pairs: Sequence[SeriesMember]) -> list[Grid]:
    whole = Grid(pairs)
    if len(pairs) == 1 or whole.holds:
        return [whole]
    parts: dict[str, list[SeriesMember]] = {}
    # Divided at the outermost place that varies, as blocks hold layers; `_merge_grids` joins what this cuts apart.
    place = next(k for k, column in enumerate(whole.columns) if isinstance(column, int) or len(column) > 1)
    for pair in whole.pairs:
        parts.setdefault(pair.target[place], []).append(pair)
    return [grid for part in parts.values() for grid in _split(part)]


def _merge_grids(found: Sequence[Grid]) -> list[Grid]:
    """Merge grids that differ at one place."""
    merged = list(found)
    # One place at a time: what agrees everywhere else is one grid if the values there make all combinations.
    for place in range(len(found[0].columns)):
        buckets: dict[Hashable, list[Grid]] = {}
        for grid in merged:
            others = tuple(tuple(sorted({p.target[k] for p in grid.pairs})) for k in range(len(grid.columns)))
            buckets.setdefault(others[:place] + others[place + 1 :], []).append(grid)
        merged = [grid for bucket in buckets.values() for grid in _join(bucket)]
    return merged


def _join(bucket: Sequence[Grid]) -> list[Grid]:
    whole = Grid([p for grid in bucket for p in grid.pairs])
    if len(bucket) == 1 or whole.holds:
        return [whole]
    first, *rest = bucket
    found = [first]
    for grid in rest:
        both = Grid([*found[-1].pairs, *grid.pairs])
        if both.holds:
            found[-1] = both
        else:
            found.append(grid)
    return found


@lru_cache(1 << 14)  # few values stand in many names
def _order(value: str) -> tuple[int, str, int]:
    """Return what sorts numbers by their size, letters by the alphabet, and ``4a`` behind ``3b``."""
    letters = value.lstrip("0123456789")
    # Letters alone come first, as -1; of equal numbers the one with fewer digits: 1 before 01.
    digits = value[: len(value) - len(letters)]
    return (int(digits or -1), letters, len(digits))


def write(pieces: Sequence[str], columns: Sequence[Column]) -> str:
    r"""Return the text of a series: `pieces` with the values of `columns` between them.

    >>> write(["block", "/block", "_conv", ""], [["1", "2"], 0, ["1", "2", "4"]])
    'block{1..2}/block\\1_conv{1,2,4}'
    """
    text, groups, again = pieces[0], 0, list[str]()
    for column, piece in zip(columns, pieces[1:], strict=True):
        if isinstance(column, int):
            again.append(again[column])
            text += again[column] + piece
            continue
        values = values_text(column)
        numbers = itertools.count(groups + 1)
        again.append(_BRACES.sub(lambda _, n=numbers: f"\\{next(n)}", values))  # type: ignore[misc]
        groups += len(_BRACES.findall(values))
        text += values + piece
    return text


def values_text(values: Sequence[str]) -> str:
    """Return numbers, letters, or numbers with letters, in their order, as one text.

    >>> values_text(["1", "2", "3", "7"])
    '{1..3,7}'
    >>> values_text(["1a", "2a", "2b", "3a", "3b", "4a", "4b", "4c"])
    '{1a,{2..3}{a..b},4{a..c}}'
    """
    if len(values) == 1:
        return values[0]
    parts = _runs([v for v in values if v.isdigit() or v.isalpha()])
    lettered: dict[str, list[str]] = {}
    for value in values:
        if not (value.isdigit() or value.isalpha()):
            lettered.setdefault(value[:-1], []).append(value[-1])
    alike: dict[tuple[str, ...], list[str]] = {}
    for number, letters in lettered.items():
        alike.setdefault(tuple(letters), []).append(number)
    groups = [values_text(numbers) + values_text(letters) for letters, numbers in alike.items()]
    return groups[0] if not parts and len(groups) == 1 else "{" + ",".join([*parts, *groups]) + "}"


def _runs(values: Sequence[str]) -> list[str]:
    """Return values in their order, those that count up one by one as a range."""
    runs: list[list[str]] = []
    for value in values:
        if runs and _comes_next(runs[-1][-1], value):
            runs[-1].append(value)
        else:
            runs.append([value])
    # ``{1..2}`` alone reads better than ``{1,2}``; in a list a range of two saves nothing.
    least = 2 if len(runs) == 1 else 3
    return [text for run in runs for text in ([f"{run[0]}..{run[-1]}"] if len(run) >= least else run)]


def _comes_next(value: str, other: str) -> bool:
    if value.isdigit() and other.isdigit():
        alike = len(value) == len(other) or not ((value.startswith("0") and value != "0") or other.startswith("0"))
        return alike and int(value) + 1 == int(other)
    return value.isalpha() and other.isalpha() and ord(value) + 1 == ord(other)
