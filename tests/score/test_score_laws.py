"""Our scores that train no model, under the laws that hold for every score; those that do would take too long."""

import pytest

keras = pytest.importorskip("keras")
from score_models import blobs, mlp  # noqa: E402  # which needs Keras

from transferpipe import score  # noqa: E402
from transferpipe.testing import ScoreLaws  # noqa: E402

SMALL = {"data": blobs()}
NO_DATA = {"data": 3}
ARGUMENTS = {
    "evaluate": (SMALL, [NO_DATA, {"metric": "accurate"}]),
    "logme": (SMALL, [NO_DATA, {"layer": "nowhere"}]),
    "h_score": (SMALL, [NO_DATA, {"layer": "nowhere"}]),
    "linear_probe": (SMALL, [NO_DATA, {"layer": "nowhere"}]),
}


def laws_of(name):
    """Return the laws of the score called `name`, as a class that pytest collects."""
    arguments, refused = ARGUMENTS[name]
    facts = {
        "score": staticmethod(getattr(score, name)),
        "refused": refused,
        "model": lambda self: mlp(),
        "arguments": lambda self: arguments,
    }
    return type(f"Test_{name}", (ScoreLaws,), facts)


globals().update({f"Test_{name}": laws_of(name) for name in ARGUMENTS})
