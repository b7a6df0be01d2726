"""The HTTP client of a host: HTTP/1.1 over kept connections, the system's roots, redirects
not followed, nothing sent twice."""

from __future__ import annotations

import errno
import hashlib
import os
import select
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import h11

from ._egress import Origin, origin
from ._trust import Replaced, Trust
from ._workers import Workers
from .errors import NotConfiguredError, Problem

T = TypeVar("T")

RESPONSE_LIMIT = (1 << 20) + 1
"""So many bytes of a response's body are read: one more than the component takes, so
that it sees that there are too many."""

HEAD_LIMIT = 64 << 10
"""The longest head of a response, in bytes."""
IDLE_LIMIT = 64
"""So many connections are kept for later requests; of more, the oldest are closed."""
IDLE_SECONDS = 60.0
"""How long one is kept."""

CHUNK = 1 << 16

_UNROUTABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH}

ErrorCode = tuple[str, object]
"""A case of ``wasi:http``'s ``error-code`` with its payload."""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: list[tuple[str, bytes]]
    body: bytes


class HttpError(Exception):
    """Why there is no response. ``refusal`` is in the host's own words, where it was the
    host that did not go on."""

    def __init__(self, code: ErrorCode, refusal: str | None = None) -> None:
        super().__init__(code[0])
        self.code = code
        self.refusal = refusal


def _tls_context() -> ssl.SSLContext:
    if sys.platform == "linux":
        return ssl.create_default_context()
    # There Python's own OpenSSL does not know the system's roots.
    import truststore

    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _unjudged_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class _Deadline:
    """When an exchange has to be over, however often something comes: a time limit of a
    socket's holds for each read alone."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def is_over(self) -> bool:
        return time.monotonic() >= self._at

    def within(self, seconds: float) -> float:
        """So many seconds, or what is left where that is less."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return min(seconds, left)


class _Line:
    """A connection to a server, for one exchange at a time."""

    def __init__(self, at: Origin, sock: socket.socket) -> None:
        self.at = at
        self.rested = 0.0
        self._sock = sock
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
        # Something can be read from an idle connection when the server has closed it.
        self._reading = select.poll()
        self._reading.register(sock, select.POLLIN)

    def is_alive(self) -> bool:
        return time.monotonic() - self.rested < IDLE_SECONDS and not self._reading.poll(0)

    def exchange(
        self, request: h11.Request, body: bytes, read_timeout: float, deadline: _Deadline
    ) -> Response:
        """Sends a request and reads the response."""
        sock, http = self._sock, self._http
        # In one piece: of two the server would be woken twice.
        pieces = [http.send(request), http.send(h11.Data(body)), http.send(h11.EndOfMessage())]
        sock.settimeout(deadline.within(read_timeout))
        sock.sendall(b"".join(filter(None, pieces)))
        head: h11.Response | None = None
        content = bytearray()
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                sock.settimeout(deadline.within(read_timeout))
                received = sock.recv(CHUNK)
                if not received and head is None:
                    raise ConnectionResetError("the server closed the connection")
                http.receive_data(received)
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                content += event.data
                if len(content) >= RESPONSE_LIMIT:
                    break
            elif not isinstance(event, h11.InformationalResponse):
                break
        if head is None:
            raise h11.RemoteProtocolError("there is no response")
        headers = [(name.decode("ascii"), value) for name, value in head.headers]
        return Response(head.status_code, headers, bytes(content[:RESPONSE_LIMIT]))

    def rest(self) -> bool:
        """Whether another exchange can follow."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        if self._http.trailing_data[0]:
            # It would be taken for the answer to the next request.
            return False
        self._http.start_next_cycle()
        self.rested = time.monotonic()
        return True

    def close(self) -> None:
        self._sock.close()


class HttpClient:
    """Sends requests over kept connections, from any number of threads. With an identity it
    shows that certificate; with trust, it holds servers to how they were first met."""

    def __init__(
        self, identity: tuple[str, str] | None = None, trust: Trust | None = None
    ) -> None:
        self._lock = threading.Lock()
        self._lookups = Workers("tokenwell-lookup")
        self._trust = trust
        self._identity = identity
        self._system: ssl.SSLContext | None = None
        self._unjudged: ssl.SSLContext | None = None
        self._idle: list[_Line] = []
        self._closed = False
        if identity is not None:
            # Whether the files are any good is told now.
            self._contexts()

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
        deadline = _Deadline(total_timeout)
        at = origin(url)
        if at is None:
            raise HttpError(("HTTP-request-URI-invalid", None))
        try:
            request = _request(method, url, headers, body)
        except (h11.LocalProtocolError, ValueError) as error:
            raise HttpError(("HTTP-request-URI-invalid", None)) from error
        line = self._take(at) or self._connect(at, connect_timeout, deadline)
        is_kept = False
        try:
            response = line.exchange(request, body, read_timeout, deadline)
            is_kept = line.rest()
        except TimeoutError as error:
            which = "HTTP-response-timeout" if deadline.is_over() else "connection-read-timeout"
            raise HttpError((which, None)) from error
        except (h11.ProtocolError, OSError) as error:
            raise HttpError(_code(error)) from error
        finally:
            if is_kept:
                self._keep(line)
            else:
                line.close()
        return response

    def _take(self, at: Origin) -> _Line | None:
        """A kept connection to there, the one used last."""
        while True:
            with self._lock:
                for i in range(len(self._idle) - 1, -1, -1):
                    if self._idle[i].at == at:
                        line = self._idle.pop(i)
                        break
                else:
                    return None
            if line.is_alive():
                return line
            line.close()

    def _keep(self, line: _Line) -> None:
        with self._lock:
            self._idle.append(line)
            limit = 0 if self._closed else IDLE_LIMIT
            oldest = self._idle.pop(0) if len(self._idle) > limit else None
        if oldest is not None:
            oldest.close()

    def close(self) -> None:
        """Closes the connections that are kept, and keeps none any longer."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for line in idle:
            line.close()

    def _connect(self, at: Origin, timeout: float, deadline: _Deadline) -> _Line:
        try:
            if at[0] == "http":
                return _Line(at, self._dial(at, timeout, deadline))
            return _Line(at, self._secured(at, timeout, deadline))
        except TimeoutError as error:
            raise HttpError(("connection-timeout", None)) from error
        except (OSError, ValueError) as error:
            raise HttpError(_code(error)) from error

    def _secured(self, at: Origin, timeout: float, deadline: _Deadline) -> socket.socket:
        """Connects by TLS, and judges the server's certificate before anything is sent."""
        system, unjudged = self._contexts()
        trust = self._trust
        if trust is None or unjudged is None:
            return self._shake_hands(system, at, timeout, deadline)
        host = f"[{at[1]}]" if ":" in at[1] else at[1]
        server = f"{host}:{at[2]}"
        held_to = _asked(lambda: trust.held_to(server))
        vouched_for = False
        if held_to is None or held_to.imported is None:
            try:
                sock = self._shake_hands(system, at, timeout, deadline)
                vouched_for = True
            except ssl.SSLCertVerificationError:
                # The handshake is over by now, and the certificate not to be had. Another
                # one is to tell of it; a server that is refused is not shown the client's.
                context = unjudged if held_to is None else _unjudged_context()
                sock = self._shake_hands(context, at, timeout, deadline)
        else:
            sock = self._shake_hands(unjudged, at, timeout, deadline)
        try:
            certificate = sock.getpeercert(binary_form=True)
            _asked(lambda: trust.judge(server, held_to, certificate, vouched_for))
        except BaseException:
            sock.close()
            raise
        return sock

    def _shake_hands(
        self, context: ssl.SSLContext, at: Origin, timeout: float, deadline: _Deadline
    ) -> ssl.SSLSocket:
        sock = self._dial(at, timeout, deadline)
        try:
            sock.settimeout(deadline.within(timeout))
            return context.wrap_socket(sock, server_hostname=at[1])
        except BaseException:
            sock.close()
            raise

    def _dial(self, at: Origin, timeout: float, deadline: _Deadline) -> socket.socket:
        """Connects to the first address of a server that answers."""
        failure: OSError | None = None
        # The system's resolver has time limits of its own, and cannot be interrupted.
        lookup = self._lookups.start(
            lambda: socket.getaddrinfo(at[1], at[2], type=socket.SOCK_STREAM)
        )
        for family, kind, protocol, _, address in lookup.wait(deadline.within(timeout)):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(deadline.within(timeout))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock
            except OSError as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
        raise failure or OSError("the name has no address")

    def _contexts(self) -> tuple[ssl.SSLContext, ssl.SSLContext | None]:
        """How certificates are judged by the system, and where it knows them not. Made by
        the first that needs them: to read the system's roots takes longer than a request
        that goes without."""
        with self._lock:
            if self._system is None:
                system = _tls_context()
                unjudged = None if self._trust is None else _unjudged_context()
                for context in filter(None, (system, unjudged)):
                    context.set_alpn_protocols(["http/1.1"])
                    if self._identity is not None:
                        _show(context, *self._identity)
                self._system, self._unjudged = system, unjudged
            return self._system, self._unjudged


def _asked(act: Callable[[], T]) -> T:
    """What is known of how the servers were met."""
    try:
        return act()
    except Replaced as error:
        raise HttpError(("TLS-certificate-error", None), refusal=str(error)) from error
    except Exception as error:
        # The store cannot tell. It has to be one of those that say that nothing was sent.
        raise HttpError(("connection-refused", None)) from error


def _request(method: str, url: str, headers: Mapping[str, str], body: bytes) -> h11.Request:
    parts = urlsplit(url)
    target = parts.path or "/"
    if parts.query:
        target += f"?{parts.query}"
    lines = [("host", parts.netloc.rpartition("@")[2]), ("accept-encoding", "identity")]
    lines += headers.items()
    if "content-length" not in headers and (body or method in ("POST", "PUT", "PATCH")):
        lines.append(("content-length", str(len(body))))
    return h11.Request(method=method, target=target, headers=lines)


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
    """The HTTP clients of a host: who shows a certificate, or trusts others than the system
    does, has connections of his own, since a kept connection is somebody's for as long as it
    lives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[tuple[str | None, str | None], HttpClient] = {}
        self._closed = False

    def client(
        self, identity: tuple[str, str] | None = None, trust: Trust | None = None
    ) -> HttpClient:
        shown = None
        if identity is not None:
            shown = hashlib.sha256("\0".join(identity).encode()).hexdigest()
        key = shown, None if trust is None else trust.connection
        with self._lock:
            client = self._clients.get(key)
            if client is None:
                client = self._clients[key] = HttpClient(identity, trust)
                if self._closed:
                    client.close()
            return client

    def close(self) -> None:
        """As :meth:`HttpClient.close`, for all of them."""
        with self._lock:
            self._closed = True
            clients = list(self._clients.values())
        for client in clients:
            client.close()


def _code(error: Exception) -> ErrorCode:
    """The ``wasi:http`` error for what an exchange failed with."""
    match error:
        case ssl.SSLCertVerificationError():
            return "TLS-certificate-error", None
        case ssl.SSLError():
            if "alert" in str(error).lower():
                return "TLS-alert-received", {"alert-id": None, "alert-message": error.reason}
            return "TLS-protocol-error", None
        case h11.RemoteProtocolError():
            if "without sending complete message body" in str(error):
                return "HTTP-response-incomplete", None
            return "HTTP-protocol-error", None
        case socket.gaierror():
            return "DNS-error", {"rcode": None, "info-code": None}
        case ConnectionRefusedError():
            return "connection-refused", None
        case ConnectionError():
            return "connection-terminated", None
        case OSError() if error.errno in _UNROUTABLE:
            return "destination-unavailable", None
        case ValueError():
            return "HTTP-request-URI-invalid", None
    return "HTTP-protocol-error", None
