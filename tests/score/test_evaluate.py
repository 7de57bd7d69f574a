"""A model as it is: its numbers are those of Keras's own evaluation, and nothing is trained."""

import keras
import numpy as np
import pytest
from score_models import all_bytes, blobs, mlp

from transferpipe.errors import RecipeError, ScoreError
from transferpipe.score import evaluate
from transferpipe.testing import ScoreLaws

DATA = blobs(n=120, classes=7)


@pytest.mark.parametrize("part", ["train", "val", "test"])
@pytest.mark.parametrize("head", ["softmax", None])
def test_its_numbers_are_those_of_keras(head, part):
    model = mlp(classes=7, head=head)
    inputs, labels = getattr(DATA, part)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=head is None)
    top = keras.metrics.SparseTopKCategoricalAccuracy(k=5)
    model.compile(loss=loss, metrics=["sparse_categorical_accuracy", top])
    expected = dict(zip(("loss", "accuracy", "top5_accuracy"), model.evaluate(inputs, labels, verbose=0), strict=True))
    answers = model.predict(inputs, verbose=0).argmax(-1)
    expected["balanced_accuracy"] = np.mean([(answers[labels == k] == k).mean() for k in range(7)])
    for metric, value in expected.items():
        score = evaluate(model, DATA, metric=metric, part=part)
        assert score.value == pytest.approx(value, rel=1e-5)
        assert score.direction == ("lower" if metric == "loss" else "higher")
        assert (score.kind, score.converged, score.trainings) == ("measured", None, ())
        assert f"{metric.replace('_', ' ')} {score.value:.4f}" in score.notes[0]


def test_a_model_in_which_nothing_is_trainable_is_evaluated_and_left_alone():
    model = mlp(classes=7, dropout=0.5)
    model.trainable = False
    before = all_bytes(model)
    assert evaluate(model, DATA) == evaluate(model, DATA)
    assert all_bytes(model) == before


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"metric": "f1"}, "score.metric: 'f1' is none of accuracy, loss"),
        ({"part": "all"}, "score.part: 'all' is none of train, val, test"),
        ({"data": blobs(classes=4)}, r"score.data: the model gives \(7,\) for an example, 4 classes need \(4,\)"),
    ],
)
def test_what_does_not_fit_is_refused(changed, words):
    with pytest.raises(RecipeError, match=words):
        evaluate(mlp(classes=7), **{"data": DATA, **changed})


def test_outputs_that_are_not_finite_have_no_number():
    model = mlp(classes=7)
    model.get_layer("low").bias.assign(np.full(8, np.nan))
    for metric in ("accuracy", "top5_accuracy"):
        with pytest.raises(ScoreError, match="not a finite number"):
            evaluate(model, DATA, metric=metric)


class TestEvaluate(ScoreLaws):
    """The laws of every score."""

    score = staticmethod(evaluate)
    refused = ({"metric": "f1"}, {"data": 3})

    def model(self):
        return mlp(classes=7)

    def arguments(self):
        return {"data": DATA}
