"""What `plan` shows and `run` leaves behind."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from command_line import process, tree
from safetensors.numpy import load_file

RUN = ("run", "recipe=own", "hydra.run.dir=out")


def test_plan_shows_every_weight_and_writes_nothing(cli, here):
    before = tree(here)
    answer = cli("plan", "recipe=own")
    assert (answer.status, answer.err, tree(here)) == (0, "", before)
    for words in (
        "hidden/*",
        "kept (initial values)",
        "4 target weights: 2 assigned, 2 kept",
        "parameters: 54 assigned",
        "2 ignored",
        "plan p",
    ):
        assert words in answer.out


def test_plan_as_json_is_the_plan_of_the_run(cli, here):
    planned = json.loads(cli("plan", "recipe=own", "--json").out)
    assert cli(*RUN).status == 0
    assert planned == json.loads((here / "out" / "plan.json").read_text())
    assert cli("plan", "recipe=own", f"expect={planned['checksum']}").status == 0


def test_a_pipe_gets_plain_lines(cli):
    answer = cli("plan", "recipe=own")
    assert "\x1b" not in answer.out
    assert all(len(line) < 300 for line in answer.out.splitlines())


def test_run_leaves_a_complete_folder(cli, here):
    answer = cli(*RUN)
    assert answer.status == 0
    assert "verdict  weights: pass, 4 weights read back and compared bit for bit" in answer.out
    assert "saved    out/model.keras" in answer.out
    assert sorted(p for p in tree(here / "out") if "." in p.lstrip(".")) == [
        ".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml",
        "manifest.json", "model.keras", "plan.json", "report.html",
    ]  # fmt: skip
    overrides = yaml.safe_load((here / "out" / ".hydra" / "overrides.yaml").read_text())
    assert overrides == ["recipe=own", "hydra.run.dir=out"]
    model = keras.models.load_model(here / "out" / "model.keras")
    given = load_file(here / "weights.safetensors")
    assert np.array_equal(model.get_layer("hidden").kernel, given["hidden/kernel"])


def test_the_default_folder_is_new_for_every_run(cli, here):
    for _ in range(3):
        assert cli("run", "recipe=own").status == 0
    folders = list((here / "outputs" / "own").iterdir())
    assert len(folders) == 3
    assert all((folder / "manifest.json").is_file() for folder in folders)


def test_two_runs_in_the_same_second_do_not_share_a_folder(cli, here):
    (here / "outputs" / "fixed").mkdir(parents=True)
    fixed = "hydra.run={dir: outputs/fixed}"
    assert cli("run", "recipe=own", fixed).status == 0
    assert (here / "outputs" / "fixed-2" / "model.keras").is_file()
    assert not list((here / "outputs" / "fixed").iterdir())


def test_the_run_alone_is_the_default_verb(cli, here):
    assert cli(*RUN[1:]).status == 0
    assert (here / "out" / "model.keras").is_file()


def test_every_format_at_once(cli, here):
    assert cli(*RUN, "save.path=in/a.weights.h5", "save.also=[b.npz,c.safetensors,in/d.keras]").status == 0
    manifest = json.loads((here / "out" / "manifest.json").read_text())
    assert [a["path"] for a in manifest["artifacts"]] == ["in/a.weights.h5", "b.npz", "c.safetensors", "in/d.keras"]
    assert cli("verify", "out").status == 0


def test_as_a_module_and_as_a_program(here):
    module = process("recipes")
    assert (module.returncode, module.stderr) == (0, "")
    program = shutil.which("transferpipe", path=Path(sys.executable).parent)
    if program:
        assert subprocess.run([program, "recipes"], capture_output=True, text=True).stdout == module.stdout


def test_errors_go_to_the_error_stream(here):
    done = process("plan", "recipe=onw")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'own'?" in done.stderr


def test_a_terminal_that_knows_only_ascii(here):
    target = ("~target._target_", "+target.path=weights.safetensors", "save.path=m.npz")
    done = process("plan", "recipe=own", *target, 'name="tête"', PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "t\\xeate" in done.stdout


def test_a_reader_that_has_seen_enough(here):
    command = f"{sys.executable} -m transferpipe recipes | true"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_page_that_finds_no_room_changes_nothing_about_the_run(cli, here):
    (here / "out").mkdir()
    (here / "out" / "report.html").mkdir()
    answer = cli("recipe=own", "hydra.run.dir=out")
    assert answer.status == 0
    assert "report.html: cannot be written" in answer.err
    assert (here / "out" / "model.keras").is_file()


def test_plan_against_an_earlier_one_shows_what_an_override_changed(cli, here):
    (here / "plan.json").write_text(cli("plan", "recipe=own", "--json").out)
    same = cli("plan", "recipe=own", "--against", "plan.json")
    assert (same.status, same.out.split(":")[0]) == (0, "no change")
    other = cli("plan", "recipe=own", "freeze=[hidden]", "--against", "plan.json")
    assert (other.status, other.err) == (1, "")
    assert "+  2 weights: hidden/*" in other.out.splitlines()
    data = json.loads(cli("plan", "recipe=own", "freeze=[hidden]", "--against", "plan.json", "--json").out)
    assert data["frozen"]["added"] == ["hidden/kernel", "hidden/bias"]
    assert cli("plan", "recipe=own", "--against", "plan.json", "--json").status == 0


def test_plan_against_the_folder_of_a_run(cli, here):
    assert cli(*RUN).status == 0
    assert cli("plan", "recipe=own", "--against", "out").status == 0
    assert cli("plan", "recipe=own", "seed=5", "--against", "out").status == 1


@pytest.mark.follows("read_plan: give what `transferpipe plan")
def test_plan_against_what_is_no_plan_is_refused(cli, here):
    assert cli("plan", "recipe=own", "--against", "nowhere.json").status == 4
    (here / "other.json").write_text("{}")
    refused = cli("plan", "recipe=own", "--against", "other.json")
    assert refused.status == 4
    assert "is not a plan" in refused.err
    (here / "other.json").write_text(
        cli(*re.search(r"`transferpipe (plan) (--json)`", refused.err).groups(), "recipe=own").out
    )
    assert cli("plan", "recipe=own", "--against", "other.json").status == 0


@pytest.mark.parametrize("width", [60, 80, 120])
def test_what_is_printed_fits_the_width_that_COLUMNS_says(cli, here, monkeypatch, width):  # noqa: N802
    monkeypatch.setenv("COLUMNS", str(width))
    for words in (
        ("plan", "recipe=own"),
        ("run", "recipe=own"),
        ("recipes",),
        ("plan", "recipe=digits"),
        ("--help",),
        ("help",),
    ):
        shown = cli(*words).out
        assert max(map(len, shown.splitlines())) <= width, words


def test_a_pipe_is_80_columns_wide(here):
    answer = process("plan", "recipe=digits", COLUMNS="")
    assert 60 < max(map(len, answer.stdout.splitlines())) <= 80
