"""The examples in docstrings."""

import ast
import doctest
import importlib
import pkgutil

import pytest

import transferpipe

MODULES = sorted(
    m.name for m in pkgutil.walk_packages(transferpipe.__path__, "transferpipe.") if "__main__" not in m.name
)


def examples(name):
    path = importlib.util.find_spec(name).origin
    with open(path, encoding="utf-8") as file:
        return ">>>" in "".join(
            ast.get_docstring(n) or ""
            for n in ast.walk(ast.parse(file.read()))
            if hasattr(n, "body") and isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef))
        )


@pytest.mark.parametrize("name", filter(examples, MODULES))
def test_examples_in_docstrings_run(name):
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried
    assert not failed
