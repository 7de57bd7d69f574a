"""Edits, freezing and saving, as written and as read."""

import pytest
from recipe_data import SMALL, one_problem, parse

from transferpipe.cli.commands.transfer import REPORT
from transferpipe.execute.score_run import SCORE
from transferpipe.prove.manifest import MANIFEST, PLAN
from transferpipe.recipe.model import Edit, Save
from transferpipe.recipe.outputs import SUFFIXES
from transferpipe.recipe.parsing.save import RECORDS
from transferpipe.sweep.running.job import DEATHS, LOG, RESULT, STARTED
from transferpipe.sweep.variant import VARIANT

# Edits ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ({"index": [3, 5], "set": 99.0}, Edit("e", "w", (3, 5), "set", 99.0)),
        ({"index": ["0:3", ":"], "add": -1}, Edit("e", "w", ("0:3", ":"), "add", -1)),
        ({"index": 4, "multiply": 0.5}, Edit("e", "w", (4,), "multiply", 0.5)),
        ({"index": "::-2", "set": 0}, Edit("e", "w", ("::-2",), "set", 0)),
        ({"index": [], "set": 2**53 + 1}, Edit("e", "w", (), "set", 2**53 + 1)),
    ],
)
def test_forms_of_an_edit(edit, expected):
    (found,) = parse({**SMALL, "edit": {"e": {"at": "w", **edit}}}).edits
    assert found == expected
    assert type(found.value) is type(expected.value)


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        ({"index": [0], "set": 1}, "edit.e.at: the name of a target weight is required"),
        ({"at": "w", "set": 1}, "edit.e.index: a list with one entry an axis is required -> such as [3, 5], or"),
        ({"at": "w", "index": None, "set": 1}, "edit.e.index: a list with one entry an axis is required"),
        ({"at": "w", "index": 1.5, "set": 1}, "edit.e.index: must be a list with one entry an axis, not number 1.5"),
        ({"at": "w", "index": {"a": 1}, "set": 1}, "edit.e.index: must be a list with one entry an axis, not mapping"),
        (
            {"at": "w", "index": [True], "set": 1},
            "edit.e.index: an entry must be an integer, a list of integers, or a slice such as '0:3'",
        ),
        (
            {"at": "w", "index": ["3"], "set": 1},
            "edit.e.index: an entry must be an integer, a list of integers, or a slice such as '0:3'",
        ),
        (
            {"at": "w", "index": ["1:2:3:4"], "set": 1},
            "edit.e.index: an entry must be an integer, a list of integers, or a slice",
        ),
        (
            {"at": "w", "index": ["9" * 99 + ":"], "set": 1},
            "edit.e.index: an entry must be an integer, a list of integers, or a slice",
        ),
        ({"at": "w", "index": [0]}, "edit.e: needs exactly one of set, add, multiply, noise; it has none"),
        (
            {"at": "w", "index": [0], "set": 1, "add": 2},
            "edit.e: needs exactly one of set, add, multiply, noise; it has set,",
        ),
        ({"at": "w", "index": [0], "set": "1"}, "edit.e.set: must be a number, not text '1'"),
        ({"at": "w", "index": [0], "set": True}, "edit.e.set: must be a number, not true/false True"),
        ({"at": "w", "index": [0], "add": float("nan")}, "edit.e.add: must be a finite number, not number nan"),
        ({"at": "w", "index": [0], "add": float("-inf")}, "edit.e.add: must be a finite number, not number -inf"),
        ({"at": "w", "index": [0], "multiply": 10**400}, "edit.e.multiply: must be a finite number, not integer 1000"),
        (
            {"at": "w", "filters": [0], "set": ["a.npy"]},
            "edit.e.set: must be a list of numbers, not a list with text 'a.npy' in it",
        ),
    ],
)
def test_what_is_wrong_with_an_edit(edit, text):
    assert one_problem({**SMALL, "edit": {"e": edit}}).startswith(text)


# Freezing and saving --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freeze", "patterns", "transferred"),
    [
        (None, (), False),
        ("none", (), False),
        (["none"], (), False),
        ("transferred", (), True),
        (["transferred", "a.*"], ("a.*",), True),
        ("a.*", ("a.*",), False),
        ([], (), False),
    ],
)
def test_freeze(freeze, patterns, transferred):
    recipe = parse({**SMALL, "freeze": freeze})
    assert (tuple(p.text for p in recipe.freeze), recipe.freeze_transferred) == (patterns, transferred)


@pytest.mark.parametrize("path", ["m.keras", "sub/m.weights.h5", "m.safetensors", "m.npz", "a.b.keras", "..m.npz"])
def test_where_a_recipe_may_save(path):
    assert parse({**SMALL, "save": path}).save == parse({**SMALL, "save": {"path": path}}).save == Save(path)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("m.h5", f"'m.h5' has none of the suffixes {', '.join(SUFFIXES)}, which choose the format"),
        ("", "'' has none of the suffixes"),
        ("m.keras/", "'m.keras/' has none of the suffixes"),
        (".keras", "'.keras' is a suffix without a name -> such as model.keras"),
        ("sub/.weights.h5", "'sub/.weights.h5' is a suffix without a name -> such as model.weights.h5"),
        ("x" * 300 + ".npz", f"'{'x' * 40}'... has 304 characters -> choose a shorter name"),
        ("x/" * 600 + "m.npz", f"'{'x/' * 20}'... has 1,205 characters"),
        ("C:m.npz", "'C:m.npz' is not a plain path inside the run folder"),
        ("s3://b/m.npz", "'s3://b/m.npz' is not a plain path inside the run folder"),
        ("a\\m.npz", "'a\\\\m.npz' is not a plain path"),
        ("../m.npz", "'../m.npz' leaves the run folder -> give a path without '..'"),
        (
            "manifest.json/m.npz",
            "'manifest.json/m.npz' is in the place of manifest.json, which a run writes itself -> choose another name",
        ),
        ("Report.html/m.npz", "'Report.html/m.npz' is in the place of Report.html"),
        (".hydra/m.npz", "'.hydra/m.npz' is in the place of .hydra"),
        ("started", "'started' is in the place of started"),
        ("a/../m.npz", "'a/../m.npz' leaves the run folder"),
        ("~/m.npz", "'~/m.npz' begins with ~, which is not expanded here -> write the folder out"),
    ],
)
def test_where_nobody_may_save(path, text):
    for absolute in (False, True):
        assert one_problem({**SMALL, "save": path}, absolute_save=absolute).startswith(f"save.path: {text}")
        data = {**SMALL, "save": {"also": ["x.npz", path]}}
        assert one_problem(data, absolute_save=absolute).startswith(f"save.also: {text}")


def test_the_records_of_runs_and_variants_are_known():
    written = {MANIFEST, PLAN, REPORT, SCORE, RESULT, LOG, STARTED, DEATHS, VARIANT}
    assert {name.casefold() for name in written} <= RECORDS


def test_only_the_command_line_may_save_elsewhere():
    text = one_problem({**SMALL, "save": "/tmp/m.keras"})
    assert text == (
        "save.path: '/tmp/m.keras' is absolute; a recipe writes inside its run folder"
        " -> set it on the command line: save.path=..."
    )
    assert parse({**SMALL, "save": "/tmp/m.keras"}, absolute_save=True).save.path == "/tmp/m.keras"


@pytest.mark.parametrize("also", [["m.npz"], ["./m.npz"], ["x.npz", "sub//x.npz", "sub/x.npz"]])
def test_a_file_named_twice(also):
    assert one_problem({**SMALL, "save": {"path": "m.npz", "also": also}}).startswith(
        "save.also: names the same file twice: m.npz, "
    )


@pytest.mark.parametrize(
    ("also", "said"),
    [
        (["M.npz"], "'m.npz' and 'M.npz' are one file on systems where case does not count"),
        (["\u00c9/x.npz", "e\u0301/X.npz"], "'\u00c9/x.npz' and 'e\u0301/X.npz' are one file on systems"),
        (["m.npz/n.npz"], "'m.npz/n.npz' cannot be inside of 'm.npz': both are outputs"),
        (["a/m.npz", "A/M.npz/n.npz"], "'A/M.npz/n.npz' cannot be inside of 'a/m.npz'"),
    ],
)
def test_files_that_would_be_in_the_way_of_each_other(also, said):
    assert one_problem({**SMALL, "save": {"path": "m.npz", "also": also}}).startswith(f"save.also: {said}")
    parse({**SMALL, "save": {"path": "m.npz", "also": ["n.npz", "m/m.npz", "m.keras"]}})


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("b.safetensors", "model.safetensors"),
        ({"path": "run/b.weights.h5"}, "model.weights.h5"),
        ({"like": "b.npz"}, "model.npz"),
        ("b.keras", "model.keras"),
        ("old.h5", "model.keras"),  # of which a model is built
        ("saved_model", "model.keras"),
        ({"_target_": "keras.applications.VGG16"}, "model.keras"),
    ],
)
def test_what_is_saved_where_a_recipe_does_not_say(target, path):
    assert parse({"target": target}).save.path == path
    assert parse({"target": target, "save": {"overwrite": True}}).save.path == path
    assert parse({"target": target, "save": "x.npz"}).save.path == "x.npz"
