"""What the README says is what the repository does: every block runs."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from transferpipe.cli import main
from transferpipe.cli.verbs import VERBS
from transferpipe.recipe.outputs import OUTPUTS
from transferpipe.show.help_pages import list_topics

TOP = Path(__file__).parent.parent
README = (TOP / "README.md").read_text(encoding="utf-8")
SHELL = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


def test_it_is_short():
    assert len(README.splitlines()) <= 180


def test_ci_calls_the_test_command_word_for_word():
    command = next(line for line in README.splitlines() if "pytest" in line and line.startswith("python3"))
    assert command in (TOP / ".ci" / "run").read_text().splitlines()


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


def test_the_python_shown_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})  # its own words
    assert "weights: pass" in capsys.readouterr().out


@pytest.mark.parametrize("block", [b for b in SHELL if "venv" not in b], ids=lambda block: block.split()[-1])
def test_the_commands_shown_run(block, tmp_path):
    """The sweep is planned only: what it comes to is in the tests of sweeps."""
    tool = tmp_path / "bin" / "transferpipe"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} -m transferpipe "$@"\n')
    tool.chmod(0o755)
    path = os.pathsep.join([str(tool.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join([str(TOP), os.environ.get("PYTHONPATH", "")])}
    words = block.replace("transferpipe sweep", "transferpipe sweep --dry-run")
    done = subprocess.run(["bash", "-euc", words], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    if "run recipe=mine" in block:
        assert "weights: pass" in done.stdout
        assert list(tmp_path.glob("outputs/mine/*/model.safetensors"))


def test_the_package_index_gets_absolute_links():
    """It shows the README without the repository's files; the one that we build says how links become those of a release."""
    settings = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
    (rule,) = settings["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]
    local = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("https://")]
    assert local and all((TOP / link).is_file() for link in local)
    shown = re.sub(rule["pattern"], rule["replacement"], README)
    assert all(link.startswith("https://") for link in re.findall(r"\]\(([^)]+)\)", shown))


def test_the_pages_it_names_are_there():
    named = set(re.findall(r"`(?:transferpipe )?help (\w+)`", README))
    assert named and named <= set(list_topics())


def test_the_functions_and_verbs_it_names_are_there():
    import transferpipe as tp

    assert all(hasattr(tp, name) for name in re.findall(r"`tp\.(\w+)`", README))
    assert set(re.findall(r"`transferpipe (\w+)[ `]", README)) <= set(VERBS)


def test_every_output_is_named():
    for output in OUTPUTS:
        assert output.suffix in README


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (TOP / target).exists(), target
    for path in re.findall(r"`((?:tests|\.github|transferpipe/zoo)/[\w./-]+)`", README):
        assert (TOP / path).exists(), path


def test_every_score_has_a_line_on_its_page():
    shipped = {p.stem for p in (TOP / "conf" / "score").glob("*.yaml")} - {"none"}
    page = (TOP / "transferpipe/show/topics/scores.md").read_text(encoding="utf-8")
    first, _, _ = page.partition("\n## ")
    assert set(re.findall(r"^\* `(\w+)`", first, re.MULTILINE)) == shipped


def test_every_key_of_the_configuration_is_on_the_page_of_recipes(capsys):
    keys = set(yaml.safe_load((TOP / "conf" / "config.yaml").read_text())) - {"defaults", "hydra"}
    assert main(["help", "recipe"]) == 0
    assert keys <= set(re.findall(r"`(\w+)`", capsys.readouterr().out))


def test_the_page_of_rules_has_all_transforms():
    from transferpipe.planning.transforms import MERGES, TRANSFORMS

    page = (TOP / "transferpipe/show/topics/rules.md").read_text(encoding="utf-8")
    for name in (*TRANSFORMS, *MERGES):
        assert f"`{name}" in page, name
