"""What a file of unknown classes shows by its values alone."""

import ast
from types import SimpleNamespace

import numpy as np

from transferpipe.models.file_classes import OwnClass, find_hooked
from transferpipe.prove.unknown_classes import _find_parted
from transferpipe.weights.spec import WeightSpec, catalog_of

PARSE = ast.parse


def parted(before, after):
    """Return the pair that is found of weights called by number, and how often each was read."""
    specs = [WeightSpec(name, value.shape, value.dtype.name) for name, value in before.items()]
    reads = []

    def read(name):
        reads.append(name)
        return before[name]

    target = SimpleNamespace(source=SimpleNamespace(catalog=catalog_of(specs, "f")), read=read)
    return _find_parted(target, SimpleNamespace(value=after.__getitem__)), reads


def test_each_weight_is_read_once_however_many_have_one_shape():
    values = {f"layer{i}/0": np.array([i, i + 1.0]) for i in range(500)}
    pair, reads = parted(values, values)
    assert pair is None
    assert len(reads) <= len(values)


def test_two_that_were_equal_and_differ_now_are_found():
    values = {name: np.array([1.0, 2.0]) for name in ("a/kernel", "b/0", "c/0")} | {"d/0": np.array([3.0, 3.0])}
    assert parted(values, values)[0] is None
    assert parted(values, {**values, "a/kernel": np.array([1.0, 5.0])})[0] == ("a/kernel", "b/0")
    assert parted(values, {**values, "c/0": np.array([1.0, 5.0])})[0] == ("b/0", "c/0")
    assert parted(values, {**values, "d/0": np.array([1.0, 5.0])})[0] is None


def test_a_module_is_parsed_once_however_many_of_its_classes_are_named(tmp_path, monkeypatch):
    text = "".join(f"class C{i}:\n    def load_own_variables(self, store): ...\n" for i in range(50))
    (tmp_path / "named_classes.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    parsed = []
    monkeypatch.setattr(ast, "parse", lambda data, *given, **more: parsed.append(1) or PARSE(data, *given, **more))
    classes = [OwnClass("named_classes", f"C{i}", f"C{i}") for i in range(50)]
    assert find_hooked(classes) == sorted(classes)
    assert len(parsed) == 1
