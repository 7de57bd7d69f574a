"""From Keras to a file of PyTorch: the mapping is that of the other direction, and its recipe runs backwards."""

import keras
import numpy as np
import pytest
import yaml
from keras import layers
from safetensors.numpy import load_file, save_file

import transferpipe as tp
from transferpipe import RecipeError

RANDOM = np.random.default_rng(0)


def flat():
    parts = [layers.Conv2D(4, 3, padding="same", name="conv"), layers.BatchNormalization(epsilon=1e-5, name="bn")]
    parts += [layers.ReLU(), layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(6, activation="relu", name="fc1")]
    return keras.Sequential([keras.Input((4, 4, 1)), *parts, layers.Dense(6, name="fc2"), layers.Dense(3, name="head")])


def recurrent():
    cells = [layers.LSTM(5, return_sequences=True, name="lstm_0"), layers.LSTM(5, return_sequences=True, name="lstm_1")]
    cells += [layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both"), layers.GRU(4, name="gru")]
    return keras.Sequential([keras.Input((7,)), layers.Embedding(9, 4, name="embedding"), *cells])


def blocks(depth=2, width=8):
    inputs = x = keras.Input((5, width))
    for k in range(depth):
        y = layers.LayerNormalization(epsilon=1e-5, name=f"block{k}_norm1")(x)
        x = layers.Add()([x, layers.MultiHeadAttention(2, 4, name=f"block{k}_attention")(y, y)])
        y = layers.LayerNormalization(epsilon=1e-5, name=f"block{k}_norm2")(x)
        y = layers.Dense(width, activation="relu", name=f"block{k}_dense1")(y)
        x = layers.Add()([x, layers.Dense(width, name=f"block{k}_dense2")(y)])
    return keras.Model(inputs, layers.Dense(3, name="classifier")(x))


def residual(width=4):
    def conv(x, filters, size, stride, name):
        x = layers.ZeroPadding2D(size // 2)(x) if size > 1 else x
        return layers.Conv2D(filters, size, stride, use_bias=False, name=name)(x)

    def norm(x, name):
        return layers.BatchNormalization(epsilon=1e-5, name=name)(x)

    inputs = keras.Input((16, 16, 3))
    x = layers.ReLU()(norm(conv(inputs, width, 3, 2, "stem_conv"), "stem_bn"))
    for stage in range(2):
        for block in range(2):
            name, stride, filters = f"s{stage}b{block}", 2 if stage and not block else 1, width << stage
            y = layers.ReLU()(norm(conv(x, filters, 3, stride, f"{name}_conv0"), f"{name}_bn0"))
            y = norm(conv(y, filters, 3, 1, f"{name}_conv1"), f"{name}_bn1")
            if stage and not block:
                x = norm(conv(x, filters, 1, stride, f"{name}_sc_conv"), f"{name}_sc_bn")
            x = layers.ReLU()(layers.Add()([x, y]))
    return keras.Model(inputs, layers.Dense(3, name="logits")(layers.GlobalAveragePooling2D()(x)))


def filled(model):
    """Return the model with other values than those that it was built with, variances above 0."""
    for weight in model.weights:
        value = RANDOM.uniform(0.2, 1, weight.shape)
        weight.assign(value if "variance" in weight.path else value * RANDOM.choice([-1, 1], weight.shape))
    return model


def torch_modules():
    """Return the same networks as modules, by their builders."""
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
            dense = [nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 3)]
            self.classifier = nn.Sequential(nn.Flatten(), *dense)

        def forward(self, x):
            return self.classifier(self.features(x))

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.rnn = nn.Embedding(9, 4), nn.LSTM(4, 5, num_layers=2, batch_first=True)
            self.bi = nn.LSTM(5, 3, batch_first=True, bidirectional=True)
            self.gate = nn.GRU(6, 4, batch_first=True)

        def forward(self, x):
            return self.gate(self.bi(self.rnn(self.emb(x))[0])[0])[0][:, -1]

    class Block(nn.Module):
        def __init__(self, width=8):
            super().__init__()
            self.ln1, self.attn = nn.LayerNorm(width), nn.MultiheadAttention(width, 2, batch_first=True)
            self.ln2, self.fc1, self.fc2 = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)

        def forward(self, x):
            y = self.ln1(x)
            x = x + self.attn(y, y, y, need_weights=False)[0]
            return x + self.fc2(torch.relu(self.fc1(self.ln2(x))))

    class Blocks(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks, self.head = nn.Sequential(Block(), Block()), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.blocks(x))

    class Basic(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            shortcut = [nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)]
            self.downsample = nn.Sequential(*shortcut) if stride > 1 else None

        def forward(self, x):
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            return torch.relu(y + (self.downsample(x) if self.downsample else x))

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4)
            self.layer1 = nn.Sequential(Basic(4, 4, 1), Basic(4, 4, 1))
            self.layer2 = nn.Sequential(Basic(4, 8, 2), Basic(8, 8, 1))
            self.fc = nn.Linear(8, 3)

        def forward(self, x):
            x = self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x)))))
            return self.fc(x.mean((2, 3)))

    return torch, {flat: Flat, recurrent: Recurrent, blocks: Blocks, residual: Residual}


@pytest.mark.parametrize("build", [flat, recurrent, blocks, residual])
def test_what_is_proposed_loads_strictly_and_computes_the_same(build, tmp_path, monkeypatch):
    torch, modules = torch_modules()
    monkeypatch.chdir(tmp_path)
    model, module = filled(build()), modules[build]()
    torch.save(module.state_dict(), "reference.pt")
    found = tp.suggest(model, "reference.pt")
    assert (found.reverse, found.undecided, found.unmatched) == (True, (), "error")
    tp.transfer("reference.pt", model, mapping=found.mapping, reverse=True, save="new.safetensors")
    tensors = {name: torch.from_numpy(value) for name, value in load_file("new.safetensors").items()}
    module.load_state_dict(tensors, strict=True)
    shape = (3, *model.input_shape[1:])
    values = RANDOM.integers(0, 9, shape) if len(shape) == 2 else RANDOM.normal(size=shape).astype("f4")
    turned = np.ascontiguousarray(np.moveaxis(values, -1, 1)) if len(shape) == 4 else values
    with torch.no_grad():
        theirs = module.eval()(torch.from_numpy(turned)).numpy()
    np.testing.assert_allclose(theirs, np.asarray(model(values)), rtol=2e-4, atol=2e-5)


def reference(path, **tensors):
    save_file({name.replace("__", "."): value.astype("f4") for name, value in tensors.items()}, path)
    return path


def draw(*shape):
    return RANDOM.normal(size=shape)


@pytest.fixture
def dense(tmp_path, monkeypatch):
    """A Keras model, and a file that torch's would have: names, axes, and a tensor more."""
    monkeypatch.chdir(tmp_path)
    parts = [keras.Input((6,)), layers.Dense(5, name="first"), layers.Dense(5, name="second")]
    filled(keras.Sequential([*parts, layers.Dense(2, name="head")])).save("model.keras")
    shapes = {"net__0__weight": (5, 6), "net__0__bias": (5,), "net__2__weight": (5, 5), "net__2__bias": (5,)}
    shapes |= {"out__weight": (2, 5), "out__bias": (2,), "other__weight": (4, 3)}
    reference("reference.safetensors", **{name: draw(*shape) for name, shape in shapes.items()})
    return keras.models.load_model("model.keras")


WORDS = ("suggest", "source=model.keras", "target=reference.safetensors")


def test_the_recipe_writes_each_tensor_of_the_reference(cli, here, dense):
    answer = cli(*WORDS, "--write", "recipes/back.yaml")
    recipe = yaml.safe_load(answer.out)
    assert (recipe["reverse"], recipe["save"]) == (True, {"path": "model.safetensors"})
    assert (recipe["source"], recipe["target"]) == ({"path": "reference.safetensors"}, {"path": "model.keras"})
    assert "# 1 source weight written as the source has them" in answer.out
    assert cli("run", "recipe=back", "hydra.run.dir=out").status == 0
    found, before = load_file("out/model.safetensors"), load_file("reference.safetensors")
    expected = {"other.weight": before["other.weight"]}
    for module, layer in {"net.0": "first", "net.2": "second", "out": "head"}.items():
        kernel, bias = dense.get_layer(layer).get_weights()
        expected |= {f"{module}.weight": kernel.T, f"{module}.bias": bias}
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], value) for name, value in expected.items())


def test_init_writes_the_same_and_asks_for_nothing_of_models(cli, here, dense):
    assert cli("init", "model.keras", "reference.safetensors", "back").status == 0
    text = (here / "recipes/back.yaml").read_text()
    assert "<- model.keras into reference.safetensors" in text
    assert "freeze" not in text
    assert cli("run", "recipe=back", "hydra.run.dir=out").status == 0
    assert np.array_equal(load_file("out/model.safetensors")["out.bias"], dense.get_layer("head").get_weights()[1])


def twins(tmp_path):
    inputs = keras.Input((6,))
    iron, gold = (layers.Dense(5, name=name)(inputs) for name in ("iron", "gold"))
    model = keras.Model(inputs, layers.Dense(2, name="join")(layers.Add()([iron, gold])))
    shapes = {"wolf__weight": (5, 6), "wolf__bias": (5,), "bear__weight": (5, 6), "bear__bias": (5,)}
    shapes |= {"join__weight": (2, 5), "join__bias": (2,)}
    tensors = {name: draw(*shape) for name, shape in shapes.items()}
    return model, reference(tmp_path / "reference.safetensors", **tensors)


def test_hints_pair_what_the_target_file_calls_so(tmp_path):
    model, path = twins(tmp_path)
    found = tp.suggest(model, path)
    assert [c.target for c in found.undecided] == ["iron", "gold"]
    assert "decide with hints: {TENSOR: WEIGHT}" in str(found)
    for hints in ({"bear": "iron"}, {"wolf": "gold"}, {"(bear)|wolf_": "iron"}):
        pairs = {a.target: a.sources[0].name for a in tp.suggest(model, path, hints=hints).plan.assignments}
        assert (pairs["iron/kernel"], pairs["gold/kernel"]) == ("bear/weight", "wolf/weight")
    left = tp.suggest(model, path, hints={"bear": "iron", "join": None})
    assert {a.target.partition("/")[0] for a in left.plan.assignments} == {"iron", "gold"}
    assert "not written" in str(left)


@pytest.mark.follows("turn_hints: did you mean …?", "turn_hints: did you mean …? #2")
def test_a_hint_names_what_is_there(tmp_path):
    model, path = twins(tmp_path)
    for hints, tensor, near in (({"bar": "iron"}, "bar", "bear"), ({"bear": "irn"}, "bear", "iron")):
        with pytest.raises(RecipeError, match=f"hints.{tensor}: .* -> did you mean '{near}'"):
            tp.suggest(model, path, hints=hints)
    assert not tp.suggest(model, path, hints={"bear": "iron"}).undecided
