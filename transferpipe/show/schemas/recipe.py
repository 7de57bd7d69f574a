"""The JSON Schema of a recipe file, made of the table of its keys: for editors that complete and check.

A file may leave out what its `defaults` or the command line gives, leave a value open with ``???``, and fill one in
with ``${...}``; so nothing is required here, and such texts may stand anywhere. What is refused is what the parser
refuses in every recipe: an unknown key, a word that is none of those there are, a value of another kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from transferpipe.planning.transforms import MERGES, TRANSFORMS, Transform
from transferpipe.planning.transforms import OUTSIDE as OTHER_TRANSFORMS
from transferpipe.recipe.keys import RECIPE, SECTIONS, Key, Kind
from transferpipe.recipe.layouts import OUTSIDE
from transferpipe.recipe.parsing.edits import FILE, REST, SLICE
from transferpipe.recipe.sizes import SIZE

Schema = dict[str, Any]
_OPEN = r"^\?\?\?$|\$\{"
"""What is filled in later: a required value, an interpolation."""
_FILLED_IN: Schema = {"type": "string", "pattern": _OPEN}
_NUMBER = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"
_INDEX: Schema = {"type": ["integer", "string"], "pattern": rf"^({SLICE}|{re.escape(REST)})$|{_OPEN}"}
_CALLABLE: Schema = {"type": "string", "description": "the dotted name of a Python callable"}
_CALL: Schema = {"type": ["object", "string"], "required": ["_target_"], "properties": {"_target_": _CALLABLE}}


def recipe_schema() -> Schema:
    """Return the JSON Schema of a recipe file."""
    definitions = {section: _section(section) for section in SECTIONS if section != RECIPE}
    definitions["transform"] = _steps(TRANSFORMS)
    definitions["merge"] = _steps(MERGES)
    return {**_section(RECIPE), "definitions": definitions}


def _section(name: str) -> Schema:
    """Return what a mapping with the keys of a section is; what else may stand in its place, its holder says."""
    properties = {key.name: _describe(key) for key in SECTIONS[name].values()}
    if "_target_" not in properties:
        return {"type": "object", "properties": properties, "additionalProperties": False}
    # The other keys of a call are its arguments.
    only = {"propertyNames": {"enum": list(properties)}, "properties": {"path": {"type": "string"}}}
    properties["path"] = {**properties["path"], "type": ["string", "null"]}  # beside a call, a place for a file to come
    return {"type": "object", "properties": properties, "if": {"required": ["_target_"]}, "then": {}, "else": only}


def _describe(key: Key) -> Schema:
    value = _VALUES[key.kind](key)
    if key.takes_null:
        value = {"anyOf": [*value.get("anyOf", [value]), {"type": "null"}]}
    default = {} if key.default is None else {"default": key.default}
    return {"description": key.about, **default, "examples": [key.example], **value}


def _text(_: Key) -> Schema:
    return {"type": "string"}


def _texts(_: Key) -> Schema:
    return {"type": ["string", "array"], "items": {"type": "string"}}


def _words(key: Key) -> Schema:
    word = {"anyOf": [{"enum": list(key.words)}, _FILLED_IN]}
    return {"anyOf": [*word["anyOf"], {"type": "array", "items": word}]}


def _choice(key: Key) -> Schema:
    return {"anyOf": [{"enum": list(key.words)}, _FILLED_IN]}


def _layout(key: Key) -> Schema:
    return {"anyOf": [{"enum": [*dict.fromkeys((*key.words, *OUTSIDE.names()))]}, _FILLED_IN]}


def _plain(name: str, **more: Any) -> Callable[[Key], Schema]:
    """Return what makes the schema of a value of one type, or of a text that is filled in later."""
    return lambda _: {"type": [name, "string"], "pattern": _OPEN, **more}


def _number_or_text(_: Key) -> Schema:
    return {"type": ["number", "string"], "minimum": 0, "pattern": f"{_NUMBER}|{_OPEN}"}


def _size(_: Key) -> Schema:
    return {"type": ["integer", "string"], "minimum": 1, "pattern": rf"^\s*{SIZE}\s*$|{_OPEN}"}


def _index(_: Key) -> Schema:
    several: Schema = {"type": "array", "items": {"type": "integer"}}
    return {"anyOf": [_INDEX, {"type": "array", "items": {"anyOf": [_INDEX, several]}}]}


def _integers(_: Key) -> Schema:
    return {"anyOf": [_INDEX, {"type": "array", "items": _INDEX}]}


def _numbers(key: Key) -> Schema:
    one: Schema = {"type": ["number", "string"], "pattern": rf"{FILE}|{_OPEN}" if key.kind != "numbers" else _OPEN}
    return {"anyOf": [one, {"type": "array", "items": {"type": "number"}, "minItems": 1}]}


def _share(_: Key) -> Schema:
    share = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
    return {"anyOf": [{"type": "integer", "minimum": 1}, share, _FILLED_IN]}


def _transforms(_: Key) -> Schema:
    steps: Schema = {"type": "array", "items": {"$ref": "#/definitions/transform"}}
    return {"anyOf": [steps, {"type": "object", "additionalProperties": steps}, _FILLED_IN]}


def _entries(key: Key) -> Schema:
    one = _holder_or_text(key)["anyOf"]
    return {"anyOf": [*one, {"type": "array", "items": {"anyOf": one}}]}


def _merge(_: Key) -> Schema:
    return {"$ref": "#/definitions/merge"}


def _builder(_: Key) -> Schema:
    return {**_CALL, "pattern": _OPEN}


def _holder(key: Key) -> Schema:
    """Return a mapping with the keys of a section, or a text that is filled in later."""
    return {"anyOf": [{"$ref": f"#/definitions/{key.section}"}, _FILLED_IN]}


def _holder_or_text(key: Key) -> Schema:
    return {"anyOf": [{"$ref": f"#/definitions/{key.section}"}, {"type": "string"}]}


def _parity(key: Key) -> Schema:
    return {"anyOf": [*_holder_or_text(key)["anyOf"], {"const": False}]}


def _source(_: Key) -> Schema:
    return {"anyOf": [{"type": ["boolean", "string"]}, _CALL]}


def _describe_named(key: Key) -> Schema:
    other = {"type": "string"} if key.kind == "named origins" else {"anyOf": [{"type": "null"}, _FILLED_IN]}
    inner = {"anyOf": [{"$ref": f"#/definitions/{key.section}"}, *other.get("anyOf", [other])]}
    return {"type": ["object", "string"], "additionalProperties": inner, "pattern": _OPEN}


_VALUES: Mapping[Kind, Callable[[Key], Schema]] = {
    "text": _text,
    "texts": _texts,
    "words": _words,
    "choice": _choice,
    "layout": _layout,
    "integer": _plain("integer", minimum=0),
    "number": _plain("number"),
    "tolerance": _number_or_text,
    "flag": _plain("boolean"),
    "size": _size,
    "index": _index,
    "integers": _integers,
    "share": _share,
    "numbers": _numbers,
    "number or file": _numbers,
    "transforms": _transforms,
    "entries": _entries,
    "merge": _merge,
    "builder": _builder,
    "origin": _holder_or_text,
    "file or section": _holder_or_text,
    "parity": _parity,
    "source": _source,
    "section": _holder,
    "named": _describe_named,
    "named origins": _describe_named,
    "mapping": _plain("object"),
    "mappings": _plain("array", items={"type": "object"}),
    "defaults": lambda _: {"type": "array"},
}


def _steps(table: Mapping[str, type[Transform]]) -> Schema:
    """Return a transform, or a merge, of the table: its bare name, or its name with its arguments."""
    named = {name: _arguments(kind) for name, kind in table.items()}
    if table is TRANSFORMS:
        named |= {name: {"description": "of an installed package"} for name in OTHER_TRANSFORMS.names()}
    written = {"type": "object", "properties": named, "additionalProperties": False}
    return {"anyOf": [{"enum": list(named)}, {**written, "minProperties": 1, "maxProperties": 1}, _FILLED_IN]}


def _arguments(kind: type[Transform]) -> Schema:
    """Return the arguments of a transform: of those given by name, the names."""
    about = {"description": (kind.__doc__ or "").strip().partition("\n")[0]}
    if kind.arguments is None:
        return about
    names = {"propertyNames": {"enum": list(kind.arguments)}} if kind.arguments else {"not": {"type": "object"}}
    return {**about, **names}
