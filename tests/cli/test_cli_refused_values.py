"""Values that Python cannot write or name a file with are refused with their line; a forged run folder proves nothing."""

import json

import numpy as np
import pytest

import transferpipe as tp
from transferpipe.cli.main import main
from transferpipe.errors import FileError, RecipeError, UnsafeError

RECIPE = "source: {path: a.npz}\ntarget: {path: a.npz}\nmapping: {all: {to: '.*'}}\nsave: {path: m.npz}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", **{"d/kernel": np.arange(6.0, dtype="f4").reshape(2, 3)})
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/r.yaml").write_text(RECIPE)
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [
        "seed: 0x" + "f" * 5000,
        "seed: " + "9" * 5000,
        "vars: {x: -" + "1" * 5000 + "}",
        'name: "a\\0b"',
        'ignore: ["x", "a\\0b"]',
    ],
)
def test_in_a_file_with_the_line(folder, capsys, line):
    (folder / "recipes/r.yaml").write_text(RECIPE + "# one more\n" + line + "\n")
    assert main(["plan", "recipe=r"]) == 2
    assert "recipes/r.yaml, line 6" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["seed: 4294967295", "verify: {nonfinite: allow}", "name: '1234567890'"])
def test_their_like_that_are_fine(folder, line):
    (folder / "recipes/r.yaml").write_text(RECIPE + line + "\n")
    assert main(["plan", "recipe=r"]) == 0


def test_on_the_command_line_and_from_python(folder, capsys):
    assert main(["plan", "recipe=r", "seed=" + "9" * 5000]) == 2
    assert "internal" not in capsys.readouterr().err
    for more in ({"seed": 10**5000}, {"ignore": ["a\0b"]}):
        with pytest.raises(RecipeError, match=r"has (a zero byte|[0-9,]+ bits)"):
            tp.plan("a.npz", "a.npz", mapping={"all": {"to": ".*"}}, **more)


@pytest.fixture
def run(folder):
    assert main(["run", "recipe=r", "hydra.run.dir=o"]) == 0
    return folder / "o"


def resealed(run, change):
    from transferpipe.prove.manifest import json_lines, seal

    manifest = json.loads((run / "manifest.json").read_text())
    change(manifest)
    for key in ("sha256", "seal", "digest", "plan_sha256", "manifest_sha256"):
        manifest.pop(key, None)
    (run / "manifest.json").write_text(json_lines(seal(manifest, (run / "plan.json").read_text())))


def test_nothing_compared_is_inconclusive(run):
    assert tp.verify(run).verdict.weights == "pass"
    resealed(run, lambda m: m.update(artifacts=[]))
    (run / "m.npz").write_bytes(b"x")
    assert tp.verify(run).verdict.weights == "inconclusive"


@pytest.mark.parametrize("how", ["dots", "link"])
def test_artifacts_stay_in_the_folder(run, how):
    (run.parent / "other.npz").write_bytes((run / "m.npz").read_bytes())
    if how == "link":
        (run / "m.npz").unlink()
        (run / "m.npz").symlink_to(run.parent / "other.npz")
    else:
        resealed(run, lambda m: m["artifacts"][0].update(path="../other.npz"))
    with pytest.raises(UnsafeError, match="leads out of the folder"):
        tp.verify(run)


@pytest.mark.parametrize("change", [{"artifacts": [{}]}, {"weights": 3}, {"sources": {"a": []}}, {"verify": {"x": 1}}])
def test_a_manifest_that_was_made_up_is_no_internal_error(run, change):
    resealed(run, lambda m: m.update(change))
    with pytest.raises((FileError, tp.VerificationError)):
        tp.verify(run)
