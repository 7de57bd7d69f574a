"""`optimizer: transfer`: slots go along the mapping, and Keras goes on training from them as the original does."""

import operator
import re

import keras
import numpy as np
import pytest
from keras import layers
from unfolded import unfolded

import transferpipe as tp
from transferpipe.errors import RecipeError
from transferpipe.planning.reading.read_plan import plan_from_data

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(32, 4)).astype("float32"), RANDOM.normal(size=(32, 2)).astype("float32")
follows = pytest.mark.follows
ALL = {"all": {"to": ".*"}}


def make(names=("z", "b", "a"), optimizer="adam", frozen=()):
    hidden = [layers.Dense(4, activation="tanh", name=name) for name in names]
    model = keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(2, name="out")])
    for name in frozen:
        model.get_layer(name).trainable = False
    if optimizer is not None:
        model.compile(optimizer, keras.losses.MeanSquaredError(), run_eagerly=True)  # quicker than to trace
    return model


def fit(model, steps=3):
    model.fit(X, Y, batch_size=32, epochs=steps, shuffle=False, verbose=0)
    return model


def slots(model):
    """What Keras calls every array of the optimizer, by the weight's path without the model's name."""
    found = {}
    for v in model.optimizer.variables:
        name = v.path.rpartition("/")[2]
        found[name.removeprefix(f"{model.name}_")] = np.asarray(v)
    return found


def transfer(folder, source, target, **recipe):
    recipe = {"mapping": ALL, "optimizer": "transfer", "save": {"path": "out.keras", "overwrite": True}, **recipe}
    report = tp.transfer(source, target, folder=folder, **recipe)
    return report, keras.models.load_model(folder / "out.keras")


def several():
    rest = keras.optimizers.SGD(0.01, momentum=0.9)
    return keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(rest, {".*/b/.*": keras.optimizers.Adam(0.01)})
    )


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01),
    "amsgrad": lambda: keras.optimizers.Adam(0.01, amsgrad=True, use_ema=True, ema_momentum=0.9),
    "sgd": lambda: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "nadam": lambda: keras.optimizers.Nadam(0.01),
    "adafactor": lambda: keras.optimizers.Adafactor(0.01),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
}


def scaled_nadam():
    return keras.optimizers.LossScaleOptimizer(OPTIMIZERS["nadam"]())


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_training_goes_on_as_that_of_the_original(kind, tmp_path):
    original = fit(make(optimizer=OPTIMIZERS[kind]()))
    original.save(tmp_path / "s.keras")
    make(optimizer=OPTIMIZERS[kind]()).save(tmp_path / "t.keras")
    report, resumed = transfer(tmp_path, tmp_path / "s.keras", tmp_path / "t.keras")
    assert report.plan.optimizer.fate == "transferred"
    loaded = keras.models.load_model(tmp_path / "s.keras")
    for one, other in zip(loaded.optimizer.variables, resumed.optimizer.variables, strict=True):
        assert np.array_equal(one, other), one.path
    fit(loaded)
    fit(resumed)
    for one, other in zip(loaded.get_weights(), resumed.get_weights(), strict=True):
        assert np.allclose(one, other, atol=1e-6)


def test_several_optimizers_in_one(tmp_path):
    original, target = fit(make(optimizer=several())), make(("b", "z", "a"), several())
    tp.transfer(original, target, mapping=ALL, optimizer="transfer")
    ours, theirs = slots(target), slots(original)
    assert {n for n in theirs if n.endswith("velocity")} == {"b_kernel_velocity", "b_bias_velocity"}
    for name in theirs:
        assert np.array_equal(ours[name], theirs[name]), name
    # The weight of one class's slots goes to a weight of another's, which start anew.
    target = make(("b", "z", "a"), several())
    crossed = {"all": {"to": "z|a|out"}, "b": {"to": "b", "from": "z"}}
    report = tp.transfer(original, target, mapping=crossed, optimizer="transfer")
    assert not slots(target)["b_kernel_momentum"].any() and "z/kernel has none" in str(report.plan.optimizer)


def test_several_optimizers_of_a_file_and_chosen_by_a_function(tmp_path):
    """Keras itself loads nothing of the file's: what was sequential/b/kernel is b/kernel there, which the map passes by."""
    original = fit(make(optimizer=several()))
    original.save(tmp_path / "s.keras")
    adam, rest = keras.optimizers.Adam(0.01), keras.optimizers.SGD(0.01, momentum=0.9)
    by_function = keras.optimizers.MultiOptimizer(lambda variable: adam if "/b/" in variable.path else rest)
    for source, optimizer in ((tmp_path / "s.keras", several()), (original, by_function)):
        target = make(("b", "z", "a"), optimizer)
        tp.transfer(source, target, mapping=ALL, optimizer="transfer")
        ours, theirs = slots(target), slots(original)
        assert {n for n in theirs if n.endswith("velocity")} == {"b_kernel_velocity", "b_bias_velocity"}
        for name in theirs:
            assert np.array_equal(ours[name], theirs[name]), name


@pytest.mark.warns("optimizer-not-saved")
@follows("code: optimizer-not-saved")
def test_a_map_by_paths_that_loading_changes_is_warned_of(tmp_path):
    original = fit(make(optimizer=several()))
    with pytest.warns(UserWarning, match="Skipping variable loading for optimizer"):
        report, model = transfer(tmp_path, original, make(optimizer=several()))
    (warning,) = [w for w in report.warnings if w.code == "optimizer-not-saved"]
    assert not any("velocity" in name for name in slots(model))
    (key,) = re.findall(r"matches both paths, such as '(.+)'$", warning.text)
    chosen = {key.replace("kernel", "(kernel|bias)"): keras.optimizers.Adam(0.01)}
    rest = keras.optimizers.SGD(0.01, momentum=0.9)
    target = make(optimizer=keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(rest, chosen)))
    report, model = transfer(tmp_path, original, target)
    assert "optimizer-not-saved" not in [w.code for w in report.warnings]
    assert np.array_equal(slots(model)["b_kernel_velocity"], slots(original)["b_kernel_velocity"])


@pytest.mark.parametrize(
    ("source", "target", "form"),
    [("scaled", "adam", ".keras"), ("adam", "scaled", ".keras"), ("nadam", "scaled_nadam", ".keras")]
    + [("scaled_nadam", target, form) for target in ("nadam", "scaled_nadam") for form in (".keras", ".h5", "live")],
)
def test_a_scale_of_the_loss_is_no_part_of_the_state(source, target, form, tmp_path):
    """Keras does not save a Nadam's product of momenta below a LossScaleOptimizer: it follows from the steps."""
    made = {**OPTIMIZERS, "scaled_nadam": scaled_nadam}
    original, goes_on = fit(make(optimizer=made[source]())), fit(make(optimizer=made[target]()), 1)
    if form != "live":
        original.save(tmp_path / f"s{form}")
    tp.transfer(original if form == "live" else tmp_path / f"s{form}", goes_on, mapping=ALL, optimizer="transfer")
    for one, other in zip(fit(original).get_weights(), fit(goes_on).get_weights(), strict=True):
        assert np.allclose(one, other, atol=1e-6)


@pytest.mark.warns("optimizer-not-saved")
@follows("code: optimizer-not-saved")
@pytest.mark.parametrize("source", ["nadam", "scaled_nadam"])
def test_what_keras_does_not_save_of_an_optimizer_is_said(source, tmp_path):
    original = fit(make(optimizer={**OPTIMIZERS, "scaled_nadam": scaled_nadam}[source]()))
    original.save(tmp_path / "s.keras")
    target = make(optimizer=scaled_nadam())
    target.save(tmp_path / "t.keras")
    report, model = transfer(tmp_path, tmp_path / "s.keras", tmp_path / "t.keras")
    (warning,) = [w for w in report.warnings if w.code == "optimizer-not-saved"]
    product = model.optimizer.inner_optimizer._u_product
    assert float(product) == 1
    place, value = re.search(r"after loading, call model\.(\S+)\.assign\((\S+)\)", warning.text).groups()
    assert operator.attrgetter(place)(model) is product
    product.assign(float(value))
    for one, other in zip(fit(original).get_weights(), fit(model).get_weights(), strict=True):
        assert np.allclose(one, other, atol=1e-6)
    # A live model has it.
    assert not tp.transfer(tmp_path / "s.keras", target, mapping=ALL, optimizer="transfer").warnings


@pytest.mark.parametrize(
    ("source", "target"),
    [("s.keras", "t.keras"), ("s.h5", "t.keras"), ("s.weights.h5", "t.keras"), ("s.h5", "live"), ("live", "live")],
)
def test_one_more_layer_and_another_order(source, target, tmp_path):
    original = fit(make(optimizer=OPTIMIZERS["adam"]()))
    original.save(tmp_path / "s.keras")
    original.save(tmp_path / "s.h5")
    original.save_weights(tmp_path / "s.weights.h5")
    grown = make(("a", "new", "z", "b"), OPTIMIZERS["adam"]())
    grown.save(tmp_path / "t.keras")
    report, resumed = transfer(
        tmp_path,
        original if source == "live" else tmp_path / source,
        grown if target == "live" else tmp_path / target,
        mapping={"old": {"to": "a|z|b|out"}, "new": {"to": "new", "from": None}},
    )
    theirs = slots(original)
    for model in (resumed, grown) if target == "live" else (resumed,):
        ours = slots(model)
        assert int(ours["iteration"]) == 3
        for layer in ("a", "z", "b", "out"):
            for kind in ("kernel_momentum", "kernel_velocity", "bias_momentum", "bias_velocity"):
                assert np.array_equal(ours[f"{layer}_{kind}"], theirs[f"{layer}_{kind}"])
        assert not ours["new_kernel_velocity"].any()
        fit(model)
    said = str(report.plan.optimizer)
    assert said in unfolded(report)
    assert "4 start anew, the first the momentum of new/kernel: it takes nothing from source" in said
    # The table of a terminal folds long lines, also within words.
    assert "".join(said.split()) in "".join(str(report.plan).split())
    assert plan_from_data(report.plan.to_data()) == report.plan


def test_slots_go_through_the_permutation_of_their_weight(tmp_path):
    original = fit(make(optimizer=OPTIMIZERS["sgd"]()))
    original.save(tmp_path / "s.keras")
    make(optimizer=OPTIMIZERS["sgd"]()).save(tmp_path / "t.keras")
    turned = {"turned": {"to": "z", "transform": {"kernel": ["transpose"]}}, "rest": {"to": "b|out"}}
    computed = {"computed": {"to": "a", "transform": {"kernel": [{"scale": 0.5}]}}}
    report, resumed = transfer(tmp_path, tmp_path / "s.keras", tmp_path / "t.keras", mapping={**turned, **computed})
    theirs, ours = slots(original), slots(resumed)
    assert np.array_equal(ours["z_kernel_momentum"], theirs["z_kernel_momentum"].T)
    assert not ours["a_kernel_momentum"].any()
    assert "the momentum of a/kernel: its value is computed, not moved" in str(report.plan.optimizer)


def test_what_is_frozen_has_no_slots(tmp_path):
    original = fit(make(optimizer=OPTIMIZERS["adam"]()))
    make(optimizer=OPTIMIZERS["adam"]()).save(tmp_path / "t.keras")
    report, resumed = transfer(tmp_path, original, tmp_path / "t.keras", freeze=["z"])
    theirs, ours = slots(original), slots(resumed)
    assert "z_kernel_momentum" not in ours
    assert np.array_equal(ours["b_kernel_momentum"], theirs["b_kernel_momentum"])
    assert "4 of the source are not used, the first the momentum of z/kernel" in str(report.plan.optimizer)


def test_averages_of_new_weights_start_from_the_weights(tmp_path):
    original = fit(make(("z",), OPTIMIZERS["amsgrad"]()))
    make(("z", "new"), OPTIMIZERS["amsgrad"]()).save(tmp_path / "t.keras")
    rules = {"old": {"to": "z|out"}, "new": {"to": "new", "from": None}}
    _, resumed = transfer(tmp_path, original, tmp_path / "t.keras", mapping=rules)
    ours = slots(resumed)
    assert np.array_equal(ours["new_kernel_average"], resumed.get_layer("new").kernel)
    assert np.array_equal(ours["z_kernel_average"], slots(original)["z_kernel_average"])


def test_nested_models_and_attention(tmp_path):
    def build():
        inner = keras.Sequential(
            [keras.Input((3, 4)), layers.Dense(4, name="d"), layers.BatchNormalization(name="n")], name="inner"
        )
        inputs = keras.Input((3, 4))
        x = layers.MultiHeadAttention(2, 2, name="mha")(inner(inputs), inputs)
        x = layers.Bidirectional(layers.LSTM(2), name="bi")(x)
        model = keras.Model(inputs, layers.Dense(1, name="out")(x))
        model.compile(OPTIMIZERS["adam"](), keras.losses.MeanSquaredError(), run_eagerly=True)
        return model

    data = RANDOM.normal(size=(8, 3, 4)).astype("float32")
    original = build()
    original.fit(data, np.ones((8, 1)), verbose=0)
    original.save(tmp_path / "s.keras")
    target = build()
    report, resumed = transfer(tmp_path, tmp_path / "s.keras", target)
    assert " start anew" not in str(report.plan.optimizer)
    for model in (resumed, target):
        for one, other in zip(original.optimizer.variables, model.optimizer.variables, strict=True):
            assert np.array_equal(one, other), one.path


def drop(problem):
    """Return the recipe's key that a hint says to set, with its value."""
    return dict([re.search(r"set (optimizer)=(\w+)", problem.fix).groups()])


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        pytest.param("adam", "sgd", "was trained with Adam, .* is compiled with SGD",
                     marks=follows("plan_transfer: compile the target with")),
        pytest.param("adam", None, "is not compiled: it names no optimizer",
                     marks=follows("_unnamed: compile the model and")),
        pytest.param(None, "adam", "holds no state of an optimizer", marks=follows("_holder: name a model that")),
    ],
)  # fmt: skip
def test_what_cannot_be_transferred_is_refused(source, target, said, tmp_path):
    model = make(optimizer=source)
    (fit(model) if source else model).save(tmp_path / "s.keras")
    make(optimizer=target).save(tmp_path / "t.keras")
    with pytest.raises(RecipeError, match=said) as caught:
        transfer(tmp_path, tmp_path / "s.keras", tmp_path / "t.keras")
    (problem,) = caught.value.problems
    keys = drop(problem) if source else {}  # what the last says is to leave it out
    recipe = {"mapping": ALL, "save": {"path": "out.keras", "overwrite": True}, **keys}
    tp.transfer(tmp_path / "s.keras", tmp_path / "t.keras", folder=tmp_path, **recipe)
    result = keras.models.load_model(tmp_path / "out.keras", compile=False)
    assert all(map(np.array_equal, result.get_weights(), model.get_weights()))
    # The other way that is offered: a target compiled alike, a source that was trained.
    fit(make()).save(tmp_path / "s.keras")
    make().save(tmp_path / "t.keras")
    assert transfer(tmp_path, tmp_path / "s.keras", tmp_path / "t.keras")[0].plan.optimizer.fate == "transferred"


@follows("_unnamed: take that .h5 file,")
def test_an_optimizer_that_keras_forgot_on_saving_h5_before(tmp_path):
    """Keras 3.15 takes it out of what the model remembers of `compile`, and saves its arrays without its class."""
    original, target = fit(make()), make()
    original.save(tmp_path / "s.h5")
    original.save(tmp_path / "s.keras")
    with pytest.raises(RecipeError, match=r"s\.keras has an optimizer's arrays and does not name its class") as caught:
        tp.plan(tmp_path / "s.keras", target, mapping=ALL, optimizer="transfer")
    assert drop(caught.value.problems[0]) == {"optimizer": "drop"}
    original.compile(original.optimizer, keras.losses.MeanSquaredError())
    original.save(tmp_path / "again.keras")
    for source in ("s.h5", "again.keras"):
        assert tp.plan(tmp_path / source, target, mapping=ALL, optimizer="transfer").optimizer.fate == "transferred"


@follows("_slots_of_target: load it with Keras")
def test_a_whole_legacy_target_is_built_without_its_optimizer(tmp_path):
    fit(make()).save(tmp_path / "s.keras")
    fit(make(), 1).save(tmp_path / "t.h5")
    keys = {"mapping": ALL, "save": "m.keras"}
    dropped = tp.plan(tmp_path / "s.keras", tmp_path / "t.h5", **keys).optimizer
    assert str(dropped).startswith(
        "optimizer state dropped (18 arrays): the model is built of the file's configuration"
    )
    with pytest.raises(RecipeError, match=r"cannot be kept: the model is built of the file's configuration"):
        tp.plan(tmp_path / "s.keras", tmp_path / "t.h5", **keys, optimizer="keep")
    with pytest.raises(RecipeError, match="without the optimizer that the file has"):
        tp.plan(tmp_path / "s.keras", tmp_path / "t.h5", **keys, optimizer="transfer")
    keras.models.load_model(tmp_path / "t.h5").save(tmp_path / "t.keras")
    assert transfer(tmp_path, tmp_path / "s.keras", tmp_path / "t.keras")[0].plan.optimizer.fate == "transferred"


@follows("_unnamed: take the whole model,")
def test_a_target_of_weights_alone_is_told_to_be_taken_whole(tmp_path):
    fit(make()).save(tmp_path / "s.keras")
    make().save_weights(tmp_path / "t.weights.h5")
    with pytest.raises(RecipeError, match="holds weights alone: it names no optimizer") as caught:
        transfer(tmp_path, tmp_path / "s.keras", tmp_path / "t.weights.h5")
    (suffix,) = re.findall(r"saved as (\.\w+),", caught.value.problems[0].fix)
    make().save(tmp_path / f"t{suffix}")
    assert transfer(tmp_path, tmp_path / "s.keras", tmp_path / f"t{suffix}")[0].plan.optimizer.fate == "transferred"


@pytest.mark.parametrize(
    ("case", "also"),
    [
        pytest.param("quantized", {"quantize": None}, marks=follows("plan_transfer: set optimizer=drop")),
        pytest.param("computed", {}, marks=follows("plan_transfer: set optimizer=drop, or take")),
        pytest.param("not compiled", {}, marks=follows("_slots_of_target: call model.compile in the")),
        pytest.param("two sources", {}, marks=follows("_holder: leave the optimizer out")),
    ],
)
def test_it_is_dropped_where_that_is_advised(case, also, tmp_path):
    original = fit(make())
    target = make(optimizer=None if case == "not compiled" else "adam")
    source, recipe = original, {"mapping": ALL, "optimizer": "transfer"}
    if case == "quantized":
        recipe["quantize"] = "int8"
    if case == "computed":
        recipe["mapping"] = {"all": {"to": ".*", "transform": [{"scale": 2.0}]}}
    if case == "two sources":
        source = {"a": original, "b": fit(make(), 1)}
        recipe["mapping"] = {"all": {"to": ".*", "from": r"a:\g<0>"}}
    with pytest.raises(RecipeError) as caught:
        tp.transfer(source, target, **recipe)
    (problem,) = caught.value.problems
    tp.transfer(source, target, **{**recipe, **also, **drop(problem)})
    factor = 2 if case == "computed" else 1
    for ours, theirs in zip(target.get_weights(), original.get_weights(), strict=True):
        assert np.allclose(ours, factor * theirs)


@follows("plan_transfer: save a … file")
def test_outputs_that_cannot_hold_it_are_refused_and_the_hint_helps(tmp_path):
    original = fit(make())
    make().save(tmp_path / "t.keras")
    with pytest.raises(RecipeError, match=r"out.npz cannot hold an optimizer's state.*save.also") as caught:
        transfer(tmp_path, original, tmp_path / "t.keras", save={"path": "out.npz"})
    suffix, key = re.search(r"save a (\S+) or .*: save\.(\w+)=", caught.value.problems[0].fix).groups()
    _, saved = transfer(tmp_path, original, tmp_path / "t.keras", save={"path": "o.npz", key: [f"out{suffix}"]})
    assert all(map(np.array_equal, saved.optimizer.variables, original.optimizer.variables))


@follows("_slots_of_target: call model.compile again after")
def test_a_live_model_that_was_built_for_others_is_refused(tmp_path):
    original, target = fit(make()), fit(make(frozen=["z"]))
    target.get_layer("z").trainable = True
    with pytest.raises(RecipeError, match="was built for other trainable weights"):
        tp.transfer(original, target, mapping=ALL, optimizer="transfer")
    target.compile("adam", keras.losses.MeanSquaredError(), run_eagerly=True)
    tp.transfer(original, target, mapping=ALL, optimizer="transfer")
    assert np.array_equal(slots(target)["z_kernel_momentum"], slots(original)["z_kernel_momentum"])
    before = [np.asarray(v) for v in original.optimizer.variables]
    fit(original)
    fit(target)
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(original.get_weights(), target.get_weights(), strict=True))
    assert not all(map(np.array_equal, before, original.optimizer.variables))


def test_a_live_model_is_what_it_was_if_anything_fails(monkeypatch):
    from transferpipe.execute import live

    original, target = fit(make()), fit(make())
    before = [np.asarray(v) for v in (*target.optimizer.variables, *target.variables)]

    def fail(_):
        raise RuntimeError("late")

    monkeypatch.setattr(live, "_check_parity", fail)
    with pytest.raises(RuntimeError, match="late"):
        tp.transfer(original, target, mapping=ALL, optimizer="transfer")
    assert all(map(np.array_equal, before, [*target.optimizer.variables, *target.variables]))


def test_a_wrong_slot_in_the_finished_file_is_found(tmp_path, monkeypatch):
    from transferpipe.errors import VerificationError
    from transferpipe.save import optimizer_state

    original = fit(make())
    make().save(tmp_path / "t.keras")
    right = optimizer_state.slot_value
    monkeypatch.setattr(optimizer_state, "slot_value", lambda *args: right(*args) * 2)
    with pytest.raises(VerificationError, match="is not the momentum of z/kernel that the plan gives it"):
        transfer(tmp_path, original, tmp_path / "t.keras")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param("initial", marks=follows("_initial: set optimizer=drop")),
        pytest.param("other arrays", marks=follows("_slots_of_source: load it with the")),
    ],
)
def test_state_that_cannot_be_taken_apart_is_dropped(case, tmp_path, monkeypatch):
    from transferpipe.models.state.optimizer_slots import Slot
    from transferpipe.save import optimizer_transfer

    original, target = fit(make()), make(("a", "b", "new"))
    original.save(tmp_path / "s.keras")
    if case == "initial":
        monkeypatch.setattr(Slot, "value", lambda self: np.arange(2.0))
    if case == "other arrays":
        monkeypatch.setattr(optimizer_transfer, "find_stored_places", lambda *_: None)
    recipe = {"mapping": {"r": {"to": "a|b|out"}}, "unmatched": "keep"}
    with pytest.raises(RecipeError) as caught:
        tp.transfer(tmp_path / "s.keras", target, optimizer="transfer", **recipe)
    tp.transfer(tmp_path / "s.keras", target, **recipe, **drop(caught.value.problems[0]))
    assert np.array_equal(target.get_layer("a").kernel, original.get_layer("a").kernel)


@follows("_slots_of_weights: save the whole model")
def test_a_file_of_weights_that_does_not_tell_their_order(tmp_path):
    def build(more=False):
        parts = [layers.Dense(4, name="more")] if more else []
        model = keras.Sequential(
            [
                keras.Input((3, 4)),
                *parts,
                layers.Bidirectional(layers.SimpleRNN(2), name="r"),
                layers.Dense(2, name="out"),
            ]
        )
        model.compile("adam", keras.losses.MeanSquaredError(), run_eagerly=True)
        return model

    original = build()
    original.fit(RANDOM.normal(size=(8, 3, 4)), Y[:8], epochs=2, verbose=0)
    original.save_weights(tmp_path / "s.weights.h5")
    recipe = {"mapping": {"r": {"to": "r|out"}}, "unmatched": "keep", "optimizer": "transfer"}
    with pytest.raises(RecipeError) as caught:
        tp.transfer(tmp_path / "s.weights.h5", build(more=True), **recipe)
    fix = caught.value.problems[0].fix
    suffix = re.search(r"save the whole model as (\S+)", fix)[1]
    original.save(tmp_path / f"s{suffix}")
    target = build(more=True)
    tp.transfer(tmp_path / f"s{suffix}", target, **recipe)
    assert int(target.optimizer.iterations) == int(original.optimizer.iterations)
    tp.transfer(tmp_path / "s.weights.h5", build(more=True), **{**recipe, **drop(caught.value.problems[0])})


class Plain(layers.Layer):
    def call(self, x):
        return 2 * x


@follows("slots_of_file: import the modules of")
def test_a_file_whose_class_is_not_known(tmp_path):
    registered = keras.saving.get_custom_objects()
    before = dict(registered)

    def build(kind):
        model = keras.Sequential(
            [keras.Input((4,)), layers.Dense(4, name="a"), kind(name="p"), layers.Dense(2, name="out")]
        )
        model.compile("adam", keras.losses.MeanSquaredError(), run_eagerly=True)
        return model

    original = fit(build(Plain))
    original.save(tmp_path / "s.keras")
    recipe = {"mapping": ALL, "optimizer": "transfer"}
    target = build(layers.ReLU)
    with pytest.raises(RecipeError) as caught:
        tp.transfer(tmp_path / "s.keras", target, **recipe)
    tp.transfer(tmp_path / "s.keras", target, **{**recipe, **drop(caught.value.problems[0])})
    assert np.array_equal(target.get_layer("a").kernel, original.get_layer("a").kernel)
    assert "use the live model" in caught.value.problems[0].fix
    tp.transfer(original, target, **recipe)
    assert int(target.optimizer.iterations) == int(original.optimizer.iterations)
    registered.clear()
    registered.update(before)
