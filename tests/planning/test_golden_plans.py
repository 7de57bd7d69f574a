"""Whole plans as people see them, so that a reviewer sees what a change does to them."""

from pathlib import Path

import pytest
from compact import REGENERATE, assert_golden, plan_of, structure

from transferpipe.planning.tables.plan_table import plan_text

GOLDEN = Path(__file__).parent / "golden"


def conv(name, inputs, outputs, layer_class="Conv2D", own="kernel"):
    return f"{name}/{own} 3x3x{inputs}x{outputs} float32 {layer_class}\n {name}/bias {outputs} float32 {layer_class}\n"


def norm(name, size):
    own = ("gamma", "beta", "moving_mean", "moving_variance")
    return "\n".join(f"{name}/{n} {size} float32 BatchNormalization" for n in own) + "\n"


def blocks(name):
    sizes = {(1, 1): (3, 64), (1, 2): (64, 64), (2, 1): (64, 128), (2, 2): (128, 128), (2, 3): (128, 128)}
    return "".join(conv(name.format(b, c), *size) for (b, c), size in sizes.items())


def backbone():
    target = structure(
        blocks("vgg16/block{}_conv{}") + "predictions/kernel 128x2 float32 Dense\n predictions/bias 2 float32 Dense"
    )
    mapping = {
        "trunk": {"to": r"vgg16/block(\d)_conv(\d)", "from": r"block\1/block\1_conv\2"},
        "head": {"to": "predictions", "from": None},
    }
    source = blocks("block{0}/block{0}_conv{1}") + "score/kernel 1x1x64x1\n score/bias 1"
    return plan_of(target, source, mapping, freeze=["vgg16"], name="hed", save={"also": ["model.weights.h5"]})


def soup():
    target = structure("enc/a/kernel 4x4 float16\n enc/a/bias 4 float16\n head/kernel 4x2\n head/bias 2")
    sources = {
        "teacher": "t/a/weight 4x4\n t/a/bias 4\n t/out/kernel 4x5\n t/out/bias 5",
        "student": "s/a/weight 4x4\n s/a/bias 4",
    }
    both = ["teacher:t/a/{}", "student:s/a/{}"]
    mapping = {
        "kernel": {
            "to": "enc/a/kernel",
            "from": [b.format("weight") for b in both],
            "merge": {"linear": [0.25, 0.75]},
            "transform": [{"transpose": [1, 0]}, {"cast": "float16"}],
        },
        "bias": {"to": "enc/a/bias", "from": [b.format("bias") for b in both], "merge": "mean"},
        "head": {
            "to": "head",
            "from": "teacher:t/out",
            "transform": {"kernel": [{"slice": [":", "0:2"]}]},
            "on_mismatch": "keep",
        },
    }
    edits = {
        "probe": {"at": "head/bias", "index": [0], "set": 99.0},
        "damp": {"at": "enc/a/kernel", "index": ["0:2", ":"], "multiply": 0.5},
    }
    return plan_of(target, sources, mapping, edit=edits, freeze="transferred", ignore=["teacher:t/out/bias"])


def by_order():
    target = structure(
        "".join(conv(f"enc/conv{i}", 8, 8) + norm(f"enc/bn{i}", 8) for i in range(3)),
        ". Functional\n enc Functional\n"
        + "".join(f"enc/conv{i} Conv2D\n enc/bn{i} BatchNormalization unrecorded\n" for i in range(3)),
    )
    source = "".join(conv(f"conv2d_{i}", 8, 8) + norm(f"batch_normalization_{i}", 8) for i in (4, 7, 9))
    mapping = {
        "conv": {"to": "enc/conv.", "from": "conv2d.*", "pair": "order", "except": "enc/conv9"},
        "norm": {"to": r"enc/bn(?P<i>\d)", "from": "batch_normalization_{i+7}", "except": "enc/bn[12]"},
        "same": {"to": "enc/bn1/gamma", "from": "batch_normalization_4/beta"},
    }
    return plan_of(target, source, mapping, unmatched="keep", freeze=["enc/bn0"], save="model.npz", seed=3)


def nothing():
    return plan_of("a/kernel 2x2\n a/bias 2", "b/kernel 3x3", unmatched="keep", freeze=[".*"])


@pytest.mark.parametrize("make", [backbone, soup, by_order, nothing])
def test_plans_look_as_they_did(make):
    assert_golden(plan_text(make()), GOLDEN / f"{make.__name__}.txt")


def test_a_comparison_that_fails_shows_what_differs(tmp_path, monkeypatch):
    monkeypatch.delenv(REGENERATE, raising=False)
    folder = tmp_path / "plan" / "golden"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("one\ntwo\n")
    assert_golden("one\ntwo", folder / "a.txt")
    with pytest.raises(pytest.fail.Exception, match=r"(?s)a\.txt.*-two\n\+three.*_REGENERATE=1 pytest plan"):
        assert_golden("one\nthree", folder / "a.txt")
    with pytest.raises(pytest.fail.Exception, match=r"\+one"):
        assert_golden("one", folder / "new.txt")
    monkeypatch.setenv(REGENERATE, "1")
    assert_golden("one\nthree", folder / "a.txt")
    assert (folder / "a.txt").read_text() == "one\nthree\n"
