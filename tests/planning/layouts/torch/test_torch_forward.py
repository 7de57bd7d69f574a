"""A torch module's state dict, moved into the Keras layer by ``layout: torch``: both must compute the same."""

import re

import keras
import numpy as np
import pytest
import yaml
from keras import layers as kl
from safetensors.numpy import save_file

import transferpipe as tp

torch = pytest.importorskip("torch")
nn = torch.nn


def randomize(module):
    """Give every weight a value that no two layouts share by accident; variances stay positive."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) - (0 if name.endswith("running_var") else 0.5))
    return module.eval()


def transfer(module, layers, inputs, path, rules=None):
    """Return the Keras model of `layers` with the weights of `module`."""
    x = start = keras.Input(inputs.shape[1:])
    for layer in layers:
        x = layer(x)
    model = keras.Model(start, x)
    save_file({k: v.numpy() for k, v in module.state_dict().items()}, path, metadata={"format": "pt"})
    rules = rules or {"all": {"to": layers[0].name, "from": "m"}}
    tp.transfer(str(path), model, mapping=rules, unused="error")
    return model


class Held(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.m = module

    def forward(self, *args):
        return self.m(*args)


def first(x):
    return x.movedim(-1, 1)


def last(x):
    return x.movedim(1, -1)


def check(module, layers, shape, tmp_path, rules=None, call=None):
    """Compare `module`, called on channels-first input, with the Keras layers on channels-last input."""
    module = randomize(Held(module))
    inputs = np.random.default_rng(1).normal(size=shape).astype("float32")
    call = call or (lambda m, x: last(m(first(x))))
    with torch.no_grad():
        expected = call(module, torch.from_numpy(inputs)).numpy()
    layers = layers if isinstance(layers, list) else [layers]
    found = np.asarray(transfer(module, layers, inputs, tmp_path / "m.safetensors", rules)(inputs, training=False))
    assert found.shape == expected.shape
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


IMAGE = (2, 9, 8, 4)
LINE = (2, 9, 4)
CUBE = (2, 6, 5, 4, 4)

CHANNELS = {
    "conv1d": lambda: (nn.Conv1d(4, 6, 3), kl.Conv1D(6, 3), LINE),
    "conv1d groups": lambda: (
        nn.Conv1d(4, 6, 3, groups=2, bias=False),
        kl.Conv1D(6, 3, groups=2, use_bias=False),
        LINE,
    ),
    "conv2d": lambda: (nn.Conv2d(4, 6, (3, 2)), kl.Conv2D(6, (3, 2)), IMAGE),
    "conv2d stride": lambda: (
        nn.Conv2d(4, 6, 3, stride=2, bias=False),
        kl.Conv2D(6, 3, strides=2, use_bias=False),
        IMAGE,
    ),
    "conv2d groups": lambda: (nn.Conv2d(4, 8, 3, groups=2), kl.Conv2D(8, 3, groups=2), IMAGE),
    "conv2d dilated": lambda: (nn.Conv2d(4, 4, 3, dilation=2), kl.Conv2D(4, 3, dilation_rate=2), IMAGE),
    "conv3d": lambda: (nn.Conv3d(4, 3, (3, 2, 1)), kl.Conv3D(3, (3, 2, 1)), CUBE),
    "depthwise1d": lambda: (nn.Conv1d(4, 8, 3, groups=4), kl.DepthwiseConv1D(3, depth_multiplier=2), LINE),
    "depthwise2d": lambda: (nn.Conv2d(4, 4, (2, 3), groups=4), kl.DepthwiseConv2D((2, 3)), IMAGE),
    "depthwise2d times 3": lambda: (
        nn.Conv2d(4, 12, 3, groups=4, bias=False),
        kl.DepthwiseConv2D(3, depth_multiplier=3, use_bias=False),
        IMAGE,
    ),
    "transpose1d": lambda: (nn.ConvTranspose1d(4, 6, 3), kl.Conv1DTranspose(6, 3), LINE),
    "transpose2d": lambda: (
        nn.ConvTranspose2d(4, 6, (3, 2), stride=2),
        kl.Conv2DTranspose(6, (3, 2), strides=2),
        IMAGE,
    ),
    "transpose2d square": lambda: (
        nn.ConvTranspose2d(4, 4, 2, bias=False),
        kl.Conv2DTranspose(4, 2, use_bias=False),
        IMAGE,
    ),
    "transpose3d": lambda: (nn.ConvTranspose3d(4, 3, (3, 2, 1)), kl.Conv3DTranspose(3, (3, 2, 1)), CUBE),
    "batch norm": lambda: (nn.BatchNorm2d(4), kl.BatchNormalization(epsilon=1e-5), IMAGE),
    "batch norm not affine": lambda: (
        nn.BatchNorm1d(4, affine=False),
        kl.BatchNormalization(epsilon=1e-5, scale=False, center=False),
        LINE,
    ),
    "group norm": lambda: (nn.GroupNorm(2, 4), kl.GroupNormalization(2, epsilon=1e-5), IMAGE),
    "prelu": lambda: (nn.PReLU(4), kl.PReLU(shared_axes=[1, 2]), IMAGE),
    "dense of a convolution of one place": lambda: (nn.Conv2d(4, 6, 1), kl.Dense(6), IMAGE),
    "dense of a square one": lambda: (nn.Conv1d(4, 4, 1), kl.Dense(4), LINE),
}


@pytest.mark.parametrize("case", CHANNELS)
def test_channels_first_against_channels_last(case, tmp_path):
    module, layer, shape = CHANNELS[case]()
    check(module, layer, shape, tmp_path)


PLAIN = {
    "linear": lambda: (nn.Linear(4, 3), kl.Dense(3)),
    "linear square": lambda: (nn.Linear(4, 4, bias=False), kl.Dense(4, use_bias=False)),
    "layer norm": lambda: (nn.LayerNorm(4), kl.LayerNormalization(epsilon=1e-5)),
    "layer norm of two axes": lambda: (nn.LayerNorm([9, 4]), kl.LayerNormalization(axis=[1, 2], epsilon=1e-5)),
    "rms norm": lambda: (nn.RMSNorm(4, eps=1e-6), kl.RMSNormalization(epsilon=1e-6)),
    "prelu of a row": lambda: (nn.PReLU(1), kl.PReLU(shared_axes=[1, 2])),
    "weight norm": lambda: (nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), kl.Dense(3)),
    "convolution of a linear": lambda: (nn.Linear(4, 6), kl.Conv1D(6, 1)),
    "convolution of a square linear": lambda: (nn.Linear(4, 4), kl.Conv1D(4, 1)),
}


@pytest.mark.parametrize("case", PLAIN)
def test_features_last_in_both(case, tmp_path):
    module, layer = PLAIN[case]()
    check(module, layer, (2, 9, 4) if "row" not in case else (2, 9, 1), tmp_path, call=lambda m, x: m(x))


@pytest.mark.parametrize(
    ("module", "layer", "step"),
    [
        (nn.Conv2d(4, 6, 3), kl.Conv3D(6, (1, 3, 3)), "inflate"),
        (nn.Conv1d(4, 6, 3), kl.Conv2D(6, (1, 3)), "inflate"),
        (nn.Conv3d(4, 6, (1, 3, 2)), kl.Conv2D(6, (3, 2)), "deflate"),
        (nn.ConvTranspose2d(4, 6, 3), kl.Conv3DTranspose(6, (1, 3, 3)), "inflate"),
    ],
    ids=["images to videos", "rows to images", "videos to images", "transposed"],
)
def test_a_kernel_with_more_or_fewer_axes_than_its_modules(module, layer, step, tmp_path):
    inputs = np.random.default_rng(1).normal(size=(2, *[7] * (module.weight.ndim - 2), 4)).astype("float32")
    taken = inputs[:, None] if step == "inflate" else inputs[:, 0]  # the axis of size 1 stands first
    inputs = inputs if step == "inflate" else inputs[:, :1]
    layer.name = "l"
    rules = {"all": {"to": "l", "from": "m", "transform": {"kernel": [step]}}}
    held = randomize(Held(module))
    found = np.asarray(transfer(held, [layer], taken, tmp_path / "m.safetensors", rules)(taken))
    with torch.no_grad():
        expected = last(held(first(torch.from_numpy(inputs)))).numpy()
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    ("norm", "axis"),
    [
        (nn.utils.weight_norm, 0),
        (nn.utils.weight_norm, 1),
        (nn.utils.weight_norm, None),
        (nn.utils.parametrizations.weight_norm, 0),
    ],
)
def test_weight_norm(norm, axis, tmp_path):
    check(norm(nn.Conv2d(4, 6, 3), dim=axis), kl.Conv2D(6, 3), IMAGE, tmp_path)


def test_weight_norm_of_a_depthwise_convolution(tmp_path):
    module = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 8, 3, groups=4))
    check(module, kl.DepthwiseConv2D(3, depth_multiplier=2), IMAGE, tmp_path)


def test_an_embedding(tmp_path):
    module = randomize(Held(nn.Embedding(7, 3)))
    tokens = np.array([[0, 6, 3]])
    model = transfer(module, [kl.Embedding(7, 3)], tokens, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(model(tokens), module(torch.from_numpy(tokens)).detach().numpy())


@pytest.mark.parametrize("names", [("depthwise", "pointwise"), ("0", "1")])
@pytest.mark.parametrize("rank", [1, 2])
def test_a_separable_convolution(rank, names, tmp_path):
    conv, layer = ((nn.Conv1d, kl.SeparableConv1D), (nn.Conv2d, kl.SeparableConv2D))[rank - 1]
    module = nn.Sequential()
    module.add_module(names[0], conv(4, 8, 3, groups=4, bias=False))
    module.add_module(names[1], conv(8, 5, 1))
    check(module, layer(5, 3, depth_multiplier=2), LINE if rank == 1 else IMAGE, tmp_path)


def test_a_dense_after_a_flatten(tmp_path):
    module = nn.Sequential(nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(5 * 7 * 6, 3))
    layers = [kl.Conv2D(5, 3, name="c"), kl.Flatten(), kl.Dense(3, name="d")]
    rules = {
        "c": {"to": "c", "from": "m/0"},
        "d": {"to": "d", "from": "m/2", "transform": {"kernel": [{"flatten_order": [5, 7, 6]}]}},
    }
    check(module, layers, IMAGE, tmp_path, rules, lambda m, x: m(first(x)))


RECURRENT = {"lstm": (nn.LSTM, kl.LSTM), "gru": (nn.GRU, kl.GRU), "rnn": (nn.RNN, kl.SimpleRNN)}


def recur(module, x):
    return module(x)[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("kind", RECURRENT)
def test_a_recurrent_layer(kind, both, bias, tmp_path):
    theirs, ours = RECURRENT[kind]
    layer = ours(5, return_sequences=True, use_bias=bias)
    module = theirs(4, 5, batch_first=True, bias=bias, bidirectional=both)
    check(module, kl.Bidirectional(layer) if both else layer, LINE, tmp_path, call=recur)


def test_the_directions_of_layers_with_names_of_their_own(tmp_path):
    forward, backward = (
        kl.LSTM(5, return_sequences=True, go_backwards=back, name=n) for back, n in ((0, "a"), (1, "b"))
    )
    module = nn.LSTM(4, 5, batch_first=True, bidirectional=True)
    check(module, kl.Bidirectional(forward, backward_layer=backward), LINE, tmp_path, call=recur)


@pytest.mark.parametrize("both", [True, False])
def test_stacked_recurrent_layers(both, tmp_path):
    layers = [kl.GRU(5, return_sequences=True) for _ in range(3)]
    layers = [kl.Bidirectional(x, name=f"r{i}") if both else x for i, x in enumerate(layers)]
    module = nn.GRU(4, 5, num_layers=3, batch_first=True, bidirectional=both)
    rules = {f"r{i}": {"to": layer.name, "from": f"m/l{i}"} for i, layer in enumerate(layers)}
    check(module, layers, LINE, tmp_path, rules, recur)


def test_cells(tmp_path):
    cell = nn.LSTMCell(4, 5)

    def unroll(module, x):
        state, found = None, []
        for t in range(x.shape[1]):
            state = cell(x[:, t], state)
            found.append(state[0])
        return torch.stack(found, 1)

    check(cell, kl.RNN(kl.LSTMCell(5), return_sequences=True), LINE, tmp_path, call=unroll)


SIGMOIDS = [torch.sigmoid, torch.sigmoid, torch.tanh, torch.sigmoid]


class Gates(nn.Module):
    """A cell as torch's formulas write it, a Linear for each gate."""

    def __init__(self, gates, both=True):
        super().__init__()
        self.gates = gates
        for side, size in (("i", 4), ("h", 5)):
            for gate in gates:
                self.add_module(f"W_{side}{gate}", nn.Linear(size, 5, bias=both or side == "i"))

    def forward(self, x, h, c):
        i = {g: self.get_submodule(f"W_i{g}")(x) for g in self.gates}
        h_ = {g: self.get_submodule(f"W_h{g}")(h) for g in self.gates}
        if "z" in self.gates:
            r, z = (torch.sigmoid(i[g] + h_[g]) for g in "rz")
            return (1 - z) * torch.tanh(i["n"] + r * h_["n"]) + z * h, c
        i, f, g, o = (f(i[k] + h_[k]) for k, f in zip("ifgo", SIGMOIDS, strict=True))
        c = f * c + i * g
        return o * torch.tanh(c), c


def unroll_cell(module, x):
    """Return the outputs of a cell that somebody wrote, or of torch.nn.GRUCell."""
    h = c = torch.zeros(x.shape[0], 5)
    found = []
    for t in range(x.shape[1]):
        h, c = (module.m(x[:, t], h), c) if isinstance(module.m, nn.GRUCell) else module.m(x[:, t], h, c)
        found.append(h)
    return torch.stack(found, 1)


@pytest.mark.parametrize(
    ("module", "layer"),
    [
        (lambda: Gates("ifgo"), lambda: kl.LSTM(5, return_sequences=True)),
        (lambda: Gates("ogif", both=False), lambda: kl.LSTM(5, return_sequences=True)),
        (lambda: Gates("rzn"), lambda: kl.GRU(5, return_sequences=True)),
        (lambda: nn.GRUCell(4, 5), lambda: kl.GRU(5, return_sequences=True)),
        (lambda: Gates("rzn"), lambda: kl.RNN(kl.GRUCell(5), return_sequences=True)),
    ],
)
def test_cells_that_are_written_gate_by_gate(module, layer, tmp_path):
    check(module(), layer(), LINE, tmp_path, call=unroll_cell)


class Attend(kl.Layer):
    """Self-attention, so that the layer takes one input."""

    def __init__(self, **kwargs):
        super().__init__(name="attend")
        self.mha = kl.MultiHeadAttention(**kwargs)

    def build(self, shape):
        self.mha.build(shape, shape)

    def call(self, x):
        return self.mha(x, x)


class Separate(nn.Module):
    """Attention with three Linear layers, as many implementations have it."""

    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        q, k, v = (p(x).unflatten(-1, (4, 2)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


ATTENTION = {"to": "attend/mha", "from": "m"}


@pytest.mark.parametrize("bias", [True, False])
def test_attention(bias, tmp_path):
    module = nn.MultiheadAttention(8, 4, bias=bias, batch_first=True)
    layer = Attend(num_heads=4, key_dim=2, use_bias=bias)
    check(module, layer, (2, 5, 8), tmp_path, {"r": ATTENTION}, lambda m, x: m(x, x, x)[0])


def test_attention_with_projections_of_its_own(tmp_path):
    layer = Attend(num_heads=4, key_dim=2)
    check(Separate(), layer, (2, 5, 8), tmp_path, {"r": ATTENTION}, lambda m, x: m(x))


def test_attention_part_by_part(tmp_path):
    parts = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "attention_output": "out_proj"}
    rules = {ours: {"to": f"attend/mha/{ours}", "from": f"m/{theirs}"} for ours, theirs in parts.items()}
    check(Separate(), Attend(num_heads=4, key_dim=2), (2, 5, 8), tmp_path, rules, lambda m, x: m(x))


def test_attention_weight_by_weight(tmp_path):
    parts = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "attention_output": "out_proj"}
    rules = {
        f"{ours}_{own}": {"to": f"attend/mha/{ours}/{own}", "from": f"m/{theirs}/{name}"}
        for ours, theirs in parts.items()
        for own, name in (("kernel", "weight"), ("bias", "bias"))
    }
    check(Separate(), Attend(num_heads=4, key_dim=2), (2, 5, 8), tmp_path, rules, lambda m, x: m(x))


class Grouped(nn.Module):
    """Attention with fewer heads of keys and values, as Llama names its parts."""

    def __init__(self, output="o_proj"):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = nn.Linear(8, 12), nn.Linear(8, 6), nn.Linear(8, 6)
        self.add_module(output, nn.Linear(12, 8))
        self.output = output

    def forward(self, x):
        q, k, v = (p(x).unflatten(-1, (-1, 3)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        found = nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        return self.get_submodule(self.output)(found.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("output", ["o_proj", "out_proj"])
def test_attention_with_grouped_queries(output, tmp_path):
    layer = Attend(num_heads=1, key_dim=1)
    layer.mha = kl.GroupQueryAttention(head_dim=3, num_query_heads=4, num_key_value_heads=2)
    check(Grouped(output), layer, (2, 5, 8), tmp_path, {"r": {"to": "attend/mha", "from": "m"}}, lambda m, x: m(x))


@pytest.mark.parametrize(
    ("equation", "shape", "axes", "inputs", "joined"),
    [
        ("abc,cd->abd", (None, 3), "d", 4, 0),
        ("abc,dc->abd", (None, 4), "d", 4, 0),
        ("...c,cd->...d", (3,), "d", 4, 0),
        ("abc,cde->abde", (None, 3, 2), "de", 4, 0),
        ("abc,edc->abde", (None, 3, 2), "de", 4, 0),
        ("abcd,cde->abe", (None, 5), "e", 8, 1),
        ("abcd,edc->abe", (None, 5), "e", 8, 1),
        ("abcd,dexc->abex", (None, 3, 2), "ex", 8, 1),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_an_einsum(bias, equation, shape, axes, inputs, joined, tmp_path):
    sizes = [n for n in shape if n]
    module = nn.Linear(inputs, int(np.prod(sizes)), bias=bias)
    layer = kl.EinsumDense(equation, output_shape=shape, bias_axes=axes if bias else None)

    def call(module, x):
        return module(x.flatten(2) if joined else x).unflatten(-1, sizes)

    check(module, layer, (2, 5, 2, 4) if joined else (2, 5, 4), tmp_path, call=call)


def test_cross_attention_with_other_sizes(tmp_path):
    module = randomize(Held(nn.MultiheadAttention(8, 4, kdim=6, vdim=5, batch_first=True)))
    random = np.random.default_rng(2)
    arrays = [random.normal(size=(2, n, d)).astype("float32") for n, d in ((3, 8), (7, 6), (7, 5))]
    inputs = [keras.Input(a.shape[1:]) for a in arrays]
    layer = kl.MultiHeadAttention(4, 2, name="mha")
    model = keras.Model(inputs, layer(inputs[0], inputs[2], key=inputs[1]))
    save_file({k: v.numpy() for k, v in module.state_dict().items()}, tmp_path / "m.safetensors")
    source = {"path": str(tmp_path / "m.safetensors"), "layout": "torch"}
    tp.transfer(source, model, mapping={"r": {"to": "mha", "from": "m"}}, unused="error")
    with torch.no_grad():
        expected = module(*(torch.from_numpy(a) for a in arrays))[0].numpy()
    np.testing.assert_allclose(model(arrays), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [2, 4])
def test_a_transposed_convolution_in_groups_becomes_a_layer_for_each(groups, tmp_path):
    """Keras's transposed convolutions have no groups; what the refusal advises computes the same."""
    module = randomize(Held(nn.ConvTranspose2d(4, 8, 3, stride=2, groups=groups)))
    inputs = np.random.default_rng(1).normal(size=(2, 5, 6, 4)).astype("float32")
    with pytest.raises(tp.RecipeError) as caught:
        transfer(module, [kl.Conv2DTranspose(8, 3, strides=2, name="up")], inputs, tmp_path / "m.safetensors")
    message = str(caught.value)
    assert f"build {groups} layers of {8 // groups} filters, each on its {4 // groups} channels" in message
    advised = re.search(r"a rule (\{to: .*\})", message)[1]
    given, size = keras.Input((5, 6, 4)), 4 // groups
    parts = [
        kl.Conv2DTranspose(8 // groups, 3, strides=2, name=f"up_{k}")(given[..., k * size : (k + 1) * size])
        for k in range(groups)
    ]
    model = keras.Model(given, kl.Concatenate()(parts))
    rules = {f"part {k}": yaml.safe_load(re.sub(r"\bK\b|(?<=_)K\b", str(k), advised)) for k in range(groups)}
    tp.transfer(str(tmp_path / "m.safetensors"), model, mapping=rules)
    with torch.no_grad():
        expected = last(module(first(torch.from_numpy(inputs)))).numpy()
    np.testing.assert_allclose(model(inputs), expected, rtol=1e-5, atol=1e-5)
