"""Files with other layers than the one that they are like: `target.repeat`, against what NumPy makes of the same tensors."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

import transferpipe as tp
from transferpipe.cli import main

follows = pytest.mark.follows
LAYERS, DEEP = r"model/layers/(\d+)", r"(?:enc|dec)/(\d+)"
INSIDE = ("attention.weight", "mlp.up.weight")


@pytest.fixture(autouse=True)
def base(tmp_path, monkeypatch):
    """Write a file of four numbered layers, with tensors before and behind them, and return its tensors."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(3)
    tensors = {"model.embed.weight": random.normal(size=(5, 4)), "head.weight": random.normal(size=(5, 4))}
    for number in range(4):
        tensors |= {f"model.layers.{number}.{name}": random.normal(size=(4, 4)) for name in INSIDE}
    tensors = {name: value.astype("float32") for name, value in tensors.items()}
    save_file(tensors, "base.safetensors", metadata={"format": "pt"})
    return tensors


def run(repeat, path="base.safetensors", save="deep.safetensors", **recipe):
    target = {"like": path, "repeat": repeat}
    recipe = {"target": target, "unmatched": "keep", "save": {"path": save}, **recipe}
    Path("deep.yaml").write_text(json.dumps(recipe))
    return main(["run", "recipe=deep.yaml", f"hydra.run.dir={Path(save).stem}"])


def stacked(tensors, order, first=0):
    """Return what a file has whose layers are those of `order`."""
    result = {name: value for name, value in tensors.items() if ".layers." not in name}
    for new, old in enumerate(order, first):
        result |= {f"model.layers.{new}.{name}": tensors[f"model.layers.{old}.{name}"] for name in INSIDE}
    return result


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize(
    ("ranges", "order"),
    [
        ("0-2, 1-3", [0, 1, 2, 1, 2, 3]),
        (["0-2", "1-"], [0, 1, 2, 1, 2, 3]),
        ("3, 2,1, 0", [3, 2, 1, 0]),
        ([0, 0, "1-3"], [0, 0, 1, 2, 3]),
        (2, [2]),
    ],
)
def test_layers_follow_one_another_as_they_are_listed(base, ranges, order):
    assert run({LAYERS: ranges}) == 0
    assert_same(load_file("deep/deep.safetensors"), stacked(base, order))
    assert main(["verify", "deep"]) == 0


def test_a_rule_takes_some_of_the_layers_from_another_file(base):
    """As mergekit's passthrough does: the first three layers of one model, then the last two of another."""
    other = {name: value + 1 for name, value in base.items()}
    save_file(other, "other.safetensors")
    rule = {"to": r"model/layers/(?P<i>[34])/(.*)", "from": r"model/layers/{i-1}/\2"}
    source = {"path": "other.safetensors", "layout": "keras"}
    assert run({LAYERS: "0-2, 2-3"}, source=source, mapping={"second": rule}) == 0
    wanted = stacked(base, [0, 1, 2]) | {
        name: value for name, value in stacked(other, [2, 3], 3).items() if ".layers." in name
    }
    assert_same(load_file("deep/deep.safetensors"), wanted)


def test_arrays_and_files_in_parts(base):
    np.savez("base.npz", **base)
    for place, names in enumerate((sorted(base)[:5], sorted(base)[5:]), 1):
        save_file({name: base[name] for name in names}, f"model-0000{place}-of-00002.safetensors")
    index = {n: f"model-0000{1 + (k >= 5)}-of-00002.safetensors" for k, n in enumerate(sorted(base))}
    Path("model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    for path in ("base.npz", "model.safetensors.index.json"):
        assert run({LAYERS: "0-,3"}, path, f"{path[:4]}.npz") == 0
        with np.load(f"{path[:4]}/{path[:4]}.npz") as found:
            assert_same({k.replace("/", "."): v for k, v in found.items()}, stacked(base, [0, 1, 2, 3, 3]))


def test_each_stack_has_its_own_numbers():
    tensors = {
        f"{part}.{n}.w": np.full(2, 10 * k + n, "float32") for k, part in enumerate(("enc", "dec")) for n in (1, 2)
    }
    save_file(tensors | {"dec.3.w": np.full(2, 13, "float32")}, "two.safetensors")
    assert run({DEEP: "1, 1-"}, "two.safetensors") == 0
    found = {name: value[0] for name, value in load_file("deep/deep.safetensors").items()}
    assert [found.pop(f"enc.{n}.w") for n in (1, 2, 3)] == [1, 1, 2]
    assert found == {"dec.1.w": 11, "dec.2.w": 11, "dec.3.w": 12, "dec.4.w": 13}


def test_a_proof_finds_that_the_file_changed(base):
    assert run({LAYERS: "0-2, 1-3"}) == 0
    changed = {name: value + 1 if "layers.2" in name else value for name, value in base.items()}
    save_file(changed, "base.safetensors", metadata={"format": "pt"})
    assert main(["verify", "deep"]) != 0


def configured(folder, count):
    config = {"model_type": "llama", "num_hidden_layers": count, "num_attention_heads": 4}
    Path(folder, "config.json").write_text(json.dumps(config))


@follows("code: layer-count")
def test_a_configuration_that_says_another_number_of_layers_is_mentioned(capsys):
    configured(".", 4)
    assert run({LAYERS: "0-2, 2-3"}) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "[layer-count]" in text
    configured("deep", int(re.search(r"goes with the result num_hidden_layers=(\d+)", text)[1]))
    assert run({LAYERS: "0-"}, "deep/deep.safetensors", "again.safetensors") == 0
    assert "layer-count" not in capsys.readouterr().out


@pytest.mark.parametrize("count", [5, 7])
def test_a_configuration_that_does_not_say_the_number_of_the_file_is_not_known(count, capsys):
    configured(".", count)
    assert run({LAYERS: "0-2, 2-3"}) == 0
    assert "layer-count" not in capsys.readouterr().out


def test_a_whole_model_is_refused_of_weights_alone(base, capsys):
    assert run({LAYERS: "0-2"}, save="deep.keras") != 0
    assert "has the weights of repeated layers and no model" in capsys.readouterr().err.replace("\n         ", " ")


@follows("_refuse_model: save as .safetensors or")
def test_a_deeper_model_is_built_and_takes_its_layers_by_rules(capsys):
    keras = pytest.importorskip("keras")

    def made(count):
        keras.utils.clear_session()
        x = inputs = keras.Input((3,))
        for k in range(count):
            x = keras.layers.Dense(3, name=f"block_{k}")(keras.layers.Add()([x, inputs]))
        return keras.Model(inputs, keras.layers.Dense(2, name="head")(x))

    small, deep = made(3), made(5)
    random = np.random.default_rng(0)
    small.set_weights([random.normal(size=w.shape) for w in small.weights])
    small.save("base.keras")
    repeat = {r"block_(\d+)": "0-1, 0-2"}
    assert run(repeat, "base.keras", "deep.keras") == 2
    what, fix = " ".join(capsys.readouterr().err.split()).split(" -> ")
    assert "cannot be written: block 0 takes the outputs of input_layer" in what
    mapping = {f"r{k}": yaml.safe_load(text) for k, text in enumerate(re.findall(r"\{to: .*?\}'\}", fix))}
    assert list(mapping.values()) == [{"to": "block_(?P<i>2|3|4)", "from": "block_{i-2}"}]
    assert "with unmatched=same_name" in fix
    tp.transfer("base.keras", deep, mapping=mapping, unmatched="same_name", strict=True)
    x = wanted = np.ones((1, 3), "float32")
    for name in ("block_0", "block_1", "block_0", "block_1", "block_2"):
        wanted = small.get_layer(name)(wanted + x)
    np.testing.assert_array_equal(deep(x), small.get_layer("head")(wanted))
    assert run(repeat, "base.keras", "deep.safetensors") == 0
    np.testing.assert_array_equal(
        load_file("deep/deep.safetensors")["block_3/kernel"], small.get_layer("block_1").kernel
    )


def refusal(capsys, repeat, **recipe):
    assert run(repeat, **recipe) == 2
    assert not Path("deep/deep.safetensors").exists()
    what, _, fix = " ".join(capsys.readouterr().err.split()).partition(" -> ")
    return what, fix


# The pattern and its ranges, what is wrong, and what the hint tells to write in the place of them.
FOLLOWED = [
    (
        r"_parse: write it as model/layers/(\d+),",
        "model/layers/.*",
        "0-3",
        "has 0 groups",
        lambda fix: {re.search(r"as (\S+),", fix)[1]: "0-3"},
    ),
    (
        r"_parse: write it as model/layers/(\d+),",
        r"(model)/layers/(\d+)",
        "0-3",
        "has 2 groups",
        lambda fix: {re.search(r"as (\S+),", fix)[1]: "0-3"},
    ),
    (
        "_parse: write …-…",
        LAYERS,
        "2-1",
        "ends before it begins",
        lambda fix: {LAYERS: re.search(r"write (\S+)", fix)[1]},
    ),
    (
        "_parse: such as '0-2, 1-3',",
        LAYERS,
        "all",
        "not text 'all'",
        lambda fix: {LAYERS: re.findall(r"'(.*?)'", fix)[0]},
    ),
    (
        "_parse: such as '0-2, 1-3',",
        LAYERS,
        1.5,
        "not number 1.5",
        lambda fix: {LAYERS: re.findall(r"'(.*?)'", fix)[1]},
    ),
    (
        "_parse: such as '0-2, 1-3',",
        LAYERS,
        [],
        "must be numbers of layers",
        lambda fix: {LAYERS: re.findall(r"'(.*?)'", fix)[0]},
    ),
    (
        r"_find_stacks: use (\d+)",
        r"model/layers/(\d/attention)/.*",
        "0",
        "not a number",
        lambda fix: {r"model/layers/(\d/attention)/.*".replace(r"(\d/attention)", fix.split()[1] + "/attention"): "0-"},
    ),
    (
        "_repeat_weights: let the pattern match",
        "model/layers/([01])",
        "0-,0-",
        "would both be called",
        lambda fix: {"model/layers/([01])".replace("([01])", fix.split()[-1]): "0-,0-"},
    ),
]


@pytest.mark.parametrize(
    ("pattern", "ranges", "what", "corrected"), [pytest.param(*c[1:], marks=follows(c[0])) for c in FOLLOWED]
)
def test_what_a_hint_tells_to_write_works(capsys, pattern, ranges, what, corrected):
    text, fix = refusal(capsys, {pattern: ranges})
    assert what in text
    assert run(corrected(fix)) == 0


@pytest.mark.parametrize(
    ("repeat", "what"),
    [
        ({LAYERS: "2-4"}, "2-4 is not within the layers 0 to 3 of the file"),
        ({LAYERS: 4}, "4 is not within the layers 0 to 3 of the file"),
        ({"model/layers/([02])": "0-"}, "have gaps: there is no model/layers/1"),
        ({r"model/blocks/(\d+)": "0"}, "matches nothing in base.safetensors, which has "),
        ({LAYERS: "0", r"model/layers/(\d+)/mlp": "0"}, "is matched by another pattern too"),
        ({LAYERS: ["0-3"] * 2501}, "gives more than 10,000 layers"),
        ({LAYERS: True}, "must be numbers of layers"),
        ({"model/layers/(": "0"}, "is not a regular expression"),
    ],
)
def test_what_is_refused_before_a_value_is_read(capsys, repeat, what):
    assert what in refusal(capsys, repeat)[0]


def test_a_file_is_named_once(capsys):
    target = {"path": "base.safetensors", "like": "base.safetensors"}
    assert "names a file, as `path` does" in refusal(capsys, {}, target=target)[0]
