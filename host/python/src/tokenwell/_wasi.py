"""WASI 0.2, as far as the component calls it: clocks, random numbers, and HTTP that
goes where the connection may send to, and nowhere else."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from typing import Any

from ._component import Guest, HostFunction
from ._http import HttpError, Response

DEFAULT_TIMEOUT_SECONDS = 30.0
"""What holds where a request names no timeout."""

LONGEST_SLEEP_SECONDS = 3600.0

CHUNK = 1 << 16


@dataclass(slots=True)
class Timer:
    """A pollable that is ready at a time of the monotonic clock."""

    at: float

    def left(self) -> float:
        return self.at - time.monotonic()


@dataclass(slots=True)
class Ready:
    """A pollable that is ready."""

    def left(self) -> float:
        return 0.0


class Exchange:
    """A request and, once somebody has waited for it, its response.

    The guest gives the body after it has handed the request over, and then waits, for the
    response or for a time to come: there the request is sent, by the thread that waits.
    """

    def __init__(self, guest: Guest, request: OutgoingRequest, options: RequestOptions) -> None:
        self.guest = guest
        self.request = request
        self.options = options
        self.outcome: Response | HttpError | None = None
        self.taken = False

    def left(self) -> float:
        return 0.0 if self.outcome is not None else LONGEST_SLEEP_SECONDS

    def perform(self, seconds: float) -> None:
        """Sends the request and reads the response, in so many seconds at most."""
        request, options = self.request, self.options
        try:
            self.outcome = self.guest.services.send(
                request.method,
                request.url(),
                request.headers.text(),
                bytes(request.body),
                connect_timeout=min(options.connect or DEFAULT_TIMEOUT_SECONDS, seconds),
                read_timeout=min(options.first_byte or DEFAULT_TIMEOUT_SECONDS, seconds),
                total_timeout=seconds,
            )
        except HttpError as error:
            self.outcome = error
        except Exception as error:
            self.outcome = HttpError(("internal-error", type(error).__name__))


Pollable = Timer | Ready | Exchange


@dataclass(slots=True)
class Fields:
    entries: list[tuple[str, bytes]] = field(default_factory=list)

    def text(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for name, value in self.entries:
            text = value.decode("latin-1")
            headers[name] = f"{headers[name]}, {text}" if name in headers else text
        return headers


@dataclass(slots=True)
class RequestOptions:
    connect: float | None = None
    first_byte: float | None = None
    between_bytes: float | None = None


@dataclass(slots=True)
class OutgoingRequest:
    headers: Fields
    method: str = "GET"
    scheme: str = "https"
    authority: str = ""
    path: str = "/"
    body: bytearray = field(default_factory=bytearray)

    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


@dataclass(slots=True)
class OutgoingBody:
    request: OutgoingRequest


@dataclass(slots=True)
class OutputStream:
    request: OutgoingRequest


@dataclass(slots=True)
class IncomingBody:
    response: Response


@dataclass(slots=True)
class InputStream:
    body: bytes
    at: int = 0


@dataclass(slots=True)
class IoError:
    text: str


def wait(guest: Guest, pollables: list[Pollable]) -> list[int]:
    """Waits until one of them is ready, and tells which are."""
    while True:
        ready = [i for i, one in enumerate(pollables) if one.left() <= 0]
        if ready:
            return ready
        left = min(one.left() for one in pollables)
        for one in pollables:
            if isinstance(one, Exchange):
                one.perform(left)
                break
        else:
            guest.services.sleep(left)


def _pollable(guest: Guest, number: int) -> Pollable:
    return guest.get(number, object)  # type: ignore[return-value]


def _poll(guest: Guest, numbers: list[int]) -> list[int]:
    return wait(guest, [_pollable(guest, number) for number in numbers])


def _block(guest: Guest, number: int) -> None:
    wait(guest, [_pollable(guest, number)])


def _now(_: Guest) -> dict[str, int]:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return {"seconds": max(seconds, 0), "nanoseconds": nanoseconds}


_NO_NAME = re.compile(r"\A\Z|[ :\r\n\0]")
_NO_VALUE = re.compile(rb"[\r\n\0]")


def _append(guest: Guest, number: int, name: str, value: bytes) -> tuple[str, Any]:
    if _NO_NAME.search(name) or _NO_VALUE.search(value):
        return "err", ("invalid-syntax", None)
    guest.get(number, Fields).entries.append((name, value))
    return "ok", None


def _request(guest: Guest, headers: int) -> int:
    return guest.add(OutgoingRequest(guest.take(headers, Fields)))


def _setter(attribute: str) -> HostFunction:
    def set_(guest: Guest, number: int, value: Any) -> tuple[str, None]:
        request = guest.get(number, OutgoingRequest)
        if attribute in ("method", "scheme"):
            value = (value or ("HTTPS", None))[0]
            value = value.upper() if attribute == "method" else value.lower()
        setattr(request, attribute, value or "")
        return "ok", None

    return set_


def _timeout(attribute: str) -> HostFunction:
    def set_(guest: Guest, number: int, nanoseconds: int | None) -> tuple[str, None]:
        seconds = None if nanoseconds is None else max(nanoseconds / 1e9, 0.001)
        setattr(guest.get(number, RequestOptions), attribute, seconds)
        return "ok", None

    return set_


def _handle(guest: Guest, request: int, options: int | None) -> tuple[str, Any]:
    outgoing = guest.take(request, OutgoingRequest)
    limits = RequestOptions() if options is None else guest.take(options, RequestOptions)
    return "ok", guest.add(Exchange(guest, outgoing, limits))


def _get(guest: Guest, number: int) -> Any:
    exchange = guest.get(number, Exchange)
    outcome = exchange.outcome
    if outcome is None:
        return None
    if exchange.taken:
        return "err", None
    exchange.taken = True
    if isinstance(outcome, HttpError):
        return "ok", ("err", outcome.code)
    return "ok", ("ok", guest.add(outcome))


def _subscribe(guest: Guest, number: int) -> int:
    return guest.add(guest.get(number, Exchange))


def _write(guest: Guest, number: int, content: bytes) -> tuple[str, None]:
    guest.get(number, OutputStream).request.body += content
    return "ok", None


def _finish(guest: Guest, number: int, _trailers: int | None) -> tuple[str, None]:
    guest.take(number, OutgoingBody)
    return "ok", None


def _read(guest: Guest, number: int, length: int) -> tuple[str, Any]:
    stream = guest.get(number, InputStream)
    if stream.at >= len(stream.body):
        return "err", ("closed", None)
    chunk = stream.body[stream.at : stream.at + min(length, CHUNK)]
    stream.at += len(chunk)
    return "ok", chunk


IMPORTS: dict[str, dict[str, HostFunction]] = {
    "wasi:clocks/wall-clock@0.2.0": {"now": _now},
    "wasi:clocks/monotonic-clock@0.2.0": {
        "now": lambda _: time.monotonic_ns(),
        "subscribe-duration": lambda guest, nanoseconds: guest.add(
            Timer(time.monotonic() + min(nanoseconds / 1e9, LONGEST_SLEEP_SECONDS))
        ),
    },
    "wasi:random/random@0.2.0": {
        "get-random-bytes": lambda _, length: os.urandom(min(length, 1 << 20)),
    },
    "wasi:io/poll@0.2.0": {
        "poll": _poll,
        "[method]pollable.block": _block,
        "[method]pollable.ready": lambda guest, number: _pollable(guest, number).left() <= 0,
    },
    "wasi:io/error@0.2.0": {
        "[method]error.to-debug-string": lambda guest, number: guest.get(number, IoError).text,
    },
    "wasi:io/streams@0.2.0": {
        "[method]output-stream.check-write": lambda *_: ("ok", CHUNK),
        "[method]output-stream.write": _write,
        "[method]output-stream.subscribe": lambda guest, _: guest.add(Ready()),
        "[method]input-stream.read": _read,
        "[method]input-stream.subscribe": lambda guest, _: guest.add(Ready()),
    },
    "wasi:http/types@0.2.0": {
        "[constructor]fields": lambda guest: guest.add(Fields()),
        "[method]fields.append": _append,
        "[method]fields.entries": lambda guest, number: guest.get(number, Fields).entries,
        "[constructor]outgoing-request": _request,
        "[method]outgoing-request.set-method": _setter("method"),
        "[method]outgoing-request.set-scheme": _setter("scheme"),
        "[method]outgoing-request.set-authority": _setter("authority"),
        "[method]outgoing-request.set-path-with-query": _setter("path"),
        "[method]outgoing-request.body": lambda guest, number: (
            "ok",
            guest.add(OutgoingBody(guest.get(number, OutgoingRequest))),
        ),
        "[constructor]request-options": lambda guest: guest.add(RequestOptions()),
        "[method]request-options.set-connect-timeout": _timeout("connect"),
        "[method]request-options.set-first-byte-timeout": _timeout("first_byte"),
        "[method]request-options.set-between-bytes-timeout": _timeout("between_bytes"),
        "[method]outgoing-body.write": lambda guest, number: (
            "ok",
            guest.add(OutputStream(guest.get(number, OutgoingBody).request)),
        ),
        "[static]outgoing-body.finish": _finish,
        "[method]future-incoming-response.subscribe": _subscribe,
        "[method]future-incoming-response.get": _get,
        "[method]incoming-response.status": lambda guest, n: guest.get(n, Response).status,
        "[method]incoming-response.headers": lambda guest, n: guest.add(
            Fields(guest.get(n, Response).headers)
        ),
        "[method]incoming-response.consume": lambda guest, n: (
            "ok",
            guest.add(IncomingBody(guest.get(n, Response))),
        ),
        "[method]incoming-body.stream": lambda guest, n: (
            "ok",
            guest.add(InputStream(guest.get(n, IncomingBody).response.body)),
        ),
    },
    "wasi:http/outgoing-handler@0.2.0": {"handle": _handle},
}
