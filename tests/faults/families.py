"""Random models of several families, small and quick to build."""

from .specs import Part, Spec

ACTIVATIONS = ("relu", "tanh", "elu", "sigmoid", "swish", "softplus", "gelu", "leaky_relu")


def pick(rng, *items):
    """Return one of the items."""
    return items[int(rng.integers(len(items)))]


def conv_net(rng, *, norm=None, width=None, convs=None, size=None, head=True, **conv):
    """Convolutions of one width (so that several have one shape), maybe normalized, pooled, with two equal Dense."""
    width, size = width or pick(rng, 4, 6, 8), size or pick(rng, 8, 10, 12)
    parts = []
    settings = {"padding": "same", "activation": pick(rng, *ACTIVATIONS), **conv}
    for i in range(convs or pick(rng, 3, 4)):
        parts.append(Part("Conv2D", f"c{i}", {"filters": width, "kernel_size": 3, **settings}))
        if norm if norm is not None else pick(rng, True, False):
            parts.append(Part("BatchNormalization", f"b{i}"))
    parts.append(Part("GlobalAveragePooling2D", "gap"))
    if head:
        parts += dense_parts(rng, width)
    return Spec((size, size, 3), tuple(parts))


def dense_parts(rng, width):
    """Two square Dense and a head."""
    activation = pick(rng, *ACTIVATIONS)
    square = {"units": width, "activation": activation}
    return [Part("Dense", "d0", square), Part("Dense", "d1", square), Part("Dense", "d2", {"units": 3})]


def dense_net(rng, *, depth=None, norm="BatchNormalization"):
    """Square Dense with normalizations between."""
    width, parts = pick(rng, 5, 6, 8), []
    activation = pick(rng, "relu", "tanh", "elu")
    for i in range(depth or pick(rng, 3, 4, 5)):
        parts.append(Part("Dense", f"d{i}", {"units": width, "activation": activation}))
        if norm and i % 2 == 0:
            parts.append(Part(norm, f"b{i}"))
    parts.append(Part("Dense", "top", {"units": 3}))
    return Spec((width,), tuple(parts))


def residual_net(rng, *, blocks=None, conv=True):
    """Residual blocks whose shortcuts have convolutions and normalizations of the main path's shape."""
    width, parts, last = pick(rng, 4, 6), [], "stem"
    layer, own = ("Conv2D", {"filters": width, "kernel_size": 1}) if conv else ("Dense", {"units": width})
    parts.append(Part(layer, "stem", own, ("in",)))
    for k in range(blocks or pick(rng, 1, 2, 3)):
        n = f"s{k}_"
        parts += [
            Part(layer, f"{n}1_conv", own, (last,)),
            Part("BatchNormalization", f"{n}1_bn", {}, (f"{n}1_conv",)),
            Part("ReLU", f"{n}1_relu", {}, (f"{n}1_bn",)),
            Part(layer, f"{n}0_conv", own, (last,)),
            Part(layer, f"{n}2_conv", own, (f"{n}1_relu",)),
            Part("BatchNormalization", f"{n}0_bn", {}, (f"{n}0_conv",)),
            Part("BatchNormalization", f"{n}2_bn", {}, (f"{n}2_conv",)),
            Part("Add", f"{n}add", {}, (f"{n}0_bn", f"{n}2_bn")),
            Part("ReLU", f"{n}out", {}, (f"{n}add",)),
        ]
        last = f"{n}out"
    if conv:
        parts.append(Part("GlobalAveragePooling2D", "gap", {}, (last,)))
        last = "gap"
    parts.append(Part("Dense", "top", {"units": 3}, (last,)))
    return Spec((6, 6, width) if conv else (width,), tuple(parts))


def recurrent_net(rng, layer=None, **settings):
    """A recurrent layer over a sequence, and a Dense."""
    layer, units = layer or pick(rng, "LSTM", "GRU", "SimpleRNN"), pick(rng, 3, 4, 5)
    parts = (
        Part("Dense", "embed", {"units": units, "activation": "tanh"}),
        Part(layer, "r", {"units": units, **settings}),
        Part("Dense", "top", {"units": 3}),
    )
    return Spec((pick(rng, 5, 7), 4), parts)


def both_ways(rng, **settings):
    """A Bidirectional layer and a Dense."""
    inner = Part(pick(rng, "LSTM", "GRU"), "cell", {"units": pick(rng, 3, 4)})
    parts = (Part("Bidirectional", "bi", {"inner": inner, **settings}), Part("Dense", "top", {"units": 3}))
    return Spec((6, 4), parts)


def attention_net(rng):
    """A transformer block with Keras's attention."""
    width = 4
    parts = (
        Part("Dense", "embed", {"units": width}, ("in",)),
        Part("MultiHeadAttention", "att", {"num_heads": 2, "key_dim": 2}, ("embed",)),
        Part("Add", "add0", {}, ("embed", "att")),
        Part("LayerNormalization", "n0", {"epsilon": 1e-6}, ("add0",)),
        Part("Dense", "up", {"units": 8, "activation": pick(rng, "gelu", "relu", "swish")}, ("n0",)),
        Part("Dense", "down", {"units": width}, ("up",)),
        Part("Add", "add1", {}, ("n0", "down")),
        Part("LayerNormalization", "n1", {"epsilon": 1e-6}, ("add1",)),
        Part("GlobalAveragePooling1D", "gap", {}, ("n1",)),
        Part("Dense", "top", {"units": 3}, ("gap",)),
    )
    return Spec((pick(rng, 5, 6), 4), parts)


def own_attention(rng, query="query", key="key", value="value", width=None):
    """Attention of three square Dense of equal shapes."""
    width = width or pick(rng, 4, 6)
    own = {"units": width}
    parts = (
        Part("Dense", query, own, ("in",)),
        Part("Dense", key, own, ("in",)),
        Part("Dense", value, own, ("in",)),
        Part("Attention", "mix", {}, (query, value, key)),
        Part("GlobalAveragePooling1D", "gap", {}, ("mix",)),
        Part("Dense", "top", {"units": 3}, ("gap",)),
    )
    return Spec((5, width), parts)


def flatten_net(rng, *, size=None):
    """A convolution, Flatten, Dense."""
    width, size = pick(rng, 3, 4, 5), size or pick(rng, 4, 5, 6)
    parts = (
        Part("Conv2D", "c0", {"filters": width, "kernel_size": 3, "padding": "same", "activation": "relu"}),
        Part("Flatten", "flat"),
        Part("Dense", "fc", {"units": 5}),
    )
    return Spec((size, size, 3), parts)


def two_branches(rng, merge="Add"):
    """Two parallel Dense of one shape with different tails that merge again."""
    width = pick(rng, 4, 6)
    own = {"units": width, "activation": "tanh"}
    parts = (
        Part("Dense", "stem", own, ("in",)),
        Part("Dense", "left_0", own, ("stem",)),
        Part("Dense", "left_1", own, ("left_0",)),
        Part("Dense", "right_0", own, ("stem",)),
        Part(merge, "merge", {}, ("left_1", "right_0")),
        Part("Dense", "top", {"units": 3}, ("merge",)),
    )
    return Spec((width,), parts)
