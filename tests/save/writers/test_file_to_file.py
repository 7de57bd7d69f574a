"""Whole runs from file to file: Keras is not needed, and every byte of the result is accounted for."""

import json
import os
import subprocess
import sys
import zipfile

import h5py
import ml_dtypes
import numpy as np
import pytest
from hand_made import (
    assert_same,
    config_of,
    dense,
    layer,
    named,
    read_weights,
    values,
    write_archive,
    write_weights,
)
from safetensors.numpy import load_file

import transferpipe as tp
from transferpipe.files import crc
from transferpipe.save.writers import fill

ALL = {"all": {"to": "(.*)", "from": r"\1"}}
STORAGE = {
    "contiguous": {},
    "chunked": {"chunks": True},
    "gzip": {"chunks": True, "compression": "gzip"},
    "shuffled": {"chunks": (3, 2), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf": {"chunks": True, "compression": "lzf"},
}


def net(seed, count=3, dtype="float32"):
    """Return `count` Dense layers and two normalizations."""
    layers = [dense(f"fc{i}", 5, 5, seed + i, dtype) for i in range(count)]
    norms = [layer(f"norm{i}", "BatchNormalization", [values((5,), seed + 40 + 4 * i + k) for k in range(4)])
             for i in range(2)]  # fmt: skip
    return [*layers, *norms]


def run(source, target, folder, **recipe):
    recipe = {"mapping": ALL, **recipe}
    return tp.transfer(str(source), str(target), folder=folder, **recipe)


@pytest.mark.parametrize("storage", STORAGE)
@pytest.mark.parametrize("deflate", [False, True])
def test_every_value_arrives_however_the_source_is_packed(tmp_path, storage, deflate):
    source, target = net(1), net(100)
    run(
        write_archive(tmp_path / "s.keras", source, deflate=deflate, **STORAGE[storage]),
        write_archive(tmp_path / "t.keras", target),
        tmp_path,
    )
    assert_same(read_weights(tmp_path / "model.keras"), named(source))


@pytest.mark.parametrize("storage", STORAGE)
def test_kept_values_arrive_however_the_target_is_packed(tmp_path, storage):
    source, target = net(1), net(100)
    run(
        write_archive(tmp_path / "s.keras", source),
        write_archive(tmp_path / "t.keras", target, deflate=True, **STORAGE[storage]),
        tmp_path,
        mapping={"one": {"to": "fc1"}},
        unmatched="keep",
    )
    wanted = named(target) | {n: v for n, v in named(source).items() if n.startswith("fc1/")}
    assert_same(read_weights(tmp_path / "model.keras"), wanted)


def test_kept_edited_cast_transformed_and_merged(tmp_path):
    source = [dense("a", 4, 6, 1), dense("b", 4, 6, 2, "float16"), dense("c", 6, 4, 3), dense("d", 4, 6, 4)]
    target = [dense(n, 4, 6, 50 + i) for i, n in enumerate(("copied", "widened", "turned", "mixed", "kept", "edited"))]
    report = run(
        write_archive(tmp_path / "s.keras", source),
        write_archive(tmp_path / "t.keras", target),
        tmp_path,
        mapping={
            "copied": {"to": "copied", "from": "a"},
            "widened": {"to": "widened", "from": "b"},
            "turned": {"to": "turned/kernel", "from": "c/kernel", "transform": [{"transpose": [1, 0]}]},
            "mixed": {"to": "mixed", "from": ["a", "d"], "merge": "mean"},
            "edited": {"to": "edited", "from": "d"},
        },
        unmatched="keep",
        edit={
            "one": {"at": "edited/kernel", "index": [1, 2], "set": 9.5},
            "two": {"at": "kept/bias", "index": [0], "add": 1.0},
        },
    )
    s, wanted = named(source), named(target)
    wanted |= {"copied/kernel": s["a/kernel"], "copied/bias": s["a/bias"]}
    wanted |= {f"widened/{n}": s[f"b/{n}"].astype("float32") for n in ("kernel", "bias")}
    wanted["turned/kernel"] = s["c/kernel"].T
    wanted |= {f"mixed/{n}": (s[f"a/{n}"] + s[f"d/{n}"]) / np.float32(2) for n in ("kernel", "bias")}
    wanted |= {f"edited/{n}": s[f"d/{n}"].copy() for n in ("kernel", "bias")}
    wanted["edited/kernel"][1, 2] = 9.5
    wanted["kept/bias"] = wanted["kept/bias"].copy()
    wanted["kept/bias"][0] += 1
    assert_same(read_weights(tmp_path / "model.keras"), wanted)
    statuses = {w["name"]: w["status"] for w in report.manifest["weights"]}
    assert statuses["kept/kernel"] == "kept"
    assert statuses["mixed/bias"] == "assigned"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8", "float64", "int64", "bool"])
def test_dtypes_that_need_no_arithmetic(tmp_path, dtype):
    source, target = [dense("a", 9, 7, 1, dtype)], [dense("a", 9, 7, 2, dtype)]
    run(write_archive(tmp_path / "s.keras", source), write_archive(tmp_path / "t.keras", target), tmp_path)
    assert_same(read_weights(tmp_path / "model.keras"), named(source))


@pytest.mark.parametrize(("of", "to"), [("float32", "bfloat16"), ("bfloat16", "float32"), ("float64", "float16")])
def test_casts(tmp_path, of, to):
    source, target = [dense("a", 9, 7, 1, of)], [dense("a", 9, 7, 2, to)]
    run(write_archive(tmp_path / "s.keras", source), write_archive(tmp_path / "t.keras", target), tmp_path)
    wanted = {n: v.astype(getattr(ml_dtypes, to, to)) for n, v in named(source).items()}
    assert_same(read_weights(tmp_path / "model.keras"), wanted)


def test_scalars_and_empty_values(tmp_path):
    odd = [layer("odd", "Odd", [np.float32(3.5), np.zeros((0, 4), "float32"), np.int64(7), np.ones((1, 1))])]
    other = [layer("odd", "Odd", [np.float32(1), np.zeros((0, 4), "float32"), np.int64(1), np.zeros((1, 1))])]
    run(write_archive(tmp_path / "s.keras", odd), write_archive(tmp_path / "t.keras", other), tmp_path)
    found = read_weights(tmp_path / "model.keras")
    assert_same(found, {f"odd/{i}": np.asarray(v) for i, v in enumerate(odd[0]["arrays"])})


def test_big_endian_sources(tmp_path):
    source = [dense("a", 9, 7, 1)]
    turned = [{**source[0], "arrays": [v.astype(">f4") for v in source[0]["arrays"]]}]
    target = write_archive(tmp_path / "t.keras", [dense("a", 9, 7, 2)])
    run(write_archive(tmp_path / "s.keras", turned), target, tmp_path)
    assert_same(read_weights(tmp_path / "model.keras"), named(source))


def test_more_than_ten_layers_of_a_class_in_reverse_order(tmp_path):
    """`dense_10` sorts before `dense_2`, and HDF5 lists by name."""
    source = net(1, count=25)
    target = [*reversed(net(300, count=25))]
    run(write_archive(tmp_path / "s.keras", source), write_archive(tmp_path / "t.keras", target), tmp_path)
    assert_same(read_weights(tmp_path / "model.keras"), named(source))
    with zipfile.ZipFile(tmp_path / "model.keras") as archive, archive.open("model.weights.h5") as member:
        h5 = h5py.File(member, "r")
        assert [h5[f"layers/dense{f'_{i}' if i else ''}/vars"].attrs["name"] for i in range(25)] == [
            e["name"] for e in target if e["class"] == "Dense"
        ]


def test_layers_of_unknown_classes_with_keys_that_are_no_numbers(tmp_path):
    """Nothing is known of such layers but what the file holds, and nothing more is needed."""
    path = write_archive(tmp_path / "t.keras", [layer("odd", "my>Odd", [values((3, 4), 1), values((2,), 2)])])
    with zipfile.ZipFile(path) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    weights = tmp_path / "w.h5"
    weights.write_bytes(members["model.weights.h5"])
    with h5py.File(weights, "r+") as h5:
        group = h5["layers/my>odd/vars"]
        group.move("0", "table:0")
        group["count"] = np.arange(5)
    members["model.weights.h5"] = weights.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    run(path, path, tmp_path, mapping={}, unmatched="keep", edit={"e": {"at": "odd/count", "index": [1], "set": 9}})
    with zipfile.ZipFile(tmp_path / "model.keras") as archive, archive.open("model.weights.h5") as member:
        group = h5py.File(member, "r")["layers/my>odd/vars"]
        assert {k: v[()].tolist() for k, v in group.items()} == {
            "table:0": values((3, 4), 1).tolist(), "1": values((2,), 2).tolist(), "count": [0, 9, 2, 3, 4],
        }  # fmt: skip


def test_assets_are_carried_over_and_the_optimizer_is_left_out(tmp_path):
    assets = {"assets/layers/words/vocabulary.txt": b"a\nb\n" * 100_000, "assets/layers/größe/v.txt": b"\0\xff"}
    source, target = net(1), net(100)
    run(
        write_archive(tmp_path / "s.keras", source, optimizer=True, assets={"assets/other": b"of the source"}),
        write_archive(tmp_path / "t.keras", target, optimizer=True, assets=assets, deflate=True),
        tmp_path,
    )
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert archive.namelist() == ["metadata.json", "config.json", "model.weights.h5", *assets]
        assert {n: archive.read(n) for n in assets} == assets
        assert json.loads(archive.read("metadata.json"))["keras_version"] == "3.15.0"
    assert_same(read_weights(tmp_path / "model.keras"), named(source))


def test_the_configuration_changes_only_where_a_layer_is_frozen(tmp_path):
    target = net(100)
    more = {"compile_config": {"optimizer": "adam", "loss": "mse"}, "build_config": {"input_shape": [None, 5]}}
    config = config_of(target, **more)
    run(
        write_archive(tmp_path / "s.keras", net(1)),
        write_archive(tmp_path / "t.keras", target, config=config),
        tmp_path,
        freeze=["fc1"],
    )
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        found = json.loads(archive.read("config.json"))
    config["config"]["layers"][1]["config"]["trainable"] = False
    assert found == config


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".safetensors", ".npz"])
def test_every_format_holds_the_same_values(tmp_path, suffix):
    source, target = [*net(1), dense("half", 3, 3, 9, "float16")], [*net(100), dense("half", 3, 3, 99, "float16")]
    run(
        write_archive(tmp_path / "s.keras", source),
        write_archive(tmp_path / "t.keras", target),
        tmp_path,
        save={"path": f"out{suffix}"},
    )
    out, wanted = tmp_path / f"out{suffix}", named(source)
    if suffix in (".keras", ".weights.h5"):
        assert_same(read_weights(out), wanted)
    elif suffix == ".safetensors":
        assert_same(load_file(out), wanted)
    else:
        with np.load(out) as found:
            assert_same({n: found[n] for n in found.files}, wanted)


def test_several_outputs_of_one_run(tmp_path):
    source, target = net(1), net(100)
    report = run(
        write_weights(tmp_path / "s.weights.h5", source),
        write_archive(tmp_path / "t.keras", target),
        tmp_path,
        save={"path": "out.keras", "also": ["out.weights.h5", "deep/out.npz"]},
    )
    assert [a["writer"] for a in report.manifest["artifacts"]] == ["direct"] * 3
    assert_same(read_weights(tmp_path / "out.keras"), named(source))
    assert_same(read_weights(tmp_path / "out.weights.h5"), named(source))


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".safetensors", ".npz"])
def test_the_bytes_do_not_depend_on_threads_or_time(tmp_path, monkeypatch, suffix):
    """Small pieces make many shares of few bytes; another folder and another second change nothing."""
    source = write_archive(tmp_path / "s.keras", net(1, count=12), optimizer=True)
    target = write_archive(tmp_path / "t.keras", net(100, count=12), assets={"assets/v.txt": b"v"})
    monkeypatch.setattr(crc, "CHUNK", 48)
    monkeypatch.setattr(crc, "_RUN", 96)
    monkeypatch.setattr(fill, "_PIECE", 96)
    found = set()
    for threads in (1, 2, 4, 7):
        monkeypatch.setattr(crc, "_THREADS", threads)
        folder = tmp_path / f"run{threads}"
        run(source, target, folder, save={"path": f"out{suffix}"}, mapping={"a": {"to": "fc(.*)"}}, unmatched="keep")
        found.add((folder / f"out{suffix}").read_bytes())
        os.utime(source, ns=(threads * 10**9, threads * 10**9))
    assert len(found) == 1


def test_a_run_from_the_command_line_imports_neither_keras_nor_tensorflow(tmp_path):
    source, target = net(1), net(100)
    write_archive(tmp_path / "s.keras", source, deflate=True, chunks=True, compression="gzip")
    write_archive(tmp_path / "t.keras", target)  # one with a vocabulary would be loaded with Keras to be compared
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text(
        "# @package _global_\n"
        "source: {path: s.keras}\n"
        "target: {path: t.keras}\n"
        "mapping: {all: {to: 'fc(\\d)', from: 'fc\\1'}}\n"
        "unmatched: keep\n"
        "save: {path: out.keras, also: [out.npz, out.safetensors, out.weights.h5]}\n"
    )
    code = (
        "import sys; from transferpipe.cli import main; sys.argv[1:] = ['run', 'recipe=mine', 'hydra.run.dir=out']\n"
        "try:\n    main()\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        "heavy = {'keras', 'tensorflow', 'safetensors', 'matplotlib'} & sys.modules.keys(); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wanted = named(target) | {n: v for n, v in named(source).items() if n.startswith("fc")}
    assert_same(read_weights(tmp_path / "out" / "out.keras"), wanted)
    assert_same(load_file(tmp_path / "out" / "out.safetensors"), wanted)
