"""What lookup layers learned comes along with them: vocabularies, weights of tf_idf, boundaries of bins."""

import json
import re
import sys

import keras
import numpy as np
import pytest
import yaml
from keras import layers as kl
from unfolded import unfolded

import transferpipe as tp
from transferpipe.errors import RecipeError, VerificationError
from transferpipe.execute.prepare import prepare
from transferpipe.execute.run import execute
from transferpipe.planning.reading.read_plan import plan_from_data
from transferpipe.planning.reading.read_recipe import read_recipe

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="lookups of texts need TensorFlow")
WORDS, OTHERS = ["red", "green", "blue", "grey"], ["blue", "red", "pink", "grey"]
RULES = {"l": {"to": "l"}, "e": {"to": "e"}}

BUILDER = """
import keras

def build():
    inputs = keras.Input((1,), dtype="string")
    lookup = keras.layers.StringLookup(vocabulary=["blue", "pink"], name="l")
    return keras.Model(inputs, keras.layers.Embedding(12, 2, name="e")(lookup(inputs)))
"""


def string(words):
    lookup = kl.StringLookup(name="l")
    lookup.adapt(np.array(words))
    return lookup


def string_given(words):
    return kl.StringLookup(vocabulary=words, name="l")


def masked(words):
    return kl.StringLookup(vocabulary=words, mask_token="", num_oov_indices=2, name="l")


def integer(words):
    lookup = kl.IntegerLookup(name="l")
    lookup.adapt(np.array([sum(map(ord, w)) for w in words]))
    return lookup


def text(words):
    lookup = kl.TextVectorization(output_sequence_length=3, name="l")
    lookup.adapt(np.array(words))
    return lookup


def text_given(words):
    return kl.TextVectorization(output_sequence_length=3, vocabulary=words, name="l")


def bins(words):
    lookup = kl.Discretization(num_bins=4, name="l")
    lookup.adapt(np.array([[float(sum(map(ord, w)))] for w in words]))
    return lookup


def bins_given(words):
    return kl.Discretization(bin_boundaries=sorted(float(sum(map(ord, w))) for w in words), name="l")


def tf_idf(words):
    lookup = kl.TextVectorization(output_mode="tf_idf", name="l")
    lookup.adapt(np.array([*words, " ".join(words[:2])]))
    return lookup


def normal(words):
    layer = kl.Normalization(name="l")
    layer.adapt(np.array([[float(sum(map(ord, w)))] for w in words]))
    return layer


def normal_given(words):
    adapted = normal(words)
    mean, variance = (v.numpy().ravel().tolist() for v in (adapted.mean, adapted.variance))
    return kl.Normalization(mean=mean, variance=variance, name="l")


KINDS = [string, string_given, masked, integer, text, text_given, bins, bins_given, normal_given]
FLOATS = (tf_idf, normal, normal_given)  # what they give is no number of a row


def inputs_of(lookup):
    if isinstance(lookup, kl.TextVectorization):
        return keras.Input((), dtype="string")
    if isinstance(lookup, kl.Discretization | kl.Normalization):
        return keras.Input((1,))
    return keras.Input((1,), dtype="int64" if isinstance(lookup, kl.IntegerLookup) else "string")


def model(kind, words=WORDS, rows=12):
    keras.utils.clear_session()
    lookup = kind(words)
    inputs = inputs_of(lookup)
    if kind in FLOATS:
        return keras.Model(inputs, kl.Dense(2, name="e")(lookup(inputs)))
    return keras.Model(inputs, kl.Embedding(rows, 2, name="e")(lookup(inputs)))


def sample(built):
    values = [*WORDS, *OTHERS, "none"]
    lookup = built.get_layer("l")
    if isinstance(lookup, kl.TextVectorization):
        return keras.ops.convert_to_tensor(np.array(values))
    if isinstance(lookup, kl.StringLookup):
        return keras.ops.convert_to_tensor(np.array(values)[:, None])
    return np.array(
        [[sum(map(ord, v))] for v in values], "int64" if isinstance(lookup, kl.IntegerLookup) else "float32"
    )


def learned(built):
    lookup = built.get_layer("l")
    if isinstance(lookup, kl.Discretization):
        return list(lookup.bin_boundaries)
    if isinstance(lookup, kl.Normalization):
        return [*zip(lookup.mean.numpy().ravel(), lookup.variance.numpy().ravel(), strict=True)]
    return [str(t) for t in lookup.get_vocabulary()]


def run(source, target, folder, mapping=RULES, **more):
    return tp.transfer(source, target, folder=folder, mapping=mapping, unmatched="keep", **more)


@pytest.mark.parametrize("kind", [*KINDS, tf_idf])
@pytest.mark.parametrize("how", ["file", "live", "live source"])
def test_taken(kind, how, tmp_path):
    """What the result computes is what the source computes, as Keras has it."""
    source = model(kind)
    source.save(tmp_path / "s.keras")
    expected, state = source(sample(source)), learned(source)
    target = model(kind, OTHERS)
    assert learned(target) != state
    from_file = tmp_path / "s.keras"
    if how == "file":
        target.save(tmp_path / "t.keras")
        report = run(from_file, {"path": str(tmp_path / "t.keras")}, tmp_path / "out")
        result = keras.models.load_model(tmp_path / "out" / "model.keras")
    else:
        target(sample(target))
        report = run(source if how == "live source" else from_file, target, None)
        target.save(tmp_path / "saved.keras")
        again = keras.models.load_model(tmp_path / "saved.keras")
        assert learned(again) == state, "Keras saves what the model has"
        result = target
    assert learned(result) == state
    np.testing.assert_array_equal(result(sample(result)), expected)
    (move,) = report.plan.state
    special = (
        0
        if move.kind != "vocabulary"
        else len(state) - len(source.get_layer("l").get_vocabulary(include_special_tokens=False))
    )
    assert (move.target, move.source_layer, move.rule, move.fate) == ("l", "l", "l", "taken")
    assert move.size == len(state) - special
    counted = f"vocabulary, {move.size} terms" if move.kind == "vocabulary" else f"{move.size} {move.kind}"
    assert f"state: {counted}" in unfolded(report.plan)
    assert plan_from_data(report.plan.to_data()) == report.plan
    unfounded = ("other-vocabulary", "vocabulary-size", "state-not-saved", "class-differs")
    assert not [w for w in report.warnings if w.code in unfounded]


@pytest.mark.follows("_unsavable: adapt the layer, or")
def test_a_layer_that_counts_by_tf_idf_and_has_no_terms_is_to_be_adapted(tmp_path):
    model(tf_idf).save(tmp_path / "s.keras")
    lookup = kl.TextVectorization(5, output_mode="tf_idf", pad_to_max_tokens=True, name="l")
    target = keras.Model(inputs := keras.Input((), dtype="string"), kl.Dense(2, name="e")(lookup(inputs)))
    with pytest.raises(RecipeError, match="cannot save its weights") as caught:
        run(tmp_path / "s.keras", target, None)
    assert "adapt the layer" in caught.value.problems[0].fix
    lookup.adapt(np.array([*OTHERS, " ".join(OTHERS[:2])]))
    run(tmp_path / "s.keras", target, None)
    assert learned(target) == learned(model(tf_idf))


LEARNED_AND_GIVEN = [(string, string_given), (string_given, string), (text, text_given), (normal, normal_given)]


@pytest.mark.parametrize(("one", "other"), LEARNED_AND_GIVEN)
def test_learned_and_given(one, other, tmp_path):
    """Where a vocabulary lies, in the assets or in the configuration, stays the target's business."""
    model(one).save(tmp_path / "s.keras")
    model(other, OTHERS).save(tmp_path / "t.keras")
    run(tmp_path / "s.keras", {"path": str(tmp_path / "t.keras")}, tmp_path / "out")
    assert learned(keras.models.load_model(tmp_path / "out" / "model.keras")) == learned(model(one))


def test_a_builder(tmp_path, monkeypatch):
    (tmp_path / "lookups_built.py").write_text(BUILDER)
    monkeypatch.syspath_prepend(tmp_path)
    model(string_given).save(tmp_path / "s.keras")
    data = {
        "source": {"path": str(tmp_path / "s.keras")},
        "target": {"_target_": "lookups_built.build"},
        "mapping": RULES,
    }
    execute(prepare(read_recipe(data), ["lookups_built"]), tmp_path / "out")
    assert learned(keras.models.load_model(tmp_path / "out" / "model.keras"))[1:] == WORDS


def nested(kind, words):
    keras.utils.clear_session()
    lookup = kind(words)
    inside = inputs_of(lookup)
    part = keras.Model(inside, kl.Embedding(12, 2, name="e")(lookup(inside)), name="part")
    inputs = inputs_of(lookup)
    return keras.Model(inputs, kl.Dense(2, name="head")(part(inputs)))


@pytest.mark.parametrize("kind", [string, text, bins_given])
@pytest.mark.parametrize(
    "rules", [{"p": {"to": "part"}, "h": {"to": "head"}}, {"p": {"to": "part/(.*)", "from": "part/\\1"}}, {}]
)
def test_inside_a_model(kind, rules, tmp_path):
    nested(kind, WORDS).save(tmp_path / "s.keras")
    nested(kind, OTHERS).save(tmp_path / "t.keras")
    unmatched = "keep" if rules else "same_name"
    target = {"path": str(tmp_path / "t.keras")}
    tp.transfer(tmp_path / "s.keras", target, folder=tmp_path / "out", mapping=rules, unmatched=unmatched)
    result = keras.models.load_model(tmp_path / "out" / "model.keras").get_layer("part")
    assert learned(result) == learned(nested(kind, WORDS).get_layer("part"))


def renamed(name):
    keras.utils.clear_session()
    inputs = keras.Input((1,), dtype="string")
    lookup = kl.StringLookup(vocabulary=WORDS, name=name)
    return keras.Model(inputs, kl.Embedding(12, 2, name="e")(lookup(inputs)))


@pytest.mark.parametrize("rule", [{"to": "l", "from": "words"}, {"to": "l", "from": "words", "pair": "order"}])
def test_another_name(rule, tmp_path):
    renamed("words").save(tmp_path / "s.keras")
    target = model(string, OTHERS)
    run(tmp_path / "s.keras", target, None, {"l": rule})
    assert learned(target)[1:] == WORDS


@pytest.mark.parametrize("more", [{"state": "keep"}, {"mapping": {"l": {"to": "l", "from": None}, "e": {"to": "e"}}}])
def test_kept(more, tmp_path):
    model(string).save(tmp_path / "s.keras")
    target = model(string, OTHERS)
    before = learned(target)
    report = run(tmp_path / "s.keras", target, None, **more)
    assert learned(target) == before
    assert [m.fate for m in report.plan.state] == ["kept"] * ("state" in more)
    assert [w.code for w in report.warnings if "vocabulary" in w.code] == ["other-vocabulary"]


def test_no_lookups_no_state(tmp_path):
    """Plans without lookups have the data, and the checksum, that they had."""
    dense = keras.Sequential([keras.Input((2,)), kl.Dense(2, name="d")])
    dense.save(tmp_path / "s.keras")
    assert "state" not in tp.transfer(tmp_path / "s.keras", dense, mapping={"d": {"to": "d"}}).plan.to_data()


def test_undone(tmp_path, monkeypatch):
    """A failure behind it leaves the model with its own vocabulary."""
    model(string).save(tmp_path / "s.keras")
    target = model(string, OTHERS)
    before, outputs = learned(target), np.array(target(sample(target)))

    def fail(*_):
        raise VerificationError([])

    monkeypatch.setattr("transferpipe.execute.live._prove_frozen", fail)
    with pytest.raises(VerificationError):
        run(tmp_path / "s.keras", target, None)
    assert learned(target) == before
    np.testing.assert_array_equal(target(sample(target)), outputs)


@pytest.mark.parametrize(("rows", "said"), [(5, False), (4, True), (12, False)])
@pytest.mark.parametrize("kind", [string_given, bins_given])
def test_rows_of_the_embedding(kind, rows, said, tmp_path):
    """Four words and one for the others, and four boundaries, give the numbers 0 to 4."""
    model(kind).save(tmp_path / "s.keras")
    target = model(kind, OTHERS[:2], rows=rows)
    found = [
        w for w in run(tmp_path / "s.keras", target, None, {"l": {"to": "l"}}).warnings if w.code == "vocabulary-size"
    ]
    assert bool(found) is said
    if found:
        assert "up to 4" in found[0].text and "(5 in all)" in found[0].text and "input_dim 4" in found[0].text


def normalizing(*mean):
    keras.utils.clear_session()
    layer = kl.Normalization(mean=[*mean], variance=[1.0 for _ in mean], name="l")
    inputs = keras.Input((len(mean),))
    return keras.Model(inputs, kl.Dense(2, name="e")(layer(inputs)))


@pytest.mark.follows("_check_statistics: build the layers alike,")
def test_statistics_of_another_shape():
    target = normalizing(5.0, 6.0)
    with pytest.raises(RecipeError, match=r"l has statistics of shape \(3,\), l of \(2,\)") as caught:
        run(normalizing(1.0, 2.0, 3.0), target, None, {"l": {"to": "l"}})
    report = run(normalizing(1.0, 2.0, 3.0), target, None, {"l": {"to": "l"}}, **kept(caught))
    assert [m.fate for m in report.plan.state] == ["kept"]
    assert [m for m, _ in learned(target)] == [5.0, 6.0]
    run(normalizing(1.0, 2.0), target, None, {"l": {"to": "l"}})
    assert [m for m, _ in learned(target)] == [1.0, 2.0]


@pytest.mark.follows("_report_no_layer: take its layer: from=…")
@pytest.mark.parametrize(
    ("rule", "keeping", "kept"),
    [
        ({"to": "l"}, "or keep it: from=null", {"l": {"to": "l", "from": None}}),
        (
            {"to": ".*"},
            "or give this rule `except: ['l/mean', 'l/variance', 'l/count']`, and add a rule "
            "{to: 'l/mean|l/variance|l/count', from: null}",
            {
                "all": {"to": ".*", "except": ["l/mean", "l/variance", "l/count"]},
                "l": {"to": "l/mean|l/variance|l/count", "from": None},
            },
        ),
    ],
)
def test_given_statistics_for_an_adapted_layer(rule, keeping, kept):
    with pytest.raises(RecipeError, match=r"'l' of .* has its statistics in its configuration, and l in") as caught:
        run(normalizing(1.0), model(normal), None, {"all": rule})
    assert caught.value.problems[0].fix.endswith(keeping)
    target = normalizing(5.0)
    run(normalizing(1.0), target, None, {"all": rule})
    assert [m for m, _ in learned(target)] == [1.0]
    target = model(normal)
    before = learned(target)
    run(normalizing(1.0), target, None, kept)
    assert learned(target) == before


@pytest.mark.follows("plan_state: adapt that layer, or")
def test_an_empty_vocabulary():
    keras.utils.clear_session()
    inputs = keras.Input((1,), dtype="string")
    source = keras.Model(inputs, kl.Embedding(12, 2, name="e")(kl.StringLookup(name="l")(inputs)))
    with pytest.raises(RecipeError, match=r"mapping\.l.*l of .* has no vocabulary") as caught:
        run(source, model(string), None)
    target = model(string)
    before = learned(target)
    run(source, target, None, **kept(caught))
    assert learned(target) == before


@pytest.mark.follows("_lack_vocabulary: add a rule that")
def test_an_empty_vocabulary_that_keras_could_not_load(tmp_path):
    """Keras saves such a layer and refuses its own file: it is refused before anything is written, by its name."""
    source, rules = model(string), {"e": {"to": "e"}}
    inputs = keras.Input((1,), dtype="string")
    make = {"string": kl.StringLookup, "text": kl.TextVectorization}
    empty = {
        kind: keras.Model(
            inputs, kl.Embedding(12, 2, name="e")(keras.Sequential([inputs, layer(name="look")], name="in")(inputs))
        )
        for kind, layer in make.items()
    }
    for kind, target in empty.items():
        wanted = rf"the {make[kind].__name__} in/look has an empty vocabulary: Keras saves m\.keras with it"
        target.save(tmp_path / f"{kind}.keras")
        for each in (target, tmp_path / f"{kind}.keras"):
            with pytest.raises(RecipeError, match=wanted) as caught:
                tp.plan(source, each, mapping=rules, save="m.keras")
            assert tp.plan(source, each, mapping=rules, save="m.weights.h5").assignments
            fix = caught.value.problems[0].fix
            if kind == "text":
                assert fix.startswith("adapt the layer before, or give it `vocabulary=[...]`")
                continue
            own = {**rules, "l": yaml.safe_load(re.search(r"(\{.*\})", fix)[1])}
            folder = tmp_path / type(each).__name__
            tp.transfer(source, each, mapping=own, save="m.keras", folder=folder)
            loaded = keras.saving.load_model(folder / "m.keras")
            assert loaded.get_layer("in").get_layer("look").get_vocabulary() == source.get_layer("l").get_vocabulary()
    with pytest.raises(RecipeError, match="adapt the layer before"):
        tp.plan(source, tmp_path / "string.keras", mapping={"all": {"to": "in|e", "from": None}}, save="m.keras")


@pytest.mark.parametrize("keys", [{"mapping": {"all": {"to": "l|e"}}}, {"mapping": {}, "unmatched": "same_name"}])
def test_adapted_statistics_are_kept_as_all_that_is_learned(keys):
    source, target = model(normal), model(normal, OTHERS)
    before = learned(target)
    assert before != learned(source)
    report = tp.transfer(source, target, state="keep", **keys)
    assert learned(target) == before
    assert np.array_equal(target.get_layer("e").get_weights()[0], source.get_layer("e").get_weights()[0])
    assert {(k.layer, k.reason) for k in report.plan.kept} == {("l", "state: keep")}
    named = {"mean": {"to": "l/mean"}, "rest": {"to": "e|l/variance|l/count"}}
    tp.transfer(source, target, state="keep", mapping=named)
    assert learned(target) == learned(source)


def kept(caught):
    """Return the key and the value that the hint says to set."""
    return dict([re.search(r"(state)=(\w+)", caught.value.problems[0].fix).groups()])


@pytest.mark.parametrize("to", ["l", "l|e"])
@pytest.mark.follows("pair_states: name one, or keep")
def test_no_such_lookup(to, tmp_path):
    source = model(text)
    source.save(tmp_path / "s.keras")
    rules = {"l": {"to": to}} if to == "l|e" else RULES
    with pytest.raises(RecipeError, match=r"is no StringLookup whose vocabulary l could take") as caught:
        run(tmp_path / "s.keras", model(string), None, rules)
    fix = caught.value.problems[0].fix
    if to == "l":
        rules = {**rules, "l": {"to": "l", "from": None}}
        assert fix.endswith("keep the target's: from=null")
    else:
        key, own = re.search("`(.*?)`", fix)[1], re.search(r"a rule (\{.*\})", fix)[1]
        rules = {"l": {**rules["l"], **yaml.safe_load(key)}, "own": yaml.safe_load(own)}
    target = model(string)
    before = learned(target)
    run(tmp_path / "s.keras", target, None, rules)
    assert learned(target) == before
    assert np.array_equal(target.get_layer("e").get_weights()[0], source.get_layer("e").get_weights()[0])


@pytest.mark.follows("_note_several: give …, or switch")
def test_two_rules_for_one_lookup(tmp_path):
    source = model(string)
    source.save(tmp_path / "s.keras")
    rules = {"a": {"to": "l|e"}, "b": {"to": "l", "from": None}}
    with pytest.raises(RecipeError, match="both claim l") as caught:
        run(tmp_path / "s.keras", model(string, OTHERS), None, rules)
    fix = caught.value.problems[0].fix
    name, key = re.search("give mapping.(.) `(.*?)`", fix).groups()
    target = model(string, OTHERS)
    before = learned(target)
    run(tmp_path / "s.keras", target, None, {**rules, name: {**rules[name], **yaml.safe_load(key)}})
    assert learned(target) == before
    off = re.findall(r"mapping\.(.)=null", fix)[1]
    run(tmp_path / "s.keras", target, None, {**rules, off: None})
    assert learned(target) == learned(source)


@pytest.mark.follows("plan_state: build the target with")
def test_more_than_the_target_takes(tmp_path):
    model(string).save(tmp_path / "s.keras")
    keras.utils.clear_session()
    inputs = keras.Input((1,), dtype="string")
    lookup = kl.StringLookup(vocabulary=["x"], max_tokens=3, name="l")
    target = keras.Model(inputs, kl.Embedding(12, 2, name="e")(lookup(inputs)))
    with pytest.raises(RecipeError, match="at most 3 terms") as caught:
        run(tmp_path / "s.keras", target, None)
    before = learned(target)
    run(tmp_path / "s.keras", target, None, **kept(caught))
    assert learned(target) == before
    assert "larger max_tokens" in caught.value.problems[0].fix
    target = model(string)
    run(tmp_path / "s.keras", target, None)
    assert learned(target) == learned(keras.models.load_model(tmp_path / "s.keras"))


@pytest.mark.parametrize("also", [[], ["m.keras"]])
def test_files_that_hold_weights_alone(also, tmp_path):
    model(string).save(tmp_path / "s.keras")
    model(string, OTHERS).save(tmp_path / "t.keras")
    save = {"path": "m.weights.h5", "also": also}
    report = run(tmp_path / "s.keras", {"path": str(tmp_path / "t.keras")}, tmp_path / "out", save=save)
    assert [w.code for w in report.warnings if w.code == "state-not-saved"] == ["state-not-saved"] * (not also)
    assert json.loads((tmp_path / "out" / "plan.json").read_text())["state"][0]["fate"] == "taken"


def test_a_state_that_keras_cannot_load_here_is_said_to_be_open(tmp_path):
    class Doubled(kl.Layer):
        """A class of somebody else's, which is not at hand where the file is transferred."""

        def call(self, x):
            return 2 * x

    for file, words in (("one", ["a", "b"]), ("two", ["c", "d"])):
        look = kl.StringLookup(vocabulary=words, name="look")
        ends = [kl.Embedding(3, 2, name="e"), Doubled(name="own")]
        keras.Sequential([keras.Input((1,), dtype="string"), look, *ends]).save(tmp_path / f"{file}.keras")
    mapping = {"all": {"to": "(.*)", "from": r"\1"}}
    one, two = tmp_path / "one.keras", tmp_path / "two.keras"
    report = tp.transfer(one, two, folder=tmp_path / "out", save="m.keras", mapping=mapping)
    assert [w.text for w in report.warnings if w.code == "not-loaded" and "state of look" in w.text]
    loaded = keras.models.load_model(tmp_path / "out" / "m.keras", custom_objects={"Doubled": Doubled})
    assert loaded.get_layer("look").get_vocabulary()[1:] == ["a", "b"]


def test_legacy_files_bring_what_their_configuration_holds(tmp_path):
    for file, bounds in (("one.h5", [-1.0, 1.0]), ("two.keras", [-2.0, 2.0])):
        ends = [kl.Embedding(3, 2, name="e"), kl.Flatten(), kl.Dense(2, name="d")]
        keras.Sequential([keras.Input((3,)), kl.Discretization(bounds, name="bins"), *ends]).save(tmp_path / file)
    mapping = {"all": {"to": "(.*)", "from": r"\1"}}
    one, two = tmp_path / "one.h5", tmp_path / "two.keras"
    report = tp.transfer(one, two, folder=tmp_path / "out", save="m.keras", mapping=mapping)
    assert {w.code for w in report.warnings} <= {"untrained-source"}
    original, loaded = keras.models.load_model(one), keras.models.load_model(tmp_path / "out" / "m.keras")
    x = np.linspace(-3, 3, 12).reshape(4, 3)
    np.testing.assert_array_equal(loaded(x), original(x))


@pytest.mark.follows("code: state-unread")
def test_a_vocabulary_that_the_source_file_does_not_hold_is_said_to_be_kept(tmp_path):
    (tmp_path / "words.txt").write_text("a\nb\n")
    given = kl.StringLookup(vocabulary=str(tmp_path / "words.txt"), name="look")
    for file, look in (("one.h5", given), ("two.keras", kl.StringLookup(vocabulary=["c", "d"], name="look"))):
        model = keras.Sequential([keras.Input((1,), dtype="string"), look, kl.Embedding(3, 2, name="e")])
        model.save(tmp_path / file)
    mapping = {"all": {"to": "(.*)", "from": r"\1"}}
    plan = tp.plan(tmp_path / "one.h5", tmp_path / "two.keras", mapping=mapping)
    assert [m.fate for m in plan.state] == ["kept"]
    assert "state-unread" in [w.code for w in plan.warnings]
    kept = tp.plan(tmp_path / "one.h5", tmp_path / "two.keras", mapping=mapping, state="keep")
    assert "state-unread" not in [w.code for w in kept.warnings]


@pytest.mark.follows("given_states: build the layer alike,")
def test_a_state_that_keras_refuses(tmp_path, monkeypatch):
    from transferpipe.save import learned_state

    source = model(string)
    source.save(tmp_path / "s.keras")

    def refuse(*_):
        raise ValueError("not this one")

    target = model(string, OTHERS)
    before = learned(target)
    monkeypatch.setattr(learned_state, "give_state", refuse)
    with pytest.raises(VerificationError, match="Keras refuses the vocabulary") as caught:
        run(tmp_path / "s.keras", target, None)
    run(tmp_path / "s.keras", target, None, **kept(caught))
    assert learned(target) == before
    assert np.array_equal(target.get_layer("e").get_weights()[0], source.get_layer("e").get_weights()[0])


@pytest.mark.follows("verify_states: build the layers alike,")
def test_a_finished_file_that_keras_refuses(tmp_path, monkeypatch):
    source = model(string)
    source.save(tmp_path / "s.keras")
    (tmp_path / "my_lookup.py").write_text(BUILDER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    load = keras.models.load_model

    def refuse(*args, **keys):
        if sys._getframe(1).f_globals["__name__"].endswith("prove.learned_state"):
            raise ValueError("not this one")
        return load(*args, **keys)

    monkeypatch.setattr(keras.models, "load_model", refuse)
    target = {"_target_": "my_lookup.build"}
    with pytest.raises(VerificationError, match="refuses it with the state of l") as caught:
        run(tmp_path / "s.keras", target, tmp_path)
    monkeypatch.setattr(keras.models, "load_model", load)
    report = run(tmp_path / "s.keras", target, tmp_path, **kept(caught))
    assert report.verdict.weights == "pass"


def test_more_bins_than_the_layer_behind_takes_are_refused_and_the_state_can_be_kept(tmp_path):
    """Keras loads neither target nor source otherwise, so that it is the result that it refuses."""
    for name, count in (("s", 5), ("t", 3)):
        bins = kl.Discretization(bin_boundaries=[float(n) for n in range(count)], output_mode="one_hot", name="l")
        keras.Sequential([keras.Input((1,)), bins, kl.Dense(2, name="d")]).save(tmp_path / f"{name}.keras")
    recipe = {"mapping": {"l": {"to": "l"}}, "unmatched": "keep", "folder": tmp_path / "out", "save": "m.keras"}
    with pytest.raises(VerificationError, match=r"refuses it.*expected axis -1 of input shape to have value 4"):
        tp.transfer(tmp_path / "s.keras", tmp_path / "t.keras", **recipe)
    assert not (tmp_path / "out" / "m.keras").exists()
    tp.transfer(tmp_path / "s.keras", tmp_path / "t.keras", state="keep", **recipe)
    assert keras.models.load_model(tmp_path / "out" / "m.keras").get_layer("l").bin_boundaries == [0.0, 1.0, 2.0]


def test_a_model_that_only_looks_up(tmp_path):
    for name, words in (("s", WORDS), ("t", OTHERS)):
        lookup = kl.StringLookup(vocabulary=words, name="l")
        keras.Sequential([keras.Input((1,), dtype="string"), lookup]).save(tmp_path / f"{name}.keras")
    recipe = {"mapping": {"l": {"to": "l"}}, "folder": tmp_path / "out", "save": "m.keras"}
    tp.transfer(tmp_path / "s.keras", tmp_path / "t.keras", **recipe)
    loaded = keras.models.load_model(tmp_path / "out" / "m.keras")
    assert [str(w) for w in loaded.get_layer("l").get_vocabulary()[1:]] == WORDS
