"""Cookies that a browser would refuse."""

from __future__ import annotations

import pytest
from support import PATIENCE, Answer, ScriptedServer, tokens

import tokenwell
from tokenwell._cookies import LONGEST, violation


def judged(set_cookie: str) -> str | None:
    return violation("https", "login.example.com", set_cookie)


@pytest.mark.parametrize(
    "cookie",
    [
        "sid=1",
        "sid=1; Path=/; HttpOnly; Secure; SameSite=Lax",
        "sid=1; Domain=example.com",
        "sid=1; Domain=.login.example.com; Secure; SameSite=None",
        "sid=1; Domain=other.example; Domain=example.com",
        "__Host-sid=1; Secure; Path=/",
        "__Secure-sid=; Secure; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
    ],
)
def test_a_cookie_that_a_browser_would_take_is_in_order(cookie: str) -> None:
    assert judged(cookie) is None


@pytest.mark.parametrize(
    ("cookie", "what"),
    [
        ("", "has no name"),
        ("=value", "has no name"),
        ("just-text", "has no name"),
        (f"sid={'x' * LONGEST}", "longer than 4096 bytes"),
        ("sid=1; Domain=other.example", "another domain"),
        ("sid=1; Domain=gin.example.com", "another domain"),
        ("sid=1; Domain=com", "top-level domain"),
        ("sid=1; SameSite=None", "other sites"),
        ("__Secure-sid=1", "name for https alone"),
        ("__Host-sid=1; Secure; Path=/; Domain=login.example.com", "one host alone"),
        ("__Host-sid=1; Secure", "one host alone"),
    ],
)
def test_a_cookie_that_a_browser_would_refuse_is_found(cookie: str, what: str) -> None:
    assert what in (judged(cookie) or "")


def test_a_cookie_for_https_alone_does_not_come_by_http() -> None:
    assert violation("http", "127.0.0.1", "sid=1; Secure") is not None


def test_a_domain_that_ends_as_an_address_does_is_another() -> None:
    assert violation("http", "127.0.0.1", "sid=1; Domain=0.0.1") == "is for another domain"


def refusals(server: ScriptedServer, set_cookie: str, **fields: bool) -> list[tokenwell.Event]:
    """The events of cookies when a token endpoint sets that one."""
    server.answer("/token", Answer(200, tokens(1), headers={"set-cookie": set_cookie}))
    told: list[tokenwell.Event] = []
    host = tokenwell.Host(events=told.append)
    with tokenwell.open("own", server.machine(**fields), host=host) as connection:
        connection.token()
    host._await_events(PATIENCE)
    return [event for event in told if event.kind == "cookie-refused"]


def test_a_cookie_of_the_token_endpoint_for_another_domain_is_told_without_its_value(
    server: ScriptedServer,
) -> None:
    (event,) = refusals(server, "sid=hunter2; Domain=other.example")
    assert event.connection == "own"
    assert event.details == {"server": "127.0.0.1"}
    assert event.message == (
        "a cookie of 127.0.0.1 is for another domain; it is left out of account"
    )


def test_a_cookie_in_order_is_not_told(server: ScriptedServer) -> None:
    assert refusals(server, "sid=1; Path=/") == []


def test_no_cookie_is_told_where_the_config_ignores_the_policy(server: ScriptedServer) -> None:
    cookie = "sid=1; Domain=other.example"
    assert refusals(server, cookie, ignore_cookie_policy=True) == []
