"""What is never a pass: constant outputs, NaN, models that refuse; and what is not compared: kept heads."""

import re

import keras
import numpy as np
import pytest
from keras import layers
from twins import filled

import transferpipe as tp
from transferpipe.prove.parity.inputs import draw_inputs
from transferpipe.prove.parity.keras_trace import InputSpec
from transferpipe.prove.parity.pairs import with_weightless

RANDOM = np.random.default_rng(0)
ALL = {"all": {"to": ".*"}}


def dense(classes=3, **more):
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, "tanh", name="body"), layers.Dense(classes, name="head", **more)]
    )


def test_constant_output_is_inconclusive():
    source = filled(dense())
    kernel, bias = source.layers[-1].get_weights()
    source.layers[-1].set_weights([kernel * 0, bias])
    found = tp.parity(source, keras.models.clone_model(source))
    assert found.verdict == "fail"  # fresh weights
    twin = dense()
    twin.set_weights(source.get_weights())
    found = tp.parity(source, twin)
    assert (found.verdict, "does not depend on the inputs" in found.reason) == ("inconclusive", True)


def test_values_that_are_not_finite_never_pass():
    source, twin = filled(dense()), dense()
    weights = source.get_weights()
    twin.set_weights(weights)
    source.layers[-1].set_weights([weights[2] * np.inf, weights[3]])
    assert tp.parity(source, twin).verdict == "fail"
    assert tp.parity(twin, source).verdict == "fail"
    twin.set_weights(source.get_weights())
    assert tp.parity(source, twin).verdict == "inconclusive"


def test_what_differs_in_between_is_told_beside_a_pass():
    def linear(factor):
        model = filled(
            keras.Sequential([keras.Input((6,)), layers.Dense(5, name="body"), layers.Dense(3, name="head")])
        )
        kernel, bias, last, end = model.get_weights()
        model.set_weights([kernel * factor, bias * factor, last / factor, end])
        return model

    found = tp.parity(linear(1), linear(2))
    assert (found.verdict, "1 in between differs and the end does not: body by" in found.headline) == ("pass", True)


def test_kept_head_is_not_compared_and_the_rest_is():
    source, target = filled(dense()), dense(4)
    mapping = {"body": {"to": "body"}, "head": {"to": "head", "from": None}}
    report = tp.transfer(source, target, mapping=mapping, verify={"parity": "source"})
    assert report.verdict.function == "pass"
    assert next((e.name, e.status) for e in report.parity.entries) == ("body", "equal")
    wrong = keras.Sequential([keras.Input((6,)), layers.Dense(5, "relu", name="body"), layers.Dense(3, name="head")])
    before = wrong.get_weights()
    with pytest.raises(tp.VerificationError, match="activation of body: relu, the original has tanh"):
        tp.transfer(source, wrong, mapping=mapping, verify={"parity": "source"})
    assert all(np.array_equal(a, b) for a, b in zip(before, wrong.get_weights(), strict=True))


def normed():
    stack = [layers.Dense(5, name="body"), layers.BatchNormalization(name="norm"), layers.Dense(3, name="head")]
    return keras.Sequential([keras.Input((6,)), *stack])


@pytest.mark.parametrize(
    ("kept", "first", "meant"),
    [("norm/moving_.*", "norm", "pass"), ("norm/moving_.*|body/.*", "body", "inconclusive")],
)
def test_weights_without_a_rule_before_layers_that_take_values_fail(kept, first, meant):
    mapping = {"all": {"to": ".*/.*", "except": kept}}
    keys = {"mapping": mapping, "unmatched": "keep", "verify": {"parity": "source"}}
    source = filled(normed())
    with pytest.raises(tp.VerificationError) as caught:
        tp.transfer(source, normed(), **keys)
    assert f"{first} is the first that differs" in str(caught.value)
    assert "no rule gives" in str(caught.value)
    mapping["kept"] = {"to": kept, "from": None}  # as it says, if that is meant
    assert tp.transfer(source, normed(), **keys).verdict.function == meant  # the body is compared
    del mapping["kept"], mapping["all"]["except"]  # as it says, if it is not
    assert tp.transfer(source, normed(), **keys).verdict.function == "pass"


def test_layers_without_a_rule_that_change_nothing_pass():
    def build(adapter):
        inputs = keras.Input((6,))
        x = layers.Dense(5, name="body")(inputs)
        if adapter:
            x = layers.Add()([x, layers.Dense(5, kernel_initializer="zeros", name="adapter")(x)])
        return keras.Model(inputs, layers.Dense(3, name="head")(x))

    mapping = {"all": {"to": "body|head"}}
    keys = {"mapping": mapping, "unmatched": "keep", "verify": {"parity": "source"}}
    assert tp.transfer(filled(build(False)), build(True), **keys).verdict.function == "pass"


def test_a_head_without_a_rule_is_not_compared():
    keys = {"mapping": {"body": {"to": "body"}}, "unmatched": "keep", "verify": {"parity": "source"}}
    assert tp.transfer(filled(dense()), dense(4), **keys).verdict.function == "pass"  # the body is compared


def test_everything_kept_is_inconclusive():
    source, target = filled(dense()), dense()
    mapping = {"body": {"to": "body", "from": None}, "head": {"to": "head"}}
    report = tp.transfer(source, target, mapping=mapping, verify={"parity": "source"})
    assert report.verdict.function == "inconclusive"
    assert "depends on weights that were kept, such as body/kernel" in report.verdict.reason
    assert "parity-inconclusive" in [w.code for w in report.warnings]


class Picky(layers.Layer):
    def call(self, x):
        if not keras.ops.is_tensor(x) or float(keras.ops.min(x)) < 10:
            raise ValueError("only values above 10")
        return x

    def compute_output_shape(self, shape):
        return shape


def test_a_model_that_refuses_random_inputs_asks_for_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def build():
        inputs = keras.Input((4,))
        return keras.Model(inputs, layers.Dense(2, name="d")(Picky(name="p")(inputs)))

    source = filled(build())
    report = tp.transfer(source, build(), mapping=ALL, verify={"parity": "source"})
    assert report.verdict.function == "inconclusive"
    assert "only values above 10" in report.verdict.reason
    assert "inputs: x.npz" in report.verdict.reason
    np.savez("x.npz", np.random.default_rng(0).uniform(10, 20, (3, 4)))  # as it says
    check = {"source": True, "inputs": "x.npz"}
    assert tp.transfer(source, build(), mapping=ALL, verify={"parity": check}).verdict.function == "pass"


class Subclassed(keras.Model):
    def __init__(self, activation=None):
        super().__init__()
        self.a = layers.Dense(4, activation, name="a")
        self.b = layers.Dense(2, name="b")

    def build(self, shape):
        self.a.build(shape)
        self.b.build((*shape[:-1], 4))
        self.built = True

    def call(self, x):
        return self.b(self.a(x))


class Tokens(Subclassed):
    def __init__(self):
        super().__init__()
        self.table = layers.Embedding(5, 3, name="table")

    def build(self, shape):
        super().build((*shape, 3))

    def call(self, x):
        return super().call(self.table(x))


@pytest.mark.parametrize("called", [True, False])
def test_subclassed_models_run_on_floats_of_the_shape_that_they_were_built_for(called):
    def build(activation=None):
        model = Subclassed(activation)
        model(np.zeros((1, 3), "float32")) if called else model.build((None, 3))
        return model

    source, twin, other = filled(build()), build(), build("relu")
    for model in (twin, other):
        model.set_weights(source.get_weights())
    # What is given may have any size that the model takes.
    inputs = {"x": np.random.default_rng(0).normal(size=(4, 2, 3)).astype("float32")}
    for more in ({}, {"inputs": inputs}):
        assert tp.parity(source, twin, **more).verdict == "pass"
        found = tp.parity(source, other, **more)
        assert (found.verdict, found.first) == ("fail", "a")


class Several(keras.Model):
    def __init__(self):
        super().__init__()
        self.a, self.b = layers.Dense(2, name="a"), layers.Dense(2, name="b")
        self.table = layers.Embedding(1, 2, name="table")

    def add(self, x, y, z):
        return self.a(x) + self.b(y) + self.table(z)


class Listed(Several):
    def call(self, inputs):
        return self.add(*inputs)


class Named(Several):
    def call(self, inputs):
        return self.add(inputs["x"], inputs["y"], inputs["z"])


class Apart(Several):
    def call(self, y, x, z):
        return self.add(x, y, z)


GIVEN = {"z": np.zeros(5, "i4"), "x": RANDOM.normal(size=(5, 3)).astype("f4"), "y": RANDOM.normal(size=(5, 4))}


@pytest.mark.parametrize(
    ("kind", "arguments", "given"),
    [
        (Tokens, [np.zeros((1, 2), "int32")], {"x": np.arange(10, dtype="int32").reshape(5, 2) % 5}),
        (Listed, [[np.ones((1, 3)), np.ones((1, 4)), np.zeros(1, "i4")]], {n: GIVEN[n] for n in "xyz"}),
        (Named, [{"x": np.ones((1, 3)), "y": np.ones((1, 4)), "z": np.zeros(1, "i4")}], GIVEN),
        (Apart, [np.ones((1, 4)), np.ones((1, 3)), np.zeros(1, "i4")], GIVEN),
    ],
)
def test_subclassed_models_of_tokens_and_of_several_inputs_are_run(kind, arguments, given):
    source, twin, other = kind(), kind(), kind()
    for model in (source, twin, other):
        model(*arguments)
    twin.set_weights(filled(source).get_weights())
    other.set_weights(source.get_weights())
    layer = other.layers[0]
    layer.set_weights([layer.get_weights()[0] * 1.5, *layer.get_weights()[1:]])
    assert tp.parity(source, twin, inputs=given).verdict == "pass"
    assert tp.parity(source, other, inputs=given).first == layer.name
    found = tp.parity(source, twin).verdict, tp.parity(source, other).first
    # Keras notes the shape of the first of several arguments alone.
    assert found == (("inconclusive", None) if kind is Apart else ("pass", layer.name))


def test_tokens_lie_below_the_vocabulary_and_texts_come_from_it():
    def build():
        ids, kinds = keras.Input((7,), dtype="int32", name="ids"), keras.Input((7,), dtype="int32", name="kinds")
        text = keras.Input((1,), dtype="string", name="text")
        looked = layers.StringLookup(vocabulary=["red", "green"], output_mode="one_hot", name="look")(text)
        x = layers.Add()([layers.Embedding(50, 4, name="words")(ids), layers.Embedding(2, 4, name="kinds_")(kinds)])
        return keras.Model(
            [ids, kinds, text], layers.Dense(3, name="d")(layers.Concatenate()([layers.Flatten()(x), looked]))
        )

    source, twin = filled(build()), build()
    twin.set_weights(source.get_weights())
    assert tp.parity(source, twin).verdict == "pass"
    weights = source.get_weights()
    weights[0][20:] = 0  # rows that only larger numbers reach
    twin.set_weights(weights)
    assert tp.parity(source, twin).first == "words"


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_an_embedding_of_one_row_is_given_zeros(dtype):
    def build():
        ids, kinds = keras.Input((7,), dtype=dtype, name="ids"), keras.Input((7,), dtype=dtype, name="kinds")
        x = layers.Add()([layers.Embedding(50, 4, name="words")(ids), layers.Embedding(1, 4, name="kind")(kinds)])
        return keras.Model([ids, kinds], layers.Dense(3, name="d")(layers.Flatten()(x)))

    source, twin = filled(build()), build()
    twin.set_weights(source.get_weights())
    assert tp.parity(source, twin).verdict == "pass"
    twin.get_layer("kind").set_weights([np.ones((1, 4))])
    assert tp.parity(source, twin).first == "kind"


def embedded(rows, steps=7):
    ids = keras.Input((steps,), dtype="int32", name="ids")
    return keras.Model(ids, layers.Dense(3, name="d")(layers.Flatten()(layers.Embedding(rows, 4, name="words")(ids))))


def test_given_tokens_that_the_original_takes_and_the_target_refuses_are_a_difference(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source, target = filled(embedded(60)), filled(embedded(50))
    ids = np.arange(14, dtype="int32").reshape(2, 7)
    ids[1, 3] = 57
    words = "words (Embedding) takes integers from 0 to 49, and input 'ids' holds 57 at [1, 3]"
    found = tp.parity(source, target, inputs={"ids": ids})
    assert (found.verdict, found.first, words in found.reason) == ("fail", "words", True)
    assert "in the original 60" in found.cause
    assert words in " ".join(str(found).split())
    np.savez("x.npz", ids)
    np.savez("y.npz", np.asarray(source(ids)))
    target.save("t.keras")
    with pytest.raises(tp.VerificationError, match=re.escape(words)):
        tp.transfer("t.keras", target, mapping=ALL, verify={"parity": {"inputs": "x.npz", "expected": "y.npz"}})


def test_given_inputs_of_a_shape_that_the_original_alone_takes_are_a_difference():
    ids = np.ones((2, 7), "int32")
    found = tp.parity(embedded(60), embedded(60, steps=8), inputs={"ids": ids})
    assert (found.verdict, "has shape (2, 7); the model takes (None, 8)" in found.reason) == ("fail", True)
    models = [Subclassed() for _ in range(2)]
    for model, size in zip(models, (3, 4), strict=True):
        model(np.ones((1, size), "float32"))
    found = tp.parity(*models, inputs={"x": np.ones((2, 3), "float32")})
    assert (found.verdict, found.first, "(2, 3)" in found.reason) == ("fail", "a", True)


def test_memory_that_is_missing_is_no_difference(monkeypatch):
    models = [filled(dense()) for _ in range(2)]

    def fail(*_, **__):
        raise MemoryError("out of memory")

    monkeypatch.setattr(type(models[1].layers[0]), "call", fail)
    found = tp.parity(*models, inputs={"x": np.ones((2, 6), "float32")})
    assert (found.verdict, "out of memory" in found.reason) == ("inconclusive", True)


@pytest.mark.parametrize(
    ("rows", "dtype", "shift"), [((50, 50), "float32", 0), ((50, 50), "int32", 2), ((24, 50), "int32", 0)]
)
def test_tokens_are_drawn_for_floats_too_and_below_what_both_models_take(rows, dtype, shift):
    def build(count):
        ids = keras.Input((7,), dtype=dtype, name="ids")
        looked = layers.Embedding(count, 4, name="words")(ids + shift if shift else ids)
        return keras.Model(ids, layers.Dense(3, name="d")(layers.Flatten()(looked)))

    source, target = filled(build(rows[0])), build(rows[1])
    weights = source.get_weights()
    weights[0] = np.concatenate([weights[0], np.zeros((rows[1] - rows[0], 4), "f4")])
    target.set_weights(weights)
    assert tp.parity(source, target).verdict == "pass"
    weights[0][20:] += 1
    target.set_weights(weights)
    assert tp.parity(source, target).first == "words"


@pytest.mark.parametrize(
    ("dtype", "expected"), [("bool", {False, True}), ("int64", {0, 1}), ("string", {"a", "b"}), ("float32", None)]
)
def test_what_is_drawn_is_not_the_same_for_all_samples(dtype, expected):
    """Three of two values are one value in one draw of four, and then no output could depend on the input."""
    for seed in range(20):
        ((values,),) = draw_inputs([InputSpec("x", (None,), dtype)], None, seed)
        assert len(set(values.tolist())) > 1
        assert expected in (None, set(values.tolist()))


@pytest.mark.parametrize("size", [1, 2])
def test_a_model_of_a_fixed_number_of_samples_is_compared_with_one_of_any(size):
    """Such as a stateful RNN."""
    source, twin = (
        keras.Sequential([keras.Input((6,), batch_size=n), layers.Dense(4, name="body"), layers.Dense(3, name="head")])
        for n in (size, None)
    )
    twin.set_weights(filled(source).get_weights())
    assert tp.parity(source, twin).verdict == tp.parity(twin, source).verdict == "pass"
    twin.layers[0].kernel.assign(-twin.layers[0].kernel)
    assert (tp.parity(source, twin).verdict, tp.parity(source, twin).first) == ("fail", "body")


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_tolerance_follows_the_dtype(policy):
    def build(dtype):
        return keras.Sequential(
            [keras.Input((32,))] + [layers.Dense(32, "relu", name=f"d{i}", dtype=dtype) for i in range(4)]
        )

    source, short = filled(build("float32")), build(policy)
    short.set_weights(source.get_weights())
    assert tp.parity(source, short).verdict == "pass"
    weights = source.get_weights()
    weights[0] = weights[0].T
    short.set_weights(weights)
    assert tp.parity(source, short).first == "d0"


def test_channels_that_come_first_in_the_original():
    """Its Flatten gives another order, which the rows of the Dense must follow."""

    def build(first):
        order = "channels_first" if first else "channels_last"
        conv = layers.Conv2D(4, 3, use_bias=False, data_format=order, name="c")
        shape = (3, 5, 6) if first else (5, 6, 3)
        return keras.Sequential([keras.Input(shape), conv, layers.Flatten(name="f"), layers.Dense(2, name="d")])

    source, target = filled(build(True)), build(False)
    target.set_weights(source.get_weights())
    found = tp.parity(source, target)
    assert (found.verdict, found.first) == ("fail", "f")
    assert "flatten order of f: with the channels of its map first" in found.cause
    kernel, bias = source.layers[-1].get_weights()
    target.layers[-1].set_weights([kernel.reshape(4, 3, 4, 2).transpose(1, 2, 0, 3).reshape(-1, 2), bias])
    assert tp.parity(source, target).verdict == "pass"


def test_mapping_pairs_the_layers_of_two_models():
    source = filled(dense())
    renamed = keras.Sequential([keras.Input((6,)), layers.Dense(5, name="x1"), layers.Dense(3, name="x2")])
    renamed.set_weights(source.get_weights())
    mapping = {"b": {"to": "x1", "from": "body"}, "h": {"to": "x2", "from": "head"}}
    found = tp.parity(source, renamed, mapping=mapping)
    assert (found.verdict, found.first) == ("fail", "x1")
    assert "activation of x1" in found.cause
    assert "x1 <- body" in str(found)


@pytest.mark.parametrize("kind", ["MaxPooling2D", "PReLU", "Flatten"])
def test_names_that_keras_gave_by_counting_pair_no_layers(kind):
    """The first of a class has no number, and two models need not have it in one place."""
    keras.utils.clear_session()
    for _ in range(2):
        layer = getattr(keras.layers, kind)()
        assert with_weightless({}, {layer.name: layer}, {layer.name: layer}) == {}, layer.name
    assert with_weightless({}, {"pool": layer}, {"pool": layer}) == {"pool": "pool"}


def two_inputs(first, second, swapped=False):
    """Return a model of two inputs, of which the second counts twice."""
    ins = [keras.Input((4,), name=name) for name in (first, second)]
    doubled = layers.Rescaling(2.0, name="twice")(ins[1])
    return keras.Model(ins[::-1] if swapped else ins, layers.Add(name="sum")([ins[0], doubled]))


def test_inputs_in_another_order_go_by_name_and_that_is_said():
    parity = tp.parity(two_inputs("a", "b"), two_inputs("a", "b", swapped=True))
    assert parity.verdict == "pass"
    assert "inputs matched by name, since their order differs: b, a, there a, b" in parity.headline
    assert "matched" not in tp.parity(two_inputs("a", "b"), two_inputs("a", "b")).headline


def test_inputs_of_other_names_go_by_order_and_that_is_said():
    parity = tp.parity(two_inputs("x", "y"), two_inputs("a", "b"))
    assert parity.verdict == "pass"
    assert "inputs matched by order, since their names differ: a with x, b with y" in parity.headline


def test_shapes_that_differ_are_said_in_words():
    def model(units):
        return keras.Sequential([keras.Input((4,)), layers.Dense(units, name="d"), layers.Dense(2, name="e")])

    text = str(tp.parity(model(3), model(5)))
    row = next(line for line in text.splitlines() if line.split()[0] == "d")
    assert row.split() == ["d", "shapes", "differ", "FIRST"]
    assert " inf" not in text and "shape (3, 5), expected (3, 3)" in text


def clipped(most):
    return [keras.Input((6,)), layers.Dense(5), layers.ReLU(max_value=most), layers.Dense(3, name="end")]


def padded(zero):
    entry, table = keras.Input((8,), dtype="int32"), layers.Embedding(9, 4, mask_zero=zero)
    return [entry, table, layers.GlobalAveragePooling1D(), layers.Dense(3, name="end")]


def masked(value):
    return [keras.Input((8, 4)), layers.Masking(value), layers.GlobalAveragePooling1D(), layers.Dense(3, name="end")]


@pytest.mark.parametrize(("build", "one", "other"), [(clipped, 6.0, None), (padded, True, False), (masked, 0.0, -1.0)])
def test_settings_that_ordinary_inputs_do_not_show_are_looked_for(build, one, other):
    """Below 6 relu6 is relu, and a mask of zeros hides nothing where no zeros are drawn."""
    source, target = filled(keras.Sequential(build(one))), keras.Sequential(build(other))
    target.set_weights(source.get_weights())
    found = tp.parity(source, target)
    assert (found.verdict, "large and padded with zeros" in found.inputs) == ("fail", True)
    same = keras.Sequential([*build(one), layers.Dropout(0.5)])  # another layer, and the same function
    same.set_weights(source.get_weights())
    assert tp.parity(source, same).verdict == "pass"
