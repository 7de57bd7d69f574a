"""Packages that only some tasks need: what installs each, and what is said where one is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from transferpipe.errors import MissingPackageError, Problem

EXTRAS: Mapping[str, str] = {
    "hydra_plugins.hydra_joblib_launcher": "joblib",
    "hydra_plugins.hydra_submitit_launcher": "slurm",
    "hydra_plugins.hydra_ray_launcher": "ray",
    "optuna": "optuna",
    "onnxruntime": "onnxruntime",
    "tensorstore": "orbax",
    "mlflow": "mlflow",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "pandas": "pandas",
    "huggingface_hub": "hub",
    "kagglehub": "kaggle",
    "s3fs": "cloud",
    "gcsfs": "cloud",
    "tensorflow": "tensorflow",
    "keras": "tensorflow",
    "jax": "jax",
    "torch": "torch",
    "matplotlib": "plots",
}
"""The extra of transferpipe that brings a package, by the name under which the package is imported."""


def missing_package(
    where: str, what: str, package: str, instead: str = "", error: ImportError | None = None
) -> MissingPackageError:
    """Return the error that says that `package` is not installed, with the line that installs it.

    Args:
        where: the place in the recipe, or the file, that needs it.
        what: what needs it, as the subject of a sentence.
        package: the name under which it is imported.
        instead: what can be done without it.
        error: what importing it raised, if that was tried: it may be there and lack something itself.
    """
    name = package.rpartition(".")[2]
    is_broken = error is not None and is_installed(package)
    state = f"cannot be imported: {error}" if is_broken else "is not installed"
    install = install_line(package)
    fix = f"{install}, or {instead}" if instead else install
    return MissingPackageError(Problem(where, f"{what} needs the package {name}, which {state}", fix))


def is_installed(package: str) -> bool:
    """Tell whether `package` can be found, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # what holds it is missing, or it was made without a specification
        return False


def install_line(package: str) -> str:
    """Return the command that installs `package`.

    >>> install_line("tensorstore")
    "pip install 'transferpipe[orbax]'"
    >>> install_line("my_package")
    'pip install my-package'
    """
    extra = EXTRAS.get(package)
    return f"pip install 'transferpipe[{extra}]'" if extra else f"pip install {package.replace('_', '-')}"
