"""``reverse=true``: a recipe run backwards gives the tensors that it takes, bit for bit."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from transferpipe.cli import main
from transferpipe.prove.run_folder import verify_run

RANDOM = np.random.default_rng(0)


def draw(*shape):
    return RANDOM.normal(size=shape).astype("float32")


MAPPING = {
    "stem": {"to": "stem/kernel", "from": "conv1/weight", "transform": [{"transpose": [2, 3, 1, 0]}]},
    "fc": {
        "to": "fc(?P<i>\\d)",
        "from": "head/{i-1}/weight",
        "transform": [{"transpose": [1, 0]}, {"reshape": [2, 2, 3]}],
    },
    "both": {"to": "rows/kernel", "from": ["a/weight", "b/weight"], "transform": [{"concat": 0}]},
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    return tmp_path


@pytest.fixture
def torch_file(here):
    tensors = {"conv1.weight": draw(4, 3, 2, 2), "head.0.weight": draw(3, 4), "a.weight": draw(1, 2)}
    tensors |= {"b.weight": draw(2, 2), "left.weight": draw(3)}
    save_file(tensors, here / "t.safetensors", metadata={"format": "pt"})
    return tensors


def run(here, mapping, *more):
    blank = {"stem/kernel": np.zeros((2, 2, 3, 4), "f4"), "fc1": np.zeros((2, 2, 3), "f4")}
    np.savez("k.npz", **blank, **{"rows/kernel": np.zeros((3, 2), "f4")})
    recipe = {"source": {"path": "t.safetensors", "layout": "keras"}, "target": {"path": "k.npz"}, "mapping": mapping}
    (here / "recipes/r.yaml").write_text("# @package _global_\n" + json.dumps({**recipe, "unmatched": "keep"}))
    return main(["run", "recipe=r", *more])


def test_there_and_back_is_the_same_file(here, torch_file):
    assert run(here, MAPPING, "save.path=k2.npz", "hydra.run.dir=there") == 0
    blank = {name: np.zeros_like(value) for name, value in torch_file.items()}
    save_file({**blank, "left.weight": torch_file["left.weight"]}, here / "t.safetensors", metadata={"format": "pt"})
    back = ["reverse=true", "target.path=there/k2.npz", "hydra.run.dir=back"]
    assert run(here, MAPPING, *back) == 0
    with safe_open(here / "back/model.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}
    found = load_file(here / "back/model.safetensors")
    assert found.keys() == torch_file.keys()
    assert all(found[name].tobytes() == value.tobytes() for name, value in torch_file.items())
    assert verify_run(here / "back").verdict.weights == "pass"


@pytest.mark.follows("_refuse: leave its rule out:")
def test_a_rule_without_a_reverse_may_be_left_out(here, torch_file, capsys):
    mapping = {**MAPPING, "stem": {**MAPPING["stem"], "transform": [*MAPPING["stem"]["transform"], {"scale": 2.0}]}}
    assert run(here, mapping, "reverse=true", "hydra.run.dir=out") == 2
    advised = re.search(r"leave its rule out: (\S+), with (\S+)", capsys.readouterr().err)
    assert run(here, mapping, "reverse=true", *advised.groups(), "hydra.run.dir=out") == 0
    found = load_file(here / "out/model.safetensors")
    assert found["conv1.weight"].tobytes() == torch_file["conv1.weight"].tobytes()
    assert not found["head.0.weight"].any()


@pytest.mark.parametrize(
    ("shape", "steps", "named"),
    [
        ((6, 4), [{"slice": ["0:3"]}, {"reshape": [2, 2, 3]}], "slice(0:3) has no reverse"),
        ((4, 3), [{"scale": 0.5}, {"transpose": [1, 0]}, {"reshape": [2, 2, 3]}], "scale(0.5) has no reverse"),
    ],
)
def test_a_step_without_a_reverse_is_named(shape, steps, named, here, capsys):
    save_file({"a.weight": draw(*shape)}, here / "t.safetensors")
    rule = {"to": "fc1", "from": "a/weight", "transform": steps}
    assert run(here, {"fc": rule}, "reverse=true", "hydra.run.dir=out") == 2
    assert f"mapping.fc: fc1 cannot be turned back: {named}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("step", "shapes", "made"),
    [
        ({"interleave": {"axis": 0, "parts": 2, "groups": 2}}, [(8, 3)], (8, 3)),
        ({"fuse_qkv": {"order": "by_head", "heads": 4, "kv_heads": 2}}, [(8, 3), (4, 3), (4, 3)], (16, 3)),
        ({"fuse_qkv": {"axis": 1}}, [(2, 4)] * 3, (2, 12)),
        ({"inflate": {"how": "centre"}}, [(2, 3, 4, 5)], (3, 2, 3, 4, 5)),
    ],
)
def test_what_a_step_made_is_taken_apart_again(step, shapes, made, here):
    parts = {f"{name}.w": draw(*shape) for name, shape in zip("abc", shapes, strict=False)}
    save_file(parts, here / "t.safetensors")
    np.savez(here / "k.npz", whole=np.zeros(made, "f4"))
    rule = {"to": "whole", "from": [name.replace(".", "/") for name in parts], "transform": [step]}
    recipe = {"source": {"path": "t.safetensors", "layout": "keras"}, "target": {"path": "k.npz"}}
    (here / "recipes/r.yaml").write_text("# @package _global_\n" + json.dumps({**recipe, "mapping": {"w": rule}}))
    assert main(["run", "recipe=r", "save.path=model.npz", "hydra.run.dir=there"]) == 0
    save_file({name: np.zeros_like(value) for name, value in parts.items()}, here / "t.safetensors")
    assert main(["run", "recipe=r", "reverse=true", "target.path=there/model.npz", "hydra.run.dir=back"]) == 0
    found = load_file(here / "back/model.safetensors")
    assert all(found[name].tobytes() == value.tobytes() for name, value in parts.items())


def test_a_tensor_that_two_weights_take_is_named(here, torch_file, capsys):
    rule = {"to": "rows/kernel", "from": ["a/weight"] * 3, "transform": [{"concat": 0}]}
    assert run(here, {"rows": rule}, "reverse=true", "hydra.run.dir=out") == 2
    assert "a/weight is taken by rows/kernel and rows/kernel and rows/kernel" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::transferpipe.TransferWarning")
def test_a_tensor_that_stays_beside_others_of_its_layer_is_named(here, torch_file, capsys):
    """As the scale of torch's normalization where the model has none; a layer that stays as a whole is no such case."""
    save_file({**torch_file, "conv1.bias": draw(4), "other.bias": draw(4)}, here / "t.safetensors")
    assert run(here, MAPPING, "save.path=k2.npz", "hydra.run.dir=there") == 0
    capsys.readouterr()
    back = ["reverse=true", "target.path=there/k2.npz", "hydra.run.dir=back"]
    assert run(here, MAPPING, *back) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "[half-transferred]: conv1/bias stays as it is in t.safetensors" in told
    assert told.count("[half-transferred]") == 1 and "other/bias stays" not in told


TIED = {
    "tokens": {"to": "tokens/embeddings", "from": "wte/weight"},
    "head": {"to": "head/kernel", "from": "wte/weight", "transform": ["transpose"]},
}


def run_tied(path, *more):
    target = {"tokens/embeddings": (5, 3), "head/kernel": (3, 5)}
    np.savez("k.npz", **{name: np.zeros(shape, "f4") for name, shape in target.items()})
    recipe = {"source": {"path": path, "layout": "keras"}, "target": {"path": "k.npz"}, "mapping": TIED}
    Path("recipes/r.yaml").write_text("# @package _global_\n" + json.dumps(recipe))
    return main(["run", "recipe=r", *more])


@pytest.mark.follows("Same.apply: they are not tied")
def test_a_tensor_that_two_tied_weights_take_is_taken_once(here, capsys):
    save_file({"wte.weight": draw(5, 3)}, here / "t.safetensors")
    table = draw(5, 3)
    np.savez("tuned.npz", **{"tokens/embeddings": table, "head/kernel": table.T})
    back = ["reverse=true", "target.path=tuned.npz"]
    assert run_tied("t.safetensors", *back, "hydra.run.dir=back") == 0
    np.testing.assert_array_equal(load_file(here / "back/model.safetensors")["wte.weight"], table)
    assert verify_run(here / "back").verdict.weights == "pass"
    other = table.copy()
    other[2, 1] += 1
    np.savez("tuned.npz", **{"tokens/embeddings": table, "head/kernel": other.T})
    capsys.readouterr()
    assert run_tied("t.safetensors", *back, "hydra.run.dir=no") != 0
    assert "source 2 differs from source 1 in 1 of 15" in capsys.readouterr().err
    assert not (here / "no/model.safetensors").exists()
    one = ["mapping.head.from=null", "~mapping.head.transform"]
    assert run_tied("t.safetensors", *back, *one, "hydra.run.dir=one") == 0
    np.testing.assert_array_equal(load_file(here / "one/model.safetensors")["wte.weight"], table)


def test_both_names_of_a_tied_tensor_of_torch_change(here):
    torch = pytest.importorskip("torch")
    table = torch.zeros(5, 3)
    torch.save({"wte.weight": table, "lm_head.weight": table, "other.weight": torch.ones(5, 3)}, here / "t.pt")
    tuned = draw(5, 3)
    np.savez("tuned.npz", **{"tokens/embeddings": tuned, "head/kernel": tuned.T})
    assert run_tied("t.pt", "reverse=true", "target.path=tuned.npz", "hydra.run.dir=back") == 0
    found = load_file(here / "back/model.safetensors")
    for name, value in (("wte", tuned), ("lm_head", tuned), ("other", np.ones((5, 3)))):
        np.testing.assert_array_equal(found[f"{name}.weight"], value)


@pytest.mark.parametrize("before", ["", "module."])
def test_a_checkpoint_gets_a_state_dict_that_its_model_loads(before, here):
    """With the names inside of it, and without the `module.` of a model that was trained on several devices."""
    torch = pytest.importorskip("torch")
    state = {f"{before}{n}.weight": torch.ones(*s) for n, s in {"wte": (5, 3), "other": (2, 2)}.items()}
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}, here / "t.pt")
    table = draw(5, 3)
    np.savez("tuned.npz", **{"tokens/embeddings": table, "head/kernel": table.T})
    assert run_tied("t.pt", "reverse=true", "target.path=tuned.npz", "hydra.run.dir=back") == 0
    found = load_file(here / "back/model.safetensors")
    assert found.keys() == {"wte.weight", "other.weight"}
    np.testing.assert_array_equal(found["wte.weight"], table)
    np.testing.assert_array_equal(found["other.weight"], np.ones((2, 2)))
    assert verify_run(here / "back").verdict.weights == "pass"


def test_a_sum_goes_back_whole_into_the_first_and_an_order_into_its_own(here):
    """As torch's two biases of an LSTM, and the gates of a GRU."""
    save_file({"a.weight": draw(3, 2), "b.weight": draw(3, 2)}, here / "t.safetensors", metadata={"format": "pt"})
    steps = ["sum", {"take": {"axis": 0, "indices": [2, 0, 1]}}]
    rule = {"to": "rows/kernel", "from": ["a/weight", "b/weight"], "transform": steps}
    assert run(here, {"rows": rule}, "save.path=k2.npz", "hydra.run.dir=there") == 0
    tuned = np.load(here / "there/k2.npz")
    back = ["reverse=true", "target.path=there/k2.npz", "hydra.run.dir=back"]
    assert run(here, {"rows": rule}, *back) == 0
    found = load_file(here / "back/model.safetensors")
    assert (found["a.weight"] + found["b.weight"])[[2, 0, 1]].tobytes() == tuned["rows/kernel"].tobytes()
    np.testing.assert_array_equal(found["b.weight"], np.zeros((3, 2)))


THIRDS = [
    ("split", lambda k: [{"split": {"axis": 0, "parts": 3, "part": k}}, {"transpose": [1, 0]}]),
    ("slice", lambda k: [{"slice": [f"{4 * k}:{4 * k + 4}"]}, {"transpose": [1, 0]}]),
    ("index", lambda k: [{"reshape": [3, 4, 5]}, {"slice": [k]}, {"transpose": [1, 0]}]),
    (
        "heads",
        lambda k: [{"reshape": [2, 3, 2, 5]}, {"take": {"axis": 1, "indices": [k]}}, {"reshape": [4, 5]}, "transpose"],
    ),
    ("split", lambda k: [{"unfuse_qkv": {"part": "qkv"[k]}}, "transpose"]),
    ("heads", lambda k: [{"unfuse_qkv": {"part": "qkv"[k], "order": "by_head", "heads": 2}}, "transpose"]),
    ("behind", lambda k: [{"transpose": [1, 0]}, {"split": {"axis": -1, "parts": 3, "part": k}}]),
]


def run_thirds(here, steps, parts=range(3)):
    mapping = {"qkv"[k]: {"to": f"{'qkv'[k]}/kernel", "from": "in/weight", "transform": steps(k)} for k in parts}
    recipe = {"source": {"path": "t.safetensors", "layout": "keras"}, "target": {"path": "k.npz"}, "mapping": mapping}
    (here / "recipes/r.yaml").write_text("# @package _global_\n" + json.dumps({**recipe, "unmatched": "keep"}))
    return main(["run", "recipe=r", "reverse=true", "hydra.run.dir=out"])


@pytest.mark.parametrize(("_", "steps"), THIRDS)
def test_thirds_of_one_tensor_are_joined_again(_, steps, here):
    whole = draw(12, 5)
    forward = {
        "split": lambda k: whole[4 * k : 4 * k + 4].T,
        "heads": lambda k: whole.reshape(2, 3, 2, 5)[:, k].reshape(4, 5).T,
    }
    parts = {f"{n}/kernel": forward["heads" if _ == "heads" else "split"](k) for k, n in enumerate("qkv")}
    np.savez(here / "k.npz", **parts)
    save_file({"in.weight": np.zeros((12, 5), "f4")}, here / "t.safetensors")
    assert run_thirds(here, steps) == 0
    np.testing.assert_array_equal(load_file(here / "out/model.safetensors")["in.weight"], whole)


def test_thirds_of_which_one_is_missing_are_named(here, capsys):
    np.savez(here / "k.npz", **{f"{n}/kernel": draw(5, 4) for n in "qkv"})
    save_file({"in.weight": np.zeros((12, 5), "f4")}, here / "t.safetensors")
    assert run_thirds(here, THIRDS[0][1], parts=(0, 2)) == 2
    assert "q/kernel cannot be turned back: split(axis=0, parts=3, part=0) has no reverse" in capsys.readouterr().err


def test_the_thirds_of_an_attention_go_back_to_torch(here, monkeypatch):
    """By the layout's own steps, kernels and biases."""
    import keras

    sequence = keras.Input((4, 6))
    model = keras.Model(sequence, keras.layers.MultiHeadAttention(2, 3, name="a")(sequence, sequence))
    model.set_weights([draw(*w.shape) for w in model.weights])
    model.save(here / "tuned.keras")
    shapes = {"in_proj_weight": (18, 6), "in_proj_bias": (18,), "out_proj.weight": (6, 6), "out_proj.bias": (6,)}
    save_file({f"a.{n}": draw(*s) for n, s in shapes.items()}, here / "t.safetensors", metadata={"format": "pt"})
    recipe = {"source": "t.safetensors", "target": "tuned.keras", "mapping": {"all": {"to": "a"}}}
    (here / "recipes/r.yaml").write_text("# @package _global_\n" + json.dumps(recipe))
    assert main(["run", "recipe=r", "reverse=true", "save.path=r.safetensors", "hydra.run.dir=out"]) == 0
    found, a = load_file(here / "out/r.safetensors"), model.layers[1]
    for k, dense in enumerate((a.query_dense, a.key_dense, a.value_dense)):
        rows = slice(6 * k, 6 * k + 6)
        np.testing.assert_array_equal(found["a.in_proj_weight"][rows], np.asarray(dense.kernel).reshape(6, 6).T)
        np.testing.assert_array_equal(found["a.in_proj_bias"][rows], np.asarray(dense.bias).ravel())
    np.testing.assert_array_equal(found["a.out_proj.weight"], np.asarray(a.output_dense.kernel).reshape(6, 6).T)


def build_small():
    import keras

    layers = [keras.Input((6, 6, 3)), keras.layers.Conv2D(4, 2, name="conv")]
    return keras.Sequential([*layers, keras.layers.BatchNormalization(name="bn", epsilon=1e-5)])


@pytest.mark.parametrize("target", ["tuned.keras", {"_target_": "small_nets.build_small"}])
def test_a_keras_model_goes_back_to_torch(target, here, monkeypatch):
    tensors = {"conv1.weight": draw(4, 3, 2, 2), "conv1.bias": draw(4), "bn1.weight": draw(4), "bn1.bias": draw(4)}
    tensors |= {"bn1.running_mean": draw(4), "bn1.running_var": np.abs(draw(4)), "bn1.num_batches_tracked": np.int64(7)}
    tensors = {name: np.asarray(value) for name, value in tensors.items()}
    save_file(tensors, here / "t.safetensors", metadata={"format": "pt"})
    monkeypatch.setitem(sys.modules, "small_nets", sys.modules[__name__])
    model = build_small()
    for weight in model.weights:
        weight.assign(np.abs(draw(*weight.shape)))
    model.save(here / "tuned.keras")
    recipe = {
        "source": "t.safetensors",
        "target": target,
        "mapping": {"all": {"to": "(conv|bn)", "from": r"\g<1>1"}},
    }
    (here / "recipes/r.yaml").write_text("# @package _global_\n" + json.dumps(recipe))
    path = ["+target.path=tuned.keras"] if isinstance(target, dict) else []
    assert main(["run", "recipe=r", "reverse=true", "save.path=r.keras", "hydra.run.dir=out", *path]) == 0
    found = load_file(here / "out/r.safetensors")
    np.testing.assert_array_equal(found["conv1.weight"], np.asarray(model.layers[0].kernel).transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(found["bn1.running_var"], np.asarray(model.layers[1].moving_variance))
    assert found.keys() == tensors.keys() - {"bn1.num_batches_tracked"}
