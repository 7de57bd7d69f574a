"""Faults of torch and ONNX files: they hold weights, and Keras computes something else with them. torch is the truth."""

import json
from collections import OrderedDict

import numpy as np

from .kinds import Case, Pair, fault
from .specs import Part, Spec


def torch_net(draw, *layers):
    """Return a torch Sequential of named modules with trained-looking values, in evaluation."""
    import torch

    torch.manual_seed(int(draw.rng.integers(1 << 30)))
    net = torch.nn.Sequential(OrderedDict(layers)).eval()
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.3, 1.3)
            elif name.endswith(("running_mean", "bias")):
                value.normal_(0, 0.3)
            elif value.ndim == 1 and value.is_floating_point():
                value.normal_(1, 0.3)
    return net


def state(net):
    """Return the values of a torch model by name."""
    return {k: v.numpy().copy() for k, v in net.state_dict().items()}


def forward(net, inputs):
    """Return what torch computes for channels-last input, channels-last."""
    import torch

    x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(inputs, -1, 1) if inputs.ndim == 4 else inputs))
    with torch.no_grad():
        y = net(x)
    y = y[0] if isinstance(y, tuple) else y
    y = y.numpy()
    return [np.moveaxis(y, 1, -1) if y.ndim == 4 else y]


def stored(draw, net):
    """Store a torch model's values as its users do, with or without metadata."""
    form = draw.pick(".pt", ".safetensors", ".npz", "plain")
    if form == ".pt":
        import torch

        path = draw.path(".pt")
        torch.save(net.state_dict(), path)
        return path
    if form == ".safetensors":
        return draw.stored(state(net), ".safetensors", format="pt")
    return {"path": draw.stored(state(net), ".npz" if form == ".npz" else ".safetensors"), "layout": "torch"}


def torch_pair(draw, net, wrong, right, shape, mapping=None, mapping_right=None):
    """Return the pair of a torch file into a Keras model that computes something else, and into one that does not."""
    inputs = draw.rng.normal(size=(3, *shape)).astype("f4")
    path, expected = stored(draw, net), forward(net, inputs)
    everything = {"all": {"to": ".*"}}
    case = Case(path, draw.fresh(wrong), {"mapping": mapping or everything}, inputs, expected, None, state(net))
    good = (
        None
        if right is None
        else Case(path, draw.fresh(right), {"mapping": mapping_right or mapping or everything}, inputs, expected)
    )
    return Pair(case, good)


def _conv(units, **settings):
    return {"filters": units, "kernel_size": 3, **settings}


@fault("torch: strided padding=same on an even input", "frameworks", "settings")
def _(draw):
    from torch import nn

    width = draw.pick(3, 4)
    net = torch_net(draw, ("c", nn.Conv2d(3, width, 3, 2, 1)), ("a", nn.ReLU()), ("d", nn.Conv2d(width, 4, 3, 1, 1)))
    first = _conv(width, strides=2, activation="relu")
    last = Part("Conv2D", "d", _conv(4, padding="same"))
    shape = (draw.pick(6, 8, 10), draw.pick(6, 8), 3)
    wrong = Spec(shape, (Part("Conv2D", "c", {**first, "padding": "same"}), last))
    right = Spec(shape, (Part("ZeroPadding2D", "pad", {"padding": 1}), Part("Conv2D", "c", first), last))
    return torch_pair(draw, net, wrong, right, shape)


@fault("torch: pooling with padding=same on an even input", "frameworks", "settings")
def _(draw):
    from torch import nn

    convs = [nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 1, 1)]
    net = torch_net(draw, ("c", convs[0]), ("a", nn.ReLU()), ("p", nn.MaxPool2d(3, 2, 1)), ("d", convs[1]))
    first, last = (Part("Conv2D", n, _conv(4, padding="same")) for n in "cd")
    relu, pool = Part("ReLU", "act"), Part("MaxPooling2D", "pool", {"pool_size": 3, "strides": 2})
    wrong = Spec((8, 8, 3), (first, relu, pool, last)).change("pool", padding="same")
    right = Spec((8, 8, 3), (first, relu, Part("ZeroPadding2D", "pad", {"padding": 1}), pool, last))
    return torch_pair(draw, net, wrong, right, (8, 8, 3))


@fault("torch: epsilon left at Keras's default", "frameworks", "settings")
def _(draw):
    from torch import nn

    net = torch_net(draw, ("d", nn.Linear(5, 5)), ("n", nn.BatchNorm1d(5)), ("a", nn.Tanh()), ("e", nn.Linear(5, 3)))
    net.n.running_var.mul_(0.01)
    parts = [
        Part("Dense", "d", {"units": 5}),
        Part("BatchNormalization", "n"),
        Part("Activation", "a", {"activation": "tanh"}),
    ]
    spec = Spec((5,), (*parts, Part("Dense", "e", {"units": 3})))
    return torch_pair(draw, net, spec, spec.change("n", epsilon=1e-5), (5,))


@fault("torch: epsilon that its configuration tells", "frameworks", "settings")
def _(draw):
    from torch import nn

    net = torch_net(draw, ("d", nn.Linear(5, 5)), ("n", nn.LayerNorm(5, eps=0.1)), ("e", nn.Linear(5, 3)))
    parts = [Part("Dense", "d", {"units": 5}), Part("LayerNormalization", "n"), Part("Dense", "e", {"units": 3})]
    spec = Spec((5,), tuple(parts))
    pair = torch_pair(draw, net, spec, spec.change("n", epsilon=0.1), (5,))
    return _beside(draw, pair, {"model_type": "bert", "layer_norm_eps": 0.1, "hidden_act": "gelu"})


@fault("torch: activation that its configuration tells", "frameworks", "settings")
def _(draw):
    from torch import nn

    up, down = (nn.Sequential(OrderedDict([("dense", nn.Linear(*sizes))])) for sizes in ((5, 5), (5, 3)))
    net = torch_net(draw, ("intermediate", up), ("a", nn.GELU()), ("output", down))
    parts = (
        Part("Dense", "up", {"units": 5, "activation": draw.pick("relu", "tanh")}),
        Part("Dense", "down", {"units": 3}),
    )
    spec = Spec((5,), parts)
    mapping = {"u": {"to": "up", "from": "intermediate/dense"}, "d": {"to": "down", "from": "output/dense"}}
    pair = torch_pair(draw, net, spec, spec.change("up", activation="gelu"), (5,), mapping)
    return _beside(draw, pair, {"model_type": "bert", "layer_norm_eps": 1e-12, "hidden_act": "gelu"})


def _beside(draw, pair, told):
    """Put a Hugging Face configuration beside the file."""
    from dataclasses import replace

    folder = draw.folder / "hub"
    folder.mkdir(exist_ok=True)
    draw.folder, kept = folder, draw.folder
    path = draw.stored(pair.wrong.arrays, ".safetensors", format="pt")
    draw.folder = kept
    (folder / "config.json").write_text(json.dumps(told))
    return Pair(replace(pair.wrong, source=path), pair.right and replace(pair.right, source=path))


def _flat(draw, joined):
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.c, self.fc = nn.Conv2d(3, 4, 3, 1, 1), nn.Linear(64 * (2 if joined else 1), 5)

        def forward(self, x):
            import torch

            y = torch.relu(self.c(x))
            flat = torch.flatten(y, 1)
            return self.fc(torch.cat([flat, torch.flatten(y * 2, 1)], 1) if joined else flat)

    net = torch_net(draw, ("net", Net()))
    return net.net


@fault("torch: rows of a Dense behind Flatten not reordered", "frameworks", "graph")
def _(draw):
    parts = (
        Part("Conv2D", "c", _conv(4, padding="same", activation="relu")),
        Part("Flatten", "flat"),
        Part("Dense", "fc", {"units": 5}),
    )
    spec = Spec((4, 4, 3), parts)
    return torch_pair(draw, _flat(draw, joined=False), spec, None, spec.shape)


@fault("torch: the same through Concatenate", "frameworks", "graph")
def _(draw):
    parts = (
        Part("Conv2D", "c", _conv(4, padding="same", activation="relu"), ("in",)),
        Part("Rescaling", "twice", {"scale": 2.0}, ("c",)),
        Part("Flatten", "flat", {}, ("c",)),
        Part("Flatten", "flat2", {}, ("twice",)),
        Part("Concatenate", "both", {}, ("flat", "flat2")),
        Part("Dense", "fc", {"units": 5}, ("both",)),
    )
    spec = Spec((4, 4, 3), parts)
    return torch_pair(draw, _flat(draw, joined=True), spec, None, spec.shape)


@fault("torch: square Linear read as Keras's", "frameworks", "names")
def _(draw):
    from torch import nn

    net = torch_net(draw, ("d", nn.Linear(5, 5)), ("a", nn.Tanh()), ("e", nn.Linear(5, 5)))
    parts = (Part("Dense", "d", {"units": 5, "activation": "tanh"}), Part("Dense", "e", {"units": 5}))
    spec, mapping = Spec((5,), parts), {"k": {"to": "(.*)/kernel", "from": r"\1/weight"}, "b": {"to": ".*/bias"}}
    pair = torch_pair(draw, net, spec, spec, (5,), mapping, {"all": {"to": ".*"}})
    from dataclasses import replace

    source = {"path": draw.stored(state(net), draw.pick(".npz", ".safetensors")), "layout": "keras"}
    return Pair(replace(pair.wrong, source=source), pair.right)


@fault("torch: gates of a GRU read as Keras's", "frameworks", "names")
def _(draw):
    from torch import nn

    units, turn = 4, [{"transpose": [1, 0]}]
    net = torch_net(draw, ("r", nn.GRU(units, units, batch_first=True)))
    spec = Spec((5, units), (Part("GRU", "r", {"units": units, "return_sequences": True}),))
    source = {"path": draw.stored(state(net), ".npz"), "layout": "keras"}
    mapping = {
        "k": {"to": "r/.*/kernel", "from": "r/weight_ih_l0", "transform": turn},
        "h": {"to": "r/.*/recurrent_kernel", "from": "r/weight_hh_l0", "transform": turn},
        "b": {"to": "r/.*/bias", "from": ["r/bias_ih_l0", "r/bias_hh_l0"], "transform": [{"stack": {"axis": 0}}]},
    }
    pair = torch_pair(draw, net, spec, spec, (5, units), mapping, {"all": {"to": ".*"}})
    from dataclasses import replace

    return Pair(replace(pair.wrong, source=source), pair.right)


@fault("torch: activation of another kind", "frameworks", "forward")
def _(draw):
    from torch import nn

    net = torch_net(draw, ("d", nn.Linear(5, 6)), ("a", nn.ReLU()), ("e", nn.Linear(6, 3)))
    parts = (
        Part("Dense", "d", {"units": 6, "activation": draw.pick("tanh", "gelu", "linear")}),
        Part("Dense", "e", {"units": 3}),
    )
    spec = Spec((5,), parts)
    return torch_pair(draw, net, spec, spec.change("d", activation="relu"), (5,))


@fault("torch: padding mode", "frameworks", "forward")
def _(draw):
    from torch import nn

    net = torch_net(draw, ("c", nn.Conv2d(3, 4, 3, 1, 1, padding_mode=draw.pick("reflect", "replicate", "circular"))))
    return torch_pair(draw, net, Spec((6, 6, 3), (Part("Conv2D", "c", _conv(4, padding="same")),)), None, (6, 6, 3))


@fault("GPT-2's Conv1D of (in, out)", "frameworks", "shapes")
def _(draw):
    """Kernels as Keras has them under torch's names; the square one tells nothing, those beside it do."""
    width = draw.pick(4, 6)
    parts = (
        Part("Dense", "fc", {"units": 4 * width, "activation": "gelu"}),
        Part("Dense", "down", {"units": width}),
        Part("Dense", "proj", {"units": width}),
    )
    spec = Spec((width,), parts)
    source = draw.model(spec)
    names = {"fc": "h.0.mlp.c_fc", "down": "h.0.mlp.c_proj", "proj": "h.0.attn.c_proj"}
    arrays = {}
    for ours, theirs in names.items():
        kernel, bias = source.get_layer(ours).get_weights()
        arrays |= {f"{theirs}.weight": kernel, f"{theirs}.bias": bias}
    turn = [{"transpose": [1, 0]}]
    mapping = {
        "f": {"to": "fc/kernel", "from": "h/0/mlp/c_fc/weight", "transform": turn},
        "d": {"to": "down/kernel", "from": "h/0/mlp/c_proj/weight", "transform": turn},
        "b": {"to": "fc/bias", "from": "h/0/mlp/c_fc/bias"},
        "c": {"to": "down/bias", "from": "h/0/mlp/c_proj/bias"},
        "p": {"to": "proj", "from": "h/0/attn/c_proj"},
    }
    layers = {n: {"to": n, "from": t.replace(".", "/")} for n, t in names.items()}
    inputs = draw.inputs(source)
    from .specs import run

    path = draw.stored(arrays, ".safetensors", format="pt")
    case = Case(
        path, draw.fresh(spec), {"mapping": draw.pick(mapping, layers)}, inputs, run(source, inputs), None, arrays
    )
    return Pair(case, None)


def _onnx(draw, nodes, arrays, shape, out):
    """Write an ONNX file of nodes and return its path; the operations are tuples (op, inputs, output, attributes)."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    made = [helper.make_node(op, i, [o], name=f"/{o}", **a) for op, i, o, a in nodes]
    values = [numpy_helper.from_array(np.ascontiguousarray(v), n) for n, v in arrays.items()]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape), ("y", out))]
    graph = helper.make_graph(made, "g", ends[:1], ends[1:], values)
    path = draw.path(".onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def _onnx_run(path, inputs):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": inputs})


@fault("ONNX: square MatMul taken as torch's Linear", "frameworks", "graph")
def _(draw):
    w = {
        n: draw.rng.normal(size=s).astype("f4")
        for n, s in (("d.kernel", (5, 5)), ("d.bias", (5,)), ("e.weight", (5, 5)), ("e.bias", (5,)))
    }
    nodes = [
        ("MatMul", ["x", "d.kernel"], "m", {}),
        ("Add", ["m", "d.bias"], "a", {}),
        ("Tanh", ["a"], "t", {}),
        ("Gemm", ["t", "e.weight", "e.bias"], "y", {"transB": 1}),
    ]
    path = _onnx(draw, nodes, w, ["N", 5], ["N", 5])
    parts = (Part("Dense", "d", {"units": 5, "activation": "tanh"}), Part("Dense", "e", {"units": 5}))
    inputs = draw.rng.normal(size=(3, 5)).astype("f4")
    mapping = {"k": {"to": "d/kernel", "from": "d/kernel"}, "b": {"to": "d/bias", "from": "d/bias"}, "e": {"to": "e"}}
    case = Case(
        {"path": path, "layout": "torch"},
        draw.fresh(Spec((5,), parts)),
        {"mapping": mapping},
        inputs,
        _onnx_run(path, inputs),
        None,
        w,
    )
    return Pair(case)


def _onnx_conv(draw, attributes, right, wrong):
    kernel, bias = draw.rng.normal(size=(4, 3, 3, 3)).astype("f4") / 5, draw.rng.normal(size=4).astype("f4")
    nodes = [("Conv", ["x", "c.weight", "c.bias"], "z", {"kernel_shape": [3, 3], **attributes})]
    nodes += [("Relu", ["z"], "r", {}), ("GlobalAveragePool", ["r"], "y", {})]
    arrays = {"c.weight": kernel, "c.bias": bias}
    path = _onnx(draw, nodes, arrays, ["N", 3, 8, 8], ["N", 4, 1, 1])
    inputs = draw.rng.normal(size=(3, 8, 8, 3)).astype("f4")
    expected = [_onnx_run(path, inputs.transpose(0, 3, 1, 2))[0].reshape(3, 4)]

    def spec(settings):
        return Spec(
            (8, 8, 3),
            (Part("Conv2D", "c", {**_conv(4, activation="relu"), **settings}), Part("GlobalAveragePooling2D", "gap")),
        )

    source = {"path": path, "layout": "torch"}
    case = Case(source, draw.fresh(spec(wrong)), {"mapping": {"c": {"to": "c"}}}, inputs, expected, None, arrays)
    return Pair(case, Case(source, draw.fresh(spec(right)), {"mapping": {"c": {"to": "c"}}}, inputs, expected))


@fault("ONNX: strides of a convolution", "frameworks", "settings")
def _(draw):
    return _onnx_conv(draw, {"strides": [2, 2]}, {"strides": 2}, {})


@fault("ONNX: padding of a convolution", "frameworks", "settings")
def _(draw):
    return _onnx_conv(draw, {"pads": [1, 1, 1, 1]}, {"padding": "same"}, {})


@fault("ONNX: dilation of a convolution", "frameworks", "settings")
def _(draw):
    return _onnx_conv(draw, {"dilations": [2, 2]}, {"dilation_rate": 2}, {})


@fault("ONNX: activation behind a convolution", "frameworks", "graph")
def _(draw):
    return _onnx_conv(draw, {}, {}, {"activation": draw.pick("tanh", "linear", "sigmoid")})


@fault("ONNX: strided auto padding, torch's against Keras's", "frameworks", "settings")
def _(draw):
    return Pair(
        _onnx_conv(draw, {"pads": [1, 1, 1, 1], "strides": [2, 2]}, {}, {"padding": "same", "strides": 2}).wrong
    )


@fault("ONNX: epsilon of BatchNormalization", "frameworks", "settings")
def _(draw):
    arrays = {
        f"n.{k}": draw.rng.random(4).astype("f4") * s + 0.01
        for k, s in (("weight", 1), ("bias", 1), ("running_mean", 1), ("running_var", 0.1))
    }
    nodes = [("BatchNormalization", ["x", *arrays], "y", {"epsilon": 0.05})]
    path = _onnx(draw, nodes, arrays, ["N", 4], ["N", 4])
    inputs = draw.rng.normal(size=(3, 4)).astype("f4")

    def case(epsilon):
        target = draw.fresh(Spec((4,), (Part("BatchNormalization", "n", {"epsilon": epsilon}),)))
        source = {"path": path, "layout": "torch"}
        return Case(source, target, {"mapping": {"n": {"to": "n"}}}, inputs, _onnx_run(path, inputs), None, arrays)

    return Pair(case(draw.pick(1e-3, 1e-5)), case(0.05))
