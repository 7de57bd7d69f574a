"""flax.linen's recurrent cells, by the class of the Keras cell: a Dense for each gate of the input and of the state.

Equations and names: https://flax-linen.readthedocs.io/en/latest/api_reference/flax.linen/layers.html#recurrent. LSTM:
``ii if ig io`` and ``hi hf hg ho`` are Keras's i, f, c, o, and the state's have the biases. GRU: ``iz ir in`` and
``hz hr hn`` are Keras's z, r, h with ``reset_after``; the input's have the biases, and ``hn`` one of its own, which is
the second row of Keras's. flax.nnx writes ``if_``, as ``if`` is a word of Python's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from transferpipe.planning.layouts.adapter import Adapted, Adapters, Back, NoCounterpartError, Shape

_SIDE_BY_SIDE = ({"concat": {"axis": -1}},)


def _part(count: int, number: int, target: Shape) -> tuple[Any, ...]:
    """Return the way to one of `count` gates, which lie side by side."""
    units = target[-1] // count
    return ({"slice": [*[":"] * (len(target) - 1), f"{number * units}:{(number + 1) * units}"]},)


def _gates(letters: Sequence[str], own: str) -> tuple[Adapted, ...]:
    back: tuple[Back, ...] = tuple(partial(_part, len(letters), k) for k in range(len(letters)))
    return (Adapted(tuple(f"{letter}/{own}" for letter in letters), _SIDE_BY_SIDE, back),)


def _gru_bias(sources: Sequence[Shape], _: Shape) -> tuple[Any, ...]:
    """From the biases of hn, iz, ir and in to the two rows: those of the input, and (0, 0, that of hn)."""
    units = sources[0][0] if sources[0] else 0
    before = {"pad": {"axis": 0, "before": 2 * units, "after": 0}}
    # hn, iz, ir, in, with two zeros before: as two rows (0, 0, hn) and (iz, ir, in). Keras has the input's row first.
    return {"concat": {"axis": 0}}, before, {"reshape": [2, 3 * units]}, {"take": {"axis": 0, "indices": [1, 0]}}


def _no_gru_bias(_: Shape) -> tuple[Any, ...]:
    raise NoCounterpartError("flax's GRU has one bias for two of its gates, where Keras's has two, which it adds")


_GRU_BIASES = ("hn", "iz", "ir", "in")
_NNX = ("ii", "if_", "ig", "io")
_CELLS: Adapters = {
    "LSTMCell": {
        "kernel": (*_gates(("ii", "if", "ig", "io"), "kernel"), *_gates(_NNX, "kernel")),
        "recurrent_kernel": _gates(("hi", "hf", "hg", "ho"), "kernel"),
        "bias": _gates(("hi", "hf", "hg", "ho"), "bias"),
    },
    "GRUCell": {
        "kernel": _gates(("iz", "ir", "in"), "kernel"),
        "recurrent_kernel": _gates(("hz", "hr", "hn"), "kernel"),
        "bias": (
            Adapted(tuple(f"{gate}/bias" for gate in _GRU_BIASES), _gru_bias, (_no_gru_bias,) * len(_GRU_BIASES)),
        ),
    },
    "SimpleRNNCell": {
        "kernel": (Adapted(("i/kernel",), (), ((),)),),
        "recurrent_kernel": (Adapted(("h/kernel",), (), ((),)),),
        "bias": (Adapted(("i/bias",), (), ((),)),),
    },
}


def _in_rnn(choice: Adapted) -> Adapted:
    """Return the same for a cell that a flax.linen.RNN holds as its attribute."""
    return Adapted(tuple(f"cell/{name}" for name in choice.names), choice.steps)


CELLS: Adapters = {
    kind: {own: (*choices, *map(_in_rnn, choices)) for own, choices in table.items()} for kind, table in _CELLS.items()
}
