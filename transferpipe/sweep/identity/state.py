"""What a variant was made of: so that results of a recipe as it was are not taken for those of the recipe as it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from transferpipe.recipe.keys import RECIPE, SECTIONS
from transferpipe.sweep.identity.inputs import inputs_of, versions_of

State = Mapping[str, Any]
"""Digests: of ``recipe`` and ``score`` as texts, the ``versions``, and each of the ``inputs`` by its name."""


def state_of(recipe: Mapping[str, Any], written: Collection[str] = ()) -> State:
    """Return short digests of what `recipe` comes to now, its files and modules included, but those in `written`."""
    beside = {key.name for key in SECTIONS[RECIPE].values() if key.beside}
    # A recipe of an earlier version has no key where this one has null.
    transfer = {k: v for k, v in recipe.items() if k not in beside and not (k == "quantize" and v is None)}
    inputs = {text: _digest(mark) for text, *mark in inputs_of(recipe, written)}
    return {
        # Apart from each other, so that a reader is told which part is not the same any more.
        "recipe": _digest(transfer),
        "score": _digest(recipe.get("score")),
        "inputs": inputs,
        "versions": _digest(versions_of(recipe)),
    }


def changes(before: State, now: State) -> list[str]:
    """Return what differs between two states, as a reader would name it."""
    found = [f"the {part}" for part in ("recipe", "score") if before.get(part) != now.get(part)]
    if before.get("versions", now.get("versions")) != now.get("versions"):  # earlier records have none
        found.append("the versions of packages")
    was, is_now = before.get("inputs") or {}, now.get("inputs") or {}
    return found + sorted(text for text in was.keys() | is_now.keys() if was.get(text) != is_now.get(text))


def _digest(value: Any) -> str:
    # Eight digits: two states of one sweep are compared, not all that there ever were.
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]
