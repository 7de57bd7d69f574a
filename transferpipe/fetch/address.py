"""Addresses of files elsewhere: which there are, and what is refused before anything is asked of a server."""

from __future__ import annotations

import importlib
import ipaddress
import re
import socket
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import ModuleType
from urllib.parse import parse_qsl, unquote, urlsplit

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.packages import missing_package
from transferpipe.text.credentials import SECRETS

# Scheme: the package that reads it; None where Python itself does.
SCHEMES: Mapping[str, str | None] = {
    "https": None,
    "http": None,
    "hf": "huggingface_hub",
    "kaggle": "kagglehub",
    "s3": "s3fs",
    "gs": "gcsfs",
}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# Other paths that are written like an address and are none.
_NOT_REMOTE = frozenset({"pkg", "live"})
# Where an address names a bucket and an object in it, whose name is a text, with no folders to go up in.
_STORES = frozenset({"s3", "gs"})
_BUCKET = re.compile(r"[A-Za-z0-9](?:[._-]?[A-Za-z0-9_-])*")
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_PRIVATE_NAMES = (".localhost", ".local", ".internal", ".lan", ".intranet", ".private", ".corp", ".home", ".home.arpa")
# Networks that Python takes for the public one: NAT64 of a network's own, site-local, multicast, names for translators.
_NOT_PUBLIC = tuple(map(ipaddress.ip_network, ("64:ff9b:1::/48", "fec0::/10", "ff00::/8", "224.0.0.0/4", "5f00::/16")))
# Networks of numbers that have one of IPv4 in them, and how many bits stand behind it (RFC 4291, 6052, 7915, 3056).
_OF_IPV4 = {"::/96": 0, "::ffff:0:0/96": 0, "::ffff:0:0:0/96": 0, "64:ff9b::/96": 0, "2002::/16": 80}
_IPV4_INSIDE = {ipaddress.IPv6Network(network): bits for network, bits in _OF_IPV4.items()}
_Number = ipaddress.IPv4Address | ipaddress.IPv6Address
_FETCH_YOURSELF = "download the file yourself and name the copy"


def scheme_of(text: str) -> str | None:
    """Return the scheme of an address, in small letters; None for any other path.

    >>> scheme_of("HTTPS://example.org/a.h5"), scheme_of("~/a.h5"), scheme_of("pkg://package/a.h5")
    ('https', None, None)
    """
    match = _SCHEME.match(text)
    scheme = match[1].lower() if match else None
    return None if scheme in _NOT_REMOTE else scheme


def check_address(text: str, where: str) -> None:
    """Refuse what must not be asked for. Messages never repeat a credential.

    Raises:
        FileError: there is no such scheme, or no host, bucket or object.
        UnsafeError: credentials in the address, dots that lead elsewhere, or plain http to another machine.
    """
    scheme = scheme_of(text)
    if scheme not in SCHEMES:
        fix = f"these can be read: {', '.join(f'{s}://' for s in SCHEMES)}, pkg:// and plain paths"
        raise FileError(Problem(where, f"{scheme}:// addresses cannot be read", fix))
    try:
        text.encode()  # refuses what is not UTF-8 on the command line
        parts = urlsplit(text)
        host, query = parts.hostname, parse_qsl(parts.query)
        _ = parts.port  # refuses what is no number
    except ValueError as error:
        raise FileError(Problem(where, f"is not an address: {error}", "check how it is written")) from error
    if "@" in parts.netloc:
        what = f"the {scheme}:// address holds a user name or password, which a recipe and its records would spread"
        raise UnsafeError(Problem(where, what, f"take it out; where one is needed, {_FETCH_YOURSELF}"))
    if found := [key for key, _ in query if key.lower() in SECRETS]:
        what = f"the address of {host} holds the credential {found[0]!r}, which a recipe and its records would spread"
        raise UnsafeError(Problem(where, what, _FETCH_YOURSELF))
    if not host:
        raise FileError(Problem(where, f"{text!r} names no host, repository or bucket", "check how it is written"))
    if scheme in _STORES:
        _check_object(parts.netloc, text.partition("://")[2].partition("/")[2], text, where)
    if scheme == "http" and not is_local(host):
        what = f"{host} would be reached over plain http, which can be changed on the way"
        raise UnsafeError(Problem(where, what, "write https://"))


def _check_object(bucket: str, name: str, text: str, where: str) -> None:
    """Refuse what no object is called, before the packages of object stores make something of it."""
    if not _BUCKET.fullmatch(bucket) or not name.strip("/"):
        raise FileError(Problem(where, f"{text!r} names no object in a bucket", "check how it is written"))
    if found := [part for part in name.split("/") if part in (".", "..")]:
        raise UnsafeError(Problem(where, f"{text!r} has {found[0]!r} in an object's name", _FETCH_YOURSELF))


def is_local(host: str | None) -> bool:
    """Tell whether `host` is this machine."""
    return host in _LOCAL_HOSTS


def is_private(host: str | None) -> bool:
    """Tell whether `host` is this machine, or one of a network that is not the public one, as far as its name shows.

    Numbers may be written as the C library reads them: 127.1, 0x7f000001, 2130706433 (RFC 6943, section 3.1.1).
    Names are those of RFC 6761, 6762, 8375 and 9476, and those without a dot.

    >>> is_private("127.1"), is_private("169.254.169.254"), is_private("printer.local"), is_private("8.8.8.8")
    (True, True, True, False)
    """
    # As names are looked up: %31 is 1, and so is \uff11 (RFC 5895), which no parser of numbers takes for one.
    name = unicodedata.normalize("NFKC", unquote(host or "")).rstrip(".").lower()
    try:
        number = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        try:
            number = ipaddress.ip_address(socket.inet_aton(name))
        except (OSError, ValueError):
            return "." not in name or name.endswith(_PRIVATE_NAMES)
    return any(not n.is_global or any(n in network for network in _NOT_PUBLIC) for n in _meant_by(number))


def _meant_by(number: _Number) -> Iterator[_Number]:
    """Yield a number, or the one of IPv4 inside of it: ::ffff:127.0.0.1 is this machine too."""
    inside = [bits for network, bits in _IPV4_INSIDE.items() if number in network]
    if not inside or int(number) < 2:  # :: and ::1, which have none
        yield number
    for bits in inside:
        yield ipaddress.IPv4Address(int(number) >> bits & 0xFFFFFFFF)


@dataclass(frozen=True)
class Word:
    """What the command line says of the machines that may be asked.

    Attributes:
        typed: its words.
        hosts: what ``--trust`` names.
    """

    typed: tuple[str, ...]
    hosts: Collection[str]

    def allows(self, host: str, text: str) -> bool:
        """Tell whether a host may be asked for an address, wherever it is."""
        return host in self.hosts or any(text in word for word in self.typed)


# None where a program asks, which names the addresses itself.
_SAID: ContextVar[Word | None] = ContextVar("said", default=None)


@contextmanager
def word_given(typed: tuple[str, ...], hosts: Collection[str]) -> Iterator[None]:
    """Ask private hosts only with a word of the command line, as long as the context lasts."""
    token = _SAID.set(Word(typed, hosts))
    try:
        yield
    finally:
        _SAID.reset(token)


def refuse_private(where: str, host: str, number: str = "") -> Problem:
    """Return what is wrong with an address of a private host, which may be so by the number that it has."""
    stands = f"{host} has the address {number}: it" if number else host
    what = f"{stands} is this machine, or one of a private network, which a recipe cannot have asked"
    return Problem(where, what, f"if you want that, allow it on the command line: --trust {host}")


def check_private(text: str, where: str) -> None:
    """Refuse an address of this machine or a private network unless the command line has a word for it.

    Raises:
        UnsafeError: it is such an address.
    """
    word, host = _SAID.get(), urlsplit(text).hostname
    if word is not None and host and is_private(host) and not word.allows(host, text):
        raise UnsafeError(refuse_private(where, host))


def check_number(host: str, number: str, text: str, where: str) -> None:
    """Refuse a private address that a host turns out to have whose name shows none, before anything is sent to it.

    Args:
        host: its name.
        number: that address.
        text: the address that was asked for.
        where: the recipe key that names it.

    Raises:
        UnsafeError: it has such an address, and the command line has no word for it.
    """
    word = _SAID.get()
    if word is not None and is_private(number) and not is_private(host) and not word.allows(host, text):
        raise UnsafeError(refuse_private(where, host, number))


def check_redirect(old: str, new: str, where: str) -> None:
    """Refuse to be sent from a server to anything but a server that is asked as safely.

    Raises:
        UnsafeError: another scheme, less protection, or from another machine to this one.
    """
    to, host = scheme_of(new) or urlsplit(new).scheme, urlsplit(new).hostname
    from_here = is_local(urlsplit(old).hostname)
    if from_here and to == "http" and is_local(host):
        return
    if to != "https" or (is_private(host) and not from_here):
        what = f"{urlsplit(old).hostname} redirects to {to}://{host or ''}, which is not followed"
        raise UnsafeError(Problem(where, what, _FETCH_YOURSELF))


def import_package(scheme: str, where: str) -> ModuleType:
    """Return the package that reads `scheme`.

    Raises:
        MissingPackageError: it is not installed.
    """
    package = SCHEMES[scheme]
    assert package is not None
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise missing_package(where, f"{scheme}://", package, error=error) from error
