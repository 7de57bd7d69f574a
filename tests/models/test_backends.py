"""Builders, live models, sweeps and scores where Keras runs on JAX or torch; each in a process of its own."""

import functools
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

BUILDERS = """
import keras
from keras import layers as L
def net(units=3):
    i = keras.Input((6, 6, 2))
    x = L.BatchNormalization(name="bn")(L.Conv2D(4, 3, name="c")(i))
    return keras.Model(i, L.Dense(units, name="a")(L.Dropout(0.2)(L.Flatten()(x))))
"""
RECIPE = """
source: {path: s.keras}
target: {_target_: my_models.net, units: 5}
mapping: {all: {to: 'c|bn'}, head: {to: a, from: null}}
ignore: ['a/.*']
freeze: [c]
"""
MAKE = """
import numpy as np, my_models
model, random = my_models.net(), np.random.default_rng(0)
for v in model.weights:
    v.assign(np.abs(random.normal(size=v.shape)).astype("float32"))
model.save("s.keras")
"""
BACKENDS = ("jax", "torch")
needs = {b: pytest.mark.skipif(importlib.util.find_spec(b) is None, reason=f"{b} is not installed") for b in BACKENDS}
each_backend = pytest.mark.parametrize("backend", [pytest.param(b, marks=needs[b]) for b in BACKENDS])


def run(folder, backend, *words):
    env = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    env["PYTHONPATH"] = os.pathsep.join([os.getcwd(), str(folder), env.get("PYTHONPATH", "")])
    return subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, timeout=120)


def transferpipe(folder, backend, *words):
    return run(folder, backend, "-m", "transferpipe", *words)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a function that makes the recipe with its files on a backend, once: to import Keras takes long."""

    @functools.cache
    def on(backend):
        folder = tmp_path_factory.mktemp(backend)
        (folder / "recipes").mkdir()
        (folder / "recipes/r.yaml").write_text(RECIPE)
        (folder / "my_models.py").write_text(BUILDERS)
        done = run(folder, backend, "-c", MAKE)
        assert done.returncode == 0, done.stderr
        return folder

    return on


@pytest.fixture
def folder(tmp_path, made, backend):
    return shutil.copytree(made(backend), tmp_path, dirs_exist_ok=True)


@each_backend
def test_a_builder_as_the_target(backend, folder):
    done = transferpipe(folder, backend, "run", "recipe=r", "hydra.run.dir=out", "verify.reload=true")
    assert done.returncode == 0, done.stderr
    check = """
import keras, numpy as np
out, source = keras.models.load_model("out/model.keras"), keras.models.load_model("s.keras")
for name in ("c", "bn"):
    for one, other in zip(out.get_layer(name).get_weights(), source.get_layer(name).get_weights()):
        assert np.array_equal(one, other)
assert not out.get_layer("c").trainable
"""
    assert run(folder, backend, "-c", check).returncode == 0


LIVE = """
import json, keras, numpy as np, my_models, transferpipe as tp
random = np.random.default_rng(0)
x, y = random.normal(size=(8, 6, 6, 2)).astype("float32"), np.ones((8, 3), "float32")
source, target = keras.models.load_model("s.keras"), my_models.net()
target.compile("sgd", "mse")
target.fit(x, y, verbose=0)
target.predict(x, verbose=0)
report = tp.transfer("s.keras", target, mapping={"all": {"to": ".*"}}, freeze=["c"])
same = np.allclose(target.predict(x, verbose=0), source.predict(x, verbose=0), atol=1e-6)
codes = [w.code for w in report.warnings]
if "compile-needed" in codes:
    target.compile("sgd", "mse")
kernel = np.array(keras.ops.convert_to_numpy(target.get_layer("c").kernel))
target.fit(x, y, verbose=0)
frozen = np.array_equal(kernel, keras.ops.convert_to_numpy(target.get_layer("c").kernel))
target.save("compiled.keras")  # on torch, Keras names a class of its backend for the optimizer
tp.transfer("s.keras", "compiled.keras", mapping={"all": {"to": ".*"}}, save="m.keras", folder="out")
same = same and np.array_equal(keras.models.load_model("out/m.keras").get_weights()[0], source.get_weights()[0])

def scaled():  # JAX trains on without the product of momenta, which is not among the variables
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, name="d")])
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Nadam(0.1)), "mse")
    return model
original, resumed = scaled(), scaled()
original.fit(y, y, epochs=3, verbose=0)
original.save("scaled.keras")
tp.transfer("scaled.keras", resumed, mapping={"d": {"to": "d"}}, optimizer="transfer")
original.fit(y, y, verbose=0)
resumed.fit(y, y, verbose=0)
goes_on = all(map(np.allclose, original.get_weights(), resumed.get_weights()))
print(json.dumps({"same": bool(same), "frozen": bool(frozen), "codes": codes, "goes_on": goes_on}))
"""


@each_backend
def test_a_live_model_that_was_fitted_computes_and_trains_what_the_report_says(backend, folder):
    done = run(folder, backend, "-c", LIVE)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["same"], found["frozen"], found["goes_on"]) == (True, True, True)
    assert ("compile-needed" in found["codes"]) == (backend == "jax")


WATCHED = """
import sys, traceback
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            print("BY", [f.filename for f in traceback.extract_stack() if "importlib" not in f.filename][-2])
sys.meta_path.insert(0, Watch())
import my_models, transferpipe as tp
tp.catalog("s.keras")
print("READ", "tensorflow" in sys.modules)
rules = {"all": {"to": "c|bn"}, "head": {"to": "a", "from": None}}
tp.transfer("s.keras", my_models.net(), mapping=rules, freeze=["c"], save="m.keras", folder="out")
"""


@each_backend
def test_nothing_of_ours_imports_tensorflow(backend, folder):
    # Keras itself does, where it is installed: whenever `serialize_keras_object` writes a configuration it looks at
    # `tf.TensorShape` (keras/src/saving/serialization_lib.py, Keras 3.15); torch's compiler asks whether it is there.
    done = run(folder, backend, "-c", WATCHED)
    assert done.returncode == 0, done.stderr
    assert "READ False" in done.stdout
    importers = [line.removeprefix("BY ") for line in done.stdout.splitlines() if line.startswith("BY ")]
    assert all("/keras/src/" in path or "/torch/" in path for path in importers), importers


@each_backend
def test_a_sweep_and_a_score_of_features(backend, folder):
    words = ("sweep", "recipe=digits", "score=linear_probe", "freeze=none,transferred", "hydra.sweep.dir=swept")
    done = transferpipe(folder, backend, *words)
    assert done.returncode == 0, done.stderr
    scores = [v["score"]["value"] for v in json.loads((folder / "swept/sweep.json").read_text())["variants"]]
    assert len(scores) == 2 and min(scores) > 0.9


ALL = "import json, sys; from transferpipe.cli.main import main; print([main(words) for words in json.loads(sys.argv[1])])"


@each_backend
def test_what_only_tensorflow_does_is_refused_before_anything_runs(backend, folder):
    trained = [["run", "recipe=digits", "hydra.run.dir=out", *score] for score in ([], ["score=finetune"])]
    written = [["run", "recipe=r", "hydra.run.dir=out", f"save.path={name}"] for name in ("served", "model.ckpt")]
    done = run(folder, backend, "-c", ALL, json.dumps(trained + written))
    assert done.stdout.splitlines()[-1] == "[2, 2, 2, 2]", done.stderr
    assert not (folder / "out").exists()
    for score in ("head_training", "finetune"):
        assert f"{score} needs Keras on TensorFlow, and Keras runs on {backend}" in done.stderr
    assert done.stderr.count(f"Keras runs on {backend}") == 4
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("name", "text"), [("jaxx", "did you mean 'jax'?"), ("tpu", "Keras has the backends")])
def test_a_backend_that_does_not_exist(name, text, tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/r.yaml").write_text(RECIPE)
    (tmp_path / "my_models.py").write_text(BUILDERS)
    done = transferpipe(tmp_path, name, "plan", "recipe=r", "source.path=pkg://transferpipe/zoo/data/digits_0_4.keras")
    assert (done.returncode, text in done.stderr) == (2, True)


@pytest.mark.parametrize("others", [(), ("tensorflow",)])
def test_a_backend_that_is_not_installed(monkeypatch, others):
    from transferpipe.errors import RecipeError
    from transferpipe.models.building import build

    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr(build, "is_installed", lambda name: name in others)
    with pytest.raises(RecipeError) as caught:
        build.require_keras("verify.reload", "loading the result again")
    (problem,) = caught.value.problems
    assert problem.where == "verify.reload"
    assert problem.what == "loading the result again needs the package jax, which is not installed"
    instead = ", or set KERAS_BACKEND=tensorflow, which is installed" if others else ""
    assert problem.fix == f"pip install 'transferpipe[jax]'{instead}"


@pytest.mark.follows("require_keras: did you mean …?")
def test_a_misspelt_backend_is_answered_with_one_that_exists(monkeypatch):
    from transferpipe.errors import RecipeError
    from transferpipe.models.building import build

    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflw")
    with pytest.raises(RecipeError) as caught:
        build.require_keras("verify.reload", "loading the result again")
    (offered,) = re.findall(r"did you mean '(\w+)'\?", caught.value.problems[0].fix)
    monkeypatch.setenv("KERAS_BACKEND", offered)
    build.require_keras("verify.reload", "loading the result again")
    assert build.backend_of_keras() == "tensorflow"
