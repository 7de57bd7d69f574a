"""What a recipe may name: decided by the object that is reached, not by how its name is spelled."""

import sys
import types

import pytest
from recipe_data import refused_name

from transferpipe.errors import Problems, RecipeError
from transferpipe.recipe.model import walk_builds
from transferpipe.recipe.parsing.origins import parse_build
from transferpipe.recipe.trust import check_name, resolve

# The user's own modules -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dotted",
    [
        *("my_models.build", "my_models.Net", "my_models.Net.small", "my_models.wrapped", "my_models.half"),
        *("my_models.inner", "helpers.inner.inner"),
    ],
)
def test_what_lies_under_the_working_directory(folder, dotted):
    assert callable(resolve(dotted, "target"))


def test_what_our_own_zoo_exports_may_be_reached_through_a_users_module(folder):
    from transferpipe.zoo import small_mlp

    assert resolve("my_models.small_mlp", "target") is small_mlp is resolve("transferpipe.zoo.small_mlp", "target")


def test_a_users_script_that_runs(folder, monkeypatch):
    script = types.ModuleType("__main__")
    script.__file__ = str(folder / "script.py")
    script.__spec__ = None
    exec("def build(): pass", script.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", script)
    assert resolve("__main__.build", "target") is script.build


@pytest.mark.parametrize(
    ("dotted", "module"),
    [
        ("my_models.os.system", "os"),
        ("my_models.build_all", "os"),
        ("my_models.shutil.rmtree", "shutil"),
        ("my_models.subprocess.run", "subprocess"),
        ("my_models.subprocess.Popen", "subprocess"),
        ("my_models.np.load", "numpy"),
        ("my_models.functools.partial", "functools"),
        ("my_models.half_of_the_shell", "posix"),
        ("my_models.main", "transferpipe"),
    ],
)
def test_the_object_counts_however_it_is_reached(folder, dotted, module):
    assert refused_name(dotted).startswith(f"{dotted} leads to {module}")


@pytest.mark.parametrize(
    "inner", ["build.__call__", "build.__globals__.clear", "build.__class__", "Net.__subclasses__"]
)
def test_what_python_keeps_to_itself_leads_nowhere(folder, inner):
    assert refused_name(f"my_models.{inner}").startswith(
        f"my_models.{inner} goes through a private attribute of Python"
    )
    assert "my_models" not in sys.modules


def test_what_a_module_imports_from_python_is_seen_before_it_runs(folder):
    (folder / "my_models.py").write_text("import os.path as p, json\nfrom shutil import rmtree\nraise SystemExit\n")
    for name in ("p.exists", "json.loads", "rmtree"):
        assert refused_name(f"my_models.{name}").startswith(f"my_models.{name} leads to ")


@pytest.mark.parametrize(
    "dotted",
    [
        *(
            "os.system",
            "builtins.eval",
            "builtins.exec",
            "subprocess.run",
            "shutil.rmtree",
            "numpy.load",
            "posix.system",
        ),
        *("importlib.import_module", "pickle.loads", "keras.models.load_model", "tensorflow.io.write_file"),
        *("transferpipe.cli.main.main", "transferpipe.api.transfer", "transferpipe.files.publishing.atomic.write_text"),
        *("_pytest.main.Session", "wave.open", "this.x", "__phello__.main", "_ctypes_test.func_si"),
    ],
)
def test_what_is_installed_is_refused(folder, dotted, capsys):
    top = dotted.partition(".")[0]
    expected = f"{dotted} is not something that a recipe may name -> "
    refused = refused_name(dotted)
    assert refused.startswith(expected)
    # A word is offered for packages of others only: nothing makes what is refused as dangerous less so.
    assert ("--trust" in refused) == (top in ("_pytest", "_ctypes_test", "__phello__"))
    assert capsys.readouterr().out == ""


def test_refusing_imports_nothing(folder):
    for name in ("wave", "this", "__phello__"):
        sys.modules.pop(name, None)
        refused_name(f"{name}.open")
        assert name not in sys.modules


# Trust ----------------------------------------------------------------------------------------------------------------


def test_the_command_line_may_vouch_for_a_package(folder):
    import json

    assert resolve("json.loads", "target", ["json"]) is json.loads
    assert resolve("my_models.shutil.rmtree", "target", ["shutil"]).__name__ == "rmtree"
    assert resolve("my_models.build", "target", ["my_models"]) is resolve("my_models.build", "target")
    assert refused_name("json.decoder.scanner.NUMBER_RE.match.__class__", ["json"]).startswith("json.decoder")
    for dotted, trusted in (("my_models.shutil.rmtree", "my_models"), ("os.system", "os")):
        assert "--trust" not in refused_name(dotted, [trusted])


def test_a_trusted_module_in_the_working_directory_is_found(folder):
    assert resolve("my_models.build", "target", ["my_models"])() == 2


# Where modules lie ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cwd", ["/", "stdlib", "prefix"])
def test_python_itself_below_the_working_directory_is_not_the_users(cwd, monkeypatch):
    import shutil
    from pathlib import Path

    home = Path(shutil.__file__).resolve().parent
    monkeypatch.chdir({"/": "/", "stdlib": home, "prefix": home.parents[1]}[cwd])
    for dotted in ("shutil.rmtree", "subprocess.run", "numpy.load", "wave.open"):
        refused_name(dotted)


@pytest.mark.parametrize("libraries", ["site-packages", "dist-packages"])
def test_an_environment_below_the_working_directory_is_not_the_users(folder, monkeypatch, libraries):
    place = folder / ".venv" / "lib" / "python3" / libraries
    (place / "pkg").mkdir(parents=True)
    (place / "pkg" / "__init__.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(place)
    assert refused_name("pkg.build").startswith("pkg.build is not something that a recipe may name")
    assert "pkg" not in sys.modules


def test_a_file_does_not_stand_in_for_an_installed_module(folder):
    (folder / "wave.py").write_text("def open(): pass\n")
    (folder / "json.py").write_text("def loads(): pass\n")
    for dotted in ("wave.open", "json.loads"):
        refused_name(dotted)


def test_another_working_directory_is_not_this_one(folder, monkeypatch, tmp_path_factory):
    resolve("my_models.build", "target")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    refused_name("my_models.build")


# What is not there ----------------------------------------------------------------------------------------------------


def test_a_module_that_is_not_there(folder):
    text = refused_name("my_modles.build", error=RecipeError)
    assert text.startswith(
        "there is no module 'my_modles' in the working directory or installed -> did you mean 'my_mod"
    )
    text = refused_name("qqq.build", error=RecipeError)
    assert "installed -> for a file of your own, run in its folder, where qqq.py lies" in text


def test_an_attribute_that_is_not_there(folder):
    assert refused_name("my_models.biuld", error=RecipeError) == "my_models has no 'biuld' -> did you mean 'build'?"
    assert refused_name("my_models.Net.smal", error=RecipeError).startswith(
        "my_models.Net has no 'smal' -> did you mean"
    )
    assert refused_name("helpers.iner.inner", error=RecipeError).startswith("helpers has no 'iner'")


def test_a_name_that_no_module_writes_is_refused_before_it_runs(folder):
    (folder / "loud.py").write_text("import loud_inside\nopen('ran', 'w')\nhalf = other = len\ndef build(): pass\n")
    (folder / "loud_inside").mkdir()
    (folder / "loud_inside" / "__init__.py").write_text("open('ran', 'w')")
    (folder / "loud_inside" / "part.py").write_text("open('ran', 'w')\ndef build(): pass\n")
    for dotted, what in (
        ("loud.biuld", "loud has no 'biuld' -> did you mean 'build'?"),
        ("loud.halff.x", "loud has no 'halff' -> did you mean 'half'?"),
        ("loud_inside.prt.build", "loud_inside has no 'prt' -> did you mean 'part'?"),
        ("loud_inside.part.biuld", "loud_inside.part has no 'biuld' -> did you mean 'build'?"),
    ):
        with pytest.raises(RecipeError) as error:
            check_name(dotted, "target")
        assert error.value.problems[0].what + " -> " + error.value.problems[0].fix == what
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    "text",
    [
        "from loud_names import *",
        "if True:\n    from loud_names import *",
        "def __getattr__(name): return len",
        "globals()['bu' + 'ild'] = len",
        "exec('bu' + 'ild = len')",
        "import sys\nsetattr(sys.modules[__name__], 'bu' + 'ild', len)",
        "import importlib\nhere = importlib.import_module(__name__)\nhere.build = len",
        "for build in (len,): pass",
        "def f():\n    global build\n    build = len\nf()",
        "from loud_names import join as build",
        "(build := len)",
        "__path__ = ['elsewhere']",
    ],
)
def test_a_name_that_a_module_may_have_is_left_to_importing_it(folder, text):
    (folder / "makes.py").write_text(text)
    check_name("makes.build", "target")


def test_what_cannot_be_called(folder):
    assert refused_name("my_models.number", error=RecipeError).startswith(
        "my_models.number cannot be called: it is an object of"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit('no')", "SystemExit: no"),
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("from os import nothing", "ImportError: cannot import name 'nothing' from 'os'"),
        ("def (", "SyntaxError: "),
    ],
)
@pytest.mark.parametrize("inner", [False, True])
def test_a_module_whose_import_fails(folder, text, reason, inner):
    (folder / "broken").mkdir()
    (folder / "broken" / "__init__.py").write_text("" if inner else f"{text}\nbuild = None")
    (folder / "broken" / "part.py").write_text(f"{text}\nbuild = None")
    dotted, name = ("broken.part.build", "broken.part") if inner else ("broken.build", "broken")
    found = refused_name(dotted, error=RecipeError)
    assert found.startswith(f"importing {name} failed: {reason}")
    assert found.endswith(" -> fix the module")


def test_a_package_whose_parts_fail_when_asked_for(folder):
    (folder / "broken.py").write_text("def __getattr__(name): raise ImportError('not today')\n")
    text = refused_name("broken.build", error=RecipeError)
    assert text == "importing broken.build failed: ImportError: not today -> fix the module"


def test_every_call_among_the_arguments_is_walked_the_outer_ones_first():
    value = {"_target_": "a.b", "x": {"_target_": "c.d", "y": [{"k": {"_target_": "e.f"}}]}, "z": {"_target_": "g.h"}}
    problems = Problems()
    build = parse_build(value, "score", problems)
    assert not problems.found
    assert [(b.target, b.where) for b in walk_builds(build)] == [
        ("a.b", "score"),
        ("c.d", "score.x"),
        ("e.f", "score.x.y.0.k"),
        ("g.h", "score.z"),
    ]
