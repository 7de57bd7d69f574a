"""A variable that Keras saves under two names is one weight, and what Keras has after loading is what was planned."""

import json

import h5py
import keras
import numpy as np
import pytest
from keras import layers, ops

import transferpipe as tp
from transferpipe.cli import main
from transferpipe.planning.reading.read_recipe import read_recipe


@keras.saving.register_keras_serializable("one_variable")
class Tied(layers.Layer):
    """Uses the kernel of another layer, transposed."""

    def tie(self, other):
        self.kernel = other.kernel
        self.bias = self.add_weight(shape=(self.kernel.shape[0],), name="bias", initializer="zeros")
        self.built = True

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.kernel)) + self.bias


@keras.saving.register_keras_serializable("one_variable")
class Autoencoder(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.enc, self.out = layers.Dense(4, name="enc"), Tied(name="out")
        self.build((None, 6))

    def build(self, shape):
        self.enc.build(shape)
        self.out.tie(self.enc)
        self.built = True

    def call(self, x):
        return self.out(self.enc(x))


def filled(model, seed):
    random = np.random.default_rng(seed)
    for v in model.variables:
        if "float" in str(v.dtype):
            v.assign(random.normal(size=v.shape))
    return model


def wrapped(seed=0):
    inside = [keras.Input((6,)), layers.SpectralNormalization(layers.Dense(4, name="d"), name="s")]
    return filled(keras.Sequential(inside), seed)


def tied(seed=0):
    keras.utils.clear_session()
    return filled(Autoencoder(name="ae"), seed)


def plain(seed=1):
    return filled(keras.Sequential([keras.Input((6,)), layers.Dense(4, name="d")]), seed)


MODELS = {"wrapped": (wrapped, "s/kernel", "s/d/kernel"), "tied": (tied, "enc/kernel", "out/kernel")}


def kernel(model):
    return np.asarray(model.layers[0].layer.kernel if hasattr(model.layers[0], "layer") else model.enc.kernel)


@pytest.fixture(params=MODELS)
def case(request):
    return MODELS[request.param]


# Catalogs ------------------------------------------------------------------------------------------------------------


def test_it_is_listed_once_and_counted_once(case):
    make, first, second = case
    model = make()
    catalog = tp.catalog(model)
    assert [w.name for w in catalog].count(first) == 1
    assert second not in [w.name for w in catalog]
    assert catalog.aliases == {second: first}
    assert catalog[second] == catalog[first]
    assert catalog.parameters == model.count_params()


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5"])
@pytest.mark.parametrize(
    ("inside", "shape"),
    [
        (lambda: layers.Dense(3), (5,)),
        (lambda: layers.Conv2D(3, 2), (6, 6, 2)),
        (lambda: layers.Embedding(7, 3), (4,)),
    ],
    ids=["dense", "conv", "embedding"],
)
def test_files_of_spectral_normalization_tell_the_same(tmp_path, name, inside, shape):
    keras.utils.clear_session()
    model = keras.Sequential([keras.Input(shape), layers.SpectralNormalization(inside(), name="sn")])
    (model.save if name.endswith(".keras") else model.save_weights)(tmp_path / name)
    ours, theirs = tp.catalog(model), tp.catalog(tmp_path / name)
    assert [w.name for w in ours] == [w.name for w in theirs]
    assert ours.aliases == theirs.aliases
    assert theirs.parameters == model.count_params()


@keras.saving.register_keras_serializable("one_variable")
class Held(layers.Layer):
    """Holds a layer that the model calls too; it is saved in the place that comes first, under the attribute's name."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.other = inner

    def call(self, x):
        return self.other(x)

    def get_config(self):
        return {**super().get_config(), "inner": keras.saving.serialize_keras_object(self.other)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "inner": keras.saving.deserialize_keras_object(config["inner"])})


def shared(wrap, layer, *, first=False):
    inputs = keras.Input((6,))
    around = wrap(layer, name="around")
    outputs = [layer(inputs), around(inputs)][:: -1 if first else 1]
    return keras.Model(inputs, outputs)


NOTHING_OF_THEIR_OWN = {
    "no bias": lambda: keras.Sequential([keras.Input((6,)), layers.SpectralNormalization(layers.Dense(4, use_bias=False))]),
    "embedding": lambda: keras.Sequential([keras.Input((6,)), layers.SpectralNormalization(layers.Embedding(9, 4, name="e"))]),
    "shared": lambda: shared(layers.SpectralNormalization, layers.Dense(6, name="d")),
    "attribute": lambda: shared(Held, layers.Dense(6), first=True),
}  # fmt: skip


@pytest.mark.parametrize("make", NOTHING_OF_THEIR_OWN.values(), ids=NOTHING_OF_THEIR_OWN)
@pytest.mark.parametrize("name", ["b.keras", "b.weights.h5"])
def test_layers_that_are_saved_elsewhere_have_their_weights(tmp_path, name, make):
    keras.utils.clear_session()
    model = make()
    filled(model, 1).save(tmp_path / "a.keras")
    expected = model.get_weights()
    filled(model, 2)
    (model.save if name == "b.keras" else model.save_weights)(tmp_path / name)
    saved = name.replace("b.", "o.")
    given = {"unmatched": "same_name", "folder": tmp_path}
    if (name, make) == ("b.keras", NOTHING_OF_THEIR_OWN["attribute"]):
        # Keras makes two layers of the shared one where it loads the whole model, of this file as of its own.
        with pytest.raises(tp.VerificationError):
            tp.transfer(tmp_path / "a.keras", tmp_path / name, save=saved, **given)
        saved = "o.weights.h5"
    tp.transfer(tmp_path / "a.keras", tmp_path / name, save=saved, **given)
    model.load_weights(tmp_path / saved)
    assert all(np.array_equal(x, y) for x, y in zip(model.get_weights(), expected, strict=True))


@pytest.mark.parametrize("first", [False, True])
def test_a_normalized_layer_that_the_model_has_elsewhere_too(tmp_path, first):
    """It is one layer, which is saved where it comes first."""
    keras.utils.clear_session()
    model = shared(layers.SpectralNormalization, layers.Dense(6, name="d"), first=first)
    model.save(tmp_path / "m.keras")
    ours, theirs = (tp.catalog(m) for m in (tmp_path / "m.keras", model))
    assert [w.name for w in ours] == [w.name for w in theirs]
    assert set(ours.expanded.by_name) == set(theirs.expanded.by_name)
    assert sum(np.prod(w.shape) for w in ours) == model.count_params()


# Rules by either name ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [1, 2], ids=["first", "second"])
@pytest.mark.parametrize("output", ["m.keras", "m.weights.h5", "m.npz", None])
def test_either_name_reaches_both_places(case, tmp_path, by, output):
    make, source, target = case[0], plain(), case[0](2)
    before = [np.asarray(w) for w in target.weights]
    save = {"save": output, "folder": tmp_path} if output else {}
    tp.transfer(
        source, target, mapping={"k": {"to": case[by], "from": "d/kernel"}}, unmatched="keep", ignore=["d"], **save
    )
    assert np.array_equal(kernel(target), source.layers[0].kernel)
    changed = [not np.array_equal(a, b) for a, b in zip(before, target.weights, strict=True)]
    assert changed.count(True) == 1
    if output and output.endswith("npz"):
        assert np.array_equal(np.load(tmp_path / output)[case[1]], kernel(target))
    elif output:
        again = make(3)
        again.load_weights(tmp_path / output)
        assert np.array_equal(kernel(again), source.layers[0].kernel)


@pytest.mark.parametrize("form", ["model", "m.keras", "m.weights.h5", "m.npz", "m.safetensors"])
@pytest.mark.parametrize(
    "recipe", [{"mapping": {"all": {"to": ".*"}}}, {"unmatched": "same_name"}], ids=["rule", "name"]
)
def test_one_rule_for_both_names_counts_once(case, tmp_path, form, recipe):
    source, target = case[0](1), case[0](2)
    if form in ("m.npz", "m.safetensors"):
        tp.transfer(None, source, unmatched="keep", save=form, folder=tmp_path)
    elif form != "model":
        (source.save if form == "m.keras" else source.save_weights)(tmp_path / form)
    report = tp.transfer(source if form == "model" else tmp_path / form, target, **recipe)
    assert all(np.array_equal(a, b) for a, b in zip(source.weights, target.weights, strict=True))
    assert report.plan.freezing.parameters == target.count_params()
    assert not [w for w in report.warnings if w.code == "one-variable"]


@keras.saving.register_keras_serializable("one_variable")
class Borrowing(layers.Layer):
    """Holds the kernel of a layer inside of it once more, under an attribute of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(4, name="inner")

    def build(self, shape):
        self.inner.build(shape)
        self.borrowed = self.inner.kernel

    def call(self, x):
        return self.inner(x) + ops.sum(self.borrowed)


@pytest.mark.parametrize(
    "recipe", [{"mapping": {"all": {"to": ".*"}}}, {"unmatched": "same_name"}], ids=["rule", "name"]
)
def test_a_file_that_only_numbers_gives_what_keras_loads_last(recipe, tmp_path):
    """Its two places hold different values, as those of a model in which the layers were not tied yet."""
    source, target, loaded = (filled(keras.Sequential([keras.Input((6,)), Borrowing(name="b")]), s) for s in range(3))
    source.save_weights(tmp_path / "s.weights.h5")
    with h5py.File(tmp_path / "s.weights.h5", "a") as file:
        file["layers/borrowing/vars/0"][...] = 7
    loaded.load_weights(tmp_path / "s.weights.h5")
    report = tp.transfer(tmp_path / "s.weights.h5", target, **recipe)
    assert all(np.array_equal(a, b) for a, b in zip(target.weights, loaded.weights, strict=True))
    assert not [w for w in report.warnings if w.code == "unused"]
    assert {w.fate for w in report.plan.source_weights} == {"used"}


def test_by_order(case):
    source, target = case[0](1), case[0](2)
    tp.transfer(source, target, mapping={"all": {"to": ".*", "from": ".*", "pair": "order"}})
    assert all(np.array_equal(a, b) for a, b in zip(source.weights, target.weights, strict=True))


def test_different_values_are_an_error_that_names_both_rules(tmp_path):
    np.savez(tmp_path / "two.npz", a=np.ones((6, 4), "f4"), b=np.zeros((6, 4), "f4"))
    rules = {"one": {"to": "s/kernel", "from": "a"}, "two": {"to": "s/d/kernel", "from": "b"}}
    with pytest.raises(tp.RecipeError, match=r"mapping.one, mapping.two: s/kernel and s/d/kernel are one variable"):
        tp.plan(tmp_path / "two.npz", wrapped(), mapping=rules, unmatched="keep")
    rules["two"]["from"] = "a"
    target = wrapped()
    tp.transfer(tmp_path / "two.npz", target, mapping=rules, unmatched="keep")
    assert np.all(kernel(target) == 1)
    fixed = {**rules, "two": None}  # as the message says
    tp.plan(tmp_path / "two.npz", wrapped(), mapping=fixed, unmatched="keep")


@pytest.mark.follows("code: one-variable")
def test_keeping_one_name_while_the_other_is_assigned_is_warned_of():
    source = plain()
    rules = {"enc": {"to": "enc", "from": "d"}, "out": {"to": "out", "from": None}}
    target = tied()
    report = tp.transfer(source, target, mapping=rules)
    assert [w.where for w in report.warnings if w.code == "one-variable"] == ["mapping.out"]
    assert np.array_equal(kernel(target), source.layers[0].kernel)
    rules["out"]["except"] = "out/kernel"  # as `help warnings` says
    assert "one-variable" not in [w.code for w in tp.plan(source, tied(), mapping=rules).warnings]


def test_one_claimed_name_is_enough():
    plan = tp.plan(plain(), tied(), mapping={"enc": {"to": "enc", "from": "d"}, "b": {"to": "out/bias", "from": None}})
    assert sorted(a.target for a in plan.assignments) == ["enc/bias", "enc/kernel"]


@pytest.mark.parametrize("at", ["enc/kernel", "out/kernel"])
def test_edits_by_either_name(at, tmp_path):
    target = tied()
    edit = {"e": {"at": at, "index": [0, 0], "set": 9.0}}
    tp.transfer(None, target, unmatched="keep", edit=edit, save="m.weights.h5", folder=tmp_path)
    again = tied(5)
    again.load_weights(tmp_path / "m.weights.h5")
    assert kernel(target)[0, 0] == kernel(again)[0, 0] == 9


@pytest.mark.parametrize("layer", ["enc", "out"])
def test_freezing_either_layer_freezes_it_as_keras_does(layer, tmp_path):
    target, expected = tied(), tied()
    report = tp.transfer(None, target, unmatched="keep", freeze=[layer])
    expected.get_layer(layer).trainable = False
    frozen = sum(int(np.prod(v.shape)) for v in expected.trainable_variables)
    assert report.plan.freezing.trainable_parameters == frozen
    assert len(target.trainable_variables) == len(expected.trainable_variables)


def test_a_file_as_the_target_and_a_second_proof(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrapped(1).save("t.keras")
    plain(2).save("s.keras")
    recipe = {"source": {"path": "s.keras"}, "target": {"path": "t.keras"}, "unmatched": "keep"}
    recipe |= {"mapping": {"k": {"to": "s/d", "from": "d"}}}
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/r.yaml").write_text(json.dumps(recipe))
    assert main(["run", "recipe=r", "hydra.run.dir=out"]) == 0
    assert np.array_equal(kernel(keras.models.load_model("out/model.keras")), plain(2).layers[0].kernel)
    assert main(["verify", "out"]) == 0
    tp.transfer(None, tied(), unmatched="keep", save="m.weights.h5", folder=tmp_path / "tied")
    assert main(["verify", "tied"]) == 0


# What Keras has after loading ----------------------------------------------------------------------------------------


class Doubling(layers.Layer):
    """Loads twice what the file holds."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), name="w", initializer="ones")

    def load_own_variables(self, store):
        self.w.assign(2 * np.asarray(store["0"]))

    def call(self, x):
        return x * self.w


class Unmakeable(Doubling):
    """Cannot be made from its configuration."""

    load_own_variables = layers.Layer.load_own_variables

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def save_own_variables(self, store):
        store["0"] = self.w

    def get_config(self):
        return {"name": self.name}


class ReadingNothing(Doubling):
    """Wants a file that is not there."""

    def load_own_variables(self, store):
        self.w.assign(np.load("/nowhere/w.npy"))


class OfAnotherShape(Doubling):
    """Loads another shape."""

    def load_own_variables(self, store):
        self.w.assign(np.ones(7))


@pytest.mark.parametrize("output", ["m.keras", "m.weights.h5"])
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Doubling, "own/w: has a different value in the model that Keras loads"),
        (ReadingNothing, "nowhere/w.npy|could not be loaded"),
        (OfAnotherShape, "could not be loaded|shape"),
    ],
)
def test_a_hook_that_loads_something_else_or_fails_is_noticed_without_being_asked(kind, text, output, tmp_path):
    model = keras.Sequential([keras.Input((3,)), kind(name="own"), layers.Dense(2, name="d")])
    with pytest.raises(tp.VerificationError, match=text):
        tp.transfer(None, model, unmatched="keep", save=output, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_of_a_class_that_cannot_be_made_again_are_no_reason_to_warn(tmp_path):
    model = keras.Sequential([keras.Input((3,)), Unmakeable(3, name="own"), layers.Dense(2, name="d")])
    assert not tp.transfer(None, model, unmatched="keep", save="m.weights.h5", folder=tmp_path).warnings


@pytest.mark.follows("code: not-loaded")
def test_a_class_that_keras_cannot_make_again_is_a_warning(tmp_path):
    model = keras.Sequential([keras.Input((3,)), Unmakeable(3, name="own"), layers.Dense(2, name="d")])
    report = tp.transfer(None, model, unmatched="keep", save="m.keras", folder=tmp_path)
    assert "not-loaded" in [w.code for w in report.warnings]

    @keras.saving.register_keras_serializable("not-loaded")
    class Makeable(Unmakeable):
        def get_config(self):
            return {**super().get_config(), "size": self.size}

    model = keras.Sequential([keras.Input((3,)), Makeable(3, name="own"), layers.Dense(2, name="d")])
    report = tp.transfer(None, model, unmatched="keep", save="n.keras", folder=tmp_path)
    assert "not-loaded" not in [w.code for w in report.warnings]


def test_a_vocabulary_that_keras_cannot_load_is_refused(tmp_path):
    words = keras.Input((1,), dtype="string")
    look = layers.StringLookup(max_tokens=6, name="look")
    model = keras.Model(words, layers.Dense(2)(layers.Flatten()(layers.Embedding(6, 3)(look(words)))))
    with pytest.raises(tp.RecipeError, match=r"StringLookup look has an empty vocabulary.*adapt the layer before"):
        tp.transfer(None, model, unmatched="keep", save="m.keras", folder=tmp_path)
    look.adapt(np.array(["x", "y", "z"]))  # as it says
    tp.transfer(None, model, unmatched="keep", save="m.keras", folder=tmp_path)


def test_what_is_keras_own_is_not_loaded_again(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.models, "load_model", lambda *_, **__: pytest.fail("was loaded"))
    report = tp.transfer(None, plain(), unmatched="keep", save="m.keras", folder=tmp_path)
    assert report.artifacts


def test_rules_with_lists_by_own_name_go_by_either_name_of_a_variable():
    """What stands in mappings and lists of a rule is no reason not to compare rules."""
    rule = {"to": "a", "from": {"name": "b", "transform": {"k": ["transpose"]}}, "transform": {"k": [{"scale": 2}]}}
    read = read_recipe(
        {"source": "a.npz", "target": "b.npz", "mapping": {"r": rule, "s": {**rule, "merge": {"linear": [1]}}}}
    )
    assert len({*read.rules, *read.rules}) == 2
