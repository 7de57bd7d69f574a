"""What a manifest says of who asked for a run; the repository's state against what its files say."""

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import yaml

import transferpipe as tp
from transferpipe.prove.provenance import read_git, recipe_text


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Make a repository with one commit, and return its folder and a function that runs git there."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "work"
    folder.mkdir()

    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", folder, *who, *words], check=True, capture_output=True)

    git("init", "--initial-branch", "main")
    (folder / "a.txt").write_text("one\n")
    git("add", "a.txt")
    git("commit", "-m", "first")
    return folder, git


def test_the_commit_and_whether_tracked_files_differ(repository):
    folder, git = repository
    head = (folder / ".git" / "refs" / "heads" / "main").read_text().strip()
    assert read_git(folder) == {"commit": head, "dirty": False}
    (folder / "new.txt").write_text("not tracked\n")
    (folder / "inner").mkdir()
    assert read_git(folder / "inner") == {"commit": head, "dirty": False}
    (folder / "a.txt").write_text("two\n")
    assert read_git(folder) == {"commit": head, "dirty": True}
    git("commit", "-am", "second")
    now = read_git(folder)
    assert now["commit"] == (folder / ".git" / "refs" / "heads" / "main").read_text().strip() != head
    assert now["dirty"] is False


def test_looking_runs_nothing_that_the_repository_names(repository):
    folder, git = repository
    git("config", "core.fsmonitor", f"touch {folder / 'pwned'}; false")
    (folder / "a.txt").write_text("two\n")
    index = (folder / ".git" / "index").read_bytes()
    assert read_git(folder)["dirty"] is True
    assert not (folder / "pwned").exists()
    assert (folder / ".git" / "index").read_bytes() == index


@pytest.mark.parametrize("kind", ["clean", "process"])
@pytest.mark.parametrize("included", [False, True])
def test_looking_runs_no_filter_of_the_repository(repository, kind, included):
    folder, git = repository
    where = ("config", "-f", str(folder / "more")) if included else ("config",)
    git(*where, f"filter.x.{kind}", f"touch {folder / 'pwned'}; cat")
    if included:
        git("config", "include.path", str(folder / "more"))
    (folder / ".gitattributes").write_text("* filter=x\n")
    os.utime(folder / "a.txt", (0, 0))  # as unpacked: git looks at what such a file holds
    assert read_git(folder)["dirty"] is None
    assert not (folder / "pwned").exists()


@pytest.mark.parametrize("url", ["{elsewhere}", "file://{elsewhere}", "ext::touch {pwned}"])
def test_looking_fetches_nothing_that_the_repository_lacks(repository, url, tmp_path):
    folder, git = repository
    elsewhere, pwned = tmp_path / "elsewhere", folder / "pwned"
    subprocess.run(["git", "clone", "--bare", folder, elsewhere], check=True, capture_output=True)
    for key, value in {
        "core.repositoryformatversion": "1", "extensions.partialClone": "origin", "remote.origin.promisor": "true",
        "remote.origin.url": url.format(elsewhere=elsewhere, pwned=pwned), "protocol.ext.allow": "always",
        "remote.origin.uploadpack": f"touch {pwned}; git-upload-pack",
    }.items():  # fmt: skip
        git("config", key, value)
    for part in (folder / ".git" / "objects").glob("??"):
        shutil.rmtree(part)
    assert read_git(folder)["dirty"] is None
    assert not pwned.exists()


def test_filters_of_the_user_are_asked(repository, monkeypatch, tmp_path):
    folder, _ = repository
    (tmp_path / "global").write_text('[filter "x"]\n\tclean = sed s/two/one/\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "global"))
    (folder / ".gitattributes").write_text("* filter=x\n")
    (folder / "a.txt").write_text("two\n")
    assert read_git(folder)["dirty"] is False


def test_no_repository_no_commit_or_no_git(repository, tmp_path, monkeypatch):
    folder, _ = repository
    (tmp_path / "plain").mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert read_git(tmp_path / "plain") is None
    (tmp_path / "empty").mkdir()
    subprocess.run(["git", "init", tmp_path / "empty"], check=True, capture_output=True)
    assert read_git(tmp_path / "empty") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_git(folder) is None


def test_from_python_there_is_the_recipe_and_no_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", w=np.ones((2, 3), "float32"))
    np.savez("b.npz", w=np.zeros((2, 3), "float32"))
    before = datetime.now(UTC)
    tp.transfer("a.npz", "b.npz", mapping={"all": {"to": "w"}}, save="out.npz", folder="run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["format_version"] == 2
    assert (manifest["command"], manifest["git"]) == (None, read_git(tmp_path))
    assert abs(datetime.fromisoformat(manifest["time"]) - before) < timedelta(minutes=5)
    recipe = yaml.safe_load(manifest["recipe_text"])
    assert recipe == {
        "mapping": {"all": {"to": "w"}},
        "save": "out.npz",
        "source": {"path": "a.npz"},
        "target": {"path": "b.npz"},
    }
    again = tp.transfer(recipe.pop("source"), recipe.pop("target"), folder="again", **recipe)
    assert again.plan.checksum == manifest["checksum"]


def test_a_recipe_that_yaml_cannot_hold_has_no_text():
    assert recipe_text({"target": {"_target_": "a.b", "value": np.float32(1)}}) is None
