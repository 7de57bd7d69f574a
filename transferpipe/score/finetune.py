"""A score by training: how well the model does after a few epochs on data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from transferpipe.execute.score_checks import Given
from transferpipe.models.building.build import require_tensorflow
from transferpipe.models.loaded_once import traced_here
from transferpipe.planning.structure import TargetStructure
from transferpipe.score.checks import check_choice, check_classifier, check_data, check_positive, check_whole_numbers
from transferpipe.score.data.splits import Splits
from transferpipe.score.outputs import accuracy, cross_entropy, gives_probabilities, outputs_of
from transferpipe.score.result import Measured, Score
from transferpipe.score.training.convergence import Trained, convergence_note
from transferpipe.score.training.normalisation import estimate_fresh, fresh_frozen
from transferpipe.score.training.seeded import given_back, repetition_seeds, seeded
from transferpipe.score.training.train import Training, train
from transferpipe.text.collapse import counted
from transferpipe.text.listing import listed

if TYPE_CHECKING:
    import keras

Metric = Literal["accuracy", "loss"]
Fresh = Literal["estimate", "keep"]


def finetune(  # noqa: PLR0913 - one argument a key of the recipe's `score`
    model: keras.Model,
    data: Splits,
    *,
    epochs: int = 100,
    learning_rate: float = 1e-3,
    batch_size: int = 32,
    patience: int = 5,
    patience_steps: int = 200,
    fresh_statistics: Fresh = "estimate",
    metric: Metric = "accuracy",
    repeats: int = 1,
    seed: int = 0,
) -> Score:
    """Train what is trainable in `model` with Adam until it has converged, and test it.

    Frozen parts stay frozen, which is verified after the training: their weights are compared bit for bit. The training
    starts from the weights the model has, and stops when the loss on ``data.val`` has not fallen for `patience` epochs
    and `patience_steps` steps, and moving statistics have settled; the weights with the smallest such loss are tested.
    Whether it converged is in the score, with its curves. Equal arguments give equal scores on the same machine.

    Args:
        model: a finished classifier, probabilities or logits. It is given back as it came.
        data: examples to learn from, to stop by (may be empty: then there is no early stop), and to test on.
        epochs: passes over the examples, at most.
        learning_rate: of Adam.
        batch_size: examples a step.
        patience: epochs without improvement before it stops; not sooner than after
        patience_steps: optimizer steps without improvement, since where examples are few an epoch is a few steps.
        fresh_statistics: what becomes of frozen batch normalizations that still have a fresh layer's mean 0 and
            variance 1, and would never normalise: ``estimate`` gives them the statistics of the training examples
            before the training starts, ``keep`` leaves them.
        metric: ``accuracy``, higher is better, or the cross-entropy ``loss``, lower is better. That of the
            validation part ranks, where there is one; that of the test part is reported.
        repeats: trainings, each with another order of examples and other dropped units; the score is their mean.
        seed: repetition i gets its seed from NumPy's ``SeedSequence([seed, i])``.

    Raises:
        RecipeError: Keras does not run on TensorFlow, model and data have different shapes, nothing is trainable, or
            an argument is out of range.
        ScoreError: the training went astray: outputs that are not finite.
        VerificationError: a frozen weight changed.
    """
    require_tensorflow("score", "finetune")
    started = time.perf_counter()
    data = check_data(data, "train", "test")
    numbers = {"epochs": epochs, "batch_size": batch_size, "patience": patience, "repeats": repeats, "seed": seed}
    numbers["patience_steps"] = patience_steps
    _check_settings({**numbers, "learning_rate": learning_rate, "metric": metric, "fresh_statistics": fresh_statistics})
    check_classifier(model, data.x_train.shape[1:], (data.classes, "classes", "score.data"))

    setting = Training(epochs, learning_rate, batch_size, patience, seed, patience_steps)
    fresh = [layer.name for layer in fresh_frozen(model)]
    with traced_here(model), given_back(model):
        if fresh_statistics == "estimate" and fresh:
            estimate_fresh(model, data.x_train)
        seeds = repetition_seeds(seed, repeats)
        # A search that ends trainings early compares the first of each variant.
        told: tuple[Metric | None, ...] = (metric, *[None] * (repeats - 1))
        settings = [replace(setting, seed=number, told=what) for number, what in zip(seeds, told, strict=True)]
        runs = [_run(model, data, one, metric) for one in settings]
    trainings = tuple(trained for _, trained in runs)
    parts = {part: [values[part] for values, _ in runs if part in values] for part in ("val", "test")}
    measured = Measured(parts["val"], parts["test"], (len(data.y_val), len(data.y_test)), data.test_digest)
    return Score(
        **measured.to_fields(metric, " after fine-tuning"),
        higher_is_better=metric == "accuracy",
        kind="trained",
        needs="training",
        notes=(
            _note(data, trainings, setting),
            measured.note,
            convergence_note(trainings),
            *([_note_on_fresh(fresh, fresh_statistics)] if fresh else []),
        ),
        trainings=trainings,
        seeds=seeds,
        seconds=time.perf_counter() - started,
    )


def _check_settings(given: Given) -> None:
    counts = {"epochs": 1, "batch_size": 1, "patience": 1, "repeats": 1, "seed": 0, "patience_steps": 0}
    check_whole_numbers({name: (given[name], least) for name, least in counts.items()})
    check_choice("fresh_statistics", given["fresh_statistics"], ("estimate", "keep"))
    check_positive("learning_rate", given["learning_rate"])
    check_choice("metric", given["metric"], ("accuracy", "loss"))


def _run(model: keras.Model, data: Splits, setting: Training, metric: Metric) -> tuple[dict[str, float], Trained]:
    """Train once and return the number of each part to measure on, and how the training went."""
    with seeded(setting.seed), given_back(model):
        probabilities = gives_probabilities(model, data.x_test[: setting.batch_size])
        trained = train(model, data, setting)
        parts = {"val": data.val, "test": data.test} if len(data.y_val) else {"test": data.test}
        outputs = {part: (outputs_of(model, inputs), labels) for part, (inputs, labels) in parts.items()}
    if metric == "accuracy":
        return {part: accuracy(*pair) for part, pair in outputs.items()}, trained
    return {part: cross_entropy(*pair, probabilities) for part, pair in outputs.items()}, trained


def _note_on_fresh(names: Sequence[str], what: Fresh) -> str:
    """Return what became of frozen normalizations that nothing was transferred to."""
    layers = f"{counted(len(names), 'frozen BatchNormalization')} with fresh statistics ({listed(names, 3)})"
    if what == "estimate":
        return f"{layers}: mean and variance were estimated on the training examples before the training"
    return f"{layers}: kept, and so not normalising; score.fresh_statistics=estimate takes those of the examples"


def _note(data: Splits, trained: Sequence[Trained], setting: Training) -> str:
    best = ", ".join(str(t.best) for t in trained)
    how = f"best of at most {setting.epochs} epochs by the validation loss: {best}"
    if not len(data.y_val):
        how = f"{setting.epochs} epochs, no early stop for want of a validation part"
    times = f"; {len(trained)} repetitions, the spread is their standard deviation" if len(trained) > 1 else ""
    return f"{data}; {how}{times}"


def check_early(given: Given, _: TargetStructure) -> None:
    """Refuse arguments out of range; see `transferpipe.execute.score_checks`."""
    require_tensorflow("score", "finetune")
    _check_settings(given)
