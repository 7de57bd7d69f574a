"""Sweeps through the command line: planned first, run, told."""

import hashlib
import json
import shlex

import pytest
import yaml
from command_line import tree
from sweeps import FOUR, OUT, SCORE, SCORED, calls, plans, results, rows


@pytest.fixture(autouse=True)
def my_scores(here):
    (here / "my_scores.py").write_text(SCORE)


def test_a_dry_run_plans_every_variant_and_writes_nothing(cli, here):
    before = tree(here)
    answer = cli(*FOUR, "--dry-run")
    assert (answer.status, tree(here)) == (0, before)
    assert len(set(plans(answer.out))) == 4
    assert "seed=1 freeze=[hidden]" in answer.out


def test_every_variant_has_its_folder_result_and_log(cli, here):
    answer = cli(*FOUR)
    assert answer.status == 0
    table = rows(here / OUT)
    assert [(row["seed"], row["freeze"], row["status"]) for row in table] == [
        (seed, freeze, "done") for seed in "01" for freeze in ("[]", "[hidden]")
    ]
    assert [row["plan"] for row in table] == plans(answer.out)[:4]
    for row in table:
        folder = here / OUT / row["folder"]
        assert "scoring fine" in (folder / "run.log").read_text()
        assert json.loads((folder / "manifest.json").read_text())["verdict"]["weights"] == "pass"
        assert {"model.keras", "report.html", "score.json"} <= {p.name for p in folder.iterdir()}
        assert float(row["score"]) == json.loads((folder / "score.json").read_text())["value"]
    assert cli("verify", here / OUT / table[0]["folder"]).status == 0
    assert "scoring" not in answer.out
    assert answer.out.count(" s left)") == 3


def test_fresh_weights_depend_on_the_seed_and_not_on_the_variant(cli, here):
    cli(*FOUR)
    values = {(row["seed"], row["freeze"]): row["score"] for row in rows(here / OUT)}
    assert values["0", "[]"] == values["0", "[hidden]"] != values["1", "[]"]


@pytest.mark.parametrize("words", [("run", "-m"), ("-m",), ("--multirun",)])
def test_hydras_own_flag_gives_the_same(cli, here, words):
    cli(*FOUR)
    there = "hydra.sweep.dir=there"
    verb, flags = (words[:1], words[1:]) if words[0] == "run" else ((), words)
    assert cli(*verb, *flags, *FOUR[1:], there).status == 0
    assert results(here / "there") == results(here / OUT)
    assert "to run" not in cli("run", "-m", *FOUR[1:], "--dry-run").out


def test_variants_with_one_plan_run_once(cli, here):
    answer = cli("sweep", "recipe=own", SCORED, "name=a,b", "hydra.sweep.dir=out")
    assert answer.status == 0
    assert "same plan as #1" in answer.out
    assert "1 to run, 1 with the plan of another" in answer.out
    assert len(calls(here)) == 1
    one, other = rows(here / "out")
    assert (one["folder"], one["score"]) == (other["folder"], other["score"])


def test_outputs_of_different_formats_are_not_shared(cli, here):
    assert cli("sweep", "recipe=own", "save.path=a.keras,b.npz", "hydra.sweep.dir=out").status == 0
    assert {p.name for p in (here / "out").glob("v*/[ab].*")} == {"a.keras", "b.npz"}


def test_a_group_of_files_is_an_axis(cli, here):
    (here / "recipes" / "mapping").mkdir()
    for name, source in (("all", "classes"), ("none", "null")):
        text = f"head: {{to: classes, from: {source}}}\n"
        (here / "recipes" / "mapping" / f"{name}.yaml").write_text(text)
    assert cli("sweep", "recipe=own", "mapping=all,none", "ignore=[]").status == 0
    assert [row["mapping"] for row in rows(here / OUT)] == ["all", "none"]
    globbed = cli("sweep", "recipe=own", "mapping=glob(*)", "ignore=[]")
    assert "0 to run, 2 finished before" in globbed.out


def test_a_named_sweep(cli, here):
    (here / "recipes" / "sweep").mkdir()
    (here / "recipes" / "sweep" / "deep.yaml").write_text(
        "recipe: own\ntitle: How deep\naxes: {seed: range(2)}\n"
        "variants:\n  open: {freeze: []}\n  closed: {freeze: [hidden]}\n  odd: {freeze: [classes]}\n"
        "drop: [{variant: odd, seed: 1}]\ncontrols: [random]\n"
    )
    answer = cli("sweep", "sweep=deep", SCORED)
    assert answer.status == 0, answer.err
    table = rows(here / "outputs/sweeps/deep")
    told = [(row["variant"], row["seed"], row["control"]) for row in table]
    assert told == [
        ("open", "0", ""), ("closed", "0", ""), ("odd", "0", ""), ("open", "1", ""), ("closed", "1", ""),
        ("", "0", "random"), ("", "1", "random"),
    ]  # fmt: skip
    assert "<h1>How deep</h1>" in (here / "outputs/sweeps/deep/sweep.html").read_text()
    assert "5 to run" not in cli("sweep", "sweep=deep", SCORED, "seed=0").out


def test_controls_stand_in_the_table_and_take_no_place(cli, here):
    answer = cli(*FOUR, "sweep.controls=[random]")
    assert answer.status == 0
    assert answer.out.count("control=random") == 4  # two in the table of variants, two as they are finished
    (line,) = [line for line in answer.out.splitlines() if "control: random" in line]
    assert not line.split()[0].isdigit()
    assert "against random" in answer.out


def test_the_source_itself_is_a_control(cli, here, recipe):
    assert cli("run", "recipe=own", "hydra.run.dir=first").status == 0
    recipe("source: {path: first/model.keras}\ntarget: {_target_: transferpipe.zoo.small_mlp}\nunmatched: same_name\n")
    answer = cli("sweep", "recipe=mine", "seed=1,2", SCORED, "sweep.controls=[source,random]")
    assert answer.status == 0, answer.err
    table = rows(here / "outputs/sweeps/mine")
    assert [row["control"] for row in table] == ["", "", "source", "source", "random", "random"]
    values = [float(row["score"]) for row in table]
    assert values[0] == values[1] == values[2] == values[3] != values[4]


def test_names_do_not_drift_between_variants(cli, here, recipe):
    (here / "my_nets.py").write_text(
        "import keras\n\ndef net(width=4):\n    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(width),"
        " keras.layers.Dense(width), keras.layers.Dense(2)])\n"
    )
    net = "{_target_: my_nets.net}"
    recipe(f"source: {net}\ntarget: {net}\nmapping:\n  a: {{to: dense, from: dense}}\nunmatched: same_name_or_keep\n")
    answer = cli("sweep", "recipe=mine", "seed=0,1,2", "hydra.sweep.dir=out")
    assert answer.status == 0, answer.err
    names = [
        [w["name"] for w in json.loads((here / "out" / row["folder"] / "manifest.json").read_text())["weights"]]
        for row in rows(here / "out")
    ]
    assert names[0] == names[1] == names[2]
    assert "dense_2/kernel" in names[0]


@pytest.mark.parametrize("how, words", [("raise", "raised ValueError: odd"), ("nought", "returned nan"), ("quit", "SystemExit")])  # fmt: skip
def test_a_failing_variant_is_told_and_stops_nothing(cli, here, how, words):
    answer = cli("sweep", "recipe=own", SCORED, f"score.how={how},fine", "hydra.sweep.dir=out")
    assert answer.status == 3
    lines = answer.out.splitlines()
    told = next(i for i, line in enumerate(lines) if line.startswith("[1/2]"))
    assert "FAILED" in lines[told] and words in lines[told]
    assert lines[told + 1].startswith("[2/2]")
    failed, done = rows(here / "out")
    assert (failed["status"], done["status"]) == ("failed", "done")
    assert words in failed["problems"]
    assert words in (here / "out" / failed["folder"] / "run.log").read_text()
    assert "1 failed" in answer.out


def test_a_source_with_nan_fails_its_variants(cli, here, store, recipe):
    import numpy as np

    store("bad.safetensors", hidden__bias=np.full(6, np.nan, "float32"))
    answer = cli("sweep", "recipe=own", "source.path=bad.safetensors,weights.safetensors")
    assert answer.status == 3
    assert [row["status"] for row in rows(here / OUT)] == ["failed", "done"]
    assert "not finite" in answer.out or "NaN" in answer.out


def test_a_report_builds_the_same_files_again(cli, here):
    printed = cli(*FOUR).out
    files = {name: (here / OUT / name).read_bytes() for name in ("sweep.csv", "sweep.json", "sweep.html")}
    for name in ("sweep.csv", "sweep.html"):
        (here / OUT / name).unlink()
    answer = cli("report", OUT, "--watch")  # nothing runs, so that it ends at once
    assert answer.status == 0
    assert files == {name: (here / OUT / name).read_bytes() for name in files}
    assert answer.out.splitlines()[0] in printed


def test_without_a_score_the_variants_are_listed_with_their_folders_and_compared_by_their_files(cli, here):
    answer = cli("sweep", "recipe=own", "seed=0,1")
    assert answer.status == 0
    assert "2 done, 0 failed, 0 pending. Not ranked: the recipe has no `score`" in answer.out
    found = {row["seed"]: row["folder"] for row in rows(here / OUT)}
    lines = [line.split() for line in answer.out.splitlines()]
    assert [line[-1] for line in lines if line[:2] in (["seed=0", "done"], ["seed=1", "done"])] == [*found.values()]
    assert cli("sweep", "recipe=own", "seed=1,2", "hydra.sweep.dir=other", "--all", "-q").status == 0
    answer = cli("report", OUT, "other")
    assert answer.status == 0
    assert "1 variant in both: the same plans, and equal files" in answer.out
    assert "only in a: seed=0" in answer.out and "only in b: seed=2" in answer.out
    data = json.loads(cli("report", OUT, "other", "--json").out)
    digests = [hashlib.sha256((folder / found["1"] / "model.keras").read_bytes()).hexdigest()
               for folder in (here / OUT, here / "other")]  # fmt: skip
    assert data["shared"][0]["same_files"] == (digests[0] == digests[1]) and data["score"] is None


def test_the_best_variant_is_named_with_a_recipe_that_makes_it_again(cli, here):
    cli(*FOUR)
    best = yaml.safe_load((here / OUT / "best").read_text())
    top = max(rows(here / OUT), key=lambda row: float(row["score"]))
    assert best["score"]["of_this_seed"] == float(top["score"]) and best["plan"] == top["plan"]
    assert (here / OUT / best["model"]).is_file() and (here / OUT / best["recipe"]).is_file()
    words = shlex.split(best["run"])
    assert words[0] == "transferpipe"
    answer = cli(*words[1:], "hydra.run.dir=again")
    assert answer.status == 0, answer.err
    made, found = (here / "again" / "model.keras", here / OUT / best["model"])
    assert cli("diff", made, found).status == 0
    assert json.loads((here / "again" / "manifest.json").read_text())["checksum"] == top["plan"]


def test_a_named_variants_keys_are_in_the_table(cli, here):
    assert cli("sweep", "recipe=own", "sweep.variants={a: {freeze: []}, b: {freeze: [hidden]}}").status == 0
    assert [(row["variant"], row["freeze"]) for row in rows(here / OUT)] == [("a", "[]"), ("b", "[hidden]")]
    written = json.loads((here / OUT / "sweep.json").read_text())["variants"]
    assert [v["inner"] for v in written] == [{"freeze": "[]"}, {"freeze": "[hidden]"}]
    # 8 * 6 + 6 of the hidden layer, 6 * 3 + 3 of the head
    assert [row["trainable_parameters"] for row in rows(here / OUT)] == ["75", "21"]
