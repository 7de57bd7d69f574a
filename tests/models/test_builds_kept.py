"""Models that sources and targets are built as: built anew for every run, unless many runs are one."""

import subprocess
import sys

import pytest

from transferpipe.execute.open_recipe import builds_kept, open_recipe
from transferpipe.planning.reading.read_recipe import read_recipe

MODELS = """
import keras

CALLS = []
UNITS = 2


def fresh():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(UNITS, name="d")])


def trained(value):
    CALLS.append(value)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="d")])
    model.set_weights([weight + value for weight in model.get_weights()])
    return model
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    (tmp_path / "kept_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield lambda: sys.modules["kept_models"].CALLS
    sys.modules.pop("kept_models", None)


def source(value, seed=0):
    """Open a source that the builder makes, and return its kernel."""
    build = {"_target_": "kept_models.trained", "value": value}
    target = {"_target_": "transferpipe.zoo.small_mlp"}
    recipe = read_recipe({"source": build, "target": target, "unmatched": "keep", "seed": seed})
    return open_recipe(recipe).sources["source"].read("d/kernel")


def test_a_source_is_built_for_every_run_and_once_a_run(calls):
    assert (source(1.0) == source(1.0)).all()
    assert calls() == [1.0, 1.0]


def test_within_a_sweep_it_is_built_once(calls):
    with builds_kept():
        assert (source(1.0) == source(1.0)).all()
        assert (source(2.0) != source(1.0)).any()
    assert calls() == [1.0, 2.0]
    source(1.0)
    assert calls() == [1.0, 2.0, 1.0]


def target(seed=0):
    """Open a target that the builder makes, and return its model."""
    build = {"_target_": "kept_models.fresh"}
    recipe = read_recipe({"source": {"_target_": "kept_models.fresh"}, "target": build, "unmatched": "keep"})
    return open_recipe(recipe).target.model


def test_a_target_whose_builder_looks_elsewhere_is_built_for_every_run(calls):
    import kept_models

    assert target().output_shape == (None, 2)
    kept_models.UNITS = 5
    assert target().output_shape == (None, 5)
    with builds_kept():
        assert target() is target()


def test_a_target_that_was_drawn_is_not_kept(calls):
    with builds_kept():
        first = target()
        for variable in first.variables:
            variable._deferred_initialize()
        assert target() is not first


def test_another_seed_draws_other_weights(calls):
    with builds_kept():
        assert (source(1.0, seed=1) != source(1.0, seed=2)).any()


def test_only_the_last_few_are_kept(calls):
    with builds_kept():
        for value in (1.0, 2.0, 3.0, 1.0):
            source(value)
    assert calls() == [1.0, 2.0, 3.0, 1.0]


def test_a_builder_that_sets_floatx_gets_what_it_asks_for(tmp_path):
    """In a process of its own: where a layer was made before, Keras itself has settled for the policy that it has."""
    (tmp_path / "half.py").write_text(
        "import keras\n\ndef net():\n    keras.config.set_floatx('float16')\n"
        "    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name='d')])\n"
    )
    code = (
        "from transferpipe.execute.open_recipe import open_recipe\n"
        "from transferpipe.planning.reading.read_recipe import read_recipe\n"
        "data = {'source': {'_target_': 'half.net'}, 'target': {'_target_': 'half.net'}, 'unmatched': 'keep'}\n"
        "opened = open_recipe(read_recipe(data))\n"
        "import keras\n"
        "print(opened.target.structure.catalog['d/kernel'].dtype, keras.config.floatx())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["float16", "float32"], done.stderr
