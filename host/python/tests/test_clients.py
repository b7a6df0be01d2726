"""The token in the requests of HTTP clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from support import Answer, OidcProvider, ScriptedServer, tokens

import tokenwell
import tokenwell.httpx
import tokenwell.requests

REFUSED = Answer(401, {}, headers={"www-authenticate": 'Bearer realm="x", error="invalid_token"'})
GOOD = Answer(200, {"answer": 42})


def ask_with_httpx(connection: tokenwell.Connection, url: str, **arguments: Any) -> int:
    auth = tokenwell.httpx.TokenAuth(connection)
    with httpx.Client(auth=auth, trust_env=False) as client:
        return client.post(url, **arguments).status_code


def ask_with_async_httpx(connection: tokenwell.Connection, url: str, **arguments: Any) -> int:
    async def ask() -> int:
        auth = tokenwell.httpx.TokenAuth(connection)
        async with httpx.AsyncClient(auth=auth, trust_env=False) as client:
            return (await client.post(url, **arguments)).status_code

    return asyncio.run(ask())


def ask_with_requests(connection: tokenwell.Connection, url: str, **arguments: Any) -> int:
    if "content" in arguments:
        arguments["data"] = arguments.pop("content")
    with requests.Session() as session:
        session.auth = tokenwell.requests.TokenAuth(connection)
        session.trust_env = False
        return session.post(url, **arguments).status_code


every_client = pytest.mark.parametrize(
    "ask", [ask_with_httpx, ask_with_async_httpx, ask_with_requests]
)


@pytest.fixture
def connection(server: ScriptedServer) -> Iterator[tokenwell.Connection]:
    server.answer("/token", *(Answer(200, tokens(number)) for number in (1, 2, 3)))
    host = tokenwell.Host()
    with tokenwell.open("api", server.machine(), host=host) as connection:
        yield connection


def shown(server: ScriptedServer) -> list[str]:
    return [headers["authorization"].partition(" ")[2] for headers in server.headers("/api")]


@every_client
def test_a_request_bears_the_token(ask: Any, server: ScriptedServer, connection: Any) -> None:
    server.answer("/api", GOOD)
    assert ask(connection, server.url("/api"), content="x=1") == 200
    assert shown(server) == [tokens(1)["access_token"]]


@every_client
def test_a_refused_token_is_renewed_once(
    ask: Any, server: ScriptedServer, connection: Any
) -> None:
    server.answer("/api", REFUSED, GOOD)
    assert ask(connection, server.url("/api"), content="x=1") == 200
    assert shown(server) == [tokens(1)["access_token"], tokens(2)["access_token"]]
    assert server.requests("/api") == [{"x": "1"}, {"x": "1"}]


@every_client
def test_what_is_refused_again_is_handed_on(
    ask: Any, server: ScriptedServer, connection: Any
) -> None:
    server.answer("/api", REFUSED)
    assert ask(connection, server.url("/api"), content="x=1") == 401
    assert len(shown(server)) == 2


@every_client
def test_another_401_is_handed_on(ask: Any, server: ScriptedServer, connection: Any) -> None:
    challenge = {"www-authenticate": 'Bearer error="insufficient_scope"'}
    server.answer("/api", Answer(401, {}, headers=challenge))
    assert ask(connection, server.url("/api"), content="x=1") == 401
    assert len(shown(server)) == 1


@every_client
def test_a_body_that_is_a_stream_is_sent_once(
    ask: Any, server: ScriptedServer, connection: Any
) -> None:
    server.answer("/api", REFUSED, GOOD)
    stream: Any = iter([b"x=1"])
    if ask is ask_with_async_httpx:

        async def chunks() -> Any:
            yield b"x=1"

        stream = chunks()
    assert ask(connection, server.url("/api"), content=stream) == 401


@every_client
def test_a_token_does_not_go_in_clear(
    ask: Any, server: ScriptedServer, connection: Any
) -> None:
    with pytest.raises(tokenwell.ForbiddenError):
        ask(connection, "http://api.client.example/", content="x=1")
    assert server.requests("/token") == []


@every_client
def test_a_redirect_to_elsewhere_does_not_get_the_token(
    ask: Any, server: ScriptedServer, connection: Any
) -> None:
    from support import ending

    with ending(ScriptedServer()) as elsewhere:
        elsewhere.answer("/api", GOOD)
        server.answer("/api", Answer(307, {}, headers={"location": elsewhere.url("/api")}))
        more = {} if ask is ask_with_requests else {"follow_redirects": True}
        assert ask(connection, server.url("/api"), content="x=1", **more) == 200
        (headers,) = elsewhere.headers("/api")
        assert "authorization" not in headers


@every_client
def test_where_a_redirect_has_led_to_cannot_have_the_token_renewed(
    ask: Any, server: ScriptedServer, connection: Any
) -> None:
    from support import ending

    with ending(ScriptedServer()) as elsewhere:
        elsewhere.answer("/api", REFUSED)
        server.answer("/api", Answer(307, {}, headers={"location": elsewhere.url("/api")}))
        more = {} if ask is ask_with_requests else {"follow_redirects": True}
        assert ask(connection, server.url("/api"), content="x=1", **more) == 401
        assert len(elsewhere.headers("/api")) == 1
    assert len(server.requests("/token")) == 1


@every_client
def test_the_client_gets_the_connections_own_error(ask: Any, server: ScriptedServer) -> None:
    server.answer("/token", Answer(400, {"error": "invalid_client"}))
    host = tokenwell.Host()
    with tokenwell.open("api", server.machine(), host=host) as connection:
        with pytest.raises(tokenwell.RefusedError) as failed:
            ask(connection, server.url("/api"), content="x=1")
    assert failed.value.server_error is not None
    assert failed.value.server_error.code == "invalid_client"


@every_client
def test_a_bound_token_goes_with_a_proof_and_the_nonce_that_is_demanded(
    ask: Any, provider: OidcProvider, server: ScriptedServer, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(json.dumps(provider.keys["ES256"]["jwk"]))
    demand = {"www-authenticate": 'DPoP error="use_dpop_nonce"', "dpop-nonce": "nonce-1"}
    server.answer("/api", Answer(401, {}, headers=demand), GOOD)
    config = provider.machine(
        client_id="bound-machine",
        client_secret="bound-machine-secret-6e10",
        dpop=True,
        signing_key={"ref": "file:key"},
    )
    with tokenwell.open("bound", config, directory=tmp_path) as connection:
        assert ask(connection, server.url("/api"), content="x=1") == 200
    first, second = server.headers("/api")
    assert first["authorization"].startswith("DPoP ")
    assert first["dpop"] != second["dpop"]
    assert claims(second["dpop"])["nonce"] == "nonce-1"
    assert claims(second["dpop"])["htu"] == server.url("/api")


def claims(jwt: str) -> dict[str, Any]:
    import base64

    body = jwt.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found
