"""What the tests of deferred values share."""

import pytest


@pytest.fixture
def rare_collections():
    """Collect garbage when that is asked for: it is what is tested here."""
