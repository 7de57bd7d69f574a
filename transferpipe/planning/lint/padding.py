"""Warnings about padding='same' where torch, which pads both sides alike, cannot have computed it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from transferpipe.planning.model import PlanWarning
from transferpipe.text.listing import listed
from transferpipe.weights.network import Network, Node
from transferpipe.weights.spatial import Sizes, SlidingWindow, spatial_sizes, window_of

# Who sees three names of a kind knows which layers are meant.
_SOME = 3


def lint_padding(network: Network | None, rules: Mapping[str, str]) -> Iterator[PlanWarning]:
    """Yield one warning for the layers of one rule that need the same change.

    Keras splits what padding='same' adds in two, the smaller half first (https://www.tensorflow.org/api_docs/python/tf/nn,
    "Notes on padding"); torch adds one number on both sides. With a stride of 1 torch's own padding='same' does it as
    Keras does; with more the halves often differ, and then no number is right.

    Args:
        network: the target's network.
        rules: the layers that take weights of torch, and what messages call their rules.
    """
    if network is None:
        return
    found: dict[tuple[str, str, str, str], list[str]] = {}
    sizes = spatial_sizes(network)
    between = _between(network, rules) if any(window_of(n) for n in network.nodes) else ()
    for node in network.nodes:
        window = window_of(node)
        where = rules.get(node.name) or ("target" if node.name in between else None)
        if window is None or where is None or window.padding != "same" or (window.is_pooling and node.name in rules):
            continue
        into = sizes.get(node.name) or (None,) * len(window.sizes)
        impossible = len(into) == len(window.sizes) and _is_impossible(window, into)
        by_ceil_mode = window.is_pooling and impossible and _is_by_ceil_mode(window, into)
        # A window of two has no other padding in torch; one of three has padding=1 in every ResNet.
        if impossible and not (by_ceil_mode and max(window.extents) < 3):
            known = None not in into
            what = f"of {into}" if known else "of even sizes"
            torch = "as torch does only with ceil_mode=True" if by_ceil_mode else "and torch cannot"
            found.setdefault((where, _fix(node, window, network), what, torch), []).append(node.name)
    for (where, fix, what, torch), names in found.items():
        pads = "pads an input" if len(names) == 1 else "pad an input"
        text = f"{listed(names, _SOME)}: strided with padding='same', which {pads} {what} unevenly, {torch}"
        yield PlanWarning("same-padding", where, f"{text}: {fix}")


def _between(network: Network, layers: Collection[str]) -> set[str]:
    """Return the layers that stand behind one of `layers` and before another; by order where nothing is connected."""
    order = [node.name for node in network.nodes]
    if not network.connected:
        places = [i for i, name in enumerate(order) if name in layers]
        return set(order[places[0] : places[-1] + 1]) if places else set()
    behind: set[str] = set()
    for node in network.nodes:
        if any(name in behind or name in layers for name in node.inputs):
            behind.add(node.name)
    before: set[str] = set()
    for node in reversed(network.nodes):
        if node.name in layers or node.name in before:
            before.update(node.inputs)
    return behind & before


def _is_impossible(window: SlidingWindow, sizes: Sizes) -> bool:
    """Tell whether no number of zeros on both sides does along every axis what padding='same' does.

    A size that is not known is taken for a large multiple of the stride, as sizes of images are.
    """
    axes = zip(window.extents, window.strides, sizes, strict=True)
    if window.is_transposed:  # 'same' cuts extent - stride places off, torch's padding cuts both sides alike
        return any(stride > 1 and extent > stride and (extent - stride) % 2 for extent, stride, _ in axes)
    return any(stride > 1 and not _fits(extent, stride, n or 64 * stride) for extent, stride, n in axes)


def _is_by_ceil_mode(window: SlidingWindow, sizes: Sizes) -> bool:
    """Tell whether torch's pooling with ``ceil_mode`` and without padding has the windows that padding='same' has.

    Its last window may then reach over the end of the input, and what lies there counts neither in the maximum nor in
    the mean (https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool2d.html). So it is the same wherever
    nothing is added before the input: the windows begin at the same places, and are as many.
    """
    for extent, stride, size in zip(window.extents, window.strides, sizes, strict=True):
        if size is None:
            return False
        # Ceilings as negated floors: whole numbers throughout, exact at any size.
        outputs = -(-size // stride)
        before = max((outputs - 1) * stride + extent - size, 0) // 2
        of_torch = -(-max(size - extent, 0) // stride) + 1
        if before or of_torch != outputs:
            return False
    return True


def _fits(extent: int, stride: int, size: int) -> bool:
    """Tell whether one number of zeros on both sides has the windows that padding='same' has along an axis.

    The windows begin where they do if `before` zeros stand before the input, so that this is the only number to try;
    whether as many behind it give as many windows is torch's formula of Conv2d's output size.
    """
    outputs = -(-size // stride)
    before = max((outputs - 1) * stride + extent - size, 0) // 2
    return (size + 2 * before - extent) // stride + 1 == outputs


def _fix(node: Node, window: SlidingWindow, network: Network) -> str:
    """Return what does what torch does whose layer gives an output of the same size."""
    axes = len(window.sizes)
    if window.is_transposed:
        cut = [max(extent - stride, 0) for extent, stride in zip(window.extents, window.strides, strict=True)]
        sides = tuple(((c + 1) // 2, c // 2) for c in cut)
        # ConvTranspose2d gives (n - 1) * stride - 2 * padding + extent + output_padding. For n * stride that leaves 2 *
        # padding - output_padding = extent - stride, and output_padding is at most 1 here.
        given = f"padding={_short([(c + 1) // 2 for c in cut])} and output_padding={_short([c % 2 for c in cut])}"
        crop = f"Cropping{axes}D({sides if axes > 1 else sides[0]})"
        return f"where torch's has {given}, set padding='valid' and put {crop} behind it"
    pads = [(extent - 1) // 2 for extent in window.extents]
    valid = f"where torch's has padding={_short(pads)}, set padding='valid'"
    if not any(pads):
        return valid
    padding = f"ZeroPadding{axes}D({_short(pads)})"
    # Keras's pooling ignores what padding='same' adds; a ZeroPadding would let a zero win over negative numbers.
    if window.is_pooling and node.layer_class.startswith("Max") and not _is_never_negative(node, network):
        around = [(0, 0), *((p, p) for p in pads), (0, 0)]
        if node.settings.get("data_format") == "channels_first":
            around = [(0, 0), (0, 0), *((p, p) for p in pads)]
        return f"{valid} and put keras.ops.pad(x, {around}, constant_values=float('-inf')) before it"
    return f"{valid} and put {padding} before it"


def _is_never_negative(node: Node, network: Network) -> bool:
    """Tell whether a ReLU stands right before a layer, so that zeros are as good as nothing around its input."""
    before = network.by_name.get(node.inputs[0]) if node.inputs else None
    return before is not None and (
        before.layer_class == "ReLU" or before.settings.get("activation") in ("relu", "relu6")
    )


def _short(numbers: list[int]) -> str:
    return str(numbers[0]) if len(set(numbers)) == 1 else str(tuple(numbers))
