"""The HTTP client of a host: connections pooled, the system's roots, redirects not
followed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import heapq
import itertools
import os
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import urllib3
from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util import SKIP_HEADER

from .errors import NotConfiguredError, Problem

RESPONSE_LIMIT = (1 << 20) + 1
"""So many bytes of a response's body are read: one more than the component takes, so
that it sees that there are too many."""

POOL_SIZE = 8

_UNROUTABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH}

ErrorCode = tuple[str, object]
"""A case of ``wasi:http``'s ``error-code`` with its payload."""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: list[tuple[str, bytes]]
    body: bytes


class HttpError(Exception):
    """Why there is no response."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code[0])
        self.code = code


def _tls_context() -> ssl.SSLContext:
    if sys.platform == "linux":
        return ssl.create_default_context()
    # There Python's own OpenSSL does not know the system's roots.
    import truststore

    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class _Watchdog:
    """Breaks off what takes too long altogether, however often something comes: a time
    limit of the operating system's holds for each read alone."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._watched: list[tuple[float, int, _Watched]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def watch(self, watched: _Watched, seconds: float) -> None:
        at = time.monotonic() + seconds
        with self._lock:
            heapq.heappush(self._watched, (at, next(self._numbers), watched))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="tokenwell-watchdog", daemon=True
                )
                self._thread.start()
            elif self._watched[0][2] is watched:
                self._lock.notify()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._watched:
                    self._thread = None
                    return
                at, _, watched = self._watched[0]
                left = at - time.monotonic()
                if left > 0 and not watched.is_over:
                    self._lock.wait(left)
                    continue
                heapq.heappop(self._watched)
            watched.break_off()


class _Watched:
    """A request under way, and the connection that it has been given."""

    def __init__(self) -> None:
        self.is_over = False
        self.is_broken_off = False
        self.connection: Any = None

    def break_off(self) -> None:
        if self.is_over:
            return
        self.is_broken_off = True
        sock = getattr(self.connection, "sock", None)
        if sock is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


_under_way = threading.local()


class _InOnePiece(HTTPConnection):
    """Sends a request, head and body, at once: in two pieces the server is woken twice."""

    _collected: list[bytes] | None = None

    def request(self, *arguments: Any, **named: Any) -> None:
        _under_way.watched.connection = self
        collected = self._collected = []
        try:
            super().request(*arguments, **named)
        finally:
            self._collected = None
        super().send(b"".join(collected))

    def send(self, data: Any) -> None:
        if self._collected is not None and isinstance(data, bytes):
            self._collected.append(data)
        else:
            super().send(data)


class _TlsConnection(_InOnePiece, HTTPSConnection):
    def connect(self) -> None:
        _under_way.watched.connection = self
        super().connect()


class _Pool(HTTPConnectionPool):
    ConnectionCls = _InOnePiece


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class HttpClient:
    """Sends requests over pooled connections, from any number of threads."""

    def __init__(self, identity: tuple[str, str] | None = None) -> None:
        self._lock = threading.Lock()
        self._identity = identity
        self._tls: ssl.SSLContext | None = None
        self._pools: urllib3.PoolManager | None = None
        self._watchdog = _Watchdog()

    def _pool(self) -> urllib3.PoolManager:
        with self._lock:
            if self._pools is None:
                # To read the system's roots takes longer than a plain request.
                context = _tls_context()
                if self._identity is not None:
                    _show(context, *self._identity)
                self._pools = urllib3.PoolManager(
                    num_pools=32, maxsize=POOL_SIZE, ssl_context=context
                )
                self._pools.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
            return self._pools

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        connect_timeout: float,
        read_timeout: float,
        total_timeout: float,
    ) -> Response:
        """Sends a request and reads the response; ``read_timeout`` holds for each
        read, ``total_timeout`` for all of it, in seconds. Raises :class:`HttpError`."""
        watched = _under_way.watched = _Watched()
        self._watchdog.watch(watched, total_timeout)
        try:
            response = self._pool().request(
                method,
                url,
                body=body or None,
                headers={"user-agent": SKIP_HEADER, **headers},
                timeout=urllib3.Timeout(connect=connect_timeout, read=read_timeout),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            try:
                content = response.read(RESPONSE_LIMIT, decode_content=False)
                while len(content) < RESPONSE_LIMIT:
                    more = response.read(RESPONSE_LIMIT - len(content), decode_content=False)
                    if not more:
                        break
                    content += more
            finally:
                if response.length_remaining or len(content) >= RESPONSE_LIMIT:
                    response.close()
                response.release_conn()
        except (exceptions.HTTPError, OSError, ValueError) as error:
            if watched.is_broken_off:
                raise HttpError(("HTTP-response-timeout", None)) from error
            raise HttpError(_code(error)) from error
        finally:
            watched.is_over = True
        if watched.is_broken_off:
            raise HttpError(("HTTP-response-timeout", None))
        return Response(
            response.status,
            [(name.lower(), value.encode("latin-1")) for name, value in response.headers.items()],
            content,
        )

    def close(self) -> None:
        with self._lock:
            if self._pools is not None:
                self._pools.clear()
                self._pools = None


def _show(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Lets a TLS client show a certificate (RFC 8705). OpenSSL reads it from files
    alone, so it is in one of the user's for that moment."""
    handle, path = tempfile.mkstemp(prefix="tokenwell-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(certificate.rstrip() + "\n" + key.rstrip() + "\n")
        context.load_cert_chain(path)
    except (ssl.SSLError, OSError) as error:
        raise NotConfiguredError(
            "the connection is not configured: client_certificate: "
            "is no PEM certificate with its private key",
            problems=(
                Problem(
                    "client_certificate",
                    "error",
                    "is no PEM certificate with its private key",
                    "name PEM files that the host can read",
                ),
            ),
        ) from error
    finally:
        os.unlink(path)


class HttpClients:
    """The HTTP clients of a host: who shows a certificate has connections of his own,
    since a pooled connection is somebody's for as long as it lives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._anonymous = HttpClient()
        self._identified: dict[str, HttpClient] = {}

    def anonymous(self) -> HttpClient:
        return self._anonymous

    def identified(self, certificate: str, key: str) -> HttpClient:
        digest = hashlib.sha256(f"{certificate}\0{key}".encode()).hexdigest()
        with self._lock:
            client = self._identified.get(digest)
            if client is None:
                client = self._identified[digest] = HttpClient((certificate, key))
            client._pool()
            return client

    def close(self) -> None:
        with self._lock:
            for client in (self._anonymous, *self._identified.values()):
                with contextlib.suppress(Exception):
                    client.close()


def _code(error: BaseException) -> ErrorCode:
    """The ``wasi:http`` error for what the client failed with: the first cause that
    says what it was."""
    seen: BaseException | None = error
    while seen is not None:
        code = _known(seen)
        if code is not None:
            return code
        seen = seen.__cause__ or seen.__context__
    return "HTTP-protocol-error", None


def _known(error: BaseException) -> ErrorCode | None:
    match error:
        case ssl.SSLCertVerificationError():
            return "TLS-certificate-error", None
        case ssl.SSLError():
            if "alert" in str(error).lower():
                return "TLS-alert-received", {"alert-id": None, "alert-message": error.reason}
            return "TLS-protocol-error", None
        case exceptions.ConnectTimeoutError():
            return "connection-timeout", None
        case exceptions.ReadTimeoutError():
            return "connection-read-timeout", None
        case exceptions.NameResolutionError():
            return "DNS-error", {"rcode": None, "info-code": None}
        case exceptions.IncompleteRead():
            return "HTTP-response-incomplete", None
        case ConnectionRefusedError():
            return "connection-refused", None
        case ConnectionError():
            return "connection-terminated", None
        case TimeoutError():
            return "connection-timeout", None
        case OSError() if error.errno in _UNROUTABLE:
            return "destination-unavailable", None
        case exceptions.LocationValueError() | exceptions.LocationParseError():
            return "HTTP-request-URI-invalid", None
    return None
