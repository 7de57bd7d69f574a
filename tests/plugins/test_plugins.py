"""What installed packages add: found late, ours win, what is broken is said of its package and disturbs nobody else."""

import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

import transferpipe as tp
from transferpipe import plugins
from transferpipe.errors import RecipeError
from transferpipe.planning.reading.read_recipe import read_recipe
from transferpipe.plugins import PlugInPoint
from transferpipe.recipe.layouts import LAYOUTS

TOY = """
from transferpipe.planning.layouts.adapter import Adapted
from transferpipe.planning.layouts.layout import Layout


class Toy(Layout):
    name = "toy"
    framework = "Toy"
    tag = "toy"
    adapters = {"Dense": {"kernel": (Adapted(("w",), ({"transpose": [1, 0]},), (({"transpose": [1, 0]},),)),)}}
"""
KERNEL = np.arange(6, dtype="float32").reshape(2, 3)


@pytest.fixture
def point():
    return PlugInPoint("thing", lambda: ("ours",), lambda thing: "" if callable(thing) else "cannot be called")


def test_a_thing_is_found_by_its_name_and_nothing_is_said_of_other_names(install, point):
    install("toys", {"thing": {"ball": "roll"}}, "def roll():\n    return 7\n")
    assert point.names() == ("ball",)
    assert point.load("ball", "key")() == 7
    assert point.load("bat", "key") is None


def test_ours_win_and_the_clash_is_said(install, point):
    install("toys", {"thing": {"ours": "roll"}}, "raise SystemError('never imported')")
    assert point.names() == ()
    assert point.load("ours", "key") is None
    (found,) = point.offered()
    assert point.fault(found) == "is not used: ours is a thing of transferpipe's own"
    assert list(point.each()) == []
    assert "toys" not in sys.modules


@pytest.mark.follows("PlugInPoint.load: uninstall one of them:")
def test_of_two_packages_with_one_name_neither_is_taken(install, point, monkeypatch):
    install("toys", {"thing": {"ball": "roll"}}, "def roll():\n    return 7\n")
    place = install("games", {"thing": {"ball": "roll"}}, "def roll():\n    return 8\n")
    with pytest.raises(RecipeError) as refused:
        point.load("ball", "key")
    assert "games and toys" in str(refused.value)
    assert refused.value.problems[0].fix == "uninstall one of them: pip uninstall toys"
    assert {point.fault(p) for p in point.offered()} == {
        "is not used: games offers the same name",
        "is not used: toys offers the same name",
    }
    monkeypatch.setattr(sys, "path", [p for p in sys.path if not p.endswith("toys")])  # uninstalled
    assert point.load("ball", "key")() == 8
    assert place.name == "games"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_module_anywhere", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("roll = 1", "cannot be called"),
        ("", "AttributeError"),
        ("def (", "SyntaxError"),
    ],
)
@pytest.mark.follows("PlugInPoint.load: update or repair that")
def test_what_cannot_be_used_is_an_error_of_ours_that_names_the_package(install, point, source, said):
    install("toys", {"thing": {"ball": "roll"}}, source)
    with pytest.raises(RecipeError) as refused:
        point.load("ball", "mapping.a.transform")
    (problem,) = refused.value.problems
    assert problem.where == "mapping.a.transform"
    assert "the thing ball of the package toys 1.0" in problem.what
    assert said in problem.what
    assert problem.fix == "update or repair that package: pip install --upgrade toys"
    assert list(point.each()) == []
    install("toys", {"thing": {"ball": "roll"}}, "def roll():\n    return 'repaired, and longer than before'\n")
    assert point.load("ball", "key")().startswith("repaired")


def test_the_working_directory_brings_no_plugins(install, point, monkeypatch):
    place = install("toys", {"thing": {"ball": "roll"}}, "raise SystemError('never imported')")
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend("")
    assert point.offered() == ()


@pytest.mark.parametrize("metadata", ["", "Version: 3\n", None])
def test_a_folder_without_metadata_still_has_a_place(install, point, metadata):
    place = install("toys", {"thing": {"ball": "roll"}}, "def roll(): ...\n")
    (file,) = place.glob("*.dist-info/METADATA")
    if metadata is None:
        file.unlink()
    else:
        file.write_text(metadata)
    (found,) = point.offered()
    assert str(place) in found.label or "None" in found.label
    assert point.load("ball", "key") is not None


def test_a_list_of_entry_points_that_cannot_be_read_hides_no_other(install, point):
    broken = install("bad", {})
    (info,) = broken.glob("*.dist-info")
    (info / "entry_points.txt").write_bytes(b"\xff\xfe[transferpipe.things]\nball = bad:x\n")
    install("toys", {"thing": {"ball": "roll"}}, "def roll(): ...\n")
    assert point.names() == ("ball",)


def test_a_run_that_needs_nothing_from_outside_looks_for_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(plugins, "_find_installed", lambda: pytest.fail("searched"))
    np.savez(tmp_path / "a.npz", **{"d/kernel": KERNEL})
    np.savez(tmp_path / "b.npz", **{"d/kernel": 0 * KERNEL})
    rules = {"d": {"to": "d", "transform": [{"scale": 1}]}}
    report = tp.transfer(tmp_path / "a.npz", tmp_path / "b.npz", mapping=rules, save="c.npz", folder=tmp_path / "run")
    assert (np.load(tmp_path / "run" / "c.npz")["d/kernel"] == KERNEL).all()
    assert report.verdict


def dense(of_source, **more):
    return {
        "source": {"path": "a.npz", **of_source},
        "target": {"path": "b.npz"},
        "mapping": {"d": {"to": "d"}},
        "save": {"path": "out.npz", **more},
    }


def test_a_recipe_may_name_a_layout_from_outside(install):
    with pytest.raises(RecipeError, match=r"must be one of keras, torch, .*, not text 'toy'"):
        read_recipe(dense({}, layout="toy"))
    install("toys", {"layout": {"toy": "Toy"}}, TOY)
    recipe = read_recipe(dense({"layout": "toy"}, layout="toy"))
    assert (recipe.sources["source"].layout, recipe.save.layout) == ("toy", "toy")
    with pytest.raises(RecipeError, match=f"must be one of auto, {', '.join(LAYOUTS)}, toy, not text 'tyo'"):
        read_recipe(dense({"layout": "tyo"}))


def test_files_are_taken_and_written_in_a_layout_from_outside(install, tmp_path, one_dense):
    install("toys", {"layout": {"toy": "Toy"}}, TOY)
    save_file({"d/w": np.ascontiguousarray(KERNEL.T)}, tmp_path / "a.safetensors", {"format": "toy"})
    plan = tp.plan(tmp_path / "a.safetensors", one_dense, mapping={"d": {"to": "d"}})
    assert [a.steps for a in plan.assignments] == [({"transpose": [1, 0]},)]
    save = {"path": "out.safetensors", "layout": "toy"}
    tp.transfer(tmp_path / "a.safetensors", one_dense, mapping={"d": {"to": "d"}}, save=save, folder=tmp_path / "run")
    from safetensors.numpy import load_file

    (written,) = load_file(tmp_path / "run" / "out.safetensors").items()
    assert written[0] == "d.w"
    assert (written[1] == KERNEL.T).all()


@pytest.mark.follows("read_recipe: choose one of …")
def test_what_is_only_read_is_not_written():
    with pytest.raises(RecipeError) as refused:
        read_recipe(dense({}, layout="onnx"))
    (problem,) = refused.value.problems
    assert "only read" in problem.what
    for word in problem.fix.removeprefix("choose one of ").split(", "):
        assert read_recipe(dense({}, layout=word)).save.layout == word


@pytest.mark.follows("_explain_names: set ….layout=…")
def test_names_of_another_framework_are_explained(tmp_path, one_dense):
    kernel = np.ascontiguousarray(KERNEL.T)
    save_file({"d.weight": kernel}, tmp_path / "a.safetensors", {"format": "np"})
    with pytest.raises(RecipeError) as refused:
        tp.plan(tmp_path / "a.safetensors", one_dense, mapping={"d": {"to": "d"}})
    (problem,) = refused.value.problems
    assert "look like PyTorch's" in problem.what
    key, value = problem.fix.removeprefix("set source.").split("=")
    source = {"path": str(tmp_path / "a.safetensors"), key: value}
    save = {"path": "out.npz"}
    rules = {"d": {"to": "d"}}
    tp.transfer(source, one_dense, mapping=rules, save=save, folder=tmp_path / "run")
    assert (np.load(tmp_path / "run" / "out.npz")["d/kernel"] == KERNEL).all()
