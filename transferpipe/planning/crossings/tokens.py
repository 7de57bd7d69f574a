"""Names of layers as words and numbers."""

from __future__ import annotations

import re
from functools import cache, lru_cache

from transferpipe.text.numbers import is_number
from transferpipe.weights.keras.layer_classes import is_made_up, stem

# One word for what frameworks and people call by several.
_WORDS = {
    **dict.fromkeys(("q", "wq", "to_q", "query"), "query"),
    **dict.fromkeys(("k", "wk", "key"), "key"),
    **dict.fromkeys(("v", "wv", "value"), "value"),
    **dict.fromkeys(("o", "wo", "out", "output"), "output"),
    **dict.fromkeys(("fwd", "forward"), "forward"),
    **dict.fromkeys(("bwd", "backwards", "reverse", "reversed", "backward"), "backward"),
    **dict.fromkeys(("enc", "encode", "encoder"), "encoder"),
    **dict.fromkeys(("dec", "decode", "decoder"), "decoder"),
    **dict.fromkeys(("dw", "depthwise"), "depthwise"),
    **dict.fromkeys(("pw", "pointwise"), "pointwise"),
    **dict.fromkeys(("l", "lhs", "left"), "left"),
    **dict.fromkeys(("r", "rhs", "right"), "right"),
}

Tokens = tuple[str, ...]


@cache
def _tokens_of_segment(segment: str, counted: bool) -> Tokens:
    if is_made_up(segment):  # conv2d_7: the class is one word
        number = segment[len(stem(segment)) + 1 :]
        return (stem(segment), *((number,) if number and counted else ()))
    found: list[str] = []
    for word in re.split(r"[^0-9A-Za-z]+", segment):
        # `s1b0` is stage 1, block 0; a number that a letter ends, as in `conv2d` and `mixed4a`, is no count of layers.
        counted_word = re.fullmatch(r"([A-Za-z]+\d+)+", word)
        found.extend(
            re.findall(r"[Cc]onv[123][Dd](?=\d)|[A-Za-z]+|\d+", word) if counted_word else [word] if word else []
        )
    return tuple(str(int(t)) if is_number(t) else _WORDS.get(t.lower(), t.lower()) for t in found)


@lru_cache(1 << 16)  # names: each is asked for by several comparisons
def tokens_of(name: str, counted: bool = True) -> Tokens:
    """Return the words and numbers of a layer's name, synonyms as one word.

    Args:
        name: the name.
        counted: whether the numbers count that Keras counts up in names such as ``conv2d_7``.

    >>> tokens_of("block2_conv1/q_proj"), tokens_of("a/conv2d_7", counted=False)
    (('block', '2', 'conv', '1', 'query', 'proj'), ('a', 'conv2d'))
    """
    return tuple(token for segment in name.split("/") for token in _tokens_of_segment(segment, counted))


def numbers_of(tokens: Tokens) -> tuple[int, ...]:
    """Return the numbers among `tokens`."""
    return tuple(int(t) for t in tokens if is_number(t))


def skeleton_of(tokens: Tokens) -> Tokens:
    """Return `tokens` with a ``#`` for each number."""
    return tuple("#" if is_number(t) else t for t in tokens)
