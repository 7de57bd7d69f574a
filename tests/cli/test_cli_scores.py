"""Scores: shipped, of a user's own, and failing."""

import inspect
import json
import re
import sys
import types

import numpy as np
import pytest
import yaml
from command_line import RECIPE
from hand_made import assert_same, dense, read_weights, write_archive

import transferpipe.score
from transferpipe.cli.compose.folders import conf_folder

RUN = ("run", "recipe=own", "hydra.run.dir=out")
follows = pytest.mark.follows


def _scoring(here, body):
    (here / "my_scores.py").write_text(f"def score(model, scale=1.0):\n    {body}\n")


@pytest.mark.parametrize("body, value", [("return 2 * scale", 6.0), ("import numpy; return numpy.float32(0.5)", 0.5)])
def test_a_score_of_ones_own(cli, here, body, value):
    _scoring(here, body)
    assert cli(*RUN, "score={_target_: my_scores.score, scale: 3}").status == 0
    assert json.loads((here / "out" / "score.json").read_text())["value"] == value
    assert "score" in (here / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    "score, words",
    [
        ("{_target_: my_scores.scor}", ["my_scores has no 'scor'", "did you mean 'score'?"]),
        (
            "{_target_: my_scores.score, scael: 2}",
            ["score.scael: my_scores.score takes no argument 'scael'"],
        ),
        ("{_target_: os.system}", ["os.system"]),
        ("my_scores.score", ["there is no score called 'my_scores.score'", "type 'score={_target_: my_scores.score}'"]),
        ("{_target_: my_scores.score, scale: {_target_: my_scores.scale}}", ["score.scale._target_: my_scores has no"]),
        (
            "{_target_: my_scores.score, scale: {_target_: transferpipe.score.digits_data, lables: [1]}}",
            ["score.scale.lables: transferpipe.score.digits_data takes no argument 'lables'"],
        ),
        ("{_target_: my_scores.score, scale: {_target_: os.getcwd}}", ["score.scale._target_: os.getcwd"]),
        ("linear_prob", ["there is no score called 'linear_prob'", "did you mean 'linear_probe'?"]),
    ],
)
def test_a_score_that_cannot_be_called_is_found_before_the_run(refuses, here, score, words):
    _scoring(here, "return 1")
    refuses(5 if "os." in score else 2, [*RUN, f"score={score}"], *words)


@pytest.mark.parametrize("score", ["{_target_: my_scores.score}", "linear_probe"])
def test_a_model_that_keras_does_not_load_is_kept_and_said(cli, here, score):
    """As where a layer of its configuration has no argument that the class needs."""
    _scoring(here, "return 1")
    write_archive(here / "s.keras", [dense("head", 3, 2, 1)])
    write_archive(here / "t.keras", [dense("head", 3, 2, 2)])
    (here / "r.yaml").write_text("source: {path: s.keras}\ntarget: {path: t.keras}\nmapping: {all: {to: .*}}\n")
    answer = cli("run", "r.yaml", "hydra.run.dir=out", f"score={score}")
    assert answer.status == 3, answer.err
    assert "scoring failed; the model was saved and verified" in answer.err
    assert "model.keras: keras.models.load_model refuses it: " in answer.err and "internal error" not in answer.err
    assert_same(read_weights(here / "out" / "model.keras"), read_weights(here / "s.keras"))


def test_a_score_needs_a_model(refuses, here):
    _scoring(here, "return 1")
    refuses(2, [*RUN, "score={_target_: my_scores.score}", "save.path=m.npz"], "score: needs a model", "save a .keras")


CORRECTED = (
    "return 0.5",
    "import transferpipe.score as s; return s.Score(0.5, 'mine', True, 'heuristic', seconds=0.0)",
)


@pytest.mark.parametrize(
    "body, words",
    [
        pytest.param("raise ValueError('odd')", "raised ValueError: odd", marks=follows("_call: fix the score or")),
        pytest.param("return 'x'", "of type str", marks=follows("_from_number: return a float or")),
        pytest.param(
            "return float('nan')",
            "returned nan, not a finite number",
            marks=follows("_from_number: return a float or"),
        ),
    ],
)
def test_a_score_that_fails_leaves_the_proved_model(cli, here, body, words):
    _scoring(here, body)
    answer = cli(*RUN, "score={_target_: my_scores.score}")
    assert answer.status == 3
    assert words in answer.err
    assert "scoring failed" in answer.err
    assert not (here / "out" / "score.json").exists()
    assert cli("verify", "out").status == 0
    assert (here / "out" / "report.html").is_file()
    for number, right in enumerate(CORRECTED):
        sys.modules.pop("my_scores")
        _scoring(here, f"{right}  # {number}")
        assert cli(*RUN[:2], f"hydra.run.dir=out{number}", "score={_target_: my_scores.score}").status == 0
        assert json.loads((here / f"out{number}" / "score.json").read_text())["value"] == 0.5


@pytest.mark.parametrize(
    "given, key", [("", "scale"), (", model: 3, scale: 2", "let it take the model first")], ids=["lacking", "twice"]
)
@follows("_check_arguments: give it …")
def test_arguments_that_a_score_does_not_take(cli, refuses, here, given, key):
    (here / "my_scores.py").write_text("def score(model, scale):\n    return 2 * scale\n")
    answer = refuses(2, [*RUN, f"score={{_target_: my_scores.score{given}}}"], key)
    lacking = re.search(r"-> give it (\w+)", answer.err)
    scale = f"{lacking[1] if lacking else 'scale'}: 2"
    assert cli(*RUN, f"score={{_target_: my_scores.score, {scale}}}").status == 0
    assert json.loads((here / "out" / "score.json").read_text())["value"] == 4


def test_a_score_of_ones_own_takes_data_and_says_its_direction(cli, here):
    (here / "my_scores.py").write_text(
        "from transferpipe.score import Score\n"
        "def score(model, data):\n"
        "    return Score(float(len(data.y_val)), 'images', False, 'heuristic', seconds=0.0)\n"
    )
    data = "{_target_: transferpipe.score.digits_data, labels: [1, 2], val_per_class: 3}"
    answer = cli(*RUN, f"score={{_target_: my_scores.score, data: {data}}}")
    assert answer.status == 0, answer.err
    assert "images (heuristic, lower is better, 0.0 s)" in answer.out
    assert json.loads((here / "out" / "score.json").read_text())["value"] == 6


@pytest.mark.parametrize("parameter", ["run", "run=None"])
def test_a_score_that_asks_for_the_run_gets_it(cli, here, parameter):
    (here / "my_scores.py").write_text(f"def score(model, {parameter}):\n    return len(run.plan.assignments)\n")
    assert cli(*RUN, "score={_target_: my_scores.score}").status == 0
    assert json.loads((here / "out" / "score.json").read_text())["value"] == 2


LABELS = "higher_is_better: false, kind: trained, measures: validation loss"


def _scored(here):
    return json.loads((here / "out" / "score.json").read_text())


def test_a_recipe_labels_the_number_of_a_plain_function(cli, here):
    _scoring(here, "return scale")
    answer = cli(*RUN, f"score={{_target_: my_scores.score, scale: 3, {LABELS}}}")
    assert answer.status == 0, answer.err
    assert "validation loss (trained, lower is better" in answer.out
    assert [_scored(here)[key] for key in ("value", "name", "higher_is_better")] == [3.0, "validation loss", False]


def test_a_label_that_the_function_has_a_parameter_for_is_its_argument(cli, here):
    (here / "my_scores.py").write_text("def score(model, kind):\n    return len(kind)\n")
    assert cli(*RUN, "score={_target_: my_scores.score, kind: anything, higher_is_better: false}").status == 0
    assert (_scored(here)["value"], _scored(here)["kind"]) == (8, "heuristic")
    assert _scored(here)["higher_is_better"] is False


@pytest.mark.parametrize(
    "label, words",
    [
        ("kind: traned", "did you mean 'trained'?"),
        ("higher_is_better: 2", "write true or false"),
        ("measures: ''", "write what"),
    ],
)
def test_a_label_that_is_none_is_refused(refuses, here, label, words):
    _scoring(here, "return 1")
    refuses(2, [*RUN, f"score={{_target_: my_scores.score, {label}}}"], f"score.{label.partition(':')[0]}", words)


@pytest.mark.parametrize(
    "value",
    ["np.float16(3)", "np.array(3)", "np.uint8(3)", "tf.constant(3)", "tf.constant(3.0, tf.bfloat16)", "keras.Variable(3.0)",
     "keras.ops.convert_to_tensor(3.0)"],
)  # fmt: skip
def test_whatever_holds_one_number_is_a_number(cli, here, value):
    _scoring(here, f"import keras, numpy as np, tensorflow as tf; return {value}")
    assert cli(*RUN, "score={_target_: my_scores.score}").status == 0
    assert _scored(here)["value"] == 3.0


@pytest.mark.parametrize(
    "value",
    ["np.ones(1)", "np.bool_(True)", "np.array('3')", "tf.constant('3')", "None", "[3]", "np.datetime64(3, 's')"],
)
def test_what_is_no_number_is_none(cli, here, value):
    _scoring(here, f"import numpy as np, tensorflow as tf; return {value}")
    assert cli(*RUN, "score={_target_: my_scores.score}").status == 3


@pytest.mark.parametrize(
    "words, said",
    [
        (["score=linear_probe", "score.layer=hiden"], ["score.layer: transferpipe.zoo.small_mlp() has no layer 'hiden'", "did you mean 'hidden'?"]),
        (["score=logme", "score.pool=mean"], ["score.pool: 'mean' is none of flatten, average"]),
        (["score=linear_probe", "score.solver=ridg"], ["did you mean 'ridge'?"]),
        (["score=linear_probe", "score.penalty=-1"], ["score.penalty: -1"]),
        (["score=finetune", "score.epochs=0"], ["score.epochs: 0 is not a whole number of at least 1"]),
        (["score=finetune", "score.data.labels=[11]"], ["11"]),
        (["score=head_training", "score.seeds=0"], ["score.seeds: 0"]),
        (["score=leep", "score.layer=l9"], ["has no layer 'l9'"]),
        (["score=parity", "score.layers={l9: hidden}"], ["small_mlp() has no layer 'l9'"]),
        (["score=h_score", "score/data=npz", "score.data.path=gone.npz"], ["gone.npz"]),
        (["score=h_score", "score/data=npz", "score.data.path=odd.npz"], ["odd.npz: holds a", "save x and y"]),
        (["score=h_score", "score/data=npz", "score.data.path=odd.npz", "score.data.val_fraction=2"], ["npz_data.val_fraction: 2"]),
    ],
)  # fmt: skip
def test_what_can_be_known_of_a_score_is_said_before_anything_runs(refuses, here, words, said):
    np.savez(here / "odd.npz", a=np.ones(3))
    refuses(4 if "gone.npz" in said else 2, ["sweep", "recipe=own", "seed=0,1", *words], *said)
    refuses(4 if "gone.npz" in said else 2, ["plan", "recipe=own", *words], *said)


@pytest.mark.parametrize("layer", ["hidden", "flat", "body/low", "low", "body"])
def test_layers_without_weights_and_inside_of_others_are_known_in_a_file_too(cli, here, recipe, layer):
    from keras import Sequential, layers

    body = Sequential([layers.Input((8, 8, 1)), layers.Conv2D(2, 3, name="low")], name="body")
    parts = [body, layers.Flatten(name="flat"), layers.Dense(3, name="hidden"), layers.Dense(5, name="out")]
    Sequential([layers.Input((8, 8, 1)), *parts]).save(here / "whole.keras")
    recipe("target: {path: whole.keras}\nunmatched: keep\n")
    answer = cli("plan", "recipe=mine", "score=h_score", f"score.layer={layer}")
    assert answer.status == 0, answer.err


CHOICES = [
    (["score=linear_probe", "score.penalty=1"], "transferpipe.score.linear_probe"),
    (["score=linear_probe", "score/data=npz", "score.data.path=a.npz"], "transferpipe.score.linear_probe"),
    (["score=finetune"], "transferpipe.score.finetune"),
    (["score={_target_: my.score, k: 1}"], "my.score"),
    (["score=mine", "score.k=4"], "my.own"),
    ([], "transferpipe.score.head_training"),
    (["score.epochs=3"], "transferpipe.score.head_training"),
]


@pytest.mark.parametrize("overrides, target", CHOICES)
def test_a_chosen_score_takes_the_place_of_the_recipes_own(cli, here, overrides, target):
    (here / "recipes" / "score").mkdir()
    (here / "recipes" / "score" / "mine.yaml").write_text("{_target_: my.own, k: 3}")
    (here / "recipes" / "digits.yaml").write_text(DIGITS)
    answer = cli("run", "recipe=digits", *overrides, "--cfg", "job")
    assert answer.status == 0, answer.err
    score = yaml.safe_load(answer.out)["score"]
    assert score["_target_"] == target
    assert ("labels" in score) == target.endswith("head_training")


DIGITS = (
    RECIPE
    + """
score: {_target_: transferpipe.score.head_training, labels: [5, 6], epochs: 1}
"""
)


def test_a_score_of_ours_needs_no_preset(cli, refuses, here, monkeypatch):
    module = types.ModuleType("transferpipe.score.width")
    text = "from transferpipe.score.result import Score\n\ndef width(model, times=1):\n"
    exec(text + "    return Score(times * model.output_shape[-1], 'width', True, 'measured', 0.0)", vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(transferpipe.score, "width", module.width, raising=False)
    refuses(2, [*RUN, "score=width"], "there is no score called 'width'")
    monkeypatch.setattr(transferpipe.score, "__all__", [*transferpipe.score.__all__, "width"])
    answer = cli(*RUN, "score=width", "+score.times=2")
    assert answer.status == 0, answer.err
    assert json.loads((here / "out" / "score.json").read_text())["value"] == 6.0
    refuses(2, [*RUN, "score=digits_data"], "there is no score called 'digits_data'")  # exported, but no score


def test_a_preset_takes_its_seed_from_the_recipe(cli, here):
    answer = cli("run", "recipe=own", "score=finetune", "seed=4", "--cfg", "job", "--resolve")
    assert yaml.safe_load(answer.out)["score"]["seed"] == 4


@pytest.mark.parametrize("override", ["~score", "score=null", "score=none"])
def test_a_recipes_score_is_switched_off(cli, here, override):
    (here / "recipes" / "digits.yaml").write_text(DIGITS)
    answer = cli("run", "recipe=digits", override, "--cfg", "job")
    assert yaml.safe_load(answer.out)["score"] is None


def test_a_file_with_a_score_cannot_set_keys_of_hydra(refuses, here):
    (here / "recipes" / "score").mkdir()
    (here / "recipes" / "score" / "mine.yaml").write_text("# @package _global_\nhydra: {run: {dir: /tmp/x}}\n")
    refuses(5, ["run", "recipe=own", "score=mine"], "cannot set keys of hydra", "hydra.run.dir")


PRESETS = sorted((conf_folder() / "score").rglob("*.yaml"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_says_what_it_is_and_explains_its_keys(path):
    first, *rest = path.read_text().splitlines()
    group = path.relative_to(conf_folder()).parent.as_posix()
    assert first.startswith(f"# {group}={path.stem}")
    assert "  <- " in first
    if group == "score" and path.stem != "none":
        assert first.endswith(("; trained", "; heuristic", "; measured", "; heuristic unless you say trained"))
        assert re.search("cost|one forward pass", first)
    keys = [line for line in rest if re.match(r"\s*(?!- |#)\w+:", line)]
    silent = ("_target_: transferpipe", "defaults:", "datasets:")
    assert all(" # " in line for line in keys if not line.strip().startswith(silent))


@pytest.mark.parametrize("path", [p for p in PRESETS if p.parent.name == "score"], ids=lambda path: path.stem)
def test_every_preset_names_the_arguments_of_its_function_with_their_defaults(path):
    data = yaml.safe_load(path.read_text()) or {}
    if not data or path.stem == "callable":
        return
    known = inspect.signature(getattr(transferpipe.score, data.pop("_target_").rpartition(".")[2])).parameters
    given = {k: v for k, v in data.items() if k != "defaults"}
    assert set(given) == set(known) - {"model", "data", "run"}
    for name, value in given.items():
        default = known[name].default
        assert value in ("${seed}", list(default) if isinstance(default, tuple) else default)
