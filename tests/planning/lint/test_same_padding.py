"""padding='same' with a stride: warned of where torch computes something else, and then the advice gives what it does."""

import re

import keras
import numpy as np
import pytest
from keras import layers as kl
from safetensors.numpy import save_file

import transferpipe as tp

torch = pytest.importorskip("torch")
nn = torch.nn
RNG = np.random.default_rng(0)
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
KERAS = {1: kl.Conv1D, 2: kl.Conv2D, 3: kl.Conv3D}


def image(*sizes, channels=2):
    return RNG.normal(size=(2, *sizes, channels)).astype("float32")


def run(module, x):
    with torch.no_grad():
        return np.moveaxis(module(torch.from_numpy(np.moveaxis(x, -1, 1).copy())).numpy(), 1, -1)


def transfer(module, layers, x, tmp_path):
    """Return the codes and texts of the warnings, and what the Keras layers compute with the weights of `module`."""
    save_file({k: v.numpy() for k, v in module.state_dict().items()}, tmp_path / "m.safetensors", {"format": "pt"})
    model = keras.Sequential([keras.Input(x.shape[1:]), *layers])
    source, rules = str(tmp_path / "m.safetensors"), {"a": {"to": r"m(\d+)", "from": r"\1"}}
    plan = tp.plan(source, model, mapping=rules)
    tp.transfer(source, model, mapping=rules)
    return [w.text for w in plan.warnings if w.code == "same-padding"], np.asarray(model(x, training=False))


def close(found, expected):
    return found.shape == expected.shape and np.allclose(found, expected, rtol=1e-4, atol=1e-5)


def fixed(text, layer, x):
    """Return the layers that a warning advises instead of `layer`."""
    config = layer.get_config() | {"padding": "valid"}
    valid = type(layer).from_config(config)
    if found := re.search(r"put (ZeroPadding\dD)\((.*?)\) before it", text):
        return [getattr(kl, found[1])(eval(found[2])), valid]
    if found := re.search(r"put (Cropping\dD)\((.*)\) behind it", text):
        return [valid, getattr(kl, found[1])(eval(found[2]))]
    if found := re.search(r"put keras\.ops\.pad\(x, (.*), constant_values=float\('-inf'\)\) before it", text):
        pads = eval(found[1])
        return [kl.Lambda(lambda t: keras.ops.pad(t, pads, constant_values=float("-inf"))), valid]
    return [valid]


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_it_is_warned_of_exactly_where_torch_differs(kernel, dilation, tmp_path):
    """torch's padding is half of what the kernel reaches over, which gives outputs of the size that Keras gives."""
    half = dilation * (kernel - 1) // 2
    module = nn.Sequential(nn.Conv1d(2, 3, kernel, 1, half, dilation))
    for stride in (1, 2) if dilation == 1 else (1,):  # Keras refuses both
        for size in range(11, 15):
            x = image(size)
            module[0].stride = (stride,)
            layer = kl.Conv1D(3, kernel, stride, padding="same", dilation_rate=dilation, name="m0")
            texts, found = transfer(module, [layer], x, tmp_path)
            assert bool(texts) != close(found, run(module, x)), (stride, size)


WEIGHTED = {
    "conv1d": (1, lambda p: nn.Conv1d(2, 4, 3, 2, p), 1, lambda: kl.Conv1D(4, 3, 2, padding="same", name="m0"), (8,)),
    "conv2d": (
        2,
        lambda p: nn.Conv2d(2, 4, 7, 2, p),
        3,
        lambda: kl.Conv2D(4, 7, 2, padding="same", name="m0"),
        (12, 12),
    ),
    "one axis": (
        2,
        lambda p: nn.Conv2d(2, 4, 3, (2, 1), p),
        1,
        lambda: kl.Conv2D(4, 3, (2, 1), padding="same", name="m0"),
        (8, 7),
    ),
    "two paddings": (
        2,
        lambda p: nn.Conv2d(2, 4, (3, 5), 2, p),
        (1, 2),
        lambda: kl.Conv2D(4, (3, 5), 2, padding="same", name="m0"),
        (8, 8),
    ),
    "conv3d": (
        3,
        lambda p: nn.Conv3d(2, 4, 3, 2, p),
        1,
        lambda: kl.Conv3D(4, 3, 2, padding="same", name="m0"),
        (6,) * 3,
    ),
    "depthwise": (
        2,
        lambda p: nn.Conv2d(2, 2, 3, 2, p, groups=2),
        1,
        lambda: kl.DepthwiseConv2D(3, 2, padding="same", name="m0"),
        (8, 8),
    ),
    "transposed": (
        2,
        lambda p: nn.ConvTranspose2d(2, 4, 3, 2, p, output_padding=1),
        1,
        lambda: kl.Conv2DTranspose(4, 3, 2, padding="same", name="m0"),
        (5, 4),
    ),
    "transposed line": (
        1,
        lambda p: nn.ConvTranspose1d(2, 4, 5, 2, p, output_padding=1),
        2,
        lambda: kl.Conv1DTranspose(4, 5, 2, padding="same", name="m0"),
        (6,),
    ),
}


@pytest.mark.parametrize("case", WEIGHTED)
def test_the_advice_gives_what_torch_computes(case, tmp_path):
    _, module, padding, layer, sizes = WEIGHTED[case]
    module, x = nn.Sequential(module(padding)), image(*sizes)
    expected = run(module, x)
    (text,), found = transfer(module, [layer()], x, tmp_path)
    assert not close(found, expected)
    assert f"padding={padding}" in text
    assert close(transfer(module, fixed(text, layer(), x), x, tmp_path)[1], expected)
    assert transfer(module, fixed(text, layer(), x), x, tmp_path)[0] == []


POOLED = {
    "max after relu": (nn.MaxPool2d(5, 2, 2), lambda: kl.MaxPooling2D(5, 2, padding="same"), "relu"),
    "max": (nn.MaxPool2d(5, 2, 2), lambda: kl.MaxPooling2D(5, 2, padding="same"), None),
    "average": (nn.AvgPool2d(5, 2, 2), lambda: kl.AveragePooling2D(5, 2, padding="same"), None),
}


@pytest.mark.parametrize("case", POOLED)
def test_pooling_between_layers_of_torch(case, tmp_path):
    pool, layer, activation = POOLED[case]
    module = nn.Sequential(nn.Conv2d(2, 3, 1), *([nn.ReLU()] if activation else []), pool, nn.Conv2d(3, 2, 1))
    x = image(8, 8)

    def layers(between):
        last = len(module) - 1
        return [kl.Conv2D(3, 1, activation=activation, name="m0"), *between, kl.Conv2D(2, 1, name=f"m{last}")]

    (text,), found = transfer(module, layers([layer()]), x, tmp_path)
    assert not close(found, run(module, x))
    assert close(transfer(module, layers(fixed(text, layer(), x)), x, tmp_path)[1], run(module, x))


@pytest.mark.parametrize("kind", ["Max", "Average"])
@pytest.mark.parametrize(("window", "stride"), [(2, 2), (3, 2), (3, 3), (5, 2), (5, 4)])
def test_a_pooling_that_torch_may_have_with_ceil_mode(window, stride, kind, tmp_path):
    """Where ceil_mode, without padding, gives what Keras does, that is said; a window of two has no other padding."""
    pools = {"Max": nn.MaxPool2d, "Average": nn.AvgPool2d}
    module = nn.Sequential(nn.Conv2d(2, 3, 1), pools[kind](window, stride, ceil_mode=True), nn.Conv2d(3, 2, 1))
    for size in range(7, 15):
        pool = getattr(kl, f"{kind}Pooling2D")(window, stride, padding="same")
        x = image(size, size)
        layers = [kl.Conv2D(3, 1, name="m0"), pool, kl.Conv2D(2, 1, name="m2")]
        texts, found = transfer(module, layers, x, tmp_path)
        by_ceil = close(found, run(module, x))
        total = max((-(-size // stride) - 1) * stride + window - size, 0)
        assert bool(texts) == (total % 2 == 1 and (window > 2 or not by_ceil)), size
        assert any("as torch does only with ceil_mode=True" in text for text in texts) == (bool(texts) and by_ceil)


FINE = {
    "size 1": (lambda: kl.Conv2D(4, 1, 2, padding="same", name="m0"), (4, 2, 1, 1), (8, 8)),
    "odd input": (lambda: kl.Conv2D(4, 3, 2, padding="same", name="m0"), (4, 2, 3, 3), (9, 9)),
    "no stride": (lambda: kl.Conv2D(4, 3, padding="same", name="m0"), (4, 2, 3, 3), (8, 8)),
    "even kernel": (lambda: kl.Conv2D(4, 4, 2, padding="same", name="m0"), (4, 2, 4, 4), (8, 8)),
    "patches": (lambda: kl.Conv2D(4, 4, 4, padding="same", name="m0"), (4, 2, 4, 4), (8, 8)),
    "patches of any size": (lambda: kl.Conv2D(4, 4, 4, padding="same", name="m0"), (4, 2, 4, 4), (None, None)),
    "valid": (lambda: kl.Conv2D(4, 3, 2, name="m0"), (4, 2, 3, 3), (8, 8)),
    "transposed": (lambda: kl.Conv2DTranspose(4, 4, 2, padding="same", name="m0"), (2, 4, 4, 4), (8, 8)),
}


def codes_of(layer, kernel, sizes, tmp_path, metadata="pt"):
    weights = {"0.weight": np.zeros(kernel, "float32"), "0.bias": np.zeros(4, "float32")}
    save_file(weights, tmp_path / "m.safetensors", {"format": metadata})
    model = keras.Sequential([keras.Input((*sizes, 2)), layer])
    plan = tp.plan(str(tmp_path / "m.safetensors"), model, mapping={"a": {"to": "m0", "from": "0"}})
    return [w.text for w in plan.warnings if w.code == "same-padding"]


@pytest.mark.parametrize("case", FINE)
def test_what_torch_can_do(case, tmp_path):
    layer, kernel, sizes = FINE[case]
    assert codes_of(layer(), kernel, sizes, tmp_path) == []


def test_an_input_of_any_size(tmp_path):
    layer = kl.Conv2D(4, 3, 2, padding="same", name="m0")
    (text,) = codes_of(layer, (4, 2, 3, 3), (None, None), tmp_path)
    assert "an input of even sizes" in text


def test_layers_that_take_nothing_of_torch(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 2)), kl.Conv2D(4, 3, 2, padding="same", name="m0")])
    model.save(tmp_path / "m.keras")
    assert not tp.plan(str(tmp_path / "m.keras"), model, mapping={"a": {"to": "m0"}}).warnings
