"""Texts that stand for a mapping: `save: model.npz` is short for `save: {path: model.npz}`.

Hydra does not know that. An override of a key inside, `+save.card=true`, would put a mapping with that key alone in
the text's place, and the path would be lost. So the text is written out before such an override is applied.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, Node

from transferpipe.cli.compose.hydra_private import node_inside, value_in
from transferpipe.recipe.keys import SECTIONS, find_meant_key
from transferpipe.recipe.model import Save


def changes_part_of_text(overrides: Sequence[str]) -> bool:
    """Tell whether an override names a key inside of what may be written as a text."""
    keys = (override.lstrip("+~").partition("=")[0] for override in overrides)
    return any(find_meant_key(tuple(holder.split("."))) for key in keys for holder in _holders(key))


def write_out(overrides: Sequence[str], config: DictConfig) -> list[str]:
    """Return the overrides, and before each that changes a part of a text, one that writes the text out.

    Args:
        overrides: as given, in their order.
        config: what they are applied to.
    """
    if not changes_part_of_text(overrides):
        return [*overrides]
    texts: dict[str, str | None] = {}  # what overrides have made of a key; None for what is no text
    words = []
    for override in overrides:
        parsed = _parse(override)
        key = parsed.key_or_group if parsed is not None else ""
        for holder in _holders(key):
            meant = find_meant_key(tuple(holder.split(".")))
            text = texts[holder] if holder in texts else _text_at(config, holder)
            if meant and text is not None and (quoted := quote_text(text)):
                words.append(f"{holder}={{{', '.join([f'{meant}: {quoted}', *_defaults(holder)])}}}")
                texts[holder] = None
        if parsed is not None and key and not parsed.is_sweep_override():
            value = None if parsed.is_delete() else parsed.value()
            texts[key] = value if isinstance(value, str) else None
        words.append(override)
    return words


def _defaults(holder: str) -> Iterator[str]:
    """Yield what stands in a written-out mapping beside the text: what `conf/config.yaml` gives to every recipe."""
    for key in SECTIONS[holder].values() if holder == "save" else ():
        if key.default != Save.path:
            yield f"{key.name}: {json.dumps(key.default)}"


def quote_text(text: str) -> str | None:
    """Return `text` in quotes, as Hydra's grammar reads exactly it; None where there is no way."""
    for quote in ('"', "'"):
        quoted = f"{quote}{text.replace(quote, chr(92) + quote)}{quote}"
        parsed = _parse(f"key={quoted}")
        if parsed is not None and parsed.value() == text:
            return quoted
    return None


def _parse(override: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(override)
    except (HydraException, ValueError):  # refused when it is applied; Python reads no integer of thousands of digits
        return None


def _holders(key: str) -> Iterator[str]:
    """Yield the keys on the way to a key with dots, outer ones first."""
    parts = key.split(".")
    yield from (".".join(parts[:i]) for i in range(1, len(parts)))


def _text_at(config: DictConfig, holder: str) -> str | None:
    """Return the text that stands at a key with dots, nothing resolved; None if it is something else."""
    node: Node | None = config
    for name in holder.split("."):
        node = node_inside(node, name)
    value = None if node is None else value_in(node)
    return value if isinstance(value, str) else None
