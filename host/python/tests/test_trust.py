"""`tls: trust`: certificates that are imported when a server is first met."""

from __future__ import annotations

import asyncio
import base64
import json
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


def test_what_the_system_vouches_for_is_not_imported(
    secured: ScriptedServer, shown: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(shown.path))
    store = MemoryStore()
    host = tokenwell.Host(store=store, secrets=tokenwell.LocalSecrets())
    with tokenwell.open("own", trusting(secured), host=host) as connection:
        assert connection.token().access_token == tokens(1)["access_token"]
    assert store.load("own.trust") is None


def test_another_certificate_is_refused_until_the_trust_is_cleared(
    secured: ScriptedServer, shown: Certificate, tmp_path: Path
) -> None:
    directory = tmp_path / "connections"
    with tokenwell.open("own", trusting(secured), directory=directory) as connection:
        connection.token()
    other = Certificate(tmp_path)
    secured.show(other)
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


class Overtaken(MemoryStore):
    """A store in which somebody else imports another certificate just before."""

    def __init__(self, server: str) -> None:
        super().__init__()
        self._server = server

    def compare_and_swap(
        self, key: str, expected: int | None, value: bytes, fence: int | None = None
    ) -> Stored | Stale | Fenced:
        if key == "own.trust" and expected is None:
            theirs = {"sha256": "0" * 64, "imported_at": 1, "certificate": ""}
            other = json.dumps({"servers": {self._server: theirs}}).encode()
            super().compare_and_swap(key, None, other)
        return super().compare_and_swap(key, expected, value, fence)


def test_what_another_imported_meanwhile_holds(
    secured: ScriptedServer, shown: Certificate
) -> None:
    store = Overtaken(place(secured))
    host = tokenwell.Host(store=store, secrets=tokenwell.LocalSecrets())
    with tokenwell.open("own", trusting(secured), host=host) as connection:
        with pytest.raises(tokenwell.ForbiddenError, match=f"{shown.sha256}.*{'0' * 64}"):
            connection.token()
    assert secured.received == []


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


def test_a_damaged_entry_is_not_taken_for_none(
    secured: ScriptedServer,
) -> None:
    store = MemoryStore()
    store.compare_and_swap("own.trust", None, b"not JSON")
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
