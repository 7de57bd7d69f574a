"""What is imported when: planning, looking and copying between files never pay for TensorFlow."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

HEAVY = ("tensorflow", "keras", "torch", "jax")

SCRIPT = """
import json, sys
from transferpipe.cli.main import main
status = main(sys.argv[1:])
tops = sorted({name.partition(".")[0] for name in sys.modules})
print("IMPORTED", json.dumps([status, tops]))
"""


def run(*words, cwd, expected=0):
    """Run the command line in a new process; return its exit status, what it imported, and what it printed."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, cwd=cwd, check=False)
    assert "IMPORTED" in done.stdout, done.stdout + done.stderr
    printed, _, last = done.stdout.rpartition("IMPORTED ")
    status, imported = json.loads(last)
    assert status == expected, printed + done.stderr
    return set(imported), printed


def dense(name, units):
    return {
        "module": "keras.layers",
        "class_name": "Dense",
        "config": {"name": name, "trainable": True, "units": units, "use_bias": True},
        "registered_name": None,
        "build_config": {"input_shape": [None, 3]},
    }


@pytest.fixture
def keras_file(tmp_path):
    """A `.keras` file made by hand: a Sequential of one Dense."""
    with h5py.File(tmp_path / "w.h5", "w") as file:
        variables = file.create_group("layers/dense/vars")
        variables.attrs["name"] = "head"
        variables["0"] = np.arange(6, dtype="float32").reshape(3, 2)
        variables["1"] = np.ones(2, "float32")
    layers = [{"module": "keras.layers", "class_name": "InputLayer", "config": {"name": "in"}}, dense("head", 2)]
    config = {"module": "keras", "class_name": "Sequential", "config": {"name": "model", "layers": layers}}
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.12.0", "date_saved": "2025-01-01@00:00:00"}))
        archive.writestr("config.json", json.dumps(config))
        archive.write(tmp_path / "w.h5", "model.weights.h5")
    (tmp_path / "w.h5").unlink()
    np.savez(tmp_path / "b.npz", **{"out/kernel": np.ones((3, 2), "float32"), "out/bias": np.zeros(2, "float32")})
    return tmp_path


def test_importing_the_package_costs_nothing():
    script = "import sys, transferpipe; print(sorted({n.partition('.')[0] for n in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for name in ("numpy", "hydra", "rich", "h5py", *HEAVY):
        assert f"'{name}'" not in done.stdout


@pytest.mark.parametrize("words", [["--help"], ["plan", "-h"], ["--version"]])
def test_help_waits_for_nothing(tmp_path, words):
    imported, printed = run(*words, cwd=tmp_path)
    assert "transferpipe" in printed
    assert imported.isdisjoint({"hydra", "omegaconf", "numpy", "rich", "h5py", *HEAVY})


@pytest.mark.parametrize("path", ["a.keras", "b.npz", "pkg://transferpipe/zoo/data/digits_0_4.keras"])
def test_inspect(keras_file, path):
    imported, printed = run("inspect", path, "--stats", "--all", cwd=keras_file)
    assert "kernel" in printed
    assert imported.isdisjoint(HEAVY)


@pytest.mark.parametrize(("path", "family"), [("a.keras", "keras"), ("b.npz", "numpy")])
def test_telling_a_format_imports_no_reader_of_torch(keras_file, path, family):
    script = f"""
import sys
from transferpipe.weights.formats import open_source
from pathlib import Path
open_source(Path({path!r}))
start = "transferpipe.weights.formats."
print(*{{name.removeprefix(start).partition(".")[0] for name in sys.modules if name.startswith(start)}})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=keras_file, check=True)
    imported = set(done.stdout.split())
    assert family in imported
    assert imported.isdisjoint({"torch", "onnx", "tfjs", "flax", "gguf", "pickled"})


def test_plan_run_and_verify_from_file_to_file(keras_file):
    recipe = {
        "source": {"path": "b.npz"},
        "target": {"path": "a.keras"},
        "mapping": {"head": {"to": "head", "from": "out"}},
        "save": {"path": "model.keras", "also": ["model.weights.h5", "model.safetensors", "model.npz"]},
    }
    (keras_file / "recipes").mkdir()
    (keras_file / "recipes" / "mine.yaml").write_text(f"# @package _global_\n{json.dumps(recipe)}\n")
    imported, printed = run("plan", "recipe=mine", cwd=keras_file)
    assert "head/*" in printed
    assert imported.isdisjoint(HEAVY)
    assert [p.name for p in keras_file.iterdir() if p.is_dir()] == ["recipes"]
    imported, printed = run("run", "recipe=mine", "hydra.run.dir=out", cwd=keras_file)
    assert "verdict  weights: pass" in printed
    assert imported.isdisjoint(HEAVY)
    imported, printed = run("verify", "out", cwd=keras_file)
    assert "verdict  weights: pass" in printed
    assert imported.isdisjoint(HEAVY)


def test_the_shipped_recipe_that_edits_a_file(tmp_path):
    imported, printed = run("run", "recipe=set_element", "hydra.run.dir=out", cwd=tmp_path)
    assert "verdict  weights: pass" in printed
    assert imported.isdisjoint(HEAVY)
    assert Path(tmp_path / "out" / "model.keras").is_file()


def test_listing_recipes(tmp_path):
    imported, printed = run("recipes", cwd=tmp_path)
    assert "set_element" in printed
    assert imported.isdisjoint(HEAVY)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("target", "os.system"),
        ("target", "keras.utils.get_file"),
        ("target", "transferpipe.recipe.trust.importlib.import_module"),
        ("target", "transferpipe.files.publishing.atomic.remove"),
        ("source", "subprocess.run"),
        ("score", "shutil.rmtree"),
    ],
)
def test_what_a_recipe_may_not_name_is_refused_before_anything_is_imported(keras_file, key, name):
    fine = {"target": "transferpipe.zoo.small_mlp", "source": "my_models.build"}
    (keras_file / "my_models.py").write_text("raise SystemExit('imported')")
    recipe = {k: {"_target_": v} for k, v in {**fine, key: name}.items()}
    recipe["mapping"] = {"all": {"to": ".*"}}
    (keras_file / "recipes").mkdir(exist_ok=True)
    (keras_file / "recipes/bad.yaml").write_text(json.dumps(recipe))
    imported, _ = run("plan", "recipe=bad", cwd=keras_file, expected=5)
    assert imported.isdisjoint((*HEAVY, "my_models"))


@pytest.mark.parametrize("inner", [{"a": [{"_target_": "os.system"}]}, {"_target_": "os.system"}])
def test_nor_among_arguments(keras_file, inner):
    recipe = {"target": {"_target_": "my_models.build", "x": inner}, "unmatched": "keep"}
    (keras_file / "my_models.py").write_text("raise SystemExit('imported')")
    (keras_file / "recipes").mkdir(exist_ok=True)
    (keras_file / "recipes/bad.yaml").write_text(json.dumps(recipe))
    imported, _ = run("plan", "recipe=bad", cwd=keras_file, expected=5)
    assert imported.isdisjoint((*HEAVY, "my_models"))
