"""Rows in which flattened maps lie beside, or were added to, other values: the advice gives what the original computes."""

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
H, W, C, V = 3, 2, 4, 5


def rand(*shape):
    return RNG.normal(size=shape).astype("float32")


class Net(nn.Module):
    """A map and a vector into a Linear, after `merge` of the flattened map, the vector and what `side` makes of that."""

    def __init__(self, merge, width):
        super().__init__()
        self.conv, self.side, self.fc = nn.Conv2d(C, C, 1), nn.Linear(V, C * H * W), nn.Linear(width, 2)
        self.merge = merge

    def forward(self, image, vector):
        row = torch.flatten(self.conv(image), 1)
        return self.fc(self.merge(row, vector, self.side(vector)))


ROWS = C * H * W
MERGES = {
    "behind": (lambda r, v, s: torch.cat([r, v], 1), lambda r, v, s: kl.Concatenate()([r, v]), ROWS + V),
    "before": (lambda r, v, s: torch.cat([v, r], 1), lambda r, v, s: kl.Concatenate()([v, r]), ROWS + V),
    "twice": (lambda r, v, s: torch.cat([r, v, r], 1), lambda r, v, s: kl.Concatenate()([r, v, r]), 2 * ROWS + V),
    "added to itself": (lambda r, v, s: r + r.relu(), lambda r, v, s: kl.Add()([r, kl.ReLU()(r)]), ROWS),
    "added to others": (lambda r, v, s: r + s, lambda r, v, s: kl.Add()([r, s]), ROWS),
    "scaled": (
        lambda r, v, s: torch.cat([r * s, v], 1),
        lambda r, v, s: kl.Concatenate()([kl.Multiply()([r, s]), v]),
        ROWS + V,
    ),
}


def build(merge, permute=None):
    image, vector = keras.Input((H, W, C)), keras.Input((V,))
    x = kl.Conv2D(C, 1, name="conv")(image)
    row = kl.Flatten()(kl.Permute(permute)(x) if permute else x)
    side = kl.Dense(ROWS, name="side")(vector)
    return keras.Model([image, vector], kl.Dense(2, name="fc")(merge(row, vector, side)))


@pytest.mark.parametrize("case", MERGES)
def test_a_flattened_map_among_others(case, tmp_path):
    merge, in_keras, width = MERGES[case]
    net, image, vector = Net(merge, width), rand(2, H, W, C), rand(2, V)
    with torch.no_grad():
        expected = net(torch.from_numpy(image).movedim(-1, 1), torch.from_numpy(vector)).numpy()
    source = str(tmp_path / "m.safetensors")
    save_file({k: v.numpy() for k, v in net.state_dict().items()}, source, metadata={"format": "pt"})
    used = "side|conv|fc" if case in ("added to others", "scaled") else "conv|fc"
    model, mapping = build(in_keras), {"a": {"to": used}}
    (text,) = (w.text for w in tp.plan(source, model, mapping=mapping).warnings if w.code == "flatten-order")
    if advice := re.search(r"put Permute\((\(.*?\))\) before", text):
        model = build(in_keras, eval(advice[1]))
    else:
        order = eval(re.search(r"flatten_order: (\[.*\])\}\]\}", text)[1])
        mapping = {
            "a": {"to": used, "except": "fc"},
            "fc": {"to": "fc", "transform": {"kernel": [{"flatten_order": order}]}},
        }
    assert not [w for w in tp.plan(source, model, mapping=mapping).warnings if w.code == "flatten-order"]
    tp.transfer(source, model, mapping=mapping)
    np.testing.assert_allclose(model([image, vector]), expected, rtol=1e-4, atol=1e-5)


def first(x):
    return np.moveaxis(x, -1, 1)


@pytest.mark.parametrize("source_first", [True, False])
@pytest.mark.parametrize("as_file", [True, False])
def test_channels_first_into_channels_last_and_back(source_first, as_file, tmp_path):
    """Nothing on this machine convolves with the channels first, so the convolution's part is computed by hand."""

    def make(is_first):
        keys = {"data_format": "channels_first" if is_first else "channels_last"}
        shape = (C, H, W) if is_first else (H, W, C)
        x = kl.Conv2D(C, 1, name="conv", **keys)
        layers = [keras.Input(shape), x, kl.Flatten(), kl.ReLU(), kl.Dense(2, name="fc")]
        return keras.Sequential(layers)

    source, target = make(source_first), make(not source_first)
    source.set_weights([rand(*w.shape) for w in source.weights])
    given = source
    if as_file:
        source.save(tmp_path / "s.keras")
        given = str(tmp_path / "s.keras")
    mapping = {"a": {"to": "conv"}, "fc": {"to": "fc"}}
    (text,) = (w.text for w in tp.plan(given, target, mapping=mapping).warnings if w.code == "flatten-order")
    mapping["fc"]["transform"] = {"kernel": [{"flatten_order": eval(re.search(r"flatten_order: (\[.*?\])", text)[1])}]}
    assert not [w for w in tp.plan(given, target, mapping=mapping).warnings if w.code == "flatten-order"]
    tp.transfer(given, target, mapping=mapping)
    x = rand(2, H, W, C)

    def head(model, is_first):
        kernel, bias, matrix, shift = (np.asarray(w) for w in model.get_weights())
        y = x @ kernel[0, 0] + bias
        return np.maximum((first(y) if is_first else y).reshape(2, -1), 0) @ matrix + shift

    np.testing.assert_allclose(head(target, not source_first), head(source, source_first), rtol=1e-4, atol=1e-5)
