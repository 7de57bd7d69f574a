"""What `verify` passes, refuses, and leaves open."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

RUN = ("run", "recipe=own", "hydra.run.dir=out")


@pytest.fixture
def finished(cli, here):
    """Return the folder of a finished run: one source file, one kept layer."""
    assert cli(*RUN, "save.also=[deep/more.npz]").status == 0
    return here / "out"


def test_verify_passes(cli, finished):
    answer = cli("verify", "out")
    assert answer.status == 0
    assert (
        "verdict  weights: pass, 4 weights computed again from their sources, 4 compared with their digests"
        in answer.out
    )
    assert json.loads(cli("verify", "out", "--json").out)["verdict"]["weights"] == "pass"


def test_verify_after_moving_and_from_elsewhere(cli, finished, here, monkeypatch):
    (here / "elsewhere").mkdir()
    finished.rename(here / "elsewhere" / "moved")
    monkeypatch.chdir(here / "elsewhere")
    answer = cli("verify", "moved")
    assert (answer.status, "note" in answer.out) == (0, False)


@pytest.mark.parametrize("name", ["model.keras", "deep/more.npz"])
@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_verify_sees_one_bit(cli, finished, name, place):
    data = bytearray((finished / name).read_bytes())
    data[int(len(data) * place)] ^= 1
    (finished / name).write_bytes(data)
    answer = cli("verify", "out")
    assert answer.status == 3
    assert f"out/{name}: its SHA-256 is" in answer.err


def test_verify_names_the_weight_that_changed(cli, finished):
    assert cli(*RUN, "save.path=m.safetensors", "hydra.run.dir=two").status == 0
    path = finished.parent / "two" / "m.safetensors"
    values = load_file(path)
    values["hidden/bias"][2] += 1
    save_file(values, path, metadata={"format": "keras"})
    assert "m.safetensors: hidden/bias: its digest is not the one in the manifest" in cli("verify", "two").err


@pytest.mark.parametrize("file", ["plan.json", "manifest.json"])
@pytest.mark.parametrize("kind", ["number", "text", "removed", "emptied", "type"])
def test_verify_sees_a_changed_record(cli, finished, file, kind):
    path = finished / file
    data = json.loads(path.read_text())
    key = {"plan.json": "assignments", "manifest.json": "artifacts"}[file]
    if kind == "number":
        data[key][0]["bytes" if file == "manifest.json" else "shape"] = [3]
    elif kind == "text":
        data["warnings"] = ["nothing to see here"]
    elif kind == "removed":
        del data[key]
    else:
        data[key] = [] if kind == "emptied" else 3
    path.write_text(json.dumps(data, indent=1))
    answer = cli("verify", "out")
    assert answer.status == 3
    assert f"out/{file}: is not as the run wrote it" in answer.err


def test_verify_of_a_source_that_changed(cli, finished, store):
    store(hidden__kernel=np.ones((8, 6), "float32"))
    answer = cli("verify", "out")
    assert answer.status == 3
    assert "model.keras: hidden/kernel: differs from what its sources give now" in answer.err
    assert "hidden/bias" not in answer.err


@pytest.mark.parametrize("now", [None, np.ones((8, 7), "float32"), np.ones((8, 6), "float16")])
def test_verify_of_a_source_with_other_weights(cli, finished, store, now):
    store(hidden__kernel=now)
    answer = cli("verify", "out")
    assert answer.status == 3
    assert "cannot be computed again: source:hidden/kernel was float32 (8, 6) and is " in answer.err


def test_verify_without_the_source_is_inconclusive(cli, finished, here):
    (here / "weights.safetensors").unlink()
    answer = cli("verify", "out")
    assert answer.status == 3
    assert "verdict  weights: inconclusive, 0 weights computed again" in answer.out
    assert "note     source cannot be read any more: " in answer.out
    assert json.loads(cli("verify", "out", "--json").out)["notes"]


def test_verify_of_a_built_source_is_inconclusive(cli, here):
    assert cli(*RUN, "~source.path", "+source._target_=transferpipe.zoo.small_mlp", "seed=3").status == 0
    answer = cli("verify", "out")
    assert (answer.status, "source was built by transferpipe.zoo.small_mlp()" in answer.out) == (3, True)


@pytest.mark.parametrize("missing", ["plan.json", "manifest.json", "model.keras", "deep/more.npz"])
def test_verify_of_an_incomplete_folder(cli, finished, missing):
    (finished / missing).unlink()
    answer = cli("verify", "out")
    assert answer.status == 4
    assert f"out/{missing}" in answer.err


def test_verify_of_a_copy_does_not_look_at_the_original(cli, finished, here):
    shutil.copytree(finished, here / "copy")
    (here / "copy" / "model.keras").unlink()
    assert cli("verify", "copy").status == 4
