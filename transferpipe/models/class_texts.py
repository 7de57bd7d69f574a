"""What the text of a module tells of a class in it: whether it saves or loads in a way of its own.

The text is read and not run, because a file, and not the recipe, says which module it is. It tells much, not all:
what a decorator, a metaclass or an assignment makes of a class shows only when it runs.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from transferpipe.models.walk import HOOKS
from transferpipe.weights.keras.allowed import LIBRARIES

HAS = "has load hooks of its own"
_DEEPEST = 20  # bases of bases; a module may name itself among its imports
_SETTLED = frozenset({*LIBRARIES, *sys.stdlib_module_names})
"""Packages whose classes, decorators and metaclasses give nobody else's class a load hook."""
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def doubt_class(module: str, name: str, deepest: int = _DEEPEST) -> str:
    """Return that a class has load hooks, or why its text cannot tell, as a sentence goes on about it; empty for none.

    >>> doubt_class("no_such_module", "Own")
    'may have load hooks of its own, as the text of no_such_module is not found'
    """
    if module.partition(".")[0] in _SETTLED:
        return ""
    text = _read(module)
    if text is None or not deepest:
        return _may(f"the text of {module} is not found" if module else "its configuration names no module")
    written = text.classes.get(name, [])
    if any(_names_hook(node) for node in written):
        return HAS
    if any(t.assigned - (t.classes.keys() - {name}) for t in (text, *_read_packages(module))):
        return _may(f"{module} sets such outside of its classes")
    if not written:
        origin = text.find_origin(ast.Name(name))  # a package may bring it from inside
        return doubt_class(*origin, deepest - 1) if origin else _may(f"the text of {module} does not define it")
    return next((doubt for node in written for doubt in _doubt_definition(text, node, deepest)), "")


def _may(why: str) -> str:
    return f"may have load hooks of its own, as {why}"


def _doubt_definition(text: _Text, node: ast.ClassDef, deepest: int) -> Iterator[str]:
    """Yield what speaks against a class that names no hook itself: what takes part in making it, and its bases."""
    if any(isinstance(inner, _Definition) and inner.name == "__init_subclass__" for inner in node.body):
        yield _may(f"the __init_subclass__ of {node.name} may set such")
    decorators = (d.func if isinstance(d, ast.Call) else d for d in node.decorator_list)
    for maker in (*decorators, *(keyword.value for keyword in node.keywords)):
        origin = text.find_origin(maker)
        if origin is None or origin[0].partition(".")[0] not in _SETTLED:
            yield _may(f"{ast.unparse(maker)} may give it such")
    for base in node.bases:
        origin = text.find_origin(base)
        doubt = doubt_class(*origin, deepest - 1) if origin else _may(f"its base {ast.unparse(base)} is computed")
        if doubt:
            yield doubt


def _names_hook(node: ast.ClassDef) -> bool:
    """Tell whether a class defines or sets a load hook; that it calls its base's is none."""
    return any(
        (isinstance(inner, _Definition) and inner.name in HOOKS) or _sets_hook(inner) is not None
        for inner in ast.walk(node)
    )


def _sets_hook(node: ast.AST) -> str | None:
    """Return on what a node sets a load hook: an empty text where it does not say; None where it sets none."""
    if isinstance(node, ast.Attribute) and node.attr in HOOKS and isinstance(node.ctx, ast.Store):
        return ast.unparse(node.value)
    is_name = isinstance(node, ast.Name) and node.id in HOOKS and isinstance(node.ctx, ast.Store)
    is_text = isinstance(node, ast.Constant) and node.value in HOOKS  # for setattr
    return "" if is_name or is_text else None


@dataclass(frozen=True)
class _Text:
    """What a module's text defines.

    Attributes:
        module: its name.
        classes: the classes in it, by name.
        names: where what it imports comes from, by the name that it has here.
        values: what is assigned to names.
        starred: the modules of which it takes all names.
        assigned: on what load hooks are set outside of classes.
    """

    module: str
    classes: Mapping[str, list[ast.ClassDef]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, ast.expr] = field(default_factory=dict)
    starred: tuple[str, ...] = ()
    assigned: frozenset[str] = frozenset()

    def find_origin(self, used: ast.expr, assigned: frozenset[str] = frozenset()) -> tuple[str, str] | None:
        """Return in which module, and by which name there, `used` is defined; None where that is computed."""
        used = used.value if isinstance(used, ast.Subscript) else used  # Generic[T]
        first, _, rest = ast.unparse(used).partition(".")
        if not all(part.isidentifier() for part in (first, *filter(None, rest.split(".")))):
            return None
        if first in self.classes and not rest:
            return self.module, first
        dotted = self.names.get(first)
        value = self.values.get(first)
        if dotted is None and value is not None:
            if not isinstance(value, ast.Name | ast.Attribute) or first in assigned:
                return None
            text = ".".join(filter(None, (ast.unparse(value), rest)))
            return self.find_origin(ast.parse(text, mode="eval").body, assigned | {first})
        if dotted is None and len(self.starred) == 1:
            dotted = f"{self.starred[0]}.{first}"
        if dotted is None:
            return ("builtins", first) if hasattr(builtins, first) and not self.starred else None
        holder, _, last = ".".join(filter(None, (dotted, rest))).rpartition(".")
        return holder, last


def _read_packages(module: str) -> Iterator[_Text]:
    """Yield the texts of the packages that a module is in, which run before it."""
    parts = module.split(".")
    yield from filter(None, (_read(".".join(parts[:i])) for i in range(1, len(parts))))


def _read(module: str) -> _Text | None:
    place = _find_text(module)
    try:
        return _parse(module, place, place.stat().st_mtime_ns) if place else None
    except (OSError, ValueError, SyntaxError, RecursionError):  # it cannot be imported either
        return None


@lru_cache(16)  # a configuration may name thousands of classes of one module
def _parse(module: str, place: Path, _changed: int) -> _Text:
    tree = ast.parse(place.read_bytes())
    classes: dict[str, list[ast.ClassDef]] = {}
    names: dict[str, str] = {}
    values: dict[str, ast.expr] = {}
    starred: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            classes.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                names.setdefault(alias.asname or first, alias.name if alias.asname else first)
        elif isinstance(node, ast.ImportFrom):
            package = module if place.name == "__init__.py" else module.rpartition(".")[0]
            parts = package.split(".") if node.level else []
            source = ".".join([*parts[: len(parts) + 1 - node.level], *([node.module] if node.module else [])])
            starred += [source for alias in node.names if alias.name == "*"]
            for alias in node.names:
                names.setdefault(alias.asname or alias.name, f"{source}.{alias.name}")
        elif isinstance(node, ast.Assign):
            values.update((t.id, node.value) for t in node.targets if isinstance(t, ast.Name))
    return _Text(module, classes, names, values, tuple(starred), frozenset(_set_outside(tree)))


def _set_outside(tree: ast.Module) -> Iterator[str]:
    """Yield on what a module sets load hooks outside of its classes."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))
            if (owner := _sets_hook(node)) is not None:
                yield owner


def _find_text(module: str) -> Path | None:
    """Return where the text of a module lies, which is not imported for it; None where it cannot be found."""
    top, *inner = module.split(".")
    if top in LIBRARIES or not all(part.isidentifier() for part in (top, *inner)):
        return None
    folders = [Path.cwd()]
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    folders += [Path(p).parent for p in (spec.submodule_search_locations or ())] if spec else []
    folders += [Path(spec.origin).parent] if spec and spec.has_location and spec.origin else []
    for folder in folders:
        path = folder.joinpath(top, *inner)
        for place in (path.with_suffix(".py"), path / "__init__.py"):
            if place.is_file():
                return place
    return None
