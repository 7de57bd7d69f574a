"""What a file of torch's names tells of the axes of its matrices: the length of the biases beside them.

torch.nn.Linear keeps (out, in), so its bias is as long as the first axis. GPT-2's ``Conv1D`` in Hugging Face's
transformers (``pytorch_utils.py``) and the layers of some other frameworks keep (in, out) under the same names, and
their bias is as long as the second. A square matrix cannot tell; those around it can.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from transferpipe.weights.spec import IN_OUT, OUT_IN, Axes, Catalog, WeightSpec

_BIASES = {"weight": "bias", "kernel": "bias", "W": "b", "w": "b"}


_OWN_NAMES = re.compile(
    r"weight|bias|running_mean|running_var|num_batches_tracked|(weight|bias)_(ih|hh)(_l\d+(_reverse)?)?"
    r"|in_proj_(weight|bias)|[qkv]_proj_weight|weight_[gv]|original[01]"
)
# BERT's normalizations have a gamma and a beta in torch's own files too: its first ones came from TensorFlow.
# Keras's tables are ``embeddings`` (tied: ``reverse_embeddings``); ViT's ``position_embeddings`` is one of torch's.
_OF_KERAS = re.compile(r"(.*_)?(kernel|moving_mean|moving_variance)|(reverse_)?embeddings|.+_beta")
_TELLING = re.compile(r"weight|running_(mean|var)|weight_.*|in_proj_weight")


def are_torch_names(keys: Iterable[str]) -> bool:
    """Tell whether keys end as torch calls the weights of its modules, behind the dots of attributes.

    Modules have parameters of other names too (``cls_token``, ``logit_scale``); but most are not, and none is Keras's.

    >>> are_torch_names(["features.0.weight", "features.0.bias"]), are_torch_names(["d.kernel", "d.bias"])
    (True, False)
    >>> are_torch_names(["vit.position_embeddings", "vit.proj.weight"]), are_torch_names(["e.embeddings", "d.weight"])
    (True, False)
    """
    paths = [key.rpartition(".")[::2] for key in keys]
    known = sum(bool(module and _OWN_NAMES.fullmatch(own)) for module, own in paths)
    telling = any(module and _TELLING.fullmatch(own) for module, own in paths)
    return telling and 2 * known >= len(paths) and not any(_OF_KERAS.fullmatch(own) for _, own in paths)


@dataclass(frozen=True)
class AxesEvidence:
    """How the axes of a matrix are arranged, and what says so.

    Attributes:
        axes: the arrangement; None if those around it disagree.
        witness: the matrix whose bias says so, if it is another one.
    """

    axes: Axes | None
    witness: WeightSpec | None = None


def find_evidence(catalog: Catalog) -> Mapping[str, AxesEvidence]:
    """Return what biases tell of the matrices of a file, by the matrices' names.

    A square one is left out unless some matrix of the file is (in, out). Then it is arranged as those of its own name
    elsewhere are (``attn/c_proj`` as ``mlp/c_proj``), or else as those in the nearest container that holds any.
    """
    certain: dict[str, tuple[Axes, WeightSpec]] = {}
    square: list[str] = []
    for weight, bias in _pairs(catalog):
        rows, columns = weight.shape
        if rows == columns == bias:
            square.append(weight.name)
        elif bias in (rows, columns):
            certain[weight.name] = (OUT_IN if bias == rows else IN_OUT, weight)
    found = {name: AxesEvidence(axes) for name, (axes, _) in certain.items()}
    # A file of torch's modules alone is (out, in) throughout: only a stranger in it puts the square ones in doubt.
    if any(axes == IN_OUT for axes, _ in certain.values()) and square:
        around = _Surroundings(certain.values())
        found |= {name: around.judge(name) for name in square}
    return found


class _Surroundings:
    """What is known of the matrices by their family, and by the containers above them."""

    def __init__(self, certain: Iterable[tuple[Axes, WeightSpec]]) -> None:
        self._families: dict[str, dict[Axes, WeightSpec]] = {}
        self._containers: dict[str, dict[Axes, WeightSpec]] = {}
        for axes, weight in certain:
            self._families.setdefault(_family(weight.name), {}).setdefault(axes, weight)
            for container in _containers(weight.name):
                self._containers.setdefault(container, {}).setdefault(axes, weight)

    def judge(self, name: str) -> AxesEvidence:
        known = self._families.get(_family(name))
        nearest = self._containers.get(_containers(name)[0], {})
        if known is not None and len(known) == 1 and known.keys() == nearest.keys():
            return AxesEvidence(next(iter(known)))  # GPT-2's attn/c_proj: as mlp/c_proj, and as attn/c_attn beside it
        if known is None or len(known) > 1:
            # The last container is the file itself, which holds all that is certain: there always is one.
            known = next(self._containers[c] for c in _containers(name) if c in self._containers)
        if len(known) > 1:
            return AxesEvidence(None, known[IN_OUT])
        ((axes, witness),) = known.items()
        return AxesEvidence(axes, witness)


def _pairs(catalog: Catalog) -> Iterable[tuple[WeightSpec, int]]:
    """Yield the matrices that have a bias beside them, with the length of that."""
    for weight in catalog:
        stem = next((own for own in _BIASES if weight.own_name.endswith(own)), None)
        if stem is None or len(weight.shape) != 2:
            continue
        bias = catalog.by_name.get(weight.name.removesuffix(stem) + _BIASES[stem])
        if bias is not None and len(bias.shape) == 1:
            yield weight, bias.shape[0]


def _family(name: str) -> str:
    """Return the name of the module that owns a weight, and the weight's own name, without numbers."""
    return re.sub(r"\d+", "", "/".join(name.split("/")[-2:]))


def _containers(name: str) -> list[str]:
    """Return the names of what holds the module that owns a weight, the nearest first and the file (empty) last."""
    parts = name.split("/")[:-2]
    return ["/".join(parts[:n]) for n in range(len(parts), -1, -1)]
