"""Telling in a graph of saved objects what is a weight and what is state of training."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from transferpipe.weights.formats.tensorflow.object_graph import ObjectNode

WEIGHT, LISTED, TRAINED, STATE = range(4)
"""How a node is held: by the model; only by a list that Keras keeps for itself; by an optimizer as one of the variables
that it trains; as state of training."""

_LISTS = frozenset(
    """
    keras_api variables trainable_variables non_trainable_variables _all_variables weights trainable_weights
    non_trainable_weights regularization_losses signatures _tracked _misc_assets _self_tracked_trackables
    """.split()  # noqa: SIM905 -- easier to compare
)
_METRICS = frozenset({"metrics", "_metrics", "compiled_metrics", "_compile_metrics", "_loss_tracker", "layer_metrics"})
_OPTIMIZER = re.compile(r"_?([a-z0-9_]+_)?optimizer")
_COUNTER = re.compile(r"_?(save_counter|(global_|train_|num_|current_)?(step|epoch|iteration)s?(_counter)?)")
_RANDOM = re.compile(r"(^|[/_])(seed_generator(_\d+)?/(seed_generator_state|state)|_state_var|StateVar)$")


def holding_cost(
    nodes: Sequence[ObjectNode], metrics: Mapping[int, bool] | None = None
) -> Callable[[int, str, int], int]:
    """Return what tells how a node, under a name, holds another: see `WEIGHT`.

    Args:
        nodes: the graph.
        metrics: the nodes that a SavedModel declares to be metrics.
    """
    optimizers = {i for i, node in enumerate(nodes) if is_optimizer(node)}
    declared = metrics or {}

    def cost(parent: int, name: str, child: int) -> int:
        if parent in optimizers:
            return TRAINED if name == "_trainable_variables" else STATE
        if child in optimizers or (_OPTIMIZER.fullmatch(name) and not nodes[child].stored):
            return TRAINED
        if name in _METRICS or declared.get(child) or _is_metric(nodes, child):
            return STATE
        return LISTED if name in _LISTS else WEIGHT

    return cost


def is_optimizer(node: ObjectNode) -> bool:
    """Tell whether a node is an optimizer: it has slots, or the counter and the rate that all of Keras's have.

    A rate that follows a schedule is not a variable; from Keras 2.11 on, the list of all variables is there beside it.
    """
    names = {name for name, _ in node.children}
    counted = any({"_iterations", other} <= names for other in ("_learning_rate", "_variables"))
    return bool(node.slots) or counted or {"iter", "learning_rate"} <= names


def _is_metric(nodes: Sequence[ObjectNode], node: int) -> bool:
    """Tell whether it holds a total and a count and nothing else that is stored."""
    stored = {name for name, child in nodes[node].children if nodes[child].stored}
    return stored == {"total", "count"}


def is_state(name: str, python_name: str, shape: tuple[int, ...], dtype: str) -> bool:
    """Tell of a tensor that the model itself holds whether it is a counter or the state of a random generator.

    Args:
        name: the attribute path.
        python_name: the name that the variable had in Python.
        shape: its shape.
        dtype: NumPy name of its dtype.
    """
    if not dtype.startswith(("int", "uint")):
        return False
    if not shape:
        return bool(_COUNTER.fullmatch(name.rpartition("/")[2]))
    return len(shape) == 1 and bool(_RANDOM.search(name) or _RANDOM.search(python_name))
