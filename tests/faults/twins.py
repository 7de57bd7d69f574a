"""Right transfers of many forms. None of them deserves a warning."""

import keras
import numpy as np

from . import families
from .kinds import ALL, Case, twin
from .kinds_torch import forward, state, stored, torch_net
from .specs import Part, Spec, arrays_of, build, fill, run

FAMILIES = {
    "convolutions": families.conv_net,
    "convolutions in one dimension": lambda rng: _one_dimension(rng),
    "Dense": families.dense_net,
    "residual": families.residual_net,
    "recurrent": families.recurrent_net,
    "Bidirectional": families.both_ways,
    "attention": families.attention_net,
    "attention by hand": families.own_attention,
    "Flatten": families.flatten_net,
    "branches": families.two_branches,
    "separable": lambda rng: _separable(rng),
    "fan-out": lambda rng: _fan_out(rng),
    "norms": lambda rng: _norms(rng),
}


def _one_dimension(rng):
    padding = families.pick(rng, "same", "causal", "valid")
    own = {"filters": 4, "kernel_size": 3, "padding": padding, "dilation_rate": families.pick(rng, 1, 2)}
    parts = (Part("Conv1D", "c0", own), Part("ReLU", "a"), Part("Conv1D", "c1", own), Part("GlobalMaxPooling1D", "gap"))
    return Spec((12, 4), (*parts, Part("Dense", "top", {"units": 3})))


def _separable(rng):
    parts = (
        Part("Conv2D", "stem", {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same", "use_bias": False}),
        Part("BatchNormalization", "n0", {"epsilon": 1e-5}),
        Part("DepthwiseConv2D", "dw", {"kernel_size": 3, "padding": "same", "use_bias": False}),
        Part("BatchNormalization", "n1", {"momentum": 0.9}),
        Part("ReLU", "r6", {"max_value": 6}),
        Part("SeparableConv2D", "sep", {"filters": 4, "kernel_size": 3, "activation": "swish"}),
        Part("Conv2DTranspose", "up", {"filters": 3, "kernel_size": 2, "strides": 2}),
        Part("PReLU", "alpha", {"shared_axes": [1, 2]}),
        Part("GlobalAveragePooling2D", "gap"),
        Part("Dense", "top", {"units": 3}),
    )
    return Spec((families.pick(rng, 12, 16), 12, 3), parts)


def _fan_out(rng):
    own = {"units": 5, "activation": families.pick(rng, "tanh", "relu")}
    parts = [Part("Dense", "stem", own, ("in",))]
    heads = [f"head_{n}" for n in ("age", "size", "kind")[: families.pick(rng, 2, 3)]]
    parts += [Part("Dense", h, own, ("stem",)) for h in heads]
    return Spec((5,), (*parts, Part("Concatenate", "all", {}, tuple(heads)), Part("Dense", "top", {"units": 3})))


def _norms(rng):
    parts = (
        Part("Dense", "d0", {"units": 6}),
        Part("LayerNormalization", "n0", {"epsilon": families.pick(rng, 1e-6, 1e-12, 1e-5)}),
        Part("Dense", "d1", {"units": 6, "activation": "gelu"}),
        Part("GroupNormalization", "n1", {"groups": 2}),
        Part("Dense", "d2", {"units": 6}),
        Part("RMSNormalization", "n2"),
        Part("Dropout", "drop", {"rate": 0.3}),
        Part("Dense", "top", {"units": 3}),
    )
    return Spec((6,), parts)


def both(draw, source_spec, target_spec, mapping, kinds=(".keras", ".h5", "live"), **recipe):
    """Return the case of a model into another that computes the same."""
    source = draw.model(source_spec)
    inputs = draw.inputs(source)
    given = {"mapping": mapping, **recipe}
    return Case(draw.saved(source, kinds), draw.fresh(target_spec), given, inputs, run(source, inputs), source)


def _each(family, title):
    @twin(f"same names: {title}")
    def same(draw):
        spec = family(draw.rng)
        return both(draw, spec, spec, ALL)

    @twin(f"weights file: {title}")
    def weights(draw):
        spec = family(draw.rng)
        return both(draw, spec, spec, ALL, kinds=(".weights.h5",))

    @twin(f"renamed by regex: {title}")
    def renamed(draw):
        spec = family(draw.rng)
        prefix = draw.pick("enc_", "my_", "block_", "x")
        mapping = {"all": {"to": rf"{prefix}([^/]*)(.*)", "from": r"\1\2"}}
        return both(draw, spec, spec.rename(lambda n: prefix + n), mapping)

    @twin(f"into a nested model: {title}")
    def nested(draw):
        spec = family(draw.rng)
        source = draw.model(spec)
        inputs = draw.inputs(source)
        start = keras.Input(source.input_shape[1:])
        body = build(spec, name="backbone")
        target = keras.Model(start, keras.layers.Dense(2, name="probe")(body(start)))
        fresh = [np.asarray(w) for w in target.get_layer("probe").weights]
        expected = [run(source, inputs)[0] @ fresh[0] + fresh[1]]
        mapping = {"b": {"to": r"backbone/(.*)", "from": r"\1"}, "p": {"to": "probe", "from": None}}
        # Keras's attention forgets on loading that it was frozen: the warning of that is right.
        frozen = () if "attention" in title else ({"freeze": ["transferred"]}, {"freeze": ["backbone"]})
        recipe = {"mapping": mapping, **draw.pick({}, *frozen)}
        return Case(draw.saved(source), target, recipe, inputs, expected)

    @twin(f"out of a nested model: {title}")
    def unnested(draw):
        spec = family(draw.rng)
        body = fill(build(spec, name="backbone"), draw.rng)
        start = keras.Input(body.input_shape[1:])
        source = keras.Model(start, keras.layers.Dense(2, name="probe")(body(start)))
        inputs = draw.inputs(body)
        mapping = {"b": {"to": r"(.*)", "from": r"backbone/\1"}}
        return Case(
            draw.saved(source),
            draw.fresh(spec),
            {"mapping": mapping, "ignore": ["probe/.*"]},
            inputs,
            run(body, inputs),
        )


for _title, _family in FAMILIES.items():
    _each(_family, _title)


@twin("named arrays in another order")
def _(draw):
    spec = draw.pick(families.conv_net, families.dense_net, families.residual_net)(draw.rng)
    source = draw.model(spec)
    arrays, inputs = list(arrays_of(source).items()), draw.inputs(source)
    draw.rng.shuffle(arrays)
    return Case(draw.stored(dict(arrays)), draw.fresh(spec), {"mapping": ALL}, inputs, run(source, inputs), source)


@twin("named arrays of float64")
def _(draw):
    spec = draw.pick(families.conv_net, families.dense_net)(draw.rng)
    source = draw.model(spec)
    inputs = draw.inputs(source)
    arrays = {k: v.astype("float64") * (1 + 1e-9 * draw.pick(0, 1)) for k, v in arrays_of(source).items()}
    return Case(draw.stored(arrays), draw.fresh(spec), {"mapping": ALL}, inputs, run(source, inputs))


@twin("named arrays of float16")
def _(draw):
    spec = draw.pick(families.conv_net, families.dense_net)(draw.rng)
    source = draw.model(spec)
    inputs = draw.inputs(source)
    arrays = {k: v.astype("float16") for k, v in arrays_of(source).items()}
    model = build(spec)
    model.set_weights([v.astype("float32") for v in arrays.values()])
    return Case(draw.stored(arrays), draw.fresh(spec), {"mapping": ALL}, inputs, run(model, inputs))


@twin("one kernel of float64")
def _(draw):
    spec = families.conv_net(draw.rng)
    source = draw.model(spec)
    inputs, arrays = draw.inputs(source), arrays_of(source)
    arrays["c1/kernel"] = arrays["c1/kernel"].astype("float64") * (1 + 1e-9)
    return Case(draw.stored(arrays), draw.fresh(spec), {"mapping": ALL}, inputs, run(source, inputs), source)


@twin("head kept")
def _(draw):
    spec = draw.pick(families.conv_net, families.dense_net, families.attention_net)(draw.rng)
    head = spec.parts[-1].name
    source, target = draw.model(spec), draw.fresh(spec.change(head, units=draw.pick(2, 4, 10)))
    inputs = draw.inputs(source)
    answer = build(spec.change(head, units=target.get_layer(head).units))
    for layer in answer.layers:
        layer.set_weights((target if layer.name == head else source).get_layer(layer.name).get_weights())
    recipe = draw.pick(
        {"mapping": {"all": {"to": ".*", "except": head}, "h": {"to": head, "from": None}}, "ignore": [f"{head}/.*"]},
        {"mapping": {"all": {"to": ".*", "on_mismatch": "keep"}}, "ignore": [f"{head}/.*"]},
        {"mapping": {"all": {"to": ".*", "except": head}}, "unmatched": "keep", "ignore": [f"{head}/.*"]},
    )
    return Case(draw.saved(source), target, recipe, inputs, run(answer, inputs))


@twin("head kept, its source not listed under ignore")
def _(draw):
    spec = draw.pick(families.conv_net, families.dense_net)(draw.rng)
    head = spec.parts[-1].name
    source, target = draw.model(spec), draw.fresh(spec.change(head, units=draw.pick(2, 4, 10)))
    inputs = draw.inputs(source)
    answer = build(spec.change(head, units=target.get_layer(head).units))
    for layer in answer.layers:
        layer.set_weights((target if layer.name == head else source).get_layer(layer.name).get_weights())
    recipe = {"mapping": {"all": {"to": ".*", "except": head}}, "unmatched": "keep"}
    return Case(draw.saved(source), target, recipe, inputs, run(answer, inputs))


@twin("names that Keras counts up, one architecture built twice")
def _(draw):
    def build_unnamed(classes):
        keras.utils.clear_session(free_memory=False)
        x = start = keras.Input((8, 8, 3))
        for _ in range(depth):
            x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x))
        x = keras.layers.Dense(4, activation="tanh")(keras.layers.GlobalAveragePooling2D()(x))
        return keras.Model(start, keras.layers.Dense(classes)(x))

    depth, classes = draw.pick(2, 3, 11), draw.pick(3, 5)
    source, target, answer = fill(build_unnamed(3), draw.rng), build_unnamed(classes), build_unnamed(classes)
    inputs = draw.inputs(source)
    for ours, theirs, fresh in zip(answer.layers, source.layers, target.layers, strict=True):
        ours.set_weights((theirs if classes == 3 or ours.name != "dense_1" else fresh).get_weights())
    mapping = (
        ALL if classes == 3 else {"all": {"to": ".*", "except": "dense_1"}, "head": {"to": "dense_1", "from": None}}
    )
    recipe = {"mapping": mapping, "ignore": ["dense_1/.*"] if classes != 3 else []}
    return Case(
        draw.saved(source, (".keras", ".h5", ".weights.h5", "live")), target, recipe, inputs, run(answer, inputs)
    )


@twin("subclassed model with norms and a recurrent layer")
def _(draw):
    cell = draw.pick("GRU", "LSTM")

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.recurrent = getattr(keras.layers, cell)(4, name="recurrent", return_sequences=True)
            self.norm = draw_norm(name="norm")
            self.head = keras.layers.Dense(3, name="head")
            self(np.zeros((1, 5, 4), "f4"))

        def call(self, x):
            return self.head(self.norm(self.recurrent(x)))

    draw_norm = draw.pick(keras.layers.BatchNormalization, keras.layers.LayerNormalization)
    source, target = Net(), Net()
    fill(source, draw.rng)
    inputs = draw.rng.normal(size=(3, 5, 4)).astype("f4")
    path = draw.path(".weights.h5")
    source.save_weights(path)
    return Case(path, target, {"mapping": ALL}, inputs, run(source, inputs), source)


@twin("first layers only")
def _(draw):
    spec = families.dense_net(draw.rng, depth=4, norm=None)
    source, target = draw.model(spec), draw.fresh(spec)
    inputs = draw.inputs(source)
    answer = build(spec)
    for layer in answer.layers:
        layer.set_weights((source if layer.name in {"d0", "d1"} else target).get_layer(layer.name).get_weights())
    recipe = {"mapping": {"a": {"to": "d[01]"}}, "unmatched": "keep", "ignore": ["d[23]/.*", "top/.*"]}
    return Case(draw.saved(source), target, recipe, inputs, run(answer, inputs))


@twin("numbers shifted on both sides")
def _(draw):
    spec = families.dense_net(draw.rng, depth=5, norm=None)
    other = spec.rename(lambda n: f"layer_{int(n[1]) + 1}" if n[0] == "d" else "head")
    mapping = {"a": {"to": r"layer_(?P<i>\d)", "from": "d{i-1}"}, "b": {"to": "head", "from": "top"}}
    return both(draw, spec, other, mapping)


@twin("one source layer into several (fan-out)")
def _(draw):
    own = {"units": 5, "activation": "tanh"}
    parts = (Part("Dense", "d0", own), Part("Dense", "d1", own), Part("Dense", "d2", own))
    source = draw.model(Spec((5,), parts[:1]))
    target, inputs = draw.fresh(Spec((5,), parts)), draw.inputs(source)
    x = run(source, run(source, run(source, inputs)[0])[0])
    return Case(draw.saved(source), target, {"mapping": {"a": {"to": r"d\d", "from": "d0"}}}, inputs, x)


@twin("every second layer of a deeper model")
def _(draw):
    spec = families.dense_net(draw.rng, depth=5, norm=None)
    small = Spec(spec.shape, tuple(p for p in spec.parts if p.name in {"d0", "d1", "top"}))
    source = draw.model(spec)
    target, inputs = draw.fresh(small), draw.inputs(source)
    answer = build(small)
    for ours, theirs in {"d0": "d0", "d1": "d2", "top": "top"}.items():
        answer.get_layer(ours).set_weights(source.get_layer(theirs).get_weights())
    mapping = {"a": {"to": r"d(?P<i>[01])", "from": "d{2*i}"}, "b": {"to": "top"}}
    recipe = {"mapping": mapping, "ignore": ["d[134]/.*"]}
    return Case(draw.saved(source), target, recipe, inputs, run(answer, inputs))


@twin("by order, other names on both sides")
def _(draw):
    spec = families.dense_net(draw.rng, depth=4, norm=None)
    names = dict(zip([p.name for p in spec.parts], ["stem", "low", "middle", "high", "out"], strict=True))
    mapping = {"a": {"to": ".*", "from": ".*", "pair": "order"}}
    return both(draw, spec, spec.rename(names), mapping)


@twin("by order, names of one kind")
def _(draw):
    spec = draw.pick(families.conv_net, families.dense_net)(draw.rng, norm=None)
    other = spec.rename(lambda n: f"block{n[1]}_{n[0]}" if n[-1].isdigit() else n)
    mapping = {
        "a": {"to": r"block.*", "from": r"[cdb]\d", "pair": "order"},
        "b": {"to": "top" if "top" in [p.name for p in spec.parts] else "nothing"},
    }
    return both(draw, spec, other, mapping if "top" in [p.name for p in spec.parts] else {"a": mapping["a"]})


@twin("edits")
def _(draw):
    spec = families.dense_net(draw.rng, norm=None)
    source = draw.model(spec)
    inputs, answer = draw.inputs(source), build(spec)
    answer.set_weights(source.get_weights())
    kernel = np.copy(keras.ops.convert_to_numpy(answer.get_layer("d1").kernel))
    kernel[1, 2] = 0.5
    answer.get_layer("d1").kernel.assign(kernel)
    edit = {"e": {"at": "d1/kernel", "index": [1, 2], "set": 0.5}}
    return Case(draw.saved(source), draw.fresh(spec), {"mapping": ALL, "edit": edit}, inputs, run(answer, inputs))


@twin("edit of a model's own weights")
def _(draw):
    spec = families.dense_net(draw.rng, norm=None)
    target = draw.model(spec)
    inputs, answer = draw.inputs(target), build(spec)
    answer.set_weights(target.get_weights())
    bias = np.copy(keras.ops.convert_to_numpy(answer.get_layer("d1").bias))
    bias[0] = 2
    answer.get_layer("d1").bias.assign(bias)
    edit = {"e": {"at": "d1/bias", "index": [0], "set": 2}}
    return Case(None, target, {"unmatched": "keep", "edit": edit}, inputs, run(answer, inputs))


@twin("one layer zeroed by an edit")
def _(draw):
    spec = families.dense_net(draw.rng, norm=None)
    source = draw.model(spec)
    inputs, answer = draw.inputs(source), build(spec)
    answer.set_weights(source.get_weights())
    answer.get_layer("d1").bias.assign(np.zeros_like(answer.get_layer("d1").bias))
    edit = {"e": {"at": "d1/bias", "index": [":"], "set": 0}}
    return Case(draw.saved(source), draw.fresh(spec), {"mapping": ALL, "edit": edit}, inputs, run(answer, inputs))


@twin("mean of two models (soup)")
def _(draw):
    spec = families.dense_net(draw.rng)
    one = draw.model(spec)
    other = build(spec)
    other.set_weights([w * 1.01 for w in one.get_weights()])
    inputs, answer = draw.inputs(one), build(spec)
    answer.set_weights([(a + b) / 2 for a, b in zip(one.get_weights(), other.get_weights(), strict=True)])
    mapping = {"all": {"to": "(.*)", "from": [r"a:\1", r"b:\1"], "merge": "mean"}}
    sources = {"a": draw.saved(one, (".keras",)), "b": draw.saved(other, (".h5",))}
    return Case(sources, draw.fresh(spec), {"mapping": mapping}, inputs, run(answer, inputs))


@twin("dropout and other layers of training differ")
def _(draw):
    spec = families.dense_net(draw.rng)
    more = Spec(spec.shape, (*spec.parts[:1], Part("Dropout", "drop", {"rate": 0.5}), *spec.parts[1:]))
    noise = Spec(spec.shape, (Part("GaussianNoise", "noise", {"stddev": 0.1}), *spec.parts))
    return both(draw, *draw.pick((spec, more), (more, spec), (spec, noise)), ALL)


@twin("activation as a layer of its own")
def _(draw):
    inside = Spec((5,), (Part("Dense", "d0", {"units": 5, "activation": "tanh"}), Part("Dense", "d1", {"units": 3})))
    outside = Spec(
        (5,), (Part("Dense", "d0", {"units": 5}), Part("Activation", "act", {"activation": "tanh"}), inside.parts[1])
    )
    return both(draw, *draw.pick((inside, outside), (outside, inside)), ALL)


@twin("ReLU under its several names")
def _(draw):
    def spec(*act):
        return Spec((5,), (Part("Dense", "d0", {"units": 5}), *act, Part("Dense", "d1", {"units": 3})))

    forms = spec(Part("ReLU", "a")), spec(Part("Activation", "a", {"activation": "relu"}))
    return both(draw, *draw.pick(forms, forms[::-1]), ALL)


@twin("initializers, regularizers, momentum of training")
def _(draw):
    spec = Spec(
        (5,), (Part("Dense", "d0", {"units": 5}), Part("BatchNormalization", "n"), Part("Dense", "d1", {"units": 3}))
    )
    other = spec.change("d0", kernel_initializer="he_normal", kernel_regularizer="l2", bias_constraint="non_neg")
    return both(draw, *draw.pick((spec, other), (other, spec)), ALL)


@twin("unrolled, or with another implementation")
def _(draw):
    spec = families.recurrent_net(draw.rng, draw.pick("LSTM", "GRU"))
    return both(
        draw, spec, spec.change("r", **draw.pick({"unroll": True}, {"dropout": 0.2}, {"recurrent_dropout": 0.1})), ALL
    )


@twin("another size of image")
def _(draw):
    spec = families.conv_net(draw.rng, size=8)
    target = Spec((16, 12, 3), spec.parts)
    source, model = draw.model(spec), build(target)
    model.set_weights(source.get_weights())
    inputs = draw.inputs(model)
    return Case(draw.saved(source), draw.fresh(target), {"mapping": ALL}, inputs, run(model, inputs))


@twin("strides and sizes written as numbers or tuples")
def _(draw):
    spec = families.conv_net(draw.rng, strides=1)
    return both(draw, spec, spec.change("c0", strides=(1, 1), kernel_size=[3, 3], dilation_rate=(1, 1)), ALL)


@twin("Dense subclass")
def _(draw):
    class Mine(keras.layers.Dense):
        pass

    spec = families.dense_net(draw.rng, depth=2, norm=None)
    source = draw.model(spec)
    inputs = draw.inputs(source)
    start = keras.Input(spec.shape)
    x = start
    for part in spec.parts:
        x = Mine(name=part.name, **part.settings)(x)
    return Case(draw.saved(source), keras.Model(start, x), {"mapping": ALL}, inputs, run(source, inputs))


@twin("mixed precision target")
def _(draw):
    spec = families.dense_net(draw.rng, norm=None)
    source = draw.model(spec)
    inputs = draw.inputs(source)
    mixed = Spec(spec.shape, tuple(Part(p.layer, p.name, {**p.settings, "dtype": "mixed_float16"}) for p in spec.parts))
    answer = build(mixed)
    answer.set_weights(source.get_weights())
    return Case(draw.saved(source), draw.fresh(mixed), {"mapping": ALL}, inputs, run(answer, inputs))


@twin("zero biases, as after training without them")
def _(draw):
    spec = families.conv_net(draw.rng, norm=True)
    source = draw.model(spec)
    for layer in source.layers:
        if hasattr(layer, "bias") and layer.weights and layer.name == "c1":
            layer.bias.assign(np.zeros(layer.bias.shape))
    inputs = draw.inputs(source)
    return Case(draw.saved(source), draw.fresh(spec), {"mapping": ALL}, inputs, run(source, inputs), source)


@twin("kernels of very different spreads, as trained with weight decay")
def _(draw):
    spec = families.conv_net(draw.rng, norm=True)
    source = draw.model(spec)
    for layer in source.layers:
        if layer.weights and hasattr(layer, "kernel"):
            layer.kernel.assign(np.asarray(layer.kernel) * draw.rng.uniform(0.15, 4))
    inputs = draw.inputs(source)
    return Case(draw.saved(source), draw.fresh(spec), {"mapping": ALL}, inputs, run(source, inputs), source)


@twin("pruned: most of every kernel is zero")
def _(draw):
    spec = families.dense_net(draw.rng, norm=None)
    source = draw.model(spec)
    for layer in source.layers:
        if layer.weights:
            layer.kernel.assign(np.asarray(layer.kernel) * (draw.rng.random(layer.kernel.shape) < 0.4))
    inputs = draw.inputs(source)
    return Case(draw.saved(source), draw.fresh(spec), {"mapping": ALL}, inputs, run(source, inputs), source)


@twin("shared layer")
def _(draw):
    start = keras.Input((5,))
    shared, top = keras.layers.Dense(5, activation="tanh", name="shared"), keras.layers.Dense(3, name="top")

    def net(shared, top, start):
        return keras.Model(start, top(shared(shared(start))))

    source = fill(net(shared, top, start), draw.rng)
    again = keras.Input((5,))
    target = net(keras.layers.Dense(5, activation="tanh", name="shared"), keras.layers.Dense(3, name="top"), again)
    inputs = draw.inputs(source)
    return Case(draw.saved(source), target, {"mapping": ALL}, inputs, run(source, inputs), source)


@twin("subclassed model")
def _(draw):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.body = keras.Sequential(
                [keras.layers.Dense(5, activation="relu", name="a"), keras.layers.Dense(4, name="b")]
            )
            self.head = keras.layers.Dense(3, name="head")
            self(np.zeros((1, 5), "f4"))

        def call(self, x):
            return self.head(self.body(x))

    source, target = Net(), Net()
    fill(source, draw.rng)
    inputs = draw.rng.normal(size=(3, 5)).astype("f4")
    path = draw.path(".weights.h5")
    source.save_weights(path)
    return Case(draw.pick(path, source), target, {"mapping": ALL}, inputs, run(source, inputs), source)


def _torch(draw, net, spec, shape, mapping=None):
    inputs = draw.rng.normal(size=(3, *shape)).astype("f4")
    recipe = {"mapping": mapping or ALL}
    return Case(stored(draw, net), draw.fresh(spec), recipe, inputs, forward(net, inputs), None, state(net))


@twin("torch: convolutions and BatchNorm", "torch")
def _(draw):
    from torch import nn

    net = torch_net(
        draw, ("c", nn.Conv2d(3, 4, 3, 1, 1)), ("n", nn.BatchNorm2d(4)), ("a", nn.ReLU()), ("d", nn.Conv2d(4, 5, 3))
    )
    parts = (
        Part("Conv2D", "c", {"filters": 4, "kernel_size": 3, "padding": "same"}),
        Part("BatchNormalization", "n", {"epsilon": 1e-5}),
        Part("ReLU", "a"),
        Part("Conv2D", "d", {"filters": 5, "kernel_size": 3}),
    )
    return _torch(draw, net, Spec((8, 8, 3), parts), (8, 8, 3))


@twin("torch: strided with ZeroPadding, pooled", "torch")
def _(draw):
    from torch import nn

    net = torch_net(
        draw, ("c", nn.Conv2d(3, 4, 3, 2, 1)), ("a", nn.ReLU()), ("p", nn.MaxPool2d(2)), ("d", nn.Conv2d(4, 5, 1))
    )
    parts = (
        Part("ZeroPadding2D", "pad"),
        Part("Conv2D", "c", {"filters": 4, "kernel_size": 3, "strides": 2, "activation": "relu"}),
        Part("MaxPooling2D", "pool"),
        Part("Conv2D", "d", {"filters": 5, "kernel_size": 1}),
    )
    return _torch(draw, net, Spec((8, 8, 3), parts), (8, 8, 3))


@twin("torch: Linear and LayerNorm", "torch")
def _(draw):
    from torch import nn

    eps = draw.pick(1e-5, 1e-12, 1e-6)
    net = torch_net(
        draw,
        ("d", nn.Linear(5, 5)),
        ("n", nn.LayerNorm(5, eps=eps)),
        ("a", nn.GELU(approximate="none")),
        ("e", nn.Linear(5, 3)),
    )
    parts = (
        Part("Dense", "d", {"units": 5}),
        Part("LayerNormalization", "n", {"epsilon": eps}),
        Part("Activation", "a", {"activation": "gelu"}),
        Part("Dense", "e", {"units": 3}),
    )
    return _torch(draw, net, Spec((5,), parts), (5,))


@twin("torch: LSTM or GRU", "torch")
def _(draw):
    from torch import nn

    layer = draw.pick("LSTM", "GRU")
    net = torch_net(draw, ("r", getattr(nn, layer)(4, 3, batch_first=True)))
    return _torch(draw, net, Spec((5, 4), (Part(layer, "r", {"units": 3, "return_sequences": True}),)), (5, 4))


@twin("torch: rows of a Dense behind Flatten reordered", "torch")
def _(draw):
    from torch import nn

    net = torch_net(draw, ("c", nn.Conv2d(3, 4, 3)), ("f", nn.Flatten()), ("fc", nn.Linear(64, 5)))
    parts = (
        Part("Conv2D", "c", {"filters": 4, "kernel_size": 3}),
        Part("Flatten", "f"),
        Part("Dense", "fc", {"units": 5}),
    )
    mapping = {"c": {"to": "c"}, "fc": {"to": "fc", "transform": {"kernel": [{"flatten_order": [4, 4, 4]}]}}}
    return _torch(draw, net, Spec((6, 6, 3), parts), (6, 6, 3), mapping)


@twin("torch: ResNet's blocks renamed by regex", "torch")
def _(draw):
    import torch
    from torch import nn

    width = draw.pick(3, 4)

    class Block(nn.Module):
        def __init__(self, down):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
            if down:
                self.downsample = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width))

        def forward(self, x):
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            return torch.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))

    net = torch_net(draw, ("layer1", nn.Sequential(Block(True), Block(False))))
    parts, last = [], "in"
    for i in range(2):
        n, own = f"stage1_{i}_", {"filters": width, "kernel_size": 3, "padding": "same", "use_bias": False}
        parts += [
            Part("Conv2D", f"{n}conv1", own, (last,)),
            Part("BatchNormalization", f"{n}bn1", {"epsilon": 1e-5}, (f"{n}conv1",)),
            Part("ReLU", f"{n}relu", {}, (f"{n}bn1",)),
            Part("Conv2D", f"{n}conv2", own, (f"{n}relu",)),
            Part("BatchNormalization", f"{n}bn2", {"epsilon": 1e-5}, (f"{n}conv2",)),
        ]
        short = last
        if not i:
            parts.append(Part("Conv2D", f"{n}down", {**own, "kernel_size": 1}, (last,)))
            parts.append(Part("BatchNormalization", f"{n}down_bn", {"epsilon": 1e-5}, (f"{n}down",)))
            short = f"{n}down_bn"
        parts += [Part("Add", f"{n}add", {}, (f"{n}bn2", short)), Part("ReLU", f"{n}out", {}, (f"{n}add",))]
        last = f"{n}out"
    mapping = {
        "m": {"to": r"stage1_(\d)_((?:conv|bn)\d)", "from": r"layer1/\1/\2"},
        "d": {"to": r"stage1_(\d)_down", "from": r"layer1/\1/downsample/0"},
        "n": {"to": r"stage1_(\d)_down_bn", "from": r"layer1/\1/downsample/1"},
    }
    return _torch(draw, net, Spec((6, 6, width), tuple(parts)), (6, 6, width), mapping)


@twin("torch: depthwise and transposed convolutions", "torch")
def _(draw):
    from torch import nn

    net = torch_net(
        draw, ("dw", nn.Conv2d(4, 4, 3, groups=4)), ("a", nn.ReLU()), ("up", nn.ConvTranspose2d(4, 3, 2, 2))
    )
    parts = (
        Part("DepthwiseConv2D", "dw", {"kernel_size": 3, "activation": "relu"}),
        Part("Conv2DTranspose", "up", {"filters": 3, "kernel_size": 2, "strides": 2}),
    )
    return _torch(draw, net, Spec((6, 6, 4), parts), (6, 6, 4))


@twin("arrays with torch's axes turned by rules", "rules")
def _(draw):
    spec = families.conv_net(draw.rng, norm=False)
    source = draw.model(spec)
    inputs, arrays = draw.inputs(source), arrays_of(source)
    turned = {k: v.transpose(3, 2, 0, 1) if v.ndim == 4 else v.T for k, v in arrays.items()}
    mapping = {
        "c": {"to": r"c\d", "transform": {"kernel": [{"transpose": [2, 3, 1, 0]}]}},
        "d": {"to": r"d\d", "transform": {"kernel": [{"transpose": [1, 0]}]}},
    }
    return Case(draw.stored(turned), draw.fresh(spec), {"mapping": mapping}, inputs, run(source, inputs))


@twin("legacy file of Keras 2.11", "keras 2")
def _(draw):
    from .kinds_settings import legacy

    own = {"filters": 4, "kernel_size": 3, "activation": "relu"}
    parts = (Part("Conv2D", "c0", own), Part("BatchNormalization", "n"), Part("GlobalAveragePooling2D", "gap"))
    spec = Spec((8, 8, 3), (*parts, Part("Dense", "top", {"units": 3})))
    source = draw.model(spec)
    inputs = draw.inputs(source)
    values = {x.name: {w.path.rsplit("/", 1)[-1]: np.asarray(w) for w in x.weights} for x in source.layers}
    listed = [(p.layer, {"name": p.name, **p.settings}) for p in spec.parts]
    path = legacy(
        draw.path(".h5"),
        listed,
        values,
        keras_version=draw.pick("2.11.0", "2.3.1", "2.2.4"),
        shape=(8, 8, 3),
        config=draw.pick(True, False),
    )
    return Case(path, draw.fresh(spec), {"mapping": ALL}, inputs, run(source, inputs), source)


SMALL = {"weights": None, "include_top": False, "input_shape": [64, 64, 3]}
APPLICATIONS = {
    "MobileNetV2": ("mobilenetv2_0.35_96", {**SMALL, "alpha": 0.35, "input_shape": [96, 96, 3]}),
    "MobileNet": ("mobilenet_0.25_128", {**SMALL, "alpha": 0.25, "input_shape": [128, 128, 3]}),
    "MobileNetV3Small": ("MobileNetV3Small", SMALL),
    "EfficientNetB0": ("efficientnetb0", SMALL),
    "ResNet50": ("resnet50", SMALL),
    "ResNet50V2": ("resnet50v2", SMALL),
    "VGG16": ("vgg16", SMALL),
    "DenseNet121": ("densenet121", SMALL),
    "InceptionV3": ("inception_v3", {**SMALL, "input_shape": [96, 96, 3]}),
    "Xception": ("xception", {**SMALL, "input_shape": [96, 96, 3]}),
    "ConvNeXtTiny": ("convnext_tiny", SMALL),
}


def application(name, form):
    """Enter a twin: one of Keras's applications into itself, or into a model that holds it; planned only."""

    @twin(f"keras.applications.{name}, {form} (plan)", "applications")
    def make(draw):
        called, settings = APPLICATIONS[name]
        net = {"_target_": f"keras.applications.{name}", **settings}
        if form == "itself":
            return Case(net, net, {"mapping": ALL})
        root = {"_target_": "transferpipe.zoo.nested_classifier", "backbone": net, "classes": 3}
        mapping = {"b": {"to": rf"{called}/(.*)", "from": r"\1"}, "h": {"to": "predictions", "from": None}}
        return Case(net, root, {"mapping": mapping, "freeze": [called]})


for _name in APPLICATIONS:
    for _form in ("itself", "nested"):
        application(_name, _form)
