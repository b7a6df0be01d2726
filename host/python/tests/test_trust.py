"""`tls: trust`: certificates that are imported when a server is first met."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import Answer, Certificate, Cli, ScriptedServer, ending, eventually, tokens

import tokenwell
from tokenwell.store import Entry, Fenced, MemoryStore, Stale, Stored


@pytest.fixture
def shown(tmp_path: Path) -> Certificate:
    return Certificate(tmp_path)


@pytest.fixture
def secured(shown: Certificate) -> Iterator[ScriptedServer]:
    with ending(ScriptedServer(shown)) as server:
        server.answer("/token", *(Answer(200, tokens(number)) for number in range(1, 10)))
        yield server


def trusting(server: ScriptedServer) -> dict[str, Any]:
    return server.machine(tls="trust")


def place(server: ScriptedServer) -> str:
    return server.origin.removeprefix("https://")


def met_and_replaced(server: ScriptedServer, directory: Path, scratch: Path) -> Certificate:
    """The certificate that a server has put in place of the one that it was first met with."""
    with tokenwell.open("own", trusting(server), directory=directory) as connection:
        connection.token()
    other = Certificate(scratch)
    server.show(other)
    return other


def test_the_certificate_is_imported_on_first_use_and_told(
    secured: ScriptedServer, shown: Certificate
) -> None:
    told: list[tokenwell.Event] = []
    store = MemoryStore()
    host = tokenwell.Host(store=store, secrets=tokenwell.LocalSecrets(), events=told.append)
    with tokenwell.open("own", trusting(secured), host=host) as connection:
        assert connection.token().access_token == tokens(1)["access_token"]
        assert connection.refresh().access_token == tokens(2)["access_token"]
    entry = store.load("own.trust")
    assert isinstance(entry, Entry)
    (imported,) = json.loads(entry.value)["servers"].items()
    assert imported[0] == place(secured)
    assert imported[1]["sha256"] == shown.sha256
    assert base64.b64decode(imported[1]["certificate"]) == shown.der
    eventually("the renewal's event", lambda: [one for one in told if one.kind == "renewed"][1:])
    (event,) = [one for one in told if one.kind == "certificate-imported"]
    assert event.connection == "own"
    assert event.details == {"server": place(secured)}
    assert shown.sha256 in event.message


def test_without_trust_it_is_not_believed(secured: ScriptedServer) -> None:
    with tokenwell.open("own", secured.machine()) as connection:
        with pytest.raises(tokenwell.UnavailableError):
            connection.token()
    assert secured.received == []


def met(store: MemoryStore) -> dict[str, Any]:
    """How the servers of the connection `own` were first met, as it is stored."""
    entry = store.load("own.trust")
    assert isinstance(entry, Entry)
    found: dict[str, Any] = json.loads(entry.value)
    return found


def test_what_the_system_vouches_for_is_not_imported_but_written_down(
    secured: ScriptedServer, shown: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(shown.path))
    told: list[tokenwell.Event] = []
    store = MemoryStore()
    host = tokenwell.Host(store=store, secrets=tokenwell.LocalSecrets(), events=told.append)
    with tokenwell.open("own", trusting(secured), host=host) as connection:
        assert connection.token().access_token == tokens(1)["access_token"]
    assert met(store) == {"servers": {}, "vouched_for": [place(secured)]}
    eventually("the renewal's event", lambda: [one for one in told if one.kind == "renewed"])
    assert [one for one in told if one.kind == "certificate-imported"] == []


def test_from_a_server_that_the_system_vouched_for_none_is_taken_that_it_does_not(
    secured: ScriptedServer,
    shown: Certificate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory = tmp_path / "connections"
    monkeypatch.setenv("SSL_CERT_FILE", str(shown.path))
    other = met_and_replaced(secured, directory, tmp_path)
    with tokenwell.open("own", trusting(secured), directory=directory) as connection:
        with pytest.raises(tokenwell.ForbiddenError) as refused:
            connection.refresh()
    assert (
        f"{place(secured)} shows a certificate that the system does not vouch for, SHA-256 "
        f"{other.sha256}, and showed one that it does when it was first met; if it has been "
        "replaced by its owner, clear the connection's trust"
    ) in str(refused.value)
    assert len(secured.requests()) == 1
    # One that the system vouches for takes the place of another without more ado.
    monkeypatch.setenv("SSL_CERT_FILE", str(other.path))
    with tokenwell.open("own", trusting(secured), directory=directory) as connection:
        assert connection.refresh().access_token == tokens(2)["access_token"]
    secured.show(shown)
    with tokenwell.open("own", trusting(secured), directory=directory) as connection:
        connection.clear_trust()
        assert connection.refresh().access_token == tokens(3)["access_token"]


def test_a_server_that_is_refused_is_not_shown_the_clients_certificate(
    shown: Certificate, tmp_path: Path
) -> None:
    ours = Certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(shown.path)
    tls.verify_mode = ssl.CERT_OPTIONAL
    tls.load_verify_locations(ours.path)
    # Nothing is left to send to who is gone after the handshake.
    tls.num_tickets = 0
    seen: list[bytes | None] = []

    def accept(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                came, _ = listening.accept()
                with contextlib.suppress(OSError), tls.wrap_socket(came, server_side=True) as one:
                    seen.append(one.getpeercert(binary_form=True))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = f"127.0.0.1:{listening.getsockname()[1]}"
        threading.Thread(target=accept, args=(listening,), daemon=True).start()
        reference = {"ref": f"file:{ours.path}"}
        config = {
            "grant_type": "client_credentials",
            "client_id": "client",
            "client_certificate": reference,
            "client_certificate_key": reference,
            "token_endpoint": f"https://{server}/token",
            "tls": "trust",
        }
        store = MemoryStore()
        value = json.dumps({"servers": {}, "vouched_for": [server]}).encode()
        store.compare_and_swap("own.trust", None, value)
        host = tokenwell.Host(store=store, secrets=tokenwell.LocalSecrets())
        with tokenwell.open("own", config, host=host) as connection:
            with pytest.raises(tokenwell.ForbiddenError, match=shown.sha256):
                connection.token()
        eventually("handshake", lambda: seen)
        listening.shutdown(socket.SHUT_RDWR)
    assert seen == [None]


def test_how_a_server_was_met_is_written_down_before_anything_is_sent(
    secured: ScriptedServer, shown: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(MemoryStore):
        def compare_and_swap(
            self, key: str, expected: int | None, value: bytes, fence: int | None = None
        ) -> Stored | Stale | Fenced:
            if key == "own.trust":
                raise OSError("the disk is full")
            return super().compare_and_swap(key, expected, value, fence)

    monkeypatch.setenv("SSL_CERT_FILE", str(shown.path))
    host = tokenwell.Host(store=Failing(), secrets=tokenwell.LocalSecrets())
    with tokenwell.open("own", trusting(secured), host=host) as connection:
        with pytest.raises(tokenwell.UnavailableError):
            connection.token()
    assert secured.received == []


def test_an_entry_that_knows_of_no_vouching_is_read_and_added_to(
    secured: ScriptedServer, shown: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = {
        "own.example:443": {"sha256": "00ff", "imported_at": 1, "certificate": "AA=="}
    }
    store = MemoryStore()
    store.compare_and_swap("own.trust", None, json.dumps({"servers": imported}).encode())
    monkeypatch.setenv("SSL_CERT_FILE", str(shown.path))
    host = tokenwell.Host(store=store, secrets=tokenwell.LocalSecrets())
    with tokenwell.open("own", trusting(secured), host=host) as connection:
        connection.token()
    assert met(store) == {"servers": imported, "vouched_for": [place(secured)]}


def test_an_import_keeps_the_servers_that_the_system_vouched_for(
    secured: ScriptedServer, shown: Certificate
) -> None:
    vouched_for = ["as.example:443", "[::1]:8443"]
    value = json.dumps({"servers": {}, "vouched_for": vouched_for}).encode()
    store = MemoryStore()
    store.compare_and_swap("own.trust", None, value)
    host = tokenwell.Host(store=store, secrets=tokenwell.LocalSecrets())
    with tokenwell.open("own", trusting(secured), host=host) as connection:
        connection.token()
    now = met(store)
    assert now["servers"][place(secured)]["sha256"] == shown.sha256
    assert now["vouched_for"] == sorted(vouched_for)


def test_another_certificate_is_refused_until_the_trust_is_cleared(
    secured: ScriptedServer, shown: Certificate, tmp_path: Path
) -> None:
    directory = tmp_path / "connections"
    other = met_and_replaced(secured, directory, tmp_path)
    with tokenwell.open("own", trusting(secured), directory=directory) as connection:
        with pytest.raises(tokenwell.ForbiddenError) as refused:
            connection.refresh()
        assert shown.sha256 in str(refused.value)
        assert other.sha256 in str(refused.value)
        assert len(secured.requests()) == 1
        # What is at hand is still good.
        assert connection.token().access_token == tokens(1)["access_token"]
        connection.clear_trust()
        assert connection.refresh().access_token == tokens(2)["access_token"]


def test_what_the_command_line_imported_holds_here_and_the_other_way_round(
    secured: ScriptedServer, shown: Certificate, cli: Cli, tmp_path: Path
) -> None:
    cli.create("own", trusting(secured))
    assert cli.json("token", "own")["access_token"] == tokens(1)["access_token"]
    other = Certificate(tmp_path)
    secured.show(other)
    with tokenwell.open("own", directory=cli.directory) as connection:
        with pytest.raises(tokenwell.ForbiddenError, match=shown.sha256):
            connection.refresh()
    cli.run("clear", "own", "--trust")
    with tokenwell.open("own", directory=cli.directory) as connection:
        assert connection.refresh().access_token == tokens(2)["access_token"]
    cli.run("refresh", "own")
    assert len(secured.requests()) == 3
    secured.show(shown)
    cli.run("refresh", "own", code=8)
    assert len(secured.requests()) == 3


@pytest.mark.parametrize("first", ["command line", "python"])
def test_that_the_system_vouched_for_a_server_holds_for_the_command_line_too(
    secured: ScriptedServer,
    shown: Certificate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
) -> None:
    knowing = Cli(tmp_path, SSL_CERT_FILE=str(shown.path))
    knowing.create("own", trusting(secured))
    if first == "command line":
        knowing.run("token", "own")
    else:
        with monkeypatch.context() as within:
            within.setenv("SSL_CERT_FILE", str(shown.path))
            with tokenwell.open("own", directory=knowing.directory) as connection:
                connection.token()
    # Nobody vouches for it any longer.
    Cli(tmp_path).run("refresh", "own", code=8)
    with tokenwell.open("own", directory=knowing.directory) as connection:
        with pytest.raises(tokenwell.ForbiddenError, match="does not vouch for"):
            connection.refresh()
    assert len(secured.requests()) == 1


class Overtaken(MemoryStore):
    """A store in which somebody else meets a server in that way just before."""

    def __init__(self, theirs: dict[str, Any]) -> None:
        super().__init__()
        self._theirs = json.dumps(theirs).encode()

    def compare_and_swap(
        self, key: str, expected: int | None, value: bytes, fence: int | None = None
    ) -> Stored | Stale | Fenced:
        if key == "own.trust" and expected is None:
            super().compare_and_swap(key, None, self._theirs)
        return super().compare_and_swap(key, expected, value, fence)


@pytest.mark.parametrize(
    ("theirs", "is_vouched_for", "refusal"),
    [
        ("another's", False, "than the one that was imported for it"),
        ("another's", True, "than the one that was imported for it"),
        ("the same", True, None),
        ("vouched for", False, "that the system does not vouch for"),
        ("vouched for", True, None),
    ],
)
def test_how_another_met_the_server_meanwhile_holds(
    secured: ScriptedServer,
    shown: Certificate,
    monkeypatch: pytest.MonkeyPatch,
    theirs: str,
    is_vouched_for: bool,
    refusal: str | None,
) -> None:
    sha256 = shown.sha256 if theirs == "the same" else "0" * 64
    imported = {"sha256": sha256, "imported_at": 1, "certificate": ""}
    stored: dict[str, Any] = {"servers": {place(secured): imported}}
    if theirs == "vouched for":
        stored = {"servers": {}, "vouched_for": [place(secured)]}
    if is_vouched_for:
        monkeypatch.setenv("SSL_CERT_FILE", str(shown.path))
    store = Overtaken(stored)
    host = tokenwell.Host(store=store, secrets=tokenwell.LocalSecrets())
    with tokenwell.open("own", trusting(secured), host=host) as connection:
        if refusal is None:
            connection.token()
        else:
            with pytest.raises(tokenwell.ForbiddenError, match=f"{shown.sha256}.*") as refused:
                connection.token()
            assert refusal in str(refused.value)
            assert secured.received == []
    assert met(store) == stored


def test_threads_that_meet_a_server_at_once_import_its_certificate_once(
    secured: ScriptedServer,
) -> None:
    told: list[tokenwell.Event] = []
    host = tokenwell.Host(events=told.append)
    names = ("one", "two")
    connections = [tokenwell.open(name, trusting(secured), host=host) for name in names * 8]
    start = threading.Barrier(len(connections))
    failed: list[Exception] = []

    def ask(connection: tokenwell.Connection) -> None:
        start.wait()
        try:
            connection.token()
        except Exception as error:
            failed.append(error)

    asking = [threading.Thread(target=ask, args=(one,)) for one in connections]
    for one in asking:
        one.start()
    for one in asking:
        one.join()
    assert failed == []
    eventually("both events", lambda: len({e.connection for e in told if e.kind == "renewed"}) == 2)
    imports = [event.connection for event in told if event.kind == "certificate-imported"]
    assert sorted(imports) == sorted(names)


@pytest.mark.parametrize(
    "damaged",
    [
        b"not JSON",
        b'{"vouched_for": []}',
        b'{"servers": {}, "vouched_for": null}',
        b'{"servers": {}, "vouched_for": "as.example:443"}',
        b'{"servers": {}, "vouched_for": [["as.example:443"]]}',
    ],
)
def test_a_damaged_entry_is_not_taken_for_none(
    secured: ScriptedServer, damaged: bytes
) -> None:
    store = MemoryStore()
    store.compare_and_swap("own.trust", None, damaged)
    host = tokenwell.Host(store=store, secrets=tokenwell.LocalSecrets())
    with tokenwell.open("own", trusting(secured), host=host) as connection:
        with pytest.raises(tokenwell.UnavailableError):
            connection.token()
        assert secured.received == []
        connection.clear_trust()
        connection.clear()
        connection.token()


def test_trust_is_cleared_from_a_coroutine(secured: ScriptedServer) -> None:
    store = MemoryStore()
    host = tokenwell.Host(store=store, secrets=tokenwell.LocalSecrets())

    async def main() -> None:
        async with tokenwell.open_async("own", trusting(secured), host=host) as connection:
            await connection.token()
            assert store.load("own.trust") is not None
            await connection.clear_trust()

    asyncio.run(main())
    assert store.load("own.trust") is None


@pytest.mark.parametrize(
    ("tls", "options"), [("off", {}), ("trust", {"tls_trust": False})]
)
def test_what_the_host_does_not_allow_is_found_by_a_check(
    secured: ScriptedServer, tls: str, options: dict[str, Any]
) -> None:
    config = secured.machine(tls=tls)
    with tokenwell.open("own", config, host=tokenwell.Host(**options)) as connection:
        found = connection.check()[0]
    assert (found.field, found.severity) == ("tls", "error")
    assert found.message == f"`tls: {tls}` is not allowed by this host"


def test_a_check_finds_nothing_wrong_with_what_the_host_allows(secured: ScriptedServer) -> None:
    with tokenwell.open("own", trusting(secured)) as connection:
        assert [one for one in connection.check() if one.severity == "error"] == []


@pytest.mark.parametrize("kept", ["in memory", "in files"])
def test_trust_that_the_host_does_not_allow_is_refused_before_anything_is_sent(
    secured: ScriptedServer, tmp_path: Path, kept: str
) -> None:
    if kept == "in memory":
        host = tokenwell.Host(tls_trust=False)
    else:
        host = tokenwell.Host.in_directory(tmp_path / "connections", tls_trust=False)
    with tokenwell.open("own", trusting(secured), host=host) as connection:
        with pytest.raises(tokenwell.ForbiddenError, match="`tls: trust` is not allowed"):
            connection.token()
    assert secured.received == []


def test_a_client_shows_its_certificate_and_no_other_connection_does(
    secured: ScriptedServer, tmp_path: Path
) -> None:
    ours = Certificate(tmp_path)
    secured.demand(ours)
    host = tokenwell.Host()
    reference = {"ref": f"file:{ours.path}"}
    config = trusting(secured) | {
        "client_certificate": reference,
        "client_certificate_key": reference,
    }
    with tokenwell.open("own", config, host=host) as connection:
        assert connection.token().access_token == tokens(1)["access_token"]
    with tokenwell.open("another", trusting(secured), host=host) as connection:
        with pytest.raises(tokenwell.UnavailableError):
            connection.token()
    assert len(secured.requests()) == 1
