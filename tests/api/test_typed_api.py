"""What Python users are offered: names, types, documentation, and that it costs nothing until it is used."""

import inspect
import json
import subprocess
import sys
import typing
from pathlib import Path

import keras
import numpy as np
import pytest

import transferpipe as tp
from transferpipe.recipe import keywords
from transferpipe.recipe.keys import SECTIONS
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.record import SweepRecord, write_record

FUNCTIONS = (
    "catalog",
    "diff",
    "inspect",
    "parity",
    "plan",
    "rank_sweep",
    "read_sweep",
    "suggest",
    "transfer",
    "verify",
)
NOT_FROM_PYTHON = {"defaults", "vars", "sweep", "score", "sources"}
TYPES = {
    "origin": keywords.OriginKeys,
    "source": keywords.SourceKeys,
    "rule": keywords.RuleKeys,
    "edit": keywords.EditKeys,
    "save": keywords.SaveKeys,
    "verify": keywords.VerifyKeys,
    "parity": keywords.ParityKeys,
}


def test_all_that_is_public_is_there_and_in_dir():
    assert set(FUNCTIONS) <= set(tp.__all__) == {name for name in dir(tp) if not name.startswith("__")}
    for name in tp.__all__:
        assert getattr(tp, name).__name__ == name
    with pytest.raises(AttributeError, match="'transferpipe' has no attribute 'maping'"):
        tp.maping  # noqa: B018


def test_the_types_are_shipped():
    assert (Path(tp.__file__).parent / "py.typed").is_file()


def test_the_first_function_costs_neither_keras_nor_hydra():
    script = (
        "import sys, transferpipe as tp; [getattr(tp, n) for n in tp.__all__];"
        "print({n.partition('.')[0] for n in sys.modules} & {'tensorflow', 'keras', 'hydra', 'omegaconf', 'torch', 'jax'})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_is_named_and_typed_and_documented(name):
    function = getattr(tp, name)
    parameters = inspect.signature(function).parameters
    hints = typing.get_type_hints(function)
    assert all(p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters.values())
    assert {*parameters, "return"} == set(hints)
    assert typing.Any not in hints.values()
    for parameter in parameters:
        assert f"\n        {parameter}: " in inspect.getdoc(function).replace("\n    ", "\n        "), parameter


@pytest.mark.parametrize("function", [tp.plan, tp.transfer], ids=["plan", "transfer"])
def test_the_keywords_are_the_keys_of_a_recipe_with_their_defaults(function):
    parameters = inspect.signature(function).parameters
    keys = {k: v for k, v in SECTIONS["recipe"].items() if k not in NOT_FROM_PYTHON}
    assert set(parameters) - {"folder"} == set(keys)
    for name, key in keys.items():
        default = parameters[name].default
        if default not in (inspect.Parameter.empty, None, ()):
            assert default == key.default, name
        words = literal_words(typing.get_type_hints(function)[name])
        if key.kind == "choice" and words:
            assert words == set(key.words), name


def literal_words(hint):
    """Return the words of the literals in a type."""
    if typing.get_origin(hint) is typing.Literal:
        return set(typing.get_args(hint))
    return set().union(*(literal_words(inner) for inner in typing.get_args(hint)))


@pytest.mark.parametrize("section", TYPES)
def test_the_typed_mappings_have_the_keys_and_words_of_the_table(section):
    hints = typing.get_type_hints(TYPES[section])
    assert set(hints) == set(SECTIONS[section])
    for name, key in SECTIONS[section].items():
        if key.kind == "choice":
            assert literal_words(hints[name]) == set(key.words), name


PROGRAM = """
from pathlib import Path
import numpy as np
import transferpipe as tp


def right(model: tp.KerasModel) -> None:
    rules = {"a": {"to": "enc/(.*)", "from": None}, "b": {"to": "x", "transform": [{"transpose": [1, 0]}]}}
    report: tp.Report = tp.transfer("a.keras", model, mapping=rules, freeze=["enc"], save={"path": Path("x.keras")})
    plan: tp.Plan = tp.plan({"path": "a.pt", "layout": "torch"}, "b.keras", mapping={"a": {"to": ".*"}}, freeze="enc")
    plan = tp.plan({"one": "a.keras", "two": model}, {"_target_": "my_models.build", "units": 4}, seed=3, edit=None)
    difference: tp.Diff = tp.diff("a.keras", model, rules)
    suggestion: tp.Suggestion = tp.suggest(Path("a.pt"), model, hints={"head": None})
    tp.transfer("a.pt", model, mapping=suggestion.mapping, unmatched="keep", verify={"parity": "source"})
    parity: tp.Parity = tp.parity("a.keras", model, inputs={"x": np.zeros((1, 8))}, atol=1e-5)
    proof: tp.RunProof = tp.verify("outputs/run")
    catalog: tp.Catalog = tp.catalog(model)
    inspection: tp.Inspection = tp.inspect("a.pt", match="fc/*", stats=True)
    sweep: tp.SweepResults = tp.rank_sweep(Path("multirun"))
    shapes: list[tuple[int, ...]] = [weight.shape for weight in catalog]
    codes: list[str] = [warning.code for warning in report.warnings]
    rule: tp.RuleKeys = {"to": "enc", "from": ["a", "b"], "merge": {"linear": [0.5, 0.5]}}
    print(plan, difference.equal, parity.verdict, proof.verdict, sweep.best, inspection.tree(), shapes, codes, rule)


def wrong(model: tp.KerasModel) -> None:
    tp.transfer("a", model, maping={})
    tp.plan("a", model, unmatched="kep")
    tp.plan("a", model, freeze=3)
    tp.plan("a", model, mapping="enc")
    tp.plan("a", model, seed="7")
    tp.catalog(5)
    tp.diff("a")
    tp.parity("a", model, rtol="1e-3")
    tp.verify("a", "b")
    tp.suggest("a", model, hints=["head"])
    tp.read_sweep(model)
    tp.rank_sweep(model)
    tp.inspect("a", stats="yes")
    tp.nothing
    rule: tp.RuleKeys = {"tto": "enc"}
    tp.plan("a", model).assignmets
"""


def test_a_type_checker_knows_right_calls_from_wrong_ones(tmp_path):
    api = pytest.importorskip("mypy.api")
    (tmp_path / "user.py").write_text(PROGRAM)
    top = str(Path(tp.__file__).parent.parent)
    run = f"import sys, os; os.environ['MYPYPATH'] = {top!r}; from mypy import api; print(*api.run(sys.argv[1:])[:2])"
    words = ["--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache"), "user.py"]
    done = subprocess.run(
        [sys.executable, "-c", run, *words], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    found = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error: " in line}
    lines = PROGRAM.splitlines()
    first = lines.index("def wrong(model: tp.KerasModel) -> None:") + 2
    assert found == set(range(first, len(lines) + 1)), done.stdout
    assert api


def test_the_results_of_a_sweep_are_those_of_its_table(tmp_path):
    def entry(cut, seed, value):
        score = {"value": value, "name": "accuracy", "higher_is_better": True}
        result = {"status": "done", "checksum": "p1", "artifacts": [], "score": score, "seconds": 1.0}
        return Entry({"vars.cut": cut, "seed": seed}, None, f"v{cut}{seed}", "p1", result)

    scores = {("1", "0"): 0.5, ("1", "1"): 0.6, ("2", "0"): 0.9, ("2", "1"): 0.8}
    for (cut, seed), value in scores.items():
        found = entry(cut, seed, value)
        (tmp_path / found.key).mkdir()
        (tmp_path / found.key / "result.json").write_text(json.dumps(found.result))
    write_record(tmp_path, SweepRecord("cuts", tuple(entry(*key, value) for key, value in scores.items())))
    sweep = tp.rank_sweep(str(tmp_path))
    assert repr(sweep) == "<SweepResults cuts: 4 of 4 variants finished>"
    assert [row.setting for row in sweep] == [{"vars.cut": "2"}, {"vars.cut": "1"}]
    assert sweep.best is sweep.rows[0]
    assert sweep.best.score.mean == pytest.approx(0.85)
    assert "accuracy" in str(sweep)
    assert len(sweep.to_data()["variants"]) == len(sweep.variants) == 4


@pytest.mark.parametrize("wrapped", [lambda x: x, lambda x: [x], lambda x: (x,), lambda x: {"any": x}])
def test_parity_takes_arrays_as_somebody_holds_them(wrapped):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="fc")])
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    assert tp.parity(model, model, inputs=wrapped(x)).verdict == "pass"
    with pytest.raises(tp.RecipeError):
        tp.parity(model, model, inputs=wrapped(x[:, :3]))


@pytest.mark.follows("inspect: tp.catalog(model) lists the weights")
def test_a_model_is_no_file_to_inspect():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="fc")])
    with pytest.raises(tp.RecipeError, match=r"is of the type Sequential, and no path -> tp\.catalog\(model\) lists"):
        tp.inspect(model)
    assert [w.name for w in tp.catalog(model)] == ["fc/kernel", "fc/bias"]
