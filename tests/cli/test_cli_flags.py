"""What every command line has: the verb anywhere, short flags, silence, JSON, colours."""

import json
import re

import pytest
from safetensors.numpy import load_file

OUT = "hydra.run.dir=out"
NO_BIAS = ("mapping.body.to=hidden/kernel", "mapping.body.from=hidden/kernel", "unmatched=keep")  # it is unused then


@pytest.mark.parametrize(
    "words",
    [["plan", "recipe=own"], ["recipe=own", "plan"], ["--strict", "recipe=own", "plan"], ["-cn", "own", "plan"]],
)
def test_the_verb_stands_anywhere(cli, words):
    answer = cli(*words)
    assert answer.status == 0
    assert "2 assigned" in answer.out
    assert answer.out == cli("plan", "recipe=own", *(w for w in words if w == "--strict")).out


def test_a_run_can_be_tried_first(cli, here):
    answer = cli("run", "recipe=own", "--dry-run")
    assert (answer.status, answer.out) == (0, cli("plan", "recipe=own").out)
    assert not (here / "outputs").exists()


def test_a_plan_of_many_variants_is_that_of_a_sweep(cli, here):
    answer = cli("plan", "-m", "recipe=own", "seed=1,2")
    assert (answer.status, answer.out) == (0, cli("sweep", "recipe=own", "seed=1,2", "--dry-run").out)
    assert not (here / "outputs").exists()
    planned = json.loads(cli("plan", "-m", "recipe=own", "seed=1,2", "--json").out)
    assert [v["overrides"]["seed"] for v in planned["variants"]] == ["1", "2"]
    assert {v["assigned"] for v in planned["variants"]} == {2}


def test_what_is_quiet_says_only_what_is_wrong(cli, here):
    answer = cli("run", "recipe=own", "-q", OUT)
    assert (answer.status, answer.out, answer.err) == (0, "", "")
    assert load_file(here / "weights.safetensors")
    assert (here / "out" / "manifest.json").is_file()
    assert cli("verify", "out", "--quiet").out == ""
    warned = cli("plan", "recipe=own", *NO_BIAS, "-q")
    assert (warned.status, warned.out) == (0, "")
    assert "[unused]" in warned.err
    assert cli("plan", "recipe=nothing", "-q").err.startswith("error: ")


def test_a_run_as_json(cli, here):
    answer = cli("run", "recipe=own", "--json", OUT)
    told = json.loads(answer.out)
    assert (answer.status, told["folder"], told["verdict"]["weights"]) == (0, "out", "pass")
    assert told.items() >= json.loads((here / "out" / "manifest.json").read_text()).items()


def test_a_sweep_and_its_report_as_json(cli, here):
    told = json.loads(cli("sweep", "recipe=own", "seed=1,2", "--json").out)
    assert [v["status"] for v in told["variants"]] == ["done", "done"]
    assert told == json.loads(cli("report", told["folder"], "--json").out)


@pytest.mark.parametrize(
    ("words", "status", "where"),
    [
        (["plan", "recipe=nothing", "--json"], 2, "recipe"),
        (["inspect", "nothing.keras", "--json"], 4, "nothing.keras"),
        (["plan", "recipe=own", "mapping.head=null", "--json"], 2, "unmatched"),
    ],
)
def test_errors_as_json(cli, words, status, where):
    answer = cli(*words)
    told = json.loads(answer.out)
    assert (answer.status, told["status"]) == (status, status)
    assert where in told["problems"][0]["where"]
    assert told["problems"][0]["what"] in answer.err


@pytest.mark.parametrize(
    ("variables", "colours"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_colours_are_for_terminals_and_for_those_who_ask(cli, monkeypatch, variables, colours):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b[" in cli("plan", "recipe=own", "ignore=[]").out) is colours


@pytest.mark.follows("_as_override: choose a recipe by")
def test_a_word_that_is_no_override_is_answered_with_the_command(cli):
    answer = cli("plan", "own")
    (command,) = [line.partition("recipe by its name: ")[2] for line in answer.err.splitlines() if "->" in line]
    assert command == "transferpipe plan recipe=own"
    assert cli(*command.split()[1:]).status == 0


@pytest.mark.follows("_as_override: choose a recipe by")
def test_a_key_without_a_value_is_answered_with_how_to_give_it_one(cli):
    answer = cli("plan", "recipe=own", "seed")
    assert "give it a value: seed=..." in answer.err
    assert cli("plan", "recipe=own", "seed=3").status == 0


@pytest.mark.follows("print_config: add --cfg job")
def test_what_says_how_to_print_needs_what_is_printed(cli):
    answer = cli("plan", "recipe=own", "--resolve")
    (added,) = [line.partition("-> add ")[2] for line in answer.err.splitlines() if "->" in line]
    assert "name: own" in cli("plan", "recipe=own", "--resolve", *added.split()).out


@pytest.mark.follows("_part: did you mean …?")
def test_a_misspelt_part_is_answered_with_one_that_exists(cli):
    assert "did you mean 'mapping'?" in cli("plan", "recipe=own", "-c", "job", "-p", "maping").err
    assert "body" in cli("plan", "recipe=own", "-c", "job", "-p", "mapping").out


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("way", ["word", "override"])
def test_a_recipe_by_its_path(cli, here, absolute, way):
    (here / "elsewhere" / "mapping").mkdir(parents=True)
    file = here / "elsewhere" / "mine.yaml"
    file.write_text((here / "recipes" / "own.yaml").read_text())
    (here / "elsewhere" / "mapping" / "all.yaml").write_text("body: {to: '(.*)', from: '\\1'}\nhead: null\n")
    path = file if absolute else file.relative_to(here)
    word = str(path) if way == "word" else f"recipe={path}"
    answer = cli("plan", word)
    assert answer.status == 0, answer.err
    assert answer.out == cli("plan", "recipe=own").out.replace("recipe  own", "recipe  mine")
    assert "4 assigned" in cli("plan", word, "mapping=all").out
    assert cli("plan", word, "mapping.head.too=x").err.count("mapping.head.too") == 1
    assert cli("run", word, OUT).status == 0
    swept = cli("sweep", word, "seed=1,2")
    assert "2 done" in swept.out, swept.err


def test_keys_of_hydra_that_do_nothing_are_warned_of(cli):
    answer = cli("plan", "recipe=own", "hydra.verbose=true", "hydra.job.name=x", "hydra.run.dir=out")
    assert answer.status == 0
    assert "hydra.verbose" in answer.err and "hydra.job.name" in answer.err
    assert "hydra.run.dir" not in answer.err


@pytest.mark.follows("_info: did you mean …?")
def test_a_misspelt_kind_of_information_is_answered_with_one_that_exists(cli):
    (offered,) = re.findall(r"did you mean '([\w-]+)'\?", cli("plan", "recipe=own", "--info", "serchpath").err)
    assert "recipes://" in cli("plan", "recipe=own", "--info", offered).out


@pytest.mark.follows("_part: --cfg job")
def test_a_misspelt_part_to_print_is_answered_with_the_flag(cli):
    (added,) = [
        line.partition("-> ")[2] for line in cli("plan", "recipe=own", "-c", "jobb").err.splitlines() if "->" in line
    ]
    assert "mapping:" in cli("plan", "recipe=own", *added.split()).out


@pytest.mark.follows("_part: leave out --resolve")
def test_what_is_known_only_in_a_run_is_printed_unresolved(cli):
    answer = cli("plan", "recipe=own", "--cfg", "hydra", "--resolve")
    assert (answer.status, "leave out --resolve" in answer.err) == (2, True)
    assert "plan_checksum" in cli("plan", "recipe=own", "--cfg", "hydra").out


@pytest.mark.follows("name_recipes: did you mean …?")
def test_a_misspelt_path_is_answered_with_one_that_exists(cli):
    (offered,) = re.findall(r"did you mean '([\w.]+)'\?", cli("plan", "recipes/onw.yaml").err)
    assert "2 assigned" in cli("plan", f"recipes/{offered}").out


@pytest.mark.follows("name_recipes: rename one")
def test_two_recipes_of_one_name_are_refused(cli, here):
    (here / "other").mkdir()
    (here / "other" / "own.yaml").write_text((here / "recipes" / "own.yaml").read_text())
    answer = cli("sweep", "recipe=recipes/own.yaml,other/own.yaml", "--dry-run")
    assert (answer.status, "-> rename one" in answer.err) == (2, True)
    (here / "other" / "own.yaml").rename(here / "other" / "new.yaml")
    assert cli("sweep", "recipe=recipes/own.yaml,other/new.yaml", "--dry-run").status == 0
