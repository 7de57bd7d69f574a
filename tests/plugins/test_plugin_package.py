"""A package from outside adds one of each kind: it passes the laws, and the command line uses all six at once."""

import json
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from transferpipe.cli.main import main
from transferpipe.testing import FormatLaws, LayoutLaws, LoggerLaws, ScoreLaws, TransformLaws, WriterLaws

sys.path.insert(0, str(Path(__file__).parents[1] / "plugin_package"))
import toy_plugins

sys.path.pop(0)

pytestmark = pytest.mark.usefixtures("toy_package")


def write_toy(path, values):
    """Write a toy file by the description of the format."""
    entries, data = {}, b""
    for name, value in values.items():
        entries[name] = [value.dtype.name, list(value.shape), len(data), zlib.crc32(value.tobytes())]
        data += value.tobytes()
    header = json.dumps(entries).encode()
    path.write_bytes(
        b"TOY!" + len(header).to_bytes(8, "little") + header + zlib.crc32(header).to_bytes(4, "little") + data
    )
    return path


def read_toy(path):
    """Read a toy file by the description of the format."""
    data = path.read_bytes()
    length = int.from_bytes(data[4:12], "little")
    found = {}
    for name, (dtype, shape, offset, _) in json.loads(data[12 : 12 + length]).items():
        count = int(np.prod(shape))
        found[name] = np.frombuffer(data, dtype, count, 16 + length + offset).reshape(shape)
    return found


class TestFormat(FormatLaws):
    name = "toy"
    checks_values = True

    def write(self, folder):
        values = {"a/kernel": np.arange(6, dtype="float32").reshape(2, 3), "a/bias": np.array([True, False])}
        return write_toy(folder / "model.bin", values), values


class TestTransform(TransformLaws):
    kind = toy_plugins.Power
    cases = ((2, ((3, 4),)), (3, ((2,),)), (1, ((),)))

    def formula(self, arguments, arrays):
        return np.prod([arrays[0]] * arguments, axis=0)


class TestLayout(LayoutLaws):
    layout = toy_plugins.UpsideDown


class TestWriter(WriterLaws):
    suffix = ".toy"

    def read(self, path):
        return read_toy(path)


class TestScore(ScoreLaws):
    score = staticmethod(toy_plugins.spread)

    def model(self):
        keras = pytest.importorskip("keras")
        keras.utils.set_random_seed(1)
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="d")])

    def arguments(self):
        return {"scale": 2.0}


class TestLogger(LoggerLaws):
    name = "lines"

    def told(self, folder, sweep):
        lines = [json.loads(line) for line in (folder / "lines.txt").read_text().splitlines()]
        assert {line[0] for line in lines} == {sweep}
        return [line[2] for line in lines]


RECIPE = """# @package _global_
source: {path: source.bin}
target: {path: b.keras}
mapping:
  d: {to: d, transform: {kernel: [{power: 2}]}}
save: {path: model.keras, also: [model.toy], layout: upside_down}
"""


def test_a_sweep_uses_all_six(tmp_path, monkeypatch, capsys):
    keras = pytest.importorskip("keras")
    monkeypatch.chdir(tmp_path)
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, use_bias=False, name="d")]).save(tmp_path / "b.keras")
    kernel = np.arange(6, dtype="float32").reshape(2, 3)  # as Keras has it
    write_toy(tmp_path / "source.bin", {"d/matrix": np.ascontiguousarray(kernel.T[::-1])})
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "own.yaml").write_text(RECIPE)
    words = ["recipe=own", "seed=0,1", "score=spread", "+score.scale=2.0", "sweep.log=[lines]", "hydra.sweep.dir=out"]
    assert main(["sweep", *words]) == 0, [p.read_text()[:900] for p in Path("out").glob("*/result.json")]
    told = [json.loads(line) for line in (tmp_path / "out" / "lines.txt").read_text().splitlines()]
    assert len(told) == 2
    for _, key, _, status, score in told:
        assert status == "done"
        assert score == pytest.approx(2 * (kernel**2).std())
        (name, there) = next(iter(read_toy(tmp_path / "out" / key / "model.toy").items()))
        assert name == "d/matrix"
        assert (there == (kernel**2).T[::-1]).all()
    assert "spread" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "out" / told[0][1])]) == 0


def test_the_command_line_lists_and_inspects(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--version", "--plugins"]) == 0
    rows = [line.split()[:4] for line in capsys.readouterr().out.splitlines()[1:]]
    kinds = ("format toy", "transform power", "layout upside_down", "writer toy", "score spread", "logger lines")
    assert rows == [[*kind.split(), "toy-plugins", "0.3"] for kind in kinds]
    write_toy(tmp_path / "a.bin", {"d/matrix": np.ones((2, 3), "float32")})
    assert main(["inspect", "a.bin", "--stats"]) == 0
    assert "matrix" in capsys.readouterr().out


def test_names_that_are_not_there_are_explained_with_those_of_the_package(tmp_path, one_dense, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_toy(tmp_path / "source.bin", {"d/matrix": np.ones((3, 2), "float32")})
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "own.yaml").write_text(RECIPE)
    for words, said in (
        (["save.path=a.tow", "save.also=[]", "save.layout=keras"], ".ckpt, .toy, which choose the format"),
        (["+source.format=tyo"], "did you mean 'toy'"),
        (["+source.layout=upsidedown"], "did you mean 'upside_down'"),
        (["mapping.d.transform.kernel=[{pwer: 2}]"], "did you mean 'power'"),
    ):
        assert main(["plan", "recipe=own", *words]) == 2
        assert said in capsys.readouterr().err, words
