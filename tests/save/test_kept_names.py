"""Files of named tensors as targets: what is written goes by their own names, so that torch loads it."""

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import transferpipe as tp

RANDOM = np.random.default_rng(1)
KEYS = {"l.0.weight": (3, 4), "l.0.bias": (3,)}


def tensors():
    return {key: RANDOM.normal(size=shape).astype("float32") for key, shape in KEYS.items()}


@pytest.mark.parametrize("metadata", [{"format": "pt"}, None])
def test_a_merge_keeps_the_names_of_the_file(metadata, tmp_path):
    held = {name: tensors() for name in "ab"}
    for name, content in held.items():
        save_file(content, tmp_path / f"{name}.safetensors", metadata=metadata)
    paths = {name: str(tmp_path / f"{name}.safetensors") for name in "ab"}
    rule = {"to": "l", "from": ["a:l", "b:l"], "merge": "mean"}
    report = tp.transfer(
        paths, {"path": paths["a"]}, mapping={"r": rule}, save="o.safetensors", folder=tmp_path / "out"
    )
    assert report.verdict.weights == "pass"
    with safe_open(tmp_path / "out/o.safetensors", "np") as file:
        assert set(file.keys()) == set(KEYS) and file.metadata() == {"format": "pt"}
        for key in KEYS:
            np.testing.assert_allclose(file.get_tensor(key), (held["a"][key] + held["b"][key]) / 2, atol=1e-6)


def test_an_npz_too(tmp_path):
    held = tensors()
    np.savez(tmp_path / "a.npz", **held)
    path = str(tmp_path / "a.npz")
    tp.transfer(path, {"path": path}, mapping={"r": {"to": "l"}}, save="o.npz", folder=tmp_path / "out")
    assert set(np.load(tmp_path / "out/o.npz").files) == set(KEYS)


def test_names_with_slashes_stay_what_they_are(tmp_path):
    save_file({"a.b/kernel": np.ones((2, 2), "float32")}, tmp_path / "a.safetensors")
    path = str(tmp_path / "a.safetensors")
    tp.transfer(path, {"path": path}, mapping={"r": {"to": ".*"}}, save="o.safetensors", folder=tmp_path / "out")
    with safe_open(tmp_path / "out/o.safetensors", "np") as file:
        assert list(file.keys()) == ["a.b/kernel"]


def test_a_torch_file_becomes_one_that_torch_loads(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    module = torch.nn.Linear(4, 3)
    torch.save(module.state_dict(), tmp_path / "a.pt")
    path = str(tmp_path / "a.pt")
    tp.transfer(path, {"path": path}, mapping={"r": {"to": ".*"}}, save="o.safetensors", folder=tmp_path / "out")
    assert not any(torch.nn.Linear(4, 3).load_state_dict(load_file(tmp_path / "out/o.safetensors")))
