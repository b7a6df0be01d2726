"""Where a connection may send to."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from support import Answer, ScriptedServer, ending, tokens

import tokenwell


def metadata(server: ScriptedServer, token_endpoint: str, issuer: str | None = None) -> Answer:
    found = issuer or server.origin
    return Answer(
        200,
        {
            "issuer": found,
            "authorization_endpoint": f"{found}/authorize",
            "token_endpoint": token_endpoint,
        },
    )


WELL_KNOWN = "/.well-known/openid-configuration"


def test_the_metadata_of_the_issuer_names_where_it_may_send_to(server: ScriptedServer) -> None:
    with ending(ScriptedServer()) as tokens_from:
        server.answer(WELL_KNOWN, metadata(server, tokens_from.url("/token")))
        tokens_from.answer("/token", Answer(200, tokens(1)))
        config = server.machine(issuer=server.origin)
        del config["token_endpoint"]
        with tokenwell.open("found", config, host=tokenwell.Host()) as connection:
            assert connection.token().access_token == tokens(1)["access_token"]


def test_a_renewal_goes_where_the_credential_was_issued(
    server: ScriptedServer, tmp_path: object
) -> None:
    with ending(ScriptedServer()) as tokens_from:
        server.answer(WELL_KNOWN, metadata(server, tokens_from.url("/token")))
        tokens_from.answer("/token", Answer(200, tokens(1)), Answer(200, tokens(2)))
        config = server.machine(issuer=server.origin)
        del config["token_endpoint"]
        directory = str(tmp_path)
        with tokenwell.open("found", config, directory=directory) as connection:
            connection.token()
        with tokenwell.open("found", config, directory=directory) as connection:
            assert connection.refresh().access_token == tokens(2)["access_token"]


def test_an_issuer_that_is_failing_for_a_moment_is_asked_again(
    server: ScriptedServer, tmp_path: object
) -> None:
    with ending(ScriptedServer()) as tokens_from:
        found = metadata(server, tokens_from.url("/token"))
        server.answer(WELL_KNOWN, found)
        tokens_from.answer("/token", Answer(200, tokens(1)), Answer(200, tokens(2)))
        config = server.machine(issuer=server.origin)
        del config["token_endpoint"]
        directory = str(tmp_path)
        with tokenwell.open("found", config, directory=directory) as connection:
            connection.token()
        server.answer(WELL_KNOWN, Answer(503, {}))
        with tokenwell.open("found", config, directory=directory) as connection:
            with pytest.raises(tokenwell.UnavailableError):
                connection.refresh()
            server.answer(WELL_KNOWN, found)
            assert connection.refresh().access_token == tokens(2)["access_token"]


def test_a_refused_origin_is_named(server: ScriptedServer, tmp_path: object) -> None:
    with ending(ScriptedServer()) as tokens_from:
        server.answer(WELL_KNOWN, metadata(server, tokens_from.url("/token")))
        tokens_from.answer("/token", Answer(200, tokens(1)))
        config = server.machine(issuer=server.origin)
        del config["token_endpoint"]
        directory = str(tmp_path)
        with tokenwell.open("found", config, directory=directory) as connection:
            connection.token()
        server.answer(WELL_KNOWN, metadata(server, server.url("/token")))
        with tokenwell.open("found", config, directory=directory) as connection:
            with pytest.raises(tokenwell.ForbiddenError, match=tokens_from.origin):
                connection.refresh()


def test_a_redirect_is_not_followed(server: ScriptedServer) -> None:
    with ending(ScriptedServer()) as elsewhere:
        server.answer("/token", Answer(307, {}, headers={"location": elsewhere.url("/token")}))
        with tokenwell.open("redirected", server.machine()) as connection:
            with pytest.raises(tokenwell.Error):
                connection.token()
        assert elsewhere.received == []


def test_plain_http_goes_to_the_loopback_interface_alone() -> None:
    config = {
        "grant_type": "client_credentials",
        "client_id": "client",
        "client_secret": "x",
        "token_endpoint": "http://as.client.example/token",
    }
    with pytest.raises(tokenwell.Error) as failed:
        with tokenwell.open("clear", config) as connection:
            connection.token()
    assert failed.value.code in ("not-configured", "forbidden")


def test_an_origin_that_nobody_named_is_refused() -> None:
    from tokenwell._egress import Egress

    egress = Egress(["https://as.example/token"], ["https://as.example"])
    assert egress.allows("https://as.example/anything")
    assert egress.allows("https://as.example:443/token")
    for url in (
        "https://as.example:8443/token",
        "http://as.example/token",
        "https://evil.example/token",
        "https://as.example.evil.example/token",
        "https://as.example@evil.example/token",
        "file:///etc/passwd",
        "not a url",
    ):
        assert not egress.allows(url), url


@pytest.mark.parametrize(
    ("url", "status", "issuer"),
    [
        ("https://other.example/.well-known/openid-configuration", 200, "https://as.example"),
        ("https://as.example/elsewhere", 200, "https://as.example"),
        ("https://as.example/.well-known/openid-configuration", 404, "https://as.example"),
        ("https://as.example/.well-known/openid-configuration", 200, "https://other.example"),
        ("https://as.example/.well-known/openid-configuration", 200, "https://as.example/"),
        ("https://as.example/.well-known/openid-configuration", 200, "https://AS.example"),
        ("https://as.example/.well-known/openid-configuration", 200, "https://as.example/b"),
        ("https://as.example/b/.well-known/openid-configuration", 200, "https://as.example"),
    ],
)
def test_what_is_not_the_issuers_metadata_adds_no_origin(
    url: str, status: int, issuer: str
) -> None:
    import json

    from tokenwell._egress import Egress

    egress = Egress(["https://as.example/token"], ["https://as.example"])
    body = {"issuer": issuer, "token_endpoint": "https://evil.example/token"}
    egress.learn("GET", url, status, json.dumps(body).encode())
    assert not egress.allows("https://evil.example/token")
    assert not egress.allows("https://other.example/token")


@pytest.mark.parametrize("origin", ["https://as.example", "https://AS.example:443"])
@pytest.mark.parametrize(
    "place",
    ["/a/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/a"],
)
def test_the_metadata_of_one_of_several_issuers_at_an_origin_is_its_own(
    origin: str, place: str
) -> None:
    import json

    from tokenwell._egress import Egress

    egress = Egress([], [f"{origin}/a"])
    body = {"issuer": f"{origin}/b", "token_endpoint": "https://b.example/token"}
    egress.learn("GET", f"https://as.example{place}", 200, json.dumps(body).encode())
    assert not egress.allows("https://b.example/token")
    body = {"issuer": f"{origin}/a", "token_endpoint": "https://a.example/token"}
    egress.learn("GET", f"https://as.example{place}", 200, json.dumps(body).encode())
    assert egress.allows("https://a.example/token")


def test_the_catalogue_names_where_a_provider_is() -> None:
    config = {"provider": "microsoft-entra", "client_id": "x"}
    connection = tokenwell.open("entra", config)
    assert connection._egress.allows("https://login.microsoftonline.com/common/oauth2/v2.0/token")
    assert connection._egress.allows("https://graph.microsoft.com/oidc/userinfo")
    assert not connection._egress.allows("https://example.com/")


@pytest.mark.parametrize(
    ("config", "reached", "kept_from"),
    [
        ({"provider": "figma"}, ["https://api.figma.com/v1/oauth/refresh"], []),
        ({"provider": "facebook"}, ["https://graph.facebook.com/oauth/access_token"], []),
        (
            {"provider": "zoho"},
            ["https://accounts.zoho.eu/oauth/v2/token", "https://accounts.zoho.in/oauth/v2/token"],
            ["https://accounts.zoho.example/oauth/v2/token"],
        ),
        (
            {"provider": "plentymarkets", "parameters": {"host": "shop.plenty.example"}},
            ["https://shop.plenty.example/rest/login/refresh"],
            ["https://plenty.example/rest/login/refresh"],
        ),
        # Without its parameter an endpoint is nowhere.
        ({"provider": "plentymarkets"}, [], ["https:///rest/login", "https://rest/login"]),
    ],
)
def test_what_a_provider_has_beside_its_endpoints_is_reached_too(
    config: dict[str, Any], reached: list[str], kept_from: list[str]
) -> None:
    connection = tokenwell.open("provider", config | {"client_id": "x"})
    for url in reached:
        assert connection._egress.allows(url), url
    for url in kept_from:
        assert not connection._egress.allows(url), url


def test_the_endpoints_of_a_provider_are_shown() -> None:
    zoho = tokenwell.Host().show_provider("zoho")
    assert zoho is not None
    servers = [url for name, url in zoho.endpoints if name == "callback_servers"]
    assert len(servers) > 1
    assert "https://accounts.zoho.eu" in servers
    assert "token_endpoint" in dict(zoho.endpoints)


def test_a_server_that_never_answers_is_given_up_in_time(server: ScriptedServer) -> None:
    go_on = threading.Event()
    server.answer("/token", Answer(200, tokens(1), until=go_on))
    try:
        with tokenwell.open("silent", server.machine(timeout=1)) as connection:
            with pytest.raises(tokenwell.UnavailableError) as failed:
                connection.token()
        assert failed.value.retry_at is not None
    finally:
        go_on.set()


def test_a_response_that_is_too_long_is_refused(server: ScriptedServer) -> None:
    server.answer("/token", Answer(200, b"x" * (3 << 20)))
    with tokenwell.open("long", server.machine()) as connection:
        with pytest.raises(tokenwell.ProtocolViolationError):
            connection.token()


def test_a_server_that_drips_is_given_up_in_time() -> None:
    import socket

    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def drip() -> None:
        came, _ = listening.accept()
        with came:
            came.recv(65536)
            came.sendall(b"HTTP/1.1 200 OK\r\n")
            while not over.wait(0.2):
                try:
                    came.sendall(b"x-more: yes\r\n")
                except OSError:
                    return

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/token"
        config = {
            "grant_type": "client_credentials",
            "client_id": "client",
            "client_secret": "x",
            "token_endpoint": url,
            "timeout": 2,
        }
        with tokenwell.open("dripping", config) as connection:
            with pytest.raises(tokenwell.UnavailableError):
                connection.token()
    finally:
        over.set()
        dripping.join()
        listening.close()
