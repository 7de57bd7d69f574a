"""Which places the outputs of an operation that cuts its value are, by NumPy."""

import numpy as np
import pytest

from transferpipe.weights.keras.layer_settings import NEUTRAL
from transferpipe.weights.keras.selected_places import describe_output
from transferpipe.weights.keras.taken import taken_by
from transferpipe.weights.network import Node


@pytest.mark.parametrize("cuts", [1, 2, 3, 7, [2], [1, 3], [0, 4], [-2], [3, 1], [2, 99]])
def test_a_part_of_a_split_is_what_numpy_cuts(cuts):
    shape = (None, 7, 4)
    parts = (np.array_split if isinstance(cuts, int) else np.split)(np.arange(7), cuts)
    node = Node("s", "Split", inputs=("a",), input_shapes=(shape,))
    settings = {"axis": 1, "indices_or_sections": cuts}
    for output, part in enumerate(parts):
        found = describe_output("split", settings, output, node)
        if len(part) == 7:
            assert found.kind == NEUTRAL
        elif not len(part):
            assert found is None
        else:
            assert tuple(taken_by(found, shape).places[1]) == tuple(part)
    assert describe_output("split", settings, len(parts), node) is None
    assert describe_output("split", {**settings, "indices_or_sections": [1, "2"]}, 1, node) is None


def test_of_many_parts_each_is_found_without_looking_at_all():
    class Counted(list):
        read = 0

        def __getitem__(self, index):
            Counted.read += 1
            return super().__getitem__(index)

        def __iter__(self):
            Counted.read += len(self)
            return super().__iter__()

    cuts = Counted(range(1, 1000))
    node = Node("s", "Split", inputs=("a",), input_shapes=((None, 1000, 4),))
    for output in range(1000):
        describe_output("split", {"axis": 1, "indices_or_sections": cuts}, output, node)
    assert Counted.read <= 2 * 1000
