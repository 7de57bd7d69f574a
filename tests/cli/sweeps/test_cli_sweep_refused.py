"""Sweeps that cannot begin: everything that is wrong is told, and nothing is written."""

import shlex

import pytest
from sweeps import SCORE, SCORED, rows

OWN = ("sweep", "recipe=own")


@pytest.mark.parametrize(
    "argv, words",
    [
        (["sed=1,2"], ["sed: unknown key", "did you mean 'seed'?"]),
        (["mapping.body.form=a,b"], ["did you mean 'from'?"]),
        (["seed=range(0)"], ["seed: 'range(0)' has no values"]),
        (["hydra.run.dir=a,b"], ["hydra.run.dir: cannot be varied within one sweep"]),
        (["seed=range(201)"], ["these axes make 201 variants, more than sweep.limit=200", "sweep.limit=201"]),
        (["seed=range(100)", "freeze=[],[hidden]", "sweep.limit=150"], ["200 variants"]),
        (["seed=range(1000000000)"], ["more than 10,000 values"]),
        (["seed=0,1", "save.path=/tmp/model.keras"], ["save: '/tmp/model.keras' is absolute", "save.path=model.keras"]),
        (["seed=0,1", "save.also=[/tmp/m.npz]"], ["is absolute"]),
        (["seed=interval(0,1)"], ["leaves the choice of values open", "hydra/sweeper=optuna"]),
        (["seed=0,1", "sweep.controls=[randm]"], ["did you mean 'random'?"]),
        (["seed=0,1", "sweep.limit=0"], ["sweep.limit: is 0"]),
        (["seed=0,1", "sweep.limit=many"], ["sweep.limit: has the wrong type: 'many'"]),
        (["seed=0,1", "sweep.axs={}"], ["did you mean"]),
        (["seed=0,1", "+sweep.axs={}"], ["sweep.axs: unknown key", "did you mean 'axes'?"]),
        (["seed=0,1", "sweep.drop=[{sed: 1}]"], ["sweep.drop.0.sed", "did you mean 'seed'?"]),
        (["seed=0,1", "sweep.drop=[{seed: [0,1]}]"], ["sweep.drop: leaves no variant"]),
        (["seed=0,1", "sweep.drop=[7]"], ["sweep.drop.0: must be a mapping of keys to values, not integer 7"]),
        (
            ["seed=0,1", "+sweep.variants={a: 3}"],
            ["sweep.variants.a: must be a mapping of keys to values, not integer 3"],
        ),
        (["seed=0,1", "sweep.log=[mlfow]"], ["sweep.log.mlfow: is not a logger", "did you mean 'mlflow'?"]),
        (["seed=0,1", "name=../up"], ["name: '../up' cannot be used as a run name"]),
        (["seed=0,1", "sweep=nope"], ["nope"]),
        (["seed=0,1", "hydra/launcher=jobib"], ["there is no hydra/launcher called 'jobib'"]),
    ],
)
def test_refused(refuses, argv, words):
    refuses(2, [*OWN, *argv], *words)


def test_all_broken_variants_are_listed_with_their_reasons(refuses):
    answer = refuses(
        2, [*OWN, "seed=0,1", "mapping.body.from=hidden,hiden", "freeze=[],[nowhere]"],
        "(2 problems)", "nowhere", "hiden", "seed=0 mapping.body.from=hidden freeze=[nowhere]",
    )  # fmt: skip
    assert "seed=0 mapping.body.from=hidden freeze=[]" in answer.out  # what can be planned is shown


def test_one_reason_of_many_variants_is_told_once(refuses):
    answer = refuses(2, [*OWN, "seed=range(20)", "freeze=[nowhere]"], "seed=0, seed=1, seed=2 and 17 more")
    assert answer.err.count("nowhere") == 1


def test_each_reason_is_placed_in_the_file_that_its_variants_choose(refuses, here):
    rules = here / "recipes" / "mapping"
    rules.mkdir(parents=True, exist_ok=True)
    (rules / "first.yaml").write_text("body: {form: hidden}\n")
    (rules / "second.yaml").write_text("# of another form\nbody: {form: hidden}\n")
    said = refuses(2, [*OWN, "mapping=first,second", "seed=0,1"], "(2 problems)").err
    assert "recipes/mapping/first.yaml, line 1: mapping=first seed=0, mapping=first seed=1: mapping.body.form" in said
    assert (
        "recipes/mapping/second.yaml, line 2: mapping=second seed=0, mapping=second seed=1: mapping.body.form" in said
    )


def test_an_axis_that_is_not_there_is_told_once_with_all_that_it_varies(refuses, cli):
    said = refuses(2, [*OWN, "vars.x=range(3)", "vars.y=7,8"], "(2 problems)").err
    assert "vars.x=0 vars.y=7, vars.x=0 vars.y=8, vars.x=1 vars.y=7 and 3 more: vars.x: unknown key" in said
    words = [shlex.split(line.partition("write ")[2])[0] for line in said.splitlines() if "->" in line]
    assert words == ["+vars.x=range(3)", "+vars.y=7,8"]
    assert cli(*OWN, *words, "--dry-run").out.count("vars.x=") == 6


def test_values_of_which_only_the_last_composes_break_their_variants_alone(refuses):
    answer = refuses(
        2, [*OWN, "+vars.names=[hidden]", "+vars.x=8,7,0", "freeze=['${item:${vars.names},${vars.x}}']"], "(2 problems)"
    )
    assert "+vars.x=0" in answer.out  # what can be planned is shown


def test_the_others_run_where_that_is_asked_for(cli, here):
    answer = cli(*OWN, "seed=0,1", "freeze=[],[nowhere]", "--skip-broken")
    assert answer.status == 0
    assert answer.err.count("left out") == 1
    table = rows(here / "outputs/sweeps/own")
    assert [(row["seed"], row["status"]) for row in table] == [
        ("0", "done"), ("1", "done"), ("0", "left out"), ("1", "left out"),
    ]  # fmt: skip
    assert "nowhere" in table[-1]["problems"]
    assert "<h2>Skipped variants</h2>" in (here / "outputs/sweeps/own/sweep.html").read_text()


def test_nothing_is_left_to_run(refuses):
    refuses(2, [*OWN, "seed=0,1", "freeze=[nowhere]", "--skip-broken"], "nowhere")


def test_a_recipe_that_is_not_there_breaks_only_its_variants(cli, here):
    answer = cli("sweep", "recipe=nope,own", "--skip-broken", "hydra.sweep.dir=out")
    assert answer.status == 0, answer.err
    assert "there is no recipe called 'nope'" in answer.err


def test_a_variant_that_is_unsafe(refuses, here):
    refuses(5, [*OWN, "seed=0,1", "score={_target_: os.system}"], "os.system")


def test_a_source_that_is_not_there(refuses):
    refuses(4, [*OWN, "source.path=weights.safetensors,gone.safetensors"], "gone.safetensors")


@pytest.mark.parametrize("status, argv", [(4, ["nowhere"]), (2, []), (4, ["a", "b"])])
def test_a_report_of_what_is_no_sweep(refuses, status, argv):
    refuses(status, ["report", *argv])


def test_an_interval_needs_a_score(refuses, here):
    pytest.importorskip("optuna")
    (here / "my_scores.py").write_text(SCORE)
    refuses(2, [*OWN, "hydra/sweeper=optuna", "seed=choice(1,2)"], "a sweeper needs a number to optimise")
    refuses(2, [*OWN, "hydra/sweeper=optuna", "seed=choice(1,2)", SCORED, "--dry-run"], "--dry-run: does not go with")
