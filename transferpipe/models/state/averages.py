"""`select: ema`: the averages that an optimizer keeps of the weights, as the values of a source.

An optimizer with ``use_ema=True`` keeps a moving average of every trainable weight. Weights that are not trained, such
as moving statistics, have none: theirs are the model's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from transferpipe.errors import Problem, RecipeError
from transferpipe.files.segment import Segment
from transferpipe.models.source import ModelSource
from transferpipe.models.state.optimizer_slots import Slots, find_stored_places, optimizer_of, read_slots, slots_of_file
from transferpipe.models.target import ModelTarget
from transferpipe.models.walk import to_numpy
from transferpipe.text.collapse import counted
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.spec import WeightSpec
from transferpipe.weights.stored_optimizer import ITERATIONS

AVERAGES = ("ema", "average", "optimizer/average")
"""What `select` calls them."""
KERAS_FORMATS = ("keras", "h5", "weights_h5", "weights_json")
_WITHOUT = "leave select out to take the weights themselves"


@dataclass(frozen=True)
class AveragedModel(ModelSource):
    """A built model whose optimizer's averages are read in place of its trainable weights."""

    averages: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def read(self, name: str) -> NDArray[Any]:
        """Return the average, or the variable's value where there is none."""
        found = self.averages.get(self.catalog.aliases.get(name, name))
        return super().read(name) if found is None else to_numpy(found)


def take_averages_of_file(source: FileSource) -> FileSource:
    """Return a Keras file with the averages of its optimizer as the values of what was trained.

    Raises:
        RecipeError: it has no optimizer, or one that keeps no averages.
    """
    if not optimizer_of(source):
        raise _refuse(source.label, "holds no state of an optimizer, so no averages")
    if source.format not in ("keras", "h5"):
        what = "numbers its optimizer's arrays, and does not say which of them are averages"
        raise RecipeError(Problem("select", f"{source.label} {what}", "take the whole model, saved as .keras"))
    slots = slots_of_file(source, as_saved=True)
    places = find_stored_places(source, slots)
    if places is None and slots.averages and len(optimizer_of(source)) < len(slots.slots):
        raise _refuse(
            source.label,
            f"holds {counted(len(optimizer_of(source)), 'array')} of its optimizer: it was not trained yet",
        )
    if places is None:
        raise _refuse(source.label, f"holds other arrays than Keras makes for its optimizer ({slots.optimizer})")
    # Of several optimizers in one, the one that trains counts: what scales the loss around it stays at 0.
    counts = [s for s in slots.slots if s.place in places and not s.weight and s.kind.endswith(ITERATIONS)]
    _check(source.label, slots, max((int(source.read_entry(places[s.place])) for s in counts), default=1))
    averages: dict[str, WeightSpec] = {}
    for slot in slots.slots:
        if slot.kind == "average" and slot.weight in source.catalog and slot.place in places:
            averages |= {place.where: places[slot.place] for place in source.catalog.places_of(slot.weight)}

    def read_entry(spec: WeightSpec) -> NDArray[Any]:
        return source.read_entry(averages.get(spec.where, spec))

    def locate_entry(spec: WeightSpec) -> Segment | None:
        return source.locate_entry(averages.get(spec.where, spec))

    return dataclasses.replace(source, read_entry=read_entry, locate_entry=locate_entry, select="ema")


def take_averages_of_model(model: ModelTarget) -> AveragedModel:
    """Return a live model with the averages of its optimizer as the values of what was trained.

    Raises:
        RecipeError: it has no optimizer, or one that keeps no averages.
    """
    optimizer = getattr(model.model, "optimizer", None)
    if optimizer is None or not optimizer.built:
        raise _refuse(model.label, "holds no state of an optimizer, so no averages")
    slots = read_slots(optimizer, {id(variable): name for name, variable in model.walked.values.items()})
    _check(model.label, slots, int(to_numpy(optimizer.iterations)))
    return AveragedModel(model, averages={s.weight: s.variable for s in slots.slots if s.kind == "average"})


def _check(label: str, slots: Slots, iterations: int) -> None:
    if not slots.averages:
        raise _refuse(label, f"was trained by {slots.optimizer} without use_ema=True, which keeps no averages")
    if not iterations:
        raise _refuse(label, "was not trained yet: its averages are the zeros that they begin with")


def _refuse(label: str, what: str) -> RecipeError:
    return RecipeError(Problem("select", f"{label} {what}", _WITHOUT))
