"""Variables that a builder made and its model does not hold are warned of; what models do by design is not."""

import sys
import textwrap

import keras
import numpy as np
import pytest

import transferpipe as tp

BUILDERS = """
    import keras
    import numpy as np
    from keras import layers

    def places(as_part):
        i = keras.Input((5,), dtype="int32")
        if as_part:
            at = keras.ops.cumsum(keras.ops.ones_like(i), axis=1) - 1
        else:
            at = keras.ops.arange(5)  # plain numbers: what the layer gives is a constant
        x = layers.Embedding(9, 4, name="words")(i) + layers.Embedding(8, 4, name="places")(at)
        return keras.Model(i, layers.Dense(2, name="d")(x))

    def variable():
        i = keras.Input((4,))
        scale = keras.Variable(np.ones(4, "float32"), name="scale")
        return keras.Model(i, layers.Dense(2, name="d")(i * scale))

    def inside_a_lambda():
        i = keras.Input((4,))
        hidden = layers.Dense(4, name="hidden")
        hidden.build((None, 4))
        return keras.Model(i, layers.Dense(2, name="d")(layers.Lambda(lambda x: hidden(x))(i)))

    def sines():
        i = keras.Input((5,), dtype="int32")
        table = keras.ops.convert_to_tensor(np.sin(np.arange(20.0).reshape(5, 4)).astype("float32"))
        return keras.Model(i, layers.Dense(2, name="d")(layers.Embedding(9, 4, name="words")(i) + table))

    def cut_off():
        i = keras.Input((4,))
        x = layers.Dense(4, name="d")(i)
        whole = keras.Model(i, layers.Dense(3, name="away")(x))
        whole(np.zeros((1, 4), "float32"))
        return keras.Model(i, x)

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.d = layers.Dense(2, name="d")

        def call(self, x):
            return self.d(x)

    def own():
        model = Own()
        model(np.zeros((1, 4), "float32"))
        return model
"""


@pytest.fixture
def builder(tmp_path, monkeypatch):
    (tmp_path / "baking.py").write_text(textwrap.dedent(BUILDERS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "baking", raising=False)
    return lambda name, **keys: {"_target_": f"baking.{name}", **keys}


def warned(target):
    return [w.text for w in tp.plan(None, target, unmatched="keep").warnings if w.code == "baked-variables"]


@pytest.mark.parametrize(
    ("name", "keys", "variable"),
    [
        ("places", {"as_part": False}, "places/embeddings (8, 4)"),
        ("variable", {}, "scale (4,)"),
        ("inside_a_lambda", {}, "hidden/kernel (4, 4)"),
    ],
)
def test_variables_that_the_model_does_not_hold(builder, name, keys, variable):
    (text,) = warned(builder(name, **keys))
    assert variable in text


@pytest.mark.parametrize(("name", "keys"), [("sines", {}), ("cut_off", {}), ("own", {}), ("places", {"as_part": True})])
def test_constants_and_models_that_are_tried_out_are_no_fault(builder, name, keys):
    assert warned(builder(name, **keys)) == []


@pytest.mark.follows("code: baked-variables")
def test_the_advice_followed_brings_the_weight_along(builder, tmp_path):
    assert warned(builder("places", as_part=False))
    random = np.random.default_rng(0)
    shapes = {"words/embeddings": (9, 4), "places/embeddings": (8, 4), "d/kernel": (4, 2), "d/bias": (2,)}
    source = {n: random.normal(size=s).astype("float32") for n, s in shapes.items()}
    np.savez(tmp_path / "s.npz", **source)
    target = builder("places", as_part=True)  # the layer is called on a tensor of the model
    assert warned(target) == []
    tp.transfer("s.npz", target, mapping={"all": {"to": ".*"}}, folder="out", save="model.keras")
    model = keras.models.load_model("out/model.keras")
    want = (source["words/embeddings"][[1, 2, 3, 4, 5]] + source["places/embeddings"][:5]) @ source["d/kernel"]
    assert np.allclose(model(np.array([[1, 2, 3, 4, 5]])), want + source["d/bias"], atol=1e-5)


def test_a_live_model_is_looked_through_too():
    i = keras.Input((4,))
    scale = keras.Variable(np.ones(4, "float32"), name="scale")
    model = keras.Model(i, keras.layers.Dense(2, name="d")(i * scale))
    (text,) = warned(model)
    assert "scale (4,)" in text
