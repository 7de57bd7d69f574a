"""Vocabularies: what the rows of an embedding mean, as far as a model or its file tells."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from transferpipe.models.source import ModelSource
from transferpipe.models.state.lookups import special_terms
from transferpipe.models.target import FileTarget, ModelTarget
from transferpipe.save.assets import archived, assets_of
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.keras.config import is_layer_config
from transferpipe.weights.name import WeightName

Vocabulary = tuple[str, ...]
"""Every term by its index, those for masking and for unknown words among them."""

_ASSET = "vocabulary.txt"
_NUMBERS = "int"  # the output mode of a lookup that gives every word its number, which is the default


def vocabularies_of(origin: object) -> frozenset[Vocabulary]:
    """Return the vocabularies of the lookup layers of a source or a target; empty where nothing is known of them.

    Raises:
        FileError: the archive is damaged, or is not the one that was opened.
    """
    if isinstance(origin, FileTarget):
        found = [*_in_assets(assets_of(origin)), *_in_config(json.loads(origin.config(()) or "null"))]
    elif isinstance(origin, FileSource):
        found = [*_in_assets(archived(origin)), *_in_config(origin.config)]
    elif isinstance(origin, ModelTarget):
        found = [_of_layer(layer) for layer in origin.lookups]
    elif isinstance(origin, ModelSource):
        found = [_of_layer(layer) for layer in origin.model.lookups]
    else:
        found = []
    return frozenset(v for v in found if v)


def gives_counts(target: object) -> bool:
    """Tell whether a lookup layer of a target gives a value for each word, which a kernel takes, not words' numbers."""
    if isinstance(target, ModelTarget):
        return any(getattr(layer, "output_mode", _NUMBERS) != _NUMBERS for layer in target.lookups)
    return isinstance(target, FileTarget) and any(_modes_in(json.loads(target.config(()) or "null")))


def _modes_in(data: Any) -> Iterator[bool]:
    """Yield of every lookup layer in a configuration whether it gives one value a word."""
    if isinstance(data, Mapping) and is_layer_config(data) and "vocabulary" in data["config"]:
        yield data["config"].get("output_mode", _NUMBERS) != _NUMBERS
    for value in data.values() if isinstance(data, Mapping) else data if isinstance(data, list) else ():
        yield from _modes_in(value)


def _in_assets(members: Iterable[tuple[str, Iterable[bytes]]]) -> Iterator[Vocabulary]:
    for name, chunks in members:
        if WeightName(name).own == _ASSET:
            text = b"".join(chunks).decode(errors="replace")
            yield tuple(text.rstrip("\n").split("\n"))


def _in_config(data: Any) -> Iterator[Vocabulary]:
    """Yield the vocabularies that were given to layers: Keras keeps those in the configuration."""
    if isinstance(data, Mapping) and is_layer_config(data) and isinstance(data["config"].get("vocabulary"), list):
        yield _whole(data["class_name"], data["config"])
    for value in data.values() if isinstance(data, Mapping) else data if isinstance(data, list) else ():
        yield from _in_config(value)


def _whole(layer_class: str, config: Mapping[str, Any]) -> Vocabulary:
    """Return the terms of a configuration with the special ones before them, as they are looked up."""
    special = [str(term) for term in special_terms(layer_class, config)]
    terms = [str(term) for term in config["vocabulary"]]
    # A vocabulary may be given to a layer with its special terms in front, or without them.
    return tuple(terms if terms[: len(special)] == special else [*special, *terms])


def _of_layer(layer: Any) -> Vocabulary:
    try:
        return tuple(str(term) for term in layer.get_vocabulary())
    except Exception:  # it has none, or is one of a user's own that calls something else so
        return ()
