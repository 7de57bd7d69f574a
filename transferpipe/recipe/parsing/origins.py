"""Reading `source`, `sources` and `target`: a file, or a builder with nested arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from transferpipe.errors import Problems
from transferpipe.recipe.layouts import AUTO, KERAS, is_layout
from transferpipe.recipe.model import Build, Origin, RepeatedLayers
from transferpipe.recipe.parsing.fields import Fields, describe, is_missing
from transferpipe.recipe.parsing.repeats import parse_repeats

_TARGET = "_target_"
OF_A_FILE = ("path", "format", "layout", "select", "sha256")
"""The keys of an origin that is a file."""
_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def is_build(value: Any) -> bool:
    """Tell whether `value` names a Python callable."""
    return isinstance(value, Mapping) and _TARGET in value


def parse_origin(value: Any, where: str, problems: Problems, section: str = "origin") -> Origin | None:
    """Return the file or builder that `value`, with the keys of `section`, describes; None with the problems noted."""
    if isinstance(value, str):
        value = {"path": value}
    if not isinstance(value, Mapping):
        problems.add(where, f"must be a path or a mapping, not {describe(value)}")
        return None
    if where == "target" and value.get("layout") != KERAS and is_layout(value.get("layout")):
        problems.add(f"{where}.layout", "the target is a Keras model, whose layout is Keras's", "set it on the source")
    if _TARGET in value and value.get("path") is None:  # a place for one on the command line
        value = {key: inner for key, inner in value.items() if key != "path"}
    if "path" in value and _TARGET in value:
        problems.add(where, "`path` and `_target_` are both given", "keep one of them")
        return None
    if is_build(value):
        layout = value.get("layout") if value.get("layout") == AUTO or is_layout(value.get("layout")) else None
        arguments = {k: v for k, v in value.items() if not (k == "layout" and layout)}
        build = parse_build(arguments, where, problems)
        return Origin(build=build, layout=layout or AUTO) if build else None
    fields = Fields(value, where, problems, section)
    path = fields.text("path")
    if not path and (value.get("path") is None or path == "") and not (section == "target" and value.get("like")):
        fields.note("path", "neither `path:` nor `_target_:` is given", "name a file or a builder")
    repeat: tuple[RepeatedLayers, ...] = ()
    if section == "target":
        path, repeat = _parse_like(fields, path)
    select = fields.text("select")
    if select == "":
        fields.note("select", "is empty", "name the keys on the way to the weights, such as model/state_dict")
    requires = fields.mapping("requires") if section == "source" else {}
    layout = fields.choice("layout")
    origin = Origin(path, None, fields.text("format"), layout, select, _digest(fields), repeat, requires)
    fields.finish()
    return origin if path else None


def _parse_like(fields: Fields, path: str | None) -> tuple[str | None, tuple[RepeatedLayers, ...]]:
    """Return the file of a target, which `like` may name in the place of `path`, and what is repeated of it."""
    like = fields.text("like")
    if path and like:
        fields.note("like", "names a file, as `path` does; one of the two is enough")
    return path or like, parse_repeats(fields.mapping("repeat"), fields.at("repeat"), fields.problems)


def _digest(fields: Fields) -> str | None:
    text = fields.text("sha256")
    if text is not None and not _SHA256.fullmatch(text):
        fields.note("sha256", f"must be 64 hexadecimal digits, not {describe(text)}", "take it from `sha256sum FILE`")
        return None
    return text.lower() if text else None


def parse_build(value: Mapping[str, Any], where: str, problems: Problems) -> Build | None:
    """Return the callable and its arguments, nested callables included."""
    name = value[_TARGET]
    if is_missing(name):
        problems.add(f"{where}.{_TARGET}", "a value is required", f"give one: {where}.{_TARGET}=...")
        return None
    if not isinstance(name, str) or not _DOTTED.fullmatch(name):
        near = f"write the module before it: MODULE.{name}" if isinstance(name, str) and name.isidentifier() else ""
        what = f"must be a dotted Python name such as my_models.build, not {describe(name)}"
        problems.add(f"{where}.{_TARGET}", what, near)
        return None
    arguments = {}
    for key, inner in value.items():
        if key == _TARGET:
            continue
        if not isinstance(key, str) or not key.isidentifier() or key.startswith("_"):
            problems.add(f"{where}.{key}", "is not the name of an argument")
        arguments[str(key)] = _argument(inner, f"{where}.{key}", problems)
    return Build(name, arguments, where)


def _argument(value: Any, where: str, problems: Problems) -> Any:
    if is_missing(value):
        problems.add(where, "a value is required", f"give one: {where}=...")
    if is_build(value):
        return parse_build(value, where, problems)
    if isinstance(value, Mapping):
        return {k: _argument(v, f"{where}.{k}", problems) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_argument(v, f"{where}.{i}", problems) for i, v in enumerate(value)]
    return value
