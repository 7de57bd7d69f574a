"""Faults of settings and classes: the same weights, used in another way."""

import json

import h5py
import keras
import numpy as np

from .families import ACTIVATIONS, attention_net, both_ways, conv_net, dense_net, dense_parts, pick, recurrent_net
from .kinds import ALL, Case, Pair, between, fault
from .specs import Part, Spec, run


def setting(name, layers, family, *, group="settings", seen="settings", where=None, **values):
    """Enter a kind of fault that gives one layer of `layers` another value of a setting than the source has.

    `values` holds one setting with the pairs (source's, target's) to choose from, or with a function of a `Draw`.
    """
    ((key, choices),) = values.items()

    @fault(name, group, seen)
    def make(draw):
        spec = family(draw.rng)
        part = draw.pick(*spec.of(*layers))
        ours, theirs = choices(draw) if callable(choices) else draw.pick(*choices)
        if draw.rng.random() < 0.5 and not where:
            ours, theirs = theirs, ours
        return between(draw, spec.change(part, **{key: ours}), spec.change(part, **{key: theirs}))


def two_of(*items):
    """Return a function that chooses two different items."""
    return lambda draw: tuple(items[i] for i in draw.rng.choice(len(items), 2, replace=False))


def conv1d_net(rng):
    return Spec(
        (pick(rng, 8, 12), 4),
        (
            Part("Conv1D", "c0", {"filters": 4, "kernel_size": 3, "padding": "same", "activation": "relu"}),
            Part("Conv1D", "c1", {"filters": 4, "kernel_size": 3, "padding": "same"}),
            Part("GlobalAveragePooling1D", "gap"),
            Part("Dense", "top", {"units": 3}),
        ),
    )


def one_norm(layer, **settings):
    """Return a family: a Dense, a normalization over its outputs, a Dense."""

    def family(rng):
        width = pick(rng, 4, 6)
        parts = (
            Part("Dense", "d0", {"units": width}),
            Part(layer, "n", settings),
            Part("Dense", "d1", {"units": width, "activation": pick(rng, "tanh", "elu")}),
        )
        return Spec((width,), parts)

    return family


def between_net(*middle):
    """Return a family: a convolution, layers without weights, a convolution."""

    def family(rng):
        own = {"filters": 4, "kernel_size": 3, "padding": "same", "activation": "tanh"}
        parts = (Part("Conv2D", "c0", own), *middle, Part("Conv2D", "c1", own), Part("GlobalAveragePooling2D", "gap"))
        return Spec((8, 8, 3), (*parts, *dense_parts(rng, 4)))

    return family


def small_scale(draw):
    return draw.pick((1e-3, 0.1), (1e-5, 0.05), (1e-12, 0.2))


setting("activation", ("Conv2D", "Dense"), conv_net, activation=two_of(*ACTIVATIONS))
setting("activation of a Dense", ("Dense",), dense_net, activation=two_of("relu", "tanh", "linear", "sigmoid"))
setting("activation of a recurrent layer", ("LSTM", "GRU", "SimpleRNN"), recurrent_net,
        activation=two_of("tanh", "relu", "sigmoid"))  # fmt: skip
setting("recurrent activation", ("LSTM", "GRU"), lambda rng: recurrent_net(rng, pick(rng, "LSTM", "GRU")),
        recurrent_activation=[("sigmoid", "hard_sigmoid"), ("sigmoid", "tanh")])  # fmt: skip
setting("strides", ("Conv2D",), conv_net, strides=[(1, 2), ((2, 1), (1, 2))])
setting("padding", ("Conv2D",), conv_net, padding=[("same", "valid")])
setting("padding causal", ("Conv1D",), conv1d_net, padding=[("same", "causal")])
setting("dilation", ("Conv2D",), conv_net, dilation_rate=[(1, 2)])
setting("epsilon of BatchNormalization", ("BatchNormalization",), one_norm("BatchNormalization"), epsilon=small_scale)
setting("epsilon of LayerNormalization", ("LayerNormalization",), one_norm("LayerNormalization"), epsilon=small_scale)
setting("epsilon of GroupNormalization", ("GroupNormalization",), one_norm("GroupNormalization", groups=2),
        epsilon=small_scale)  # fmt: skip
setting("epsilon of RMSNormalization", ("RMSNormalization",), one_norm("RMSNormalization"), epsilon=small_scale)
setting("groups of GroupNormalization", ("GroupNormalization",), one_norm("GroupNormalization"), groups=[(1, 2)])
setting("go_backwards", ("LSTM", "GRU", "SimpleRNN"), recurrent_net, go_backwards=[(False, True)])
setting("reset_after without biases", ("GRU",), lambda rng: recurrent_net(rng, "GRU", use_bias=False),
        reset_after=[(True, False)])  # fmt: skip
setting("reset_after", ("GRU",), lambda rng: recurrent_net(rng, "GRU"), seen="shapes", reset_after=[(True, False)])
setting("merge mode", ("Bidirectional",), both_ways, merge_mode=two_of("sum", "mul", "ave"))
setting("num_heads", ("MultiHeadAttention",), attention_net, seen="shapes", num_heads=[(2, 4)])
setting(
    "score_mode of Attention", ("Attention",), lambda rng: _attention(rng), seen="names", score_mode=[("dot", "concat")]
)
setting("pooling size", ("MaxPooling2D",), between_net(Part("MaxPooling2D", "pool", {"strides": 2})),
        pool_size=[(2, 3)])  # fmt: skip
setting("pooling strides", ("AveragePooling2D",), between_net(Part("AveragePooling2D", "pool", {"pool_size": 2})),
        strides=[(1, 2)])  # fmt: skip
setting("pooling padding", ("MaxPooling2D",), between_net(Part("MaxPooling2D", "pool", {"pool_size": 3})),
        padding=[("same", "valid")])  # fmt: skip
setting("slope of LeakyReLU", ("LeakyReLU",), between_net(Part("LeakyReLU", "leak")), negative_slope=[(0.01, 0.3)])
setting("interpolation of UpSampling2D", ("UpSampling2D",), between_net(Part("UpSampling2D", "up")),
        interpolation=[("nearest", "bilinear")])  # fmt: skip
setting("ZeroPadding2D's amounts", ("ZeroPadding2D",), between_net(Part("ZeroPadding2D", "pad")),
        padding=[(((0, 1), (0, 1)), ((1, 0), (1, 0))), (1, 2)])  # fmt: skip
setting("scale of Rescaling", ("Rescaling",), between_net(Part("Rescaling", "scaled")), scale=[(1.0, 0.5), (2.0, 0.1)])
setting("axis of Softmax", ("Softmax",), between_net(Part("Softmax", "soft")), axis=[(-1, 1)])
setting("dims of Permute", ("Permute",), between_net(Part("Permute", "turn")), dims=[((2, 1, 3), (1, 2, 3))])
setting("order of Reshape", ("Reshape",), lambda rng: _reshaped(), target_shape=[((2, 8, 4), (4, 4, 4))])


def _attention(rng):
    own = {"units": 4}
    parts = (
        Part("Dense", "q", own, ("in",)),
        Part("Dense", "v", own, ("in",)),
        Part("Attention", "mix", {"use_scale": False}, ("q", "v")),
        Part("GlobalMaxPooling1D", "gap"),
        Part("Dense", "top", {"units": 3}),
    )
    return Spec((5, 4), parts)


def _reshaped():
    own = {"filters": 4, "kernel_size": 3, "padding": "same", "activation": "tanh"}
    middle = (Part("Conv2D", "c0", own), Part("Reshape", "fold"), Part("Conv2D", "c1", own))
    return Spec((4, 4, 3), (*middle, Part("GlobalAveragePooling2D", "gap"), Part("Dense", "top", {"units": 3})))


def layer_between(name, part, seen="settings", group="settings"):
    """Enter a kind: a layer without weights stands in the source between two layers and not in the target, or back."""

    @fault(name, group, seen)
    def make(draw):
        spec = between_net(part)(draw.rng)
        if draw.rng.random() < 0.5:
            return between(draw, spec, spec.without(part.name))
        return between(draw, spec.without(part.name), spec)


layer_between("pooling missing", Part("MaxPooling2D", "pool", {"pool_size": 2}))
layer_between("Rescaling missing", Part("Rescaling", "scaled", {"scale": 1 / 127.5, "offset": -1}))
layer_between("ZeroPadding2D missing", Part("ZeroPadding2D", "pad", {"padding": 1}))
layer_between("activation layer missing", Part("ReLU", "act", {"max_value": 0.2}))
layer_between("UpSampling2D missing", Part("UpSampling2D", "up"))
layer_between("Cropping2D missing", Part("Cropping2D", "cut", {"cropping": ((1, 0), (1, 0))}))


@fault("pooling of another kind", "settings", "settings")
def _(draw):
    spec = between_net(Part("MaxPooling2D", "pool", {"pool_size": 2}))(draw.rng)
    return between(draw, spec, spec.change("pool", layer="AveragePooling2D"))


@fault("global pooling of another kind", "settings", "settings")
def _(draw):
    spec = conv_net(draw.rng)
    return between(draw, spec, spec.change("gap", layer="GlobalMaxPooling2D"))


@fault("Rescaling before the first layer missing", "settings", "settings")
def _(draw):
    spec = conv_net(draw.rng)
    scaled = Part("Rescaling", "scaled", {"scale": draw.pick(1 / 255, 1 / 127.5), "offset": draw.pick(0.0, -1.0)})
    whole = Spec(spec.shape, (scaled, *spec.parts))
    return between(draw, *draw.pick((whole, spec), (spec, whole)))


@fault("activation layer of another kind", "settings", "settings")
def _(draw):
    spec = between_net(Part("Activation", "act", {"activation": "relu"}))(draw.rng)
    return between(draw, spec, spec.change("act", activation=draw.pick("tanh", "sigmoid", "gelu")))


@fault("merging layer of another kind", "settings", "settings")
def _(draw):
    from .families import two_branches

    ours, theirs = two_of("Add", "Multiply", "Average", "Maximum", "Subtract")(draw)
    spec = two_branches(draw.rng, ours)
    return between(draw, spec, spec.change("merge", layer=theirs))


@fault("axis of a normalization", "settings", "settings")
def _(draw):
    layer = draw.pick("BatchNormalization", "LayerNormalization")
    parts = (Part("Dense", "d0", {"units": 6}), Part(layer, "n", {"axis": 1}), Part("Dense", "d1", {"units": 3}))
    spec = Spec((6, 6), parts)
    return between(draw, *draw.pick((spec, spec.change("n", axis=-1)), (spec.change("n", axis=-1), spec)))


@fault("groups of a convolution", "settings", "settings")
def _(draw):
    own = {"filters": 4, "kernel_size": 3, "padding": "same"}
    parts = (
        Part("Conv2D", "c0", own, ("in",)),
        Part("Activation", "bent", {"activation": "tanh"}, ("c0",)),
        Part("Concatenate", "twice", {}, ("c0", "bent")),
        Part("Conv2D", "c1", {**own, "groups": 2}, ("twice",)),
        Part("GlobalMaxPooling2D", "gap"),
        Part("Dense", "top", {"units": 3}),
    )
    source = Spec((6, 6, 3), parts)
    return between(draw, source, source.without("bent").without("twice").change("c1", groups=1))


@fault("data_format of a convolution", "settings", "settings")
def _(draw):
    own = {"filters": 4, "kernel_size": 3, "padding": "same", "activation": "tanh", "data_format": "channels_last"}
    parts = (Part("Conv2D", "c0", own), Part("Conv2D", "c1", own), Part("GlobalAveragePooling2D", "gap"))
    spec = Spec((4, 4, 4), (*parts, Part("Dense", "top", {"units": 3})))
    return between(draw, spec, spec.change("c1", data_format="channels_first"))


@fault("scale and centre exchanged", "settings", "names")
def _(draw):
    spec = one_norm(draw.pick("BatchNormalization", "LayerNormalization"), center=False)(draw.rng)
    return between(draw, spec, spec.change("n", center=True, scale=False))


@fault("Conv2DTranspose into Conv2D", "settings", "settings")
def _(draw):
    own = {"filters": 4, "kernel_size": 3, "padding": "same", "activation": "tanh"}
    parts = (Part("Conv2D", "c0", own), Part("Conv2DTranspose", "c1", own), Part("GlobalMaxPooling2D", "gap"))
    spec = Spec((6, 6, 3), (*parts, Part("Dense", "top", {"units": 3})))
    other = spec.change("c1", layer="Conv2D")
    return between(draw, *draw.pick((spec, other), (other, spec)))


@fault("DepthwiseConv2D and Conv2D", "settings", "settings")
def _(draw):
    own = {"kernel_size": 3, "use_bias": False, "filters": 1}
    parts = (
        Part("Conv2D", "c0", {"filters": 4, "kernel_size": 3, "activation": "relu"}),
        Part("Conv2D", "c1", own),
        Part("Reshape", "fold", {"target_shape": (-1, 1)}),
        Part("GlobalMaxPooling1D", "gap"),
        Part("Dense", "top", {"units": 3}),
    )
    conv = Spec((8, 8, 3), parts)
    deep = Part("DepthwiseConv2D", "c1", {"kernel_size": 3, "use_bias": False})
    depthwise = Spec(conv.shape, tuple(deep if p.name == "c1" else p for p in parts))
    return between(draw, *draw.pick((conv, depthwise), (depthwise, conv)))


@fault("SimpleRNN cells of another class", "settings", "shapes")
def _(draw):
    spec = recurrent_net(draw.rng, "LSTM")
    return between(draw, spec, spec.change("r", layer="GRU"))


@fault("LayerNormalization into RMSNormalization", "settings", "names")
def _(draw):
    spec = one_norm("LayerNormalization", center=False)(draw.rng)
    parts = tuple(Part("RMSNormalization", "n") if p.name == "n" else p for p in spec.parts)
    return between(draw, spec, Spec(spec.shape, parts))


@fault("equation of EinsumDense", "settings", "settings")
def _(draw):
    own = {"output_shape": 5, "bias_axes": "c"}
    parts = (
        Part("EinsumDense", "e", {"equation": "ab,bc->ac", **own}),
        Part("Activation", "act", {"activation": "tanh"}),
        Part("Dense", "top", {"units": 3}),
    )
    spec = Spec((5,), parts)
    return between(draw, spec, spec.change("e", equation="ab,cb->ac"))


@fault("mask_zero of Embedding", "settings", "settings")
def _(draw):
    parts = (
        Part("Embedding", "words", {"input_dim": 5, "output_dim": 4, "mask_zero": True}),
        Part("LSTM", "r", {"units": 4}),
    )
    spec = Spec((9,), (*parts, Part("Dense", "top", {"units": 3})), dtype="int32")
    return between(draw, spec, spec.change("words", mask_zero=False))


@fault("boundaries of Discretization", "state", "settings")
def _(draw):
    def spec(*bounds):
        parts = (
            Part("Discretization", "bins", {"bin_boundaries": list(bounds)}),
            Part("Embedding", "emb", {"input_dim": 5, "output_dim": 4}),
            Part("Flatten", "flat"),
            Part("Dense", "top", {"units": 2}),
        )
        return Spec((3,), parts)

    return between(draw, spec(-1.0, -0.3, 0.3, 1.0), spec(-2.0, -1.5, 1.5, 2.0), right=None)


@fault("mean and variance of Normalization given", "state", "settings")
def _(draw):
    def spec(mean):
        return Spec(
            (4,), (Part("Normalization", "n", {"mean": mean, "variance": 1.5}), Part("Dense", "top", {"units": 2}))
        )

    return between(draw, spec(0.5), spec(2.0))


def legacy(path, layers, values, *, keras_version="2.2.4", backend="tensorflow", config=True, shape=(5, 4)):
    """Write a legacy file as Keras 2 did: `layers` are class and configuration, `values` the arrays of each by name."""
    listed = [{"class_name": c, "config": dict(s)} for c, s in layers]
    listed[0]["config"]["batch_input_shape"] = [None, *shape]
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = keras_version.encode(), backend.encode()
        root = file
        if config:
            body = {"name": "s", "layers": listed} if keras_version >= "2.2.3" else listed
            file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": body}).encode()
            root = file.create_group("model_weights")
        root.attrs["layer_names"] = [s["name"].encode() for _, s in layers]
        root.attrs["keras_version"], root.attrs["backend"] = keras_version.encode(), backend.encode()
        for _, own in layers:
            group, arrays = root.create_group(own["name"]), values.get(own["name"], {})
            names = [f"{own['name']}/{n}:0" for n in arrays]
            group.attrs["weight_names"] = [n.encode() for n in names]
            for name, value in zip(names, arrays.values(), strict=True):
                group[name] = value
    return path


def _recurrent_file(draw, layer, units, settings, **options):
    rng, gates = draw.rng, {"LSTM": 4, "GRU": 3}[layer.removeprefix("CuDNN")]
    bias = 2 * gates * units if layer.startswith("CuDNN") else gates * units
    r = {
        "kernel": rng.normal(size=(4, gates * units)).astype("f4"),
        "recurrent_kernel": rng.normal(size=(units, gates * units)).astype("f4"),
        "bias": (0.3 * rng.normal(size=bias)).astype("f4"),
    }
    top = {"kernel": rng.normal(size=(units, 3)).astype("f4"), "bias": rng.normal(size=3).astype("f4")}
    layers = [(layer, {"name": "r", "units": units, **settings}), ("Dense", {"name": "top", "units": 3})]
    return legacy(draw.path(".h5"), layers, {"r": r, "top": top}, **options), r, top


def _keras_2_sigmoid(x):
    return keras.ops.clip(0.2 * x + 0.5, 0, 1)


def _old_recurrent(draw, settings, **options):
    layer, units = draw.pick("LSTM", "GRU"), draw.pick(3, 4)
    own = {**settings, **({"reset_after": False} if layer == "GRU" and settings else {})}
    path, r, top = _recurrent_file(draw, layer, units, own, **options)
    more = {"reset_after": False} if layer == "GRU" else {}

    def spec(activation):
        own = {"units": units, "recurrent_activation": activation, **more}
        return Spec((5, 4), (Part(layer, "r", own), Part("Dense", "top", {"units": 3})))

    original = draw.fresh(spec(_keras_2_sigmoid))
    original.set_weights([*r.values(), *top.values()])
    inputs = 3 * draw.rng.normal(size=(6, 5, 4)).astype("f4")
    target = draw.fresh(spec(draw.pick("sigmoid", "hard_sigmoid")))
    # Without a configuration the file does not tell that it holds a recurrent layer, whose weights lie in its cell.
    named = {"r": {"to": "r/cell/(.*)", "from": r"r/\1"}, "top": {"to": "top"}}
    mapping = ALL if options.get("config", True) else named
    return Pair(Case(path, target, {"mapping": mapping}, inputs, run(original, inputs), original))


@fault("hard_sigmoid of Keras 2", "keras 2", "settings")
def _(draw):
    return _old_recurrent(draw, {"recurrent_activation": "hard_sigmoid", "activation": "tanh"}, keras_version="2.2.4")


@fault("hard_sigmoid by default before Keras 2.3", "keras 2", "settings")
def _(draw):
    return _old_recurrent(draw, {}, keras_version="2.1.6")


@fault("hard_sigmoid by default, file tells only its version", "keras 2", "settings")
def _(draw):
    return _old_recurrent(draw, {}, keras_version="2.1.6", config=False)


@fault("CuDNNGRU", "keras 2", "settings")
def _(draw):
    return _cudnn(draw, "GRU")


@fault("CuDNNLSTM", "keras 2", "settings")
def _(draw):
    return _cudnn(draw, "LSTM")


def _cudnn(draw, layer):
    """As Keras 2 converted them: each gate of the kernels read as if it were transposed, biases by halves."""
    units, gates = 4, {"LSTM": 4, "GRU": 3}[layer]
    path, r, top = _recurrent_file(draw, f"CuDNN{layer}", units, {}, keras_version="2.2.4")

    kernel = np.concatenate([g.T.reshape(g.shape, order="F") for g in np.split(r["kernel"], gates, 1)], 1)
    recurrent = np.concatenate([g.T for g in np.split(r["recurrent_kernel"], gates, 1)], 1)
    bias = np.sum(np.split(r["bias"], 2), 0) if layer == "LSTM" else r["bias"].reshape(2, -1)
    spec = Spec((5, 4), (Part(layer, "r", {"units": units}), Part("Dense", "top", {"units": 3})))
    original = draw.fresh(spec)
    original.set_weights([kernel, recurrent, bias, *top.values()])
    inputs = draw.rng.normal(size=(6, 5, 4)).astype("f4")
    how = {"bias": [{"reshape": [2, -1]}]} if layer == "GRU" else {"bias": [{"slice": {"axis": 0, "stop": 4 * units}}]}
    mapping = draw.pick(ALL, {"r": {"to": "r/cell", "from": "r", "transform": how}, "top": {"to": "top"}})
    return Pair(Case(path, draw.fresh(spec), {"mapping": mapping}, inputs, run(original, inputs), None))


@fault("kernels of the Theano backend", "keras 2", "settings")
def _(draw):
    own = {"filters": 4, "kernel_size": 3, "activation": "relu"}
    parts = (Part("Conv2D", "c0", own), Part("Conv2D", "c1", own), Part("GlobalAveragePooling2D", "gap"))
    spec = Spec((8, 8, 3), (*parts, Part("Dense", "top", {"units": 3})))
    original = draw.model(spec)
    kept = {x.name: dict(zip(("kernel", "bias"), x.get_weights(), strict=True)) for x in original.layers if x.weights}
    for name in ("c0", "c1"):
        kept[name]["kernel"] = kept[name]["kernel"][::-1, ::-1]
    listed = [(p.layer, {"name": p.name, **p.settings}) for p in spec.parts]
    path = legacy(draw.path(".h5"), listed, kept, keras_version="2.1.6", backend="theano", shape=(8, 8, 3))
    inputs = draw.inputs(original)
    return Pair(Case(path, draw.fresh(spec), {"mapping": ALL}, inputs, run(original, inputs), None))


@fault("channels_first, Flatten and Dense into channels_last", "settings", "settings")
def _(draw):
    from .families import flatten_net

    spec = flatten_net(draw.rng)
    first = spec.change("c0", data_format="channels_first")
    first = Spec((3, *spec.shape[:2]), first.parts)
    source = draw.model(first)
    inputs = draw.rng.normal(size=(3, *first.shape)).astype("f4")
    case = Case(
        draw.saved(source),
        draw.fresh(spec),
        {"mapping": ALL},
        inputs.transpose(0, 2, 3, 1),
        run(source, inputs),
        source,
    )
    return Pair(case)
