"""A listener for redirects on the loopback interface (RFC 8252 section 7.3)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import hashlib
import html
import queue
import re
import socket
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from http import HTTPStatus
from importlib import resources
from typing import Any

import h11

from .types import FormPost, Outcome, Redirect, RedirectUrl

DEFAULT_URI = "http://127.0.0.1/oauth2"
"""The redirect URI where the host may choose."""

BIND_ATTEMPTS = 25
BIND_PAUSE_SECONDS = 0.02
READ_LIMIT_SECONDS = 10.0
"""How long a client may take to send its request."""
WRITE_LIMIT_SECONDS = 2.0
"""How long to wait for a client to take the page."""
CONNECTION_LIMIT = 64
"""How many connections are open at a time. When there is one more, the oldest that has
not sent its request yet has to go."""
HEAD_LIMIT = 32 << 10
FORM_LIMIT = 64 << 10


class UserAgentError(Exception):
    """Why it could not be done."""


class UserAgentDenied(UserAgentError):
    """The host does not allow it."""


class UserAgentUnavailable(UserAgentError):
    """There is no browser, or no port to listen on."""


class Arrival(ABC):
    """A redirect that has arrived. The user's browser waits until ``respond``."""

    @property
    @abstractmethod
    def redirect(self) -> Redirect:
        """What came."""

    @abstractmethod
    def respond(self, outcome: Outcome | None) -> None:
        """Tells the user how it went (``None``: nothing came of it), and returns when the
        browser has been told. Only the first call has an effect."""


class Listener(ABC):
    """A listener for redirects."""

    @property
    @abstractmethod
    def redirect_uri(self) -> str:
        """Where the user must be sent back to."""

    @abstractmethod
    def next(self, wait: float) -> Arrival | None:
        """Awaits the next redirect for at most so many seconds; ``None``: none came.
        Raises :class:`UserAgentUnavailable` where the listener has failed."""

    @abstractmethod
    def close(self) -> None:
        """Stops listening."""


class LoopbackListener(Listener):
    """Listens on the given redirect URI, or on ``http://127.0.0.1:PORT/oauth2`` with any
    free port. A URI that names no port gets any free one (RFC 8252 section 7.3), and one
    that does is sent as it is written, since servers compare it so; one that names
    ``localhost`` is listened on at both loopback addresses.

    What is not a GET, or a POST of a form, for the redirect URI itself is turned away
    without anybody hearing of it; what is, gets a page that says how it went, once that is
    known. Raises :class:`UserAgentUnavailable` where the URI is not one of the loopback
    interface or its port is taken.
    """

    def __init__(self, connection: str, redirect_uri: str | None = None) -> None:
        place = _Place.parse(DEFAULT_URI if redirect_uri is None else redirect_uri)
        host = place.host
        try:
            sockets, port = _bind(host, place.port)
        except OSError as error:
            raise UserAgentUnavailable(
                f"cannot listen for the redirect on {host}: {error.strerror or error}"
            ) from error
        self._connection = connection
        self._path = place.path
        self._hosts = {f"{host}:{port}"} | ({host} if port == 80 else set())
        self._redirect_uri = place.redirect_uri(port)
        self._address = self._redirect_uri.partition("?")[0]
        self._arrivals: queue.SimpleQueue[_Arrival | None] = queue.SimpleQueue()
        self._open: dict[asyncio.Task[None], bool] = {}
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(sockets, started), name="tokenwell-listener", daemon=True
        )
        self._thread.start()
        started.wait()

    @property
    def redirect_uri(self) -> str:
        return self._redirect_uri

    def next(self, wait: float) -> Arrival | None:
        if self._closed:
            raise UserAgentUnavailable("the redirect listener has stopped")
        try:
            arrival = self._arrivals.get(timeout=max(wait, 0))
        except queue.Empty:
            return None
        if arrival is None:
            raise UserAgentUnavailable("the redirect listener has stopped")
        return arrival

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._arrivals.put(None)
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)

    def _run(self, sockets: list[socket.socket], started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve(sockets, started))
        finally:
            started.set()
            self._loop.close()

    async def _serve(self, sockets: list[socket.socket], started: threading.Event) -> None:
        servers = [
            await asyncio.start_server(self._accept, sock=one, limit=HEAD_LIMIT)
            for one in sockets
        ]
        started.set()
        await self._stop.wait()
        for server in servers:
            server.close()
        # Whoever waits for a page still gets one, but not for long.
        waiting = [task for task, reading in self._open.items() if not reading]
        for task, reading in list(self._open.items()):
            if reading:
                task.cancel()
        if waiting:
            await asyncio.wait(waiting, timeout=WRITE_LIMIT_SECONDS)
        for task in list(self._open):
            task.cancel()
        if self._open:
            await asyncio.wait(list(self._open), timeout=WRITE_LIMIT_SECONDS)

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= CONNECTION_LIMIT:
            oldest = next((one for one, reading in self._open.items() if reading), None)
            if oldest is None:
                writer.close()
                return
            oldest.cancel()
            del self._open[oldest]
        self._open[task] = True
        # A client that breaks off is no concern of anybody's.
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._answer(task, reader, writer)
        finally:
            self._open.pop(task, None)
            writer.close()

    async def _answer(
        self,
        task: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        arrival = None
        try:
            request = asyncio.wait_for(self._redirect(http, reader), READ_LIMIT_SECONDS)
            redirect = await request
        except (TimeoutError, asyncio.TimeoutError):
            return
        except h11.RemoteProtocolError as error:
            response = _error_response(HTTPStatus(error.error_status_hint or 400))
        except _NoRedirect as error:
            response = error.response
        else:
            self._open[task] = False
            arrival = _Arrival(self._loop, redirect)
            self._arrivals.put(arrival)
            response = _outcome_page(self._connection, await arrival.outcome)
        status, headers, body = response
        try:
            for event in (
                h11.Response(status_code=status, headers=[*headers, ("connection", "close")]),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                writer.write(http.send(event) or b"")
            await asyncio.wait_for(writer.drain(), WRITE_LIMIT_SECONDS)
            writer.write_eof()
        except (h11.LocalProtocolError, asyncio.TimeoutError, OSError):
            pass
        finally:
            if arrival is not None:
                arrival.told.set()

    async def _redirect(self, http: h11.Connection, reader: asyncio.StreamReader) -> Redirect:
        """The redirect in a request; raises the answer to one that is none."""
        request = None
        body = b""
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(HEAD_LIMIT))
            elif isinstance(event, h11.Request):
                request = event
                self._check(event)
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > FORM_LIMIT:
                    raise _NoRedirect(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                break
            else:
                raise asyncio.CancelledError
        if request.method == b"POST":
            try:
                return FormPost(body.decode("utf-8"))
            except UnicodeDecodeError:
                raise _NoRedirect(HTTPStatus.BAD_REQUEST) from None
        _, _, query = request.target.decode("ascii").partition("?")
        return RedirectUrl(self._address + (f"?{query}" if query else ""))

    def _check(self, request: h11.Request) -> None:
        """A request that names this host and no other, so that a page of another site
        cannot reach the listener under that site's name, for the path and in the way of a
        redirect."""
        target = request.target.decode("ascii")
        hosts = [value.decode("latin-1").lower() for name, value in request.headers if name == b"host"]
        if len(hosts) != 1 or hosts[0] not in self._hosts or not target.startswith("/"):
            raise _NoRedirect(HTTPStatus.MISDIRECTED_REQUEST)
        if target.partition("?")[0] != self._path:
            raise _NoRedirect(HTTPStatus.NOT_FOUND)
        if request.method == b"POST":
            kinds = [value for name, value in request.headers if name == b"content-type"]
            kind = kinds[0].split(b";")[0].strip().lower() if kinds else b""
            if kind != b"application/x-www-form-urlencoded":
                raise _NoRedirect(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        elif request.method != b"GET":
            raise _NoRedirect(HTTPStatus.METHOD_NOT_ALLOWED, [("allow", "GET, POST")])


class _Arrival(Arrival):
    def __init__(self, loop: asyncio.AbstractEventLoop, redirect: Redirect) -> None:
        self._loop = loop
        self._redirect = redirect
        self.outcome: asyncio.Future[Outcome | None] = loop.create_future()
        self.told = threading.Event()

    @property
    def redirect(self) -> Redirect:
        return self._redirect

    def respond(self, outcome: Outcome | None) -> None:
        def tell() -> None:
            if not self.outcome.done():
                self.outcome.set_result(outcome)

        try:
            self._loop.call_soon_threadsafe(tell)
        except RuntimeError:
            # The listener is closed, and with it the connection.
            return
        # The caller may end the process next; a client that does not take its page has
        # only itself to blame.
        self.told.wait(WRITE_LIMIT_SECONDS)


_LOOPBACK_URI = re.compile(
    r"(?P<before>http://(?P<host>127\.0\.0\.1|\[::1\]|localhost))(?::0*(?P<port>[0-9]{0,5}))?"
    r"(?P<after>(?P<path>/[^?#\s]*)?(?:\?[^#\s]*)?)",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where to listen, as a redirect URI says it."""

    written: str
    host: str
    port: int
    """0: any (RFC 6335 section 6), and nobody can be sent there."""
    path: str
    around: tuple[str, str]
    """What is before and after the port, its colon left out."""

    @classmethod
    def parse(cls, redirect_uri: str) -> _Place:
        found = _LOOPBACK_URI.fullmatch(redirect_uri)
        port = int(found["port"] or 0) if found else 0
        if found is None or port > 0xFFFF:
            raise UserAgentUnavailable(
                f"the redirect URI {redirect_uri} is not one of this machine's loopback "
                "interface (http://127.0.0.1, http://[::1] or http://localhost), so no "
                "listener can await the redirect; begin the authorization, and give the URL "
                "that the browser ends up on to `complete_authorization`"
            )
        return cls(
            redirect_uri,
            found["host"].lower(),
            port,
            found["path"] or "/",
            (found["before"], found["after"]),
        )

    def redirect_uri(self, port: int) -> str:
        """The redirect URI of a listener at that port."""
        before, after = self.around
        return self.written if self.port else f"{before}:{port}{after}"


def _bind(host: str, port: int) -> tuple[list[socket.socket], int]:
    # A free port may be taken at the other address, and a fixed one by a listener that is
    # about to close.
    for attempt in range(BIND_ATTEMPTS):
        try:
            return _bind_once(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or attempt == BIND_ATTEMPTS - 1:
                raise
        time.sleep(BIND_PAUSE_SECONDS)
    raise AssertionError


def _bind_once(host: str, port: int) -> tuple[list[socket.socket], int]:
    v4, v6 = (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")
    # A browser may take either of localhost's, and whoever has the other one would get
    # the redirect.
    places = {"127.0.0.1": [v4], "[::1]": [v6]}.get(host, [v4, v6])
    sockets: list[socket.socket] = []
    try:
        for family, address in places:
            try:
                one = socket.create_server((address, port), family=family, backlog=128)
            except OSError as error:
                # A machine without IPv6.
                if sockets and error.errno != errno.EADDRINUSE:
                    continue
                raise
            sockets.append(one)
            port = one.getsockname()[1]
    except OSError:
        for one in sockets:
            one.close()
        raise
    return sockets, port


_Response = tuple[int, list[tuple[str, str]], bytes]


class _NoRedirect(Exception):
    def __init__(self, status: HTTPStatus, headers: list[tuple[str, str]] | None = None) -> None:
        super().__init__(status)
        code, standard, body = _error_response(status)
        self.response: _Response = (code, standard + (headers or []), body)


def _style() -> str:
    return resources.files(__package__).joinpath("page.css").read_text("utf-8")


def _outcome_page(connection: str, outcome: Outcome | None) -> _Response:
    """The page that the user is left with. It loads nothing, runs nothing, and shows
    nothing unescaped."""
    name = html.escape(connection)
    reason = html.escape((outcome.reason if outcome else None) or "")
    status = HTTPStatus.BAD_REQUEST
    match outcome.kind if outcome else None:
        case "authorized":
            status, title = HTTPStatus.OK, "Authorized"
            text = f"The connection <strong>{name}</strong> is authorized."
        case "failed":
            title = "Not authorized"
            text = f"The connection <strong>{name}</strong> could not be authorized: {reason}"
        case "refused":
            title = "Not accepted"
            text = (
                f"This is not the response that the connection <strong>{name}</strong> is "
                f"waiting for: {reason}"
            )
        case _:
            title = "Not authorized"
            text = f"The connection <strong>{name}</strong> is no longer waiting for a response."
    style = _style()
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}: {name}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f'<main class="{"good" if status == HTTPStatus.OK else "bad"}">\n<h1>{title}</h1>\n'
        f'<p role="status">{text}</p>\n<p>You can close this window.</p>\n</main>\n</body>\n'
        "</html>\n"
    )
    return _respond(status, "text/html; charset=utf-8", page)


def _error_response(status: HTTPStatus) -> _Response:
    """The answer to what is no redirect at all."""
    return _respond(status, "text/plain; charset=utf-8", f"{status.phrase}\n")


def _respond(status: HTTPStatus, kind: str, body: str) -> _Response:
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
    encoded = body.encode()
    headers: list[tuple[str, Any]] = [
        ("content-type", kind),
        ("content-length", str(len(encoded))),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", policy),
    ]
    return status.value, headers, encoded
