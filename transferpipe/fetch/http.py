"""Downloading over http and https with Python's own client: no extra is needed, and no other scheme is reachable.

Why not a library: pooch keeps one file under one name and checks a digest that is known beforehand, and fsspec's cache
keeps whatever the address has at the moment. Neither keeps what a run
has read beside what the address has now, asks by ETag whether that changed, refuses a redirect from the web to this
machine or to a scheme without encryption, or takes a file that is shorter than announced for the failure that it is.
Nothing is resumed: half a download is thrown away. Where an address needs more than http (``s3://``, ``gs://``), fsspec
opens it.
"""

from __future__ import annotations

import http.client
import ssl
from email.message import Message
from functools import partial
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    getproxies,
)

from transferpipe.errors import FileError, TransferError
from transferpipe.fetch.address import check_number, check_redirect, is_local
from transferpipe.fetch.answer import Answer
from transferpipe.fetch.request import Mark, WantedFile, check_length, copy
from transferpipe.progress import Progress

# Of silence, not of the whole download: a hub may have to look for a file that nobody asked for lately.
_SECONDS = 60
# RFC 9110, 15.4.5: what was kept is still what the server has.
_UNCHANGED = 304
# RFC 9110, 15.5.2 and 15.5.4: both mean that a token is missing or may not see this file.
_REFUSED = (401, 403)
_FIXES = {404: "check the address", 410: "check the address", 429: "wait, then run again"}


def download(wanted: WantedFile, out: IO[bytes], on_progress: Progress) -> Mark | None:
    """Write the file to `out`; return what tells its version, or None if it is still the one that is known.

    Conditional requests are those of RFC 9110, section 13 (https://www.rfc-editor.org/rfc/rfc9110#section-13).

    Raises:
        FileError: not reachable, refused, or cut off.
        UnsafeError: the server redirects to somewhere that is not asked.
    """
    # Not packed on the way: the announced length, and so the check of it, is that of the file.
    headers = {"User-Agent": "transferpipe", "Accept-Encoding": "identity"}
    if wanted.known and wanted.known.etag:
        headers["If-None-Match"] = wanted.known.etag
    elif wanted.known and wanted.known.modified:
        headers["If-Modified-Since"] = wanted.known.modified
    request = Request(wanted.url, headers=headers)  # noqa: S310, the scheme was checked, and the opener has two
    try:
        with _opener(wanted).open(request, timeout=_SECONDS) as response:
            length = _length(response, wanted)
            check_length(copy(response.read, out, length, wanted, on_progress), length, wanted)
            return Mark(response.headers.get("ETag"), response.headers.get("Last-Modified"))
    except HTTPError as error:
        error.close()
        if error.code == _UNCHANGED and wanted.known:
            return None
        raise _describe_refusal(error, wanted) from error
    except (URLError, http.client.HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, ssl.SSLError):
            raise wanted.failed(f"the server cannot be trusted: {reason}", "check the address and the clock") from error
        raise wanted.unreachable(f"{type(reason).__name__}: {reason}") from error


def _describe_refusal(error: HTTPError, wanted: WantedFile) -> FileError:
    fix = _FIXES.get(error.code, "try again later")
    if error.code in _REFUSED:
        fix = "it is not public: download it with what has permission, and name the copy"
    return wanted.failed(f"the server answers {error.code} {error.reason}", fix)


def _length(response: Any, wanted: WantedFile) -> int | None:
    """Return how many bytes the server says it sends; without a word or an end, nobody could tell a part."""
    if response.status != http.client.OK:
        raise wanted.failed(f"the server answers {response.status} where 200 is needed", "check the address")
    text = response.headers.get("Content-Length")
    # http.client itself notices a chunked answer that ends early, and a pinned one is told by its digest.
    if response.chunked or (text is None and wanted.pinned):
        return None
    if text is None or not text.isascii() or not text.isdigit():
        raise wanted.failed("the server does not say how long the file is", "pin it: add sha256:")
    return int(text)


def _opener(wanted: WantedFile) -> OpenerDirector:
    # Not `build_opener`, which would open file: and ftp: as well.
    opener = OpenerDirector()
    handlers = [_Connections(wanted), HTTPDefaultErrorHandler(), HTTPErrorProcessor(), _Redirects(wanted)]
    # A proxy would look for this machine's server on its own.
    if not is_local(urlsplit(wanted.url).hostname):
        handlers.append(ProxyHandler())
    for handler in handlers:
        opener.add_handler(handler)
    return opener


class _Connection(http.client.HTTPConnection):
    """A connection that looks whom it has reached before anything is sent."""

    response_class = Answer
    wanted: WantedFile
    named: str

    def connect(self) -> None:
        super().connect()
        if getproxies() and self.host.lower() != self.named:  # a proxy, which looks for the server on its own
            return
        check_number(self.named, self.sock.getpeername()[0], self.wanted.url, self.wanted.where)


class _SafeConnection(http.client.HTTPSConnection, _Connection):
    """The same with TLS, which begins after the look."""


def _connect(kind: type[_Connection], wanted: WantedFile, asked: Request, host: str, **settings: Any) -> _Connection:
    connection = kind(host, **settings)
    connection.wanted, connection.named = wanted, unquote(urlsplit(asked.full_url).hostname or "")
    return connection


class _Connections(HTTPSHandler, HTTPHandler):
    """Opens connections of both kinds."""

    def __init__(self, wanted: WantedFile) -> None:
        super().__init__()
        self._wanted = wanted

    def http_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_connect, _Connection, self._wanted, req), req)

    def https_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_connect, _SafeConnection, self._wanted, req), req)


class _Redirects(HTTPRedirectHandler):
    """Follows redirects only to where a recipe itself may point."""

    def __init__(self, wanted: WantedFile) -> None:
        self._wanted = wanted

    def http_error_302(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message) -> Any:
        try:
            self._check(req.full_url, code, headers.get("Location"))
        except TransferError:
            fp.close()
            raise
        return super().http_error_302(req, fp, code, msg, headers)  # type: ignore[arg-type]

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def _check(self, old: str, code: int, new: str | None) -> None:
        if not new:
            raise self._wanted.failed(f"the server answers {code} without an address", "check the address")
        try:
            check_redirect(old, urljoin(old, new), self._wanted.where)
        except ValueError as error:
            what = f"the server redirects to an invalid address: {error}"
            raise self._wanted.failed(what, "check the address") from error
