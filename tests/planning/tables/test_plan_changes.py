"""What an override changes of a plan, shown as a code review shows it."""

import json
from dataclasses import replace

import pytest
from compact import plan_of

from transferpipe.planning.reading.read_plan import plan_from_data
from transferpipe.planning.tables.changes_table import changes_text
from transferpipe.planning.tables.plan_changes import compare_plans

WEIGHTS = "\n".join(f"enc/conv{i}/{own}" for i in range(3) for own in ("kernel", "bias"))
BODY = {"body": {"to": "enc"}}
HEAD = {"head": {"to": "head", "from": None}}


def plan(mapping=BODY | HEAD, source=WEIGHTS, **keys):
    return plan_of(f"{WEIGHTS}\n head/kernel", source, mapping, **keys)


def read(plan):
    """Return the plan as its file has it."""
    return plan_from_data(json.loads(json.dumps(plan.to_data())))


def changes(after, before=None):
    return compare_plans(read(before or plan()), after)


def lines(*args):
    return changes_text(changes(*args), width=120).splitlines()


@pytest.mark.parametrize(
    "make",
    [
        plan,
        lambda: plan(freeze=["enc"]),
        lambda: plan(edit={"e": {"at": "head/kernel", "index": [0, 0], "set": 1}}),
        lambda: plan({"body": {"to": "enc", "transform": {"kernel": [{"transpose": [0, 1]}]}}, **HEAD}),
    ],
)
def test_nothing_differs_from_itself_read_again(make):
    found = changes(make(), make())
    assert not found.any
    assert changes_text(found) == f"no change: plan {make().checksum}"
    assert found.to_data()["changed"] is False


def test_a_name_is_no_change():
    assert not changes(replace(plan(), recipe="other")).any


def test_assignments_and_fates_that_changed():
    after = plan({"body": {"to": "enc/conv[01]"}, "rest": {"to": "enc/conv2", "from": None}, **HEAD})
    shown = lines(after)
    assert shown[0] == f"plan  {plan().checksum} -> {after.checksum}"
    assert "2 target weights changed" in shown
    (gone,) = [line.split() for line in shown if line.startswith("- body")]
    assert gone == ["-", "body", "enc/conv2/*", "=", "2", "12"]
    (new,) = [line.split() for line in shown if line.startswith("+ rest")]
    assert new[:5] == ["+", "rest", "enc/conv2/*", "kept", "(values"]
    assert "-  used: enc/conv2/{kernel,bias}" in shown
    assert "+  unused: enc/conv2/{kernel,bias}" in shown


def test_freezing_is_shown_on_its_own():
    shown = lines(plan(freeze=["enc/conv1"]))
    assert "frozen" in shown
    assert "+  2 weights: enc/conv1/*" in shown
    assert not any("target weights changed" in line for line in shown)
    assert [line for line in lines(plan(), plan(freeze=["enc"])) if line.startswith("- ")][
        -1
    ] == "-  6 weights: enc/conv{0..2}/*"


def test_edits_seeds_and_outputs_that_changed():
    edit = {"e": {"at": "head/kernel", "index": [0, 0], "set": 1}}
    shown = lines(plan(edit=edit, seed=3, save={"path": "a.npz"}))
    assert {"- seed  0", "+ seed  3", "- save  model.keras", "+ save  a.npz"} <= set(shown)
    assert "+  e: set head/kernel[0, 0] 1" in shown
    other = {"e": {"at": "head/kernel", "index": [0, 0], "set": 2}}
    shown = lines(plan(edit=other), plan(edit=edit))
    assert [line for line in shown if "head/kernel[0, 0]" in line] == [
        "-  e: set head/kernel[0, 0] 1",
        "+  e: set head/kernel[0, 0] 2",
    ]


def test_warnings_that_came_and_went():
    unused = plan(source=f"{WEIGHTS}\n more/kernel")
    assert any(line.startswith("+  [unused] 1 source weight") for line in lines(unused))
    assert any(line.startswith("-  [unused] 1 source weight") for line in lines(plan(), unused))


def test_a_rule_that_only_gets_another_name_is_shown():
    shown = lines(plan({"trunk": {"to": "enc"}, **HEAD}))
    assert [line.split()[:3] for line in shown if line[:2] in ("- ", "+ ")] == [
        ["-", "body", "enc/conv{0..2}/*"],
        ["+", "trunk", "enc/conv{0..2}/*"],
    ]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_lines_fit(width):
    after = plan({"trunk": {"to": "enc/conv[01]"}, "rest": {"to": "enc/conv2", "from": None}, **HEAD}, freeze=["enc"])
    assert max(map(len, changes_text(changes(after), width=width).splitlines())) <= width


def test_data_hold_every_weight():
    after = plan(
        {"body": {"to": "enc/conv[01]"}, "rest": {"to": "enc/conv2", "from": None}, **HEAD}, freeze=["enc/conv0"]
    )
    data = changes(after).to_data()
    assert json.loads(json.dumps(data)) == data
    assert set(data["weights"]) == {"enc/conv2/kernel", "enc/conv2/bias"}
    assert data["weights"]["enc/conv2/bias"]["before"]["sources"][0]["name"] == "enc/conv2/bias"
    assert data["weights"]["enc/conv2/bias"]["after"]["reason"] == "from: null"
    assert data["frozen"] == {"added": ["enc/conv0/kernel", "enc/conv0/bias"], "removed": []}
    assert data["checksum"] == {"before": plan().checksum, "after": after.checksum}
    assert data["fates"]["source:enc/conv2/bias"] == {"before": "used", "after": "unused"}
