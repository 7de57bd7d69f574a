"""torch's names and axes for recurrent layers, by the class of the Keras cell.

Equations and shapes: torch.nn.LSTM, GRU and RNN at https://docs.pytorch.org/docs/stable/nn.html#recurrent-layers.
torch keeps the gates one above the other, Keras side by side. LSTM: torch's i, f, g, o are Keras's i, f, c, o. GRU:
torch's r, z, n are Keras's z, r, h; torch's is the kind that Keras calls ``reset_after``.

Cells that somebody wrote call the gates one by one as the formulas there do: ``W_ii``, ``W_if``, ``W_hi``. A
`torch.nn.Linear` for each is (out, in), as all are; a parameter may be either, and is not taken without a word. Others
have one Linear for all gates of the input and one for those of the state (``x2h``, ``h2h``), cut with `chunk` as a rule
into torch's order: https://github.com/emadRad/lstm-gru-pytorch and what was copied from it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from transferpipe.planning.layouts.adapter import Adapted, Adapters, Back, NoCounterpartError, Shape
from transferpipe.planning.transforms.protocol import NOTHING

_TRANSPOSE = ({"transpose": [1, 0]},)
# From r, z, n to z, r, h. Exchanging two undoes itself, so that the way back has the same.
_GATES = {"take": {"axis": 0, "indices": [1, 0, 2]}}


def _gru_kernel(sources: Sequence[Shape], _: Shape) -> tuple[Any, ...]:
    rows, inputs = (*sources[0], 1, 1)[:2]
    return {"reshape": [3, rows // 3, inputs]}, _GATES, {"reshape": [rows, inputs]}, *_TRANSPOSE


def _gru_bias(sources: Sequence[Shape], _: Shape) -> tuple[Any, ...]:
    rows = sources[0][0] if sources[0] else 0
    take = {"take": {"axis": 1, "indices": [1, 0, 2]}}
    # torch adds both biases, as Keras does with `reset_after`: they stay two rows, the input's first.
    return {"stack": 0}, {"reshape": [2, 3, rows // 3]}, take, {"reshape": [2, rows]}


def _gru_bias_alone(row: int, sources: Sequence[Shape], _: Shape) -> tuple[Any, ...]:
    """Return the steps of a bias that the input alone has, or the state: the other's is 0."""
    join = ({"concat": 0},) if len(sources) > 1 else ()
    order = _gru_part(sources, ()) if len(sources) == 1 else ()
    return *join, *order, {"new_axis": 0}, {"pad": {"axis": 0, "before": row, "after": 1 - row}}


def _gru_part(sources: Sequence[Shape], _: Shape) -> tuple[Any, ...]:
    """Return the steps of one of both biases, for a rule that stacks them itself."""
    rows = sources[0][0] if sources[0] else 0
    return {"reshape": [3, rows // 3]}, _GATES, {"reshape": [rows]}


def _gru_kernel_back(target: Shape) -> tuple[Any, ...]:
    inputs, rows = target
    return *_TRANSPOSE, {"reshape": [3, rows // 3, inputs]}, _GATES, {"reshape": [rows, inputs]}


def _gru_bias_back(number: int, target: Shape) -> tuple[Any, ...]:
    if len(target) != 2:
        raise NoCounterpartError("torch's GRU is the one that Keras calls reset_after=True, with two rows of biases")
    rows = target[1]
    return {"slice": [number]}, {"reshape": [3, rows // 3]}, _GATES, {"reshape": [rows]}


def _both(names: Sequence[str], steps: Any, *back: Back, part_steps: Any = ()) -> tuple[Adapted, ...]:
    """Return the weight as torch.nn.LSTM has it, and as torch.nn.LSTMCell does."""
    forms = tuple(f"{n}_l0" for n in names), tuple(names)
    return tuple(Adapted(form, steps, back, part_steps=part_steps) for form in forms)


def _gates(side: str, gates: str) -> Adapted:
    """Return a kernel whose gates are one `torch.nn.Linear` each, named in Keras's order."""
    return Adapted(tuple(f"W_{side}{gate}/weight" for gate in gates), ({"concat": 0}, *_TRANSPOSE))


def _gate_biases(gates: str, sides: str = "ih", name: str = "W_{}/bias") -> tuple[str, ...]:
    return tuple(name.format(side + gate) for side in sides for gate in gates)


def _sum_biases(sources: Sequence[Shape], _: Shape) -> tuple[Any, ...]:
    units = sources[0][0] if sources[0] else 0
    return {"stack": 0}, {"reshape": [2, len(sources) // 2 * units]}, {"sum": {"axis": 0}}


def _rows_of_biases(sources: Sequence[Shape], _: Shape) -> tuple[Any, ...]:
    units = sources[0][0] if sources[0] else 0
    return {"stack": 0}, {"reshape": [2, len(sources) // 2 * units]}


_LSTM, _GRU = "ifgo", "zrn"
_BIASES = ("bias_ih", "bias_hh")
# Of Keras's one bias torch has two, which it adds: on the way back the second is 0.
_NOTHING = ({"fill": NOTHING},)
_LINEARS = (("x2h", "h2h"), ("xh", "hh"), ("i2h", "h2h"), ("ih", "hh"), ("input_to_hidden", "hidden_to_hidden"))


def _find_fused(side: int, steps: Any) -> tuple[Adapted, ...]:
    """Return a kernel that is one `torch.nn.Linear`, of the input or of the state, by the names that these have."""
    return tuple(Adapted((f"{pair[side]}/weight",), steps) for pair in _LINEARS)


def _find_fused_biases(steps: Any, *alone: Any) -> tuple[Adapted, ...]:
    """Return the biases of both `torch.nn.Linear`, or that of the input's, or the state's, where the other has none."""
    both = tuple(Adapted(tuple(f"{name}/bias" for name in pair), steps) for pair in _LINEARS)
    sides = [(f"{pair[side]}/bias", alone[side]) for side in (0, 1) for pair in _LINEARS]
    return *both, *(Adapted((name,), steps_of_one, half=True) for name, steps_of_one in sides)


_SIMPLE = {
    "kernel": (*_both(["weight_ih"], _TRANSPOSE, _TRANSPOSE), *_find_fused(0, _TRANSPOSE)),
    "recurrent_kernel": (*_both(["weight_hh"], _TRANSPOSE, _TRANSPOSE), *_find_fused(1, _TRANSPOSE)),
    "bias": (*_both(_BIASES, ("sum",), (), _NOTHING), *_find_fused_biases(("sum",), (), ())),
}

CELLS: Adapters = {
    "LSTMCell": {
        "kernel": (*_SIMPLE["kernel"], _gates("i", _LSTM)),
        "recurrent_kernel": (*_SIMPLE["recurrent_kernel"], _gates("h", _LSTM)),
        "bias": (
            *_SIMPLE["bias"],
            Adapted(_gate_biases(_LSTM), _sum_biases),
            Adapted(_gate_biases(_LSTM, name="b_{}"), _sum_biases),
            *(Adapted(_gate_biases(_LSTM, side), ({"concat": 0},)) for side in "ih"),
        ),
    },
    "SimpleRNNCell": _SIMPLE,
    "GRUCell": {
        "kernel": (
            *_both(["weight_ih"], _gru_kernel, _gru_kernel_back),
            _gates("i", _GRU),
            *_find_fused(0, _gru_kernel),
        ),
        "recurrent_kernel": (
            *_both(["weight_hh"], _gru_kernel, _gru_kernel_back),
            _gates("h", _GRU),
            *_find_fused(1, _gru_kernel),
        ),
        "bias": (
            *_both(_BIASES, _gru_bias, partial(_gru_bias_back, 0), partial(_gru_bias_back, 1), part_steps=_gru_part),
            Adapted(_gate_biases(_GRU), _rows_of_biases),
            Adapted(_gate_biases(_GRU, name="b_{}"), _rows_of_biases),
            *(Adapted(_gate_biases(_GRU, "ih"[row]), partial(_gru_bias_alone, row)) for row in (0, 1)),
            *_find_fused_biases(_gru_bias, partial(_gru_bias_alone, 0), partial(_gru_bias_alone, 1)),
        ),
    },
}

_FORMULAS = {"LSTMCell": _LSTM, "GRUCell": _GRU}
# `W_xi` for the kernel of the input is as usual as `W_ii`.
_SIDES = {"kernel": "ix", "recurrent_kernel": "h"}


def is_fused(name: str) -> bool:
    """Tell whether a weight of a cell is a `torch.nn.Linear` that somebody gave all gates of the input or the state.

    >>> is_fused("rnn/cell/x2h/weight"), is_fused("rnn/weight_ih_l0")
    (True, False)
    """
    *_, module, own = ("", "", *name.split("/"))
    return own in ("weight", "bias") and any(module in pair for pair in _LINEARS)


def name_gates(cell: str, own_name: str, held: Collection[str]) -> tuple[str, ...]:
    """Return the parameters of a cell that somebody wrote that are the gates of one of its weights, in Keras's order.

    Args:
        cell: the class of the Keras cell.
        own_name: which of its weights.
        held: the names of the weights in the source's module.
    """
    gates = _FORMULAS.get(cell, "")
    for side in _SIDES.get(own_name, "") if gates else "":
        for stem in ("W_{}{}", "w_{}{}", "W{}{}", "weight_{}{}"):
            names = tuple(stem.format(side, gate) for gate in gates)
            if set(names) <= set(held):
                return names
    return ()
