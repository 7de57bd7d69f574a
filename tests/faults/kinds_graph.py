"""Faults of pairing and of connections: each weight has the right shape and goes to the wrong place, or is used there."""

import keras

from .families import (
    attention_net,
    both_ways,
    conv_net,
    dense_net,
    own_attention,
    residual_net,
    two_branches,
)
from .kinds import ALL, Case, Pair, between, fault, in_file, layers_of, same_shapes
from .specs import Part, Spec, arrays_of, run


def crossed_rules(a, b, to=lambda n: n, kept=".*"):
    """Return a mapping that crosses two layers by explicit rules and pairs all others by `to`."""
    rest = {"to": kept, "except": f"{a}|{b}"}
    return {"all": rest, "x": {"to": a, "from": to(b)}, "y": {"to": b, "from": to(a)}}


def crossing(draw, spec, a, b):
    """Return the pair whose mapping crosses two layers of one model, and that whose mapping does not."""
    pair = between(draw, spec, spec, {"mapping": crossed_rules(a, b)})
    straight = {"all": {"to": ".*", "except": f"{a}|{b}"}, "x": {"to": a}, "y": {"to": b}}
    right = Case(pair.wrong.source, pair.right.target, {"mapping": straight}, pair.wrong.inputs, pair.wrong.expected)
    return Pair(pair.wrong, right)


@fault("rule crosses two same-shape layers by name", "crossings", "names")
def _(draw):
    spec = draw.pick(conv_net, dense_net)(draw.rng)
    a, b = same_shapes(draw, arrays_of(draw.fresh(spec)))
    return crossing(draw, spec, a, b)


@fault("query and key crossed by rules", "crossings", "names")
def _(draw):
    return crossing(draw, own_attention(draw.rng), *draw.pick(("query", "key"), ("key", "value"), ("query", "value")))


@fault("q_proj and k_proj crossed by rules", "crossings", "names")
def _(draw):
    width = draw.pick(4, 6)
    ours = own_attention(draw.rng, "q_proj", "k_proj", "v_proj", width=width)
    theirs = own_attention(draw.rng, width=width)
    mapping = {"q": {"to": "query", "from": "k_proj"}, "k": {"to": "key", "from": "q_proj"}}
    mapping |= {"v": {"to": "value", "from": "v_proj"}, "t": {"to": "top"}}
    return renamed(draw, ours, theirs, mapping, names={"query": "q_proj", "key": "k_proj", "value": "v_proj"})


def renamed(draw, ours, theirs, wrong, *, names, kinds=(".keras", ".h5", "live")):
    """Return the pair of a mapping between two models of other names, and of the one that `names` gives."""
    source = draw.model(ours)
    inputs, saved = draw.inputs(source), draw.saved(source, kinds)
    expected = run(source, inputs)
    trained = [x.name for x in draw.fresh(theirs).layers if x.weights]
    right = {f"r{i}": {"to": n, "from": names.get(n, n)} for i, n in enumerate(trained)}
    case = Case(saved, draw.fresh(theirs), {"mapping": wrong}, inputs, expected, source)
    return Pair(case, Case(saved, draw.fresh(theirs), {"mapping": right}, inputs, expected))


@fault("query and key inside MultiHeadAttention crossed", "crossings", "names")
def _(draw):
    spec = attention_net(draw.rng)
    a, b = draw.pick(("query", "key"), ("key", "value"))
    mapping = {
        "all": {"to": ".*", "except": f"att/({a}|{b})"},
        "x": {"to": f"att/{a}", "from": f"att/{b}"},
        "y": {"to": f"att/{b}", "from": f"att/{a}"},
    }
    return between(draw, spec, spec, {"mapping": mapping})


def by_order(draw, prefix, nested, rename):
    """A file in the order query, key, value into a model whose graph lists query, value, key, taken by order."""
    spec = own_attention(draw.rng)
    source = draw.model(spec)
    arrays, inputs = arrays_of(source), draw.inputs(source)
    expected = run(source, inputs)
    names = {n: f"{prefix}{rename(n)}" for n in ("query", "key", "value")}
    path = draw.stored({f"{t}/{w}": arrays[f"{n}/{w}"] for n, t in names.items() for w in ("kernel", "bias")}
                       | {f"top/{w}": arrays[f"top/{w}"] for w in ("kernel", "bias")}, ".npz")  # fmt: skip
    target_spec, ours = spec, {n: n for n in names}
    if nested:
        inner = Spec(spec.shape, spec.parts[:-2])
        tail = (Part("GlobalAveragePooling1D", "gap"), Part("Dense", "top", {"units": 3}))
        target_spec = Spec(spec.shape, (Part("Nested", "block_b", {"spec": inner}), *tail))
        ours = {n: f"block_b/{n}" for n in names}
    everything = {
        "o": {"to": "|".join(ours.values()), "from": "|".join(names.values()), "pair": "order"},
        "t": {"to": "top"},
    }
    right = {**{n: {"to": ours[n], "from": names[n]} for n in names}, "t": {"to": "top"}}
    case = Case({"path": path, "layout": "keras"}, draw.fresh(target_spec), {"mapping": everything}, inputs, expected)
    return Pair(case, Case(case.source, draw.fresh(target_spec), {"mapping": right}, inputs, expected))


@fault("query and key crossed by order", "crossings", "names")
def _(draw):
    return by_order(draw, draw.pick("", "self_attn/"), False, draw.pick(lambda n: n, lambda n: f"{n[0]}_proj"))


@fault("query and key of nested blocks crossed by order", "crossings", "names")
def _(draw):
    return by_order(draw, "block_a/", True, draw.pick(lambda n: n, lambda n: f"{n}_dense"))


@fault("forward and backward crossed", "crossings", "names")
def _(draw):
    spec = both_ways(draw.rng)
    names = sorted({w.path.split("/")[1] for w in draw.fresh(spec).get_layer("bi").weights})
    ours = next(n for n in names if n.startswith("forward"))
    theirs = next(n for n in names if n.startswith("backward"))
    mapping = {
        "t": {"to": "top"},
        "f": {"to": f"bi/{ours}(.*)", "from": rf"bi/{theirs}\1"},
        "b": {"to": f"bi/{theirs}(.*)", "from": rf"bi/{ours}\1"},
    }
    return between(draw, spec, spec, {"mapping": mapping})


def _other_names(spec):
    return spec.rename(lambda n: n.replace("s0", "stage_a").replace("s1", "stage_b").replace("s2", "stage_c"))


def _torch_block(spec):
    """Return the names of a residual network's layers in the way of torch, in the order of torch's definition."""
    names = {"stem": "stem", "top": "head"}
    blocks = sorted({p.name[:2] for p in spec.parts if p.name.startswith("s") and p.name[1].isdigit()})
    for i, k in enumerate(blocks):
        base = f"layer{i + 1}/0"
        names |= {f"{k}_1_conv": f"{base}/conv1", f"{k}_1_bn": f"{base}/bn1", f"{k}_2_conv": f"{base}/conv2"}
        names |= {
            f"{k}_2_bn": f"{base}/bn2",
            f"{k}_0_conv": f"{base}/downsample/0",
            f"{k}_0_bn": f"{base}/downsample/1",
        }
    return names


def _as_file(draw, spec, source):
    """Store a residual network under torch-like names in torch's order, with Keras's axes."""
    names, arrays = _torch_block(spec), arrays_of(source)
    ordered = {
        f"{theirs}/{k.rsplit('/', 1)[1]}": v
        for ours, theirs in names.items()
        for k, v in arrays.items()
        if k.rsplit("/", 1)[0] == ours
    }
    return draw.stored(ordered, ".npz"), names, ordered


@fault("shortcut and main path crossed by order", "crossings", "graph")
def _(draw):
    spec = residual_net(draw.rng, blocks=draw.pick(1, 2), conv=draw.pick(True, False))
    source = draw.model(spec)
    path, names, _ = _as_file(draw, spec, source)
    inputs = draw.inputs(source)
    convs = {f"c{i}": {"to": n, "from": names[n]} for i, n in enumerate(names) if not n.endswith("_bn")}
    mapping = {**convs, "n": {"to": r"s\d_\d_bn", "from": r"layer.*/bn\d|.*/downsample/1", "pair": "order"}}
    right = {**convs, **{f"n{i}": {"to": n, "from": names[n]} for i, n in enumerate(names) if n.endswith("_bn")}}
    case = Case(
        {"path": path, "layout": "keras"},
        draw.fresh(spec),
        {"mapping": mapping},
        inputs,
        run(source, inputs),
        None,
        None,
    )
    return Pair(case, Case(case.source, draw.fresh(spec), {"mapping": right}, inputs, case.expected))


@fault("shortcut and main path crossed by rules", "crossings", "graph")
def _(draw):
    spec = residual_net(draw.rng, conv=draw.pick(True, False))
    other = spec.rename(lambda n: n.replace("_0_", "_shortcut_").replace("_1_", "_a_").replace("_2_", "_b_"))
    part = draw.pick("bn", "conv")
    names = {p.name: q.name for p, q in zip(spec.parts, other.parts, strict=True)}
    a, b = f"s0_0_{part}", f"s0_2_{part}"
    trained = [x.name for x in draw.fresh(spec).layers if x.weights]
    wrong = {f"r{i}": {"to": n, "from": names[{a: b, b: a}.get(n, n)]} for i, n in enumerate(trained)}
    return renamed(draw, other, spec, wrong, names=names)


@fault("sibling evidence: _conv to downsample, _bn to bn2", "crossings", "graph")
def _(draw):
    spec = residual_net(draw.rng, blocks=1, conv=draw.pick(True, False))
    source = draw.model(spec)
    path, names, _ = _as_file(draw, spec, source)
    inputs = draw.inputs(source)
    swap = {"s0_0_bn": names["s0_2_bn"], "s0_2_bn": names["s0_0_bn"]}
    wrong = {f"r{i}": {"to": n, "from": swap.get(n, t)} for i, (n, t) in enumerate(names.items())}
    right = {f"r{i}": {"to": n, "from": t} for i, (n, t) in enumerate(names.items())}
    case = Case({"path": path, "layout": "keras"}, draw.fresh(spec), {"mapping": wrong}, inputs, run(source, inputs))
    return Pair(case, Case(case.source, draw.fresh(spec), {"mapping": right}, inputs, case.expected))


@fault("parallel branches of other names crossed", "crossings", "graph")
def _(draw):
    spec = two_branches(draw.rng)
    other = spec.rename({"left_0": "deep_a", "left_1": "deep_b", "right_0": "wide"})
    names = {p.name: q.name for p, q in zip(spec.parts, other.parts, strict=True)}
    swap = {"left_0": names["right_0"], "right_0": names["left_0"]}
    trained = [x.name for x in draw.fresh(spec).layers if x.weights]
    wrong = {f"r{i}": {"to": n, "from": swap.get(n, names[n])} for i, n in enumerate(trained)}
    return renamed(draw, other, spec, wrong, names=names)


@fault("two layers in a row of other names crossed", "crossings", "graph")
def _(draw):
    spec = dense_net(draw.rng, depth=4)
    other = spec.rename({f"d{i}": n for i, n in enumerate(("alpha", "beta", "gamma", "delta"))})
    names = {p.name: q.name for p, q in zip(spec.parts, other.parts, strict=True)}
    a, b = draw.pick(("d1", "d2"), ("d2", "d3"), ("d1", "d3"))
    trained = [x.name for x in draw.fresh(spec).layers if x.weights]
    wrong = {f"r{i}": {"to": n, "from": names[{a: b, b: a}.get(n, n)]} for i, n in enumerate(trained)}
    return renamed(draw, other, spec, wrong, names=names)


@fault("pair: order over a file in another order", "crossings", "names")
def _(draw):
    spec = draw.pick(conv_net, dense_net)(draw.rng)
    source = draw.model(spec)
    arrays, inputs = arrays_of(source), draw.inputs(source)
    shapes = {n: arrays[f"{n}/kernel"].shape for n in layers_of(arrays) if f"{n}/kernel" in arrays}
    often = max(set(shapes.values()), key=list(shapes.values()).count)
    some = [n for n in shapes if shapes[n] == often]
    rest = {"rest": {"to": ".*", "except": "|".join(some)}}
    mapping = {**rest, "o": {"to": "|".join(some), "from": "|".join(some), "pair": "order"}}

    def stored(names):
        others = [n for n in layers_of(arrays) if n not in some]
        return draw.stored({k: arrays[k] for n in (*names, *others) for k in arrays if k.startswith(f"{n}/")}, ".npz")

    wrong = Case(stored(some[::-1]), draw.fresh(spec), {"mapping": mapping}, inputs, run(source, inputs), source)
    return Pair(wrong, Case(stored(some), draw.fresh(spec), {"mapping": mapping}, inputs, wrong.expected))


@fault("names numbered one up", "crossings", "names")
def _(draw):
    def shifted(arrays):
        return {f"{k[0]}{int(k[1]) + 1}{k[2:]}" if k[0] in "cd" and k[1].isdigit() else k: v for k, v in arrays.items()}

    return in_file(draw, conv_net(draw.rng), shifted)


@fault("numbered names one off in the rule", "crossings", "names")
def _(draw):
    spec = dense_net(draw.rng, depth=5, norm=None)
    mapping = {"a": {"to": r"d(?P<i>[1-4])", "from": "d{i-1}"}, "b": {"to": "top"}, "c": {"to": "d0"}}
    return between(draw, spec, spec, {"mapping": mapping})


@fault("one layer dropped from the file", "names", "names")
def _(draw):
    def dropped(arrays):
        a, _ = same_shapes(draw, arrays)
        return {k: v for k, v in arrays.items() if not k.startswith(f"{a}/")}

    return in_file(draw, conv_net(draw.rng), dropped)


@fault("one layer dropped, unmatched: same_name_or_keep", "names", "names")
def _(draw):
    def dropped(arrays):
        a, _ = same_shapes(draw, arrays)
        return {k: v for k, v in arrays.items() if not k.startswith(f"{a}/")}

    return in_file(draw, conv_net(draw.rng), dropped, {"unmatched": "same_name_or_keep"})


@fault("source has one layer more in the middle", "names", "names")
def _(draw):
    spec = dense_net(draw.rng, depth=4)
    return between(draw, spec, spec.without("d2"))


@fault("target has one layer more in the middle, kept", "names", "names")
def _(draw):
    spec = dense_net(draw.rng, depth=3)
    more = spec.insert("d1", Part("Dense", "extra", dict(spec["d1"].settings), ("d1",)))
    return between(draw, spec, more, {"mapping": {"all": {"to": ".*", "except": "extra"}}, "unmatched": "keep"})


@fault("statistics of one BatchNormalization not mapped", "names", "names")
def _(draw):
    spec = conv_net(draw.rng, norm=True)
    name = draw.pick(*spec.of("BatchNormalization"))
    mapping = {"all": {"to": r".*/(kernel|bias|gamma|beta|moving_.*)", "except": f"{name}/moving_.*"}}
    return between(draw, spec, spec, {"mapping": mapping, "unmatched": "keep"})


@fault("trainable weights only (no statistics)", "names", "names")
def _(draw):
    spec = conv_net(draw.rng, norm=True)
    return between(draw, spec, spec, {"mapping": {"all": {"to": ".*/(kernel|bias|gamma|beta)"}}, "unmatched": "keep"})


@fault("two layers exchanged in the graph", "graph", "graph")
def _(draw):
    spec = dense_net(draw.rng, depth=4, norm=None)
    parts = list(spec.parts)
    parts[1], parts[2] = parts[2], parts[1]
    return between(draw, spec, Spec(spec.shape, tuple(parts)))


@fault("skip connection missing", "graph", "graph")
def _(draw):
    spec = residual_net(draw.rng, conv=draw.pick(True, False))
    last = f"s{len(spec.of('Add')) - 1}_"
    parts = tuple(p for p in spec.change(f"{last}out", inputs=(f"{last}2_bn",)).parts if p.name != f"{last}add")
    whole = Spec(spec.shape, parts)
    return between(draw, spec, whole, {"mapping": {"all": {"to": ".*"}}})


@fault("skip connection from another layer", "graph", "graph")
def _(draw):
    own = {"units": 5, "activation": "tanh"}
    parts = (
        Part("Dense", "a", own, ("in",)),
        Part("Dense", "b", own, ("a",)),
        Part("Dense", "c", own, ("b",)),
        Part("Add", "add", {}, ("a", "c")),
        Part("Dense", "top", {"units": 3}, ("add",)),
    )
    spec = Spec((5,), parts)
    return between(draw, spec, spec.change("add", inputs=draw.pick(("b", "c"), ("in", "c"), ("a", "b"))))


@fault("inputs of Concatenate exchanged", "graph", "graph")
def _(draw):
    spec = two_branches(draw.rng, "Concatenate")
    return between(draw, spec, spec.change("merge", inputs=("right_0", "left_1")))


@fault("inputs of attention exchanged", "graph", "graph")
def _(draw):
    own = {"units": 4}
    parts = (
        Part("Dense", "a", own, ("in",)),
        Part("Dense", "b", own, ("in",)),
        Part("MultiHeadAttention", "att", {"num_heads": 2, "key_dim": 2}, ("a", "b")),
        Part("GlobalMaxPooling1D", "gap"),
        Part("Dense", "top", {"units": 3}),
    )
    spec = Spec((5, 4), parts)
    return between(draw, spec, spec.change("att", inputs=("b", "a")))


@fault("normalization before instead of behind the activation", "graph", "graph")
def _(draw):
    own = {"units": 5}
    parts = (
        Part("Dense", "d0", own),
        Part("BatchNormalization", "n"),
        Part("ReLU", "act"),
        Part("Dense", "d1", own),
    )
    spec = Spec((5,), parts)
    return between(draw, spec, Spec((5,), (parts[0], parts[2], parts[1], parts[3])))


@fault("pre-norm and post-norm", "graph", "graph")
def _(draw):
    def net(before):
        head = Part("Dense", "top", {"units": 3}, ("out",))
        own = {"units": 4, "activation": "tanh"}
        if before:
            parts = (
                Part("LayerNormalization", "n", {}, ("in",)),
                Part("Dense", "d", own, ("n",)),
                Part("Add", "out", {}, ("in", "d")),
            )
        else:
            parts = (
                Part("Dense", "d", own, ("in",)),
                Part("Add", "sum", {}, ("in", "d")),
                Part("LayerNormalization", "n", {}, ("sum",)),
                Part("Identity", "out", {}, ("n",)),
            )
        return Spec((4,), (*parts, head))

    before = draw.pick(True, False)
    return between(draw, net(before), net(not before))


@fault("one layer used twice and once", "graph", "graph")
def _(draw):
    own = {"units": 5, "activation": "tanh"}
    parts = (Part("Dense", "a", own), Part("Dense", "b", own), Part("Dense", "top", {"units": 3}))
    once = Spec((5,), parts)
    pair = between(draw, once, once)
    source, start = pair.wrong.carrier, keras.Input((5,))
    x = source.get_layer("b")(source.get_layer("a")(source.get_layer("b")(source.get_layer("a")(start))))
    twice = keras.Model(start, source.get_layer("top")(x))
    inputs = pair.wrong.inputs
    wrong = Case(draw.saved(twice), pair.wrong.target, {"mapping": ALL}, inputs, run(twice, inputs), twice)
    return Pair(wrong, pair.right)
