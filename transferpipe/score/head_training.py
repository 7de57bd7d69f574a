"""A score by training: how well a short training of what is not frozen does on digits, with and without transfer."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.digits import SHAPE, digits_left, load_digits
from transferpipe.execute.score_checks import Given
from transferpipe.models.building.build import require_tensorflow
from transferpipe.models.keras_private import layers_in
from transferpipe.models.loaded_once import traced, traced_here
from transferpipe.planning.structure import TargetStructure
from transferpipe.score.checks import check_classifier, check_whole_numbers
from transferpipe.score.comparison import compare, mean_and_spread
from transferpipe.score.data.splits import digest_of_part
from transferpipe.score.result import Control, Measured, Score
from transferpipe.score.training.convergence import Trained, convergence_note
from transferpipe.score.training.fit import Labelled, Repetition, Weights, correct_after_training
from transferpipe.score.training.normalisation import estimate_fresh, normalisations
from transferpipe.score.training.seeded import given_back, repetition_seeds

if TYPE_CHECKING:
    import keras


def head_training(  # noqa: PLR0913 - one argument a key of the recipe's `score`
    model: keras.Model,
    *,
    labels: Sequence[int] = (5, 6, 7, 8, 9),
    train_per_class: int = 10,
    epochs: int = 300,
    seeds: int = 5,
    seed: int = 0,
) -> Score:
    """Train what is trainable in `model` on a few labelled digits and return the accuracy, next to two controls.

    The training starts from the weights the model has, the head's included, and is repeated with different labelled
    images. The controls get the same labelled images, steps and test images:

    * ``random trunk``: the same model with fresh weights everywhere, frozen in the same places; frozen batch
      normalizations have the statistics of the labelled images;
    * ``raw pixels``: one Dense layer with softmax on the pixels.

    The number that ranks is the accuracy on the images of these digits that were not drawn to learn from; that on the
    test images is reported, as those of the controls are. Equal arguments give equal scores on the same machine.

    Args:
        model: a finished classifier from images (n, 8, 8, 1), values 0 to 1, to (n, classes), probabilities or logits.
            It is given back as it came.
        labels: the digits to tell apart, in the order of the model's outputs.
        train_per_class: labelled images of each digit.
        epochs: training steps, each on all labelled images at once.
        seeds: how often to repeat with other labelled images and other fresh weights.
        seed: repetition i gets its seed from NumPy's ``SeedSequence([seed, i])``.

    Returns:
        The mean accuracy, 0 to 1, with the standard deviation over repetitions as spread.

    Raises:
        RecipeError: the model takes inputs of another shape than the digits, nothing in it is trainable, or an
            argument is out of range.
        VerificationError: a frozen weight changed during the training.
    """
    require_tensorflow("score", "head_training")
    started = time.perf_counter()
    check_whole_numbers({"epochs": (epochs, 1), "seeds": (seeds, 1), "seed": (seed, 0)})
    numbers = repetition_seeds(seed, seeds)
    draws = [load_digits(labels, per_class=train_per_class, seed=number) for number in numbers]
    rest = [digits_left(labels, train_per_class, number) for number in numbers]
    test = load_digits(labels, split="test")
    check_classifier(model, SHAPE, (len(labels), "digits", "score.labels"), "the digits")

    task = _Task(draws, rest, test, epochs, numbers)
    with _seed_python(seed), traced_here(model):
        transferred, curves = task.train(model, [model.get_weights()] * seeds)
        # The controls depend on the architecture alone, not on the weights of this model of it.
        key = ("controls", tuple(labels), train_per_class, epochs, tuple(numbers))
        controls = traced(model, key, lambda: _controls(model, task, len(labels)))
    trainings = [trained.of_seed(number) for trained, number in zip(curves, numbers, strict=True)]
    controls = {name: answers[:, : len(test[1])] for name, answers in controls.items()}
    score = _score(transferred, controls, (draws, test, epochs), started)
    return replace(score, trainings=tuple(trainings), notes=(*score.notes, convergence_note(trainings)), seeds=numbers)


@dataclass(frozen=True)
class _Task:
    """What a model and its controls are trained on and tested by."""

    draws: Sequence[Labelled]
    rest: Sequence[Labelled]
    test: Labelled
    epochs: int
    numbers: Sequence[int]

    def train(self, model: keras.Model, starts: Sequence[Weights]) -> tuple[NDArray[np.bool_], list[Trained]]:
        """Train once from each of `starts`, each time on the labelled images of one draw."""
        runs = [
            Repetition(_normalising(model, start, draw[0]), draw, number, left if len(left[1]) else None)
            for start, draw, number, left in zip(starts, self.draws, self.numbers, self.rest, strict=True)
        ]
        return correct_after_training(model, runs, self.test, self.epochs)

    def train_afresh(self, model: keras.Model) -> NDArray[np.bool_]:
        """Train from fresh weights, which also decide how the model is divided."""
        starts = [fresh_weights(model, number) for number in self.numbers]
        with given_back(model):
            model.set_weights(starts[0])
            return self.train(model, starts)[0]


def _controls(model: keras.Model, task: _Task, classes: int) -> dict[str, NDArray[np.bool_]]:
    """Return what simpler things answer right."""
    linear = _linear_model(classes)
    with traced_here(linear):
        return {"random trunk": task.train_afresh(model), "raw pixels": task.train_afresh(linear)}


def fresh_weights(model: keras.Model, seed: int) -> Weights:
    """Return initial values for all weights of `model`, drawn by its own initializers.

    Initializers that carry a fixed seed are given a new one, so that `seed` alone decides.

    Returns:
        One array for each of ``model.weights``.
    """
    from keras import saving

    # The classes are at hand in the model: nobody has to have registered them.
    classes = {saving.get_registered_name(type(layer)): type(layer) for layer in layers_in(model)}
    with _seed_python(seed), saving.custom_object_scope(classes):
        copy = type(model).from_config(_without_seeds(model.get_config()))
        copy(np.zeros((1, *SHAPE), np.float32))  # builds what its configuration does not
    weights: Weights = copy.get_weights()
    assert [w.shape for w in weights] == [tuple(w.shape) for w in model.weights], "a copy differs from its model"
    return weights


def _normalising(model: keras.Model, start: Weights, images: NDArray[np.float32]) -> Weights:
    """Return weights in which frozen batch normalizations with a fresh layer's statistics have those of `images`.

    With mean 0 and variance 1 a frozen one never normalises: a random trunk without them would be too easy to beat.
    """
    if not any(True for _ in normalisations(model)):
        return start
    with given_back(model):
        model.set_weights(start)
        return model.get_weights() if estimate_fresh(model, images) else start


@contextmanager
def _seed_python(seed: int) -> Iterator[None]:
    """Seed Python's generator, from which Keras draws where it is given no seed, and put its state back at the end."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _without_seeds(config: Any) -> Any:
    """Return a copy of a Keras configuration whose initializers have no seed of their own."""
    if isinstance(config, list | tuple):
        return type(config)(_without_seeds(item) for item in config)
    if not isinstance(config, dict):
        return config
    copy = {key: _without_seeds(value) for key, value in config.items()}
    if copy.get("module") == "keras.initializers" and "seed" in copy.get("config", {}):
        copy["config"]["seed"] = None
    return copy


def _linear_model(classes: int) -> keras.Model:
    from keras import Sequential, layers

    return Sequential([layers.Input(SHAPE), layers.Flatten(), layers.Dense(classes, activation="softmax")])


def _score(
    transferred: NDArray[np.bool_],
    controls: dict[str, NDArray[np.bool_]],
    setting: tuple[list[Labelled], Labelled, int],
    started: float,
) -> Score:
    """Put the right and wrong answers of all runs together."""
    draws, test, epochs = setting
    labelled, classes = len(draws[0][1]), len(set(test[1].tolist()))
    setup = (
        f"{labelled} labelled images ({labelled // classes} of each class), {len(draws)} different draws, "
        f"{epochs} training steps each, {len(test[1])} test images; the spread is the standard deviation over draws"
    )
    reported, held_out = transferred[:, : len(test[1])], transferred[:, len(test[1]) :]
    right = held_out.mean(axis=1).tolist() if held_out.shape[1] else []
    measured = Measured(right, reported.mean(axis=1).tolist(), (held_out.shape[1], len(test[1])), digest_of_part(test))
    return Score(
        **measured.to_fields("accuracy"),
        higher_is_better=True,
        kind="trained",
        needs="training",
        controls=tuple(Control(name, *mean_and_spread(answers)) for name, answers in controls.items()),
        notes=(setup, *(compare(reported, answers, name) for name, answers in controls.items()), measured.note),
        seconds=time.perf_counter() - started,
    )


def check_early(given: Given, _: TargetStructure) -> None:
    """Refuse arguments out of range; see `transferpipe.execute.score_checks`."""
    require_tensorflow("score", "head_training")
    check_whole_numbers({"epochs": (given["epochs"], 1), "seeds": (given["seeds"], 1), "seed": (given["seed"], 0)})
    load_digits(given["labels"], per_class=given["train_per_class"])
