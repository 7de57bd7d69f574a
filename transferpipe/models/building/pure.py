"""Builders whose model depends on nothing but what can be looked at without calling them, and what that is.

A builder of a user's own may read a file, a variable of its module, the time: of those nothing is ever kept. What
Keras's applications, KerasHub's classes and the zoo make of plain arguments depends on their code, on Keras and its
backend and their settings, and on the seed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transferpipe.files.private_cache import are_caches_on
from transferpipe.models.building.build import backend_of_keras, describe_build
from transferpipe.recipe.model import Build, walk_builds

_FORMAT = 1  # another number makes all that was kept unknown
_APPLICATIONS, _ZOO, _HUB = "keras.applications.", "transferpipe.zoo.", "keras_hub."
_CLASS_OF_HUB = re.compile(r"keras_hub\.models\.[A-Za-z0-9]+")  # no method, as `from_preset`, which reads files
_INSTALLED = {"site-packages", "dist-packages"}
# Variables by which Keras, its backends, and what these compute with are set up.
_SETTINGS = re.compile(r"(KERAS|TF|XLA|JAX|TORCH|PYTORCH|CUDA|NVIDIA|HIP|ROCR|OMP|MKL|ONEDNN|DNNL)_.*|PYTHONHASHSEED")
_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/accel0")  # of NVIDIA, AMD and TPUs: draws may differ there
_OF_PROCESSOR = ("model name", "flags", "Features", "CPU part", "CPU implementer")
_HERE = Path(__file__).parents[2]
_OWN = ("models", "planning", "recipe", "weights", "zoo")


def is_pure(build: Build) -> bool:
    """Tell whether nothing but its arguments, and what `key_of` looks at, decides what a call and all in it make."""
    return all(_is_pure(b) for b in walk_builds(build))


def _is_pure(build: Build) -> bool:
    # An object may hold anything, and its text says nothing of it.
    if not all(_is_plain(value) for value in build.arguments.values()):
        return False
    if build.target.startswith(_APPLICATIONS):  # which fetch weights, or read a file, unless they are told not to
        return "weights" in build.arguments and build.arguments["weights"] is None
    if build.target.startswith(_HUB):  # where any text may be a preset, or a file
        texts = (value for value in build.arguments.values() if _has_text(value))
        return _CLASS_OF_HUB.fullmatch(build.target) is not None and not any(True for _ in texts)
    # Our own architectures read nothing.
    return build.target.startswith(_ZOO)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(inner) for inner in value)
    return isinstance(value, Build) or type(value) in (str, int, float, bool, type(None))


def _has_text(value: Any) -> bool:
    return any(_has_text(inner) for inner in value) if isinstance(value, list) else isinstance(value, str)


def key_of(build: Build, seed: int) -> str | None:
    """Return all that decides what a pure call makes; None where that cannot be said, or nothing is to be kept.

    Where Keras is imported already, somebody may have changed its settings, registered classes, or patched it.
    """
    backend = backend_of_keras()
    if not are_caches_on() or not is_pure(build) or _is_imported("keras", "keras_hub", backend):
        return None
    hub = any(b.target.startswith(_HUB) for b in walk_builds(build))
    try:
        # What computes the draws, and what gives shapes and dtypes.
        places = [_package(name) for name in ("keras", backend, "numpy", "ml_dtypes", *(["keras_hub"] if hub else []))]
        folders = sorted({str(place.parent) for place in places})
        # By names and times, not by content: hashing the libraries would take longer than building.
        return json.dumps(
            [
                *(_FORMAT, _version(), describe_build(build), seed, backend, sys.version),
                *(folders, [sorted(os.listdir(folder)) for folder in folders]),  # noqa: PTH208 - names are enough
                [_stamp(place / "__init__.py") for place in places],
                [*_own_code()],
                sorted((k, v) for k, v in os.environ.items() if _SETTINGS.fullmatch(k)),
                [*_settings_of_keras()],
                *(platform.machine(), [*_processor()], [Path(device).exists() for device in _DEVICES]),
            ]
        )
    except (OSError, ValueError, ImportError, AttributeError, LookupError, RuntimeError):
        return None


def _is_imported(*packages: str) -> bool:
    return not sys.modules.keys().isdisjoint(packages)


def _package(name: str) -> Path:
    """Return the folder of an installed package, which is not imported.

    Raises:
        LookupError: it is not there, or lies where somebody works on it.
    """
    spec = importlib.util.find_spec(name)
    # A package that somebody works on changes without its folder showing it.
    places = spec.submodule_search_locations if spec else None
    if not places or Path(places[0]).parent.name not in _INSTALLED:
        raise LookupError(name)
    return Path(places[0])


def _stamp(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


def _version() -> str:
    """Return the file that says which version of transferpipe this is."""
    return (_HERE / "__init__.py").read_text(encoding="utf-8")


def _own_code() -> Iterator[tuple[str, int, int]]:
    """Yield what tells of a checkout whether it builds, and looks at what was built, as it did."""
    for part in _OWN:
        # A checkout keeps its version while its code changes.
        for folder, _, names in os.walk(_HERE / part):
            yield from (_stamp(Path(folder, name)) for name in sorted(names) if name.endswith(".py"))


def _settings_of_keras() -> Iterator[str | None]:
    """Yield the content of every file in which Keras may look for its settings."""
    homes = (os.environ.get("KERAS_HOME"), "~/.keras", "/tmp/.keras")  # noqa: S108 - this is where Keras looks
    for home in homes:
        path = Path(home).expanduser() / "keras.json" if home else None
        # By content: it is small, and decides dtypes and the order of axes.
        yield path.read_text(encoding="utf-8") if path is not None and path.is_file() else None


def _processor() -> Iterator[str]:
    """Yield what the processor can do: with wider registers, sums are made in another order."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                # All processors of a machine are alike: the first says what they can do.
                if not line.strip():
                    return
                if line.startswith(_OF_PROCESSOR):
                    yield line
