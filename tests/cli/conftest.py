"""The command line in this process, in a folder of its own, with everything it leaves behind looked at."""

import json
import sys
import time
from pathlib import Path

import pytest
from command_line import RECIPE, Answer, tree, weights
from hydra.core.global_hydra import GlobalHydra
from records import check_records, faults
from safetensors.numpy import save_file

from transferpipe.cli import main


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return the working directory: a recipe `own` and the file that it names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "own.yaml").write_text(RECIPE)
    save_file(weights(), tmp_path / "weights.safetensors")
    before = set(sys.modules)
    yield tmp_path
    GlobalHydra.instance().clear()
    for name in set(sys.modules) - before:  # a test's own: asking all modules for their files took as long as a test
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


def is_answer(status, argv):
    """Tell whether a status other than 0 is the answer, and no error: what is compared differs, or is left open."""
    return (status == 1 and (argv[0] == "diff" or "--against" in argv)) or (
        status == 3 and argv[0] in ("verify", "parity")
    )


@pytest.fixture
def cli(here, capsys):
    """Return a function that runs one command line and returns the answer; a traceback is never one.

    What it leaves behind, and errors as JSON, are what our JSON Schemas say.
    """

    def run(*argv):
        started = time.time_ns()
        status = main([str(word) for word in argv])
        captured = capsys.readouterr()
        check_records(here, started)
        if status and "--json" in argv and not is_answer(status, argv):
            assert faults("errors", json.loads(captured.out)) == []
        assert "Traceback" not in captured.out + captured.err
        return Answer(status, captured.out, captured.err)

    return run


@pytest.fixture
def refuses(cli, here):
    """Return a function that asserts status and words of a refusal, and that it left nothing behind."""

    def check(status, argv, *words):
        before = tree(here)
        answer = cli(*argv)
        assert (answer.status, tree(here)) == (status, before), answer.err
        missing = [word for word in words if word not in answer.err]
        assert not missing, f"{missing} not in:\n{answer.err}"
        return answer

    return check


@pytest.fixture
def recipe(here):
    """Return a function that writes a recipe into ./recipes and returns the override that chooses it."""

    def write(text, name="mine"):
        path = here / "recipes" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(text) if isinstance(text, bytes) else path.write_text(text)
        return f"recipe={name}"

    return write


@pytest.fixture
def store(here):
    """Return a function that writes a safetensors file with some weights of `small_mlp` changed."""

    def write(name="weights.safetensors", **changed):
        save_file(weights(**changed), here / name)
        return here / name

    return write
