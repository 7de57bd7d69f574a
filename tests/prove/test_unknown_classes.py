"""What a file of unknown classes shows by its values alone."""

import ast
from types import SimpleNamespace

import numpy as np
import pytest

from transferpipe.models.class_texts import doubt_class
from transferpipe.models.file_classes import OwnClass, doubt_classes
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
    assert [own for own, _ in doubt_classes(classes)] == sorted(classes)
    assert len(parsed) == 1


HOOK = "load_own_variables"
OTHERS = {
    "their_package/__init__.py": "",
    "their_package/mixins.py": f"class Mixin:\n    def {HOOK}(self, store): ...\nclass Plain:\n    pass\n",
    "their_package/wraps.py": f"def patched(kind):\n    kind.{HOOK} = print\n    return kind\nclass Meta(type): ...\n",
    "their_package/patching/__init__.py": f"from . import inner\ninner.Own.{HOOK} = print\n",
    "their_package/patching/inner.py": "import keras\nclass Own(keras.layers.Dense): ...\n",
}
HEAD = (
    "import abc\nimport keras\nfrom keras import layers as kl\nfrom .mixins import Mixin, Plain\nfrom . import wraps\n"
)
SAVED = "@keras.saving.register_keras_serializable('x')\n"
TEXTS = {
    "defines it": (f"class Own(kl.Dense):\n    def {HOOK}(self, store): ...", "has load hooks"),
    "sets it in its body": (f"class Own(kl.Dense):\n    {HOOK} = print", "has load hooks"),
    "sets it on each object": (f"class Own(kl.Dense):\n    def build(self, s): self.{HOOK} = print", "has load hooks"),
    "a mixin of another module": ("class Own(Mixin, kl.Dense): ...", "has load hooks"),
    "a base of that": ("class Base(Mixin): ...\nclass Own(Base): ...", "has load hooks"),
    "assigned": (f"class Own(kl.Dense): ...\nOwn.{HOOK} = print", "their_package.own sets such"),
    "by setattr": (f"class Own(kl.Dense): ...\nsetattr(Own, '{HOOK}', print)", "their_package.own sets such"),
    "decorated": (f"{SAVED}@wraps.patched\nclass Own(kl.Dense): ...", "wraps.patched may give it such"),
    "a metaclass": ("class Own(kl.Dense, metaclass=wraps.Meta): ...", "wraps.Meta may give it such"),
    "a base that is computed": ("class Own(make(kl.Dense)): ...", "its base make(kl.Dense) is computed"),
    "made by type": ("Own = type('Own', (kl.Dense,), {})", "does not define it"),
    "not there": ("", "does not define it"),
    "a base of a module that is not there": ("from gone import B\nclass Own(B): ...", "the text of gone is not found"),
    "registered alone": (f"{SAVED}class Own(kl.Dense):\n    def call(self, x): return super().call(x)", ""),
    "a mixin without": ("class Own(Plain, keras.layers.Dense, metaclass=abc.ABCMeta): ...", ""),
    "of another class": (f"class Own(kl.Dense): ...\nclass B(kl.Dense):\n    def {HOOK}(self, store): ...", ""),
    "set on another class": (f"class Own(kl.Dense): ...\nclass B(kl.Dense): ...\nB.{HOOK} = print", ""),
    "a base by another name": ("D = kl.Dense\nclass Own(D): ...", ""),
    "generic": ("from typing import Generic, TypeVar\nT = TypeVar('T')\nclass Own(kl.Dense, Generic[T]): ...", ""),
}


@pytest.mark.parametrize("case", TEXTS)
def test_what_a_text_cannot_tell_of_a_class_is_said(tmp_path, monkeypatch, case):
    text, said = TEXTS[case]
    (tmp_path / "their_package" / "patching").mkdir(parents=True)
    for name, content in {**OTHERS, "their_package/own.py": HEAD + text}.items():
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    doubt = doubt_class("their_package.own", "Own")
    assert said in doubt
    assert bool(said) == bool(doubt)
    assert "sets such" in doubt_class("their_package.patching.inner", "Own")
