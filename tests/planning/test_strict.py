"""Warnings as errors: of the plan before anything is written, of the values before anything is published."""

import json
import re

import keras
import numpy as np
import pytest
from keras import layers
from small_models import codes, dense, values
from unfolded import unfolded

import transferpipe as tp
from transferpipe.codes import WARNINGS
from transferpipe.planning.advice.warned import describe_warnings, refuse_warnings, shorten_warnings
from transferpipe.planning.model import PlanWarning
from transferpipe.planning.reading.read_plan import plan_from_data, warning_from_data
from transferpipe.recipe.model import Recipe
from transferpipe.show.help_pages import read_topic

CROSSED = {"all": {"to": "[ab]", "from": "[ab]", "pair": "order"}}
ONE = {"one": {"to": "a", "from": "a"}}


@pytest.fixture
def source(tmp_path):
    """Return a file with two layers, of which a rule for one leaves the other unused."""
    dense("a", "b", seed=1).save(tmp_path / "source.keras")
    return tmp_path / "source.keras"


def untrained(tmp_path):
    """Return a file of a model that was never trained: a warning that only values show."""
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8, name="a")])
    model.save(tmp_path / "fresh.keras")
    return tmp_path / "fresh.keras"


def allowed(error):
    """Return the codes that a refusal offers to allow."""
    (offer,) = re.findall(r"'allow=\[(.*?)\]'", str(error))
    return offer.split(",")


def test_a_plan_without_warnings_is_as_it_was(source):
    keys = {"mapping": {"all": {"to": "[ab]", "from": r"\0"}}, "unmatched": "error"}
    model = dense("a", "b")
    assert tp.plan(source, model, strict=True, **keys) == tp.plan(source, model, **keys)


def test_a_strict_plan_names_every_warning_and_what_is_offered_works(source):
    keys = {"mapping": ONE, "save": {"path": "m.weights.h5"}, "freeze": ["a"]}
    model = dense("a")
    loose = tp.plan(source, model, **keys)
    assert {"unused", "freeze-not-saved", "nothing-trainable"} <= codes(loose)
    with pytest.raises(tp.RecipeError) as caught:
        tp.plan(source, model, strict=True, **keys)
    for warning in loose.warnings:
        assert f"{warning.where} [{warning.code}]: {warning.text}" in str(caught.value)
    assert set(allowed(caught.value)) == codes(loose)
    allow = allowed(caught.value)
    passed = tp.plan(source, model, strict=True, allow=allow, **keys)
    assert passed == loose  # what is allowed stays a warning


def test_what_was_allowed_before_is_part_of_the_offer(source):
    keys = {"mapping": ONE, "save": {"path": "m.weights.h5"}, "freeze": ["a"], "strict": True}
    with pytest.raises(tp.RecipeError) as caught:
        tp.plan(source, dense("a"), allow=["unused"], **keys)
    assert "[unused]: " not in str(caught.value)
    assert "unused" in allowed(caught.value)
    assert tp.plan(source, dense("a"), **{**keys, "allow": allowed(caught.value)})


def test_allow_without_strict_hides_nothing(source):
    assert "unused" in codes(tp.plan(source, dense("a"), mapping=ONE, allow=["unused"]))


def test_a_strict_run_writes_nothing(source, tmp_path):
    keys = {"mapping": ONE, "save": {"path": "m.keras"}, "folder": tmp_path / "run", "strict": True}
    with pytest.raises(tp.RecipeError, match=r"unused \[unused\]"):
        tp.transfer(source, dense("a"), **keys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("save", [None, {"path": "m.keras", "also": ["m.npz"]}])
def test_warnings_of_values_publish_nothing_and_change_nothing(tmp_path, save):
    model = dense("a", seed=3)
    before = values(model)
    keys = {"mapping": ONE, "folder": tmp_path / "run", "strict": True, **({"save": save} if save else {})}
    with pytest.raises(tp.VerificationError, match=r"source \[untrained-source\]") as caught:
        tp.transfer(untrained(tmp_path), model, **keys)
    assert caught.value.status == 3
    assert all(np.array_equal(a, b) for a, b in zip(before, values(model), strict=True))
    assert [p.name for p in tmp_path.iterdir()] == ["fresh.keras"]
    report = tp.transfer(untrained(tmp_path), model, **keys, allow=allowed(caught.value))
    assert "untrained-source" in codes(report)


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have:UserWarning")
def test_what_loading_again_leaves_open_is_refused_too(source, tmp_path):
    class Own(keras.Model):
        def __init__(self, **settings):
            super().__init__(**settings)
            self.a = layers.Dense(8, name="a")

        def call(self, x):
            return self.a(x)

    model = keras.saving.register_keras_serializable("strict")(Own)()
    model(np.ones((1, 8), "float32"))
    keys = {"save": {"path": "m.keras"}, "verify": {"reload": True}, "unmatched": "keep", "folder": tmp_path / "run"}
    report = tp.transfer(None, model, **keys)
    assert "reload-forward" in codes(report)
    with pytest.raises(tp.VerificationError, match=r"\[reload-forward\]"):
        tp.transfer(None, model, **{**keys, "folder": tmp_path / "other"}, strict=True)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("allow", "hint"),
    [("square-kernal", "did you mean 'square-kernel'"), ("zzzzz", "transferpipe help warnings"), ("UNUSED", "unused")],
)
def test_an_unknown_code_is_refused(source, allow, hint):
    for strict in (True, False):
        with pytest.raises(tp.RecipeError, match="is not the code of a warning") as caught:
            tp.plan(source, dense("a"), mapping=ONE, allow=[allow], strict=strict)
        assert hint in str(caught.value) or allow == "UNUSED"


@pytest.mark.parametrize(("key", "value"), [("strict", "yes"), ("strict", 1), ("allow", 3), ("allow", [1])])
def test_values_of_another_type_are_refused(source, key, value):
    with pytest.raises(tp.RecipeError, match=key):
        tp.plan(source, dense("a"), mapping=ONE, **{key: value})


def test_every_code_can_be_allowed(source):
    assert tp.plan(source, dense("a"), mapping=ONE, strict=True, allow=list(WARNINGS))


@pytest.mark.parametrize("code", WARNINGS)
def test_every_code_is_an_error_unless_it_is_allowed_and_the_topic_tells_of_it(code):
    warning, other = PlanWarning(code, "mapping.x", "a text"), next(c for c in WARNINGS if c != code)
    for allow in ((), (other,)):
        with pytest.raises(tp.RecipeError, match=rf"mapping\.x \[{code}\]: a text") as caught:
            refuse_warnings(Recipe(None, strict=True, allow=allow), [warning], tp.RecipeError)
        assert allowed(caught.value) == [*allow, code]
    refuse_warnings(Recipe(None, strict=True, allow=(code,)), [warning], tp.RecipeError)
    with pytest.raises(tp.RecipeError):  # one that is allowed lets no other pass
        refuse_warnings(
            Recipe(None, strict=True, allow=(code,)), [warning, PlanWarning(other, "", "b")], tp.RecipeError
        )
    kind, topic = WARNINGS[code], unfolded(read_topic("warnings"))
    where, _, example = kind.example.partition(": ")
    told = (f"{code} {'-' * len(code)}", kind.means, str(PlanWarning(code, where, example)), kind.fix)
    assert all(text and unfolded(text) in topic for text in told)


def test_a_crossing_among_many_is_seen_whatever_their_number():
    many = [PlanWarning("square-kernel", "mapping.r", f"l{i}/kernel is square") for i in range(300)]
    one = PlanWarning("names-disagree", "mapping.r", "by order, a/kernel takes b/kernel")
    with pytest.raises(tp.RecipeError) as caught:
        refuse_warnings(Recipe(None, strict=True), [*many, one], tp.RecipeError)
    shown = [str(p) for p in caught.value.problems]
    assert len(shown) == 3
    assert "301 warnings are errors here" in shown[0]
    assert "l0/kernel is square (and 299 more of this kind)" in shown[1]
    assert "by order, a/kernel takes b/kernel" in shown[2]


def test_warnings_are_one_entry_a_kind_with_their_count():
    many = [PlanWarning("square-kernel", f"mapping.r{i % 2}", f"l{i}/kernel is square") for i in range(284)]
    entries = describe_warnings([*many, PlanWarning("unused", "unused", "1 source weight is not used"), many[0]])
    assert [entry[0] for entry in entries] == [
        "[square-kernel] 284 of this kind",
        "[unused] 1 source weight is not used",
    ]
    assert sum(map(len, entries)) == 6
    assert len(shorten_warnings(many)) == 4


def test_a_report_tells_its_warnings_with_codes(source, tmp_path):
    report = tp.transfer(source, dense("a"), mapping=ONE, save={"path": "m.keras"}, folder=tmp_path / "run")
    assert "warning [unused] 2 source weights are not used" in unfolded(report)
    assert {"code": "unused", "where": "unused"}.items() <= report.manifest["warnings"][0].items()


def test_records_of_earlier_versions_are_read(source):
    plan = tp.plan(source, dense("a"), mapping=ONE)
    assert plan_from_data(json.loads(json.dumps(plan.to_data()))) == plan
    assert str(warning_from_data("unused: 2 source weights are not used")) == "unused: 2 source weights are not used"


@pytest.mark.warns("cast-error")
@pytest.mark.parametrize(
    ("number", "said"), [(1.5, "1.5 becomes 1"), (0.9, "0.9 becomes 0; 1 of 2 numbers that count are off")]
)
def test_a_cast_that_changes_numbers_that_count(number, said, tmp_path):
    np.savez(tmp_path / "s.npz", **{"a/table": np.array([[number, 100.0]], "float32")})
    np.savez(tmp_path / "t.npz", **{"a/table": np.zeros((1, 2), "int8")})
    rule = {"to": "a/table", "transform": [{"cast": "int8"}]}
    report = tp.transfer(tmp_path / "s.npz", tmp_path / "t.npz", mapping={"r": rule}, folder=tmp_path, save="o.npz")
    assert "cast-error" in codes(report)
    assert said in str(report)


@pytest.mark.warns("gate-order")
def test_gates_in_the_order_of_torch(tmp_path):
    model = keras.Sequential([keras.Input((5, 2)), layers.GRU(3, name="g")])
    np.savez(tmp_path / "s.npz", **{"g/weight_ih_l0": np.ones((2, 9), "float32")})
    rule = {"to": "g/cell/kernel", "from": "g/weight_ih_l0", "layout": "keras"}
    assert "gate-order" in codes(tp.plan(tmp_path / "s.npz", model, mapping={"r": rule}, unmatched="keep"))
