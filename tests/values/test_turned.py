"""Kernels that are only transposed go in blocks of rows, the same bits as NumPy's, and what is refused is still refused."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import transferpipe as tp
from transferpipe.errors import VerificationError
from transferpipe.values.compute import Values

SHAPES = {"plain": ((700, 900), None), "tall": ((4001, 131), [1, 0]), "axes": ((40, 30, 20, 25), [2, 3, 1, 0])}


@pytest.fixture
def files(tmp_path):
    random = np.random.default_rng(0)
    source = {name: random.standard_normal(shape, "float32") for name, (shape, _) in SHAPES.items()}
    target = {name: np.zeros(np.transpose(source[name], axes).shape, "float32") for name, (_, axes) in SHAPES.items()}
    save_file(source, tmp_path / "s.safetensors")
    save_file(target, tmp_path / "t.safetensors")
    return source, tmp_path


def run(folder):
    rules = {
        n: {"to": n, "transform": ["transpose" if a is None else {"transpose": a}]} for n, (_, a) in SHAPES.items()
    }
    return tp.transfer(
        folder / "s.safetensors", folder / "t.safetensors", mapping=rules, folder=folder / "out", save="o.safetensors"
    )


def test_every_permutation_has_the_bits_of_numpy(files, monkeypatch):
    source, folder = files
    monkeypatch.setattr(Values, "_assign", lambda *_: pytest.fail("was computed as a whole"))
    monkeypatch.setattr("transferpipe.execute.warnings._warn_of_untrained", lambda *_: ())
    run(folder)
    found = load_file(folder / "out" / "o.safetensors")
    for name, (_, axes) in SHAPES.items():
        assert np.array_equal(found[name], np.transpose(source[name], axes)), name


@pytest.mark.parametrize("place", [(0, 0), (333, 899), (699, 0)])
def test_nan_is_found_where_it_lies_in_the_source(files, place):
    source, folder = files
    source["plain"][place] = np.nan
    save_file(source, folder / "s.safetensors")
    with pytest.raises(VerificationError, match=rf"at \[{place[0]}, {place[1]}\]"):
        run(folder)
    assert not (folder / "out" / "o.safetensors").exists()
