"""``save.names``: tensors renamed on the way out, proved under the names that they were given."""

import json
import re

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import transferpipe as tp
from transferpipe.cli import main
from transferpipe.errors import RecipeError
from transferpipe.planning.reading.read_plan import plan_from_data
from transferpipe.prove.run_folder import verify_run

RESNET = {
    r"stem_(conv|bn)": r"\g<1>1",
    r"s(?P<s>\d)b(\d)_(conv|bn)(?P<k>\d)": r"layer{s+1}/\2/\3{k+1}",
    r"s(?P<s>\d)b0_sc_conv": "layer{s+1}/0/downsample/0",
    r"s(?P<s>\d)b0_sc_bn": "layer{s+1}/0/downsample/1",
}
WIDTHS = (4, 6, 8, 10)


@pytest.fixture(scope="module")
def resnet():
    """A ResNet-18 of few channels, named as a Keras user names it."""
    import keras
    from keras import layers as kl

    def conv(x, filters, size, strides, name):
        x = kl.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
        return kl.Conv2D(filters, size, strides, use_bias=False, name=name)(x)

    def norm(x, name):
        return kl.BatchNormalization(epsilon=1e-5, name=name)(x)

    inputs = keras.Input((32, 32, 3))
    x = kl.ReLU(name="relu")(norm(conv(inputs, 4, 7, 2, "stem_conv"), "stem_bn"))
    x, width = kl.MaxPooling2D(3, 2, name="pool")(kl.ZeroPadding2D(1, name="pool_pad")(x)), 4
    for stage, filters in enumerate(WIDTHS):
        for block in range(2):
            name, strides = f"s{stage}b{block}_", 2 if stage and not block else 1
            y = kl.ReLU(name=f"{name}relu")(norm(conv(x, filters, 3, strides, f"{name}conv0"), f"{name}bn0"))
            y = norm(conv(y, filters, 3, 1, f"{name}conv1"), f"{name}bn1")
            if filters != width:
                x = norm(conv(x, filters, 1, strides, f"{name}sc_conv"), f"{name}sc_bn")
            x, width = kl.ReLU(name=f"{name}out")(kl.Add(name=f"{name}add")([x, y])), filters
    model = keras.Model(inputs, kl.Dense(5, name="fc")(kl.GlobalAveragePooling2D(name="gap")(x)), name="resnet18")
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.uniform(0.2, 1, weight.shape) - (0.5 if weight.path.endswith("kernel") else 0))
    return model


def torch_name(path):
    """Return torchvision's name of a weight of `resnet`, worked out without templates."""
    layer, own = path.split("/")
    own = {"gamma": "weight", "beta": "bias", "kernel": "weight", "moving_mean": "running_mean"}.get(own, own)
    own = "running_var" if own == "moving_variance" else own
    if layer.startswith("s") and layer[1].isdigit():
        stage, block, rest = int(layer[1]) + 1, layer[3], layer[5:]
        inner = {"sc_conv": "downsample.0", "sc_bn": "downsample.1"}.get(
            rest, f"{rest[:-1]}{int(rest[-1:] == '1') + 1}"
        )
        return f"layer{stage}.{block}.{inner}.{own}"
    return f"{layer.replace('stem_', '')}{'1' if layer.startswith('stem') else ''}.{own}"


def keep(model, folder, **save):
    return tp.transfer(None, model, unmatched="keep", save=save, folder=folder).artifacts[0]


def test_a_resnet_goes_to_torch_in_four_rules(resnet, tmp_path):
    path = keep(resnet, tmp_path, path="r.safetensors", layout="torch", names=RESNET)
    found = load_file(path)
    assert found.keys() == {torch_name(weight.path) for weight in resnet.weights}
    for weight in resnet.weights:
        value = np.asarray(weight)
        value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
        assert found[torch_name(weight.path)].tobytes() == np.ascontiguousarray(value).tobytes(), weight.path
    with safe_open(path, "np") as file:
        assert file.metadata() == {"format": "pt"}


def test_torch_loads_the_resnet_strictly_and_computes_the_same(resnet, tmp_path):
    torch = pytest.importorskip("torch")
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inside, outside, stride):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside)
            self.conv2, self.bn2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside)
            self.downsample = nn.Identity()
            if inside != outside:
                short = nn.Conv2d(inside, outside, 1, stride, bias=False)
                self.downsample = nn.Sequential(short, nn.BatchNorm2d(outside))

        def forward(self, x):
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            return torch.relu(y + self.downsample(x))

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 4, 7, 2, 3, bias=False), nn.BatchNorm2d(4)
            for k, (inside, outside) in enumerate(zip((4, *WIDTHS), WIDTHS, strict=False), 1):
                blocks = Block(inside, outside, 1 if k == 1 else 2), Block(outside, outside, 1)
                setattr(self, f"layer{k}", nn.Sequential(*blocks))
            self.fc = nn.Linear(WIDTHS[-1], 5)

        def forward(self, x):
            x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
            for k in range(1, 5):
                x = getattr(self, f"layer{k}")(x)
            return self.fc(x.mean((2, 3)))

    path = keep(resnet, tmp_path, path="r.safetensors", layout="torch", names=RESNET)
    net = ResNet().eval()
    net.load_state_dict({k: torch.from_numpy(v) for k, v in load_file(path).items()}, strict=True)
    x = np.random.default_rng(1).normal(size=(2, 32, 32, 3)).astype("float32")
    with torch.no_grad():
        theirs = net(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(theirs, resnet(x, training=False), rtol=1e-4, atol=1e-4)


SMALL = {
    "enc1/kernel": np.arange(6.0, dtype="float32").reshape(2, 3),
    "enc1/bias": np.ones(3, "float32"),
    "enc2/kernel": np.full((3, 2), 2, "float32"),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", **SMALL)
    (tmp_path / "recipes").mkdir()
    return tmp_path


def run(names, *more, source="a.npz"):
    recipe = {"source": source, "target": source, "mapping": {"all": {"to": ".*"}}}
    recipe["save"] = {"path": "m.safetensors", "names": names}
    with open("recipes/out.yaml", "w", encoding="utf-8") as file:
        file.write("# @package _global_\n" + json.dumps(recipe))
    return main(["run", "recipe=out", "hydra.run.dir=out", *more])


@pytest.mark.parametrize("path", ["m.safetensors", "m.npz"])
def test_names_stay_with_slashes_and_the_run_is_proved_again(path, here):
    assert run({r"enc(?P<i>\d)": r"stack/{i-1}", "enc2/kernel": None}, f"save.path={path}") == 0
    found = load_file(here / "out" / path) if path.endswith("safetensors") else dict(np.load(here / "out" / path))
    wanted = {"stack/0/kernel": "enc1/kernel", "stack/0/bias": "enc1/bias", "stack/1/kernel": "enc2/kernel"}
    assert found.keys() == wanted.keys()
    assert all(found[new].tobytes() == SMALL[old].tobytes() for new, old in wanted.items())
    again = verify_run(here / "out")
    assert (again.verdict.weights, again.notes) == ("pass", ())
    data = json.loads((here / "out/plan.json").read_text())
    assert [t["key"] for t in data["save_tensors"]] == list(wanted)
    assert plan_from_data(data).to_data()["save_tensors"] == data["save_tensors"]


def test_shards_have_the_new_names(here):
    assert run({"enc1": "one"}, "save.shard=20") == 0
    index = json.loads((here / "out/m.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == {"one/kernel", "one/bias", "enc2/kernel"}
    assert verify_run(here / "out").verdict.weights == "pass"


def test_a_file_with_dots_keeps_them_under_new_names(here):
    save_file({"a.weight": SMALL["enc1/kernel"], "b.weight": SMALL["enc2/kernel"]}, here / "d.safetensors")
    assert run({"a": "x/y"}, source="d.safetensors") == 0
    with safe_open(here / "out/m.safetensors", "np") as file:
        assert (set(file.keys()), file.metadata()) == ({"x.y.weight", "b.weight"}, {"format": "pt"})
    assert verify_run(here / "out").verdict.weights == "pass"


def plan(save):
    tp.plan("a.npz", "a.npz", mapping={"all": {"to": ".*"}}, save=save)


def refused(names, **save):
    with pytest.raises(RecipeError) as caught:
        plan(save={"path": "m.npz", "names": names, **save})
    (problem,) = caught.value.problems
    return str(problem), problem.fix


def test_all_tensors_of_the_same_two_patterns_are_one_problem(here):
    text, _ = refused({r"enc(\d)/kernel": r"a\1", "enc[12]/.*": "b"})
    assert re.search(r"enc1/kernel, enc2/kernel are renamed by '.*' and 'enc\[12\]/\.\*' -> let one pattern", text)


@pytest.mark.follows("_check_one_to_one: write templates that keep")
def test_two_tensors_of_one_name_are_refused(here):
    text, fix = refused({r"enc\d/kernel": "k"})
    assert "enc1/kernel and enc2/kernel would all be called k" in text
    assert fix == "write templates that keep them apart"
    plan(save={"path": "m.npz", "names": {r"enc(\d)/kernel": r"k\1"}})


@pytest.mark.follows("keys_of: let one pattern match")
def test_a_tensor_of_two_patterns_is_refused(here):
    text, fix = refused({r"enc(\d)": r"a\1", "enc2/kernel": "b"})
    assert r"enc2/kernel is renamed by 'enc(\\d)' and 'enc2/kernel'" in text
    assert fix == "let one pattern match each"
    plan(save={"path": "m.npz", "names": {"enc1": "a", "enc2/kernel": "b"}})


@pytest.mark.follows("keys_of: correct the pattern, or")
def test_a_pattern_that_matches_nothing_is_refused(here):
    text, fix = refused({r"dec\d": "a"})
    assert "matches none of the names, such as enc1/kernel" in text
    assert fix == "correct the pattern, or take the line out"
    plan(save={"path": "m.npz", "names": {r"enc1": "a"}})
    plan(save={"path": "m.npz", "names": {}})


@pytest.mark.follows("_rename: capture digits alone, as")
def test_arithmetic_on_what_is_not_a_number_is_refused(here):
    text, fix = refused({r"(?P<i>enc1)/kernel": "a{i+1}"})
    assert "enc1/kernel" in text
    digits = re.search(r"\(\?P<i>.*\)", fix)[0]
    plan(save={"path": "m.npz", "names": {f"enc{digits}": "a{i+1}"}})


@pytest.mark.follows("_rename: write a template that")
def test_a_name_with_an_empty_part_is_refused(here):
    text, fix = refused({r"enc2(x?)": r"\1"})
    assert "enc2/kernel would be called '/kernel', which has an empty part" in text
    assert fix == "write a template that always gives a name"
    plan(save={"path": "m.npz", "names": {r"enc2(x?)": r"b\1"}})


@pytest.mark.follows("compile_template: add the group to")
def test_a_template_of_unknown_groups_is_refused(here):
    text, fix = refused({r"enc\d": r"a\1"})
    assert r"'a\\1' uses \1, but `enc\d` has 0 group(s)" in text
    assert fix == "add the group to the pattern"
    plan(save={"path": "m.npz", "names": {r"enc(\d)": r"a\1"}})


@pytest.mark.follows("_note_unnamed: save one of … #3")
def test_names_need_a_file_of_named_tensors(here):
    text, fix = refused({r"enc1": "a"}, path="m.keras")
    assert "applies only to files of named tensors" in text
    for suffix in fix.removeprefix("save one of ").split(", "):
        plan(save={"path": f"m{suffix}", "names": {"enc1": "a"}})


def dotted(*names):
    import keras

    inputs = keras.Input((2,))
    return keras.Model(inputs, [keras.layers.Dense(3, name=name)(inputs) for name in names])


def test_layers_with_dots_are_saved_for_torch(tmp_path):
    model = dotted("layer1.0.fc", "head")
    found = load_file(keep(model, tmp_path, path="m.safetensors", layout="torch"))
    assert found.keys() == {"layer1.0.fc.weight", "layer1.0.fc.bias", "head.weight", "head.bias"}
    np.testing.assert_array_equal(found["layer1.0.fc.weight"], np.asarray(model.get_layer("layer1.0.fc").kernel).T)


def test_dots_that_collide_are_refused_and_can_be_renamed(tmp_path):
    import keras

    inputs = keras.Input((2,))
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="b")], name="a")
    model = keras.Model(inputs, [inner(inputs), keras.layers.Dense(3, name="a.b")(inputs)])
    with pytest.raises(RecipeError, match=r"would all be called a\.b\.weight") as caught:
        keep(model, tmp_path, path="m.safetensors", layout="torch")
    assert {p.fix for p in caught.value.problems} == {"rename one of the layers, or use save.names"}
    names = {r"a\.b": "c"}
    found = load_file(keep(model, tmp_path, path="m.safetensors", layout="torch", names=names))
    np.testing.assert_array_equal(found["c.weight"], np.asarray(model.get_layer("a.b").kernel).T)
