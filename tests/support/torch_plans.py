"""Plans between catalogs of which some are in torch's layout."""

import pytest
from compact import catalog, structure

from transferpipe.errors import RecipeError
from transferpipe.planning.planner import make_plan
from transferpipe.planning.reading.read_recipe import read_recipe


def torch_plan(target, sources, mapping=None, *, torch=None, **keys):
    sources = sources if isinstance(sources, dict) else {"source": sources}
    catalogs = {alias: catalog(text, f"{alias}.pt") for alias, text in sources.items()}
    data = {"sources": {a: {"path": f"{a}.pt"} for a in catalogs}, "target": {"path": "t.keras"}}
    recipe = read_recipe({**data, "mapping": mapping or {}, **keys})
    labels = {**{a: a for a in catalogs}, "target": "t.keras"}
    layouts = dict.fromkeys(torch if torch is not None else catalogs, "torch")
    return make_plan(recipe, catalogs, structure(target), labels, layouts)


def taken(plan):
    return {a.target: " + ".join(r.name for r in a.sources) for a in plan.assignments}


def steps(plan, weight):
    return next(a.steps for a in plan.assignments if a.target == weight)


def problem(*args, **keys):
    with pytest.raises(RecipeError) as caught:
        torch_plan(*args, **keys)
    (found,) = caught.value.problems
    return str(found)
