"""Models built without their weights: drawn later, these are the ones of an ordinary build, or nothing is deferred."""

import gc
import random
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tricky_builders
import troubled_builders
import written_zoo
from keras.src.backend.common import global_state

import transferpipe as tp
from transferpipe.models.building.build import build_model
from transferpipe.models.deferred.initializers import is_repeatable
from transferpipe.models.walk import record, recordings_noted, walk
from transferpipe.recipe.model import Build

SEED = 5
DEFERRED = [
    "dense_net", "nested_twice", "shared", "unnamed", "many", "branches", "recurrent", "conv_lstm", "attention",
    "wrappers", "norms", "kernels", "embeddings", "dropouts", "preprocessing", "looked_up", "vectorized", "customs",
    "float16", "bfloat16", "mixed_float16", "partly_frozen", "recorded", "extended", "diamond", "bare", "nested_lists",
    "custom_attributes", "held_composites", "with_metrics", "keyed", "kinds", "renormalized", "float8",
]  # fmt: skip
ORDINARY = ["normalization", "compiled", "int8", "int4", "quantized_embedding", "lora", "odd", "halved", "tracked"]
LATER = [
    "calls_on_data", "reads_without_assigning", "draws_numbers_itself", "one_initializer_for_many", "every_initializer",
    "fused_biases", "changes_the_policy",
]  # fmt: skip
AT_ONCE = [
    "compiles", "variable_from_array", "sets_weights", "scales_by_norm", "loads_weights", "loads_a_model",
    "trains_a_step", "adapts", "enables_lora", "draws_from_the_global_generator", "function_initializer",
    "lambda_initializer", "partial_initializer", "counting_initializer", "derived_initializer", "bound_initializer",
    "seed_generator", "fused_bias_of_a_user", "fused_bias_with_generator", "thrown_away", "clears_the_session_half_way",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _ready(monkeypatch, tmp_path):
    monkeypatch.chdir(Path(__file__).parents[2])
    tricky_builders.CALLS.clear()
    for cached in (troubled_builders.backbone, troubled_builders.fresh_backbone):
        cached.cache_clear()
    sys.modules.pop("tricky_backbone", None)
    monkeypatch.setenv("TRICKY_WEIGHTS", str(tmp_path / "w.weights.h5"))
    monkeypatch.setenv("TRICKY_MODEL", str(tmp_path / "w.keras"))
    monkeypatch.setenv("TRICKY_LOG", str(tmp_path / "log"))


@pytest.fixture
def saved(tmp_path):
    """Weights in files, for builders that load them; returns them."""
    keras.utils.set_random_seed(99)
    model = tricky_builders.plain()
    model.save_weights(tmp_path / "w.weights.h5")
    model.save(tmp_path / "w.keras")
    return model.get_weights()


def tricky(name):
    return Build(f"tricky_builders.{name}", where="target")


def troubled(name):
    return Build(f"troubled_builders.{name}", where="target")


def zoo(name):
    return Build("written_zoo.build", {"name": name}, where="target")


def ordinary(builder, *arguments):
    """Build a model as Keras does."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(SEED)
    return builder(*arguments)


def assert_same_weights(found, wanted):
    """Compare all saved weights, read in an order of chance and twice."""
    one, other = walk(found, ""), walk(wanted, "")
    names = [w.name for w in one.catalog]
    assert names == [w.name for w in other.catalog]
    assert one.catalog.weights == other.catalog.weights
    for name in random.sample(names * 2, len(names) * 2):
        assert one.read(name).dtype == other.read(name).dtype, name
        assert one.read(name).tobytes() == other.read(name).tobytes(), name


def pending(model):
    return [v for v in model.variables if v._value is None]


@pytest.mark.parametrize("name", DEFERRED)
@pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`:UserWarning")
def test_the_zoo_deferred(name):
    found, deferred = build_model(zoo(name), SEED)
    assert deferred
    assert len(pending(found)) == len(found.variables)
    assert_same_weights(found, ordinary(written_zoo.build, name))
    assert len(pending(found)) == len(found.variables), "reading a value must not keep it"


@pytest.mark.parametrize("name", ORDINARY)
def test_the_zoo_that_is_built_at_once(name):
    found, deferred = build_model(zoo(name), SEED)
    assert not deferred
    assert not pending(found)
    assert_same_weights(found, ordinary(written_zoo.build, name))


@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50", "ConvNeXtTiny"])
def test_keras_applications(name):
    arguments = {"weights": None, "input_shape": [32, 32, 3], "classes": 5}
    found, deferred = build_model(Build(f"keras.applications.{name}", arguments, where="target"), SEED)
    assert deferred
    wanted = ordinary(lambda: getattr(keras.applications, name)(**arguments))
    one, other = walk(found, ""), walk(wanted, "")
    assert one.catalog.weights == other.catalog.weights
    for weight in random.sample(one.catalog.weights, 60):
        assert one.read(weight.name).tobytes() == other.read(weight.name).tobytes(), weight.name


@pytest.mark.parametrize("name", LATER)
def test_builders_whose_values_can_wait(name):
    found, deferred = build_model(tricky(name), SEED)
    assert deferred
    assert [name] == tricky_builders.CALLS
    wanted = ordinary(getattr(tricky_builders, name))
    keras.config.set_dtype_policy("float32")
    assert_same_weights(found, wanted)


@pytest.mark.parametrize("name", AT_ONCE)
def test_builders_whose_values_cannot_wait(name, saved):
    found, deferred = build_model(tricky(name), SEED)
    assert not deferred
    assert not pending(found)
    assert [name] * 2 == tricky_builders.CALLS
    assert_same_weights(found, ordinary(getattr(tricky_builders, name)))


def test_a_builder_that_clears_the_session(saved):
    """It ends the scope, seeds and names without knowing; what it builds then is ordinary, and as it is."""
    found, _ = build_model(tricky("clears_the_session"), SEED)
    assert not pending(found)
    assert_same_weights(found, ordinary(tricky_builders.clears_the_session))


def test_a_backbone_with_loaded_weights_that_the_builder_remembers(saved):
    """The first call makes it without values, and what it loads does not last; the second call finds it."""
    for calls in (2, 3):
        found, _ = build_model(troubled("on_a_remembered_backbone"), SEED)
        assert len(tricky_builders.CALLS) == calls
        assert not pending(troubled_builders.backbone())
        for value, wanted in zip(troubled_builders.backbone().get_weights(), saved, strict=True):
            assert value.tobytes() == wanted.tobytes()
        walked = walk(found, "")
        assert walked.read("a/kernel").tobytes() == saved[0].tobytes()


def test_a_fresh_backbone_that_the_builder_remembers():
    """Its values are settled once, and are those of an ordinary build."""
    build_model(troubled("on_a_remembered_fresh_backbone"), SEED)
    assert not pending(troubled_builders.fresh_backbone())
    first = troubled_builders.fresh_backbone()
    troubled_builders.fresh_backbone.cache_clear()
    assert_same_weights(first, ordinary(troubled_builders.fresh_backbone))


def test_a_backbone_that_a_module_loads_on_import(saved):
    found, _ = build_model(troubled("on_a_backbone_of_a_module"), SEED)
    assert walk(found, "").read("a/kernel").tobytes() == saved[0].tobytes()
    assert walk(found, "").read("b/bias").tobytes() == saved[3].tobytes()


@pytest.mark.parametrize(
    ("name", "message", "calls"),
    [
        ("fails", "troubled_builders.fails raised ValueError: no luck", 2),
        ("fails_the_second_time", "raised ValueError: once is enough", 2),
        ("returns_nothing", "returned an object of type NoneType, not a keras.Model", 2),
        ("not_built", "returned a model without weights: it was never built", 2),
        ("in_a_scope_of_its_own", "returned a model with weights that have no values yet", 2),
    ],
)
def test_builders_that_fail_leave_nothing_behind(name, message, calls):
    with pytest.raises(tp.RecipeError, match=message):
        build_model(troubled(name), SEED)
    assert tricky_builders.CALLS.count(name) == calls
    assert name == "in_a_scope_of_its_own" or not global_state.get_global_attribute("uninitialized_variables")
    assert not global_state.get_global_attribute("stateless_scope")
    found, deferred = build_model(tricky("calls_on_data"), SEED)
    assert deferred
    assert_same_weights(found, ordinary(tricky_builders.calls_on_data))


def test_side_effects_happen_at_most_twice(tmp_path):
    build_model(troubled("appends_to_a_file"), SEED)
    assert (tmp_path / "log").read_text() == "built\n" * 2


def test_a_later_scope_does_not_draw_what_is_still_to_be_drawn():
    """Keras initialises everything on its list when any scope ends."""
    found, _ = build_model(zoo("dense_net"), SEED)
    with keras.StatelessScope():
        pass
    assert len(pending(found)) == len(found.variables)


def test_values_are_the_same_after_other_builds():
    found, _ = build_model(zoo("dense_net"), SEED)
    before = {w.name: walk(found, "").read(w.name).tobytes() for w in walk(found, "").catalog}
    build_model(zoo("many"), 77)
    random.random()
    assert {w.name: walk(found, "").read(w.name).tobytes() for w in walk(found, "").catalog} == before


def test_nothing_of_the_first_call_stays_in_memory(saved):
    """Otherwise the weights of a builder that falls back would be held twice."""
    class_of = type(keras.Variable(0.0))
    # By `type`: `isinstance` asks some objects of torch for their `__class__`, which warn.
    gc.collect()
    before = sum(issubclass(type(o), class_of) for o in gc.get_objects())
    found, _ = build_model(tricky("sets_weights"), SEED)
    gc.collect()
    assert sum(issubclass(type(o), class_of) for o in gc.get_objects()) - before == len(found.variables)


@pytest.mark.parametrize("name", ["changes_the_policy", "calls_on_data", "compiles", "fails"])
def test_the_policy_of_the_process_is_left_as_it_was(name):
    """It decides what a builder makes, and a builder's own choice does not reach the next one."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        if name == "fails":
            with pytest.raises(tp.RecipeError):
                build_model(troubled(name), SEED)
        else:
            found, _ = build_model(tricky(name), SEED)
            wanted = "mixed_bfloat16" if name == "changes_the_policy" else "mixed_float16"
            assert found.get_layer("a").dtype_policy.name == wanted
        assert keras.config.dtype_policy().name == "mixed_float16"
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("name", ["shared", "many", "recurrent", "norms", "nested_twice", "customs"])
def test_what_is_recorded_while_it_is_built_is_what_is_recorded_later(name):
    with recordings_noted() as noted:
        model, deferred = build_model(zoo(name), SEED)
    assert deferred
    first, again = noted.pop(id(model)), record(model)
    assert not noted
    assert [(g.path, g.name, [key for key, _ in g.entries]) for g in first] == [
        (g.path, g.name, [key for key, _ in g.entries]) for g in again
    ]
    assert all(
        a.owner is b.owner and all(v is w for (_, v), (_, w) in zip(a.entries, b.entries, strict=True))
        for a, b in zip(first, again, strict=True)
    )


def test_nothing_is_recorded_of_what_is_built_at_once():
    with recordings_noted() as noted:
        _, deferred = build_model(tricky("compiles"), SEED)
    assert not deferred and not noted


def test_names_start_over():
    wanted = [layer.name for layer in ordinary(written_zoo.build, "unnamed").layers]
    for name in ("unnamed", "compiled", "unnamed"):
        found, _ = build_model(zoo(name), SEED)
        assert name == "compiled" or [layer.name for layer in found.layers] == wanted


@pytest.mark.parametrize(
    ("initializer", "repeatable"),
    [
        (keras.initializers.Zeros(), True),
        (keras.initializers.GlorotUniform(), True),
        (keras.initializers.RandomNormal(seed=3), True),
        (keras.initializers.Constant(np.arange(3)), True),
        (keras.initializers.RandomNormal(seed=keras.random.SeedGenerator(3)), False),
        (tricky_builders.Counting(), False),
        (tricky_builders.Derived(), False),
        (tricky_builders.from_numpy, False),
        (np.zeros, False),
        (keras.random.normal, False),
        (keras.initializers.STFT("real", window=tricky_builders.from_numpy), False),
        (None, False),
    ],
)
def test_what_counts_as_repeatable(initializer, repeatable):
    assert is_repeatable(initializer) is repeatable
