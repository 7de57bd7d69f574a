"""Packages for the tests, installed without a network: a folder with the module and its metadata, put on the path."""

import sys

import pytest


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
