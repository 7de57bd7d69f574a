"""A torch-style file into a Keras model: the values that arrive, compared with NumPy's transposes."""

import json

import h5py
import keras
import numpy as np
import pytest
from keras import layers as kl
from safetensors.numpy import save_file

import transferpipe as tp
from transferpipe.cli import main
from transferpipe.errors import RecipeError
from transferpipe.execute.open_recipe import layout_of
from transferpipe.recipe.model import Origin
from transferpipe.weights.formats import open_source


def rand(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype("float32")


def norm(name, size, statistics=True):
    kept = {f"{name}.weight": rand(size) + 3, f"{name}.bias": rand(size)}
    more = {f"{name}.running_mean": rand(size) - 1, f"{name}.running_var": rand(size) ** 2}
    return {**kept, **(more if statistics else {})}


TENSORS = {
    "net.conv.weight": rand(8, 4, 3, 5),
    "net.conv.bias": rand(8),
    **norm("net.bn", 8),
    "net.bn.num_batches_tracked": np.array(7),
    "net.dw.weight": rand(16, 1, 3, 2),
    "net.dw.bias": rand(16),
    "net.act.weight": rand(16),
    "net.up.weight": rand(16, 6, 2, 3),
    "net.up.bias": rand(6),
    "net.fc.weight": rand(5, 6 * 7 * 8),
    "net.fc.bias": rand(5),
    **norm("net.ln", 5, statistics=False),
}


def save(path, tensors, **metadata):
    save_file(tensors, path, metadata={k: v for k, v in metadata.items() if v})
    return str(path)


def make_model(name="net"):
    x = inputs = keras.Input((8, 10, 4))
    x = kl.Conv2D(8, (3, 5), name="conv")(x)
    x = kl.BatchNormalization(name="bn")(x)
    x = kl.DepthwiseConv2D((3, 2), depth_multiplier=2, name="dw")(x)
    x = kl.PReLU(shared_axes=[1, 2], name="act")(x)
    x = kl.Conv2DTranspose(6, (2, 3), name="up")(x)
    x = kl.Resizing(7, 8)(x)
    x = kl.Dense(5, name="fc")(kl.Flatten()(x))
    return keras.Model(inputs, kl.LayerNormalization(name="ln")(x), name=name)


MAPPING = {
    "all": {"to": "(conv|bn|dw|act|up|ln)", "from": r"net/\1"},
    "fc": {"to": "fc", "from": "net/fc", "transform": {"kernel": [{"flatten_order": [6, 7, 8]}]}},
}


def expected(tensors):
    t = {k.removeprefix("net."): v for k, v in tensors.items()}
    fc = t["fc.weight"].reshape(5, 6, 7, 8).transpose(2, 3, 1, 0).reshape(-1, 5)
    return {
        "conv": [np.einsum("oihw->hwio", t["conv.weight"]), t["conv.bias"]],
        "bn": [t["bn.weight"], t["bn.bias"], t["bn.running_mean"], t["bn.running_var"]],
        "dw": [np.stack([t["dw.weight"][0::2, 0], t["dw.weight"][1::2, 0]], -1).transpose(1, 2, 0, 3), t["dw.bias"]],
        "act": [t["act.weight"][None, None]],
        "up": [np.einsum("iohw->hwoi", t["up.weight"]), t["up.bias"]],
        "fc": [fc, t["fc.bias"]],
        "ln": [t["ln.weight"], t["ln.bias"]],
    }


def check(model):
    for name, values in expected(TENSORS).items():
        for ours, theirs in zip(model.get_layer(name).weights, values, strict=True):
            np.testing.assert_array_equal(ours.numpy(), theirs)


def test_a_live_model(tmp_path):
    model = make_model()
    path = save(tmp_path / "net.safetensors", TENSORS, format="pt")
    tp.transfer(path, model, mapping=MAPPING, unused="error")
    check(model)


def test_the_command_line_and_its_proof(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_model().save("blank.keras")
    save(tmp_path / "net.safetensors", TENSORS, format="pt")
    (tmp_path / "recipes").mkdir()
    recipe = {"source": "net.safetensors", "target": "blank.keras", "mapping": MAPPING}
    (tmp_path / "recipes/port.yaml").write_text("# @package _global_\n" + json.dumps(recipe))
    assert main(["run", "recipe=port", "hydra.run.dir=out"]) == 0
    assert "net.safetensors (torch's layout)" in capsys.readouterr().out
    assert main(["verify", "out"]) == 0
    check(keras.models.load_model("out/model.keras"))


def plan(tmp_path, layout=None, metadata="pt", tensors=None):
    model = keras.Sequential([keras.Input((3,)), kl.Dense(2, name="fc")])
    tensors = tensors or {"fc.weight": rand(2, 3), "fc.bias": rand(2)}
    path = save(tmp_path / "x.safetensors", tensors, format=metadata)
    source = {"path": path, **({"layout": layout} if layout else {})}
    return tp.plan(source, model, unmatched="same_name")


@pytest.mark.parametrize(("layout", "metadata"), [(None, "pt"), ("auto", "pt"), ("torch", None), ("torch", "keras")])
def test_torchs_layout_is_found_or_said(layout, metadata, tmp_path):
    assert plan(tmp_path, layout, metadata).assignments[0].steps == ({"transpose": [1, 0]},)


@pytest.mark.parametrize(("layout", "metadata"), [("keras", "pt"), (None, "np")])
@pytest.mark.follows("_explain_names: set ….layout=…")
def test_otherwise_it_is_that_of_keras(layout, metadata, tmp_path):
    with pytest.raises(RecipeError, match="a name is not in") as raised:
        plan(tmp_path, layout, metadata)
    (problem,) = raised.value.problems
    assert problem.where == "source.layout"
    assert "x.safetensors, whose names look like PyTorch's, such as fc/bias" in problem.what
    assert problem.fix == "set source.layout=torch"
    assert plan(tmp_path, problem.fix.rpartition("=")[2], metadata).assignments[0].steps == ({"transpose": [1, 0]},)


@pytest.mark.follows("_explain_names: set ….layout=…")
def test_tensors_of_torch_in_an_hdf5_file(tmp_path):
    """Saved one by one under their own names, the dots stand between modules as in all files of named tensors."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["net.0.weight"], file["net.0.bias"] = rand(2, 3), rand(2)
    model = keras.Sequential([keras.Input((3,)), kl.Dense(2, name="d")])
    source, mapping = str(tmp_path / "x.h5"), {"d": {"to": "d", "from": "net/0"}}
    with pytest.raises(RecipeError, match="whose names look like PyTorch's, such as net/0/bias") as raised:
        tp.plan(source, model, mapping=mapping)
    layout = raised.value.problems[0].fix.rpartition("=")[2]
    found = tp.plan({"path": source, "layout": layout}, model, mapping=mapping)
    assert [a.steps for a in found.assignments] == [({"transpose": [1, 0]},), ()]


def test_slashes_are_not_torchs(tmp_path):
    found = plan(tmp_path, tensors={"fc/kernel": rand(3, 2), "fc/bias": rand(2)})
    assert found.assignments[0].steps == ()


def test_the_target_has_the_layout_of_keras():
    with pytest.raises(RecipeError, match=r"target\.layout: the target is a Keras model"):
        tp.plan(None, {"path": "a.keras", "layout": "torch"})


def test_several_files_that_all_say_so(tmp_path):
    tensors = {"fc.weight": rand(2, 3), "fc.bias": rand(2)}
    homes = {name: f"model-{i}.safetensors" for i, name in enumerate(tensors)}
    for name, value in tensors.items():
        save(tmp_path / homes[name], {name: value}, format="pt")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": homes}))
    model = keras.Sequential([keras.Input((3,)), kl.Dense(2, name="fc")])
    found = tp.plan(str(tmp_path / "model.safetensors.index.json"), model, unmatched="same_name")
    assert found.assignments[0].steps == ({"transpose": [1, 0]},)


NAMED = {"conv.weight": rand(5, 3, 3, 3), "conv.bias": rand(5), "bn.running_mean": rand(5), "fc.weight": rand(2, 3)}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (NAMED, True),
        ({"rnn.weight_ih_l0": rand(8, 3), "rnn.bias_hh_l0": rand(8)}, True),
        ({"fc.kernel": rand(3, 2), "fc.bias": rand(2)}, False),
        (NAMED | {"bn.moving_mean": rand(5)}, False),
        (NAMED | {"cls_token": rand(1, 1, 5), "blocks.0.gamma": rand(5)}, True),
        (NAMED | {"vit.embeddings.position_embeddings": rand(1, 4, 5)}, True),
        (NAMED | {"tok.embeddings": rand(4, 5)}, False),
        ({"fc.bias": rand(2), "b.bias": rand(3)}, False),
        ({"weight": rand(2, 3), "bias": rand(2)}, False),
        ({"fc/weight": rand(2, 3), "fc/bias": rand(2)}, False),
    ],
)
@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_names_that_are_torchs(names, found, suffix, tmp_path):
    path = tmp_path / f"x.{suffix}"
    np.savez(path, **names) if suffix == "npz" else save_file(names, path)
    assert layout_of(Origin(str(path)), open_source(path)) == ("torch" if found else "keras")
