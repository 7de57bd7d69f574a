"""The list of plug-ins, and what the command line makes of them."""

import pytest

from transferpipe.cli.commands.plugins import points
from transferpipe.cli.main import main
from transferpipe.show.help_pages import read_topic

POWER = """
import numpy as np
from dataclasses import dataclass
from typing import ClassVar
from transferpipe.planning.transforms import Transform, TransformError


@dataclass(frozen=True, slots=True)
class Power(Transform):
    '''Raise every value to `exponent`.'''

    exponent: int
    name: ClassVar[str] = "power"

    @classmethod
    def parse(cls, data):
        '''Return the transform for ``power: 2``.'''
        if data == "crash":
            raise KeyError(data)
        if not isinstance(data, int):
            raise TransformError(f"power takes a whole number, not {data!r}", "write {power: 2}")
        return cls(data)

    def __str__(self):
        return f"power({self.exponent})"

    def shape(self, shapes):
        if self.exponent == 13:
            raise IndexError("thirteen")
        return shapes[0]

    def apply(self, arrays):
        if self.exponent == 14:
            raise MemoryError("fourteen")
        if self.exponent == 15:
            return arrays[0][:1]
        with np.errstate(over="ignore"):
            return arrays[0] ** self.exponent
"""


def lines(capsys):
    assert main(["--version", "--plugins"]) == 0
    return capsys.readouterr().out.splitlines()[1:]


def test_without_plugins(capsys):
    assert lines(capsys) == ["plug-ins: none (see `transferpipe help plugins`)"]
    assert "transferpipe.formats" in read_topic("plugins")


def test_the_list_names_package_version_kind_and_name_and_what_is_wrong(install, capsys):
    install("powers", {"transform": {"power": "Power", "flip": "Power"}}, POWER, version="2.3")
    install("bad", {"format": {"toy": "FORMAT"}, "score": {"logme": "x"}, "layout": {"odd": "x"}}, "x = 1")
    found = [" ".join(line.split()) for line in lines(capsys)]
    assert found == [
        "format toy bad 1.0 cannot be loaded from bad:FORMAT: AttributeError: module 'bad' has no attribute 'FORMAT'",
        "transform flip powers 2.3 is not used: flip is a transform of transferpipe's own",
        "transform power powers 2.3 can be used",
        "layout odd bad 1.0 is not one: bad:x is not a class that inherits transferpipe.planning.layouts.layout.Layout",
        "score logme bad 1.0 is not used: logme is a score of transferpipe's own",
    ]


def test_every_kind_of_the_help_page_is_listed():
    page = read_topic("plugins")
    assert all(f'"{point.group}"' in page for point in points())


def test_the_page_of_transforms_shows_those_of_packages(install):
    install("powers", {"transform": {"power": "Power"}}, POWER)
    page = read_topic("transforms")
    assert "power: 2" in page and "Raise every value to `exponent`." in page
    assert "flip: [0, 1]" in page


@pytest.mark.follows("_check_outside: did you mean …?", "open_loggers: correct that, or take")
def test_loggers_of_packages_are_known_by_name(install, tmp_path):
    from transferpipe.errors import RecipeError
    from transferpipe.sweep.loggers import check_loggers, open_loggers

    source = "def open_lines(folder, name):\n    return lambda entry, result: (folder / name).touch()\n"
    install("lines", {"logger": {"lines": "open_lines", "wrong": "x"}}, f"{source}x = lambda folder, name: None\n")
    with pytest.raises(RecipeError) as refused:
        check_loggers(["lnes"])
    (problem,) = refused.value.problems
    assert (problem.what, problem.fix) == ("is not a logger", "did you mean 'lines'?")
    name = problem.fix.split("'")[1]
    check_loggers([name])
    open_loggers([name], tmp_path, "mark")[name](None, None)
    assert (tmp_path / "mark").exists()
    with pytest.raises(
        RecipeError, match="wrong: cannot be opened: TypeError: an object of type NoneType is not a logger"
    ):
        open_loggers(["wrong"], tmp_path, "mark")
    assert {*open_loggers(["lines"], tmp_path, "left out")} == {"lines"}
    right = source + "x = open_lines\n"
    install("lines", {"logger": {"lines": "open_lines", "wrong": "x"}}, right, version="1.1")
    open_loggers(["wrong"], tmp_path, "corrected")["wrong"](None, None)
    assert (tmp_path / "corrected").exists()
    install("lines", {"logger": {"lines": "gone"}}, source)
    with pytest.raises(
        RecipeError, match=r"sweep.log.lines: the logger lines of the package lines 1.0 cannot be loaded"
    ):
        check_loggers([name])


@pytest.fixture
def files(tmp_path, monkeypatch):
    import numpy as np

    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "a.npz", **{"d/kernel": np.array([[2, 3], [4, 5e19]], "float32")})
    np.savez(tmp_path / "b.npz", **{"d/kernel": np.zeros((2, 2), "float32")})
    return tmp_path


def run(*transform):
    import transferpipe as tp

    rules = {"d": {"to": "d", "transform": list(transform)}}
    return tp.transfer("a.npz", "b.npz", mapping=rules, save="out.npz", folder="run")


def test_a_transform_from_outside_is_carried_out(install, files):
    import numpy as np

    install("powers", {"transform": {"power": "Power"}}, POWER)
    run({"scale": 0.1}, {"power": 2})
    values = np.load(files / "run" / "out.npz")["d/kernel"]
    assert np.allclose(values, (np.array([[2, 3], [4, 5e19]]) * 0.1) ** 2)


FIXED = POWER.replace("self.exponent == 1", "self.exponent == -1")


@pytest.mark.parametrize(
    ("transform", "said", "right"),
    [
        ({"power": 2}, r"power\(2\) makes 1 finite value infinite or NaN", None),
        ({"power": "two"}, "power takes a whole number, not 'two' -> write {power: 2}", None),
        pytest.param(
            {"power": "crash"},
            "power does not take 'crash': KeyError: 'crash' -> see the documentation of its package for its arguments",
            {"power": 2},
            marks=pytest.mark.follows("_parse_outside: see the documentation of"),
        ),
        pytest.param(
            {"power": 13},
            r"power\(13\) failed on shapes .*IndexError: thirteen -> report it to the package that adds it",
            {"power": 13},
            marks=pytest.mark.follows("_guard_answer: report it to the"),
        ),
        pytest.param(
            {"power": 14},
            r"d/kernel: power\(14\) failed: MemoryError: fourteen -> report it",
            {"power": 14},
            marks=pytest.mark.follows("Values._apply_transform: report it to the"),
        ),
        pytest.param(
            {"power": 15},
            r"said that it gives float32 \(2, 2\), and gives float32 \(1, 2\) -> report it",
            {"power": 15},
            marks=pytest.mark.follows("Values._apply_transform: report it to the #2"),
        ),
        ({"powre": 2}, "there is no transform 'powre' -> did you mean 'power'", None),
    ],
)
def test_what_a_transform_from_outside_does_wrong_is_an_error_of_ours(install, files, transform, said, right):
    import numpy as np

    from transferpipe.errors import TransferError

    install("powers", {"transform": {"power": "Power"}}, POWER)
    with pytest.raises(TransferError, match=said):
        run(transform)
    assert not (files / "run" / "out.npz").exists()
    if right:  # as its documentation says, or once the package is corrected
        install("powers", {"transform": {"power": "Power"}}, FIXED, version="1.1")
        run({"scale": 1e-18}, right)
        kernel = np.array([[2, 3], [4, 5e19]], "float32") * np.float32(1e-18)
        with np.errstate(over="ignore"):
            expected = kernel ** right["power"]
        assert np.allclose(np.load(files / "run" / "out.npz")["d/kernel"], expected, rtol=1e-4)


WRITER = """
import io
import os
import numpy as np
from transferpipe.recipe.outputs import Output


def write(descriptor, content):
    file = io.BytesIO()
    np.savez(file, **{w.name: content.value(w.name) * FACTOR for w in content.catalog})
    os.pwrite(descriptor, file.getvalue(), 0)


OUTPUT = Output(".arrays", "arrays", write, "arrays", names_tensors=True)
"""


@pytest.mark.follows("_guard_writer.write_outside: report it to the")
def test_a_writer_from_outside_that_fails_and_is_corrected(install, files):
    import numpy as np

    import transferpipe as tp
    from transferpipe.errors import FileError

    keys = {"mapping": {"d": {"to": "d", "transform": [{"scale": 0.5}]}}, "save": "out.arrays", "folder": "run"}
    install("arrays", {"writer": {"arrays": "OUTPUT"}}, WRITER.replace("FACTOR", "none"))
    with pytest.raises(FileError, match=r"NameError.* -> report it to the package that adds it"):
        tp.transfer("a.npz", "b.npz", **keys)
    install("arrays", {"writer": {"arrays": "OUTPUT"}}, WRITER.replace("FACTOR", "1"), version="1.1")
    tp.transfer("a.npz", "b.npz", **keys)
    assert np.allclose(np.load("run/out.arrays")["d/kernel"], np.array([[1, 1.5], [2, 2.5e19]]))
