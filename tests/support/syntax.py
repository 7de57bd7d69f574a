"""The syntax of the package's own modules, parsed once for all tests that look through it.

Tests ask for it when they run, not when they are collected: every worker collects all of them.
"""

import ast
import functools
from pathlib import Path

import transferpipe

PACKAGE = Path(transferpipe.__file__).parent


@functools.cache
def trees():
    """Return the syntax of every module of the package by its path, in the order of paths."""
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
