"""What may have gone wrong with one layer, as calls that undo it: if the outputs then agree, that is the cause.

Each family yields trials: the cause in words, and what to call in place of the layer.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.prove.parity.causes.alike import clone, reweighted
from transferpipe.prove.parity.keras_trace import Call, Override, Trace

_ACTIVATION_LAYERS = ("Activation", "ReLU", "LeakyReLU", "ELU", "Softmax")
# Keras's default first, then PyTorch's, those of EfficientNet and of BERT, and what remains of those in use.
_EPSILONS = (1e-3, 1e-5, 1e-6, 1e-12, 1e-7, 1e-4, 1e-8)
# Deep networks have hundreds of layers of the same shapes, and each trial is a forward pass.
_MOST_SIBLINGS = 24
_STATISTICS = ("gamma", "beta", "moving_mean", "moving_variance")


@dataclass(frozen=True)
class Trial:
    """One possible cause.

    Attributes:
        kind: the family and the alternative: equal for the same fault in several layers.
        layer: the layer's name.
        words: the cause in words, without the layer's name.
        override: what is called in place of the layer.
        settings: those that it gives to the layer, where it is a layer of other settings and of these alone.
    """

    kind: str
    layer: str
    words: str
    override: Override = field(repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)


def trials_of(call: Call, trace: Trace, settings: bool = True, weights: bool = True) -> Iterator[Trial]:
    """Yield what may have gone wrong with the layer of `call`, the likeliest first, of `settings`, of `weights`."""
    of_settings = (_padding, _activation, _epsilon, _direction, _heads, _kinds, _leave_out)
    of_weights = (_kernel, _statistics, _gates, _siblings)
    # In which order numbers reach a layer is neither its own setting nor in its weights.
    ordered = (*of_settings[:3], _flatten, *of_weights[:2], _direction, _gates, *of_settings[4:], _siblings)
    for family in (f for f in ordered if f is _flatten or (settings if f in of_settings else weights)):
        with contextlib.suppress(AttributeError, TypeError, ValueError):  # a layer that only looks like one of Keras's
            yield from family(call, trace)


def _class(call: Call) -> str:
    return type(call.layer).__name__


def _activations() -> dict[str, Callable[[Any], Any]]:
    from keras import activations, ops

    return {
        "linear (none)": lambda x: x,
        "relu": ops.relu,
        "gelu (exact)": lambda x: ops.gelu(x, approximate=False),
        "gelu (tanh)": lambda x: ops.gelu(x, approximate=True),
        "silu": ops.silu,
        "relu6": ops.relu6,
        "tanh": ops.tanh,
        "sigmoid": ops.sigmoid,
        "softmax": activations.softmax,
        "hard_sigmoid of Keras 2, 0.2 x + 0.5": lambda x: ops.clip(0.2 * x + 0.5, 0.0, 1.0),
        "hard_sigmoid of Keras 3, relu6(x + 3) / 6": ops.hard_sigmoid,
        "elu": ops.elu,
        "selu": ops.selu,
        "leaky_relu of slope 0.01": lambda x: ops.leaky_relu(x, 0.01),
        "leaky_relu of slope 0.1": lambda x: ops.leaky_relu(x, 0.1),
        "leaky_relu of slope 0.2": lambda x: ops.leaky_relu(x, 0.2),
        "leaky_relu of slope 0.3": lambda x: ops.leaky_relu(x, 0.3),
        "softplus": ops.softplus,
        "softsign": ops.softsign,
        "hard_silu": activations.hard_silu,
        "mish": activations.mish,
        "exponential": ops.exp,
    }


def _activation(call: Call, _: Trace) -> Iterator[Trial]:
    is_layer = _class(call) in _ACTIVATION_LAYERS
    for key in ("activation", "recurrent_activation"):
        if not is_layer and getattr(call.layer, key, None) is None:
            continue
        if is_layer and key != "activation":
            continue
        for name, function in _activations().items():
            override = partial(_apply_function, function) if is_layer else clone(call.layer, {key: function})
            words = f"{key.replace('_', ' ')}: with {name} in place of {_current(call.layer, key)}"
            yield Trial(f"{key} {name}", call.name, words, override, {} if is_layer else {key: function})


def _apply_function(function: Callable[[Any], Any], args: tuple[Any, ...], _: dict[str, Any]) -> Any:
    """Stand for a layer that is a function of its one input."""
    return function(args[0])


def _current(layer: Any, key: str) -> str:
    found = getattr(layer, key, None)
    return str(getattr(found, "__name__", None) or type(layer).__name__)


def _padding(call: Call, _: Trace) -> Iterator[Trial]:
    layer, name = call.layer, _class(call)
    padding = getattr(layer, "padding", None)
    if name.startswith("ZeroPadding"):
        rank = int(name[-2]) if name[-2].isdigit() else 0
        for one in ((1, 1), (0, 1), (1, 0)):
            value: Any = one if rank == 1 else [one] * rank
            yield Trial(
                f"padding {one}",
                call.name,
                f"padding: with {one} in place of {padding}",
                clone(layer, {"padding": value}),
                {"padding": value},
            )
        return
    if padding not in ("same", "valid") or not ("Conv" in name or "Pooling" in name):
        return
    if padding == "same" and "Transpose" not in name:
        words = "padding: with the same padding on both sides, as torch pads, in place of padding='same'"
        # torch pads maps with zeros and a maximum with the lowest value: one fault, of one kind.
        # A common fault: torch pads both sides alike, TensorFlow one more behind where strides do not
        # divide the map.
        yield Trial("padding both", call.name, words, _pad_input(layer, -1e30 if "MaxPooling" in name else 0.0))
        if "MaxPooling" in name:
            yield Trial("padding zeros", call.name, f"{words} (with zeros)", _pad_input(layer, 0.0))
    other = "valid" if padding == "same" else "same"
    yield Trial(
        f"padding {other}",
        call.name,
        f"padding: with {other!r} in place of {padding!r}",
        clone(layer, {"padding": other}),
        {"padding": other},
    )


def _pad_input(layer: Any, fill: float) -> Override:
    """Return the layer's call on an input that is padded by the half of its kernel on both sides."""
    valid = clone(layer, {"padding": "valid"})

    def call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        from keras import ops

        size = getattr(layer, "kernel_size", None) or layer.pool_size
        dilation = getattr(layer, "dilation_rate", 1)
        dilations = dilation if isinstance(dilation, tuple | list) else [dilation] * len(size)
        # As torch's modules pad by convention: half of the window that the dilated kernel covers.
        spatial = [((k - 1) * d // 2,) * 2 for k, d in zip(size, dilations, strict=True)]
        first = layer.data_format == "channels_first"
        pads = [(0, 0), *([(0, 0), *spatial] if first else [*spatial, (0, 0)])]
        return valid((ops.pad(args[0], pads, constant_values=fill),), kwargs)

    return call


def _epsilon(call: Call, _: Trace) -> Iterator[Trial]:
    epsilon = getattr(call.layer, "epsilon", None)
    if not isinstance(epsilon, float):
        return
    for value in _EPSILONS:
        # What it has already is no change.
        if not np.isclose(value, epsilon, rtol=1e-3, atol=0):
            words = f"epsilon: with {value:g} in place of {epsilon:g}"
            changes = {"epsilon": value}
            yield Trial(f"epsilon {value}", call.name, words, clone(call.layer, changes), changes)


def _flatten(call: Call, trace: Trace) -> Iterator[Trial]:
    """Rows of a Dense behind a Flatten, arranged for channels that come first, or the other way round."""
    if _class(call) == "Flatten" and len(getattr(call.args[0], "shape", ())) > 2:
        for source, goal, words in ((-1, 1, "first"), (1, -1, "last")):
            override = partial(_move_channels, source, goal)
            yield Trial(f"flatten {words}", call.name, f"flatten order: with the channels of its map {words}", override)
    kernel = _weight(call.layer, "kernel")
    if kernel is None or kernel.ndim != 2:
        return
    # Any earlier map of as many numbers: what may stand between (Dropout, an activation) keeps their order.
    before = [c.label for c in trace.calls].index(call.label)
    for earlier in trace.calls[:before]:
        shape = tuple(int(n or 0) for n in getattr(earlier.args[0], "shape", ())[1:]) if earlier.args else ()
        if _class(earlier) not in ("Flatten", "Reshape") or len(shape) < 2 or np.prod(shape) != len(kernel):
            continue
        *space, channels = shape
        from_first = partial(_rows, (channels, *space), (*range(1, len(shape)), 0))
        from_last = partial(_rows, shape, (len(shape) - 1, *range(len(shape) - 1)))
        words = f"flatten order: with its rows reordered from {{}} for the Flatten {earlier.name} of {shape}"
        yield Trial(
            "flatten first",
            call.name,
            words.format("(channels, ...) to (..., channels)"),
            reweighted(call, from_first),
        )
        yield Trial(
            "flatten last",
            call.name,
            words.format("(..., channels) to (channels, ...)"),
            reweighted(call, from_last),
        )


def _move_channels(source: int, goal: int, args: tuple[Any, ...], _: dict[str, Any]) -> Any:
    """Stand for a Flatten of a map whose channels lie elsewhere."""
    from keras import ops

    return ops.reshape(ops.moveaxis(args[0], source, goal), (args[0].shape[0], -1))


def _rows(shape: tuple[int, ...], order: tuple[int, ...], name: str, value: NDArray[Any]) -> NDArray[Any]:
    """Return a kernel with its rows, which stand for a map of `shape`, in another order of its axes."""
    if name != "kernel":
        return value
    return value.reshape(*shape, -1).transpose(*order, len(shape)).reshape(value.shape)


def _weight(layer: Any, name: str) -> NDArray[Any] | None:
    for weight, value in zip(getattr(layer, "weights", ()), layer.get_weights() if layer.weights else (), strict=True):
        if weight.name == name:
            return np.asarray(value)
    return None


def _kernel(call: Call, _: Trace) -> Iterator[Trial]:
    """Kernels whose axes were exchanged without a change of shape, flipped, or reversed."""
    for name in ("kernel", "depthwise_kernel", "recurrent_kernel"):
        kernel = _weight(call.layer, name)
        if kernel is None or kernel.ndim < 2:
            continue
        for order in itertools.permutations(range(kernel.ndim)):
            moved = tuple(kernel.shape[i] for i in order)
            # Only sizes that are equal: any other transposition would not have fitted.
            if order != tuple(range(kernel.ndim)) and moved == kernel.shape:
                words = f"transposition: with its {name} transposed by {list(order)}"
                yield Trial(f"{name} {order}", call.name, words, _reweight(call, name, kernel.transpose(order)))
        if kernel.ndim > 2:
            axes = tuple(range(kernel.ndim - 2))
            words = f"flipped kernel: with its {name} flipped along its window, as the theano backend keeps it"
            yield Trial(f"{name} flip", call.name, words, _reweight(call, name, np.flip(kernel, axes)))
        for axis, which in ((-1, "output"), (-2, "input")):
            # RGB against BGR, where the layer is the first; elsewhere it costs one trial.
            words = f"channel order: with the {which} channels of its {name} reversed"
            yield Trial(f"{name} {which}", call.name, words, _reweight(call, name, np.flip(kernel, axis)))
    bias = _weight(call.layer, "bias")
    if bias is not None:
        words = "bias: with a bias of zeros, so that the original has none or another"
        yield Trial("bias zero", call.name, words, _reweight(call, "bias", np.zeros_like(bias)))


def _reweight(call: Call, name: str, value: NDArray[Any]) -> Override:
    return reweighted(call, partial(_take, {name: value}))


def _take(values: Mapping[str, NDArray[Any]], name: str, value: NDArray[Any]) -> NDArray[Any]:
    """Return the value under `name`, or the one that the layer has."""
    return values.get(name, value)


def _statistics(call: Call, _: Trace) -> Iterator[Trial]:
    """Weights of a normalisation that were exchanged, or never set."""
    layer = call.layer
    if getattr(layer, "epsilon", None) is None or not layer.weights:
        return
    held = {w.name: v for w, v in zip(layer.weights, layer.get_weights(), strict=True) if w.name in _STATISTICS}
    if len({v.shape for v in held.values()}) == 1:
        orders = (dict(zip(held, order, strict=True)) for order in itertools.permutations(held))
        # Two that are exchanged are likelier than three or four: the smallest change first.
        for moved in sorted(orders, key=lambda m: sum(a != b for a, b in m.items())):
            changed = [f"{b} as {a}" for a, b in moved.items() if a != b]
            if changed:
                override = reweighted(call, partial(_take, {a: held[b] for a, b in moved.items()}))
                words = f"statistics: with {', '.join(changed)}"
                yield Trial(f"order {sorted(changed)}", call.name, words, override)
    for values in ({"moving_mean": 0.0, "moving_variance": 1.0}, {"gamma": 1.0, "beta": 0.0}):
        reset = {n: np.full_like(held[n], v) for n, v in values.items() if n in held}
        if reset:
            words = f"statistics: with {' and '.join(f'{n} {values[n]:g}' for n in reset)}, the initial values"
            yield Trial(f"reset {sorted(reset)}", call.name, words, reweighted(call, partial(_take, reset)))


def _direction(call: Call, _: Trace) -> Iterator[Trial]:
    layer = call.layer
    if hasattr(layer, "go_backwards"):
        changes = {"go_backwards": not layer.go_backwards}
        words = f"direction: with go_backwards={not layer.go_backwards}"
        yield Trial("go_backwards", call.name, words, clone(layer, changes), changes)


def _gates(call: Call, _: Trace) -> Iterator[Trial]:
    """Recurrent layers: the order of the gates along the last axis."""
    layer, name = call.layer, _class(call)
    cell = type(getattr(layer, "cell", layer)).__name__
    # A cell alone stands beside others in a stack; the one in a layer is tried with that.
    is_alone = name != cell or "/cells/" in call.name
    count = {"LSTMCell": 4, "ConvLSTMCell": 4, "GRUCell": 3}.get(cell) if is_alone else None
    if not count:
        return
    if any(w.name == "bias" and len(w.shape) == 2 for w in layer.weights):  # GRU with reset_after

        def exchange(name: str, value: NDArray[Any]) -> NDArray[Any]:
            return value[::-1] if name == "bias" else value

        words = "biases: with those of the input and of the state exchanged"
        yield Trial("biases exchanged", call.name, words, reweighted(call, exchange))
    called = {4: ("input", "forget", "cell", "output"), 3: ("update", "reset", "candidate")}[count]
    for order in itertools.permutations(range(count)):
        if order == tuple(range(count)):
            continue

        # `order` is bound now: the loop has gone on by the time a trial is made.
        def change(_: str, value: NDArray[Any], order: Sequence[int] = order) -> NDArray[Any]:
            blocks = np.split(value, count, axis=-1)
            return np.concatenate([blocks[i] for i in order], axis=-1)

        words = f"gate order: with its gates read as {', '.join(called[i] for i in order)}"
        yield Trial(f"gates {order}", call.name, words, reweighted(call, change))


def _heads(call: Call, _: Trace) -> Iterator[Trial]:
    """Attention whose kernels are divided among another number of heads, which no shape of other frameworks says."""
    layer = call.layer
    if _class(call) != "MultiHeadAttention" or layer.get_config().get("value_dim") != layer.get_config()["key_dim"]:
        return
    config = layer.get_config()
    heads, size = config["num_heads"], config["key_dim"]
    for count in (n for n in range(1, heads * size + 1) if heads * size % n == 0 and n != heads):
        new = {"num_heads": count, "key_dim": heads * size // count, "value_dim": heads * size // count}
        words = f"heads: with {count} of {heads * size // count} in place of {heads} of {size}"
        yield Trial(f"heads {count}", call.name, words, _with_heads(layer, new))


def _with_heads(layer: Any, changes: Mapping[str, Any]) -> Override:
    made: list[Any] = []

    def call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not made:
            new = type(layer).from_config({**layer.get_config(), **changes})
            new(*args, **kwargs)  # builds it
            new.set_weights([v.reshape(w.shape) for w, v in zip(new.weights, layer.get_weights(), strict=True)])
            made.append(new)
        return made[0](*args, **kwargs)

    return call


def _kinds(call: Call, _: Trace) -> Iterator[Trial]:
    """Another kind of pooling, another dilation."""
    import keras

    name = _class(call)
    if "Pooling" in name:
        other = name.replace("Max", "Average") if "Max" in name else name.replace("Average", "Max")
        # Without its name, so that Keras makes one up for the other class.
        config = {k: v for k, v in call.layer.get_config().items() if k != "name"}
        made = getattr(keras.layers, other, None)
        if made is not None:
            yield Trial(
                f"class {other}",
                call.name,
                f"pooling: with {other} in place of {name}",
                lambda a, k: made(**config)(*a),
            )
    dilation = getattr(call.layer, "dilation_rate", None)
    strides = getattr(call.layer, "strides", None)
    if dilation and strides is not None and set(np.ravel(strides)) == {1}:
        for rate in (1, 2, 3):
            if set(np.ravel(dilation)) != {rate}:
                words = f"dilation: with dilation_rate={rate} in place of {dilation}"
                changes = {"dilation_rate": rate}
                yield Trial(f"dilation {rate}", call.name, words, clone(call.layer, changes), changes)


def _leave_out(call: Call, _: Trace) -> Iterator[Trial]:
    """A layer that does not change the shape, and that the original may not have."""
    if _class(call) in (*_ACTIVATION_LAYERS, "Rescaling", "Normalization", "BatchNormalization", "LayerNormalization"):
        yield Trial(
            "left out",
            call.name,
            f"a {_class(call)} that the original has not: with it left out",
            lambda args, _: args[0],
        )


def _siblings(call: Call, trace: Trace) -> Iterator[Trial]:
    """The weights of another layer of the same shapes: crossed layers."""
    shapes = [tuple(w.shape) for w in call.layer.weights]
    if not shapes:
        return
    seen, count = {call.name}, 0
    for other in trace.calls:
        alike = other.layer is not None and type(other.layer) is type(call.layer)
        if other.name in seen or not alike or [tuple(w.shape) for w in other.layer.weights] != shapes:
            continue
        seen.add(other.name)
        count += 1
        if count > _MOST_SIBLINGS:
            return
        values = {w.name: v for w, v in zip(other.layer.weights, other.layer.get_weights(), strict=True)}
        names = (call.name, other.name)  # one kind for both, so that they are tried exchanged
        words = f"crossed layers: with the weights of {other.name} in {call.name}"
        yield Trial(f"weights {min(names)} {max(names)}", call.name, words, reweighted(call, partial(_take, values)))


def input_trials(data: Sequence[NDArray[Any]]) -> Iterator[tuple[str, list[NDArray[Any]]]]:
    """Yield other value ranges and channel orders of the inputs, with the cause in words."""
    images = [i for i, a in enumerate(data) if a.dtype.kind == "f"]
    if not images:
        return
    # Of RGB from 0 to 1, as in torchvision's transforms of its pretrained models.
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    changes: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
        "value range: with inputs divided by 255": lambda x: x / 255,
        "value range: with inputs multiplied by 255": lambda x: x * 255,
        "value range: with inputs divided by 127.5, less 1": lambda x: x / 127.5 - 1,
        "value range: with inputs plus 1, multiplied by 127.5": lambda x: (x + 1) * 127.5,
        "channel order: with the channels of the inputs reversed (RGB, BGR)": lambda x: x[..., ::-1],
        "value range: with ImageNet's mean and deviation taken out": lambda x: (x - mean) / deviation,
        "value range: with inputs divided by 255, then ImageNet's mean and deviation taken out": lambda x: (
            (x / 255 - mean) / deviation
        ),
    }
    for words, change in changes.items():
        if ("ImageNet" in words or "channels" in words) and any(data[i].shape[-1] != 3 for i in images):
            continue
        yield words, [change(a).astype(a.dtype) if i in images else a for i, a in enumerate(data)]
