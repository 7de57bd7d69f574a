"""`--strict` and `allow` on the command line."""

import json
import re

import pytest
from command_line import tree, weights

LOOSE = ("recipe=own", "mapping.body.to=hidden/kernel", "mapping.body.from=hidden/kernel", "unmatched=keep")  # no bias


@pytest.mark.parametrize("words", [("--strict",), ("strict=true",)])
@pytest.mark.parametrize("verb", ["run", "plan", "sweep"])
def test_warnings_are_errors_and_nothing_is_written(refuses, verb, words):
    refuses(2, [verb, *LOOSE, *words], "unused [unused]: 1 source weight is not used: hidden/bias", "allow=[unused]")


def test_what_the_refusal_offers_works(cli, here):
    refused = cli("run", *LOOSE, "--strict")
    (offer,) = re.findall(r"'(allow=.*?)'", refused.err)
    assert cli("run", *LOOSE, "--strict", offer, "hydra.run.dir=out").status == 0
    assert json.loads((here / "out" / "manifest.json").read_text())["warnings"][0]["code"] == "unused"
    recipe = (
        (here / "recipes" / "own.yaml")
        .read_text()
        .replace("hidden, from: hidden", "hidden/kernel, from: hidden/kernel")
    )
    (here / "recipes" / "strict.yaml").write_text(f"{recipe}unmatched: keep\nstrict: true\nallow: [unused]\n")
    assert cli("plan", "recipe=strict").status == 0


def test_a_strict_run_of_a_clean_recipe(cli):
    assert cli("run", "recipe=own", "--strict", "hydra.run.dir=out").status == 0


def test_warnings_of_values_end_with_3_and_leave_nothing(cli, here, store):
    store(hidden__bias=weights()["hidden/bias"] * 0)
    before = tree(here)
    answer = cli("run", "recipe=own", "--strict", "hydra.run.dir=out")
    assert (answer.status, tree(here)) == (3, before)
    assert "source [untrained-source]" in answer.err


def test_a_sweep_of_values_that_warn_fails_and_is_not_taken_from_a_loose_one(cli, here, store):
    store(hidden__bias=weights()["hidden/bias"] * 0)
    assert cli("sweep", "recipe=own", "seed=0,1").status == 0
    answer = cli("sweep", "recipe=own", "seed=0,1", "--strict")
    assert answer.status == 3
    assert "strict: 1 warning is an error here" in answer.out + answer.err
    logs = [path.read_text() for path in here.glob("outputs/sweeps/own/*/run.log")]
    assert [sum("untrained-source" in log for log in logs), len(logs)] == [2, 2 + 2]  # shortened above, whole there
    assert cli("sweep", "recipe=own", "seed=0,1", "--strict", "allow=[untrained-source]").status == 0


def test_the_flag_goes_with_what_plans(refuses):
    refuses(2, ["inspect", "weights.safetensors", "--strict"], "--strict does not go with 'inspect'")


def test_an_unknown_code_on_the_command_line(refuses):
    refuses(
        2,
        ["plan", "recipe=own", "allow=[unusd]"],
        "allow: 'unusd' is not the code of a warning",
        "did you mean 'unused'?",
    )
