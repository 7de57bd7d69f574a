"""What frameworks do not publish is asked for behind two doors, and nowhere else."""

import ast
from pathlib import Path

import pytest

import transferpipe

PACKAGE = Path(transferpipe.__file__).parent
DOORS = {
    "models/keras_private.py": ("keras.src", "tensorflow.python"),
    "cli/compose/hydra_private.py": ("hydra._internal", "omegaconf._utils"),
}
PRIVATE = ("keras.src.", "tensorflow.python.")
OF_PYTHON = {("os", "_exit")}
CALLED = ("getattr", "setattr", "hasattr", "delattr")


def modules():
    return sorted(str(p.relative_to(PACKAGE)) for p in PACKAGE.rglob("*.py"))


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and not name.endswith("_")


def is_private_path(name):
    return any(is_private(part) for part in name.split("."))


def own_names():
    """Names with an underscore that the package itself gives to attributes and methods."""
    found = set()
    for module in set(modules()) - DOORS.keys():
        for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and of_itself(node.value):
                found.add(node.attr)
            elif isinstance(node, ast.ClassDef):
                found |= {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
                found |= {n.target.id for n in node.body if isinstance(n, ast.AnnAssign)}
    return {name for name in found if is_private(name)}


def of_itself(value):
    return isinstance(value, ast.Name) and value.id in ("self", "cls")


def private_imports(tree):
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            names = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        for name in names:
            if f"{name}.".startswith(PRIVATE) or (not name.startswith("transferpipe.") and is_private_path(name)):
                yield name


def private_attributes(tree, own):
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and not of_itself(node.value):
            if node.attr not in own and (getattr(node.value, "id", ""), node.attr) not in OF_PYTHON:
                yield node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in CALLED and len(node.args) > 1:
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(str(name.value)):
                yield name.value


def test_only_the_doors_import_what_is_private():
    found = {m: set(private_imports(ast.parse((PACKAGE / m).read_text()))) for m in modules()}
    others = {m: {n for n in names if not n.startswith(DOORS.get(m, ()))} for m, names in found.items()}
    assert {m: names for m, names in others.items() if names} == {}
    assert all(found[door] for door in DOORS)


def test_only_the_doors_name_private_attributes_of_others():
    own = own_names()
    found = {m: set(private_attributes(ast.parse((PACKAGE / m).read_text()), own)) for m in modules()}
    assert {m: names for m, names in found.items() if names and m not in DOORS} == {}


@pytest.mark.parametrize(
    "text",
    [
        "import keras.src.saving", "from keras.src import saving", "from keras import src; import keras.src",
        "from tensorflow.python.eager import context", "from hydra._internal.callbacks import Callbacks",
        "from hydra import _internal", "def f():\n    from keras.src.ops.node import Node",
        "importlib.import_module('keras.src.saving')",
    ],
)  # fmt: skip
def test_private_imports_are_found(text):
    assert list(private_imports(ast.parse(text)))


@pytest.mark.parametrize("text", ["a._b", "a.c()._b = 1", "getattr(a, '_b', None)", "setattr(a, '_b', 1)", "f(a._b)"])
def test_private_attributes_are_found(text):
    assert list(private_attributes(ast.parse(text), {"_other"})) == ["_b"]


def test_what_is_public_is_no_find():
    tree = ast.parse(
        "import keras, tensorflow as tf\nfrom keras.saving import load_model\nself._x = a.b.__dict__; a._own"
    )
    assert (list(private_imports(tree)), list(private_attributes(tree, {"_own"}))) == ([], [])
