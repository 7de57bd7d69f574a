"""Groups of `to` in the arguments of transforms and merges: what each layer gets, against NumPy."""

import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import transferpipe as tp
from transferpipe.errors import RecipeError

QKV = np.arange(24, dtype="float32").reshape(6, 4)
ONE, TWO = (np.random.default_rng(k).normal(size=(3, 2, 2)).astype("float32") for k in (1, 2))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layers = {f"layer{k}/kernel": np.zeros((2, 2), "float32") for k in (1, 2, 3)}
    save_file({"qkv/kernel": QKV}, "fused.safetensors")
    for name, values in (("one", ONE), ("two", TWO)):
        save_file({f"layer{k}/kernel": values[k - 1] for k in (1, 2, 3)}, f"{name}.safetensors")
    save_file(layers | {f"part/{p}/kernel": np.zeros((2, 4), "float32") for p in (1, 2, 3)}, "target.safetensors")


def run(rule, sources=None, unmatched="keep", more=None):
    sources = sources or {"fused": "fused.safetensors"}
    given = {name: {"path": path, "layout": "keras"} for name, path in sources.items()}
    Path("o.safetensors").unlink(missing_ok=True)
    report = tp.transfer(
        given, "target.safetensors", mapping={"r": rule, **(more or {})}, unmatched=unmatched, save="o.safetensors"
    )
    return load_file("o.safetensors"), report


@pytest.mark.parametrize(
    ("to", "part"),
    [(r"part/(?P<k>\d)/kernel", "{k-1}"), (r"part/(?P<k>\d)", "{k - 1}"), (r"part/(?:1|(?P<k>\d))", "{(k+1)//2}")],
)
def test_the_number_of_a_layer_says_which_part_it_takes(to, part):
    source = "qkv/kernel" if to.endswith("kernel") else "qkv"
    made, report = run({"to": to, "from": source, "transform": [{"split": {"axis": 0, "parts": 3, "part": part}}]})
    for k in (1, 2, 3):
        place = 0 if "|" in to and k == 1 else (k + 1) // 2 if "|" in to else k - 1
        np.testing.assert_array_equal(made[f"part/{k}/kernel"], np.split(QKV, 3)[place])
    assert report.verdict.weights == "pass"


def test_layers_with_the_same_arguments_stay_one_rule():
    rule = {"to": r"part/(\d)/kernel", "from": "qkv/kernel", "transform": [{"slice": ["0:2"]}, {"scale": r"1.\1"}]}
    made, report = run(rule)
    np.testing.assert_allclose(made["part/3/kernel"], QKV[:2] * np.float32(1.3), rtol=1e-6)
    assert [a.rule for a in report.plan.assignments] == [r"r (\1=1)", r"r (\1=2)", r"r (\1=3)"]
    (*_, last) = run({**rule, "to": r"part/([23])/(kernel)", "transform": [{"slice": ["0:2"]}, {"scale": 2}]})
    assert {a.rule for a in last.plan.assignments} == {"r"}


def test_rules_of_a_template_go_by_the_name_that_stands_in_the_recipe():
    steps = [{"split": {"axis": 0, "parts": 3, "part": "{(k+1)//2}"}}]
    rule = {"to": r"part/(?P<k>\d)/kernel", "from": "qkv/kernel", "transform": steps}
    (_, report) = run({**rule, "to": r"part/(?P<k>[123])/kernel"})
    assert [a.rule for a in report.plan.assignments] == ["r (k=1|2)", "r (k=1|2)", "r (k=3)"]
    assert "r (k=3)" in str(report.plan)
    with pytest.raises(RecipeError) as caught:
        run({**rule, "transform": [{"slice": ["0:{k}"]}]})
    assert {p.where.partition(" ")[0] for p in caught.value.problems} == {"mapping.r"}


@pytest.mark.parametrize("way", [r"mapping.r `except: '([^']*)'`", r"mapping.(\w+)=null"])
@pytest.mark.follows("_check_disjoint: give …, or switch")
def test_what_is_said_of_two_rules_can_be_written_into_the_recipe(way):
    rule = {"to": r"part/(\d)/kernel", "from": "qkv/kernel", "transform": [{"slice": ["0:2"]}, {"scale": r"1.\1"}]}
    other = {"to": "part/2/kernel", "from": "qkv/kernel", "transform": [{"slice": ["2:4"]}]}
    with pytest.raises(RecipeError) as caught:
        run(rule, more={"s": other})
    (problem,) = caught.value.problems
    assert problem.where == "mapping.r, mapping.s"
    found = re.search(way, problem.fix)[1]
    rules = (None, other) if found == "r" else ({**rule, "except": found}, other)
    made, _ = run(rules[0], more={"s": rules[1]})
    np.testing.assert_array_equal(made["part/2/kernel"], QKV[2:4])
    scaled = QKV[:2] * np.float32(1.3) if rules[0] else np.zeros((2, 4))
    np.testing.assert_allclose(made["part/3/kernel"], scaled, rtol=1e-6)


def test_the_way_between_two_networks_goes_by_the_layer():
    """As mergekit's gradients do: the first layers of one, the last of the other."""
    rule = {"to": r"layer(?P<k>\d)", "from": [r"one:\0", r"two:\0"], "merge": {"lerp": "0.{25*k}"}}
    made, _ = run(rule, {"one": "one.safetensors", "two": "two.safetensors"})
    for k in (1, 2, 3):
        exact = ONE[k - 1] + (TWO[k - 1].astype("float64") - ONE[k - 1]) * 0.25 * k
        np.testing.assert_allclose(made[f"layer{k}/kernel"], exact, rtol=1e-6)


def test_each_source_may_have_arguments_of_its_own_layer():
    """And a file may be named by the layer."""
    for k in (1, 2, 3):
        Path(f"old{k}.txt").write_text("a\nb\n")
        Path(f"new{k}.txt").write_text(("b\na\n", "a\nb\n", "b\na\n")[k - 1])
    steps = [{"class_names": {"from": r"old\1.txt", "to": r"new\1.txt", "axis": 1}}]
    rule = {"to": r"layer(\d)", "from": {"name": r"one:\0", "transform": {"kernel": steps}}}
    made, report = run(rule, {"one": "one.safetensors", "two": "two.safetensors"})
    for k in (1, 2, 3):
        np.testing.assert_array_equal(made[f"layer{k}/kernel"], ONE[k - 1][:, ::-1] if k != 2 else ONE[k - 1])
    assert report.verdict.weights == "pass"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"to": r"part/(\d)/kernel", "transform": [{"slice": [r"\2"]}]}, r"names the group \\2; .* has 1 group"),
        ({"to": r"part/\d/kernel", "transform": [{"scale": r"\1"}]}, "has no group"),
        ({"to": r"part/(?P<k>\d)/kernel", "transform": [{"scale": "{n}"}]}, r"names the group \{n\}"),
        ({"to": r"part/(?P<k>\d)/kernel", "transform": [{"scale": "{k/2}"}]}, "may use only named groups"),
        ({"to": r"(?P<k>part)/\d/kernel", "transform": [{"scale": "{k+1}"}]}, "which is not an integer"),
        ({"to": r"part/(\d)/kernel", "transform": [{"scale": r"x\1"}]}, "scale .* must be|must be a number"),
        ({"to": r"part/(\d)/kernel", "transform": [{"split": {"axis": 0, "parts": 3, "part": r"\1"}}]}, "part"),
        ({"to": r"part/(\d)", "from": "qkv", "pair": "order", "transform": [{"scale": r"\1"}]}, "means nothing with `pair: order`"),
    ],
)  # fmt: skip
def test_what_cannot_be_filled_in_is_refused(rule, said, tmp_path):
    with pytest.raises(RecipeError, match=said):
        run({"from": "qkv/kernel", **rule})
    assert not (tmp_path / "o.safetensors").exists()
