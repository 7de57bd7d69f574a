"""Builders' calls as text: what they stand for, and what is refused."""

import pytest

from transferpipe.errors import RecipeError
from transferpipe.recipe.calls import parse_call


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("{**{'x': 1}}", "a mapping has ** in it: write its keys out"),
        ("{[1]: 2}", "unhashable type: 'list'"),
        ("{1, 2}", "{1, 2} is not a value that a recipe can have"),
    ],
)
def test_a_mapping_that_no_recipe_can_hold_is_refused(argument, reason):
    with pytest.raises(RecipeError) as caught:
        parse_call(f"my.build(a={argument})", "A")
    assert reason in caught.value.problems[0].what


def test_keys_that_are_written_out_are_taken():
    assert parse_call("my.build(a={'x': 1})", "A") == {"_target_": "my.build", "a": {"x": 1}}
