"""Files that Keras has just saved are sound: tests need no child of the process to look at them first.

Forking a process in which TensorFlow and the models of all tests live takes a tenth of a second for each file. A file
that anything else wrote, or changed by a bit, is another content, and is looked at in a child as ever.
"""

import hashlib
import importlib
from pathlib import Path

from transferpipe.files.stamp import stamps_of
from transferpipe.recent import Recent
from transferpipe.weights.formats.hdf5 import guarded

_SAVING = {
    "keras.src.saving.saving_lib": ("save_model", "save_weights_only"),
    "keras.src.legacy.saving.legacy_h5_format": ("save_model_to_hdf5",),
}
# What tests save is small; a larger file costs more to digest than a child does.
_MOST_BYTES = 4 << 20


class _KnownOrSound(Recent):
    """Knows, besides the files that were looked at, those with a content that Keras saved."""

    def __init__(self, most):
        super().__init__(most)
        self.saved = set()

    def note(self, path):
        if digest := _digest(path):
            self.saved.add(digest)

    def get(self, key):
        return stamps_of([key]) if _digest(key) in self.saved else super().get(key)


def _digest(path):
    try:
        path = Path(path)
        return hashlib.sha1(path.read_bytes()).digest() if path.stat().st_size <= _MOST_BYTES else None
    except (OSError, TypeError):  # a folder, or an open file
        return None


def trust_what_keras_saves():
    """Let the files that Keras saves in this process from now on be opened without a child."""
    known = guarded._KNOWN = _KnownOrSound(64)
    for module, names in _SAVING.items():
        for name in names:
            _note_after(importlib.import_module(module), name, known)


def _note_after(module, name, known):
    save = getattr(module, name)

    def saving(model, filepath, *args, **keys):
        result = save(model, filepath, *args, **keys)
        known.note(filepath)
        return result

    setattr(module, name, saving)
