"""What a rule's `fold` puts into the weights that it takes: normalizations, low-rank factors, scales of integers.

A rule names the layer that is folded, and what lies there says what it is: a BatchNormalization by its statistics, LoRA
by its factors, a quantized layer by the scales beside its integers. What each weight takes of it, and the step that
puts it together, become part of the assignment, as if they had been written in `from` and `transform`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transferpipe.errors import Problems
from transferpipe.planning.claims import Unit
from transferpipe.planning.pairing.fused_factors import cut_factors
from transferpipe.planning.pairing.rules import pair_rule
from transferpipe.planning.pairing.taken import Pairing, Taken
from transferpipe.recipe.model import Rule
from transferpipe.text.listing import listed
from transferpipe.weights.name import WeightName
from transferpipe.weights.network import Network, Node
from transferpipe.weights.spec import Catalog, WeightSpec

# What a BatchNormalization's weights are called by Keras, torch and flax.
_STATISTICS: Mapping[str, tuple[str, ...]] = {
    "gamma": ("gamma", "weight", "scale"),
    "beta": ("beta", "bias"),
    "mean": ("moving_mean", "running_mean", "mean"),
    "variance": ("moving_variance", "running_var", "var"),
}
# The kernel is scaled, the bias scaled and shifted: the formula and its source stand in `FoldBatchNorm`.
_OF_KERNEL, _OF_BIAS = ("gamma", "variance"), ("gamma", "beta", "mean", "variance")
# The first of these that a layer has makes its outputs; the depthwise kernel before a pointwise one stays as it is.
_KERNELS = ("pointwise_kernel", "kernel", "weight")
_BIAS = "bias"
# peft's names of the factors below the module, and of DoRA's magnitude; the adapter may have a name of its own.
_PEFT = tuple((f"lora_{kind}A{end}", f"lora_{kind}B{end}") for kind in ("", "embedding_")
              for end in ("/weight", "", "/default/weight", "/default"))  # fmt: skip
_MAGNITUDES = ("lora_magnitude_vector", "lora_magnitude_vector/weight", "lora_magnitude_vector/default/weight")
_INTEGERS = ("int8", "uint8")
_CONVOLUTION = re.compile(r"(?:Depthwise|Separable)?Conv([123])D(?:Transpose)?")


@dataclass(frozen=True)
class Folded:
    """What a target weight takes where something is folded into it.

    Attributes:
        taken: what it takes, in the order in which the step wants it.
        steps: the step that puts it together, as written; none where the weight is taken as it is.
    """

    taken: tuple[Taken, ...]
    steps: tuple[Any, ...] = ()


@dataclass(frozen=True)
class _Partner:
    """A layer that is folded.

    Attributes:
        source: the source's name.
        name: the layer's name.
        catalog: the source's weights.
    """

    source: str
    name: str
    catalog: Catalog

    def find(self, *own_names: str) -> WeightSpec | None:
        """Return the first weight of one of these names inside the layer."""
        names = (f"{self.name}/{own}" if self.name else own for own in own_names)
        return next((self.catalog[name] for name in names if name in self.catalog), None)

    def take(self, *weights: WeightSpec) -> tuple[Taken, ...]:
        """Return what takes these weights as they are."""
        return tuple(Taken(self.source, (weight.name,)) for weight in weights)

    @property
    def statistics(self) -> dict[str, WeightSpec]:
        """The weights of a BatchNormalization by what they are; empty for any other layer."""
        found = {part: self.find(*names) for part, names in _STATISTICS.items()}
        there = {part: weight for part, weight in found.items() if weight is not None}
        return there if {"mean", "variance"} <= there.keys() else {}

    def setting(self, key: str) -> Any:
        """Return a setting of the layer that its file or model tells; None where it does not."""
        node = self.catalog.network.by_name.get(self.name) if self.catalog.network else None
        return node.settings.get(key) if node else None


def fold_rule(rule: Rule, units: Sequence[Unit], pairing: Pairing) -> dict[str, Folded]:
    """Return what every target weight that `rule` claims takes, with what is folded; problems leave some out."""
    # A convolution before a normalization mostly has no bias: what an entry lacks is a problem only if the fold does
    # not give it either. So each entry is paired alone, and its problems wait.
    scratch = dataclasses.replace(pairing, problems=Problems())
    alone = [pair_rule(dataclasses.replace(rule, froms=(origin,)), units, scratch) for origin in rule.froms]
    branches = [{weight: taken[0] for weight, taken in found.items()} for found in alone]
    found: dict[str, Folded] = {}
    fold = _Fold(rule, pairing, branches)
    fold.look_for_statistics(units)
    for unit in units:
        for weight in unit.weights:
            folded = fold.settle(weight, unit)
            if folded is not None:
                found[weight] = folded
    if fold.has_problems:
        return found
    if not any(folded.steps for folded in found.values()):
        texts = ", ".join(origin.text for origin in rule.fold)
        what = f"{texts!r} names nothing that can be folded into {listed([u.name for u in units], 2)}"
        fix = "name a BatchNormalization, LoRA's factors, or a quantized layer, as `transferpipe inspect` lists them"
        pairing.problems.add(f"{rule.where}.fold", what, fix)
    elif len(found) < sum(len(unit.weights) for unit in units):
        pairing.problems.found += scratch.problems.found
    return found


@dataclass
class _Fold:
    """One rule's folding.

    Attributes:
        rule: the rule.
        pairing: what is found so far; takes the problems.
        branches: for each entry of the rule's `from`, what each weight takes of it.
        folds_statistics: whether the rule folds normalizations.
        has_problems: whether one was noted.
    """

    rule: Rule
    pairing: Pairing
    branches: Sequence[Mapping[str, Taken]]
    folds_statistics: bool = False
    has_problems: bool = False

    def look_for_statistics(self, units: Sequence[Unit]) -> None:
        """Note whether the rule folds normalizations: then each of its layers must have one."""
        places = ((weight, unit) for unit in units for weight in unit.weights)
        # What a layer folds into itself, its factors or scales, is not a partner behind it.
        own = [(origin.source, origin.text) for origin in self.rule.froms]
        if [(origin.source, origin.text) for origin in self.rule.fold] != own:
            self.folds_statistics = any(p.statistics for place in places for p in self._partners(*place))

    def settle(self, weight: str, unit: Unit) -> Folded | None:
        """Return what a weight takes; None where it finds nothing, or a problem was noted."""
        partners = list(self._partners(weight, unit))
        if self.has_problems:
            return None
        firsts = [branch.get(weight) for branch in self.branches]
        own = WeightName(weight).own
        if self.folds_statistics:
            return self._normalization(weight, own, firsts, partners)
        if len(firsts) > 1 or len(partners) > 1:
            named = ", ".join(p.name for p in partners)
            self._refuse(f"{named} are not BatchNormalizations, and only their branches can be added", _ADD)
            return None
        (first,), (partner,) = firsts, partners
        if first is None:
            return None
        for there in (partner, self._where_taken(weight, unit, first, partner)):
            found = self._scale(weight, first, there) or self._factors(weight, own, first, there)
            if found or self.has_problems:
                return found
        return Folded((first,))

    def _where_taken(self, weight: str, unit: Unit, first: Taken, partner: _Partner) -> _Partner:
        """Return what lies beside the source weight that is taken, where its layout has other parts than the target.

        An attention of Keras has the layer `query`, and torch's the module `q_proj`, or one for all three.
        """
        template = self.rule.froms[0].template
        if not unit.is_layer or template is None:
            return partner
        layers = self.pairing.sources[first.source].layers
        outer, place = template.fill(unit.match, lambda n: n in layers), WeightName(first.names[0]).layer
        if outer and not f"{place}/".startswith(f"{outer}/"):
            return partner
        root = partner.name.removesuffix(WeightName(unit.relative(weight)).layer).rstrip("/")
        name = "/".join(filter(None, (root, place[len(outer) :].strip("/"))))
        return dataclasses.replace(partner, name=name)

    def _partners(self, weight: str, unit: Unit) -> Iterator[_Partner]:
        inside = WeightName(unit.relative(weight)).layer if unit.is_layer else ""
        for origin in self.rule.fold:
            assert origin.template is not None
            try:
                catalog = self.pairing.sources[origin.source]
                name = origin.template.fill(unit.match, lambda n, c=catalog: n in c.layers)  # type: ignore[misc]
            except ValueError as error:
                self._refuse(f"{origin.text!r} for {unit.name}: {error}", "correct the template")
                return
            yield _Partner(origin.source, "/".join(filter(None, (name, inside))), self.pairing.sources[origin.source])

    def _refuse(self, what: str, fix: str) -> None:
        self.has_problems = True
        self.pairing.problems.add(f"{self.rule.where}.fold", what, fix)

    def _normalization(
        self, weight: str, own: str, firsts: Sequence[Taken | None], partners: Sequence[_Partner]
    ) -> Folded | None:
        """Return the kernel, or the bias, with BatchNormalizations in it; other weights of the layer as they are."""
        spec = self.pairing.target[weight]
        siblings = {WeightName(name).own for name in self.pairing.target.layers.get(spec.layer, ())}
        kernel = next((name for name in _KERNELS if name in siblings), own)
        if own not in (kernel, _BIAS):
            return Folded((firsts[0],)) if firsts[0] is not None else None
        if _BIAS not in siblings:
            what = f"{spec.layer} has no bias, which takes what {partners[0].name} adds"
            self._refuse(what, "build the target's layer with use_bias=True")
            return None
        taken: list[Taken] = []
        of, epsilons = list[list[str]](), list[float]()
        for k, partner in enumerate(partners):
            # Normalizations beyond the entries of `from` stand in branches without a layer (RepVGG's identity).
            first = firsts[k] if k < len(firsts) else None
            epsilon = self._epsilon(partner)
            if epsilon is None or not self._check_branch(weight, first, partner, k < len(firsts), own == kernel):
                return None
            stats = partner.statistics
            parts = [p for p in (_OF_KERNEL if own == kernel else _OF_BIAS) if p in stats]
            taken += [*([first] if first is not None else []), *partner.take(*(stats[p] for p in parts))]
            of.append([*([_BIAS if own == _BIAS else "kernel"] if first is not None else []), *parts])
            epsilons.append(epsilon)
        step: dict[str, Any] = {"of": of if len(of) > 1 else of[0]}
        step["epsilon"] = epsilons[0] if len(set(epsilons)) == 1 else epsilons
        axes = self._output_axes(spec, partners[0]) if own == kernel else [-1]
        return Folded(tuple(taken), ({"fold_batchnorm": {**step, **({} if axes == [-1] else {"axes": axes})}},))

    def _check_branch(
        self, weight: str, first: Taken | None, partner: _Partner, has_layer: bool, is_kernel: bool
    ) -> bool:
        """Tell whether a branch can be folded: whether all is there, and nothing stands between its two layers."""
        if not partner.statistics:
            what = f"{partner.catalog.label} has no BatchNormalization {partner.name!r} (for {weight})"
            fix = self.pairing.near(partner.name, partner.catalog.layers)
            self._refuse(what, fix or "take the layers that have none out of the rule with `except`")
            return False
        if has_layer and is_kernel and first is None:
            return False  # what is missing is said as of any rule
        network = partner.catalog.network
        node = network.by_name.get(partner.name) if network and network.connected else None
        if first is None or not is_kernel or network is None or node is None:
            return True
        return self._check_behind(WeightName(first.names[0]).layer, node, network)

    def _check_behind(self, layer: str, node: Node, network: Network) -> bool:
        """Tell whether a normalization takes what a layer gives, along its channels, and is alone in that."""
        before = network.by_name.get(layer)
        if before is None:
            return True
        if layer not in node.inputs:
            what = f"{node.name} does not stand behind {layer}, but behind {', '.join(node.inputs) or 'the input'}"
            self._refuse(what, "fold each normalization into the layer whose output it takes")
            return False
        activation = before.settings.get("activation")
        if activation not in (None, "linear"):
            what = f"{layer} has the activation {activation} between its kernel and {node.name}"
            self._refuse(what, "keep this normalization as a layer: only what is linear can be folded")
            return False
        others = [name for name in network.consumers.get(layer, ()) if name != node.name]
        others += ["an output of the model"] * (layer in network.outputs)
        if others:
            what = f"{layer} goes into {listed(others, 2)} as well as into {node.name}"
            self._refuse(what, "keep this normalization as a layer: the other would get its output")
            return False
        axes = _find_normalized_axes(node, before)
        if axes is not None and axes[0] != axes[1]:
            what = f"{node.name} normalizes along axis {axes[0]}, and the channels of {layer} lie along axis {axes[1]}"
            self._refuse(what, "keep this normalization as a layer: a kernel has no number for each of these places")
            return False
        return True

    def _output_axes(self, spec: WeightSpec, partner: _Partner) -> list[int]:
        """Return the axes of a kernel along which a BatchNormalization goes."""
        letters, output = self._einsum(spec)
        # The kernel of an EinsumDense may have its axes in any order: its equation says where the channels are.
        if output and output[-1] in letters:
            return [letters.index(output[-1]) - len(letters)]
        return _output_axes(spec, next(iter(partner.statistics.values())).shape)

    def _epsilon(self, partner: _Partner) -> float | None:
        stated = self.rule.fold_with.get("epsilon")
        found = partner.setting("epsilon") if stated is None else stated
        if found is None and partner.statistics:
            what = f"{partner.catalog.label} does not tell the epsilon of {partner.name}"
            self._refuse(what, "write fold_with: {epsilon: 0.001}, Keras's default, or 0.00001, torch's and ONNX's")
        # None is left for what is not a normalization, which `_check_branch` refuses.
        return 0.0 if found is None else float(found)

    def _scale(self, weight: str, first: Taken, partner: _Partner) -> Folded | None:
        """Return the numbers that a quantized weight stands for; None where it is not quantized."""
        if len(first.names) != 1:
            return None
        theirs = self.pairing.sources[first.source][first.names[0]]
        scale = partner.find(f"{theirs.own_name}_scale")
        if theirs.dtype not in _INTEGERS or scale is None:
            return None
        target = self.pairing.target[weight]
        # Zero points, and which group each row is in: only both together are Keras's quantization in groups (int4,
        # GPTQ).
        zero, blocks = partner.find(f"{theirs.own_name}_zero"), partner.find("g_idx")
        more = (zero, blocks) if zero is not None and blocks is not None else ()
        # Another shape is int4: Keras packs two of its numbers into a byte (`keras.quantizers.pack_int4`).
        arguments: dict[str, Any] = {} if theirs.shape == target.shape else {"bits": 4}
        if axes := self._find_scaled_axes(target, bool(arguments)):
            arguments["axes"] = axes
        step = {"dequantize": arguments} if arguments else "dequantize"
        return Folded((first, *partner.take(scale, *more)), (step,))

    def _einsum(self, spec: WeightSpec) -> tuple[str, str]:
        """Return the axes of an EinsumDense's kernel and of its output as letters; empty for any other layer."""
        state = self.pairing.structure.by_name.get(spec.layer)
        equation = (state.equation if state else None) or ""
        inputs, _, output = equation.replace(" ", "").partition("->")
        return (inputs.partition(",")[2], output) if output else ("", "")

    def _find_scaled_axes(self, target: WeightSpec, packed: bool) -> list[int]:
        """Return the axes that the scales of a layer's weight go along, where these are not the last ones."""
        # One scale a row of a table; of an einsum's kernel one for each index that its output keeps.
        if target.own_name == "embeddings":
            return [0]
        letters, output = self._einsum(target)
        if packed:
            return []
        axes = [axis for axis, letter in enumerate(letters) if letter in output]
        return axes if axes != list(range(len(letters) - len(axes), len(letters))) else []

    def _factors(self, weight: str, own: str, first: Taken, partner: _Partner) -> Folded | None:
        """Return a weight with LoRA's factors in it; None where there are none."""
        of_keras = partner.find(f"lora_{own}_a"), partner.find(f"lora_{own}_b")
        pairs = [of_keras, *((partner.find(a), partner.find(b)) for a, b in _PEFT)]
        a, b = next(((a, b) for a, b in pairs if a is not None and b is not None), (None, None))
        is_keras = of_keras[0] is not None
        # peft's factors belong to the module's weight and say nothing of its bias.
        if a is None or b is None or (not is_keras and own == _BIAS):
            return None
        alpha = self.rule.fold_with.get("alpha")
        alpha = next(
            (v for v in (alpha, partner.setting("lora_alpha"), partner.setting("alpha")) if v is not None), None
        )
        if alpha is None:
            # Keras's b is (rank, out), peft's (out, rank), and of a convolution (out, rank, 1, 1).
            rank = b.shape[0] if is_keras else b.shape[-1] if len(b.shape) == 2 else b.shape[1]
            what = f"{partner.catalog.label} does not tell the alpha of {partner.name}'s factors of rank {rank}"
            self._refuse(what, "write fold_with: {alpha: 16}, the number that it was trained with")
            return None
        arguments: dict[str, Any] = {"alpha": alpha}
        stabilized = self.rule.fold_with.get("rank_stabilized")
        if partner.setting("rank_stabilized") if stabilized is None else stabilized:
            arguments["rank_stabilized"] = True
        magnitude = None if is_keras else partner.find(*_MAGNITUDES)
        factors = [a, b, *([magnitude] if magnitude else [])]
        counterpart = self.pairing.counterpart(first.source, weight)
        if counterpart and (cuts := cut_factors(first, counterpart, [f.shape for f in factors], self._shape(weight))):
            taken = [dataclasses.replace(t, steps=c) for t, c in zip(partner.take(*factors), cuts, strict=True)]
            return Folded((first, *taken), ({"merge_lora": arguments},))
        if not is_keras:
            arguments |= {"style": "peft", "axes": self._base_axes(weight, first, partner)}
        return Folded((first, *partner.take(*factors)), ({"merge_lora": arguments},))

    def _shape(self, weight: str) -> tuple[int, ...]:
        return self.pairing.target[weight].shape

    def _base_axes(self, weight: str, first: Taken, partner: _Partner) -> str:
        """Return how the weight lies when the factors are added: as its target's, or the source's, layer has it."""
        has_rows = partner.find(*(a for a, _ in _PEFT if "embedding" in a)) is not None
        is_keras = first.adapted or WeightName(weight).own in ("kernel", "embeddings")
        # peft sets fan_in_fan_out for GPT-2's Conv1D, whose weight is (in, out) under torch's name.
        return "in_out" if has_rows or is_keras or partner.setting("fan_in_fan_out") else "out_in"


_ADD = "name a BatchNormalization for each entry of `from`, and last one for each branch without a layer"


def _output_axes(spec: WeightSpec, channels: tuple[int, ...]) -> list[int]:
    """Return the axes of a kernel that a BatchNormalization of so many channels goes along."""
    kind = spec.layer_class or ""
    # Keras's kernel is (..., channels, multiplier): an output for each pair of the two.
    if kind.startswith("DepthwiseConv"):
        return [-2, -1]
    # Keras's transposed kernels are (..., out, in), since they are those of the convolution that they reverse.
    if kind.endswith("Transpose"):
        return [-2]
    # torch's (out, in, ...), or (in, out, ...) of a transposed convolution; its files do not tell which, so that a
    # square one is taken for the first.
    if spec.own_name == "weight":
        return [0] if spec.shape[:1] == channels else [1]
    return [-1]


def _find_normalized_axes(node: Node, before: Node) -> tuple[int, int] | None:
    """Return the axis along which a BatchNormalization of Keras works, and that of the channels it gets.

    Both from the front; None where the file does not say it.
    """
    axis = node.settings.get("axis")
    axis = axis[0] if isinstance(axis, list | tuple) and len(axis) == 1 else axis
    rank = _rank(node, before)
    if not isinstance(axis, int) or rank is None:
        return None
    return axis % rank, 1 if before.settings.get("data_format") == "channels_first" else rank - 1


def _rank(node: Node, before: Node) -> int | None:
    """Return how many axes there are between two layers, the batch among them; None where that is not known."""
    if node.input_shapes:
        return len(node.input_shapes[0])
    window = _CONVOLUTION.match(before.layer_class)
    return int(window[1]) + 2 if window else None
