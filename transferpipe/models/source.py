"""A model as a source of weights."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from transferpipe.errors import Problem, RecipeError
from transferpipe.models.building.baked import find_baked_variables
from transferpipe.models.building.build import import_keras
from transferpipe.models.target import ModelTarget
from transferpipe.models.walk import Walked
from transferpipe.weights.spec import Catalog


@dataclass(frozen=True)
class ModelSource:
    """A built model that weights are read from."""

    model: ModelTarget = field(repr=False)
    format: str = "model"

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.model.label

    @property
    def walked(self) -> Walked:
        """The model as Keras would save it."""
        return self.model.walked

    @property
    def catalog(self) -> Catalog:
        """The model's weights."""
        return self.model.catalog

    def read(self, name: str) -> NDArray[Any]:
        """Return the variable's value."""
        return self.walked.read(name)

    def locate(self, _: str) -> None:
        """Return None: the values lie in memory."""


def live_model(model: Any, name: str) -> ModelTarget:
    """Return a model of the user's own process as a target.

    Raises:
        RecipeError: it is not a `keras.Model`, or has no weights yet.
    """
    keras = import_keras()
    if not isinstance(model, keras.Model):
        kind = "None" if model is None else f"of the type {type(model).__name__}"
        fix = (
            "call it: a model is meant, not what builds one"
            if inspect.isroutine(model) or inspect.isclass(model)
            else "give a path or a built model"
        )
        raise RecipeError(Problem(name, f"is {kind}, not a keras.Model", fix))
    if not model.built:
        fix = "build it first: model.build(input_shape), or call it on data"
        raise RecipeError(Problem(name, f"{model.name!r} has no weights yet", fix))
    return ModelTarget(model, f"{type(model).__name__} {model.name!r}", baked=find_baked_variables(model))
