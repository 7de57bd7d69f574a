"""A builder's call as text, such as ``my_models.build(classes=2)``: the other form of a mapping with `_target_`."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from transferpipe.errors import Problem, RecipeError

_CALL = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+\(.*\)", re.DOTALL)
_BEGUN = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)(?:(\()[^)]*)?$")
_LONGEST = 10_000
"""Of a call: more is a mistake or an attack, and would nest deeper than Python reads."""


def is_call(text: str) -> bool:
    """Tell whether `text` looks like the call of a builder.

    >>> is_call("keras.applications.VGG16(weights=None)"), is_call("models/vgg16.keras")
    (True, False)
    """
    return _CALL.fullmatch(text) is not None


def read_side(text: str, where: str) -> dict[str, Any]:
    """Return what stands in a recipe for a word of the command line: a file or folder, or the call of a builder.

    >>> read_side("old.h5", "A")
    {'path': 'old.h5'}

    Raises:
        RecipeError: it is meant as a call and is none.
    """
    if is_call(text):
        return parse_call(text, where)
    begun = _BEGUN.match(text)
    if begun is None or Path(text).exists():
        return {"path": text}
    if begun[2]:
        raise RecipeError(Problem(where, f"{text!r} is not a call: its brackets are not closed", f"'{begun[1]}()'"))
    if Path(f"{begun[1].partition('.')[0]}.py").is_file():
        what = f"{text!r} is neither a file nor the call of a builder"
        raise RecipeError(Problem(where, what, f"write the call, with its arguments: '{text}()'"))
    return {"path": text}


def parse_call(text: str, where: str) -> dict[str, Any]:
    """Return what stands in a recipe for the call; nothing is called, or imported.

    >>> parse_call("my_models.build(classes=2, backbone=my_models.trunk(depth=3))", "A")
    {'_target_': 'my_models.build', 'classes': 2, 'backbone': {'_target_': 'my_models.trunk', 'depth': 3}}

    Raises:
        RecipeError: it is not a call, or an argument has no name, or is not a value that YAML has.
    """
    try:
        if len(text) > _LONGEST:
            raise ValueError(f"more than {_LONGEST:,} characters")
        found = _value(ast.parse(text, mode="eval").body)
        if not isinstance(found, dict) or "_target_" not in found:
            raise ValueError("it is not a call")
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:  # TypeError: a list as a key
        what = f"{text!r} cannot be read as a builder's call: {getattr(error, 'msg', None) or error}"
        raise RecipeError(Problem(where, what, "give arguments by name: package.function(name=value)")) from error
    return found


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        if node.args:
            raise ValueError("an argument has no name")
        arguments = {k.arg: _value(k.value) for k in node.keywords}
        if None in arguments or len(arguments) < len(node.keywords):
            raise ValueError("an argument has no name of its own")
        return {"_target_": ast.unparse(node.func), **arguments}
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        # ``{**other}`` has no key: what it would add is nowhere in the recipe, and must not be lost without a word.
        if None in node.keys:
            raise ValueError("a mapping has ** in it: write its keys out")
        return {ast.literal_eval(k): _value(v) for k, v in zip(node.keys, node.values, strict=True) if k is not None}
    value = ast.literal_eval(node)
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError(f"{ast.unparse(node)} is not a value that a recipe can have")
    return value
