"""Nobody reads what is printed, or it cannot be written: the work is done all the same, and the status is the true one."""

import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from command_line import weights
from safetensors.numpy import save_file

import transferpipe as tp
from transferpipe.cli import main
from transferpipe.text.visible import visible

# Files alone, so that nothing of Keras is imported.
RECIPE = """
source: {path: weights.safetensors}
target: {path: target.safetensors}
mapping: {all: {to: '.*'}}
save: {path: model.npz}
"""
COMMAND = f"{sys.executable} -m transferpipe"


@pytest.fixture
def shell(tmp_path):
    """Return a function that runs a shell line in a folder with a recipe, and gives the statuses of its pipe."""
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/mine.yaml").write_text(RECIPE)
    for name in ("weights", "target"):
        save_file(weights(), tmp_path / f"{name}.safetensors")

    def run(line):
        script = f"{line}; echo ${{PIPESTATUS[@]}} >&3"
        done = subprocess.run(
            ["bash", "-c", f"exec 3>statuses; {script}"],
            cwd=tmp_path, env={**os.environ, "COMP_LINE": ""}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        return [int(s) for s in (tmp_path / "statuses").read_text().split()], done.stderr

    return run


def test_a_run_whose_reader_has_gone_is_carried_out(shell, tmp_path):
    statuses, err = shell(f"{COMMAND} run recipe=mine hydra.run.dir=o 2>&1 | true")
    assert (statuses, err) == ([0, 0], "")
    assert (tmp_path / "o/model.npz").is_file()
    assert (tmp_path / "o/report.html").is_file()


def test_a_wrong_recipe_is_wrong_whether_or_not_somebody_reads(shell):
    assert shell(f"{COMMAND} plan recipe=mine mapping.all.from=nothing 2>&1 | true")[0] == [2, 0]


def test_a_full_disk_under_the_output_keeps_the_work_and_is_told(shell, tmp_path):
    statuses, err = shell(f"{COMMAND} run recipe=mine hydra.run.dir=o > /dev/full")
    assert statuses == [4]
    assert "standard output could not be written: No space left on device; everything else was done" in err
    assert (tmp_path / "o/model.npz").is_file()


@pytest.mark.parametrize("closed", [">&- 2>&- <&-", "2>/dev/full"])
def test_streams_that_are_closed_or_full_decide_nothing(shell, tmp_path, closed):
    assert shell(f"{COMMAND} run recipe=mine hydra.run.dir=o {closed}")[0] == [0]
    assert zipfile.ZipFile(tmp_path / "o/model.npz").testzip() is None  # nothing was printed into it


NASTY = {
    "commands": "l\x1b[31mred\x1b]0;title\x07",
    "another line": "l\nverdict  pass: 99 weights read back and compared bit for bit",
    "direction": "l\u202egnp\u2066",
    "rewind": "l\r\x9b2Kx",
}


@pytest.mark.parametrize("name", NASTY.values(), ids=NASTY)
@pytest.mark.parametrize("value", [np.nan, 1.0], ids=["refused", "accepted"])
def test_names_from_files_are_no_commands_to_the_terminal(tmp_path, capsys, monkeypatch, name, value):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/mine.yaml").write_text(
        RECIPE.replace("'.*'", "'(?s).*'").replace("model.npz", "m.safetensors")
    )
    for file in ("weights", "target"):
        save_file({f"{name}/kernel": np.full((2, 2), value, "f4")}, tmp_path / f"{file}.safetensors")
    status = main(["run", "recipe=mine", "hydra.run.dir=o"])
    answer = capsys.readouterr()
    page = tmp_path / "o/report.html"
    assert status == (3 if np.isnan(value) else 0)
    for text in (answer.out, answer.err, page.read_text() if page.exists() else ""):
        assert not [c for c in text if not c.isprintable() and c != "\n"]
        assert not any(line.startswith("verdict  pass: 99") for line in text.splitlines())
    shown = visible(name)
    assert shown in answer.err or shown in answer.out
    try:
        tp.transfer("weights.safetensors", "target.safetensors", mapping={"all": {"to": "(?s).*"}}, save="n.npz")
    except tp.TransferError as error:
        assert shown in str(error)
        assert str(error).isprintable()
