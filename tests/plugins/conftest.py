"""Packages for the tests, installed without a network: a folder with the module and its metadata, put on the path."""

import json
import sys
import tomllib
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

PACKAGE = Path(__file__).parents[1] / "plugin_package"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a package with these entry points, by kind and name, and this source."""

    def install(package, points, source="", version="1.0"):
        place = tmp_path / "site" / package
        place.mkdir(parents=True, exist_ok=True)
        module = package.replace("-", "_")
        (place / f"{module}.py").write_text(source)
        info = place / f"{module}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        groups = [
            f"[transferpipe.{kind}s]\n" + "".join(f"{name} = {module}:{value}\n" for name, value in named.items())
            for kind, named in points.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(groups))
        monkeypatch.syspath_prepend(str(place))
        monkeypatch.delitem(sys.modules, module, raising=False)
        return place

    return install


@pytest.fixture
def toy_package(tmp_path, monkeypatch):
    """Install the package in `tests/plugin_package`: its metadata as a build would write them, its module where it is."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    info = tmp_path / "installed" / f"toy_plugins-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in named.items())
        for group, named in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))
    for place in (info.parent, PACKAGE):
        monkeypatch.syspath_prepend(str(place))


@pytest.fixture
def one_dense(tmp_path):
    """A `.keras` file made by hand: a Sequential of one Dense without a bias."""
    with h5py.File(tmp_path / "w.h5", "w") as file:
        variables = file.create_group("layers/dense/vars")
        variables.attrs["name"] = "d"
        variables["0"] = np.zeros((2, 3), "float32")
    layer = {
        "module": "keras.layers",
        "class_name": "Dense",
        "config": {"name": "d", "trainable": True, "units": 3, "use_bias": False},
        "registered_name": None,
        "build_config": {"input_shape": [None, 2]},
    }
    layers = [{"module": "keras.layers", "class_name": "InputLayer", "config": {"name": "in"}}, layer]
    config = {"module": "keras", "class_name": "Sequential", "config": {"name": "model", "layers": layers}}
    with zipfile.ZipFile(tmp_path / "b.keras", "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.12.0", "date_saved": "2025-01-01@00:00:00"}))
        archive.writestr("config.json", json.dumps(config))
        archive.write(tmp_path / "w.h5", "model.weights.h5")
    return tmp_path / "b.keras"
