"""The listener for redirects, and the redirect URI that it takes and gives."""

from __future__ import annotations

import contextlib
import threading
import urllib.parse

import httpx
import pytest
from support import PATIENCE

from tokenwell.types import Outcome, RedirectUrl
from tokenwell.user_agent import LoopbackListener, UserAgentUnavailable


def port_of(listener: LoopbackListener) -> int:
    port = urllib.parse.urlsplit(listener.redirect_uri).port
    assert port
    return port


def free_port() -> int:
    with contextlib.closing(LoopbackListener("crm")) as listener:
        return port_of(listener)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("http://127.0.0.1:", ""),
        ("http://127.0.0.1:", "?tenant=x"),
        ("http://127.0.0.1:", "?"),
        ("http://127.0.0.1:", "/"),
        ("http://127.0.0.1:", "/a/b?tenant=x"),
        ("http://127.0.0.1:0", "/cb"),
        ("http://LocalHost:", "/cb"),
        ("HTTP://127.0.0.1:", "/cb"),
    ],
)
def test_a_uri_that_names_a_port_is_sent_as_it_is_written(before: str, after: str) -> None:
    port = free_port()
    uri = f"{before}{port}{after}"
    with contextlib.closing(LoopbackListener("crm", uri)) as listener:
        assert listener.redirect_uri == uri
        address, _, query = uri.partition("?")
        back = f"{address}?{query}&code=c" if query else f"{address}?code=c"
        asking = threading.Thread(
            target=lambda: httpx.get(back, timeout=PATIENCE, trust_env=False)
        )
        asking.start()
        arrival = listener.next(PATIENCE)
        assert arrival is not None
        assert arrival.redirect == RedirectUrl(back)
        arrival.respond(Outcome("authorized"))
        asking.join()


@pytest.mark.parametrize(
    ("uri", "before", "after"),
    [
        (None, "http://127.0.0.1:", "/oauth2"),
        ("http://127.0.0.1", "http://127.0.0.1:", ""),
        ("http://127.0.0.1:/cb", "http://127.0.0.1:", "/cb"),
        ("http://127.0.0.1:0/cb", "http://127.0.0.1:", "/cb"),
        ("http://LocalHost?a=b", "http://LocalHost:", "?a=b"),
    ],
)
def test_a_uri_that_names_no_port_gets_one_and_nothing_else(
    uri: str | None, before: str, after: str
) -> None:
    with contextlib.closing(LoopbackListener("crm", uri)) as listener:
        assert listener.redirect_uri == f"{before}{port_of(listener)}{after}"


@pytest.mark.parametrize(
    "uri",
    [
        "https://127.0.0.1/cb",
        "http://client.example/cb",
        "http://127.0.0.2/cb",
        "http://127.0.0.1.client.example/cb",
        "http://localhoſt/cb",
        "http://user@127.0.0.1/cb",
        "http://127.0.0.1/cb#fragment",
        "http://127.0.0.1:65536/cb",
        "http://127.0.0.1:+80/cb",
        "http://[::1]x:80/cb",
        "http://127.0.0.1/c\nb",
        " http://127.0.0.1/cb",
        "/cb",
        "",
    ],
)
def test_a_uri_that_is_not_of_the_loopback_interface_is_unavailable(uri: str) -> None:
    with pytest.raises(UserAgentUnavailable, match="complete_authorization"):
        LoopbackListener("crm", uri)
