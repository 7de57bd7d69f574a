"""The name of a weight is one thing: nobody else takes it apart."""

import json
import pickle
import re
from pathlib import Path

import pytest

import transferpipe
from transferpipe.planning.model import Assignment, Kept, SourceRef, SourceWeight
from transferpipe.weights.name import WeightName
from transferpipe.weights.spec import WeightSpec

PACKAGE = Path(transferpipe.__file__).parent
NAMES = {
    "encoder/block_1/dense/kernel": ("encoder/block_1/dense", "kernel", ["encoder/block_1/dense", "encoder/block_1", "encoder", ""]),
    "dense/kernel": ("dense", "kernel", ["dense", ""]),
    "scale": ("", "scale", [""]),
    "a.b/0": ("a.b", "0", ["a.b", ""]),
    "": ("", "", []),
}  # fmt: skip


@pytest.mark.parametrize("text", NAMES)
def test_the_parts_of_a_name(text):
    layer, own, above = NAMES[text]
    name = WeightName(text)
    assert (name.layer, name.own, name.ancestors) == (layer, own, above)
    found = [
        WeightSpec(text, (1,), "float32"),
        SourceRef("s", text, (1,), "float32"),
        SourceWeight("s", text, "used"),
        Assignment(text, "r", (), (1,), "float32", "float32"),
        Kept(text, "r", "no rule", (1,), "float32"),
    ]
    assert {w.layer for w in found} == {layer}
    assert {w.own_name if isinstance(w, WeightSpec) else w.own for w in found} == {own}


def test_a_name_is_a_text_that_nobody_changes():
    name = WeightName("a/kernel")
    assert (name, hash(name), json.dumps(name), f"{name!r}") == (
        "a/kernel",
        hash("a/kernel"),
        '"a/kernel"',
        "'a/kernel'",
    )
    assert pickle.loads(pickle.dumps(name)).layer == "a"
    with pytest.raises(AttributeError):
        name.layer = "b"
    with pytest.raises(AttributeError):
        name.other = "b"


def test_nobody_else_takes_the_name_of_a_weight_apart():
    taken = re.compile(
        r"\b(?:target|ref\.name|spec\.name|weight|weight\.name|w\.name)\.rp(?:artition|split)\(\"/\"\)\["
    )
    found = [
        f"{path.relative_to(PACKAGE)}: {match[0]}"
        for room in ("planning", "values", "prove", "execute", "score", "show", "differences", "save")
        for path in (PACKAGE / room).rglob("*.py")
        for match in taken.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []
