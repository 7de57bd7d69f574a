"""torch.nn.MultiheadAttention as its exporter writes it: by name where it can be, else by the rules that are printed."""

import re

import keras
import numpy as np
import pytest
import yaml
from keras import layers as kl
from onnx_models import RNG, onnx, run_onnx

import transferpipe as tp
from transferpipe.errors import RecipeError

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore")  # of the tracer of torch, one for every `if` of its module


class Attending(torch.nn.Module):
    """Attention of eight numbers to themselves, or to what another layer makes of them."""

    def __init__(self, cross, bias, keys):
        super().__init__()
        self.att = torch.nn.MultiheadAttention(8, 2, batch_first=True, bias=bias, kdim=keys, vdim=keys)
        self.other = torch.nn.Linear(8, keys or 8) if cross else torch.nn.Identity()
        self.last = torch.nn.Linear(8, 3)
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter)

    def forward(self, x):
        other = self.other(x)
        return self.last(self.att(x, other, other, need_weights=False)[0])


def exported(tmp_path, cross, bias, keys):
    torch.manual_seed(1)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # which has an operator that ONNX has not
    try:
        path, x = str(tmp_path / "m.onnx"), torch.zeros(2, 5, 8)
        names = {"input_names": ["x"], "output_names": ["y"]}
        torch.onnx.export(Attending(cross, bias, keys).eval(), (x,), path, opset_version=17, dynamo=False, **names)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return path


def twin(cross, bias, keys):
    given = keras.Input((5, 8))
    other = kl.Dense(keys or 8, name="other")(given) if cross else given
    return keras.Model(
        given, kl.Dense(3, name="last")(kl.MultiHeadAttention(2, 4, use_bias=bias, name="att")(given, other))
    )


def agree(path, model):
    x = RNG.normal(size=(2, 5, 8)).astype("float32")
    np.testing.assert_allclose(model(x), run_onnx(path, x), rtol=1e-4, atol=1e-4)


EACH = {"to": "(.*)", "from": r"\1"}


def test_fused_projections_are_taken_by_name(tmp_path):
    path, model = exported(tmp_path, False, True, None), twin(False, True, None)
    assert {"att/in_proj_weight", "att/in_proj_bias"} <= {w.name for w in tp.catalog(path)}
    tp.transfer(path, model, mapping={"all": EACH})
    agree(path, model)


@pytest.mark.follows("_report_missing: …")
@pytest.mark.parametrize(
    ("cross", "bias", "keys"), [(False, False, None), (True, True, None), (True, False, None), (True, True, 6)]
)
def test_projections_without_names_are_taken_by_the_rules_that_are_printed(cross, bias, keys, tmp_path):
    path, model = exported(tmp_path, cross, bias, keys), twin(cross, bias, keys)
    with pytest.raises(RecipeError) as caught:
        tp.plan(path, model, mapping={"all": EACH})
    fix = caught.value.problems[0].fix
    apart = yaml.safe_load(re.search(r"except: (\[.*?\])", fix)[1])
    rules = yaml.safe_load(f"[{fix.partition('write the rules ')[2]}]")
    assert len(rules) == len(apart) >= 4
    tp.transfer(path, model, mapping={"all": {**EACH, "except": apart}, **{f"r{k}": r for k, r in enumerate(rules)}})
    agree(path, model)


def test_sizes_that_do_not_tell_are_left_to_the_user(tmp_path):
    """A square matrix short of three, and one that is no multiple of the heads: no rule is made up."""
    path = exported(tmp_path, True, False, None)
    model = twin(True, False, None)
    held = onnx.load(path)
    odd = next(t for t in held.graph.initializer if list(t.dims) == [8, 16])
    odd.CopyFrom(onnx.numpy_helper.from_array(np.zeros((8, 12), "float32"), odd.name))
    onnx.save(held, path)
    with pytest.raises(RecipeError) as caught:
        tp.plan(path, model, mapping={"all": EACH})
    assert "torch's order" not in str(caught.value)
