"""What keeps a model or an argument from being scored, said before the work begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transferpipe.errors import Problem, Problems, RecipeError, did_you_mean
from transferpipe.models.loaded_once import traced
from transferpipe.score.data.splits import PARTS, Splits, splits_of
from transferpipe.score.training.frozen import live_weights

if TYPE_CHECKING:
    import keras


def check_whole_numbers(numbers: dict[str, tuple[Any, int]]) -> None:
    """Raise for each (number, least value) that is not a whole number from that value up."""
    problems = Problems()
    for name, (number, least) in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            what = f"{number!r} is not a whole number of at least {least}"
            problems.add(f"score.{name}", what, f"write one, such as {name}={least}")
    problems.raise_as(RecipeError)


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise if `value` is not one of `choices`."""
    if value not in choices:
        fix = did_you_mean(str(value), choices) or "use one of them"
        raise RecipeError(Problem(f"score.{name}", f"{value!r} is none of {', '.join(choices)}", fix))


def check_data(data: Any, *needed: str) -> Splits:
    """Return `data` as `Splits` with examples in all parts that are needed."""
    data = splits_of(data)
    if not isinstance(data, Splits):
        what = f"is an object of type {type(data).__name__}, not labelled data"
        fix = "give `_target_:` transferpipe.score.digits_data, npz_data or tf_data, or a function of your own"
        raise RecipeError(Problem("score.data", what, fix))
    lacking = [part for part in PARTS if part in needed and not len(getattr(data, f"y_{part}"))]
    if lacking:
        what = f"{data.name} has no {' and no '.join(lacking)} part"
        raise RecipeError(Problem("score.data", what, "give it, or let a fraction be drawn for it"))
    return data


def check_takes(model: keras.Model, shape: tuple[int, ...], what: str = "the data") -> None:
    """Raise if `model` is known to take something else than examples of `shape`."""
    problems = Problems()
    _note_taken(model, shape, what, problems)
    problems.raise_as(RecipeError)


def check_classifier(
    model: keras.Model, shape: tuple[int, ...], wanted: tuple[int, str, str], what: str = "the data"
) -> None:
    """Raise everything that keeps `model` from being trained to tell examples apart.

    Args:
        model: a built model.
        shape: that of one example.
        wanted: how many classes, what they are called, and the recipe key behind them.
        what: what the examples are called.
    """
    problems = Problems()
    _note_taken(model, shape, what, problems)
    if not any(weight.trainable for weight in live_weights(model)):
        problems.add("score", "nothing in the model is trainable", "leave the head out of `freeze`")
    problems.raise_as(RecipeError)
    check_gives(model, shape, wanted, what)


def check_gives(
    model: keras.Model, shape: tuple[int, ...], wanted: tuple[int, str, str], what: str = "the data"
) -> None:
    """Raise if `model` does not take examples of `shape`, or gives other than one number a class for each.

    The arguments are those of `check_classifier`.
    """
    check_takes(model, shape, what)
    count, things, where = wanted
    given = traced(model, ("gives", shape), lambda: _find_output_shape(model, shape))
    if given != (count,):
        message = f"the model gives {given} for an example, {count} {things} need {(count,)}"
        raise RecipeError(Problem(where, message, f"give the target as many classes as there are {things}"))


def _find_output_shape(model: keras.Model, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Return the shape of what `model` gives for an example."""
    import keras

    output = model.compute_output_spec(keras.KerasTensor((None, *shape)))
    return tuple(output.shape)[1:] if hasattr(output, "shape") else ("several outputs",)


def _note_taken(model: keras.Model, shape: tuple[int, ...], what: str, problems: Problems) -> None:
    """Note if `model` is known to take something else than examples of `shape`."""
    taken = getattr(model, "input_shape", None)  # a subclassed model does not know it
    if taken is not None and not _admits(taken, (None, *shape)):
        message = f"the model takes {taken}, {what} are {(None, *shape)}"
        problems.add("score", message, f"use a model for inputs of shape {shape}, or other data")


def _admits(taken: Any, wanted: tuple[int | None, ...]) -> bool:
    """Tell whether an input shape, its None standing for any size, admits the wanted one."""
    return len(taken) == len(wanted) and all(a is None or a == b for a, b in zip(taken, wanted, strict=True))


def check_positive(name: str, value: Any) -> None:
    """Raise if `value` is not a finite number above 0."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        what = f"{value!r} is not a finite number above 0"
        raise RecipeError(Problem(f"score.{name}", what, f"write one, such as {name}=1.0"))
