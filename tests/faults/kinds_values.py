"""Faults of values: something happened to the file on its way here."""

import warnings

import numpy as np

from .families import conv_net, dense_net
from .kinds import ALL, Case, Pair, fault, in_file, same_shapes
from .specs import Part, Spec, build, fill, run


def damaged(name, seen, family=conv_net, *, group="values", suffix=None, **options):
    """Enter a kind: `damage(draw, arrays, a, b)` is done to the arrays, where a and b are layers of one shape."""

    def enter(damage):
        @fault(name, group, seen)
        def make(draw):
            def done(arrays):
                a, b = same_shapes(draw, arrays)
                return damage(draw, arrays, a, b)

            return in_file(draw, family(draw.rng, **options), done, suffix=suffix)

        return damage

    return enter


def _swap(arrays, a, b):
    arrays[a], arrays[b] = arrays[b], arrays[a]
    return arrays


def _norm(draw, arrays):
    return draw.pick(*sorted(k.rsplit("/", 1)[0] for k in arrays if k.endswith("gamma")))


@damaged("two same-shape layers' values swapped in the file", "forward")
def _(draw, arrays, a, b):
    for leaf in ("kernel", "bias"):
        _swap(arrays, f"{a}/{leaf}", f"{b}/{leaf}")
    return arrays


@damaged("square kernel transposed in the file", "forward")
def _(draw, arrays, a, b):
    arrays[f"{a}/kernel"] = np.swapaxes(arrays[f"{a}/kernel"], -1, -2)
    return arrays


@damaged("output channels of one kernel reversed", "forward")
def _(draw, arrays, a, b):
    arrays[f"{a}/kernel"] = arrays[f"{a}/kernel"][..., ::-1]
    return arrays


@damaged("sign of one kernel", "forward")
def _(draw, arrays, a, b):
    arrays[f"{a}/kernel"] = -arrays[f"{a}/kernel"]
    return arrays


@damaged("kernel int8", "values")
def _(draw, arrays, a, b):
    arrays[f"{a}/kernel"] = (arrays[f"{a}/kernel"] * 100).astype("int8")
    return arrays


@damaged("BatchNormalization mean and variance exchanged", "values", norm=True)
def _(draw, arrays, a, b):
    n = _norm(draw, arrays)
    return _swap(arrays, f"{n}/moving_mean", f"{n}/moving_variance")


@damaged("BatchNormalization gamma and beta exchanged", "forward", norm=True)
def _(draw, arrays, a, b):
    n = _norm(draw, arrays)
    return _swap(arrays, f"{n}/gamma", f"{n}/beta")


@damaged("BatchNormalization gamma and variance exchanged", "forward", norm=True)
def _(draw, arrays, a, b):
    n = _norm(draw, arrays)
    return _swap(arrays, f"{n}/gamma", f"{n}/moving_variance")


@damaged("one BatchNormalization with reset statistics", "values", norm=True)
def _(draw, arrays, a, b):
    n = _norm(draw, arrays)
    arrays[f"{n}/moving_mean"] = np.zeros_like(arrays[f"{n}/moving_mean"])
    arrays[f"{n}/moving_variance"] = np.ones_like(arrays[f"{n}/moving_variance"])
    return arrays


@damaged("one kernel all zero", "values")
def _(draw, arrays, a, b):
    arrays[f"{a}/kernel"] = np.zeros_like(arrays[f"{a}/kernel"])
    return arrays


@damaged("one kernel constant", "values")
def _(draw, arrays, a, b):
    arrays[f"{a}/kernel"] = np.full_like(arrays[f"{a}/kernel"], draw.pick(0.1, -0.5, 1.0))
    return arrays


@damaged("one layer holds a copy of another", "values")
def _(draw, arrays, a, b):
    for leaf in ("kernel", "bias"):
        arrays[f"{a}/{leaf}"] = arrays[f"{b}/{leaf}"].copy()
    return arrays


def _one(arrays, name, value):
    arrays[name] = arrays[name].copy()
    arrays[name].flat[1] = value
    return arrays


@damaged("one NaN", "values")
def _(draw, arrays, a, b):
    return _one(arrays, f"{a}/kernel", np.nan)


@damaged("one infinity", "values")
def _(draw, arrays, a, b):
    return _one(arrays, f"{a}/bias", draw.pick(np.inf, -np.inf))


@damaged("one negative variance", "values", norm=True)
def _(draw, arrays, a, b):
    return _one(arrays, f"{_norm(draw, arrays)}/moving_variance", -0.3)


@damaged("one kernel times 1e6", "values")
def _(draw, arrays, a, b):
    arrays[f"{a}/kernel"] = arrays[f"{a}/kernel"] * np.float32(draw.pick(1e6, 1e4))
    return arrays


@damaged("one kernel divided by 1e4", "values")
def _(draw, arrays, a, b):
    arrays[f"{a}/kernel"] = arrays[f"{a}/kernel"] / np.float32(1e4)
    return arrays


@damaged("one exponent bit flipped", "values")
def _(draw, arrays, a, b):
    values = arrays[f"{a}/kernel"].copy()
    bits = values.reshape(-1).view("uint32")
    i = int(draw.rng.integers(bits.size))
    bits[i] ^= np.uint32(1 << 30)  # small numbers become larger than 1e30
    arrays[f"{a}/kernel"] = values
    return arrays


@damaged("bias one longer", "shapes")
def _(draw, arrays, a, b):
    arrays[f"{a}/bias"] = np.append(arrays[f"{a}/bias"], 0).astype("float32")
    return arrays


@damaged("whole file untrained", "values", norm=True)
def _(draw, arrays, a, b):
    fresh = {"gamma": 1, "moving_variance": 1}
    found = {}
    for k, v in arrays.items():
        own = k.rsplit("/", 1)[1]
        found[k] = (
            draw.rng.normal(size=v.shape) * 0.1 if own == "kernel" else np.full(v.shape, fresh.get(own, 0))
        ).astype("f4")
    return found


@damaged("half of one kernel zero (file cut short)", "values")
def _(draw, arrays, a, b):
    values = arrays[f"{a}/kernel"].copy()
    values.reshape(-1)[values.size // 2 :] = 0
    arrays[f"{a}/kernel"] = values
    return arrays


def by_rule(name, seen, rule):
    """Enter a kind: a rule of its own for one layer does something that is not needed."""

    @fault(name, "rules", seen)
    def make(draw):
        layers = ("Conv2D", "Dense")
        spec = draw.pick(conv_net, dense_net)(draw.rng)
        model = build(spec)
        square = [
            x.name for x in model.layers if type(x).__name__ in layers and x.kernel.shape[-1] == x.kernel.shape[-2]
        ]
        a = draw.pick(*square)
        own = {"to": a, "transform": {"kernel": rule(draw, len(model.get_layer(a).kernel.shape))}}
        recipe = {"mapping": {"all": {"to": ".*", "except": a}, "x": own}}
        return in_file(draw, spec, lambda arrays: arrays, recipe)


by_rule(
    "needless transpose of a square kernel in the rule",
    "names",
    lambda draw, n: [{"transpose": [1, 0] if n == 2 else [0, 1, 3, 2]}],
)


@fault("torch's kernel with axes reversed by the rule", "rules", "names")
def _(draw):
    own = {"filters": draw.pick(4, 5), "kernel_size": 3, "activation": "tanh"}
    parts = (Part("Conv2D", "c0", own), Part("GlobalAveragePooling2D", "gap"), Part("Dense", "top", {"units": 3}))
    spec = Spec((6, 6, 3), parts)
    source = draw.model(spec)
    inputs = draw.inputs(source)
    kernel, bias = source.get_layer("c0").get_weights()
    top = source.get_layer("top").get_weights()
    arrays = {"c0/kernel": kernel.transpose(3, 2, 0, 1), "c0/bias": bias, "top/kernel": top[0], "top/bias": top[1]}
    path = draw.stored(arrays)

    def case(order):
        mapping = {
            "all": {"to": ".*", "transform": {"kernel": [{"transpose": order}]}, "except": "top"},
            "top": {"to": "top"},
        }
        return Case(path, draw.fresh(spec), {"mapping": mapping}, inputs, run(source, inputs))

    return Pair(case([3, 2, 1, 0]), case([2, 3, 1, 0]))


@fault("kernel of (out, in, height, width) taken without a layout", "rules", "names")
def _(draw):
    own = {"filters": 3, "kernel_size": 3, "activation": "tanh"}
    parts = (Part("Conv2D", "c0", own), Part("GlobalAveragePooling2D", "gap"), Part("Dense", "top", {"units": 3}))
    spec = Spec((6, 6, 3), parts)  # every axis is 3 long
    source = draw.model(spec)
    inputs = draw.inputs(source)
    kernel, bias = source.get_layer("c0").get_weights()
    top = source.get_layer("top").get_weights()
    arrays = {"c0.weight": kernel.transpose(3, 2, 0, 1), "c0.bias": bias, "top.weight": top[0].T, "top.bias": top[1]}
    mapping = {"k": {"to": "(.*)/kernel", "from": r"\1/weight"}, "b": {"to": "(.*)/bias", "from": r"\1/bias"}}
    wrong = Case(
        {"path": draw.stored(arrays), "layout": "keras"},
        draw.fresh(spec),
        {"mapping": mapping},
        inputs,
        run(source, inputs),
        None,
        arrays,
    )
    return Pair(
        wrong,
        Case(
            {"path": draw.stored(arrays), "layout": "torch"}, draw.fresh(spec), {"mapping": ALL}, inputs, wrong.expected
        ),
    )


def _into_half(draw, change):
    spec = dense_net(draw.rng, norm=None)
    source = fill(build(spec), draw.rng)
    kernel = source.get_layer("d1").kernel
    kernel.assign(change(np.asarray(kernel)))
    inputs = draw.inputs(source)
    half = Spec(spec.shape, tuple(Part(p.layer, p.name, {**p.settings, "dtype": "float16"}) for p in spec.parts))
    return Pair(Case(draw.saved(source), draw.fresh(half), {"mapping": ALL}, inputs, run(source, inputs), source))


@fault("cast to float16 overflows", "casts", "values")
def _(draw):
    def change(kernel):
        kernel.flat[0] = 1e5
        return kernel

    return _into_half(draw, lambda k: change(k.copy()))


@fault("cast to float16 gives zeros", "casts", "values")
def _(draw):
    spec = dense_net(draw.rng, depth=3, norm="LayerNormalization")
    spec = Spec(
        spec.shape,
        tuple(
            Part(p.layer, p.name, {**p.settings, "epsilon": 1e-30} if p.layer == "LayerNormalization" else p.settings)
            for p in spec.parts
        ),
    )
    source = fill(build(spec), draw.rng)
    layer = source.get_layer("d2")
    layer.set_weights([np.asarray(layer.kernel) * 1e-9, np.asarray(layer.bias) * 0])
    inputs = draw.inputs(source)
    half = Spec(
        spec.shape,
        tuple(
            Part(p.layer, p.name, {**p.settings, **({"dtype": "float16"} if p.name == "d2" else {})})
            for p in spec.parts
        ),
    )
    return Pair(Case(draw.saved(source), draw.fresh(half), {"mapping": ALL}, inputs, run(source, inputs), source))


@fault("float kernel into a quantised layer", "casts", "values")
def _(draw):
    spec = dense_net(draw.rng, norm=None)
    source = fill(build(spec), draw.rng)
    inputs = draw.inputs(source)
    target = draw.fresh(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of its own input layer
        target.quantize("int8")
    mapping = {
        "k": {"to": "(.*)/kernel", "transform": [{"cast": "int8"}]},
        "b": {"to": "(.*)/bias"},
        "s": {"to": "(.*)/kernel_scale", "from": None},
    }
    recipe = draw.pick({"mapping": ALL}, {"mapping": mapping}, {"mapping": mapping})
    return Pair(Case(draw.saved(source), target, recipe, inputs, run(source, inputs), source))


@fault("merge of two unrelated models", "rules", "forward")
def _(draw):
    spec = dense_net(draw.rng)
    one, other = draw.model(spec), draw.model(spec)
    inputs = draw.inputs(one)
    mapping = {"all": {"to": "(.*)", "from": [r"a:\1", r"b:\1"], "merge": "mean"}}
    case = Case(
        {"a": draw.saved(one, (".keras",)), "b": draw.saved(other, (".keras",))},
        draw.fresh(spec),
        {"mapping": mapping},
        inputs,
        run(one, inputs),
    )
    return Pair(case)
