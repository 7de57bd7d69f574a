"""What a finished variant was made of is the same whether a recipe has a key with null or, as earlier ones, not at all."""

import pytest

from transferpipe.recipe.keys import SECTIONS
from transferpipe.sweep.identity.state import state_of
from transferpipe.sweep.variant import _write_verify

RECIPE = {
    "source": {"path": "a.npz"},
    "target": {"path": "b.npz"},
    "mapping": {"a": {"to": "x"}},
    "seed": 1,
    "score": None,
}


def test_a_key_that_earlier_recipes_did_not_have():
    assert state_of({**RECIPE, "quantize": None}) == state_of(RECIPE) != state_of({**RECIPE, "quantize": "int8"})
    verify = {"reload": False, "nonfinite": "error", "negative_variance": "error"}
    assert _write_verify({**verify, "parity": None}) == verify
    assert _write_verify({**verify, "parity": "source"}) != verify
    assert _write_verify(None) is None


@pytest.mark.parametrize("key", [k for k in SECTIONS["recipe"].values() if not k.composed], ids=lambda key: key.name)
def test_what_a_key_decides_is_what_its_row_says(key):
    changed = state_of({**RECIPE, key.name: key.example})
    if key.name == "score":  # which has a digest of its own
        assert changed["recipe"] == state_of(RECIPE)["recipe"] and changed["score"] != state_of(RECIPE)["score"]
    elif key.name not in ("source", "mapping"):
        assert (changed["recipe"] == state_of(RECIPE)["recipe"]) is key.beside
