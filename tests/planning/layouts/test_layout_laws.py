"""Our layouts under the laws that hold for every layout."""

import pytest

from transferpipe.planning.layouts import layout_called
from transferpipe.recipe.layouts import LAYOUTS
from transferpipe.testing import LayoutLaws

CLASSES = {name: type(layout_called(name)) for name in LAYOUTS}
globals().update({f"Test_{name}": type(f"Test_{name}", (LayoutLaws,), {"layout": CLASSES[name]}) for name in CLASSES})


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_called_what_the_table_calls_it(name):
    assert CLASSES[name].name == name
