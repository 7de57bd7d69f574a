"""Warnings for callers from Python: through `warnings`, once, of the caller's line, and never a model half changed."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from unfolded import unfolded

import transferpipe as tp

KEPT = {
    "enc/kernel": np.arange(8, dtype="float32").reshape(4, 2),
    "spare/a": np.ones(3, "float32"),
    "spare/b": np.ones(3, "float32"),
}
ALL = {"all": {"to": "enc"}}


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("s.npz", **KEPT)
    np.savez("t.npz", **{"enc/kernel": np.zeros((4, 2), "float32")})
    return tmp_path


def caught(function, *args, **keys):
    """Return the result and the warnings of ours that the call gave."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        result = function(*args, **keys)
    return result, [w for w in found if issubclass(w.category, tp.TransferWarning)]


def test_a_plan_gives_its_warnings_to_the_line_that_asked(files):
    plan, (given,) = caught(lambda: tp.plan("s.npz", "t.npz", mapping=ALL, save="o.npz"))
    assert [w.code for w in plan.warnings] == ["unused"]
    assert given.message.code == "unused"
    assert str(given.message) == f"[unused] unused: {plan.warnings[0].text}"
    assert given.filename == __file__
    assert given.lineno == test_a_plan_gives_its_warnings_to_the_line_that_asked.__code__.co_firstlineno + 1
    assert plan.warnings[0].text in unfolded(plan).replace("\n         ", " ")


def test_a_report_gives_each_warning_once_and_prints_it_too(files):
    report, given = caught(tp.transfer, "s.npz", "t.npz", mapping=ALL, save="out.npz")
    assert [g.message.code for g in given] == [w.code for w in report.warnings] == ["unused"]
    assert str(report).count("[unused]") == 1


def test_many_of_a_kind_are_one_warning(files):
    np.savez("s.npz", **{f"l{i}/kernel": np.full((4, 4), i + 1, "float32") for i in range(9)})
    np.savez("t.npz", **{f"l{i}/kernel": np.zeros((4, 4), "float32") for i in range(9)})
    rules = {f"r{i}": {"to": f"l{i}", "from": f"l{8 - i}"} for i in range(9)}
    plan, given = caught(tp.plan, "s.npz", "t.npz", mapping=rules, save="o.npz")
    codes = {w.code for w in plan.warnings}
    assert codes
    assert sorted(g.message.code for g in given) == sorted(codes)
    assert all(str(g.message).startswith(f"[{g.message.code}] ") for g in given)


@pytest.mark.parametrize(
    ("action", "message", "is_given"),
    [("ignore", r"\[unused\]", False), ("ignore", r"\[square-kernel\]", True), ("ignore", "", False)],
)
def test_filters_choose_by_code(files, action, message, is_given):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings(action, message, tp.TransferWarning)
        if is_given:
            with pytest.raises(tp.TransferWarning, match=r"^\[unused\]"):
                tp.plan("s.npz", "t.npz", mapping=ALL, save="o.npz")
        else:
            tp.plan("s.npz", "t.npz", mapping=ALL, save="o.npz")


def test_an_error_of_the_filters_leaves_no_file(files):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(tp.TransferWarning):
            tp.transfer("s.npz", "t.npz", mapping=ALL, save="out.npz", folder="run")
    assert not (files / "run").exists()


def test_neither_does_one_that_only_values_show(files):
    np.savez("s.npz", **{"enc/kernel": np.zeros((40, 20), "float32")})  # constant: suspicious once it is read
    np.savez("t.npz", **{"enc/kernel": np.ones((40, 20), "float32")})
    report, given = caught(tp.transfer, "s.npz", "t.npz", mapping=ALL, save="out.npz", folder="fine")
    assert [g.message.code for g in given] == [w.code for w in report.warnings] != []
    assert report.plan.warnings == ()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(tp.TransferWarning):
            tp.transfer("s.npz", "t.npz", mapping=ALL, save="out.npz", folder="run")
    assert not (files / "run" / "out.npz").exists()


def test_a_warning_survives_pickling():
    again = pickle.loads(pickle.dumps(tp.TransferWarning("[a] b", "a")))
    assert (str(again), again.code) == ("[a] b", "a")


def test_the_command_line_prints_and_does_not_warn(files):
    (files / "recipes").mkdir()
    (files / "recipes/mine.yaml").write_text(
        "source: {path: s.npz}\ntarget: {path: t.npz}\nmapping: {all: {to: enc}}\nsave: {path: out.npz}\n"
    )
    command = [sys.executable, "-W", "error", "-m", "transferpipe", "run", "recipe=mine"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[unused]" in done.stdout
    assert "TransferWarning" not in done.stdout + done.stderr


@pytest.fixture
def live():
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(3)

    def build(name):
        body = [keras.layers.Dense(4, name="enc"), keras.layers.BatchNormalization(name="bn")]
        return keras.Sequential([keras.Input((8,)), *body, keras.layers.Dense(3, name="head")], name=name)

    return build("a"), build("b")


@pytest.mark.parametrize("save", [None, "out.keras"])
@pytest.mark.parametrize("kind", ["plan", "values"])
def test_a_filter_that_raises_leaves_a_live_model_as_it_was(live, tmp_path, save, kind):
    source, target = live
    if kind == "plan":  # the head is not used
        rules, unmatched = {"body": {"to": "enc|bn"}}, "keep"
    else:  # the kernel holds nothing
        source.layers[0].kernel.assign(np.zeros((8, 4)))
        rules, unmatched = {"all": {"to": ".*"}}, "error"
    keys = {"mapping": rules, "unmatched": unmatched, "save": save, "folder": tmp_path / "run", "freeze": "enc"}
    if kind == "plan":
        keys["ignore"] = ()
    before, flags = [w.numpy() for w in target.weights], [layer.trainable for layer in target.layers]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(tp.TransferWarning):
            tp.transfer(source, target, **keys)
    assert all(np.array_equal(a, w.numpy()) for a, w in zip(before, target.weights, strict=True))
    assert [layer.trainable for layer in target.layers] == flags
    assert not (tmp_path / "run" / "out.keras").exists()
    report, given = caught(tp.transfer, source, target, **keys)
    assert sorted({g.message.code for g in given}) == sorted({w.code for w in report.warnings})
    assert len({str(g.message) for g in given}) == len(given)
    assert np.array_equal(source.layers[1].gamma.numpy(), target.layers[1].gamma.numpy())


def test_so_does_one_about_the_function_which_is_only_known_once_the_model_has_its_values(live):
    source, target = live
    rules = {"enc": {"to": "enc", "from": None}, "rest": {"to": "bn|head"}}  # what is kept stands before all the rest
    before = [w.numpy() for w in target.weights]
    keys = {"mapping": rules, "ignore": "enc", "verify": {"parity": "source"}}
    _, given = caught(tp.transfer, source, target, **keys)
    assert "parity-inconclusive" in [g.message.code for g in given]
    for weight, value in zip(target.weights, before, strict=True):
        weight.assign(value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", r"\[parity-inconclusive\]", tp.TransferWarning)
        with pytest.raises(tp.TransferWarning, match="parity-inconclusive"):
            tp.transfer(source, target, **keys)
    assert all(np.array_equal(a, w.numpy()) for a, w in zip(before, target.weights, strict=True))
