"""Outputs are rows of one table: what each says of itself is true, and nobody else knows a suffix."""

import ast
import contextlib
from pathlib import Path

import numpy as np
import pytest

import transferpipe as tp
from transferpipe.recipe.outputs import OUTPUTS, SUFFIXES, output_of
from transferpipe.weights.formats import open_source

PACKAGE = Path(tp.__file__).parent
# Rooms that write, prove and plan. Those that read go by what is in a file, and by the suffixes of others.
ROOMS = (
    "recipe",
    "planning",
    "values",
    "models",
    "save",
    "prove",
    "execute",
    "score",
    "sweep",
    "show",
    "cli",
    "api.py",
)
# Arrays that a user gives, a file that Keras reads by its suffix, and a member of an archive: no outputs.
ELSE = {"recipe/outputs.py", "recipe/parsing/verify.py", "prove/parity/references.py", "prove/parity/arrays.py"}
STREAMED = [o for o in OUTPUTS if o.streams]


def make():
    import keras
    from keras import layers

    return keras.Sequential([keras.Input((3,)), layers.Dense(4, name="a"), layers.Dense(2, name="b")], name="m")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the values of a model that every output got, and the folder of the outputs."""
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(7)
    source, folder = make(), tmp_path_factory.mktemp("saved")
    source.save(folder / "source.keras")
    path, *also = [f"m{o.suffix}" for o in OUTPUTS]
    with contextlib.chdir(folder):
        tp.transfer("source.keras", "source.keras", mapping={"all": {"to": ".*"}}, save={"path": path, "also": also})
    return {w.path: np.asarray(w) for w in source.weights}, folder


@pytest.mark.parametrize("output", STREAMED, ids=lambda o: o.suffix)
def test_what_a_streamed_output_says_of_itself(output, saved):
    import keras

    values, folder = saved
    path = folder / f"m{output.suffix}"
    assert path.is_file()
    try:
        model = keras.models.load_model(path)
    except Exception:
        model = None
    assert (model is not None) == output.holds_architecture
    fresh = make()
    try:
        fresh.load_weights(path)
    except Exception:
        fresh = None
    assert (fresh is not None) == output.has_groups
    for loaded in filter(None, (model, fresh)):
        assert all(np.array_equal(w, v) for w, v in zip(loaded.get_weights(), values.values(), strict=True))
    source = open_source(path)
    assert (not source.groups) == output.names_tensors
    assert all(np.array_equal(source.read(w.name), v) for w, v in zip(source.catalog, values.values(), strict=True))


def test_what_the_others_say_of_themselves(saved):
    folder = saved[1]
    beside, folders = (next(o for o in OUTPUTS if o.files == kind) for kind in ("beside", "folder"))
    assert not beside.streams and not folders.streams
    assert sorted(p.name for p in folder.glob(f"m{beside.suffix}*")) == ["m.ckpt.data-00000-of-00001", "m.ckpt.index"]
    assert (folder / f"m{folders.suffix}" / "saved_model.pb").is_file()
    assert folders.is_model and not beside.is_model


@pytest.mark.parametrize(
    ("name", "suffix"), [("a/b.keras", ".keras"), (".m.0-1-2.part.weights.h5", ".weights.h5"), ("m", "")]
)
def test_the_output_of_a_name(name, suffix):
    assert output_of(name).suffix == suffix


def test_the_error_and_the_help_name_them_all(capsys):
    from transferpipe.cli.main import main

    with pytest.raises(tp.RecipeError) as caught:
        tp.plan("s.keras", "t.keras", mapping={"all": {"to": ".*"}}, save="m.pt")
    assert all(f"{suffix}" in str(caught.value) for suffix in SUFFIXES)
    assert main(["help", "outputs"]) == 0
    page = capsys.readouterr().out
    for output in OUTPUTS:
        assert f"{output.suffix or 'no suffix'}: {output.label}" in page
        assert output.help in " ".join(page.split())


def asks(path):
    """Yield the lines in which a module compares something with a suffix, or looks whether a name ends with one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        is_ending = isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("endswith", "removesuffix")
        if is_ending or isinstance(node, ast.Compare):
            texts = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
            if texts & set(SUFFIXES):
                yield node.lineno


def test_nobody_else_asks_a_suffix():
    modules = [
        p for room in ROOMS for p in (PACKAGE.glob(room) if room.endswith(".py") else (PACKAGE / room).rglob("*.py"))
    ]
    assert len(modules) > 100
    found = {f"{p.relative_to(PACKAGE)}:{line}" for p in modules for line in asks(p)}
    assert {place for place in found if place.partition(":")[0] not in ELSE} == set()
