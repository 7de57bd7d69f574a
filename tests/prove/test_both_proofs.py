"""The proof of a fresh file and the proof of a run folder see the same in the same damage, whatever wrote the file."""

import hashlib
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hand_made import dense, write_archive
from safetensors import safe_open
from safetensors.numpy import save_file as save_safetensors

import transferpipe as tp
from transferpipe.execute import run as run_module
from transferpipe.prove import file as file_module
from transferpipe.prove.run_folder import verify_run
from transferpipe.save.output import save_file

OUTPUTS = [
    ("m.keras", {}),
    ("m.weights.h5", {}),
    ("m.safetensors", {}),
    ("m.npz", {}),
    ("m.safetensors", {"layout": "torch"}),
    ("m.npz", {"layout": "torch"}),
]


def flip(arrays, first):
    arrays[first] = arrays[first].copy()
    arrays[first].view(np.uint8).reshape(-1)[0] ^= 1


def turn(arrays, first):
    arrays[first] = arrays[first].reshape(arrays[first].shape[::-1])  # the same bytes


def retype(arrays, first):
    arrays[first] = arrays[first].view(np.int32)  # the same bytes


def add(arrays, first):
    holder = first.rpartition("/")[0] if "/vars/" in first else "more"
    between = "/" if "/" in first else "."  # beside torch's names, one with a slash would mean that none is torch's
    arrays[f"{holder}{between}7"] = np.ones((2, 3), np.float32)


DAMAGES = {
    "nothing": lambda arrays, first: None,
    "one bit": flip,
    "another shape": turn,
    "another dtype": retype,
    "one missing": lambda arrays, first: arrays.pop(first),
    "one too many": add,
    "a bit, and one missing": lambda arrays, first: (flip(arrays, first), arrays.pop(sorted(arrays)[-1])),
}


def in_h5(path, damage):
    with h5py.File(path, "r+") as file:
        before = {}
        file.visititems(lambda name, item: before.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
        after = dict(before)
        damage(after, kernel(before))
        for name in before.keys() | after.keys():
            if before.get(name) is not after.get(name):
                if name in before:
                    del file[name]
                if name in after:
                    file[name] = after[name]


def kernel(arrays):
    """Return the name of a matrix, the first one."""
    return next(name for name in sorted(arrays) if arrays[name].ndim == 2)


def spoil(path, damage):
    """Damage what a file holds by the libraries that others read it with."""
    if path.name.endswith(".weights.h5"):
        in_h5(path, damage)
    elif path.name.endswith(".keras"):
        with zipfile.ZipFile(path) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        inner = path.with_name("inner.h5")
        inner.write_bytes(content["model.weights.h5"])
        in_h5(inner, damage)
        content["model.weights.h5"] = inner.read_bytes()
        inner.unlink()
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
    elif path.name.endswith(".npz"):
        with np.load(path) as file:
            arrays = dict(file)
        told = {name: arrays.pop(name) for name in list(arrays) if name.startswith("transferpipe")}
        damage(arrays, kernel(arrays))
        np.savez(path, **told, **arrays)
    else:
        with safe_open(path, "np") as file:
            arrays, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
        damage(arrays, kernel(arrays))
        save_safetensors(arrays, path, metadata=metadata)


@pytest.fixture
def transfer(tmp_path):
    """Return a function that makes a run of three layers, of which one keeps its value, into a new folder."""
    layers = [dense(f"d{i}", 6, 4, i) for i in range(3)]
    np.save(tmp_path / "s.npy", layers[0]["arrays"][0])
    source = write_archive(tmp_path / "s.keras", layers)
    target = write_archive(tmp_path / "t.keras", [dense(f"d{i}", 6, 4, 50 + i) for i in range(3)])
    rules = {"all": {"to": "d[01]/.*"}, "kept": {"to": "d2/.*", "from": None}}

    def run(folder, name, save):
        return tp.transfer(source, target, folder=tmp_path / folder, mapping=rules, save={"path": name, **save})

    return run


def seen(error, name):
    """Return what a proof said of each weight, in words that both have."""
    found = set()
    for problem in error.problems if error else ():
        if "SHA-256" in problem.what:  # of the whole file, which a run folder records
            continue
        value = problem.what.startswith(("the value in the file", "its digest is not"))
        where = problem.where.removeprefix(f"{name}: ")
        found.add((where, "its value differs" if value else problem.what.replace("manifest", "plan")))
    return found


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("name", "save"), OUTPUTS, ids=lambda x: x if isinstance(x, str) else x.get("layout", "keras"))
def test_both_proofs_see_the_same(transfer, tmp_path, monkeypatch, name, save, damage):
    transfer("later", name, save)
    spoil(tmp_path / "later" / name, DAMAGES[damage])
    again = fresh = None
    try:
        verify_run(tmp_path / "later")
    except tp.VerificationError as error:
        again = error

    def changed(path, *arguments):
        written = save_file(path, *arguments)
        if damage != "nothing":
            spoil(path, DAMAGES[damage])
        return written

    monkeypatch.setattr(run_module, "save_file", changed)
    try:
        transfer("fresh", name, save)
    except tp.VerificationError as error:
        fresh = error
    assert seen(fresh, name) == seen(again, name)
    assert bool(seen(fresh, name)) == (damage != "nothing")
    assert (fresh is None) == (damage == "nothing")
    assert not (damage != "nothing" and Path(tmp_path / "fresh" / name).exists())


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5", "m.safetensors", "m.npz"])
@pytest.mark.parametrize("stage", ["written", "opened by the proof", "half compared"])
def test_a_bit_that_flips_before_it_is_compared_is_found(transfer, tmp_path, monkeypatch, name, stage):
    """Whenever that is: what the manifest's SHA-256 is of are the bytes that were compared."""
    value = np.load(tmp_path / "s.npy").tobytes()
    places = []

    def flip_in(path):
        data = bytearray(path.read_bytes())
        places.append(data.index(value))
        data[places[-1] + 5] ^= 1
        with path.open("r+b") as file:
            file.write(data)

    def spoiled(real, after):
        def call(path, *arguments):
            result = real(path, *arguments) if after else None
            flip_in(path)
            return result if after else real(path, *arguments)

        return call

    if stage == "written":
        monkeypatch.setattr(run_module, "save_file", spoiled(save_file, after=True))
    elif stage == "opened by the proof":
        monkeypatch.setattr(file_module, "HashedRead", spoiled(file_module.HashedRead, after=False))
    else:
        for method in ("read", "entry"):  # whichever is called first
            real = getattr(file_module.HashedRead, method)

            def spoil_first(hashed, *arguments, real=real):
                if not places:
                    flip_in(hashed._path)
                return real(hashed, *arguments)

            monkeypatch.setattr(file_module.HashedRead, method, spoil_first)
    found = "d0/kernel: the value in the file is not the one|is damaged|Bad CRC-32|changed since it was opened"
    with pytest.raises(tp.VerificationError, match=found):
        transfer("fresh", name, {})
    assert len(places) == 1
    assert not (tmp_path / "fresh" / name).exists()


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5", "m.safetensors", "m.npz"])
def test_the_manifest_has_the_digest_of_the_published_file(transfer, tmp_path, name):
    report = transfer("fresh", name, {})
    data = (tmp_path / "fresh" / name).read_bytes()
    (artifact,) = report.manifest["artifacts"]
    assert (artifact["bytes"], artifact["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
