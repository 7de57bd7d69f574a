"""From a frozen dataclass to the JSON Schema of what is written of it: fields, their types, and what docstrings say."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Schema = dict[str, Any]
_PLAIN: Mapping[Any, str] = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def schema_of(kind: Any, definitions: dict[str, Schema]) -> Schema:
    """Return the schema of a type; those of the dataclasses in it go into `definitions`, by name.

    Raises:
        TypeError: the type is none that records are made of.
    """
    if kind is Any:
        return {}
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(part, definitions) for part in inner]}
    if origin is tuple and inner[1:] == (...,):
        return {"type": "array", "items": schema_of(inner[0], definitions)}
    if origin is tuple:
        parts = [schema_of(part, definitions) for part in inner]
        return {"type": "array", "items": parts, "minItems": len(parts), "maxItems": len(parts)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": schema_of(inner[1], definitions)}
    if is_dataclass(kind) and isinstance(kind, type):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}  # it may hold itself
            definitions[kind.__name__] = _object(kind, definitions)
        return {"$ref": f"#/definitions/{kind.__name__}"}
    raise TypeError(f"{kind!r} has no JSON Schema here")


def _object(kind: type, definitions: dict[str, Schema]) -> Schema:
    """Return what is written of a dataclass: what has a default may be left out."""
    hints, about = get_type_hints(kind), _attributes(kind)
    inner = {
        f.name: {**({"description": about[f.name]} if f.name in about else {}), **_whole(hints[f.name], definitions)}
        for f in fields(kind)
    }
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    return {"type": "object", "properties": inner, "required": required, "additionalProperties": False}


def _whole(kind: Any, definitions: dict[str, Schema]) -> Schema:
    """Return the schema of a type so that a description can stand beside it, which nothing can beside a reference."""
    schema = schema_of(kind, definitions)
    return {"allOf": [schema]} if "$ref" in schema else schema


def _attributes(kind: type) -> dict[str, str]:
    """Return what a dataclass's docstring says of each attribute."""
    _, _, text = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    for name, about in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE):
        found[name] = " ".join(about.split())
    return found
