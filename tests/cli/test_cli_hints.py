"""What the command line advises, typed as it is printed: the words are taken out of the answer, and the outcome is checked."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml
from command_line import weights
from omegaconf import OmegaConf
from safetensors.numpy import load_file

from transferpipe.errors import RecipeError

follows = pytest.mark.follows
EXTRAS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
OWN = ("plan", "recipe=own")


def advised(answer):
    """Return the one hint of an answer."""
    (line,) = [line for line in answer.err.splitlines() if " -> " in line]
    return line.partition(" -> ")[2].strip()


def word(hint, opening):
    """Return the word of a hint that stands behind `opening`."""
    return shlex.split(hint.partition(opening)[2])[0].rstrip(",;")


def meant(hint):
    """Return the first word behind "did you mean"."""
    return re.search(r"did you mean '([^']+)'", hint)[1]


@pytest.fixture
def planned(cli):
    """Return a function that plans, and returns the plan as data."""

    def plan(*argv):
        answer = cli(*argv, *([] if "--json" in argv else ["--json"]))
        assert answer.status == 0, answer.err
        return json.loads(answer.out)

    return plan


@pytest.fixture
def hint(refuses):
    """Return a function that runs a command line that is refused, and returns what is advised."""
    return lambda status, *argv: advised(refuses(status, argv))


def moved(plan):
    """Return which target weight takes which source weight."""
    return {a["target"]: a["sources"][0]["name"] for a in plan["assignments"]}


BODY = {"hidden/kernel": "hidden/kernel", "hidden/bias": "hidden/bias"}


# Verbs and flags ------------------------------------------------------------------------------------------------------


@follows("_take_verb: did you mean …?")
def test_a_verb_that_was_meant(hint, planned):
    assert moved(planned(meant(hint(2, "pln", "recipe=own")), "recipe=own")) == BODY
    assert moved(planned("plan", word(hint(2, "own"), "a recipe is chosen by "))) == BODY


@follows("_flag: did you mean …?")
def test_a_flag_that_was_meant(hint, planned, cli):
    assert moved(planned(*OWN, meant(hint(2, *OWN, "--jsn")))) == BODY
    command = hint(2, *OWN, "--zzz").removeprefix("see transferpipe ")
    assert "--traceback" in cli(*command.split()).out


@follows("_check_goes_with: it goes with …")
def test_a_verb_that_a_flag_goes_with(hint, cli):
    verb = hint(2, "run", "recipe=own", "--tree").removeprefix("it goes with ")
    assert "(8, 6)" in cli(verb, "weights.safetensors", "--tree").out


@follows("_split: write … VALUE")
def test_a_flag_with_a_value(hint, cli):
    words = word(hint(2, *OWN, "--cfg"), "write "), "job"
    assert "write --cfg VALUE".endswith("VALUE")
    assert yaml.safe_load(cli(*OWN, *words).out)["mapping"]["body"] == {"to": "hidden", "from": "hidden"}


@follows("_split: write …")
def test_a_flag_without_a_value(hint, planned):
    assert moved(planned(*OWN, hint(2, *OWN, "--json=yes").removeprefix("write "))) == BODY


def test_how_inspect_is_called(hint, cli):
    usage = hint(2, "inspect", "a", "b")
    words = usage.replace("[", "").replace("]", "").replace("PATH", "weights.safetensors").split()[1:]
    values = {"match": "hidden", "format": "safetensors"}
    words = [w.replace("=X", f"={values[key]}") if (key := w.partition("=")[0]) in values else w for w in words]
    assert "(8, 6)" in cli(*[w for w in words if not w.endswith("=X")]).out


@follows("read_topic: did you mean …?")
def test_topics(hint, cli):
    topics = hint(2, "help", "zzz").removeprefix("the topics are ").split(", ")
    assert all(cli("help", topic).status == 0 for topic in topics)
    assert cli("help", meant(hint(2, "help", "transfroms"))).out == cli("help", "transforms").out


# Overrides ------------------------------------------------------------------------------------------------------------


@follows("_grammar_problem: write KEY=VALUE, or ~KEY")
def test_a_word_that_is_no_override(hint, planned):
    text = hint(2, "plan", "+own")
    assert moved(planned("plan", text.split()[1].rstrip(",").replace("KEY", "recipe").replace("VALUE", "own"))) == BODY
    deleting = text.split()[3].replace("KEY", "mapping.head")
    assert planned(*OWN, deleting, "unmatched=keep")["kept"][0]["rule"] == "unmatched"


@pytest.mark.parametrize("pattern", ["hid(den)", r"hid(\w+)", "(?:hidden)", "hid[d]en"])
@follows("_grammar_problem: type …")
def test_a_pattern_as_it_is_quoted(pattern, refuses, planned):
    answer = refuses(2, [*OWN, f"mapping.body.to={pattern}", "mapping.body.from=null"])
    plan = planned(*OWN, *answer.suggested(), "mapping.body.from=null")
    assert {k["target"] for k in plan["kept"] if k["rule"] == "body"} == set(BODY)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mapping.body", r"{to: hid(d)en, from: hidden}"),
        ("mapping", r"{body: {'to': hidden}}"),
        ("ignore", "[a(b)c, classes]"),
    ],
)
@follows("_grammar_problem: write it into a")
def test_a_mapping_or_a_list_that_the_grammar_cannot_read_is_written_into_a_file(key, value, hint, here, planned):
    """Quoted, it would be a text that begins with a brace."""
    text = hint(2, *OWN, f"{key}={value.replace(': ', ':')}")
    folder = word(text, "into a file in ").removeprefix("./")
    given = yaml.safe_load(value)
    for name in reversed(key.split(".")):
        given = {name: given}
    recipe = yaml.safe_load((here / folder / "own.yaml").read_text().removeprefix("# @package _global_"))
    recipe["mapping"] |= given.get("mapping", {})
    recipe |= {"ignore": given["ignore"]} if "ignore" in given else {}
    (here / folder / "own.yaml").write_text("# @package _global_\n" + yaml.safe_dump(recipe))
    assert moved(planned(*OWN)) == BODY


@follows("_several_values: use `sweep`, or for")
def test_several_values_as_a_list(hint, planned):
    text = hint(2, *OWN, "freeze=hidden,classes")
    plan = planned(*OWN, word(text, "for a list write "))
    assert sorted(plan["freezing"]["layers"]) == ["classes", "hidden"]


@follows("_several_values: use `sweep`, or for")
def test_several_values_as_one_text(hint, cli):
    words = word(hint(2, *OWN, "source.path=a,b"), "for the text ")
    assert "there is no file a,b" in cli(*OWN, words).err or "a,b: there is no such file" in cli(*OWN, words).err


@follows("_several_values: use `sweep`, or for")
def test_several_values_as_a_sweep(hint, cli, here):
    verb = re.search("use `(.*?)`", hint(2, "run", "recipe=own", "seed=1,2"))[1]
    assert cli(verb, "recipe=own", "seed=1,2", "--dry-run").status == 0
    assert [s for s in ("seed=1", "seed=2") if s not in cli(verb, "recipe=own", "seed=1,2", "--dry-run").out] == []


@follows("_unknown_key: to change it, write")
def test_a_key_that_is_set(hint, planned):
    changed = word(hint(2, *OWN, "+mapping.body.from=classes"), "write ")
    assert planned(*OWN, changed.replace("classes", "hidden"))["assignments"]
    assert changed == "mapping.body.from=classes"


@follows("_unknown_key: to add it, write")
def test_a_key_that_a_rule_lacks(hint, planned):
    plan = planned(*OWN, word(hint(2, *OWN, "mapping.body.transform=[{scale: 2}]".replace(" ", "")), "write "))
    assert all(a["transforms"] for a in plan["assignments"])


@follows("_unknown_key: to add it, write #2")
def test_an_argument_that_a_builder_is_not_given_yet(hint, planned):
    plan = planned(*OWN, word(hint(2, *OWN, "target.classes=3"), "write "))
    assert plan["target"] == "transferpipe.zoo.small_mlp(classes=3)"


@follows("_unknown_key: to build it in")
def test_a_builder_in_place_of_a_file(hint, planned):
    fix = hint(2, *OWN, "source._target_=transferpipe.zoo.small_mlp").partition("write ")[2].split()
    assert fix[-1] == "+source._target_=transferpipe.zoo.small_mlp"
    plan = planned(*OWN, *fix, "mapping={body: {to: '.*'}}", "ignore=[]")
    assert plan["sources"] == {"source": "transferpipe.zoo.small_mlp()"}


@pytest.mark.parametrize("override", ["unmtched=keep", "mapping.body.optinal=true", "mappng.body.to=hidden"])
@follows("_unknown_key: did you mean …?")
def test_a_key_that_was_meant(override, hint, planned):
    key, _, value = override.partition("=")
    near = meant(hint(2, *OWN, override))
    near = near if "." in near else ".".join([*key.split(".")[:-1], near])
    sign = "+" if near.endswith("optional") else ""
    assert moved(planned(*OWN, f"{sign}{near}={value}")) == BODY


@follows("_unknown_key: mappings are merged: add")
def test_mappings_are_merged(hint, planned):
    text = hint(2, *OWN, "source={_target_: transferpipe.zoo.small_mlp}")
    adding, deleting = (w.strip(",") for w in re.findall(r"[+~]\S+", text))
    words = [adding.replace("KEY=...", "_target_=transferpipe.zoo.small_mlp"), deleting.replace("KEY", "path")]
    assert list(planned(*OWN, *words)["sources"].values()) == ["transferpipe.zoo.small_mlp()"]


@follows("check_name: set name=...")
def test_a_name_of_a_run(hint, planned):
    override = word(hint(2, *OWN, "name=../up"), "set ").replace("...", "up")
    assert planned(*OWN, override)["recipe"] == "up"


# Files ----------------------------------------------------------------------------------------------------------------


@follows("_missing_config: did you mean …?")
def test_a_file_of_rules(hint, planned, here):
    text = hint(2, *OWN, "mapping=other")
    path = here / re.search(r"recipes/\S+\.yaml", text)[0]
    path.parent.mkdir()
    path.write_text("head: {to: classes, from: classes}\n")
    both = BODY | {"classes/kernel": "classes/kernel", "classes/bias": "classes/bias"}
    assert moved(planned(*OWN, "mapping=other")) == both
    assert moved(planned(*OWN, re.search("mapping=none", text)[0])) == BODY


@follows("recipe_of: write the rules themselves,")
def test_rules_that_are_only_named(hint, planned, recipe, here):
    rest = (here / "recipes/own.yaml").read_text().partition("mapping:")[0]
    override = recipe(f"{rest}mapping: other\nunmatched: keep\n")
    text = hint(2, "plan", override)
    path = here / re.search(r"recipes/\S+\.yaml", text)[0]
    path.parent.mkdir(exist_ok=True)
    path.write_text("body: {to: hidden, from: hidden}\n")
    recipe(f"{rest}unmatched: keep\n")
    assert moved(planned("plan", override, word(text, "command line: "))) == BODY


@follows("_missing_config: write unmatched=…, for weights", "_parse_rules: write `unmatched: …`, for")
def test_names_in_the_place_of_rules(hint, planned, recipe, here):
    text = hint(2, *OWN, "mapping=same_name_or_keep")
    assert moved(planned(*OWN, re.search(r"unmatched=\w+", text)[0]))
    rest = (here / "recipes/own.yaml").read_text().partition("mapping:")[0]
    override = recipe(f"{rest}mapping: same_name_or_keep\n")
    text = hint(2, "plan", override)
    recipe(rest + re.search(r"`(.*)`", text)[1] + "\n")
    both = BODY | {"classes/kernel": "classes/kernel", "classes/bias": "classes/bias"}
    assert moved(planned("plan", override)) == both


@follows("_missing_config: name a recipe without")
def test_a_recipe_on_which_another_rests(hint, planned, recipe, here):
    body = "# @package _global_\ndefaults: [/own]\nseed: 3\n"
    override = recipe(body)
    text = hint(2, "plan", override)
    recipe(body.replace("[/own]", re.search(r"defaults: (\[.*?\])", text)[1]))
    assert moved(planned("plan", override)) == BODY
    (here / "recipes/mapping").mkdir()
    (here / "recipes/mapping/more.yaml").write_text("head: {from: classes}\n")
    plan = planned("plan", override, re.search(r"mapping=NAME", text)[0].replace("NAME", "more"))
    assert moved(plan)["classes/bias"] == "classes/bias"


@follows("_unknown_key: choose it on the")
def test_what_a_recipe_cannot_choose(hint, planned, recipe, here):
    (here / "recipes/mapping").mkdir()
    (here / "recipes/mapping/more.yaml").write_text("head: {from: classes}\n")
    body = "# @package _global_\ndefaults: [own, {override /mapping: more}, _self_]\n"
    override = recipe(body)
    chosen = word(hint(2, "plan", override), "command line: ").replace("NAME", "more")
    recipe(body.replace(", {override /mapping: more}", ""))
    assert moved(planned("plan", override, chosen))["classes/bias"] == "classes/bias"


@follows("_missing_config: did you mean …?")
def test_recipes_and_scores_that_were_meant(hint, planned, here):
    assert moved(planned("plan", f"recipe={meant(hint(2, 'plan', 'recipe=onw'))}")) == BODY
    names = hint(2, "plan", "recipe=zzz").removeprefix("there are ").split(", ")
    assert "own" in names
    (here / "my_scores.py").write_text("def score(model):\n    return 1.0\n")
    override = word(hint(2, *OWN, "score=my_scores.score"), "type ")
    assert moved(planned(*OWN, override)) == BODY
    assert "my_scores.score" in override


@follows("missing_package: …, or …")
def test_an_extra_that_holds_a_launcher(refuses, monkeypatch):
    pytest.importorskip("hydra")
    answer = refuses(2, ["sweep", "recipe=own", "seed=0,1", "hydra/launcher=ray"])
    extra = re.search(r"transferpipe\[(\w+)\]", advised(answer))[1]
    assert any(r.startswith("hydra-ray-launcher") for r in EXTRAS[extra])


@follows("_check_package: write `# @package …`")
def test_the_package_of_a_recipe(hint, planned, recipe, here):
    text = (here / "recipes/own.yaml").read_text()
    override = recipe(f"# @package recipe\n{text}")
    header = re.search("`(.*)`", hint(2, "plan", override))[1]
    recipe(f"{header}\n{text}")
    assert moved(planned("plan", override)) == BODY


@follows("_check_package: set it on the")
def test_hydras_keys_are_for_the_command_line(hint, cli, recipe, here):
    text = (here / "recipes/own.yaml").read_text()
    override = recipe("# @package hydra.run\ndir: elsewhere\n")
    key = word(hint(5, "plan", override), "command line: ").replace("KEY=...", "run.dir=elsewhere")
    recipe(text)
    assert cli("run", override, key).status == 0
    assert (here / "elsewhere/model.keras").is_file()


@follows("_check_events: keep one; `---` separates")
def test_one_document(hint, planned, recipe, here):
    text = (here / "recipes/own.yaml").read_text()
    override = recipe(f"{text}---\nseed: 3\n")
    separator = re.search("`(.*)`", hint(2, "plan", override))[1]
    recipe(text if separator == "---" else "")
    assert moved(planned("plan", override)) == BODY


@follows("check_score: save a .keras file")
def test_a_score_needs_a_model(hint, cli, here):
    (here / "my_scores.py").write_text("def score(model):\n    return float(model.layers[-1].units)\n")
    words = ("run", "recipe=own", "score={_target_: my_scores.score}", "save.path=m.npz", "hydra.run.dir=out")
    override = word(hint(2, *words), "save a .keras file too: ").replace("...", "m.keras")
    assert cli(*words, override).status == 0
    assert json.loads((here / "out/score.json").read_text())["value"] == 3


# Trust ----------------------------------------------------------------------------------------------------------------


@follows("_refuse_name: if you trust it,", "resolve: if you trust it,")
def test_trusting_a_package(cli, here, recipe, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("site-packages")
    (elsewhere / "their_models.py").write_text(
        "from transferpipe.zoo import small_mlp as inner\n\n\ndef build():\n    return inner()\n"
    )
    (here / "mine.py").write_text("from their_models import build\n")
    monkeypatch.syspath_prepend(elsewhere)
    for target in ("their_models.build", "mine.build"):
        words = ("plan", "recipe=own", f"target._target_={target}")
        answer = cli(*words)
        assert answer.status == 5
        flags = advised(answer).partition("command line: ")[2].split()
        answer = cli(*words, *flags, "--json")
        assert moved(json.loads(answer.out)) == BODY


@follows("_reach: did you mean …?")
def test_a_builder_that_was_meant(hint, planned):
    name = meant(hint(2, *OWN, "target._target_=transferpipe.zoo.smal_mlp"))
    assert moved(planned(*OWN, f"target._target_=transferpipe.zoo.{name}")) == BODY


@follows("_check_spelling: did you mean …?")
def test_modules_that_were_meant(hint, planned, here):
    (here / "my_models.py").write_text(
        "from transferpipe.zoo import small_mlp\n\n\ndef build():\n    return small_mlp()\n"
    )
    name = meant(hint(2, *OWN, "target._target_=my_modles.build"))
    assert moved(planned(*OWN, f"target._target_={name}.build")) == BODY
    file = re.search(r"where (\S+\.py) lies", hint(2, *OWN, "target._target_=zzz.build"))[1]
    (here / file).write_text((here / "my_models.py").read_text())
    assert moved(planned(*OWN, "target._target_=zzz.build")) == BODY


@follows("_check_written: did you mean …?")
def test_a_module_in_a_folder_that_was_meant(hint, planned, here):
    (here / "parts").mkdir()
    (here / "parts" / "models.py").write_text(
        "from transferpipe.zoo import small_mlp\n\n\ndef build():\n    return small_mlp()\n"
    )
    name = meant(hint(2, *OWN, "target._target_=parts.model.build"))
    assert moved(planned(*OWN, f"target._target_=parts.{name}.build")) == BODY


@pytest.mark.parametrize(
    "line, advice, better",
    [
        pytest.param(
            "vars: {v: !!float os}", "write a text in quotes, without a tag", "vars: {v: 'os'}",
            marks=follows("_refusal: write a text in")),
        pytest.param("seed: 0x_", "write a text in quotes, without a tag", "seed: 3"),
        pytest.param("vars: !!map x", "write a text in quotes, without a tag", "vars: {v: 'x'}"),
        pytest.param("vars: {null: 1}", "give it a name", "vars: {v: 1}", marks=follows("_refusal: give it a name")),
        pytest.param(
            "vars: {v: '${'}", r"write ${KEY} with a key of this recipe, or \${ for these very characters",
            "vars: {v: '${unmatched}', w: '\\${'}", marks=follows("_refusal: write ${KEY} with a")),
        pytest.param(
            "vars: {v: '${:x}'}", r"write ${KEY} with a key of this recipe, or \${ for these very characters",
            "vars: {v: '${unmatched}'}"),
    ],
)  # fmt: skip
def test_values_that_no_parser_takes_are_named_with_their_line(cli, here, line, advice, better):
    path = here / "recipes" / "own.yaml"
    text = path.read_text()
    path.write_text(f"{line}\n{text}")
    answer = cli(*OWN)
    assert answer.status == 2
    assert "recipes/own.yaml, line 1" in answer.err
    assert advised(answer) == advice
    path.write_text(f"{better}\n{text}")
    assert cli(*OWN).status == 0


# Sweeps ---------------------------------------------------------------------------------------------------------------

SWEEP = ("sweep", "recipe=own")


def swept(answer):
    """Return what sets the variants apart that a dry run shows."""
    assert answer.status == 0, answer.err
    return sorted(set(re.findall(r"seed=\d+", answer.out)))


@follows("_check_number: leave some out, or")
def test_a_larger_sweep(hint, cli):
    override = word(hint(2, *SWEEP, "seed=range(4)", "sweep.limit=3"), "or allow it: ")
    assert len(swept(cli(*SWEEP, "seed=range(4)", override, "--dry-run"))) == 4


@follows("check_saves_inside: each has a folder")
def test_where_a_variant_is_saved(hint, cli, here):
    override = word(hint(2, *SWEEP, "seed=0,1", f"save.path={here / 'm.npz'}"), "own: ")
    assert cli(*SWEEP, "seed=0,1", override).status == 0
    files = list((here / "outputs/sweeps/own").rglob("m.npz"))
    assert len(files) == 2
    assert all(np.array_equal(np.load(f)["hidden/bias"], weights()["hidden/bias"]) for f in files)


@follows("check_interval: choose a sweeper that")
def test_values_in_place_of_an_interval(hint, cli):
    text = hint(2, *SWEEP, "seed=interval(0,1)")
    assert "or list the values" in text
    assert swept(cli(*SWEEP, "seed=0,1", "--dry-run")) == ["seed=0", "seed=1"]
    answer = cli(*SWEEP, "seed=0,1", word(text, "does, ").replace("hydra/sweeper=optuna", "hydra/sweeper=optuna"))
    assert "is not installed" in answer.err or answer.status != 1
    assert any("optuna" in r for r in EXTRAS["optuna"])


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param("sweep.drop=[{sed: 1}]", marks=follows("_check_keys: did you mean …?")),
        pytest.param("sweep.controls=[randm]", marks=follows("controls_of: did you mean …?")),
        pytest.param("+sweep.axs={freeze: [null]}", marks=follows("read_settings_of: did you mean …?")),
        pytest.param("sweep.log=[tensorbord]", marks=follows("_check_outside: did you mean …?")),
        pytest.param("sweep.x=sed", marks=follows("check_named: did you mean …?")),
    ],
)
def test_names_in_the_settings_of_a_sweep(wrong, hint, cli, monkeypatch):
    text = hint(2, *SWEEP, "seed=0,1,2", wrong)
    typo = re.search(r"axs|randm|sed|tensorbord", wrong)[0]
    right = wrong.replace(typo, meant(text)).removeprefix("+")
    if "log" in right:
        import importlib.util

        known = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda n, *rest: n if n == "tensorboard" else known(n, *rest))
    if "axes" in right:
        right = "sweep.axes={freeze: [[hidden]]}"
    expected = ["seed=0", "seed=2"] if "drop" in right else ["seed=0", "seed=1", "seed=2"]
    assert swept(cli(*SWEEP, "seed=0,1,2", right, "--dry-run")) == expected


@follows("check_named: did you mean …? #2")
def test_the_variant_to_compare_with(hint, cli):
    named = ("+sweep.variants={plain: {freeze: []}, frozen: {freeze: [hidden]}}",)
    name = meant(hint(2, *SWEEP, "seed=0,1", *named, "sweep.against=plan"))
    assert swept(cli(*SWEEP, "seed=0,1", *named, f"sweep.against={name}", "--dry-run")) == ["seed=0", "seed=1"]


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("axes", "3"), ("variants", "3"), ("drop", "3"), ("controls", "3"), ("against", "3"), ("limit", "many"),
        ("log", "3"), ("x", "3"), ("title", "3"), ("recipe", "3"), ("selffer", "3"),
    ],
)  # fmt: skip
@follows("_note_value: write …")
def test_settings_of_a_sweep_as_they_are_written(key, wrong):
    from transferpipe.sweep.settings import read_settings_of

    with pytest.raises(RecipeError) as caught:
        read_settings_of({key: yaml.safe_load(wrong)})
    (problem,) = caught.value.problems
    data = yaml.safe_load(problem.fix.removeprefix("write "))
    assert list(data) == [key]
    if hasattr(settings := read_settings_of(data), key):
        assert getattr(settings, key) in (data[key], tuple(data[key]) if isinstance(data[key], list) else None)


@follows("_check_parts: write {freeze: none}", "_check_parts: write limit: 200")
def test_variants_and_limits_as_they_are_written():
    from transferpipe.sweep.settings import read_settings_of

    with pytest.raises(RecipeError) as caught:
        read_settings_of({"variants": {"a": 3}, "limit": 0})
    variant, limit = (p.fix for p in caught.value.problems)
    settings = read_settings_of({"variants": {"a": yaml.safe_load(variant[6:])}, **yaml.safe_load(limit[6:])})
    assert settings.variants == {"a": {"freeze": "none"}}
    assert settings.limit == 200


@follows("_of_variant: name a network trained")
def test_the_control_that_is_cut_from_a_network_of_its_own(hint, cli, here):
    import keras

    from transferpipe.zoo import small_mlp

    small_mlp().save(here / "own.keras")
    keras.utils.clear_session()
    words = (*SWEEP, "seed=0,1", "sweep.controls=[selffer]")
    answer = cli(*words, "--dry-run")
    text = next(line for line in (answer.out + answer.err).splitlines() if "sweep.selffer=" in line)
    override = text.partition("task: ")[2].strip().replace("FILE", "own")
    assert swept(cli(*words, override, "--dry-run")) == ["seed=0", "seed=1"]


@follows("only_one: wait for it, or")
def test_another_folder_for_a_second_sweep(cli, here):
    from transferpipe.sweep.running.lock import only_one

    (here / "outputs/sweeps/own").mkdir(parents=True)
    with only_one(here / "outputs/sweeps/own"):
        answer = cli(*SWEEP, "seed=0,1")
        assert answer.status == 4
        override = word(advised(answer), "another folder: ").replace("FOLDER", "second")
        assert cli(*SWEEP, "seed=0,1", override).status == 0
    for file in (here / "second").rglob("model.keras"):
        assert file.is_file()
    assert len(list((here / "second").rglob("model.keras"))) == 2


@follows("require_sweep: name the folder that", "require_sweep: name the folder that #2")
def test_the_folder_that_a_sweep_printed(hint, cli, here):
    command = re.search("`transferpipe (.*?)`", hint(2, "report", "recipes"))[1]
    assert command in hint(4, "report", "nowhere")
    answer = cli(command, "recipe=own", "seed=0,1")
    (folder,) = {f.partition("/sweep.")[0] for f in re.findall(r"\S*outputs/sweeps/\S+", answer.out)} & {
        "outputs/sweeps/own", str(here / "outputs/sweeps/own")}  # fmt: skip
    (here / "outputs/sweeps/own/sweep.csv").unlink()
    assert cli("report", folder).status == 0
    assert (here / "outputs/sweeps/own/sweep.csv").read_text().count("done") == 2


OTHER_SWEEPER = OmegaConf.create({"hydra": {"sweeper": {"_target_": "somebodys.Sweeper"}}})


@follows("check_optimising: give the recipe a", "check_optimising: leave it out (sweep.…=null),")
def test_what_a_sweeper_that_chooses_needs():
    from types import SimpleNamespace

    from transferpipe.cli.sweeps.expansion import Axes
    from transferpipe.cli.sweeps.optimise import check_optimising
    from transferpipe.sweep.settings import read_settings_of

    def problems(data, sweep):
        try:
            axes = Axes((), {}, {"vars.x": "interval(0,1)"})
            check_optimising(
                SimpleNamespace(data=data, sweep=sweep, config=OTHER_SWEEPER), axes, read_settings_of(sweep)
            )
        except RecipeError as error:
            return error.problems
        return ()

    sweep = {"controls": ["random"], "variants": {"a": {"freeze": []}}, "drop": [{"vars.x": 1}]}
    sweep |= {"when": {"vars.x": {"seed": 1}}, "budget": 0, "fail_fast": True}  # which Optuna goes by, others do not
    found = problems({}, sweep)
    keys = re.findall(r"sweep\.(\w+)=null", " ".join(p.fix for p in found))
    assert set(keys) == set(sweep)
    key = re.search("`(.*?)`", found[0].fix)[1]
    assert problems({key: {"_target_": "my.score"}}, {k: v for k, v in sweep.items() if k not in keys}) == ()


@pytest.mark.parametrize("values", ["range(1,5,0)", "range(0.1,nan)"])
@follows("_values: write KEY=A,B or KEY=range(5)")
def test_values_of_an_axis(values, hint, cli):
    for override in re.findall(r"KEY=\S+", hint(2, *SWEEP, f"seed={values}")):
        override = override.replace("KEY", "seed").replace("A,B", "3,4")
        assert len(swept(cli(*SWEEP, override, "--dry-run"))) == (5 if "range" in override else 2)


@follows("check_optimising: leave it out (sweep.…=null), #2")
def test_seeds_are_not_for_a_sweeper_to_choose():
    import inspect
    from types import SimpleNamespace

    from transferpipe.cli.sweeps.expansion import Axes
    from transferpipe.cli.sweeps.optimise import check_optimising
    from transferpipe.score import finetune
    from transferpipe.sweep.settings import read_settings_of

    base = SimpleNamespace(data={"score": {"_target_": "my.score"}}, sweep={}, config=OTHER_SWEEPER)
    settings = read_settings_of({})
    with pytest.raises(RecipeError) as caught:
        check_optimising(base, Axes((), {"vars.x": ("1",)}, {"seed": "interval(0,1)"}), settings)
    check_optimising(base, Axes((), {"vars.x": ("1",)}, {}), settings)
    score, key = re.search(r"score=(\w+) score\.(\w+)=5", caught.value.problems[0].fix).groups()
    assert score == "finetune"
    assert key in inspect.signature(finetune).parameters


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        pytest.param(["hydra.run.dir=a,b", "seed=1,2"], ["hydra.run.dir=a", "seed=1,2"],
                     marks=follows("split_axes: give it one value")),
        pytest.param(["seed=range(0)"], ["seed=1,2"], marks=follows("_values: give at least one")),
        pytest.param(["seed=range(1000000000)"], ["seed=range(1,3)"], marks=follows("_values: give fewer")),
        pytest.param(["seed=1,2", "sweep.drop=[{seed: [1,2]}]"], ["seed=1,2,3", "sweep.drop=[{seed: 3}]"],
                     marks=follows("expand: drop fewer combinations")),
        pytest.param(["seed=1,2", "+sweep.variants={a: {seed: 3}}"], ["seed=1,2", "+sweep.variants={a: {freeze: []}}"],
                     marks=follows("_check_keys: leave out one of")),
        pytest.param(["sweep.axes={seed: []}"], ["sweep.axes={seed: [1, 2]}"],
                     marks=follows("read_axes: give at least one")),
    ],
)  # fmt: skip
def test_values_of_axes_in_words(wrong, right, hint, cli):
    assert hint(2, *SWEEP, *wrong)
    assert swept(cli(*SWEEP, *right, "--dry-run")) == ["seed=1", "seed=2"]


@follows("_refuse.refuse_or_resolve: …")
def test_a_key_that_was_renamed_is_written_itself(cli, refuses, recipe, here):
    text = (here / "recipes/own.yaml").read_text() + "vars: {old: a_name}\nname: '${oc.deprecated:vars.old}'\n"
    assert "write ${KEY} with the key that it names" in refuses(5, ("plan", recipe(text))).err
    assert cli("plan", recipe(text.replace("oc.deprecated:", ""))).status == 0


@follows("_refuse.refuse_or_resolve: …")
def test_the_environment_is_given_as_an_override(cli, refuses, recipe, here):
    text = (here / "recipes/own.yaml").read_text().replace("weights.safetensors", "'${oc.env:HOME}'")
    override = recipe(text)
    assert "give the value as an override" in refuses(5, ("plan", override)).err
    answer = cli("plan", override, "source.path=weights.safetensors", "--json")
    assert moved(json.loads(answer.out)) == BODY


@follows("show_help: transferpipe help TOPIC", "Arguments.take_words: transferpipe … …")
def test_how_verbs_are_called(hint, cli, here):
    words = hint(2, "help", "a", "b").split()[1:]
    assert cli(*(w.replace("TOPIC", "transforms") for w in words)).status == 0
    assert cli("run", "recipe=own", "hydra.run.dir=out").status == 0
    words = hint(2, "verify").split()[1:]
    assert cli(*(w.replace("FOLDER", "out") for w in words if not w.startswith("["))).status == 0


@follows("_number: such as … 1e-4")
def test_a_tolerance(hint, cli, here):
    import keras

    from transferpipe.zoo import small_mlp

    small_mlp().save(here / "a.keras")
    keras.utils.clear_session()
    flag, value = hint(2, "parity", "a.keras", "a.keras", "--atol", "x").split()[-2:]
    assert cli("parity", "a.keras", "a.keras", flag, value).status == 0


@follows("_no_mapping: a recipe has keys:", "_read: save it as UTF-8", "yaml_problem: fix the YAML: quote")
def test_files_that_are_no_recipes(hint, planned, recipe, here):
    text = (here / "recipes/own.yaml").read_text()
    keys = re.findall(r"\w+", hint(2, "plan", recipe("- a\n")).partition("keys: ")[2])
    assert [k for k in keys if f"{k}:" in text] == keys
    assert "UTF-8" in hint(2, "plan", recipe(b"seed: 1 # \xff\n"))
    assert "quote strings" in hint(2, "plan", recipe(text + "ignore: [@a: b]\n"))
    assert moved(planned("plan", recipe(text.encode("utf-8").replace(b"[classes]", b"['classes', '@a: b']")))) == BODY


@follows(
    "_check_save_path: set it on the",
    "Composer._check_hydra_is_ours: set it on the",
    "Composer.configuration: set it on the",
)
def test_what_is_for_the_command_line(cli, recipe, here):
    text = (here / "recipes/own.yaml").read_text()
    override = recipe(f"{text}save: {{path: {here}/elsewhere/m.npz}}\n")
    key = word(advised(cli("run", override)), "command line: ").replace("...", f"{here}/elsewhere/m.npz")
    recipe(text)
    assert cli("run", override, key).status == 0
    assert np.array_equal(np.load(here / "elsewhere/m.npz")["hidden/bias"], weights()["hidden/bias"])
    for key in ("job: {chdir: true}", "searchpath: [elsewhere]"):  # the second is Hydra's own to refuse
        recipe(f"# @package _global_\nhydra: {{{key}}}\n{text}")
        answer = cli("plan", override)
        assert answer.status == 5
        assert "line 2: recipe: a recipe cannot set keys of hydra" in answer.err
        assert word(advised(answer), "command line: ").endswith("=...")


def test_the_values_are_those_that_a_run_writes(cli, here):
    """The plans above are looked at as data; here once the values are."""
    assert cli("run", "recipe=own", "save.path=m.safetensors", "hydra.run.dir=out").status == 0
    written = load_file(here / "out/m.safetensors")
    assert all(np.array_equal(written[n], weights()[n]) for n in BODY)


# Interpolations, folders ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["${nothing:2}", "${seed.x.y}"])
@follows("resolve: write ${KEY} with a")
def test_an_interpolation_that_means_nothing(wrong, hint, recipe, planned):
    text = "target: {{_target_: transferpipe.zoo.small_mlp, hidden: {}}}\nseed: 5\nunmatched: keep\n"
    fix = hint(2, "plan", recipe(text.format(f"'{wrong}'")))
    key = re.search(r"write \$\{(\w+)\} with a key of this recipe, or the value itself", fix)[1]
    for right in (f"'${{{key}}}'".replace("KEY", "seed"), "5"):
        assert "hidden=5" in planned("plan", recipe(text.format(right)))["target"]


@follows("_limit.count: write the values out")
def test_interpolations_that_unfold_to_very_much(hint, recipe, planned):
    chain = "".join(f"  a{i}: '{f'${{vars.a{i - 1}}}' * 9}'\n" for i in range(1, 12))
    text = "target: {_target_: transferpipe.zoo.small_mlp}\nunmatched: keep\nvars:\n  a0: xxxxxxxxxx\n"
    assert hint(5, "plan", recipe(text + chain)) == "write the values out"
    written = f"  a1: '{'x' * 90}'\n"
    assert planned("plan", recipe(text + written))["kept"]


@follows("Composition.name_run_folder: name a folder, such")
def test_a_run_folder_that_cannot_be_filled_in(hint, cli, here):
    fix = hint(2, "run", "recipe=own", "hydra.run.dir=${nothing:1}/x")
    folder = re.search(r"such as (hydra\.run\.dir=(\S+))", fix)
    assert cli("run", "recipe=own", folder[1]).status == 0
    assert (here / folder[2] / "model.keras").is_file()


@follows("conf_folder: install transferpipe again")
def test_an_installation_without_its_recipes(hint, cli, tmp_path, monkeypatch):
    import transferpipe

    with monkeypatch.context() as patch:
        patch.setattr(transferpipe, "__file__", str(tmp_path / "elsewhere" / "transferpipe" / "__init__.py"))
        assert hint(4, "plan", "recipe=own") == "install transferpipe again"
    assert cli("plan", "recipe=own").status == 0


@follows("_compare: leave it out")
def test_two_sweeps_are_not_followed(hint):
    assert hint(2, "report", "a", "b", "--watch") == "leave it out"


@pytest.mark.parametrize("beside_a_folder", [False, True])
@follows("_as_override: choose a recipe by")
def test_a_recipes_path_without_its_suffix_is_completed(beside_a_folder, cli, planned):
    Path("recipes/bare" if beside_a_folder else "recipes").mkdir(parents=True, exist_ok=True)
    Path("recipes/bare.yaml").write_text(
        "source: {path: s.npz}\ntarget: {path: s.npz}\nmapping: {all: {to: '.*'}}\nsave: {path: o.npz}\n"
    )
    np.savez("s.npz", a=np.ones(3, "float32"))
    answer = cli("plan", "recipes/bare")
    assert answer.status == 2
    words = shlex.split(advised(answer).partition("transferpipe ")[2])
    assert planned(*words)["assignments"][0]["target"] == "a"


@follows("_other_kind: give each entry a", "_other_kind: write …: [A, B]")
def test_a_list_of_rules_and_a_mapping_of_patterns_are_told_with_their_lines(cli, planned):
    Path("recipes").mkdir(exist_ok=True)
    np.savez("s.npz", a=np.ones(3, "float32"))
    head = "source: {path: s.npz}\ntarget: {path: s.npz}\nsave: {path: o.npz}\n"
    Path("recipes/listed.yaml").write_text(f"{head}mapping: [{{to: a}}]\n")
    answer = cli("plan", "recipe=listed")
    assert "recipes/listed.yaml, line 4: mapping: must be a mapping, not a list" in answer.err
    assert advised(answer) == "give each entry a name"
    Path("recipes/listed.yaml").write_text(f"{head}mapping: {{one: {{to: a}}}}\n")
    assert planned("plan", "recipe=listed")["assignments"][0]["rule"] == "one"
    Path("recipes/listed.yaml").write_text(f"{head}mapping: {{one: {{to: a}}}}\nignore: {{b: 1}}\n")
    answer = cli("plan", "recipe=listed")
    assert "recipes/listed.yaml, line 5: ignore: must be a list, not a mapping" in answer.err
    assert advised(answer) == "write ignore: [A, B]"
    Path("recipes/listed.yaml").write_text(f"{head}mapping: {{one: {{to: a}}}}\nignore: [b]\n")
    assert planned("plan", "recipe=listed")["assignments"][0]["rule"] == "one"


def check_call(cli, typed):
    """Compare with what is typed, then with the call that the answer gives."""
    lines = ["import keras", "def build(size=3):", "    return keras.Sequential([keras.Input((2,)),"]
    Path("sized.py").write_text("\n".join([*lines, "        keras.layers.Dense(size)])"]) + "\n")
    np.savez("s.npz", a=np.ones(3, "float32"))
    answer = cli("diff", "s.npz", typed)
    assert answer.status == 2
    assert re.search(r"'(sized[^']*)'$", advised(answer))[1] == "sized.build()"


@follows("read_side: write the call, with")
def test_a_builder_is_written_as_a_call(cli, monkeypatch):
    monkeypatch.syspath_prepend(Path.cwd())
    check_call(cli, "sized.build")
    assert cli("diff", "sized.build()", "s.npz").status == 1


@follows("read_side: '…()'")
def test_the_brackets_of_a_call_are_closed(cli, monkeypatch):
    monkeypatch.syspath_prepend(Path.cwd())
    for typed in ("sized.build(size=", "sized.build("):
        check_call(cli, typed)
    assert cli("diff", "sized.build()", "s.npz").status == 1


@follows("select_weights: did you mean …?")
def test_what_matches_nothing_is_answered_with_a_name(cli):
    np.savez("s.npz", **{"enc/kernel": np.ones(3, "float32")})
    answer = cli("inspect", "s.npz", "match=zzzzzz")
    assert answer.status == 2
    assert cli("inspect", "s.npz", f"match={word(advised(answer), 'like ')}").status == 0


@follows("inspect: did you mean …?")
def test_an_option_of_inspect_is_corrected(cli):
    np.savez("s.npz", a=np.ones(3, "float32"))
    answer = cli("inspect", "s.npz", "mach=a")
    assert "inspect reads format=, match=, select= and no mach=" in answer.err
    assert cli("inspect", "s.npz", f"{meant(advised(answer))}=a").status == 0
