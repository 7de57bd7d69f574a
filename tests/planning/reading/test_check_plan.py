"""Plans that anybody wrote: of whatever type a value in one is, it is read or refused, and what is read can be shown."""

import json

import pytest

from transferpipe.errors import FileError
from transferpipe.planning.model import Adaptation, Assignment, Freezing, Kept, PlanWarning, SourceRef, SourceWeight
from transferpipe.planning.plan import Plan
from transferpipe.planning.tables.plan_changes import compare_plans
from transferpipe.planning.tables.plan_table import plan_text
from transferpipe.prove.manifest import read_plan
from transferpipe.recipe.model import Edit

SOURCE = SourceRef("source", "a/kernel", (3, 4), "float32")
ASSIGNED = Assignment(
    "d/kernel", "all", (SOURCE,), (4, 3), "float32", "float32", adapter=(Adaptation(1, ({"transpose": [1, 0]},)),)
)
PLAN = Plan(
    "mine",
    "t.keras",
    {"source": "a.keras"},
    (ASSIGNED,),
    (Kept("d/bias", "", "no rule", (3,), "float32"),),
    (SourceWeight("source", "a/kernel", "used"),),
    edits=(Edit("probe", "d/bias", (0,), "set", 1.0),),
    freezing=Freezing(("d",), ("d/kernel", "d/bias"), 0, 15),
    warnings=(PlanWarning("unused", "source", "text"),),
)
WRONG = [None, True, -1, 1.5, "", "x", [], [1], [[]], {}, {"a": 1}, {"": None}, "\x1b[31m"]


def places(data, above=()):
    """Yield the way to every value."""
    for key, inner in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield (*above, key)
        yield from places(inner, (*above, key))


def test_values_of_every_type_at_every_place(tmp_path):
    path, text = tmp_path / "plan.json", json.dumps(PLAN.to_data())
    path.write_text(text)
    assert read_plan(path).checksum == PLAN.checksum
    counts = {"read": 0, "refused": 0}
    for *above, last in places(json.loads(text)):
        for value in WRONG:
            data = json.loads(text)
            holder = data
            for key in above:
                holder = holder[key]
            holder[last] = value
            path.write_text(json.dumps(data))
            try:
                plan = read_plan(path)
                plan_text(plan)
                compare_plans(plan, PLAN).to_data()
                counts["read"] += 1
            except FileError:
                counts["refused"] += 1
    assert counts["read"] > 100
    assert counts["refused"] > 400


@pytest.mark.parametrize("change", [{"merge": {"path": "x"}}, {"transforms": ["x"]}, {"items": [[{"transpose": "x"}]]}])
def test_a_transform_that_there_is_none_of(tmp_path, change):
    data = PLAN.to_data()
    data["assignments"][0] |= change
    (tmp_path / "plan.json").write_text(json.dumps(data))
    with pytest.raises(FileError, match="is not a plan"):
        read_plan(tmp_path)
