"""HTTP/1.1, byte by byte, with a server that sends what a test gives it."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import SECRET, ending, eventually, tokens

import tokenwell
from tokenwell import _http


def answer(body: bytes, *lines: bytes) -> bytes:
    head = [b"HTTP/1.1 200 OK", b"content-type: application/json", *lines]
    return b"\r\n".join([*head, b"", body])


BODY = json.dumps(tokens(1)).encode()
WHOLE = answer(BODY, b"content-length: %d" % len(BODY))


class Wire:
    """Answers each request with the next of the given bytes, again and again with the last."""

    def __init__(self, *answers: bytes, closes: bool = False) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self.closed = threading.Event()
        self._answers = list(answers)
        self._closes = closes
        self._listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def config(self) -> dict[str, Any]:
        return {
            "grant_type": "client_credentials",
            "client_id": "client",
            "client_secret": SECRET,
            "token_endpoint": f"http://127.0.0.1:{self._listening.getsockname()[1]}/token",
        }

    def _accept(self) -> None:
        while True:
            try:
                came, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(came,), daemon=True).start()

    def _serve(self, came: socket.socket) -> None:
        with came, contextlib.suppress(ConnectionError):
            received = b""
            while True:
                received += (more := came.recv(65536))
                if not more:
                    return
                head, found, body = received.partition(b"\r\n\r\n")
                if not found or not body.endswith(b"client_credentials"):
                    continue
                self.requests.append(received)
                received = b""
                came.sendall(self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])
                if self._closes:
                    break
        self.closed.set()

    def end(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@pytest.fixture
def host() -> tokenwell.Host:
    return tokenwell.Host()


@pytest.fixture
def kept() -> Iterator[Wire]:
    with ending(Wire(WHOLE)) as wire:
        yield wire


def test_a_connection_is_kept_for_the_next_request(kept: Wire, host: tokenwell.Host) -> None:
    for name in ("one", "two"):
        with tokenwell.open(name, kept.config(), host=host) as connection:
            connection.token()
            connection.refresh()
    assert (len(kept.requests), kept.connections) == (4, 1)


@pytest.mark.parametrize("of", ["a host", "a directory"])
def test_none_is_kept_after_close(kept: Wire, of: str, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        if of == "a host":
            with tokenwell.Host() as host:
                connection = tokenwell.open("one", kept.config(), host=host)
                connection.token()
            connection.refresh()
            connection.close()
            del host
        else:
            with tokenwell.open("one", kept.config(), directory=tmp_path) as connection:
                connection.token()
        del connection
        gc.collect()
    # Those of other tests' sockets are none of this one's business.
    server = kept.config()["token_endpoint"].split(":")[2].split("/")[0]
    unclosed = [one for one in warned if issubclass(one.category, ResourceWarning)]
    assert [one for one in unclosed if f"raddr=('127.0.0.1', {server})" in str(one.message)] == []


def test_what_is_sent_is_what_the_component_asked_for(kept: Wire) -> None:
    with tokenwell.open("one", kept.config()) as connection:
        connection.token()
    (sent,) = kept.requests
    head = sent.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert head[0] == "POST /token HTTP/1.1"
    fields = [line.partition(":")[0].lower() for line in head[1:]]
    assert len(fields) == len(set(fields))
    assert {"host", "authorization", "content-length", "content-type"} <= set(fields)
    assert not {"cookie", "user-agent", "transfer-encoding"} & set(fields)


def test_a_connection_that_the_server_has_closed_is_not_used_again(
    host: tokenwell.Host,
) -> None:
    with ending(Wire(WHOLE, closes=True)) as wire:
        with tokenwell.open("one", wire.config(), host=host) as connection:
            connection.token()
            assert wire.closed.wait(60)
            connection.refresh()
        assert (len(wire.requests), wire.connections) == (2, 2)


def test_a_connection_that_has_been_idle_for_long_is_not_used_again(
    kept: Wire, host: tokenwell.Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tokenwell.open("one", kept.config(), host=host) as connection:
        connection.token()
        monkeypatch.setattr(_http, "IDLE_SECONDS", 0.0)
        connection.refresh()
    assert kept.connections == 2


def test_of_connections_that_are_kept_the_oldest_is_closed_when_there_are_too_many(
    kept: Wire, host: tokenwell.Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_http, "IDLE_LIMIT", 1)
    with ending(Wire(WHOLE)) as other:
        for wire in (kept, other, kept):
            with tokenwell.open("one", wire.config(), host=host) as connection:
                connection.refresh()
        assert (kept.connections, other.connections) == (2, 1)


def test_one_that_is_to_be_closed_after_the_response_is_not_kept(host: tokenwell.Host) -> None:
    last = answer(BODY, b"content-length: %d" % len(BODY), b"connection: close")
    with ending(Wire(last)) as wire:
        with tokenwell.open("one", wire.config(), host=host) as connection:
            connection.token()
            connection.refresh()
        assert wire.connections == 2


def test_what_nobody_asked_for_answers_no_later_request(host: tokenwell.Host) -> None:
    planted = json.dumps(tokens(6)).encode()
    more = answer(planted, b"content-length: %d" % len(planted))
    with ending(Wire(WHOLE + more, WHOLE)) as wire:
        with tokenwell.open("one", wire.config(), host=host) as connection:
            connection.token()
            assert connection.refresh().access_token == tokens(1)["access_token"]
        assert (len(wire.requests), wire.connections) == (2, 2)


@pytest.mark.parametrize(
    "sent",
    [
        answer(b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY), b"transfer-encoding: chunked"),
        b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n" + WHOLE,
    ],
    ids=["chunked", "informational"],
)
def test_a_response_is_read_in_whatever_form_it_comes(sent: bytes) -> None:
    with ending(Wire(sent)) as wire, tokenwell.open("one", wire.config()) as connection:
        assert connection.token().access_token == tokens(1)["access_token"]


def test_one_that_ends_with_the_connection_is_whole() -> None:
    with ending(Wire(answer(BODY), closes=True)) as wire:
        with tokenwell.open("one", wire.config()) as connection:
            assert connection.token().access_token == tokens(1)["access_token"]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (WHOLE[:-5], "HTTP-response-incomplete"),
        (b"", "connection-terminated"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", "connection-terminated"),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "HTTP-protocol-error"),
        (answer(b"", b"x-long: " + b"x" * (1 << 17)), "HTTP-protocol-error"),
    ],
    ids=["cut", "nothing", "half a head", "another protocol", "a head without end"],
)
def test_what_is_no_whole_response_is_told_and_the_request_not_sent_again(
    sent: bytes, code: str
) -> None:
    with ending(Wire(sent, closes=True)) as wire:
        with tokenwell.open("one", wire.config()) as connection:
            with pytest.raises(tokenwell.Error):
                connection.token()
        assert len(wire.requests) == 1
        with pytest.raises(_http.HttpError) as failed:
            _http.HttpClient().send(
                "POST", wire.config()["token_endpoint"], {}, b"grant_type=client_credentials",
                connect_timeout=60, read_timeout=60, total_timeout=60,
            )  # fmt: skip
        assert failed.value.code[0] == code


def test_a_port_that_nobody_listens_at_is_told_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
    with pytest.raises(_http.HttpError) as failed:
        _http.HttpClient().send(
            "GET", url, {}, b"", connect_timeout=60, read_timeout=60, total_timeout=60
        )
    assert failed.value.code[0] == "connection-refused"


def test_a_name_that_is_looked_up_for_ever_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over = threading.Event()

    def look_up(*_: Any, **__: Any) -> Any:
        over.wait(60)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        with pytest.raises(_http.HttpError) as failed:
            _http.HttpClient().send(
                "GET", "https://as.client.example/", {}, b"",
                connect_timeout=0.2, read_timeout=60, total_timeout=60,
            )  # fmt: skip
        assert failed.value.code[0] == "connection-timeout"
    finally:
        over.set()


def test_many_threads_have_a_connection_each(host: tokenwell.Host) -> None:
    with ending(Wire(WHOLE)) as wire:
        opened = [tokenwell.open(f"c{i}", wire.config(), host=host) for i in range(8)]
        asking = [threading.Thread(target=one.token) for one in opened for _ in range(4)]
        for one in asking:
            one.start()
        for one in asking:
            one.join()
        eventually("all requests", lambda: len(wire.requests) >= 8)
        assert len(wire.requests) == 8
        assert 1 <= wire.connections <= 8
