"""From what a user names to the folder of a SavedModel."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

MODEL = "saved_model.pb"
TEXT_MODEL = "saved_model.pbtxt"
KERAS_METADATA = "keras_metadata.pb"
VARIABLES = Path("variables", "variables.index")


def is_saved_model(names: Collection[str]) -> bool:
    """Tell whether a folder with files of these names is a SavedModel."""
    return MODEL in names or TEXT_MODEL in names


def is_model_file(path: Path) -> bool:
    """Tell whether `path` is the file that makes its folder a SavedModel."""
    return is_saved_model([path.name]) and (path.parent / "variables").is_dir()
