"""What preprocessing layers learn beside weights, read from and put into layers and configurations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.models.keras_private import lookup_in
from transferpipe.models.walk import to_numpy

_MASKS = {"TextVectorization": ""}
_UNKNOWN = {"IntegerLookup": -1}


@dataclass(frozen=True)
class LearnedState:
    """What one preprocessing layer learned.

    Attributes:
        kind: ``vocabulary``, ``boundaries`` or ``statistics``.
        values: the terms without those for masks and unknown words, by their index; or the boundaries; or means and
            variances, each a number or nested tuples of such.
    """

    kind: str
    values: tuple[Any, ...] = ()

    @property
    def size(self) -> int:
        """How many terms, boundaries or means."""
        return np.size(self.values[0]) if self.kind == "statistics" and self.values else len(self.values)


def special_terms(layer_class: str, config: Mapping[str, Any]) -> list[Any]:
    """Return the terms that stand before all others in a vocabulary: the mask, and those for unknown words."""
    mask = config.get("mask_token", _MASKS.get(layer_class))
    unknown = config.get("oov_token", _UNKNOWN.get(layer_class, "[UNK]"))
    masks = [mask] if mask is not None and config.get("output_mode", "int") == "int" else []
    return [*masks, *[unknown] * config.get("num_oov_indices", 1)]


def state_of_config(layer_class: str, config: Mapping[str, Any], asset: str | None) -> LearnedState | None:
    """Return what a saved layer learned, from its configuration or the text of its asset; None where neither tells."""
    if layer_class == "Discretization":
        return LearnedState("boundaries", tuple(float(b) for b in config.get("bin_boundaries") or ()))
    if layer_class == "Normalization":
        return statistics_of(config.get("mean"), config.get("variance"))
    special = [str(term) for term in special_terms(layer_class, config)]
    given = config.get("vocabulary")
    if isinstance(given, list):
        terms = given[len(special) :] if [str(t) for t in given[: len(special)]] == special else given
    elif given is None and asset is not None:
        lines = asset.splitlines()  # as Keras reads it, with what it takes off the end (keras 3.15, index_lookup.py)
        while lines and lines[-1] == "":
            lines.pop()
        terms = lines[len(special) :] if lines[: len(special)] == special else lines
    else:  # the path of a file that lies elsewhere, or nothing
        return None if given is not None else LearnedState("vocabulary")
    of = int if layer_class == "IntegerLookup" else str
    return LearnedState("vocabulary", tuple(of(term) for term in terms))


def statistics_of(mean: Any, variance: Any) -> LearnedState:
    """Return given or adapted statistics, as Keras spells them in a configuration; empty without such."""
    if mean is None or variance is None:
        return LearnedState("statistics")
    found = (m["config"]["value"] if isinstance(m, Mapping) else m for m in (mean, variance))
    return LearnedState("statistics", tuple(_nested(np.asarray(m, "float64").tolist()) for m in found))


def _nested(values: Any) -> Any:
    return tuple(_nested(value) for value in values) if isinstance(values, list) else values


def state_of_layer(layer: Any) -> LearnedState:
    """Return what a layer at hand has learned; empty where that is nothing yet."""
    if hasattr(layer, "input_mean"):
        if layer.input_mean is not None:
            return statistics_of(np.asarray(layer.input_mean), np.asarray(layer.input_variance))
        found = (layer.adapt_mean, layer.adapt_variance) if layer.built else ()
        return statistics_of(*map(to_numpy, found)) if found else LearnedState("statistics")
    if hasattr(layer, "bin_boundaries"):
        found = layer.bin_boundaries
        return LearnedState("boundaries", () if found is None else tuple(float(b) for b in found))
    try:
        terms = layer.get_vocabulary(include_special_tokens=False)
    except Exception:  # Keras raises in several ways where there is no table yet
        return LearnedState("vocabulary")
    of = int if type(layer).__name__ == "IntegerLookup" else str
    return LearnedState("vocabulary", tuple(of(term) for term in terms))


def boundaries_of_summary(summary: NDArray[Any], bins: int) -> LearnedState:
    """Return the boundaries that Keras computes of what an adapted Discretization counted.

    Files of before Keras 3 have that alone (``get_bin_boundaries``, discretization.py of tf.keras 2.21 and keras 3.15).

    Args:
        summary: of shape (2, n): numbers in their order, and how many each stands for.
        bins: how many there are to be.
    """
    numbers, counts = summary
    share = 1.0 / bins
    if len(numbers) * share >= 1:
        total = counts.cumsum()
        numbers = np.interp(share + np.arange(0.0, 1.0, share), total / total[-1], numbers)
    return LearnedState("boundaries", tuple(float(b) for b in numbers[:-1].astype("float32")))


def is_line_by_line(state: LearnedState) -> bool:
    """Tell whether the terms can stand in the lines of an asset."""
    return all(len(str(term).splitlines()) == 1 for term in state.values)


def put_into_config(state: LearnedState, layer_class: str, config: MutableMapping[str, Any]) -> bool:
    """Put a state into the configuration of a saved layer; tell whether it must stand in an asset instead.

    A vocabulary stays where the layer has its own: one with a given vocabulary cannot be adapted any more.
    """
    if state.kind == "boundaries":
        config["bin_boundaries"] = list(state.values)
        return False
    if state.kind == "statistics":
        config["mean"], config["variance"] = (np.asarray(each).tolist() for each in state.values)
        return False
    if "vocabulary_size" in config:
        config["vocabulary_size"] = len(special_terms(layer_class, config)) + len(state.values)
    of_weights = config.get("output_mode") == "tf_idf"
    if of_weights or (config.get("vocabulary") is None and is_line_by_line(state)):
        config["vocabulary"] = None
        if "idf_weights" in config:
            config["idf_weights"] = None
        return True
    config["vocabulary"] = list(state.values)
    return False


def give_state(layer: Any, state: LearnedState) -> Callable[[], None]:
    """Give a layer at hand a state as if it had learned it, and return what undoes that.

    Raises:
        ValueError, RuntimeError: Keras refuses it; the layer is what it was.
    """
    lookup = lookup_in(layer)
    before = dict(vars(lookup))

    def undo() -> None:
        now = vars(lookup)
        for key in [key for key in now if key not in before]:
            del now[key]
        now.update(before)

    try:
        if state.kind == "boundaries":
            layer.bin_boundaries = list(state.values)
            return undo
        if state.kind == "statistics":
            layer.input_mean, layer.input_variance = (np.asarray(each) for each in state.values)
            if layer.built:  # it makes tensors of them then
                layer.build_from_config(layer.get_build_config())
            return undo
        of_weights = lookup.output_mode == "tf_idf"
        # Those of tf_idf are weights of the model, and get their values as such.
        lookup.set_vocabulary(list(state.values), [1.0] * len(state.values) if of_weights else None)
        # Keras writes into the configuration what a layer was made with, not what it has.
        was_given = lookup.input_vocabulary is not None
        lookup.input_vocabulary = None
        if of_weights:
            lookup.input_idf_weights = None
        elif was_given or not is_line_by_line(state):
            lookup.input_vocabulary = list(state.values)
    except BaseException:
        undo()
        raise
    return undo
