"""One command means one thing: every variant of a sweep has the plan that `plan` has with the variant's own overrides."""

import json

import pytest
from command_line import weights
from safetensors.numpy import save_file

from transferpipe.cli.compose.composing import Composer

RECIPE = """
source: {path: weights.safetensors}
target: {path: weights.safetensors}
vars: {a: 0.25, b: '${sub:1,${vars.a}}', list: [3, 5, 9], i: 0, chosen: '${item:${vars.list},${vars.i}}', minus: '${neg:${vars.a}}', nothing: null}
mapping:
  all: {to: '.*', transform: [{scale: '${vars.b}'}]}
edit: {probe: {at: hidden/kernel, index: [0, 0], set: '${vars.minus}'}, other: {at: hidden/bias, index: [0], set: '${vars.chosen}'}}
save: {path: out.safetensors}
"""


@pytest.fixture(autouse=True)
def mine(recipe):
    recipe(RECIPE)


@pytest.fixture
def variants(cli):
    """Return a function that plans a sweep and returns its variants."""

    def plan(*words, flags=("sweep", "--dry-run"), recipe=("recipe=mine",)):
        answer = cli(*flags, *recipe, *words, "--json")
        assert answer.status == 0, answer.err
        return json.loads(answer.out)["variants"]

    return plan


def _plan(cli, *words):
    answer = cli("plan", "recipe=mine", *words, "--json")
    assert answer.status == 0, answer.err
    return json.loads(answer.out)


@pytest.mark.parametrize(
    "fixed, axis",
    [
        ([], ("vars.a", ["0.1", "-0.5", "0.9"])),
        (["vars.minus=${vars.a}"], ("vars.a", ["0.1", "-2"])),
        (['++vars.c="${mul:2,${vars.a}}"', "mapping.all.transform=[{scale: ${vars.c}}]"], ("vars.a", ["1", "3"])),
        (["edit.other.set=${vars.i}"], ("vars.i", ["0", "1", "2"])),
        # Where the recipe's own value of what varies, 0.25, is not the number of an item.
        (['vars.chosen="${item:${vars.list},${vars.a}}"'], ("vars.a", ["0", "2"])),
        (["mapping={all: {to: '.*', transform: [{scale: '${vars.a}'}]}}"], ("vars.a", ["0.5", "2"])),
    ],
)
@pytest.mark.parametrize("flags", [("sweep", "--dry-run"), ("plan", "-m"), ("-m", "--dry-run")])
def test_a_variant_has_the_plan_of_its_own_overrides(cli, variants, fixed, axis, flags):
    key, values = axis
    found = variants(*fixed, f"{key}={','.join(values)}", flags=flags)
    alone = [_plan(cli, *fixed, f"{key}={value}")["checksum"] for value in values]
    assert [v["checksum"] for v in found] == alone
    assert len(set(alone)) == len(values)


@pytest.mark.parametrize(
    "text, value",
    [
        ("${sub:1,${vars.a}}", 0.9), ("${neg:${vars.a}}", -0.1), ("${add:${vars.a},0.2}", 0.3), ("${sub:3,1}", 2),
        ("${mul:${vars.a},3}", 0.3), ("${div:${vars.a},4}", 0.025), ("${round:2.567,1}", 2.6), ("${round:2.4}", 2),
        ("${item:${vars.list},1}", 5), ("${item:${vars.list},-1}", 9), ("${number_in:ckpt/s0_e07.keras}", 7),
        ("${number_in:ckpt/s0_e07.keras,0}", 0), ("${number_in:lr1e-05.h5}", 1e-05), ("${number_in:a/v2/x1.5.keras}", 1.5),
        ("${number_in:ckpt/lr0.1}", 0.1), ("${number_in:model.ckpt-1000}", 1000), ("${number_in:e5.weights.h5}", 5),
        ("${neg:${neg:${vars.a}}}", 0.1), ("${coalesce:null,${vars.a}}", 0.1), ("${coalesce:0,1}", 0),
    ],
)  # fmt: skip
def test_values_computed_from_others(text, value):
    found = Composer().compose(["recipe=mine", "vars.a=0.1", f"+vars.found='{text}'"]).variables["found"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "text, words",
    [
        ("${add:${vars.nothing},1}", "'null' is not a number"),
        ("${round:2.5,1.5}", "1.5 is not a whole number"),
        ("${round:2.5,1000}", "2.5 has too many digits to be rounded to 1000 decimal places"),
        ("${mul:1e200,1e200}", "1E+400 is beyond the range of floats"),
        ("${number_in:e5.h5,0.5}", "0.5 is not a whole number"),
        ("${sub:1,x}", "'x' is not a number"),
        ("${div:1,0}", "have no result"),
        ("${item:${vars.list},7}", "a list of 3 has no item 7"),
        ("${item:abc,0}", "'abc' is not a list"),
        ("${number_in:best.keras}", "holds 0 numbers"),
        ("${power:2,3}", "power"),
    ],
)
def test_what_cannot_be_computed(refuses, text, words):
    refuses(2, ["plan", "recipe=mine", f"vars.b='{text}'"], words)


@pytest.fixture
def checkpoints(here):
    (here / "ckpt").mkdir()
    for number in (1, 2, 10):
        save_file(weights(), here / "ckpt" / f"e{number}.safetensors")


@pytest.mark.usefixtures("checkpoints")
@pytest.mark.parametrize(
    "text", ["glob(ckpt/*.safetensors)", "glob([ckpt/e1*,ckpt/e2*])", "glob('ckpt/*', exclude='*.h5')"]
)
def test_files_that_match_a_pattern_are_an_axis(variants, text):
    found = variants(f"source.path={text}", "sweep.axes={}")
    assert [v["overrides"]["source.path"] for v in found] == [f"ckpt/e{n}.safetensors" for n in (1, 2, 10)]


@pytest.mark.usefixtures("checkpoints")
def test_a_number_in_a_files_name_goes_along_x(variants, recipe):
    recipe(RECIPE.replace("{a: 0.25", "{epoch: '${number_in:${source.path}}', a: 0.25")
           .replace("source: {path: weights.safetensors}", "source: {path: ckpt/e1.safetensors}")
           + "sweep: {axes: {source.path: 'glob(ckpt/*)'}, x: vars.epoch}\n")  # fmt: skip
    assert [v["overrides"]["vars.epoch"] for v in variants()] == ["1", "2", "10"]


def test_a_key_inside_of_named_variants_goes_along_x(variants):
    found = variants("sweep.variants={low: {vars.a: 0.1}, high: {vars.a: 0.9}}", "sweep.x=vars.a")
    assert [v["overrides"] for v in found] == [
        {"recipe": "mine", "variant": "low", "vars.a": "0.1"}, {"recipe": "mine", "variant": "high", "vars.a": "0.9"},
    ]  # fmt: skip


def test_an_axis_varies_under_a_condition(variants):
    when = "sweep.when={vars.i: {vars.a: [0.5, 1]}, seed: {vars.i: 2}}"
    found = variants("vars.a=0,0.5,1", "vars.i=1,2", "seed=0,1", when)
    told = [{k: v for k, v in f["overrides"].items() if k != "recipe"} for f in found]
    assert told == [
        {"vars.a": "0"},
        {"vars.a": "0.5", "vars.i": "1"},
        {"vars.a": "0.5", "vars.i": "2", "seed": "0"},
        {"vars.a": "0.5", "vars.i": "2", "seed": "1"},
        {"vars.a": "1", "vars.i": "1"},
        {"vars.a": "1", "vars.i": "2", "seed": "0"},
        {"vars.a": "1", "vars.i": "2", "seed": "1"},
    ]


@pytest.mark.parametrize(
    "words, said",
    [
        (["seed=0,1", "sweep.when={vars.i: {seed: 1}}"], "sweep.when.vars.i: is not an axis"),
        (["seed=0,1", "sweep.when={seed: {vars.nothing: 1}}"], "sweep.when.seed.vars.nothing: nothing else"),
        (["seed=0,1", "sweep.when={seed: 1}"], "sweep.when.seed: must be a mapping of keys to values, not integer 1"),
        (["source.path=glob(nowhere/*.keras)"], "no file matches glob(nowhere/*.keras)"),
        (["seed=range(201)"], "201 variants, more than sweep.limit=200"),
    ],
)
def test_refused(refuses, words, said):
    refuses(2, ["sweep", "recipe=mine", *words], said)


@pytest.mark.parametrize("limit", [500, 100])
def test_only_the_command_line_raises_the_limit(cli, refuses, recipe, limit):
    recipe(RECIPE + f"sweep: {{limit: {limit}, axes: {{seed: range(201)}}}}\n")
    refuses(2, ["sweep", "recipe=mine", "--dry-run"], f"more than sweep.limit={min(limit, 200)}")
    answer = cli("sweep", "recipe=mine", "--dry-run", "sweep.limit=201")
    assert answer.status == 0, answer.err


def test_patterns_are_keys_inside_of_named_variants(cli, variants, here):
    (here / "recipes" / "sweep").mkdir()
    text = "# @package _global_\nsweep: {variants: {a: {+save.names: {'(hidden)/(bias)': 'x.\\2'}}, b: {}}}\n"
    (here / "recipes" / "sweep" / "named.yaml").write_text(text)
    found = variants("sweep=named")
    assert found[0]["checksum"] == _plan(cli, r"+save.names={\(hidden\)/\(bias\):x.bias}")["checksum"]
    assert found[1]["checksum"] == _plan(cli)["checksum"] != found[0]["checksum"]


@pytest.mark.follows("_key_in_override: vary whole recipes instead:")
def test_a_key_that_no_override_can_hold(refuses, recipe, variants, here):
    named = "save: {path: out.safetensors, names: {'hidden/(?P<n>bias)': 'x.NAME'}}\n"
    recipe(RECIPE.replace("save: {path: out.safetensors}\n", named.replace("NAME", "1")), "A")
    recipe(RECIPE.replace("save: {path: out.safetensors}\n", named.replace("NAME", "2")), "B")
    (here / "recipes" / "sweep").mkdir()
    text = "# @package _global_\nsweep: {variants: {a: {+save.names: {'hidden/(?P<n>bias)': x.1}}}}\n"
    (here / "recipes" / "sweep" / "named.yaml").write_text(text)
    refuses(2, ["sweep", "recipe=mine", "sweep=named"], "hidden/(?P<n>bias): < > cannot stand in a key", "recipe=A,B")
    assert len({v["checksum"] for v in variants("recipe=A,B", recipe=())}) == 2
