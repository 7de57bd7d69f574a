"""What torch's layout cannot settle by itself, and so warns of: of weights taken in it, and of those written in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from transferpipe.planning.layouts.torch.recurrent import is_fused
from transferpipe.planning.lint.flatten import is_along_row, rows_of
from transferpipe.planning.lint.padding import lint_padding
from transferpipe.planning.lint.whole_plan import where_of
from transferpipe.planning.model import Assignment, PlanWarning
from transferpipe.planning.plan import Plan
from transferpipe.planning.structure import TargetStructure
from transferpipe.planning.transforms import parse_transforms
from transferpipe.text.listing import listed
from transferpipe.weights.keras.setting_values import spell_activation
from transferpipe.weights.name import WeightName
from transferpipe.weights.network import Network, Node
from transferpipe.weights.spec import GATES, Catalog, WeightSpec

# Who sees three names of a kind knows which layers are meant.
_SOME = 3
_NORMS = ("BatchNormalization", "LayerNormalization", "GroupNormalization")
_OF_TORCH, _FORGOTTEN = 1e-5, 1e-3
"""The default epsilon of torch's normalizations, and that of Keras's."""
_BOTH = ("BatchNormalization", "GroupNormalization")
_SAVE = "save.layout"
_ORDERS = {"LSTMCell": "i, f, g, o", "GRUCell": "r, z, n"}


def lint_paddings(
    plan: Plan, target: TargetStructure, sources: Mapping[str, Catalog], is_even: Callable[[Node | None], bool]
) -> Iterator[PlanWarning]:
    """Yield the warnings of layers whose padding='same' cannot be what the source computed, which padded evenly.

    Args:
        plan: has the assignments that are taken in the layout.
        target: the target's structure.
        sources: the catalogs of the sources by their names.
        is_even: tells whether a layer of the source, None if its file does not tell of it, padded both sides alike.
    """
    rules = {}
    for a in plan.assignments:
        network = sources[a.sources[0].source].network
        node = network.by_name.get(a.sources[0].layer) if network else None
        if a.adapter and is_even(node):
            rules[a.layer] = where_of(a)
    yield from lint_padding(target.catalog.network, rules)


def lint_reset_after(plan: Plan, target: TargetStructure) -> Iterator[PlanWarning]:
    """Yield a warning of a GRU that resets before its product and takes torch's weights."""
    for a in plan.assignments:
        states = [target.by_name[n] for n in WeightName(a.target).ancestors if n in target.by_name]
        is_before = a.target.endswith("/recurrent_kernel") and any(s.reset_after is False for s in states)
        if a.adapter and is_before:
            text = f"{a.target} is that of a GRU with reset_after=False, which computes something else than torch's"
            yield PlanWarning("reset-after", where_of(a), f"{text}: build it with reset_after=True")


def lint_stacked_biases(plan: Plan) -> Iterator[PlanWarning]:
    """Yield a warning of a GRU whose biases a rule stacks the other way round: the rows have equal shapes.

    The input's row is first in Keras; only in the new gate's part does it matter which is which.
    """
    for a in plan.assignments:
        roles = [WeightName(ref.name).own[: len("bias_ih")] for ref in a.sources]
        if a.adapter and a.transforms == ({"stack": 0},) and roles == ["bias_hh", "bias_ih"]:
            text = (
                f"{a.target} takes {listed([ref.name for ref in a.sources], 2)} as its rows: the input's is the first"
            )
            yield PlanWarning("other-role", where_of(a), f"{text} in Keras; list them the other way round")


def lint_directions(plan: Plan, target: TargetStructure, sources: Mapping[str, Catalog]) -> Iterator[PlanWarning]:
    """Yield a warning of recurrent layers that run the other way than the direction whose weights they take.

    torch marks the weights of the direction that runs backwards with ``_reverse``; an operator of ONNX that runs in
    both has those second. What runs in one direction alone is compared with the other settings.
    """
    network = target.catalog.network
    found: dict[tuple[str, bool], list[str]] = {}
    for a in plan.assignments:
        if not a.adapter or network is None or not a.target.endswith("/recurrent_kernel"):
            continue
        spec = sources[a.sources[0].source][a.sources[0].name]
        runs_back = _runs_backwards(spec, a)
        layer = next((n for n in WeightName(a.target).ancestors if "go_backwards" in _settings_of(n, network)), None)
        if runs_back is not None and layer and bool(_settings_of(layer, network)["go_backwards"]) != runs_back:
            found.setdefault((where_of(a), runs_back), []).append(layer)
    for (where, runs_back), layers in found.items():
        ways = ("backwards", "forwards") if runs_back else ("forwards", "backwards")
        text = f"{listed(layers, _SOME)}: takes the weights of the direction that runs {ways[0]}, and runs {ways[1]}"
        yield PlanWarning("settings-differ", where, f"{text}; build the layer with go_backwards={runs_back}")


def _settings_of(name: str, network: Network) -> Mapping[str, Any]:
    node = network.by_name.get(name)
    return node.settings if node else {}


def _runs_backwards(spec: WeightSpec, a: Assignment) -> bool | None:
    """Return whether a recurrent kernel is that of the direction that runs backwards; None if this does not show."""
    if spec.axes == GATES:
        # ONNX has both directions in one tensor: the slice that the adapter takes says which.
        return a.adapter[0].transforms[:1] == ({"slice": [1]},) if spec.shape[:1] == (2,) else None
    own = re.search(r"weight_hh_l\d+(_reverse)?$", spec.name)
    return own[1] is not None if own else None


def lint_cells(plan: Plan, target: TargetStructure) -> Iterator[PlanWarning]:
    """Yield a warning of recurrent layers whose activations torch's cannot have.

    The formulas of torch.nn.LSTM and GRU have tanh and sigmoid, that of RNN tanh or relu.
    """
    network = target.catalog.network
    found: dict[tuple[str, str], dict[str, None]] = {}
    for a in plan.assignments:
        layers = (network.by_name.get(name) for name in WeightName(a.target).ancestors) if network else ()
        node = next((n for n in layers if n and n.layer_class.removesuffix("Cell") in _CELLS), None)
        if not a.adapter or node is None or not a.target.endswith("/recurrent_kernel"):
            continue
        for key, kinds in _CELLS[node.layer_class.removesuffix("Cell")].items():
            value = spell_activation(node.settings.get(key, kinds[0]), (3,))
            if value not in (None, *kinds):
                text = f"{key} is {value}, and torch's has {' or '.join(kinds)}: build it with {key}={kinds[0]!r}"
                found.setdefault((where_of(a), text), {})[node.name] = None
    for (where, text), names in found.items():
        yield PlanWarning("settings-differ", where, f"{listed(list(names), _SOME)}: {text}")


_GATED = {"activation": ("tanh",), "recurrent_activation": ("sigmoid",)}
_CELLS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "LSTM": _GATED,
    "GRU": _GATED,
    "SimpleRNN": {"activation": ("tanh", "relu")},
}


def lint_parameters(plan: Plan) -> Iterator[PlanWarning]:
    """Yield a warning of square kernels that are taken from parameters of no module.

    ``nn.Linear`` keeps (out, in), and calls it ``weight``; whoever writes ``x @ self.w`` has it as (in, out).
    """
    for a in plan.assignments:
        is_square = len(a.shape) == 2 and a.shape[0] == a.shape[1] > 1 and a.own == "kernel"
        is_turned = len(a.sources) == 1 and any(step.transforms for step in a.adapter)
        if is_square and is_turned and "weight" not in a.sources[0].own and not a.own_steps:
            name = a.sources[0].name
            text = f"{a.target} {a.shape} is square, and {name} is not the weight of a module: its shape does not show"
            fix = "if the original computes x @ w, set `layout: keras` for its rule"
            yield PlanWarning("square-kernel", where_of(a), f"{text} whether it has to be transposed, as it is: {fix}")


# Height, width and channels; of a sequence, (steps, values), both frameworks have the same order.
_MAP = 3


def lint_normed_maps(plan: Plan) -> Iterator[PlanWarning]:
    """Yield a warning of a LayerNormalization of whole maps whose axes are equally long.

    ``nn.LayerNorm([channels, height, width])`` keeps its scale in that order, and Keras has the channels last.
    """
    for a in plan.assignments:
        is_cube = len(a.shape) >= _MAP and len(set(a.shape)) == 1 and a.shape[0] > 1
        if a.adapter and not a.own_steps and is_cube and a.own in ("gamma", "beta"):
            order = [*range(1, len(a.shape)), 0]
            text = f"{a.target} {a.shape} has axes of one length: its shape does not show whether channels come first"
            fix = f"if the original normalizes (channels, height, width), add {{transpose: {order}}}"
            yield PlanWarning("square-kernel", where_of(a), f"{text} in {a.sources[0].name}: {fix}")


_OF_GATES = re.compile(r"(^|[/_])(weight|bias|w|b)_(ih|hh)(_l\d+)?(_reverse)?$")


def lint_gates(a: Assignment, target: TargetStructure) -> Iterator[PlanWarning]:
    """Yield a warning of a GRU that takes torch's weights as they are, with its gates in torch's order.

    torch.nn.GRU has them as reset, update, new, Keras as update, reset, candidate. A transform that does more than
    turn axes and join biases may put them in order. An LSTM has one order in both.
    """
    if not all(_OF_GATES.search(r.name) for r in a.sources):
        return
    is_ordered = any(step.reorders for step in parse_transforms(a.steps))
    states = [target.by_name[n] for n in WeightName(a.target).ancestors if n in target.by_name]
    if not is_ordered and any(s.layer_class in ("GRU", "GRUCell") for s in states):
        text = f"{a.target} of a GRU takes {a.sources[0].name}, named as in torch, with its gates in torch's order"
        yield PlanWarning("gate-order", where_of(a), f"{text}: set `layout: torch`, which puts them in Keras's")


def lint_fused_gates(plan: Plan, target: TargetStructure) -> Iterator[PlanWarning]:
    """Yield a warning of cells that somebody wrote with one Linear for all gates, whose order no file tells."""
    rules: dict[str, list[Assignment]] = {}
    for a in plan.assignments:
        is_cell = target.catalog[a.target].layer_class in _ORDERS and WeightName(a.target).own == "kernel"
        if a.adapter and is_cell and len(a.sources) == 1 and is_fused(a.sources[0].name):
            rules.setdefault(a.rule, []).append(a)
    for first, *_ in rules.values():
        kind = str(target.catalog[first.target].layer_class)
        text = f"{first.sources[0].name} has all gates of {first.layer} in one Linear and does not tell their order"
        text += (
            f": taken as torch's, {_ORDERS[kind]}; see how the cell's code cuts it. For another order, take the parts"
        )
        yield PlanWarning("assumed", where_of(first), f"{text} in that of Keras, by `split` and `concat`")


def lint_epsilons(plan: Plan, target: TargetStructure, sources: Mapping[str, Catalog]) -> Iterator[PlanWarning]:
    """Yield a warning of an epsilon that is Keras's default, where the source does not tell its own."""
    known = {
        (alias, node.name)
        for alias, catalog in sources.items()
        for node in (catalog.network.nodes if catalog.network else ())
        if "epsilon" in node.settings or node.layer_class in _NORMS
    }
    unknown = [
        a.target for a in plan.assignments if a.adapter and (a.sources[0].source, a.sources[0].layer) not in known
    ]
    yield from _epsilons("target", unknown, target)


def _epsilons(where: str, weights: Iterable[str], target: TargetStructure) -> Iterator[PlanWarning]:
    layers = dict.fromkeys(WeightName(w).layer for w in weights)
    states = [target.by_name[n] for n in layers if n in target.by_name]
    # Any other than Keras's default was chosen by somebody who looked, such as BERT's 1e-12.
    forgotten = _FORGOTTEN if where == "target" else None
    other = [s for s in states if s.layer_class in _NORMS and s.epsilon not in (None, _OF_TORCH)]
    other = [s for s in other if forgotten is None or s.epsilon == forgotten]
    if other:
        names = listed([s.name for s in other], _SOME)
        text = f"{names}: epsilon is {other[0].epsilon:g}, Keras's default, and torch's default is {_OF_TORCH:g}"
        why = "weights do not carry it"
        fix = "check the original's configuration (eps), and build the target with its value"
        if where != "target":
            text = f"{names}: epsilon is {other[0].epsilon:g} where torch's default is {_OF_TORCH:g}"
            fix = "build the modules with the target's"
        yield PlanWarning("epsilon", where, f"{text}; {why}: {fix}")


def lint_written(target: TargetStructure) -> Iterator[PlanWarning]:
    """Yield the warnings of what a file in torch's layout cannot say."""
    names = [w.name for w in target.catalog]
    yield from _epsilons(_SAVE, names, target)
    rows = rows_of(target.catalog)
    for name in names:
        row = rows.get(WeightName(name).layer)
        maps = [p.sizes for p in row.parts if p.is_map and not p.is_first] if row else []
        if row and maps and is_along_row(name, row, target):
            text = f"{name} is written with its rows in the order in which Keras flattens a map {list(maps[0])}"
            yield PlanWarning("flatten-order", _SAVE, f"{text}: torch's Flatten has the channels first")
    halves = [
        x.name
        for x in target.layers
        if x.layer_class in _BOTH and (f"{x.name}/gamma" in target.catalog) != (f"{x.name}/beta" in target.catalog)
    ]
    if halves:
        text = f"{listed(halves, _SOME)}: torch's has weight and bias, or neither; what lacks is not written"
        yield PlanWarning("half-affine", _SAVE, f"{text}, so load it with strict=False")
