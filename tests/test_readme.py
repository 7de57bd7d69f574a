"""What the README says is what the repository does."""

import re
from pathlib import Path

import yaml

from transferpipe.cli import main

TOP = Path(__file__).parent.parent
README = (TOP / "README.md").read_text(encoding="utf-8")


def test_ci_calls_the_test_command_word_for_word():
    command = next(line for line in README.splitlines() if "pytest" in line and line.startswith("python3"))
    assert command in (TOP / ".ci" / "run").read_text().splitlines()


def test_the_recipe_shown_is_the_shipped_one():
    shown = re.search(r"```yaml\n(source:\n  path: pkg.*?)```", README, re.DOTALL)[1]
    shipped = (TOP / "conf" / "recipe" / "digits.yaml").read_text()
    assert yaml.safe_load(shown) == yaml.safe_load(shipped)


def test_the_output_shown_is_that_of_the_first_command(tmp_path, monkeypatch, capsys):
    shown = re.search(r"```console\n\$ transferpipe\n(.*?)```", README, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["run", "score=none"]) == 0
    plan, _, result = capsys.readouterr().out.partition("\n\n\n")[0].partition("verdict")
    assert shown.startswith(plan.rstrip())
    until_saved = result.partition("\nsaved")[0]
    assert f"verdict{until_saved}\nsaved" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_every_shipped_recipe_is_in_the_table():
    shipped = {p.stem for p in (TOP / "conf" / "recipe").glob("*.yaml")}
    listed = set(
        re.findall(r"^\| `(\w+)` \|", README.split("## The recipes")[1].split("## What it reads")[0], re.MULTILINE)
    )
    assert listed == shipped


def test_every_key_of_the_configuration_is_in_the_reference():
    keys = set(yaml.safe_load((TOP / "conf" / "config.yaml").read_text())) - {"defaults", "hydra"}
    reference = README.split("## Recipe reference")[1].split("A rule:")[0]
    assert keys <= set(re.findall(r"`(\w+)`", reference))


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (TOP / target).exists(), target


def test_the_transforms_listed_are_all_there_are():
    from transferpipe.planning.transforms import MERGES, TRANSFORMS

    rules = README.split("A rule:")[1].split("Patterns are")[0]
    for name in (*TRANSFORMS, *MERGES):
        assert f"`{name}" in rules, name


def test_every_score_is_in_the_table():
    shipped = {p.stem for p in (TOP / "conf" / "score").glob("*.yaml")} - {"none"}
    table = README.split("The score is a function of your own")[1].split("**The classic.**")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == shipped
