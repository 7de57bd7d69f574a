"""``save.layout: torch``: a file that torch can load, proved by adapting it again."""

import json

import keras
import numpy as np
import pytest
from keras import layers as kl
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import transferpipe as tp
from transferpipe.cli import main
from transferpipe.errors import RecipeError, VerificationError
from transferpipe.prove import file as verify
from transferpipe.prove.run_folder import verify_run
from transferpipe.values import layout as other_layout


def make_model():
    x = inputs = keras.Input((9, 4))
    x = kl.Conv1D(6, 3, name="conv")(x)
    x = kl.BatchNormalization(name="bn", epsilon=1e-5)(x)
    x = kl.Bidirectional(kl.GRU(4, return_sequences=True), name="gru")(x)
    x = kl.LSTM(8, return_sequences=True, name="lstm")(x)
    x = kl.MultiHeadAttention(4, 2, name="mha")(x, x)
    model = keras.Model(inputs, kl.Dense(3, name="fc")(x), name="net")
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.uniform(0.1, 1, weight.shape))
    return model


def save(tmp_path, path="model.safetensors", model=None, **keys):
    report = tp.transfer(
        None, model or make_model(), unmatched="keep", save={"path": path, "layout": "torch", **keys}, folder=tmp_path
    )
    return report.artifacts[0]


def test_names_axes_and_metadata(tmp_path):
    model = make_model()
    path = save(tmp_path, model=model)
    with safe_open(path, "np") as file:
        assert file.metadata() == {"format": "pt"}
    tensors = load_file(path)
    assert {n for n in tensors if n.startswith(("conv", "bn", "fc", "mha"))} == {
        *("conv.weight", "conv.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"),
        *("mha.in_proj_weight", "mha.in_proj_bias", "mha.out_proj.weight", "mha.out_proj.bias"),
        *("fc.weight", "fc.bias"),
    }
    conv, bias = model.get_layer("conv").get_weights()
    np.testing.assert_array_equal(tensors["conv.weight"], np.einsum("kio->oik", conv))
    np.testing.assert_array_equal(tensors["conv.bias"], bias)
    assert (tensors["lstm.bias_hh_l0"] == 0).all()


@pytest.mark.parametrize("recurrent", [kl.LSTM, kl.SimpleRNN])
def test_both_biases_of_a_recurrent_layer_go_by_other_names(recurrent, tmp_path):
    model = keras.Sequential([keras.Input((3, 2)), recurrent(2, name="lstm"), kl.Dense(2, name="fc")])
    tensors = load_file(save(tmp_path, model=model, names={"lstm": "decoder.rnn"}))
    held = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    assert tensors.keys() == {"fc.weight", "fc.bias", *(f"decoder.rnn.{own}" for own in held)}
    np.testing.assert_array_equal(tensors["decoder.rnn.bias_ih_l0"], model.get_layer("lstm").cell.bias)
    save_file(tensors, tmp_path / "like.safetensors", {"format": "pt"})
    again = load_file(
        save(
            tmp_path / "a",
            "m.safetensors",
            model,
            names={"lstm": "decoder.rnn"},
            like={"path": str(tmp_path / "like.safetensors")},
        )
    )
    for name, value in tensors.items():
        np.testing.assert_array_equal(again[name], value)


@pytest.mark.parametrize("path", ["model.safetensors", "model.npz"])
def test_it_can_be_a_source_again(path, tmp_path):
    model, other = make_model(), make_model()
    for weight in other.weights:
        weight.assign(np.zeros(weight.shape))
    source = {"path": str(save(tmp_path, path, model=model)), "layout": "torch"}
    tp.transfer(source, other, unmatched="same_name", unused="error")
    for ours, theirs in zip(other.get_weights(), model.get_weights(), strict=True):
        assert ours.tobytes() == theirs.tobytes()


def test_torch_loads_it_and_computes_the_same(tmp_path):
    torch = pytest.importorskip("torch")
    nn, model = torch.nn, make_model()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6)
            self.gru = nn.GRU(6, 4, batch_first=True, bidirectional=True)
            self.lstm = nn.LSTM(8, 8, batch_first=True)
            self.mha, self.fc = nn.MultiheadAttention(8, 4, batch_first=True), nn.Linear(8, 3)

        def forward(self, x):
            x = self.bn(self.conv(x.mT)).mT
            x = self.lstm(self.gru(x)[0])[0]
            return self.fc(self.mha(x, x, x)[0])

    net = Net().eval()
    net.load_state_dict({k: torch.from_numpy(v) for k, v in load_file(save(tmp_path, model=model)).items()})
    x = np.random.default_rng(1).normal(size=(2, 9, 4)).astype("float32")
    with torch.no_grad():
        np.testing.assert_allclose(net(torch.from_numpy(x)).numpy(), model(x, training=False), rtol=1e-5, atol=1e-5)


def run(tmp_path, monkeypatch, *more):
    monkeypatch.chdir(tmp_path)
    make_model().save("a.keras")
    (tmp_path / "recipes").mkdir()
    recipe = {"source": "a.keras", "target": "a.keras", "mapping": {"all": {"to": ".*", "from": r"\g<0>"}}}
    (tmp_path / "recipes/out.yaml").write_text("# @package _global_\n" + json.dumps(recipe))
    return main(["run", "recipe=out", "save.path=m.safetensors", "save.layout=torch", "hydra.run.dir=out", *more])


def test_a_run_is_proved_and_proved_again(tmp_path, monkeypatch):
    assert run(tmp_path, monkeypatch, "save.also=[m.keras,m.npz]") == 0
    verdict = verify_run(tmp_path / "out")
    assert (verdict.verdict.weights, verdict.notes) == ("pass", ())
    assert verdict.checked.startswith("75 weights computed again")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert ["tensors" in a for a in manifest["artifacts"]] == [True, False, True]


def test_what_another_writer_would_write_is_refused(tmp_path, monkeypatch):
    right = other_layout._value

    def wrong(exported, values):
        value = right(exported, values)
        return value[::-1] if exported.name == "mha/in_proj_weight" else value

    monkeypatch.setattr(other_layout, "_value", wrong)
    with pytest.raises(VerificationError) as caught:
        save(tmp_path)
    assert {p.where.partition("mha")[2] for p in caught.value.problems} == {
        "/query/kernel",
        "/key/kernel",
        "/value/kernel",
    }
    assert list(tmp_path.iterdir()) == []


def plan(model, **keys):
    return tp.plan(None, model, unmatched="keep", save={"path": "m.npz", "layout": "torch"}, **keys)


def test_the_plan_says_it():
    with_torch, without = plan(make_model()), tp.plan(None, make_model(), unmatched="keep", save="m.npz")
    assert with_torch.checksum != without.checksum
    assert "save_layout" not in without.to_data()


@pytest.mark.follows("code: no-layout")
def test_weights_that_torch_does_not_know_are_named():
    model = keras.Sequential([keras.Input((4,)), kl.Normalization(name="norm"), kl.Dense(2, name="d")])
    (warning,) = [w for w in plan(model).warnings if w.code == "no-layout"]
    assert "torch's layout knows no such layer" in warning.text
    assert "norm/mean" in warning.text
    without = tp.plan(None, model, unmatched="keep", save="m.npz")  # `help warnings`: or save without `layout`
    assert "no-layout" not in [w.code for w in without.warnings]


@pytest.mark.follows("code: half-affine")
def test_half_of_a_normalization_is_loaded_as_it_is_advised(tmp_path):
    torch = pytest.importorskip("torch")
    model = keras.Sequential([keras.Input((4,)), kl.BatchNormalization(center=False, epsilon=1e-5, name="bn")])
    for v in model.variables:
        v.assign(np.random.default_rng(len(v.path)).uniform(0.5, 2, v.shape))
    save = {"path": "m.npz", "layout": "torch"}
    report = tp.transfer(None, model, unmatched="keep", save=save, folder=tmp_path)
    assert "half-affine" in [w.code for w in report.warnings]
    net = torch.nn.Sequential()
    net.add_module("bn", torch.nn.BatchNorm1d(4))
    arrays = {name: torch.tensor(value) for name, value in np.load(tmp_path / "m.npz").items()}
    net.load_state_dict(arrays, strict=False)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    assert np.allclose(net.eval()(torch.tensor(x)).detach(), model(x), atol=1e-5)


def test_what_torch_cannot_have_is_refused_before_anything_is_written():
    model = keras.Sequential([keras.Input((4, 4)), kl.PReLU(name="p"), kl.GRU(2, reset_after=False, name="g")])
    with pytest.raises(RecipeError) as caught:
        plan(model)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("path", ["m.keras", "m.weights.h5"])
def test_only_named_tensors_have_layouts(path):
    with pytest.raises(RecipeError, match=r"save\.layout: torch needs a file of named tensors -> save one of \.safet"):
        tp.plan(None, make_model(), unmatched="keep", save={"path": path, "layout": "torch"})


def rename(tensors):
    return {f"{name}x" if name == "fc.weight" else name: value for name, value in tensors.items()}


def shape_otherwise(tensors):
    return {**tensors, "fc.weight": tensors["fc.weight"].reshape(-1)}


def turn(tensors):
    return {**tensors, "fc.weight": np.ascontiguousarray(tensors["fc.weight"].T)}


def cut(tensors):
    return {**tensors, "mha.in_proj_weight": tensors["mha.in_proj_weight"][:-1]}


def drop(tensors):
    return {name: value for name, value in tensors.items() if name != "lstm.bias_hh_l0"}


@pytest.mark.parametrize("change", [rename, shape_otherwise, turn, cut, drop])
def test_a_file_that_was_changed_fails_its_second_proof(change, tmp_path, monkeypatch):
    assert run(tmp_path, monkeypatch) == 0
    path = tmp_path / "out/m.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})
    with pytest.raises(VerificationError, match=r"its SHA-256 is .* the manifest says"):
        verify_run(tmp_path / "out")


@pytest.mark.parametrize("change", [rename, shape_otherwise, turn, cut, drop])
def test_a_wrong_file_fails_its_first_proof(change, tmp_path, monkeypatch):
    opened = verify.open_source

    def wrong(path):
        save_file(change(load_file(path)), path, {"format": "pt"})
        return opened(path)

    monkeypatch.setattr(verify, "open_source", wrong)
    with pytest.raises(VerificationError):
        save(tmp_path)
    assert list(tmp_path.iterdir()) == []
