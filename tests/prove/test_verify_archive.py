"""The proof looks at everything that a finished file says: a change behind the writer's back is found, whatever it is."""

import json
import zipfile

import h5py
import pytest
from hand_made import dense, write_archive

import transferpipe as tp
from transferpipe.execute import run as run_module
from transferpipe.save.output import save_file

VOCABULARY = "assets/v.txt"


@pytest.fixture
def files(tmp_path):
    layers = [dense(f"d{i}", 6, 4, i) for i in range(3)]
    source = write_archive(tmp_path / "s.keras", layers)
    target = write_archive(
        tmp_path / "t.keras", [dense(f"d{i}", 6, 4, 50 + i) for i in range(3)], assets={VOCABULARY: b"a\nb\n"}
    )
    return source, target, tmp_path / "out"


def transfer(files, monkeypatch, change, name="out.keras"):
    def changed(path, *arguments):
        written = save_file(path, *arguments)
        change(path)
        return written

    monkeypatch.setattr(run_module, "save_file", changed)
    source, target, out = files
    return tp.transfer(source, target, folder=out, mapping={"all": {"to": ".*"}}, save={"path": name})


def rewrite(path, members):
    """Write the archive again with some members changed; None leaves one out."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**content, **members}.items():
            if data is not None:
                archive.writestr(name, data)


def other_units(path):
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    config["config"]["layers"][0]["config"]["units"] = 5
    rewrite(path, {"config.json": json.dumps(config)})


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda path: rewrite(path, {VOCABULARY: b"b\na\n"}), "v.txt: is not what the target has"),
        (lambda path: rewrite(path, {VOCABULARY: None}), "v.txt: is missing from the file"),
        (lambda path: rewrite(path, {"assets/more": b"x"}), "assets/more: is in the file but not in the target"),
        (other_units, "config.json: does not describe the target's model"),
    ],
)
def test_a_change_in_the_archive_is_found(files, monkeypatch, change, words):
    with pytest.raises(tp.VerificationError, match=words):
        transfer(files, monkeypatch, change)
    assert not files[2].exists() or not list(files[2].iterdir())


def test_another_name_of_a_layer_is_found(files, monkeypatch):
    def rename(path):
        with h5py.File(path, "a") as file:
            file["layers/dense_1/vars"].attrs["name"] = "other"

    with pytest.raises(tp.VerificationError, match=r"layers/dense_1: the file calls the layer 'other'.*'d1'"):
        transfer(files, monkeypatch, rename, "out.weights.h5")


@pytest.mark.parametrize("name", ["out.keras", "out.weights.h5", "out.npz", "out.safetensors"])
def test_a_finished_file_that_cannot_be_read_fails_the_proof_and_names_the_output(files, monkeypatch, name):
    """A flipped byte in the middle, or a lost end: a failed proof (status 3), not a file of the user's (status 4)."""

    def damage(path):
        path.write_bytes(path.read_bytes()[:-30])

    with pytest.raises(tp.VerificationError) as caught:
        transfer(files, monkeypatch, damage, name)
    assert ".part" not in str(caught.value)
    assert name in str(caught.value)


def test_a_flipped_byte_of_a_value_fails_the_proof(files, monkeypatch):
    def flip(path):
        data = bytearray(path.read_bytes())
        data[data.index(dense("d1", 6, 4, 1)["arrays"][0].tobytes()) + 5] ^= 4
        path.write_bytes(data)

    with pytest.raises(tp.VerificationError, match=r"out\.keras"):
        transfer(files, monkeypatch, flip)


def test_without_a_change_it_passes(files, monkeypatch):
    assert transfer(files, monkeypatch, lambda _: None).verdict.weights == "pass"


def test_a_checksum_that_is_not_that_of_the_weights(files, monkeypatch):
    """Found while the values are compared: they, and all between them, are as they should be, only the directory is not."""

    def change(path):
        with zipfile.ZipFile(path) as archive:
            crc = archive.getinfo("model.weights.h5").CRC.to_bytes(4, "little")
        data = path.read_bytes()
        assert data.count(crc) == 2  # before the member, and in the directory at the end
        path.write_bytes(data.replace(crc, bytes(byte ^ 1 for byte in crc)))

    with pytest.raises(tp.VerificationError, match="is damaged: its checksum is"):
        transfer(files, monkeypatch, change)
