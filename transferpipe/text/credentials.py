"""Passwords and tokens in addresses: found in any text, and hidden before that is shown or kept."""

from __future__ import annotations

import re

# What presigned addresses and download links carry in place of a password.
SECRETS = frozenset({"x-amz-signature", "x-goog-signature", "signature", "sig", "token", "access_token", "api_key"})
"""What a query calls them, in small letters."""
# One slash where the address was taken for a path; a single letter before it is a drive. Of the scheme two characters
# are enough: looking for its beginning, from each character of a long word, would take the square of its length.
_USER = re.compile(r"([\w+.-]{2}:/{1,2})[^/?#\s\"'\\]*@")
_IN_QUERY = re.compile(rf"([?&](?:{'|'.join(sorted(SECRETS))})=)[^&\s\"'\\]+", re.IGNORECASE)


def hide_credentials(text: str) -> str:
    """Return `text` without what addresses in it hold of user names, passwords, tokens and signatures.

    >>> hide_credentials("source.path=https://me:secret@example.com/m.h5?a=1&token=9f")
    'source.path=https://***@example.com/m.h5?a=1&token=***'
    """
    # Nearly no text has one of these: messages of thousands of problems are written quickly.
    if "@" in text:
        text = _USER.sub(r"\1***@", text)
    return _IN_QUERY.sub(r"\1***", text) if "=" in text else text


def holds_credential(text: str) -> bool:
    """Tell whether an address in `text` holds a user name, password, token or signature."""
    return _USER.search(text) is not None or _IN_QUERY.search(text) is not None
