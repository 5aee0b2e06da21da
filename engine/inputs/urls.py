"""Fetch images over HTTP, within limits of size and time."""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import IO, Any
from urllib.parse import urlsplit

from ..errors import ExecutionError, InputError, PnpOvssError, reason

MAX_BYTES = 100_000_000
SECONDS = 30.0
_CHUNK = 1 << 16
_ITSELF = "fetch it yourself, and give its bytes"


def fetch(url: str, *, most_bytes: int = MAX_BYTES, seconds: float = SECONDS) -> bytes:
    """Fetch what a URL names; redirects are followed, to HTTP and HTTPS only.

    Args:
        url: address that begins with http:// or https://. It may be any that this machine reaches.
        most_bytes: limit of the size.
        seconds: limit of the time from the look-up of the host to the last byte.

    Raises:
        InputError: the URL is none, or names nothing, or something larger.
        ExecutionError: the host cannot be reached, fails, or takes too long.
    """
    _check(url)
    connections = _Connections()
    future: Future[bytes] = Future()

    def work() -> None:
        try:
            future.set_result(_fetch(url, most_bytes, seconds, connections))
        except BaseException as error:
            future.set_exception(error)

    # On a thread, since nothing can interrupt the look-up of a host, nor a server that drips.
    thread = threading.Thread(target=work, name="pnp-ovss-fetch", daemon=True)
    try:
        thread.start()
        if wait([future], seconds).not_done:
            raise _too_slow(url, seconds)
        return future.result()
    except PnpOvssError:
        raise
    except Exception as error:
        raise _failed(url, error, seconds) from error
    finally:
        connections.close()


class _Connections:
    """The sockets of one fetch, so that another thread can end it."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._closed = False
        self._lock = threading.Lock()

    def add(self, sock: socket.socket) -> None:
        with self._lock:
            self._sockets.append(sock)
            if self._closed:
                _shut(sock)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for sock in self._sockets:
                _shut(sock)


def _shut(sock: socket.socket) -> None:
    """Wake whoever waits for a socket; TLS has no say in it."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _check(url: str) -> None:
    """Refuse what is no plain URL of HTTP."""
    if "@" in re.split(r"[/?#]", url.partition("//")[2])[0]:  # with a password, so it is not shown
        raise InputError("a user name stands before the host of a URL", _ITSELF)
    if any(not "!" <= letter <= "~" for letter in url):
        raise InputError(
            f"URL {url!r} has a space or a letter that is not ASCII",
            "write it percent-encoded, and its host in punycode",
        )
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"URL '{url}' is none: {reason(error)}", "check it") from error
    if parts.scheme not in ("http", "https") or not host:
        raise InputError(f"URL '{url}' is no address of HTTP", "begin it with https:// and a host")
    if any(len(label) not in range(1, 64) for label in host.removesuffix(".").split(".")):
        raise InputError(f"URL '{url}' has a host with an empty or long part", "check it")


def _fetch(url: str, most_bytes: int, seconds: float, connections: _Connections) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "pnp-ovss", "Accept": "image/*"})
    with _opener(connections).open(request, timeout=seconds) as response:
        taken = io.BytesIO()
        while part := response.read(_CHUNK):
            taken.write(part)
            if taken.tell() > most_bytes:
                raise InputError(
                    f"'{url}' is larger than {most_bytes / 1e6:g} MB", "give a smaller image"
                )
        if response.length:
            raise ExecutionError(f"'{url}' ended {response.length} bytes early", "try again")
        return taken.getvalue()


def _opener(connections: _Connections) -> urllib.request.OpenerDirector:
    """An opener for HTTP alone: the usual one reads files, FTP and data URLs as well."""

    def registering(kind: type[http.client.HTTPConnection]) -> Callable[..., Any]:
        class Connection(kind):
            def connect(self) -> None:
                super().connect()
                connections.add(self.sock)

        return Connection

    class Plain(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(registering(http.client.HTTPConnection), req)

    class Secure(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(registering(http.client.HTTPSConnection), req)

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        Plain(),
        Secure(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        _check(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _too_slow(url: str, seconds: float) -> ExecutionError:
    return ExecutionError(f"'{url}' was not there after {seconds:g} s", f"try again, or {_ITSELF}")


def _failed(url: str, error: Exception, seconds: float) -> PnpOvssError:
    """Tell what is wrong with a URL from what is wrong with its host."""
    if isinstance(error, urllib.error.HTTPError):
        with error:
            said = " ".join(str(error.reason).split())
            what = f"'{url}' cannot be fetched: HTTP {error.code} {said}"
        if error.code < 500:
            return InputError(what, f"check it, or {_ITSELF}")
        return ExecutionError(what, "try again later")
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return _too_slow(url, seconds)
    what = f"'{url}' cannot be fetched: {reason(cause) if isinstance(cause, Exception) else cause}"
    if isinstance(cause, socket.gaierror | UnicodeError):
        return InputError(what, "check the name of its host, and the network")
    return ExecutionError(what, f"check the URL and the network, or {_ITSELF}")
