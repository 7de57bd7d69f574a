"""What addresses hold that no message may repeat."""

import pytest

from transferpipe.errors import Problem, RecipeError
from transferpipe.text.credentials import hide_credentials, holds_credential


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("'https://me:pw@h/a'", "'https://***@h/a'"),
        ("https:/me:pw@h/a", "https:/***@h/a"),
        ("s3://key@bucket/a", "s3://***@bucket/a"),
        ("https://h/a?X-Amz-Signature=9f&x=1", "https://h/a?X-Amz-Signature=***&x=1"),
        ("https://h/a?x=1&TOKEN=9f", "https://h/a?x=1&TOKEN=***"),
        ("http://a:b@h/x http://c:d@h/y", "http://***@h/x http://***@h/y"),
    ],
)
def test_credentials_are_hidden(text, hidden):
    assert hide_credentials(text) == hidden
    assert holds_credential(text)
    assert hidden in str(RecipeError(Problem("source.path", f"is {text}, which is wrong", f"write {text}")))


@pytest.mark.parametrize(
    "text", ["hf://a/b@main/m.h5", "https://h/a@b", "C:/a@b", "recipe@vars: x", "a?b=c&d=token", ""]
)
def test_what_is_none_stays(text):
    assert hide_credentials(text) == text
    assert not holds_credential(text)


@pytest.mark.parametrize("part", ["a", "a.b-", "ab:", "a:/", "ab://", "?token="])
def test_long_words_are_looked_through_once(part):
    """Messages quote what a recipe says: at the square of the length, each of these would take hours."""
    text = part * (1_000_000 // len(part)) + " @ ="
    assert hide_credentials(text).endswith(" @ =")
