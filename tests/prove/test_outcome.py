"""What a run says of its result at a glance, against numbers of NumPy's."""

import numpy as np
import pytest
from compact import plan_of

import transferpipe as tp
from transferpipe.prove.outcome import find_edits, outcome_lines, range_text
from transferpipe.values.compute import Values

WEIGHTS = "enc/a/k 2x3\n enc/a/b 3\n enc/c/k 3x3\n head/k 3x2\n head/b 2"


def everything(plan):
    return [w.target for w in (*plan.assignments, *plan.kept)]


def lines(plan, edited=()):
    return list(outcome_lines(plan, everything(plan), edited))


def plan(mapping, source=WEIGHTS, **keys):
    return plan_of(WEIGHTS, source, mapping, **{"unmatched": "keep", **keys})


def edited(edits, before, change):
    after = before.copy()
    change(after)
    made = plan({}, None, edit={n: {"at": "enc/c/k", **e} for n, e in edits.items()})
    return made, [find_edits(Values(made, {}, None), "enc/c/k", before, after)]


def test_what_equals_the_source_is_named_by_whole_layers():
    assert lines(plan({"r": {"to": "enc"}})) == [
        ("equal", "all 3 arrays of enc equal the source's, bit for bit"),
        ("kept", "all 2 arrays of head keep the values of the file"),
    ]
    assert lines(plan({"r": {"to": "enc/a"}}))[0][1] == "all 2 arrays of enc/a equal the source's, bit for bit"
    assert lines(plan({"r": {"to": "enc/a/k"}}))[0][1] == "enc/a/k equals the source's, bit for bit"
    assert lines(plan({"r": {"to": "enc/c"}}))[0][1] == "the one array of enc/c equals the source's, bit for bit"
    assert lines(plan({"r": {"to": ".*"}})) == [("equal", "all 5 arrays of the model equal the source's, bit for bit")]


def test_what_is_computed_is_not_called_equal():
    mapping = {"r": {"to": "enc/c", "transform": ["transpose"]}, "s": {"to": "enc/a"}}
    assert lines(plan(mapping))[:2] == [
        ("equal", "all 2 arrays of enc/a equal the source's, bit for bit"),
        ("computed", "the one array of enc/c equals what the plan makes of the sources, computed again"),
    ]
    half = plan_of(WEIGHTS.replace("3x3", "3x3 float16"), WEIGHTS, {"r": {"to": "enc/c"}}, unmatched="keep")
    assert lines(half)[0][0] == "computed"


def test_several_sources_are_told_apart():
    both = {"t": WEIGHTS, "s": WEIGHTS}
    found = lines(plan({"a": {"to": "enc/a", "from": "t:enc/a"}, "c": {"to": "enc/c", "from": "s:enc/c"}}, both))
    assert [text for _, text in found][:2] == [
        "all 2 arrays of enc/a equal those of t, bit for bit",
        "the one array of enc/c equals those of s, bit for bit",
    ]


def test_only_what_was_compared_is_said():
    made = plan({"r": {"to": "enc"}})
    assert list(outcome_lines(made, ["enc/a/k"], ())) == [("equal", "enc/a/k equals the source's, bit for bit")]


BEFORE = np.array([[-0.03124, 1, 2], [3, 4, 5], [6, 7, 8]], "float32")


def test_one_element():
    def change(a):
        a[0, 0] = 99

    made, found = edited({"e": {"index": [0, 0], "set": 99}}, BEFORE, change)
    text = "enc/c/k[0, 0]  -0.0312 -> 99.0; the other 8 elements and 4 weights unchanged"
    assert lines(made, found) == [("edited", text)]
    assert found[0].edits[0].to_data() == {
        "name": "e", "at": "enc/c/k", "index": "0, 0", "operation": "set 99", "elements": 1, "changed": 1,
        "before": [float(BEFORE[0, 0])] * 2, "after": [99.0, 99.0],
    }  # fmt: skip


def test_slices_several_edits_and_whole_arrays():
    def change(a):
        a[0] *= 0.5
        a[2, 2] = 1

    edits = {"a": {"index": [0, ":"], "multiply": 0.5}, "b": {"index": [2, 2], "set": 1}}
    made, found = edited(edits, BEFORE, change)
    assert lines(made, found) == [
        ("edited", "enc/c/k[0, :]  3 elements changed (multiply 0.5): -0.0312 .. 2.0 -> -0.0156 .. 1.0"),
        ("", "enc/c/k[2, 2]  8.0 -> 1.0; the other 5 elements and 4 weights unchanged"),
    ]

    def double(a):
        a *= 2

    made, found = edited({"e": {"index": [":", ":"], "multiply": 2}}, BEFORE, double)
    text = "enc/c/k  9 elements changed (multiply 2): -0.0312 .. 8.0 -> -0.0625 .. 16.0; the other 4 weights unchanged"
    assert lines(made, found) == [("edited", text)]


def test_what_an_edit_did_not_change_is_not_called_changed():
    made, found = edited({"e": {"index": [0, 1], "set": 1}}, BEFORE, lambda a: None)
    assert lines(made, found)[0][1].startswith("enc/c/k[0, 1]  1.0 -> 1.0 (no change); the other 8 elements")

    def change(a):
        a[1] = 4

    made, found = edited({"e": {"index": [1, ":"], "set": 4}}, BEFORE, change)
    assert "2 of 3 elements changed (set 4): 3.0 .. 5.0 -> 4.0" in lines(made, found)[0][1]


def test_elements_that_changed_beside_the_edit_do_not_count_as_unchanged():
    def change(a):
        a[0, 0] = 99
        a[2, 2] = 5

    made, found = edited({"e": {"index": [0, 0], "set": 99}}, BEFORE, change)
    assert (found[0].others, found[0].changed) == (8, 1)
    assert "the other 7 elements" in lines(made, found)[0][1]


def test_an_edit_beside_weights_of_a_source():
    made = plan({"r": {"to": "enc"}}, edit={"e": {"at": "enc/c/k", "index": [0, 0], "set": 99}})
    after = BEFORE.copy()
    after[0, 0] = 99
    assert lines(made, [find_edits(Values(made, {}, None), "enc/c/k", BEFORE, after)]) == [
        ("equal", "all 2 arrays of enc/a equal the source's, bit for bit"),
        ("edited", "enc/c/k[0, 0]  -0.0312 -> 99.0; the other 8 elements unchanged"),
        ("kept", "all 2 arrays of head keep the values of the file"),
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((0.5, 0.5), (1.0, 1.0), "0.5"),
        ((1, 7), (0, 0), "1 .. 7"),
        ((1e-9, 1e-9), (0.0, 0.0), "1e-09"),
        ((1.23456789e9, 1.23456789e9), (0.0, 0.0), "1.235e+09"),
        ((float("nan"), float("nan")), (0.0, 0.0), "nan"),
        ((0.123456, 0.123456), (0.123457, 0.123457), "0.123456"),
        ((False, True), (True, True), "False .. True"),
    ],
)
def test_numbers_are_short_and_can_be_told_apart(before, after, expected):
    assert range_text(before, after) == expected


def test_a_live_transfer_says_it_too():
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(1)
    model, other = (
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")])
        for _ in range(2)
    )
    old = model.get_layer("a").kernel.numpy()
    report = tp.transfer(
        source=other, target=model, mapping={"b": {"to": "b"}}, unmatched="keep",
        edit={"e": {"at": "a/kernel", "index": [1, 2], "add": 1}},
    )  # fmt: skip
    shown = str(report)
    assert "equal    all 2 arrays of b equal the source's, bit for bit" in shown
    new = model.get_layer("a").kernel.numpy()
    assert (
        f"a/kernel[1, 2]  {round(float(old[1, 2]), 4)} -> {round(float(new[1, 2]), 4)}; the other 11 elements" in shown
    )
    assert "a/bias keeps the values of the model" in shown
