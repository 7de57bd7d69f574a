"""Names as words and numbers of one vocabulary, and how much two names have in common.

Finer than ``crossings/tokens.py``, which must not see a likeness that is none: here a likeness is one evidence of
several, and what it proposes is looked at by the crossings afterwards.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from transferpipe.text.numbers import is_number
from transferpipe.weights.keras.layer_classes import is_made_up, stem

NUMBER = "#"

Tokens = tuple[str, ...]

# One word for what frameworks and people call by several.
_ONE_WORD = """
    conv: conv convolution
    norm: norm bn batchnorm batchnormalization layernorm ln gn groupnorm normalization
    norm: rmsnorm normalize layernormalization instancenorm
    dense: dense fc linear lin fully proj projection
    head: head classifier predictions prediction logits top cls heads probs class
    shortcut: shortcut downsample skip sc residual identity
    attention: attention attn mha selfattention multihead sa
    query: query q wq
    key: key k wk
    value: value v wv
    output: output out o wo
    embedding: embedding embeddings embed emb wte tok token tokens word
    pool: pool pooled pooler pooling
    position: position pos positional positions wpe
    type: type segment
    encoder: encoder enc encode
    decoder: decoder dec decode
    forward: forward fwd
    backward: backward bwd reverse reversed backwards
    cross: cross crossattention crossattn
    depthwise: depthwise dw dwconv
    pointwise: pointwise pw project
    expand: expand expansion
    up: up intermediate wi
    mlp: mlp ffn ff feedforward
    left: left lhs
    right: right rhs
    stem: stem patch
    mean: mean mu avg
    var: var variance logvar
    source: source src
    target: target tgt trg
    block: block blocks layer layers stage stages h resblock module s l
"""
_LINES = [line.strip().partition(": ") for line in _ONE_WORD.strip().splitlines()]
_WORD_OF = {word: one for one, _, words in _LINES for word in words.split()}
# What stands in names and tells nothing: containers of everything, counters of axes.
_SILENT = frozenset(
    {"model", "features", "backbone", "net", "network", "base", "params", "self", "1d", "2d", "3d", "d"}
)
_PLACES = {"before": "1", "after": "2"}
_WHERE = frozenset({"post", "after", "behind"})
_PIECES = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\dA-Za-z_]+")  # last, letters of other alphabets
# The 2 of `conv2d` counts axes: as a number of the name it would take part in laws.
_AXES = re.compile(r"(?<=[a-z])[123][dD](?![a-z])")

# A decoder's attention to what the encoder found, as T5, and as BART and Whisper call what others call cross.
_CROSS = re.compile(r"enc_?dec(?=_?att)|(?<=/)encoder(?=_att)", re.IGNORECASE)

_OWN = frozenset({"weight", "bias", "gamma", "beta", "scale"})  # of a norm's weights
_PARTS = frozenset({"attention", "cross", "mlp"})
_PARTS_OF: Mapping[int, Sequence[Tokens]] = {
    2: (("attention",), ("mlp",)),
    3: (("attention",), ("cross", "attention"), ("mlp",)),
}
# Llama's ``input_layernorm`` and ``post_attention_layernorm``, the norm of what comes next.
_PLACED = (("input", "norm"), ("post", "norm"))

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Alone, only up to g: `h`, `k` and `l` are words above. Right behind a number every letter counts: `block6h`.
_COUNTING = _LETTERS[:7]


@dataclass(frozen=True)
class Words:
    """A name, taken apart.

    Attributes:
        tokens: words of one vocabulary and numbers, in their order.
        skeleton: the same with `NUMBER` for each number.
        numbers: the numbers.
        made_up: whether Keras counted one of them up.
    """

    tokens: Tokens
    skeleton: Tokens
    numbers: tuple[int, ...]
    made_up: bool


@cache
def words_of(name: str) -> Words:
    """Return `name` taken apart.

    >>> words_of("encoder/block2_conv2d/qProj").tokens
    ('encoder', 'block', '2', 'conv', 'query', 'dense')
    >>> words_of("decoder/encoder_attn").tokens, words_of("text/encoder_attn").tokens
    (('decoder', 'cross', 'attention'), ('text', 'encoder', 'attention'))
    """
    tokens: list[str] = []
    counted = False
    for segment in (_CROSS.sub("cross", name) if "dec" in name.lower() else name).split("/"):
        made_up = is_made_up(segment)
        counted = counted or made_up
        tokens += _words_in(stem(segment) if made_up else segment)
        if made_up:  # the first of its class has no number
            tokens.append(segment[len(stem(segment)) + 1 :] or "0")
    plain = tuple(str(int(t)) if is_number(t) else t for t in tokens)
    numbers = tuple(int(t) for t in plain if is_number(t))
    return Words(plain, tuple(NUMBER if is_number(t) else t for t in plain), numbers, counted)


def _words_in(segment: str) -> list[str]:
    segment = _AXES.sub("", segment)
    pieces = list(_without_letters(segment))
    # What stands behind the attention is not the attention's: ``post_attention_layernorm`` is that of the next part.
    pieces = [piece for before, piece in zip(["", *pieces], pieces, strict=False) if before not in _WHERE]
    if len(pieces) > 1:  # ``layernorm_before`` and ``layernorm_after`` are what others call norm1 and norm2
        pieces[-1] = _PLACES.get(pieces[-1], pieces[-1])
    return [_WORD_OF.get(piece, piece) for piece in pieces]


def _without_letters(segment: str) -> Iterator[str]:
    """Yield words and numbers, with a number for each letter that counts: ``block1a``, ``conv_b``, but not ``s2b1``."""
    # `b1` is a block (EfficientNet, T5's files), `block1b` the second of several.
    for found in _PIECES.finditer(segment):
        piece, after = found[0].lower(), segment[found.end() : found.end() + 1]
        letters = _LETTERS if segment[: found.start()][-1:].isdigit() else _COUNTING
        counts = len(piece) == 1 and piece in letters and not after.isdigit()
        yield str(letters.index(piece)) if counts else "block" if piece == "b" else piece


class Vocabulary:
    """How much each word of both sides tells: one that all names share tells nothing of which is which."""

    def __init__(self, ours: Iterable[Words], theirs: Iterable[Words]) -> None:
        sides = list(ours), list(theirs)
        # Norms that are only counted stand for what the other side calls by its part; else numbers tell enough.
        named = [any(_PARTS & set(name.skeleton) for name in names) for names in sides]
        self._parts = [_parts_of_norms(sides[k]) if named[1 - k] else {} for k in (0, 1)]
        self._weights: list[dict[str, float]] = []
        for side, names in enumerate(sides):
            counts = Counter(word for name in names for word in set(self._read(side, name)) if word != NUMBER)
            total = len(names)
            # Inverse document frequency, as in text retrieval (Sparck Jones 1972), smoothed.
            self._weights.append({w: math.log(1 + total / c) for w, c in counts.items()})
        # Where both sides have attention to something else, ``self`` tells which one is meant.
        self._silent = _SILENT - {"self"} if all("cross" in side for side in self._weights) else _SILENT
        self._known: dict[tuple[Tokens, Tokens], float] = {}

    def likeness(self, ours: Words, theirs: Words) -> float:
        """Return what two names have in common, from 0 to 1; numbers do not count."""
        key = (self._read(0, ours), self._read(1, theirs))
        if key not in self._known:
            self._known[key] = self._compare(*key)
        return self._known[key]

    def _read(self, side: int, name: Words) -> Tokens:
        return (*name.skeleton, *self._parts[side].get(name.tokens, ()))

    def _compare(self, ours: Tokens, theirs: Tokens) -> float:
        mine, other = (Counter(w for w in side if w != NUMBER and w not in self._silent) for side in (ours, theirs))
        shared = mine & other
        both = sum(n * (self._weights[0].get(w, 0) + self._weights[1].get(w, 0)) for w, n in shared.items())
        total = sum(n * self._weights[0].get(w, 0) for w, n in mine.items())
        total += sum(n * self._weights[1].get(w, 0) for w, n in other.items())
        return both / total if total else 0.0


def _parts_of_norms(names: Iterable[Words]) -> dict[Tokens, Tokens]:
    """Return what words the norms of transformers stand for that are only counted, or called by where they stand.

    A block has one norm for each of its parts, in their order, be it before or behind it.

    >>> sides = [words_of(f"h/{k}/ln_{i}") for k in range(2) for i in (1, 2)]
    >>> _parts_of_norms(sides)[("block", "1", "norm", "2")]
    ('mlp',)
    """
    found: dict[Tokens, Tokens] = {}
    series: dict[Tokens, list[Words]] = {}
    for name in names:
        if "norm" in _layer_of(name.skeleton)[-2:] and not _PARTS & set(name.skeleton):
            series.setdefault(name.skeleton, []).append(name)
    for counted in series.values():
        blocks: dict[tuple[int, ...], set[int]] = {}
        for name in counted:
            blocks.setdefault(name.numbers[:-1], set()).add(name.numbers[-1] if name.numbers else 0)
        runs = {tuple(sorted(run)) for run in blocks.values()}
        parts = _PARTS_OF.get(len(min(runs)))
        # The number of a block alone is none of a part, nor one that runs on otherwise in another block.
        if len(runs) == 1 and parts and () not in blocks and min(runs)[-1] - min(runs)[0] == len(parts) - 1:
            found |= {name.tokens: parts[name.numbers[-1] - min(runs)[0]] for name in counted}
    first, second = (
        [name for skeleton, some in series.items() if _layer_of(skeleton)[-2:] == ends for name in some]
        for ends in _PLACED
    )
    if first and second and len(first) == len(second):  # of four norms, what stands behind a part is that part's
        found |= {name.tokens: part for some, part in zip((first, second), _PARTS_OF[2], strict=True) for name in some}
    return found


def _layer_of(skeleton: Tokens) -> Tokens:
    return skeleton[:-1] if skeleton and skeleton[-1] in _OWN else skeleton
