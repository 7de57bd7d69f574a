"""Embeddings whose rows follow another vocabulary than the target's: allowed, and said."""

import keras
import numpy as np
import pytest
from keras import layers as kl

import transferpipe as tp

WORDS, OTHERS = ["red", "green", "blue"], ["red", "blue", "green"]
MESSAGE = "the rows of e/embeddings follow the vocabulary of source, the target has another"


def string(words):
    lookup = kl.StringLookup(name="w")
    lookup.adapt(np.array(words))
    return keras.Input((3,), dtype="string"), lookup


def string_given(words):
    return keras.Input((3,), dtype="string"), kl.StringLookup(vocabulary=words, name="w")


def masked_given(words):
    lookup = kl.StringLookup(vocabulary=words, name="w", mask_token="", num_oov_indices=2)
    return keras.Input((3,), dtype="string"), lookup


def text(words):
    lookup = kl.TextVectorization(output_sequence_length=3, name="w")
    lookup.set_vocabulary(words)
    return keras.Input((), dtype="string"), lookup


def integer(words):
    return keras.Input((3,), dtype="int64"), kl.IntegerLookup(vocabulary=[len(w) * 100 + ord(w[1]) for w in words])


KINDS = [string_given, masked_given, text, integer]


def model(kind, words):
    keras.utils.clear_session()
    inputs, lookup = kind(words)
    return keras.Model(inputs, kl.Dense(2, name="head")(kl.Embedding(12, 4, name="e")(lookup(inputs))))


def told(source, target, tmp_path, **more):
    arguments = {"mapping": {"e": {"to": "e"}}, "unmatched": "keep", "name": "words", **more}
    report = tp.transfer(source, target, folder=tmp_path / "out", **arguments)
    return [f"{w.where}: {w.text}" for w in report.warnings if w.code == "other-vocabulary"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("live", [True, False])
def test_another_vocabulary(kind, live, tmp_path):
    model(kind, WORDS).save(tmp_path / "source.keras")
    target = model(kind, OTHERS)
    if not live:
        target.save(tmp_path / "target.keras")
        target = {"path": str(tmp_path / "target.keras")}
    assert told(tmp_path / "source.keras", target, tmp_path) == [f"mapping.e: {MESSAGE}"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_vocabulary(kind, tmp_path):
    model(kind, WORDS).save(tmp_path / "source.keras")
    assert told(tmp_path / "source.keras", model(kind, WORDS), tmp_path) == []


def test_the_same_vocabulary_learned_and_given(tmp_path):
    """One lies in the archive's assets, the other in its configuration."""
    learned = model(string, WORDS)
    learned.save(tmp_path / "learned.keras")
    words = learned.get_layer("w").get_vocabulary(include_special_tokens=False)
    model(string_given, words).save(tmp_path / "given.keras")
    target = {"path": str(tmp_path / "given.keras")}
    assert told(tmp_path / "learned.keras", target, tmp_path) == []
    assert told(tmp_path / "learned.keras", model(string_given, words[::-1]), tmp_path / "two")


def test_one_more_index_for_unknown_words(tmp_path):
    """The words are the same, and all rows are moved by one."""
    model(string_given, WORDS).save(tmp_path / "source.keras")
    assert told(tmp_path / "source.keras", model(masked_given, WORDS), tmp_path)


def test_what_says_nothing(tmp_path):
    source = model(string_given, WORDS)
    source.save(tmp_path / "source.keras")
    source.save_weights(tmp_path / "s.weights.h5")
    target = model(string_given, OTHERS)
    assert told(tmp_path / "s.weights.h5", target, tmp_path / "1") == [], "no vocabulary is known of the source"
    rule = {"h": {"to": "head"}}
    assert told(tmp_path / "source.keras", target, tmp_path / "2", mapping=rule) == [], "no embedding is taken"


def test_rows_that_are_put_in_order(tmp_path):
    """A recipe that takes rows by number knows what they mean."""
    model(string_given, WORDS).save(tmp_path / "source.keras")
    for step, said in (({"take": {"axis": 0, "indices": [0, 1, 3, 2, *range(4, 12)]}}, False), ({"scale": 2.0}, True)):
        rule = {"e": {"to": "e", "transform": [step]}}
        found = told(tmp_path / "source.keras", model(string_given, OTHERS), tmp_path / str(said), mapping=rule)
        assert bool(found) is said


@pytest.mark.parametrize("mode", ["multi_hot", "count"])
@pytest.mark.parametrize("live", [True, False])
def test_a_kernel_whose_rows_are_words(mode, live, tmp_path):
    """A lookup that counts words or marks them feeds a Dense; one that numbers them feeds none, whatever its size."""

    def bag(words, mode):
        keras.utils.clear_session()
        inputs = keras.Input((3,), dtype="string")
        found = kl.StringLookup(vocabulary=words, output_mode=mode, name="w")(inputs)
        found = found if mode != "int" else keras.ops.cast(kl.Concatenate()([found, found[:, :1]]), "float32")
        return keras.Model(inputs, kl.Dense(2, name="h")(found))

    for used, said in ((mode, True), ("int", False)):
        bag(WORDS, used).save(tmp_path / "source.keras")
        target = bag(OTHERS, used)
        if not live:
            target.save(tmp_path / "target.keras")
            target = {"path": str(tmp_path / "target.keras")}
        found = told(tmp_path / "source.keras", target, tmp_path / used, mapping={"h": {"to": "h"}}, state="keep")
        assert bool(found) is said
