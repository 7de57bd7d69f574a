"""Our writers under the laws that hold for every writer, read back by other libraries."""

import dataclasses
import json

import h5py
import numpy as np
import pytest
from hand_made import config_of

from transferpipe.recipe.outputs import OUTPUTS
from transferpipe.testing import WriterLaws
from transferpipe.testing.writers import VALUES, content_of
from transferpipe.weights.file_source import SavedGroup

IN_LAYERS = {name: value for name, value in VALUES.items() if "/" in name}


class TestNpz(WriterLaws):
    suffix = ".npz"

    def read(self, path):
        with np.load(path) as archive:
            return {name: archive[name] for name in archive}


class TestSafetensors(WriterLaws):
    suffix = ".safetensors"

    def read(self, path):
        return pytest.importorskip("safetensors.numpy").load_file(path)


class InGroups(WriterLaws):
    """Those that lay weights out as Keras does: a group a layer, and a number a weight."""

    is_placed = True
    values = IN_LAYERS

    def content(self, values, segments=None):
        layers = {}
        for name in values:
            layers.setdefault(name.rpartition("/")[0], []).append(name)
        groups = tuple(
            SavedGroup(f"layers/{layer}", layer, tuple((str(k), name) for k, name in enumerate(names)))
            for layer, names in layers.items()
        )
        return dataclasses.replace(content_of(values, segments), groups=groups, config=json.dumps(config_of([])))

    def read(self, path):
        found = {}
        with h5py.File(self.opened(path)) as file:
            file.visititems(
                lambda place, item: found.update({place: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        names = {"first": ("kernel", "bias"), "conv": ("kernel",), "a": ("kernel", "scalar"), "b": ("empty",)}
        names["a"] = ("scalar",) if "layers/b/vars/0" in found else ("kernel",)
        return {f"{p.split('/')[1]}/{names[p.split('/')[1]][int(p[-1])]}": value for p, value in found.items()}

    def opened(self, path):
        return path


class TestWeightsH5(InGroups):
    suffix = ".weights.h5"


class TestKerasArchive(InGroups):
    suffix = ".keras"

    def opened(self, path):
        import io
        import zipfile

        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            return io.BytesIO(archive.read("model.weights.h5"))


def test_every_output_that_streams_is_tried():
    tried = {laws.suffix for laws in (TestNpz, TestSafetensors, TestWeightsH5, TestKerasArchive)}
    assert tried == {output.suffix for output in OUTPUTS if output.streams}
