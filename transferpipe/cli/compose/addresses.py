"""Addresses of this machine and of private networks, which no recipe may have asked without a word of the user."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from transferpipe.errors import Problem, UnsafeError
from transferpipe.fetch.address import SCHEMES, Word, is_private, refuse_private, scheme_of

_WEB = ("http", "https")


def check_addresses(data: Mapping[str, Any], overrides: Sequence[str], trusted: Collection[str] = ()) -> None:
    """Refuse addresses that only somebody at this machine can reach, unless the command line has them or their host.

    A recipe is data from anybody, and a request may be all that its author wants: services behind a firewall answer
    without a password, that of a cloud's machine with its keys.

    Args:
        data: the composed recipe.
        overrides: those of the command line.
        trusted: what ``--trust`` says.

    Raises:
        UnsafeError: there is such an address.
    """
    problems, word = list[Problem](), Word(tuple(overrides), trusted)
    for where, text in _texts(data, ""):
        scheme = scheme_of(text)
        if scheme not in SCHEMES or scheme not in _WEB:
            continue
        try:
            host = urlsplit(text).hostname
        except ValueError:  # not an address: whoever opens it says so
            continue
        if host and is_private(host) and not word.allows(host, text):
            problems.append(refuse_private(where, host))
    if problems:
        raise UnsafeError(problems)


def _texts(data: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(data, str):
        yield where, data
    inner = data.items() if isinstance(data, Mapping) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        yield from _texts(value, f"{where}.{key}".lstrip("."))
