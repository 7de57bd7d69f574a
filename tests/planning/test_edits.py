"""Edits of single elements, checked against the target's shapes."""

import pytest
from compact import plan_of, problems_of, structure

from transferpipe.planning.edits import index_of
from transferpipe.recipe.model import Edit

TARGET = "a/kernel 3x4\n a/bias 4\n step -\n none 0x2"


def planned(**edits):
    return plan_of(TARGET, None, unmatched="keep", edit=edits).edits


def refused(edit=None, **edits):
    edits = {"e": edit} if edit else edits
    return problems_of(structure(TARGET, fixed=("a/bias",)), None, unmatched="keep", edit=edits)


def at(name, index, **operation):
    return {"at": name, "index": index, **(operation or {"set": 1})}


@pytest.mark.parametrize(
    "index", [[0, 0], [2, 3], [-3, -4], [":", ":"], ["0:3", "0:4"], ["-3:", ":-1"], ["::2", "::-1"], [1, "3:0:-1"]]
)
def test_what_lies_inside(index):
    (edit,) = planned(e=at("a/kernel", index))
    assert edit.index == tuple(index)


def test_a_scalar_has_no_axes():
    assert planned(e=at("step", []))[0].index == ()
    assert refused(at("step", [0])) == [
        "edit.e.index: [0] has 1 entries, step has shape () -> give 0 entries; ':' means a whole axis"
    ]


@pytest.mark.parametrize(
    ("index", "what"),
    [
        ([3, 0], "axis 0 has 3 elements, 3 is out of range"),
        ([-4, 0], "axis 0 has 3 elements, -4 is out of range"),
        ([0, "0:5"], "axis 1 has 4 elements, the slice '0:5' is empty or out of range"),
        ([0, "-5:"], "axis 1 has 4 elements, the slice '-5:' is empty or out of range"),
        ([0, "2:2"], "axis 1 has 4 elements, the slice '2:2' is empty or out of range"),
        ([0, "3:1"], "axis 1 has 4 elements, the slice '3:1' is empty or out of range"),
        ([0, "::0"], "the slice '::0' has step 0"),
    ],
)
def test_what_lies_outside(index, what):
    (text,) = refused(at("a/kernel", index))
    assert text.startswith(f"edit.e.index: {what} (shape (3, 4) of a/kernel) -> indices go from 0 to ")


@pytest.mark.parametrize(
    ("index", "meant"),
    [
        ("...", [":", ":"]),
        (["..."], [":", ":"]),
        (["...", 2], [":", 2]),
        ([2, "..."], [2, ":"]),
        ([1, "...", 0], [1, 0]),
    ],
)
def test_three_dots_are_all_other_axes(index, meant):
    (edit,) = planned(e=at("a/kernel", index))
    assert edit.index == tuple(meant)
    assert [e.index for e in planned(e=at("a/.*", "..."))] == [(":", ":"), (":",)]


@pytest.mark.follows("_parse_index: write ':' for a")
def test_three_dots_stand_once():
    (text,) = refused(at("a/kernel", ["...", "..."]))
    again = ["...", text.partition("write '")[2][0]]
    assert planned(e=at("a/kernel", again))[0].index == (":", ":")


def test_every_axis_is_checked():
    assert len(refused(at("a/kernel", [3, 4]))) == 2


def test_an_empty_axis_has_no_elements():
    for index in ([0, 0], [":", 0]):
        (text,) = refused(at("none", index))
        assert "axis 0 has 0 elements" in text
        assert text.endswith(" -> it cannot be edited")


@pytest.mark.parametrize("index", [[0], [0, 0, 0], 1])
def test_as_many_entries_as_axes(index):
    (text,) = refused(at("a/kernel", index))
    assert text.endswith("a/kernel has shape (3, 4) -> give 2 entries; ':' means a whole axis")


def test_weights_that_do_not_exist():
    assert refused(at("a/kernle", [0, 0])) == [
        "edit.e.at: the target has no weight 'a/kernle' -> did you mean 'a/kernel'?"
    ]
    (text,) = refused(at("a", [0, 0]))
    assert text.startswith("edit.e.at: the target has no weight 'a' (it is a layer: name one of its weights)")


def test_weights_that_cannot_be_assigned():
    assert refused(at("a/bias", [0])) == [
        "edit.e.at: a/bias is saved by its layer in a way of its own and cannot be edited"
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [([0, 0], [0, 0]), ([-1, 0], [2, 0]), ([":", 1], [1, ":"]), (["0:2", ":"], [1, 3]), (["::2", 0], ["::-1", 0])],
)
def test_two_edits_of_one_element(one, other):
    assert refused(x=at("a/kernel", one), y=at("a/kernel", other)) == [
        "edit.x, edit.y: both change the same element of a/kernel -> merge the two edits"
    ]


@pytest.mark.parametrize(("one", "other"), [([0, 0], [0, 1]), ([":", 1], [":", 2]), (["::2", 0], [1, 0])])
def test_edits_of_different_elements(one, other):
    assert len(planned(x=at("a/kernel", one), y=at("a/kernel", other))) == 2


def test_two_edits_of_a_scalar():
    assert len(refused(x=at("step", []), y=at("step", []))) == 1


def test_the_plan_has_them_in_the_targets_order():
    found = planned(z=at("a/kernel", [0, 0]), a=at("step", []), b=at("a/kernel", [0, 1]))
    assert [e.name for e in found] == ["b", "z", "a"]


def test_the_index_that_numpy_takes():
    edit = Edit("e", "w", (3, "0:3", ":", "-2::-1", " 1 : 2 "), "set", 1)
    assert index_of(edit, (9,) * 5) == (3, slice(0, 3), slice(None), slice(-2, None, -1), slice(1, 2))
