"""The plan as data: its checksum, its JSON, and back."""

import dataclasses
import json
import re
from dataclasses import replace

import pytest
from compact import plan_of, structure

from transferpipe.planning.model import Adaptation, Assignment, SourceRef
from transferpipe.planning.plan import Plan
from transferpipe.planning.reading.read_plan import plan_from_data

TARGET = "enc/kernel 2x3\n enc/bias 3 float16\n bn/gamma 4 float32 BatchNormalization\n head/kernel 3x4\n head/bias 4"
SOURCES = {"t": "a/kernel 3x2\n a/bias 3\n more", "s": "b/kernel 3x2\n b/bias 3\n bn/gamma 4"}
MAPPING = {
    "enc": {
        "to": "enc",
        "from": ["t:a", "s:b"],
        "merge": {"linear": [0.5, 0.5]},
        "transform": {"kernel": ["transpose"]},
    },
    "bn": {"to": "bn", "from": "s:bn"},
    "head": {"to": "head", "from": None},
}
KEYS = {
    "edit": {
        "e": {"at": "head/kernel", "index": [1, ":2"], "set": 2.5},
        "f": {"at": "head/bias", "index": [0], "add": 1},
    },
    "freeze": ["enc"],
    "ignore": ["t:more"],
    "save": {"path": "m.keras", "also": ["m.npz"]},
    "seed": 5,
}


def plan(mapping=None, target=TARGET, sources=None, **keys) -> Plan:
    return plan_of(target, sources or SOURCES, {**MAPPING, **(mapping or {})}, **{**KEYS, **keys})


def test_the_checksum_is_short_and_no_number():
    assert re.fullmatch(r"p[0-9a-f]{11}", plan().checksum)


def test_the_checksum_is_the_same_wherever_and_whenever_it_is_computed():
    assert plan().checksum == plan().checksum == "p4af502c04ec"


def rule(name, **keys):
    return {"mapping": {name: {**MAPPING[name], **keys}}}


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 6},
        {"freeze": ["bn"]},
        {"ignore": []},
        {"save": {"path": "m.keras"}},
        {"edit": {}},
        {"edit": {**KEYS["edit"], "e": {"at": "head/kernel", "index": [1, ":2"], "set": 2.6}}},
        {"edit": {**KEYS["edit"], "e": {"at": "head/kernel", "index": [0, ":2"], "set": 2.5}}},
        {"edit": {**KEYS["edit"], "e": {"at": "head/kernel", "index": [1, ":2"], "add": 2.5}}},
        {"target": TARGET.replace("bias 3 float16", "bias 3 float32")},
        {"sources": {**SOURCES, "t": SOURCES["t"] + "\n else"}, "ignore": ["t:.*"]},
        rule("enc", merge={"linear": [0.4, 0.6]}),
        rule("enc", merge="mean"),
        rule("enc", **{"from": ["s:b", "t:a"]}),
        rule("head", **{"from": "s:bn", "on_mismatch": "keep", "to": "bn/gamma"})
        if False
        else rule("bn", **{"from": None}),
        rule("bn", transform=[{"scale": 2}]),
    ],
)
def test_the_checksum_changes_with_what_is_decisive(change):
    assert plan(**change).checksum != plan().checksum


def test_the_checksum_does_not_change_with_what_is_not():
    first = plan()
    same = [
        plan(name="another"),
        plan(unused="error", ignore=["t:more"]),
        plan(verify={"nonfinite": "allow"}),
        plan(expect="p0"),
        plan(mapping={"off": None}),
        plan(rule("enc", optional=True, on_mismatch="keep")["mapping"]),
        plan(rule("enc", **{"to": "en(c)", "from": ["t:a", "s:b"]})["mapping"]),
        plan(sources=dict(reversed(SOURCES.items()))),
        plan(edit=dict(reversed(KEYS["edit"].items()))),
        plan(freeze=["enc", "en."]),
        dataclasses.replace(first, warnings=()),
    ]
    assert {p.checksum for p in same} == {first.checksum}


def test_the_order_of_rules_means_nothing_not_even_to_warnings():
    mapping = {
        "b": {"to": "l2/kernel", "from": "m/1", "except": "gone"},
        "a": {"to": "l1/kernel", "from": "m/0", "except": "lost"},
        "c": {"to": "n", "from": "n", "except": "away", "pair": "order"},
        "nothing": {"to": "zzz", "optional": True, "except": "ever"},
    }
    target = "l1/kernel 4x4\n l2/kernel 4x4\n n/x\n n/y"
    source = "m/0 4x4 float32 Mine\n m/1 4x4 float32 Mine\n n/x1\n n/y1"
    one = plan_of(target, source, mapping)
    other = plan_of(target, source, dict(reversed(mapping.items())))
    assert len(one.warnings) > 6
    assert one == other
    assert str(one) == str(other)


def test_data_is_plain_json_and_back():
    first = plan()
    data = first.to_data()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    back = plan_from_data(data)
    assert back == first
    assert back.checksum == first.checksum
    assert plan_from_data({"checksum": "p0", **data}) == first
    assert str(back) == str(first)


def test_a_plan_of_every_shape_comes_back():
    target = structure("s -\n a/kernel 0x3\n b/kernel 2x2 bfloat16", ". Model off\n a Dense\n b Dense unrecorded")
    keys = {
        "edit": {"x": {"at": "s", "index": [], "set": 1}},
        "freeze": "transferred",
        "unmatched": "same_name_or_keep",
    }
    mapping = {"r": {"to": "a", "on_mismatch": "keep"}}
    first = plan_of(target, "s -\n a/kernel 1x3\n b/kernel 2x2", mapping, **keys)
    assert plan_from_data(json.loads(json.dumps(first.to_data()))) == first


@pytest.mark.parametrize(
    "damage",
    [
        *({"assignments": x} for x in (None, 3, "x", [1], ["x"], [{}])),
        *({"kept": x} for x in (None, [3], [{"shape": 3}], [{}])),
        *({"freezing": x} for x in (None, 3, [3], ["abc"], {"layer": []}, {"layers": 1, "x": 2})),
        *({"source_weights": x} for x in (None, [{}], [{"a": 1}])),
        *({"edits": x} for x in (3, [{}], ["index"])),
        *({"warnings": x} for x in (3, [{"code": "a"}])),
        *({"save": 3}, {"unknown": 1}),
    ],
)
def test_damaged_data_is_refused(damage):
    with pytest.raises((KeyError, TypeError, ValueError)):
        plan_from_data({**plan().to_data(), **damage})


@pytest.mark.parametrize(
    "key", ["assignments", "kept", "source_weights", "edits", "freezing", "save", "recipe", "target"]
)
def test_missing_data_is_refused(key):
    data = plan().to_data()
    del data[key]
    with pytest.raises((KeyError, TypeError, ValueError)):
        plan_from_data(data)


def test_printing_shows_the_table():
    from transferpipe.planning.tables.plan_table import plan_html, plan_text

    first = plan()
    assert str(first) == plan_text(first)
    assert plan_html(first) in first._repr_html_()


def test_plans_of_the_first_format_are_read_and_keep_their_checksum():
    ref = SourceRef("source", "a", (2, 3), "float32")
    new = replace(
        plan(),
        assignments=(
            Assignment(
                "b",
                "r",
                (ref,),
                (3, 2),
                "float32",
                "float32",
                None,
                ({"scale": 2.0},),
                (Adaptation(1, ("transpose",)),),
                "order",
            ),
        ),
    )
    data = new.to_data()
    assert data.pop("format_version") == 3
    (assignment,) = data["assignments"]
    assert assignment.pop("pair") == "order"
    assignment["transforms"] = [*assignment.pop("adapter")[0]["transforms"], *assignment["transforms"]]
    old = plan_from_data(data)
    assert old.assignments[0].steps == new.assignments[0].steps == ("transpose", {"scale": 2.0})
    assert old.checksum == new.checksum


def test_a_plan_of_a_newer_version_is_not_read_as_if_it_were_known():
    with pytest.raises(ValueError, match="format_version is 4; this version of transferpipe reads 1 to 3"):
        plan_from_data({**plan().to_data(), "format_version": 4})
