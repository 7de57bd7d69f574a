"""LoRA in legacy Keras files: the factors that they keep beside a kernel belong into it.

A layer with LoRA computes with ``kernel + alpha / rank * a @ b`` (Hu et al. 2021, arXiv:2106.09685, section 4.1), and
that is what Keras saves of it into `.keras` and `.weights.h5` files (`Dense.save_own_variables`). Its legacy files keep
the three apart, as `layer.weights` has them. Here they are put together, so that one model has the same weights in
every format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.text.listing import listed
from transferpipe.weights.spec import Unreadable, WeightSpec, numpy_dtype

_FACTOR = re.compile(r"lora_(.+)_[ab]")
_QUANTIZED = "has LoRA factors beside quantized values, which only Keras puts together"
_FIX = "load it with Keras, and save it as .keras"

Read = Callable[[WeightSpec], NDArray[Any]]


@dataclass(frozen=True)
class Factors:
    """The two factors of a kernel's change, and what their product is multiplied by."""

    a: WeightSpec
    b: WeightSpec
    scale: float

    def add_to(self, kernel: NDArray[Any], read: Read) -> NDArray[Any]:
        """Return the kernel with their product added, in its own dtype.

        Rank by rank, so that the sum has one order however many threads there are.
        """
        a, b = (read(spec).astype(np.float32, copy=False) for spec in (self.a, self.b))
        change = np.zeros(kernel.shape, np.float32)
        for k in range(b.shape[0]):
            change += a[..., k, None] * b[k]
        # In float32 at least, in float64 where the kernel is, and rounded once.
        wide = np.result_type(np.float32, kernel.dtype) if kernel.dtype.kind == "f" else np.dtype(np.float32)
        merged: NDArray[Any] = kernel.astype(wide) + wide.type(self.scale) * change
        return merged.astype(kernel.dtype)


@dataclass(frozen=True)
class Lora:
    """What a file holds of LoRA.

    Attributes:
        specs: the weights without the factors.
        factors: those that belong into a kernel, by its place in the file.
        parts: the factors themselves.
        unreadable: what cannot be put together.
        assumed: what is taken for granted where the file does not say it.
    """

    specs: tuple[WeightSpec, ...]
    factors: Mapping[str, Factors]
    parts: tuple[WeightSpec, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    assumed: tuple[str, ...] = ()


def adapted_weight(own_name: str) -> str | None:
    """Return the own name of the weight that a factor changes, None if the name is not that of a factor.

    >>> adapted_weight("lora_kernel_a"), adapted_weight("kernel")
    ('kernel', None)
    """
    found = _FACTOR.fullmatch(own_name)
    return found[1] if found else None


def find_lora(specs: Iterable[WeightSpec], configs: Mapping[str, Mapping[str, Any]]) -> Lora:
    """Return the weights as a layer with LoRA means them.

    Args:
        specs: the weights of the file.
        configs: the serialised layers by their names.
    """
    weights = list(specs)
    by_name = {w.name: w for w in weights}
    of_layer: dict[str, list[WeightSpec]] = {}
    for weight in weights:
        of_layer.setdefault(weight.layer, []).append(weight)
    factors: dict[str, Factors] = {}
    parts: dict[str, WeightSpec] = {}
    closed: dict[str, WeightSpec] = {}
    unscaled = []
    for weight in weights:
        kernel = _kernel_of(weight, by_name)
        if kernel is None:
            continue
        a, b = (by_name[f"{_stem(kernel)}_{end}"] for end in "ab")
        parts |= {a.name: a, b.name: b}
        if numpy_dtype(kernel.dtype).kind in "iu":
            closed |= {w.name: w for w in of_layer[kernel.layer] if w.own_name.startswith(kernel.own_name)}
            continue
        alpha = _alpha(configs.get(kernel.layer), b.shape[0])
        if alpha is None:
            unscaled.append(kernel.name)
        factors[kernel.where] = Factors(a, b, (b.shape[0] if alpha is None else alpha) / b.shape[0])
    left = tuple(w for w in weights if w.name not in parts and w.name not in closed)
    unreadable = tuple(Unreadable(w.name, _QUANTIZED, _FIX, w.where) for w in closed.values())
    return Lora(left, factors, tuple(parts.values()), unreadable, tuple(_assume(unscaled)))


def _stem(kernel: WeightSpec) -> str:
    return "/".join(filter(None, (kernel.layer, f"lora_{kernel.own_name}")))


def _kernel_of(factor: WeightSpec, by_name: Mapping[str, WeightSpec]) -> WeightSpec | None:
    """Return the kernel that the first of two factors belongs to, None for any other weight."""
    adapted = adapted_weight(factor.own_name)
    kernel = by_name.get("/".join(filter(None, (factor.layer, adapted)))) if adapted else None
    if kernel is None or factor.name != f"{_stem(kernel)}_a":
        return None
    other = by_name.get(f"{_stem(kernel)}_b")
    if other is None or len(other.shape) != 2 or factor.shape[-1:] != other.shape[:1] or not other.shape[0]:
        return None
    # int4 has two numbers in one, and a kernel of EinsumDense in other axes than its factors.
    is_packed = numpy_dtype(kernel.dtype).kind in "iu"
    return kernel if is_packed or (*factor.shape[:-1], other.shape[1]) == kernel.shape else None


def _alpha(config: Mapping[str, Any] | None, rank: int) -> float | None:
    """Return alpha; it is the rank where Keras, before it had an alpha, notes the rank alone. None if nothing is noted.

    The layer that wrote the file computed with the alpha that it notes. (Keras 3.15's Dense, Embedding and convolutions
    forget it when they are built from their configuration, and go on with the rank.)
    """
    settings = config.get("config") if config else None
    if not isinstance(settings, Mapping) or settings.get("lora_rank") != rank:
        return None
    alpha = settings.get("lora_alpha", rank)
    is_number = isinstance(alpha, int | float) and not isinstance(alpha, bool) and np.isfinite(alpha)
    return float(alpha) if is_number else None


def _assume(kernels: list[str]) -> Iterable[str]:
    if kernels:
        yield (
            f"the file does not record the lora_alpha of {listed(kernels, 1)}: the LoRA factors were merged with "
            "lora_alpha equal to the rank, which is Keras's default; if another was used, load the model in Keras and "
            "save it as .keras"
        )
