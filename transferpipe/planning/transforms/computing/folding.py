"""The transform that puts a BatchNormalization into the layer before it, and adds parallel branches: fold_batchnorm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import parse_integers, parse_list, parse_named, parse_number
from transferpipe.planning.transforms.checks import check_floating, find_axis
from transferpipe.planning.transforms.protocol import Transform, TransformError

_EXAMPLE = "{fold_batchnorm: {of: [kernel, gamma, variance], epsilon: 0.001}}"
_KERNEL, _BIAS, _GAMMA, _BETA, _MEAN, _VARIANCE = PARTS = ("kernel", "bias", "gamma", "beta", "mean", "variance")
"""What an input may be."""
_FLOATING = "put a cast before it, such as {cast: float32}"
Branch = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FoldBatchNorm(Transform):
    """Compute the kernel, or the bias, of a layer that does the work of itself and a BatchNormalization behind it.

    With ``scale = gamma / sqrt(variance + epsilon)``, one number a channel (gamma is 1 and beta 0 where there is none):
    kernel' = kernel * scale along the axes of the output channels, bias' = (bias - mean) * scale + beta. Computed in
    float64 and rounded once to the first input's dtype. Source: Jacob et al. 2018, arXiv:1712.05877, section 3.2, for
    statistics that are stored, as in inference.

    Several branches, whose outputs are added, become one layer: smaller kernels are put in the middle of the largest
    one, and a branch without a kernel is a normalization of the input itself. Source: RepVGG, Ding et al. 2021,
    arXiv:2101.03697, section 3.3.

    Example: ``{to: conv, from: [conv, gamma, variance], transform: [{fold_batchnorm: {of: [kernel, gamma, variance],
    epsilon: 0.001}}]}``, (3, 3, 4, 8), (8,), (8,) to (3, 3, 4, 8).

    Attributes:
        branches: of each branch what its inputs are, in the order of the inputs: ``kernel``, ``gamma``, ``variance``
            for a kernel; ``bias``, ``gamma``, ``beta``, ``mean``, ``variance`` for a bias. Those that a layer does not
            have are left out.
        epsilon: of each branch what its BatchNormalization adds to the variance.
        axes: the kernel's axes of the output channels: the last one, but of a transposed convolution the last but one
            and of a depthwise convolution both of these.
    """

    branches: tuple[Branch, ...]
    epsilon: tuple[float, ...]
    axes: tuple[int, ...] = (-1,)
    name: ClassVar[str] = "fold_batchnorm"
    arguments: ClassVar[tuple[str, ...]] = ("of", "epsilon", "axes")
    several: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``fold_batchnorm: {of: [kernel, gamma, variance], epsilon: 0.001, axes: [-1]}``."""
        named = parse_named("fold_batchnorm", data, _EXAMPLE, cls.arguments, ("of", "epsilon"))
        given = parse_list("`of` of fold_batchnorm", named["of"], _EXAMPLE)
        # One branch may be written without a list around it.
        branches = given if any(isinstance(part, list | tuple) for part in given) else (given,)
        of = tuple(_parse_branch(branch) for branch in branches)
        written = named["epsilon"]
        numbers = written if isinstance(written, list | tuple) else [written] * len(of)
        epsilon = tuple(float(parse_number("epsilon of fold_batchnorm", number, _EXAMPLE)) for number in numbers)
        axes = parse_integers("axes of fold_batchnorm", named["axes"], _EXAMPLE) if "axes" in named else (-1,)
        return cls(of, epsilon, axes)

    def __post_init__(self) -> None:
        if len(self.epsilon) != len(self.branches) or any(number < 0 for number in self.epsilon):
            what = f"{self} has {len(self.epsilon)} epsilons for {len(self.branches)} branches, or one below 0"
            raise TransformError(what, "give one epsilon of 0 or more for each branch, or one for them all")
        if not self.axes:
            raise TransformError(f"{self} names no axis of the output channels", f"write {_EXAMPLE}")
        for branch in self.branches:
            unfit = {_BIAS, _BETA, _MEAN} if self.is_kernel else {_KERNEL}
            if _VARIANCE not in branch or (not self.is_kernel and _MEAN not in branch) or unfit & set(branch):
                what = f"{self}: {', '.join(branch)} make no {'kernel' if self.is_kernel else 'bias'}"
                needed = "kernel, gamma, variance" if self.is_kernel else "bias, gamma, beta, mean, variance"
                raise TransformError(what, f"name {needed}; gamma, beta and bias may be left out")

    @property
    def is_kernel(self) -> bool:
        """Whether the result is a kernel; otherwise it is a bias."""
        return any(_KERNEL in branch for branch in self.branches)

    def __str__(self) -> str:
        of = " + ".join(f"[{', '.join(branch)}]" for branch in self.branches)
        shared = len(set(self.epsilon)) == 1
        epsilon = f"{self.epsilon[0]:g}" if shared else f"[{', '.join(f'{e:g}' for e in self.epsilon)}]"
        axes = "" if self.axes == (-1,) else f", axes=[{', '.join(map(str, self.axes))}]"
        return f"fold_batchnorm({of}, epsilon={epsilon}{axes})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        named = self._name_inputs(shapes)
        # The result has the shape of what makes it: of kernels the largest, of biases that of the statistics.
        first = next(branch for branch in named if not self.is_kernel or _KERNEL in branch)
        shape = self._kernel_shape(named) if self.is_kernel else first[_MEAN]
        channels = math.prod(shape[find_axis(self, axis, shape)] for axis in self.axes) if self.is_kernel else 0
        vector = (channels,) if self.is_kernel else shape
        if not self.is_kernel and len(shape) != 1:
            raise TransformError(
                f"{self}: the mean has shape {shape}", "give it the statistics of one axis, shape (n,)"
            )
        for branch in named:
            for part, size in branch.items():
                if part != _KERNEL and size != vector:
                    what = f"{self}: {part} has shape {size}, where {vector} is expected"
                    raise TransformError(what, "name the layer that the normalization stands behind, and its axes")
        return shape

    def _kernel_shape(self, named: Sequence[dict[str, tuple[int, ...]]]) -> tuple[int, ...]:
        """Return the shape of the largest kernel, into whose middle the others fit."""
        kernels = [branch[_KERNEL] for branch in named if _KERNEL in branch]
        largest = max(kernels, key=math.prod)
        for kernel in kernels:
            fits = len(kernel) == len(largest) and kernel[-2:] == largest[-2:]
            # An even difference alone leaves as many places on both sides: another kernel would look beside the pixel.
            if not fits or any(n > m or (m - n) % 2 for n, m in zip(kernel, largest, strict=True)):
                what = f"{self}: a kernel of shape {kernel} has no middle place in one of shape {largest}"
                raise TransformError(what, "give it branches with the same channels, and with odd sizes or equal ones")
        if len(kernels) < len(named):
            self._check_identity(largest)
        return largest

    def _check_identity(self, shape: tuple[int, ...]) -> None:
        """Refuse a branch without a kernel where the layer gives other channels than it takes."""
        whole = len(shape) > 1 and all(size % 2 for size in shape[:-2])
        # A depthwise convolution passes a channel on only if it makes one of each.
        same = shape[-1] == 1 if len(self.axes) > 1 else whole and shape[-1] % max(1, shape[-2]) == 0
        if not whole or not same or self.axes not in ((-1,), (-2, -1)):
            what = f"{self}: a branch without a kernel has no place in a kernel of shape {shape}"
            raise TransformError(what, "leave it out, or name its kernel")

    def dtype(self, dtypes: Sequence[str]) -> str:
        """See `Transform`."""
        for dtype in dtypes:
            check_floating(self, dtype, _FLOATING)
        return dtypes[0]

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        named = self._name_inputs([np.asarray(array) for array in arrays])
        shape = self.shape([array.shape for array in arrays])
        total = np.zeros(shape, np.float64)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for parts, epsilon in zip(named, self.epsilon, strict=True):
                branch = {part: value.astype(np.float64) for part, value in parts.items()}
                scale = branch.get(_GAMMA, 1.0) / np.sqrt(branch[_VARIANCE] + epsilon)
                if self.is_kernel:
                    self._add_kernel(total, branch.get(_KERNEL), scale)
                else:
                    # The kernel is scaled elsewhere by the same number, so that only the constant part stands here.
                    total += (branch.get(_BIAS, 0.0) - branch[_MEAN]) * scale + branch.get(_BETA, 0.0)
            return total.astype(arrays[0].dtype, copy=False)

    def _add_kernel(self, total: NDArray[Any], kernel: NDArray[Any] | None, scale: NDArray[Any]) -> None:
        axes = [axis % total.ndim for axis in self.axes]
        along = scale.reshape([size if axis in axes else 1 for axis, size in enumerate(total.shape)])
        if kernel is None:
            kernel = _identity(total.shape)
        offsets = [(whole - part) // 2 for whole, part in zip(total.shape, kernel.shape, strict=True)]
        total[tuple(slice(o, o + n) for o, n in zip(offsets, kernel.shape, strict=True))] += kernel * along

    def _name_inputs(self, values: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the inputs of each branch by what they are."""
        expected = sum(map(len, self.branches))
        if len(values) != expected:
            what = f"{self} takes {expected} inputs, not {len(values)}"
            raise TransformError(what, "name as many sources in `from`, in the order of `of`")
        rest = iter(values)
        return [{part: next(rest) for part in branch} for branch in self.branches]


def _identity(shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the kernel that passes every channel on: of one place, 1 from each input channel to the same output."""
    *places, inputs, outputs = shape
    kernel = np.zeros((inputs, outputs))
    if outputs == 1:  # a depthwise convolution's last axis is how many outputs a channel has
        kernel[:] = 1
    else:  # of a convolution in groups, the inputs of a group
        kernel[np.arange(outputs) % inputs, np.arange(outputs)] = 1
    return kernel.reshape(*(1 for _ in places), inputs, outputs)


def _parse_branch(data: Any) -> Branch:
    parts = parse_list("a branch of fold_batchnorm", data, _EXAMPLE)
    for part in parts:
        if part not in PARTS or parts.count(part) > 1:
            what = (
                f"fold_batchnorm: {list(parts)} are not parts of a branch: {part!r} is unknown, or stands there twice"
            )
            raise TransformError(what, f"the parts are {', '.join(PARTS)}")
    return parts
