"""What is advised of a parity check, done as it is printed: the check then passes on equal models, and fails on others."""

import re

import keras
import numpy as np
import pytest
import yaml
from advice import offered
from keras import layers

import transferpipe as tp
from transferpipe.errors import TransferError, VerificationError

follows = pytest.mark.follows
ALL = {"all": {"to": ".*"}}
RANDOM = np.random.default_rng(1)


def net(shape=(4,)):
    image = keras.Input(shape, name="image")
    x = layers.Flatten()(image) if len(shape) > 1 else image
    return keras.Model(image, layers.Dense(2, name="out")(layers.Dense(3, activation="tanh", name="hidden")(x)))


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = net()
    for v in model.variables:
        v.assign(RANDOM.normal(size=v.shape))
    model.save("s.keras")
    record(model)
    return model


def record(model, **renamed):
    """Write what the advice asks for: the inputs, and what the original makes of them."""
    x = RANDOM.normal(size=(5, *model.input_shape[1:])).astype("float32")
    np.savez("x.npz", **{renamed.get("image", "image"): x})
    np.savez("y.npz", **{renamed.get("out", "out"): np.asarray(model(x))})


def verdict(parity, source="s.keras", build=net, **keys):
    return tp.transfer(source, build(), mapping=ALL, verify={"parity": parity}, **keys).verdict.function


def advised(parity, source="s.keras", build=net, **keys):
    with pytest.raises(TransferError) as caught:
        verdict(parity, source, build, **keys)
    return caught.value.problems[0].fix


def forms(fix):
    """Return every value for `parity` that a hint writes."""
    found = re.findall(r"parity: (source|\{.*?\})", fix)
    return [yaml.safe_load(text) for text in found]


def differs(parity):
    """Tell whether a check fails on a model that computes something else."""

    def other():
        model = net()
        return keras.Model(model.inputs, model.get_layer("out")(keras.ops.tanh(model.get_layer("hidden").output)))

    with pytest.raises(VerificationError):
        verdict(parity, build=other)
    return True


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(3, marks=follows("_parse_parity: write parity: source, or")),
        pytest.param({"atol": 0.1}, marks=follows("_parse_parity: write parity: source, or #2")),
    ],
)
def test_how_a_check_is_written(wrong, source):
    found = forms(advised(wrong))
    assert found == ["source", {"inputs": "x.npz", "expected": "y.npz"}]
    for parity in found:
        assert verdict(parity) == "pass"
        assert differs(parity)


@follows("_parse_source: did you mean …?")
def test_the_source_to_compare_with(source):
    keys = {"source": {"teacher": "s.keras"}}
    rule = {"all": {"to": ".*", "from": r"teacher:\g<0>"}}

    def run(parity):
        return tp.transfer(keys["source"], net(), mapping=rule, verify={"parity": parity})

    with pytest.raises(TransferError) as caught:
        run({"source": "techer"})
    assert run({"source": offered(caught.value.problems[0].fix)[0]}).verdict.function == "pass"
    with pytest.raises(TransferError) as caught:
        run({"source": "zzz"})
    assert run({"source": caught.value.problems[0].fix.removeprefix("the sources are ")}).verdict.function == "pass"


FILES = {"inputs": "x.npz", "expected": "y.npz"}


@follows("_check_names: did you mean …?", "sort_expected: did you mean …?")
def test_names_of_inputs_and_outputs(source):
    def two():
        a, b = keras.Input((2,), name="left"), keras.Input((2,), name="right")
        return keras.Model([a, b], layers.Dense(2, name="out")(layers.Concatenate()([a, b])))

    model = two()
    model.save("two.keras")
    x = {n: RANDOM.normal(size=(5, 2)).astype("float32") for n in ("left", "right")}
    y = np.asarray(model([x["left"], x["right"]]))
    np.savez("x.npz", left=x["left"], rigt=x["right"])
    np.savez("y.npz", out=y)
    name = offered(advised(FILES, "two.keras", two))[0]
    np.savez("x.npz", **{"left": x["left"], name: x["right"]})
    assert verdict(FILES, "two.keras", two) == "pass"
    np.savez("x.npz", left=x["left"], zzz=x["right"])
    names = advised(FILES, "two.keras", two).removeprefix("the model's inputs are ").split(", ")
    np.savez("x.npz", **{name: x[name] for name in names})
    assert verdict(FILES, "two.keras", two) == "pass"
    record(source)
    with np.load("y.npz") as file:
        out = file["out"]
    np.savez("y.npz", out=out, hiden=np.zeros((5, 3)))
    layer = offered(advised(FILES))[0]
    hidden = keras.Model(source.inputs, source.get_layer("hidden").output)
    with np.load("x.npz") as file:
        np.savez("y.npz", **{"out": out, layer: np.asarray(hidden([file["image"]]))})
    assert verdict(FILES) == "pass"


@pytest.mark.parametrize("first", [False, True])
@follows("_fit_dtype: write it with shape")
def test_inputs_of_another_shape(first, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def build():
        return net((5, 6, 3))

    model = build()
    model.save("m.keras")
    x = RANDOM.normal(size=(8, 5, 6, 3)).astype("float32")
    np.savez("y.npz", out=np.asarray(model(x)))
    np.savez("x.npz", image=x.transpose(0, 3, 1, 2) if first else x.reshape(8, -1))
    fix = advised(FILES, "m.keras", build)
    with np.load("x.npz") as file:
        wrong = file["image"]
    if first:
        right = eval(fix.partition("write ")[2], {"x": wrong})
    else:
        shape = fix.partition("shape ")[2].replace("any", "-1")
        right = wrong.reshape(eval(shape))
    assert np.array_equal(right, x)
    np.savez("x.npz", image=right)
    assert verdict(FILES, "m.keras", build) == "pass"


@follows("_not_taken: write inputs that the")
@pytest.mark.parametrize("rows", [4, 9])
def test_tokens_that_the_original_refuses(rows):
    def build(count=4):
        x = keras.Input((3,), dtype="int32")
        table = layers.Embedding(count, 2, name="table", embeddings_initializer="normal")
        return keras.Model(x, layers.Dense(2)(layers.Flatten()(table(x))))

    source, target = build(), build(rows)
    x = RANDOM.integers(0, 4, (5, 3)).astype("int32")
    with pytest.raises(tp.RecipeError) as caught:
        tp.parity(source, target, inputs={"x": x + 100 if rows == 4 else x + 1})
    assert caught.value.problems[0].fix.endswith("inputs that the original takes")
    values = [
        np.concatenate([w, np.zeros((t.shape[0] - w.shape[0], 2))]) if w.shape != t.shape else w
        for w, t in zip(source.get_weights(), target.get_weights(), strict=True)
    ]
    target.set_weights(values)
    assert tp.parity(source, target, inputs={"x": x}).verdict == "pass"


class Twice(layers.Layer):
    def call(self, x):
        return 2 * x


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("weights", marks=follows("check_runnable: run the original where")),
        pytest.param("lambda", marks=follows("check_config: run the original where")),
        pytest.param("own class", marks=follows("check_config: register the class in")),
    ],
)
def test_the_original_runs_where_it_runs(kind, source):
    def build():
        x = image = keras.Input((4,), name="image")
        x = layers.Dense(3, name="hidden")(x)
        if kind != "weights":
            x = layers.Lambda(lambda v: 2 * v, name="t")(x) if kind == "lambda" else Twice(name="t")(x)
        return keras.Model(image, layers.Dense(2, name="out")(x))

    model = build()
    record(model)
    path = "w.weights.h5" if kind == "weights" else "m.keras"
    (model.save_weights if kind == "weights" else model.save)(path)
    fix = advised("source", path, build)
    (parity,) = forms(fix)
    assert verdict(parity, path, build) == "pass"
    if kind == "own class":
        assert "keras.saving" in fix
        before = dict(keras.saving.get_custom_objects())
        try:
            keras.saving.register_keras_serializable("hints")(Twice)
            model.save(path)
            assert verdict("source", path, build) == "pass"
        finally:
            keras.saving.get_custom_objects().clear()
            keras.saving.get_custom_objects().update(before)


@follows("check_operations: run the original where")
def test_a_graph_that_reaches_beyond_its_model(source, tmp_path):
    messages = pytest.importorskip("tensorflow.core.protobuf.saved_model_pb2")
    from transferpipe.prove.parity.graphs.graph_operations import check_operations

    message = messages.SavedModel()
    message.meta_graphs.add().graph_def.node.add(name="n", op="WriteFile")
    (tmp_path / "saved_model.pb").write_bytes(message.SerializeToString())
    with pytest.raises(TransferError) as caught:
        check_operations(tmp_path)
    (parity,) = forms(caught.value.problems[0].fix)
    assert verdict(parity) == "pass"
    assert differs(parity)


@follows("_check_size: run the original where")
def test_a_configuration_that_declares_too_much(source, monkeypatch):
    from transferpipe.prove.parity import references

    def refuse(*_):
        raise references.DeclaredTooMuchError

    monkeypatch.setattr(references, "check_declared", refuse)
    (parity,) = forms(advised("source"))
    assert verdict(parity) == "pass"


@follows("as_inputs: write numpy.savez(path, …)")
def test_the_line_that_writes_the_inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def two():
        a, b = keras.Input((2,), name="left"), keras.Input((2,), name="right")
        return keras.Model([a, b], layers.Dense(2, name="out")(layers.Concatenate()([a, b])))

    model = two()
    model.save("two.keras")
    x = {n: RANDOM.normal(size=(5, 2)).astype("float32") for n in ("left", "right")}
    np.savez("y.npz", out=np.asarray(model([x["left"], x["right"]])))
    np.savez("x.npz", one=x["left"])
    line = advised(FILES, "two.keras", two).removeprefix("write ")
    line = re.sub(r"(\w+)=\.\.\.", r"\1=\1", line)
    eval(line, {"numpy": np, "path": "x.npz", **x})
    assert verdict(FILES, "two.keras", two) == "pass"
