"""`optimizer: transfer` from files that say themselves whose slots their arrays are: TensorFlow's, and Keras 2's `.h5`."""

import re

import h5py
import keras
import numpy as np
import pytest
import tf_bundles as tf

import transferpipe as tp
from transferpipe.errors import RecipeError

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(8, 4)).astype("float32"), RANDOM.normal(size=(8, 2)).astype("float32")
NAMES = ("z", "b", "out")
OPTIMIZERS = {
    "Adam": {"learning_rate": 0.01, "amsgrad": True},
    "SGD": {"learning_rate": 0.01, "momentum": 0.9},
    "RMSprop": {"learning_rate": 0.01, "momentum": 0.5, "centered": True},
    "Adagrad": {"learning_rate": 0.01},
    "Adadelta": {"learning_rate": 0.5},
    "Adamax": {"learning_rate": 0.01},
}
follows = pytest.mark.follows
MODEL = {"all": {"to": ".*", "from": r"model/\g<0>"}}


def build(names=NAMES, optimizer="Adam", framework=keras, optimizers=None, **settings):
    dense = framework.layers.Dense
    hidden = [dense(4, activation="tanh", name=name) for name in names[:-1]]
    model = framework.Sequential([framework.layers.InputLayer((4,)), *hidden, dense(2, name=names[-1])])
    made = getattr(optimizers or framework.optimizers, optimizer)(**(settings or OPTIMIZERS[optimizer]))
    model.compile(made, framework.losses.MeanSquaredError(), run_eagerly=True)
    return model


def train(model, steps=2):
    for _ in range(steps):
        model.train_on_batch(X, Y)
    return model


def transfer(source, target, mapping=None, **recipe):
    return tp.transfer(source, target, mapping=mapping or {"all": {"to": ".*"}}, optimizer="transfer", **recipe)


def slots(model):
    """What Keras calls every array of the optimizer, by the weight's path without the model's name."""
    return {v.path.rpartition("/")[2].removeprefix(f"{model.name}_"): np.asarray(v) for v in model.optimizer.variables}


@pytest.fixture(scope="module")
def old_keras():
    return pytest.importorskip("tf_keras")


def write_checkpoint(model, optimizer, folder):
    tensorflow = pytest.importorskip("tensorflow")
    return tensorflow.train.Checkpoint(model=model, optimizer=optimizer).write(str(folder / "ckpt"))


@pytest.mark.filterwarnings("ignore::UserWarning:tf_keras", "ignore:You are saving your model")
def test_a_momentum_of_zero_is_left_behind(old_keras, tmp_path):
    """From Keras 2.11 on SGD keeps one whatever it is; Keras 3 does not."""
    original = train(build(framework=old_keras, optimizer="SGD", learning_rate=0.05))
    original.save(tmp_path / "s.h5")
    target = build(optimizer="SGD", learning_rate=0.05)
    report = transfer(tmp_path / "s.h5", target)
    assert "6 of the source are not used" in str(report.plan.optimizer)
    for model in (original, target):
        train(model)
    for one, other in zip(original.get_weights(), target.get_weights(), strict=True):
        assert np.allclose(one, other, atol=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning:tf_keras", "ignore:You are saving your model")
def test_nadam_before_keras_2_11_is_refused_by_name(old_keras, tmp_path):
    made = old_keras.optimizers.legacy
    train(build(framework=old_keras, optimizer="Nadam", optimizers=made, learning_rate=0.01)).save(tmp_path / "s.h5")
    with pytest.raises(RecipeError, match="trained with Nadam, of which Keras 3 keeps other numbers"):
        transfer(tmp_path / "s.h5", build(optimizer="Nadam", learning_rate=0.01))


CASES = [("h5", name) for name in OPTIMIZERS]
CASES += [(kind, name) for kind in ("checkpoint", "weights", "saved_model") for name in ("Adam", "SGD")]


@pytest.mark.filterwarnings("ignore::UserWarning:tf_keras", "ignore:You are saving your model")
@pytest.mark.parametrize("age", ["legacy", "later"])
@pytest.mark.parametrize(("kind", "optimizer"), CASES)
def test_training_goes_on_as_in_keras_2(old_keras, optimizer, age, kind, tmp_path):
    made = old_keras.optimizers.legacy if age == "legacy" else old_keras.optimizers
    settings = OPTIMIZERS[optimizer]
    original = train(build(framework=old_keras, optimizer=optimizer, optimizers=made, **settings))
    source = tmp_path / {"h5": "s.h5", "checkpoint": "ckpt", "weights": "w", "saved_model": "folder"}[kind]
    if kind == "checkpoint":
        write_checkpoint(original, original.optimizer, tmp_path)
    elif kind == "weights":
        original.save_weights(source)
    else:
        original.save(source)
    target = build(optimizer=optimizer, **settings)
    report = transfer(source, target, MODEL if kind == "checkpoint" else None)
    anew = re.findall("[0-9]+ start anew, the first the ([^:]*)", str(report.plan.optimizer))
    # In an `.h5` the learning rate is in the configuration alone.
    assert anew == (["learning_rate of all weights"] if kind == "h5" else [])
    assert int(target.optimizer.iterations) == 2
    train(original)
    train(target)
    for one, other in zip(original.get_weights(), target.get_weights(), strict=True):
        assert np.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(("kind", "more"), [("h5", ()), ("checkpoint", ("new",))])
def test_keras_3_into_a_model_of_other_layers(kind, more, tmp_path):
    original = train(build(), 1)
    if kind == "h5":
        original.save(tmp_path / "s.h5")
    else:
        write_checkpoint(original, original.optimizer, tmp_path)
    place = r"model/\g<0>" if kind == "checkpoint" else r"\g<0>"
    target = build(("b", *more, "z", "out"))
    rules = {"old": {"to": "z|b|out", "from": place}, **({"new": {"to": "new", "from": None}} if more else {})}
    report = transfer(tmp_path / ("s.h5" if kind == "h5" else "ckpt"), target, rules)
    ours, theirs = slots(target), slots(original)
    for name in theirs:
        assert np.array_equal(ours[name], theirs[name]), name
    assert not more or not ours["new_kernel_velocity"].any()
    assert f"that of {tmp_path}" in str(report.plan.optimizer)


def test_layers_without_weights_in_a_legacy_file(tmp_path):
    def build_functional():
        dense = [keras.layers.Dense(n, name=name) for name, n in (("z", 4), ("out", 2))]
        outputs = dense[1](keras.layers.Flatten()(dense[0](inputs := keras.Input((4,)))))
        model = keras.Model(inputs, outputs)
        model.compile(keras.optimizers.Adam(0.01), keras.losses.MeanSquaredError(), run_eagerly=True)
        return model

    original, target = train(build_functional(), 1), build_functional()
    original.save(tmp_path / "s.h5")
    transfer(tmp_path / "s.h5", target)
    for one, other in zip(original.optimizer.variables, target.optimizer.variables, strict=True):
        assert np.array_equal(one, other), one.path


IN_CHECKPOINTS = {
    "Adam": {"learning_rate": 0.01, "gradient_accumulation_steps": 2},
    "SGD": {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), "momentum": 0.9},
    "Lamb": {"learning_rate": 0.01},
}


@pytest.mark.parametrize("optimizer", IN_CHECKPOINTS)
def test_checkpoints_of_keras_3(optimizer, tmp_path):
    original = train(build(optimizer=optimizer, **IN_CHECKPOINTS[optimizer]), 3)
    write_checkpoint(original, original.optimizer, tmp_path)
    target = build(optimizer=optimizer, **IN_CHECKPOINTS[optimizer])
    transfer(tmp_path / "ckpt", target, MODEL)
    for model in (original, target):
        train(model)
    for one, other in zip(original.get_weights(), target.get_weights(), strict=True):
        assert np.allclose(one, other, atol=1e-6)


BY_MODULE_OR_PATH = {"Lamb": {"learning_rate": 0.01}, "Muon": {"learning_rate": 0.01, "exclude_layers": ["z"]}}


@pytest.mark.parametrize("optimizer", BY_MODULE_OR_PATH)
@pytest.mark.parametrize("name", ["s.keras", "s.weights.h5"])
def test_optimizers_that_keras_reads_by_module_or_that_choose_by_path(optimizer, name, tmp_path):
    original = train(build(optimizer=optimizer, **BY_MODULE_OR_PATH[optimizer]), 3)
    (original.save if name == "s.keras" else original.save_weights)(tmp_path / name)
    target = build(optimizer=optimizer, **BY_MODULE_OR_PATH[optimizer])
    transfer(tmp_path / name, target)
    for ours, theirs in zip(target.optimizer.variables, original.optimizer.variables, strict=True):
        assert np.array_equal(ours, theirs), ours.path


@pytest.mark.filterwarnings("ignore::UserWarning:tf_keras", "ignore:You are saving your model")
@pytest.mark.parametrize(
    ("kind", "scaled", "target_scaled"), [("h5", False, False), ("saved_model", False, False), ("h5", True, False),
                                          ("h5", True, True), ("saved_model", True, True)],
)  # fmt: skip
def test_nadam_and_scaled_losses_of_keras_2(old_keras, kind, scaled, target_scaled, tmp_path):
    name = "Adam" if scaled else "Nadam"
    original = build(framework=old_keras, optimizer=name, learning_rate=0.01)
    if scaled:
        scaling = old_keras.mixed_precision.LossScaleOptimizer(original.optimizer, initial_scale=4.0)
        original.compile(scaling, "mse", run_eagerly=True)
    train(original)
    source = tmp_path / ("s.h5" if kind == "h5" else "folder")
    original.save(source)
    target = build(optimizer=name, learning_rate=0.01)
    if target_scaled:
        scaling = keras.optimizers.LossScaleOptimizer(target.optimizer, initial_scale=4.0)
        target.compile(scaling, "mse", run_eagerly=True)
    transfer(source, target)
    for model in (original, target):
        train(model)
    for one, other in zip(original.get_weights(), target.get_weights(), strict=True):
        assert np.allclose(one, other, atol=1e-6)


def step_of_tensorflow_1(weights, slots, powers, gradients, rate=0.01, epsilon=1e-7):
    """Do what `tf.compat.v1.train.AdamOptimizer` does in a step (training_ops.cc, ApplyAdam), in float64."""
    rate *= np.sqrt(1 - powers[1]) / (1 - powers[0])
    for name, gradient in gradients.items():
        m, v = slots[name]
        m += (1 - 0.9) * (gradient - m)
        v += (1 - 0.999) * (gradient**2 - v)
        weights[name] -= rate * m / (np.sqrt(v) + epsilon)
    powers[0] *= 0.9
    powers[1] *= 0.999


@follows("_derive_from_steps: compile the target with")
def test_adam_of_tensorflow_1_goes_on(tmp_path):
    random = np.random.default_rng(5)
    weights = {name: random.normal(size=shape) for name, shape in SHAPES.items()}
    slots, powers = {name: (np.zeros(shape), np.zeros(shape)) for name, shape in SHAPES.items()}, [0.9, 0.999]
    gradients = [{name: random.normal(size=shape) for name, shape in SHAPES.items()} for _ in range(45)]
    for each in gradients[:40]:
        step_of_tensorflow_1(weights, slots, powers, each)
    checkpoint = tf.Checkpoint()
    for name, value in weights.items():
        place = "/".join(name.rsplit("_", 1))
        for own, array in (("", value), ("/Adam", slots[name][0]), ("/Adam_1", slots[name][1])):
            checkpoint.add(place + own, array.astype("float32"))
    for name, power in zip(("beta1_power", "beta2_power"), powers, strict=True):
        checkpoint.add(name, np.array(power, "float32"))
    checkpoint.write(tmp_path / "ckpt")
    target = build(learning_rate=0.01)
    report = transfer(tmp_path / "ckpt", target)
    assert int(target.optimizer.iterations) == 40 and "iterations included" in str(report.plan.optimizer)
    for each in gradients[40:]:
        step_of_tensorflow_1(weights, slots, powers, each)
        of = [each["_".join(v.path.split("/")[-2:])].astype("float32") for v in target.trainable_variables]
        target.optimizer.apply(of, target.trainable_variables)
    for variable in target.trainable_variables:
        assert np.allclose(variable, weights["_".join(variable.path.split("/")[-2:])], atol=1e-5)
    with pytest.raises(RecipeError, match=r"other powers than those of the target's betas, 0\.8 and") as caught:
        transfer(tmp_path / "ckpt", build(learning_rate=0.01, beta_1=0.8))
    assert caught.value.problems[0].fix.startswith("compile the target with the betas of the original")


TENSORFLOW_1 = {
    "Momentum": ("SGD", {"momentum": 0.9}, {"momentum": 0.9}),
    "Momentum, nesterov": ("SGD", {"momentum": 0.9, "use_nesterov": True}, {"momentum": 0.9, "nesterov": True}),
    "RMSProp": ("RMSprop", {"epsilon": 1e-7}, {}),
    "RMSProp, centered": ("RMSprop", {"epsilon": 1e-7, "centered": True, "momentum": 0.5},
                          {"centered": True, "momentum": 0.5}),
    "Adagrad": ("Adagrad", {}, {}),
    "Adadelta": ("Adadelta", {"epsilon": 1e-7}, {}),
    "Ftrl": ("Ftrl", {"l1_regularization_strength": 0.01}, {"l1_regularization_strength": 0.01}),
}  # fmt: skip


@pytest.mark.parametrize("kind", TENSORFLOW_1)
def test_other_optimizers_of_tensorflow_1_go_on(kind, tmp_path):
    v1 = pytest.importorskip("tensorflow").compat.v1
    optimizer, theirs, ours = TENSORFLOW_1[kind]
    called = kind.partition(",")[0]
    with v1.Graph().as_default() as graph:
        step = v1.train.get_or_create_global_step()
        variables = {}
        for k, (name, shape) in enumerate(SHAPES.items()):
            first = np.random.default_rng(k).normal(size=shape).astype("float32")
            variables[name] = v1.get_variable("/".join(name.rsplit("_", 1)), initializer=first)
        made = getattr(v1.train, f"{called}Optimizer")(0.05, **theirs)
        given = {name: v1.placeholder("float32", shape) for name, shape in SHAPES.items()}
        train_op = made.apply_gradients([(given[n], v) for n, v in variables.items()], global_step=step)
        gradients = [{n: RANDOM.normal(size=s).astype("float32") for n, s in SHAPES.items()} for _ in range(6)]
        with v1.Session(graph=graph) as session:
            session.run(v1.global_variables_initializer())
            for each in gradients[:4]:
                session.run(train_op, {given[n]: g for n, g in each.items()})
            v1.train.Saver().save(session, str(tmp_path / "ckpt"))
            for each in gradients[4:]:
                session.run(train_op, {given[n]: g for n, g in each.items()})
            expected = session.run(variables)
    target = build(optimizer=optimizer, learning_rate=0.05, **ours)
    transfer(tmp_path / "ckpt", target)
    assert int(target.optimizer.iterations) == 4
    for each in gradients[4:]:
        of = [each["_".join(v.path.split("/")[-2:])] for v in target.trainable_variables]
        target.optimizer.apply(of, target.trainable_variables)
    for variable in target.trainable_variables:
        assert np.allclose(variable, expected["_".join(variable.path.split("/")[-2:])], atol=1e-5)


def write_slots(path, *slots, more=()):
    checkpoint = tf.Checkpoint()
    for name, shape in SHAPES.items():
        for k, own in enumerate(("", *slots)):
            checkpoint.add("/".join([*name.rsplit("_", 1), *([own] if own else [])]), np.full(shape, k, "float32"))
    for name, value in more:
        checkpoint.add(name, np.array(value))
    checkpoint.write(path)


def test_the_rate_of_a_schedule_and_adamax_of_tensorflow_1(tmp_path):
    write_slots(tmp_path / "ckpt", "Momentum", more=[("global_step", np.int64(7))])
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([5], [0.5, 0.25])
    target = build(optimizer="SGD", learning_rate=rate, momentum=0.9)
    report = transfer(tmp_path / "ckpt", target)
    assert all((value == -0.25).all() for name, value in slots(target).items() if name.endswith("momentum"))
    assert report.plan.optimizer.slots[-1].transforms == ({"scale": -0.25},)
    write_slots(tmp_path / "other", "AdaMax", "AdaMax_1", more=[("beta1_power", np.float32(0.9**4))])
    target = build(optimizer="Adamax", learning_rate=0.01)
    transfer(tmp_path / "other", target)
    assert int(target.optimizer.iterations) == 3
    assert all((v == 1 + (n[-4:] == "norm")).all() for n, v in slots(target).items() if v.ndim)


def test_two_optimizers_of_tensorflow_1_for_the_same_weights(tmp_path):
    write_slots(tmp_path / "ckpt", "Adam", "Adam_1", "Adam_2", "Adam_3")
    with pytest.raises(RecipeError, match="holds the state of 2 optimizers"):
        transfer(tmp_path / "ckpt", build(learning_rate=0.01))
    write_slots(tmp_path / "one", "Momentum")
    with pytest.raises(RecipeError, match=r"was trained with SGD, .* is compiled with Adam"):
        transfer(tmp_path / "one", build(learning_rate=0.01))


SHAPES = {f"{n}_{w}": (4, 2 if n == "out" else 4)[w == "bias" :] for n in NAMES for w in ("kernel", "bias")}
VALUES = {(k, n): RANDOM.uniform(1, 2, s).astype("float32") for k in ("one", "two") for n, s in SHAPES.items()}


def write_old_h5(path, arrays, optimizer):
    """Write what Keras 2.2.4 does: a model, and these arrays of its optimizer in order."""
    build(optimizer=optimizer).save(path)
    with h5py.File(path, "a") as file:
        if "optimizer_weights" in file:
            del file["optimizer_weights"]
        group = file.create_group("optimizer_weights")
        group.attrs["weight_names"] = [name.encode() for name, _ in arrays]
        for name, value in arrays:
            group[name] = value
        for place in (file, file["model_weights"]):
            place.attrs["keras_version"] = "2.2.4"


@pytest.mark.parametrize(
    ("optimizer", "kinds", "settings", "counts"),
    [
        ("Adam", ("momentum", "velocity"), {}, True),
        ("Adadelta", ("accumulated_grad", "accumulated_delta_var"), {}, False),
        ("SGD", ("momentum",), {"momentum": 0.9}, True),
    ],
)
def test_before_keras_2_3_the_order_tells(optimizer, kinds, settings, counts, tmp_path):
    values = [VALUES[k, n] for k in ("one", "two")[: len(kinds)] for n in SHAPES]
    values += [np.zeros(1, "float32") for _ in SHAPES] if optimizer == "Adam" else []
    arrays = [(f"training/{optimizer}/Variable{f'_{i}' if i else ''}:0", v) for i, v in enumerate(values)]
    arrays = [(f"{optimizer}/iterations:0", np.array(7, "int64")), *arrays] if counts else arrays
    write_old_h5(tmp_path / "s.h5", arrays, optimizer)
    target = build(("b", "z", "out"), optimizer, learning_rate=0.01, **settings)
    report = transfer(tmp_path / "s.h5", target)
    ours = slots(target)
    for k, kind in zip(("one", "two"), kinds, strict=False):
        for name in SHAPES:
            assert np.array_equal(ours[f"{name}_{kind}"], VALUES[k, name]), str(report.plan.optimizer)
    assert int(target.optimizer.iterations) == 7 * counts


@follows("slots_by_itself: load it where it")
def test_arrays_that_neither_names_nor_order_tell(tmp_path):
    arrays = [(f"training/Adam/Variable_{i}:0", VALUES["one", n]) for i, n in enumerate(reversed(SHAPES))]
    write_old_h5(tmp_path / "s.h5", arrays, "Adam")
    with pytest.raises(RecipeError, match="does not tell which of its weights the 6 arrays belong to") as caught:
        transfer(tmp_path / "s.h5", build())
    found = re.search(r"save the whole model as (\S+), or set optimizer=(\w+)", caught.value.problems[0].fix)
    tp.transfer(tmp_path / "s.h5", build(), mapping={"all": {"to": ".*"}}, optimizer=found[2])
    train(build(), 1).save(tmp_path / f"s{found[1]}")
    assert transfer(tmp_path / f"s{found[1]}", build()).plan.optimizer.fate == "transferred"


def checkpoint(path, *kinds, count=1, more=()):
    """Write a checkpoint by hand, as Keras 2.10 does: the optimizer names the weight of every slot."""
    model = {n: {w: tf.variable(f"{n}/{w}", *SHAPES[f"{n}_{w}"]) for w in ("kernel", "bias")} for n in NAMES}
    root = {"model": model}
    for k in range(count):
        named = {
            (v, kind): tf.variable("slot", *v.value.shape, start=100 * (i + 1))
            for i, kind in enumerate(kinds)
            for layer in model.values()
            for v in layer.values()
        }
        shared = {name: tf.variable(name) for name in ("iter", "learning_rate", *more)}
        root[f"optimizer{k}"] = {**shared, "slots": named}
    tf.object_checkpoint(root).write(path)
    return model


def test_the_graph_of_a_checkpoint_names_the_weight_of_every_slot(tmp_path):
    model = checkpoint(tmp_path / "ckpt", "v", "m")
    target = build(("b", "z", "out"), learning_rate=0.01)
    transfer(tmp_path / "ckpt", target, MODEL)
    ours = slots(target)
    for name, layer in model.items():
        for own, variable in layer.items():
            for start, kind in ((100, "velocity"), (200, "momentum")):
                assert np.array_equal(ours[f"{name}_{own}_{kind}"], variable.value + start)


@pytest.mark.parametrize(
    ("kinds", "keys", "said"),
    [
        pytest.param(("rms",), {}, "records no class of an optimizer, holds velocity of .* Adam .* momentum and velocity",
                     marks=follows("_check_same: compile the target with")),
        pytest.param(("m", "v"), {"count": 2}, "holds the state of 2 optimizers",
                     marks=follows("slots_by_itself: save a checkpoint with")),
        pytest.param(("m", "v"), {"more": ("momentum_cache",)}, "trained with Nadam, of which Keras 3 keeps other",
                     marks=follows("_check_same: set optimizer=drop")),
    ],
)  # fmt: skip
def test_state_of_another_kind_is_refused_and_can_be_dropped(kinds, keys, said, tmp_path):
    model = checkpoint(tmp_path / "ckpt", *kinds, **keys)
    target = build(learning_rate=0.01)
    with pytest.raises(RecipeError, match=said) as caught:
        transfer(tmp_path / "ckpt", target, MODEL)
    value = re.search(r"set optimizer=(\w+)", caught.value.problems[0].fix)[1]
    tp.transfer(tmp_path / "ckpt", target, mapping=MODEL, optimizer=value)
    assert np.array_equal(target.get_layer("z").kernel, model["z"]["kernel"].value)
    if keys.get("more"):
        return  # there is no other way
    # The other way that is offered: one optimizer, a target that is compiled alike.
    model = checkpoint(tmp_path / "ckpt", *kinds)
    name, slot = ("RMSprop", "velocity") if kinds == ("rms",) else ("Adam", "momentum")
    target = build(optimizer=name, learning_rate=0.01)
    transfer(tmp_path / "ckpt", target, MODEL)
    assert np.array_equal(slots(target)[f"z_kernel_{slot}"], model["z"]["kernel"].value + 100)
