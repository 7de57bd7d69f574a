"""What a user sees who mistypes: verbs, flags, keys, recipes, patterns, and whatever Hydra's grammar refuses."""

import pytest
import yaml

from transferpipe.recipe.keys import SECTIONS

OWN = ("plan", "recipe=own")


@pytest.mark.parametrize(
    "argv, words",
    [
        (["pln"], ["unknown verb 'pln'", "did you mean 'plan'?"]),
        (["own"], ["unknown verb 'own'", "recipe=own"]),
        (["plan", "--jsn"], ["unknown flag '--jsn'", "did you mean '--json'?"]),
        (["run", "--stats"], ["--stats does not go with 'run'", "it goes with inspect"]),
        (["plan", "recipe=own", "-m", "--against", "plan.json"], ["--against does not go with 'plan -m'"]),
        (
            ["plan", "recipe=own", "--resolve"],
            ["--resolve: goes with --cfg, which is not given", "add --cfg job"],
        ),
        (["plan", "recipe=own", "-c", "job", "-p", "maping"], ["there is no part 'maping'", "did you mean 'mapping'?"]),
        (["plan", "recipe=own", "--info", "serchpath"], ["--info: is one of", "did you mean 'searchpath'?"]),
        (["plan", "recipes/onw.yaml"], ["there is no file recipes/onw.yaml", "did you mean 'own.yaml'?"]),
        (["plan", "--json=yes"], ["--json: takes no value, but 'yes' is given"]),
        (["plan", "--trust"], ["--trust: needs a value"]),
        (["plan", "--cfg", "jobs"], ["--cfg: is one of job, hydra, all, not 'jobs'"]),
        (["plan", "--config-dir", "nowhere"], ["there is no folder 'nowhere'", "recipe/*.yaml"]),
        (["plan", "own"], ["'own' is neither KEY=VALUE nor the path of a recipe", "transferpipe plan recipe=own"]),
        (["plan", "recipe=onw"], ["there is no recipe called 'onw'", "did you mean 'own'?"]),
        (["plan", "recipe=zzz"], ["there is no recipe called 'zzz'", "digits", "own", "same_layer"]),
        (["plan", "https://me:s@h/a?token=s"], ["https://***@h/a?token=*** is not an override"]),
        (["inspect"], ["inspect: takes one path, not 0", "transferpipe inspect PATH"]),
        (["inspect", "a", "b"], ["inspect: takes one path, not 2"]),
        (["verify"], ["verify: takes one run folder, not 0", "transferpipe verify FOLDER"]),
        (["inspect", "weights.safetensors", "format=kras"], ["there is no format 'kras'", "did you mean 'keras'?"]),
    ],
)
def test_command_line(refuses, argv, words):
    refuses(2, argv, *words)


@pytest.mark.parametrize(
    "argv, where",
    [
        (["plan", "recipe=~nobody_of_that_name/own.yaml"], "recipe"),
        (["plan", "recipe=own", "--config-dir", "~nobody_of_that_name"], "--config-dir"),
        (["recipes", "--config-dir", "~nobody_of_that_name"], "--config-dir"),
        (["plan", 'source.path="~nobody_of_that_name/a.npz"', "seed=${source.config.a}"], "source.path"),
    ],
)
def test_a_home_folder_of_nobody(refuses, argv, where):
    refuses(4, argv, f"{where}: '~nobody_of_that_name", "names no home folder")


def test_two_files_in_place_of_a_recipe(cli, refuses):
    files = ("weights.safetensors", "weights.safetensors")
    refuses(2, ["run", *files], "neither KEY=VALUE nor the path of a recipe", "transferpipe init A B")
    assert cli("init", *files, "both").status == 0
    assert cli("plan", "recipe=both").status == 0


@pytest.mark.parametrize(
    "override, words",
    [
        ("freze=[hidden]", ["freze: unknown key", "did you mean 'freeze'?"]),
        ("+freze=[hidden]", ["freze: unknown key", "did you mean 'freeze'?"]),
        ("rcipe=own", ["rcipe: unknown key", "did you mean 'recipe'?"]),
        ("zzz=1", ["zzz: unknown key", "mapping", "unmatched"]),
        ("mapping.body.frm=x", ["mapping.body.frm: unknown key", "did you mean 'from'?"]),
        ("mapping.body.optinal=x", ["mapping.body.optinal: unknown key", "did you mean 'optional'?"]),
        ("+mapping.body.form=x", ["mapping.body.form: unknown key", "did you mean 'from'"]),
        ("mappng.body.to=x", ["mappng.body.to: unknown key", "did you mean 'mapping.body.to'?"]),
        ("target.units=9", ["target.units: unknown key", "write +target.units=9"]),
        ("source={_target_: a.b}", ["source: holds other keys", "+source.KEY=...", "~source.KEY"]),
        ("~sead", ["sead: unknown key", "did you mean 'seed'?"]),
        ("+seed=3", ["seed: already set", "write seed=3"]),
        ("hydra.run.dr=x", ["hydra.run.dr: unknown key", "did you mean 'dir'?"]),
        ("mapping=other", ["there is no mapping called 'other'", "recipes/mapping/other.yaml"]),
        ("seed=1,2", ["seed: '1,2' is a sweep", "seed=[1,2]"]),
        ("seed=range(3)", ["seed: 'range(3)' is a sweep"]),
        ("seed=soon", ["seed: must be an integer, not text 'soon'"]),
        ("seed=-1", ["seed: must be at least 0, not -1"]),
        ("freeze=3", ["freeze: must be a list of texts, not integer 3"]),
        ("mapping.body=3", ["mapping.body: must be a mapping", "not integer 3"]),
        ("unmatched=kep", ["unmatched: must be one of", "not text 'kep'", "did you mean 'keep'"]),
        ("target=???", ["target: a value is required", "give one: target=..."]),
        ("source.path=???", ["source.path: a value is required", "give one: source.path=..."]),
        ("save.path=model.kers", ["'model.kers' has none of the suffixes .keras"]),
        ("name=../up", ["name: '../up' cannot be used as a run name"]),
        (
            f"name=a/{'x' * 201}",
            ["xxx'... has 203 characters, too long for the name of a folder", "choose a shorter name"],
        ),
        ("expect=p1", ["expect: the recipe expects the plan p1, but this plan is p", "expect its checksum"]),
        ("hydra.run.dir=null", ["hydra.run.dir=null"]),
    ],
)
def test_overrides(refuses, override, words):
    refuses(2, [*OWN, override], *words)


@pytest.mark.parametrize(
    "override, words",
    [
        ("mapping.body.to='[a'", ["mapping.body.to: '[a' is not a regular expression: missing ]"]),
        ("mapping.body.to='hid(?=den)'", ["uses lookaround", "`except`"]),
        (r"mapping.body.from='\1'", [r"uses \1, but `to: hidden` has 0 group(s)", "add the group to `to`"]),
        ("mapping.body.from='x{i+1}'", ["uses {i}, but `to: hidden` has 0 group(s)"]),
        ("mapping.body.to=hiden", ["mapping.body.to: 'hiden' matches nothing", "did you mean 'hidden'"]),
        ("mapping.head.to=hidden/kernel", ["mapping.body, mapping.head: both claim hidden/kernel", "`except: "]),
        (
            "mapping.head=null",
            ["no rule claims 2 target weights: classes/kernel, classes/bias", "unmatched=same_name ("],
        ),
        ("mapping.body.from=hiddn", ["hiddn", "did you mean 'hidden'"]),
        ("freeze=[hiden]", ["freeze: 'hiden' matches no layer", "did you mean 'hidden'"]),
        ("+target.hidden=9", ["hidden/kernel has shape (8, 9), hidden/kernel gives (8, 6)", "on_mismatch: keep"]),
    ],
)
def test_plans_that_cannot_be_made(refuses, override, words):
    refuses(2, [*OWN, override], *words)


@pytest.mark.parametrize(
    "pattern", ["^hid(.*)$", "hidden(/.*)?", r"(\w+)den", "[a-z]{6}", "(?:'|hidden)", '(?:"|hidden)']
)
def test_a_pattern_that_hydra_refuses_is_answered_with_the_form_that_works(refuses, cli, pattern):
    answer = refuses(2, [*OWN, f"mapping.body.to={pattern}"], "Hydra's grammar cannot read", "unquoted", "-> type ")
    composed = cli(*OWN, *answer.suggested(), "--cfg", "job")
    assert yaml.safe_load(composed.out)["mapping"]["body"]["to"] == pattern
    assert "2 assigned" in cli(*OWN, *answer.suggested()).out


@pytest.mark.parametrize(
    "key", [*(f"mapping.head.{k}" for k in list(SECTIONS["rule"])[2:]), "source.format", "source.layout"]
)
def test_a_key_that_a_recipe_need_not_write(refuses, cli, key):
    refuses(2, [*OWN, f"{key}=x"], f"{key}: is not set in this recipe", f"write +{key}=x")
    added = cli(*OWN, f"+{key}=x")
    assert "unknown key" not in added.err


def test_all_keys_that_are_not_there_are_told_at_once(refuses):
    words = ["freze=[hidden]", "target.units=9", "+seed=4", "~sead", "target.unit=8"]
    said = refuses(2, [*OWN, *words], "(5 problems)").err
    assert "freze: unknown key\n      -> did you mean 'freeze'?" in said
    assert "target.units: unknown key\n      -> to add it, write +target.units=9" in said
    assert "target.unit: unknown key\n      -> to add it, write +target.unit=8" in said
    assert "seed: already set\n      -> to change it, write seed=4" in said
    assert "sead: unknown key\n      -> did you mean 'seed'?" in said


def test_template_arithmetic_that_hydra_refuses(refuses, cli):
    answer = refuses(2, [*OWN, "mapping.body.from={i+1}"], "Hydra's grammar cannot read '{i+1}' unquoted")
    assert answer.suggested() == ['mapping.body.from="{i+1}"']


def test_all_problems_of_a_recipe_at_once(refuses):
    wrong = ["seed=soon", "+mapping.body.form=x", "+freze=[a]", "mapping.head.to='('", "save.path=model.kers"]
    places = ("seed: ", "mapping.body.form: ", "freze: ", "mapping.head.to: ", "save.path: ")
    refuses(2, [*OWN, *wrong], "(5 problems)", *places)


def test_a_recipe_with_very_many_problems_shows_the_first(refuses, recipe):
    rules = "".join(f"  r{i}: {{to: 'x{i}', fron: y}}\n" for i in range(30))
    chosen = recipe(f"target: {{_target_: transferpipe.zoo.small_mlp}}\nmapping:\n{rules}")
    answer = refuses(2, ["plan", chosen], "... and 11 more")
    assert answer.err.count("unknown key") == 20


def test_the_traceback_comes_when_it_is_asked_for(here, capsys):
    from transferpipe.cli import main

    assert main(["plan", "recipe=onw", "--traceback"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["diff", "loop.npz"], ["init", "loop.npz"]])
def test_a_link_to_itself(refuses, here, words):
    (here / "loop.npz").symlink_to("loop.npz")
    refuses(4, [*words, "weights.safetensors"], "loop.npz: cannot be read: ")
