"""A source whose configuration declares far more weights than it holds is refused before Keras allocates them."""

import json
import resource
import shutil
import zipfile

import keras
import pytest
from keras import layers as kl

import transferpipe as tp


def model(units=4):
    return keras.Sequential([keras.Input((3,)), kl.Dense(units, name="a"), kl.Dense(2, name="b")])


def declare(path, units):
    """Rewrite the configuration of a `.keras` so that its layer `a` has so many units."""
    whole = path.with_suffix(".copy")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(whole, "w") as new:
        for member in old.namelist():
            data = old.read(member)
            if member == "config.json":
                config = json.loads(data)
                for layer in config["config"]["layers"]:
                    if layer["config"].get("name") == "a":
                        layer["config"]["units"] = units
                data = json.dumps(config).encode()
            new.writestr(member, data)
    shutil.move(whole, path)


@pytest.mark.parametrize("units", [1 << 28, 1 << 32])
def test_gigabytes_are_refused_before_they_are_built(units, tmp_path):
    path = tmp_path / "m.keras"
    model().save(path)
    declare(path, units)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(tp.UnsafeError, match="no layer is so large"):
        tp.parity(str(path), model())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kilobytes


def test_what_it_holds_is_run(tmp_path):
    one = model()
    one.save(tmp_path / "m.keras")
    assert tp.parity(str(tmp_path / "m.keras"), one).verdict == "pass"


def test_random_inputs_are_drawn_of_what_fits_into_memory(tmp_path):
    """A picture of 6,000 by 6,000 would be followed by layers of gigabytes; inputs of one's own are run all the same."""
    wide = keras.Sequential([keras.Input((6000, 6000, 1)), kl.MaxPooling2D(3000), kl.Flatten(), kl.Dense(2)])
    wide.save(tmp_path / "m.keras")
    found = tp.parity(str(tmp_path / "m.keras"), wide)
    assert found.verdict == "inconclusive"
    assert "36,000,000 values a sample" in " ".join(str(found).split())
