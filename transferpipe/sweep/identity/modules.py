"""Which of the user's Python files a dotted name depends on: its module, and what that imports of the user's."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

_OURS = "transferpipe."  # whose version stands for all of it
_IMPORTING = ("import_module", "__import__")
_INSTALLED = "site-packages"  # the environment may lie below the working directory


def own_modules(name: str) -> list[Path]:
    """Return the user's files behind a dotted name of a callable, its module first; none if that lies elsewhere.

    Imports are followed as they are written, also inside of functions and as texts of `import_module`. What a module
    imports by a name that it computes is not seen.
    """
    first = _module_of(name)
    found: dict[Path, None] = {}
    queue = [first, *_packages_of(first)] if first else []
    while queue:
        # Breadth first, and each file once: modules may import each other.
        path = queue.pop(0)
        if path not in found:
            found[path] = None
            queue += (
                [p for imported in _imports(path) for p in _files_of(imported)] if not name.startswith(_OURS) else []
            )
    return [*found]


def _module_of(name: str) -> Path | None:
    """Return the user's file that holds what `name` names, whether it has been imported or not."""
    parts = name.split(".")
    # The longest beginning that is a module: what follows are attributes of it.
    for count in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:count]))
        file = getattr(module, "__file__", None)
        # What was imported is what runs, wherever a file of that name lies now.
        if file:
            path = Path(file)
            return path if _is_own(path) and path.is_file() else None
        if found := _file_of(parts[:count]):
            return found
    return None


def _packages_of(module: Path) -> Iterator[Path]:
    """Yield the user's files that importing a module runs first, which its own file need not mention."""
    for folder in module.parents:
        path = folder / "__init__.py"
        if not path.is_file() or not _is_own(path):
            return
        yield path


def _files_of(name: str) -> Iterator[Path]:
    """Yield the user's files that importing a module runs: those of its packages too."""
    parts = name.split(".")
    # Importing a.b.c runs a/__init__.py and a/b/__init__.py first.
    for count in range(1, len(parts) + 1):
        if path := _file_of(parts[:count]):
            yield path


def _file_of(parts: Sequence[str]) -> Path | None:
    if not all(part.isidentifier() for part in parts):
        return None
    here = Path.cwd()
    search = [path for path in map(Path, sys.path) if path.is_absolute() and _is_own(path)]
    for root in dict.fromkeys([here, *search]):
        inside = root.joinpath(*parts)
        for path in (inside.with_suffix(".py"), inside / "__init__.py"):
            if path.is_file():
                return path
    return None


def _is_own(path: Path) -> bool:
    # Below the working directory lies what somebody works on; what is installed has a version.
    return path.is_relative_to(Path.cwd()) and _INSTALLED not in path.parts


def _imports(path: Path) -> Sequence[str]:
    return _imports_in(path, path.stat().st_mtime_ns, path.stat().st_size)


@lru_cache(maxsize=256)  # many variants name the same few modules
def _imports_in(path: Path, _: int, __: int) -> Sequence[str]:
    """Return the names of modules that a file imports, and of what may be one: `from package import module`."""
    try:
        # Parsed, not imported: planning a sweep must run nothing of what its recipes name.
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):  # whoever imports it says so
        return ()
    found: list[str] = []
    # Imports inside of functions too: they run when the builder does.
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, [_package(path, node.level), node.module]))
            # Whether the name is a module or something in one shows only when it is looked for.
            found += [base, *(f"{base}.{alias.name}" if base else alias.name for alias in node.names)]
        elif isinstance(node, ast.Call) and node.args and _name_called(node.func) in _IMPORTING:
            said = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
            if isinstance(said, str):
                inner = said.lstrip(".")
                found.append(".".join(filter(None, [_package(path, len(said) - len(inner)), inner])))
    return tuple(name for name in dict.fromkeys(found) if name)


def _name_called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _package(path: Path, level: int) -> str:
    """Return the package that so many dots stand for in a file below the working directory."""
    folders = path.relative_to(Path.cwd()).parts[:-1] if path.is_relative_to(Path.cwd()) else ()
    return ".".join(folders[: len(folders) - level + 1]) if level else ""
