"""Safetensors above a size: cut into several files with an index, written, proved and published as one output."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from transferpipe.cli.main import main
from transferpipe.recipe.sizes import parse_size
from transferpipe.save.writers.safetensors_shards import split_catalog
from transferpipe.weights.spec import Catalog, WeightSpec

SHARDS = [f"model-{i:05}-of-00003.safetensors" for i in (1, 2, 3)]
INDEX = "model.safetensors.index.json"


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A working directory with a source, a target of 96 bytes and a recipe; returns what writes its `save`."""
    monkeypatch.chdir(tmp_path)
    names = ("a.kernel", "a.bias", "b.kernel", "b.bias")
    save_file({n: np.arange(6, dtype="float32") + i for i, n in enumerate(names)}, tmp_path / "source.safetensors")
    save_file({n: np.zeros(6, "float32") for n in names}, tmp_path / "target.safetensors")
    (tmp_path / "recipes").mkdir()

    def write(**save):
        data = {
            "source": {"path": "source.safetensors"},
            "target": {"path": "target.safetensors"},
            "mapping": {"all": {"to": "(a|b)"}},
            "save": {"path": "model.safetensors", **save},
        }
        (tmp_path / "recipes" / "mine.yaml").write_text(f"# @package _global_\n{json.dumps(data)}\n")

    write(shard=40)
    return write


def run(*words):
    return main(["run", "recipe=mine", "hydra.run.dir=out", *words])


def visible(folder="out"):
    return sorted(p.name for p in Path(folder).iterdir() if not p.name.startswith("."))


def test_shards_and_their_index_hold_everything(recipe, capsys):
    recipe(shard=50)
    assert run() == 0
    index = json.loads(Path("out", INDEX).read_text())
    two = [f"model-{i:05}-of-00002.safetensors" for i in (1, 2)]
    assert [name for name in visible() if name.startswith("model")] == [*two, INDEX]
    assert index["metadata"] == {"total_size": 96, "format": "keras"}
    assert index["weight_map"] == {"a.kernel": two[0], "a.bias": two[0], "b.kernel": two[1], "b.bias": two[1]}
    held = {name: value for shard in two for name, value in load_file(Path("out", shard)).items()}
    original = load_file("source.safetensors")
    assert {n: v.tolist() for n, v in held.items()} == {n: v.tolist() for n, v in original.items()}
    assert f"saved    out/{INDEX}" in capsys.readouterr().out
    assert main(["inspect", f"out/{INDEX}"]) == 0


def test_the_manifest_knows_every_file_and_the_run_is_proved_again(recipe, capsys):
    run()
    (artifact,) = json.loads(Path("out/manifest.json").read_text())["artifacts"]
    four = [f"model-{i:05}-of-00004.safetensors" for i in (1, 2, 3, 4)]
    assert artifact["path"] == INDEX
    assert sorted(artifact["files"]) == [*four, INDEX]
    assert artifact["bytes"] == sum(Path("out", name).stat().st_size for name in artifact["files"])
    assert main(["verify", "out"]) == 0
    assert "4 weights computed again" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["model-00002-of-00004.safetensors", INDEX])
def test_a_changed_or_missing_part_is_noticed(recipe, capsys, name):
    run()
    data = Path("out", name).read_bytes()
    Path("out", name).write_bytes(data[:-2] + b"\x7f\n")
    assert main(["verify", "out"]) in (3, 4)
    Path("out", name).unlink()
    assert main(["verify", "out"]) == 4
    assert "is missing" in capsys.readouterr().err


def test_what_fits_stays_one_file(recipe):
    recipe(shard="1KB")
    assert run() == 0
    assert "model.safetensors" in visible()
    assert INDEX not in visible()


def test_the_size_is_part_of_the_plan(recipe, capsys):
    def checksum():
        main(["plan", "recipe=mine", "--json"])
        return json.loads(capsys.readouterr().out)["checksum"]

    found = [checksum()]
    for save in ({"shard": 48}, {"shard": "48B"}, {}, {"shard": None}):
        recipe(**save)
        found.append(checksum())
    assert found[1] == found[2]
    assert found[3] == found[4]
    assert len(set(found)) == 3


@pytest.mark.parametrize("taken", ["model.safetensors", INDEX, "model-00001-of-00009.safetensors"])
def test_nothing_is_replaced_by_several_files(recipe, taken, capsys):
    Path("out").mkdir()
    Path("out", taken).write_text("mine")
    assert run("save.overwrite=true") == 4
    assert "exists already" in capsys.readouterr().err
    assert visible() == [taken]
    assert Path("out", taken).read_text() == "mine"


def test_a_file_that_appears_during_the_run_is_not_replaced(recipe, monkeypatch):
    from transferpipe.files.publishing.staging import Staging

    publish = Staging.publish

    def late(self, folder, digests):
        Path("out", INDEX).write_text("mine")
        publish(self, folder, digests)

    monkeypatch.setattr(Staging, "publish", late)
    assert run() == 4
    assert visible() == [INDEX]
    assert Path("out", INDEX).read_text() == "mine"


def test_a_failure_leaves_nothing(recipe, monkeypatch):
    import transferpipe.save.writers.safetensors_shards as shards

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards, "write_text", fail)
    assert run() == 4
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "shard", [0, -1, "0GB", "many", "1 PB", True, [1], "1e9", "9" * 40, 1 << 63, 10**30, "9999999999TB"]
)
def test_what_is_no_size(recipe, capsys, shard):
    recipe(shard=shard)
    assert run() == 2
    assert "save.shard: must be a size above 0 that a file can have" in capsys.readouterr().err


def test_only_safetensors_are_cut(recipe, capsys):
    recipe(path="model.npz", shard="1GB")
    assert run() == 2
    assert "save.shard: needs a .safetensors file" in capsys.readouterr().err
    recipe(path="model.npz", also=["model.safetensors"], shard=40)
    assert run() == 0
    assert {"model.npz", INDEX} <= set(visible())


def test_sizes():
    sizes = {"2GB": 2 * 10**9, "1.5gib": 3 << 29, "500 MB": 5 * 10**8, "7": 7, "12B": 12, "1T": 10**12, 5: 5}
    assert {text: parse_size(text) for text in sizes} == sizes


@given(st.lists(st.integers(0, 20), min_size=1, max_size=20), st.integers(1, 30))
def test_parts_are_the_catalog_in_its_order_and_keep_to_the_limit(sizes, limit):
    catalog = Catalog(tuple(WeightSpec(str(i), (size,), "uint8") for i, size in enumerate(sizes)))
    parts = split_catalog(catalog, limit)
    assert [w for part in parts for w in part] == list(catalog)
    assert all(len(part) and (part.nbytes <= limit or len([w for w in part if w.nbytes]) == 1) for part in parts)
    assert all(a.nbytes + b.weights[0].nbytes > limit for a, b in zip(parts, parts[1:], strict=False))


@pytest.mark.parametrize("limit", [50, 1000])
def test_metadata_of_the_target_is_kept(recipe, limit):
    target = load_file("target.safetensors")
    note = {"format": "pt", "modelspec.title": "Mine", "long": "x" * 100_000}
    save_file(target, "target.safetensors", metadata=note)
    recipe(shard=limit)
    assert run() == 0
    files = [path for path in Path("out").iterdir() if path.suffix == ".safetensors"]
    assert len(files) == (2 if limit == 50 else 1)
    for path in files:
        with safe_open(path, "np") as file:
            assert file.metadata() == note
