"""Stores that raise, callbacks that never return, calls after close, configs of types that
do not fit: an error of Python's kind that names the field, nothing lost, no hang."""

from __future__ import annotations

import asyncio
import contextlib
import decimal
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any, Literal

import pytest
from support import PATIENCE, Answer, Process, ScriptedServer, ending, eventually, tokens

import tokenwell
from tokenwell.store import Entry, Lease, MemoryStore, StoreDenied, TokenStore

SHORT = 0.3


class OwnStore(TokenStore):
    """A store of a user's, which does what it is told before it stores."""

    def __init__(self) -> None:
        self.within = MemoryStore()
        self.before: dict[str, Any] = {}

    def _at(self, name: str) -> None:
        if act := self.before.get(name):
            act()

    def load(self, key: str, known: int | None = None) -> Any:
        self._at("load")
        return self.within.load(key, known)

    def compare_and_swap(
        self, key: str, expected: int | None, value: bytes, fence: int | None = None
    ) -> Any:
        self._at("compare_and_swap")
        return self.within.compare_and_swap(key, expected, value, fence)

    def delete(self, key: str, expected: int) -> bool:
        self._at("delete")
        return self.within.delete(key, expected)

    def acquire_lease(self, key: str, ttl: float, wait: float) -> Lease | None:
        self._at("acquire_lease")
        return self.within.acquire_lease(key, ttl, wait)


def host_with(store: TokenStore, **more: Any) -> tokenwell.Host:
    return tokenwell.Host(store=store, secrets=tokenwell.LocalSecrets(), **more)


def raises(error: BaseException) -> Any:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize("method", ["load", "compare_and_swap", "acquire_lease"])
def test_a_store_that_raises_is_an_error_with_that_cause_and_works_again(
    server: ScriptedServer, method: str
) -> None:
    server.answer("/token", Answer(200, tokens(1)))
    store = OwnStore()
    with tokenwell.open("own", server.machine(), host=host_with(store)) as connection:
        store.before[method] = raises(KeyError("a secret of the store's"))
        with pytest.raises(tokenwell.StorageError) as failed:
            connection.token()
        assert failed.value.storage == "unavailable"
        assert isinstance(failed.value.__cause__, KeyError)
        assert "secret" not in str(failed.value)
        assert server.requests() == [], "nothing is sent that could not be stored"
        store.before.clear()
        assert connection.token().access_token == tokens(1)["access_token"]


def test_a_store_that_denies_says_why(server: ScriptedServer) -> None:
    store = OwnStore()
    store.before["load"] = raises(StoreDenied("this table is not yours"))
    with tokenwell.open("own", server.machine(), host=host_with(store)) as connection:
        with pytest.raises(tokenwell.ForbiddenError, match="this table is not yours"):
            connection.token()


def test_a_store_that_raises_when_the_answer_is_there_is_asked_again(
    server: ScriptedServer,
) -> None:
    server.answer("/token", Answer(200, tokens(1)))
    store = OwnStore()
    failures = iter([False, True, True])

    def act() -> None:
        if next(failures, False):
            raise OSError("the disk is full")

    store.before["compare_and_swap"] = act
    with tokenwell.open("own", server.machine(), host=host_with(store)) as connection:
        assert connection.token().access_token == tokens(1)["access_token"]
    assert len(server.requests()) == 1


@pytest.mark.parametrize("returned", ["text", 7, Entry(-1, b""), Entry(1, "text")])  # type: ignore[arg-type]
def test_a_store_that_returns_what_it_should_not_is_an_error(
    server: ScriptedServer, returned: Any
) -> None:
    store = OwnStore()
    store.load = lambda key, known=None: returned  # type: ignore[method-assign]
    with tokenwell.open("own", server.machine(), host=host_with(store)) as connection:
        with pytest.raises(tokenwell.StorageError) as failed:
            connection.token()
    assert isinstance(failed.value.__cause__, TypeError | ValueError)
    assert "load" in str(failed.value.__cause__)


@pytest.mark.parametrize("method", ["load", "compare_and_swap", "acquire_lease"])
def test_a_store_that_never_returns_is_given_up(server: ScriptedServer, method: str) -> None:
    server.answer("/token", Answer(200, tokens(1)))
    store = OwnStore()
    go_on = threading.Event()
    store.before[method] = lambda: go_on.wait(PATIENCE)
    host = host_with(store, callback_timeout=SHORT)
    try:
        with tokenwell.open("own", server.machine(), host=host) as connection:
            with pytest.raises(tokenwell.StorageError) as failed:
                connection.token()
            assert isinstance(failed.value.__cause__, TimeoutError)
            assert method in str(failed.value)
            go_on.set()
            store.before.clear()
            assert connection.token().access_token == tokens(1)["access_token"]
    finally:
        go_on.set()


def test_a_store_in_which_the_packages_own_secrets_never_return_is_given_up(
    server: ScriptedServer, tmp_path: Path
) -> None:
    go_on = threading.Event()

    class Keys(OwnStore):
        def load(self, key: str, known: int | None = None) -> Any:
            if key == "tokenwell.keys":
                go_on.wait(PATIENCE)
            return super().load(key, known)

    keys = Keys()
    secrets = tokenwell.LocalSecrets(tmp_path, store=keys)
    host = tokenwell.Host(store=keys, secrets=secrets, callback_timeout=SHORT)
    try:
        with tokenwell.open("own", server.machine(), host=host) as connection:
            with pytest.raises(tokenwell.StorageError) as failed:
                connection.token()
        assert isinstance(failed.value.__cause__, TimeoutError)
    finally:
        go_on.set()


def test_secrets_that_never_return_are_given_up(server: ScriptedServer) -> None:
    go_on = threading.Event()

    class Slow(tokenwell.LocalSecrets):
        def resolve(self, reference: str) -> str:
            go_on.wait(PATIENCE)
            return "late"

    host = tokenwell.Host(secrets=Slow(), callback_timeout=SHORT)
    config = server.machine(client_secret={"ref": "vault:x"})
    try:
        with tokenwell.open("own", config, host=host) as connection:
            with pytest.raises(tokenwell.Error) as failed:
                connection.token()
        assert isinstance(failed.value.__cause__, TimeoutError)
        assert server.requests() == []
    finally:
        go_on.set()


def test_a_receiver_of_events_that_never_returns_holds_nobody_up(
    server: ScriptedServer,
) -> None:
    server.answer("/token", Answer(200, tokens(1)))
    go_on = threading.Event()
    host = tokenwell.Host(events=lambda event: go_on.wait(PATIENCE))
    try:
        with tokenwell.open("own", server.machine(), host=host) as connection:
            connection.token()
            for _ in range(3):
                connection.refresh()
    finally:
        go_on.set()


SHORT_LIVED = """
import json, sys, time, tokenwell

def hear(event):
    time.sleep(float(sys.argv[2]))
    print(event.kind, flush=True)

host = tokenwell.Host(events=hear)
with host.connection("short", json.loads(sys.argv[1])) as connection:
    connection.token()
    connection.clear()
"""


def test_a_receiver_of_events_hears_all_before_the_process_ends(server: ScriptedServer) -> None:
    server.answer("/token", Answer(200, tokens(1)))
    config = json.dumps(server.machine())
    with ending(Process(sys.executable, "-c", SHORT_LIVED, config, "0.3")) as process:
        code, output, errors = process.finish()
    assert code == 0, errors
    assert output.split() == ["renewed", "cleared"]


def test_a_receiver_of_events_that_never_returns_does_not_keep_the_process_from_ending(
    server: ScriptedServer,
) -> None:
    server.answer("/token", Answer(200, tokens(1)))
    config = json.dumps(server.machine())
    with ending(Process(sys.executable, "-c", SHORT_LIVED, config, "1000")) as process:
        assert process.finish()[0] == 0


@pytest.mark.parametrize("warnings_are", ["ignore", "error"])
def test_a_receiver_of_events_that_raises_hears_of_the_next(
    server: ScriptedServer, warnings_are: Literal["ignore", "error"]
) -> None:
    server.answer("/token", Answer(200, tokens(1)))
    heard: list[str] = []
    twice = threading.Event()

    def hear(event: tokenwell.Event) -> None:
        heard.append(event.kind)
        if len(heard) == 2:
            twice.set()
        raise ValueError

    host = tokenwell.Host(events=hear)
    with warnings.catch_warnings():
        warnings.simplefilter(warnings_are)
        with tokenwell.open("own", server.machine(), host=host) as connection:
            connection.token()
            connection.refresh()
        assert twice.wait(PATIENCE)
        host._await_events(PATIENCE)
    assert heard == ["renewed", "renewed"]


def test_what_a_receiver_of_events_raises_is_a_warning(server: ScriptedServer) -> None:
    server.answer("/token", Answer(200, tokens(1)))

    def hear(event: tokenwell.Event) -> None:
        raise ValueError(f"no room for {event.kind}")

    host = tokenwell.Host(events=hear)
    with pytest.warns(RuntimeWarning, match="ValueError: no room for renewed") as warned:
        with tokenwell.open("own", server.machine(), host=host) as connection:
            connection.token()
        host._await_events(PATIENCE)
    (warning,) = warned
    assert "in hear" in str(warning.message), "where it was raised is told too"


def test_a_user_agent_that_never_returns_is_given_up(server: ScriptedServer) -> None:
    go_on = threading.Event()
    agent = tokenwell.Browser(open_url=lambda url: go_on.wait(PATIENCE))
    host = tokenwell.Host(user_agent=agent, callback_timeout=SHORT)
    config = {
        "client_id": "client",
        "authorization_endpoint": server.url("/authorize"),
        "token_endpoint": server.url("/token"),
    }
    try:
        with tokenwell.open("own", config, host=host) as connection:
            with pytest.raises(tokenwell.Error) as failed:
                connection.authorize(timeout=60)
        assert isinstance(failed.value.__cause__, TimeoutError)
    finally:
        go_on.set()


def test_a_callback_that_calls_its_connection_is_told_so(server: ScriptedServer) -> None:
    store = OwnStore()
    connection = tokenwell.open("own", server.machine(), host=host_with(store))
    store.before["load"] = lambda: connection.token()
    with connection, pytest.raises(tokenwell.StorageError) as failed:
        connection.token()
    assert isinstance(failed.value.__cause__, RuntimeError)
    assert "cannot call a connection" in str(failed.value.__cause__)


def test_each_call_after_close_says_that_it_is_closed(server: ScriptedServer) -> None:
    server.answer("/token", Answer(200, tokens(1)))
    with tokenwell.open("own", server.machine()) as connection:
        connection.token()
    connection.close()
    calls: list[Any] = [
        connection.token,
        connection.status,
        connection.check,
        connection.refresh,
        connection.clear,
        connection.authorize,
        lambda: connection.authorization_headers("GET", "https://api.client.example/"),
        lambda: connection.complete_authorization("http://127.0.0.1/?code=x"),
    ]
    for call in calls:
        with pytest.raises(tokenwell.ClosedError):
            call()


def test_a_browser_that_comes_back_after_close_is_told_so(server: ScriptedServer) -> None:
    import httpx

    opened = threading.Event()
    urls: list[str] = []

    def open_url(url: str) -> None:
        urls.append(url)
        opened.set()

    host = tokenwell.Host(user_agent=tokenwell.Browser(open_url=open_url))
    config = {
        "client_id": "client",
        "authorization_endpoint": server.url("/authorize"),
        "token_endpoint": server.url("/token"),
    }
    connection = tokenwell.open("own", config, host=host)
    failures: list[BaseException] = []

    def authorize() -> None:
        try:
            connection.authorize(timeout=120)
        except BaseException as error:
            failures.append(error)

    waiting = threading.Thread(target=authorize)
    waiting.start()
    assert opened.wait(PATIENCE)
    connection.close()
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    assert isinstance(failures[0], tokenwell.Error)
    query = dict(httpx.URL(urls[0]).params)
    with pytest.raises(httpx.HTTPError):
        httpx.get(query["redirect_uri"], params={"code": "x", "state": query["state"]})
    assert server.requests() == []


def user_config(server: ScriptedServer) -> tuple[dict[str, Any], int]:
    """The config of a client with a user, whose redirect comes to that port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    config = {
        "client_id": "client",
        "authorization_endpoint": server.url("/authorize"),
        "token_endpoint": server.url("/token"),
        "redirect_uri": f"http://127.0.0.1:{port}/oauth2",
    }
    return config, port


def test_an_authorization_that_is_cancelled_gives_its_port_back(server: ScriptedServer) -> None:
    config, _ = user_config(server)
    opened: list[str] = []
    host = tokenwell.Host(user_agent=tokenwell.Browser(open_url=opened.append))

    async def main() -> None:
        async with tokenwell.open_async("own", config, host=host) as connection:
            for _ in range(3):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(connection.authorize(timeout=60), 0.3)

    asyncio.run(main())
    assert len(opened) == 3


def test_an_authorization_that_is_interrupted_gives_its_port_back(
    server: ScriptedServer,
) -> None:
    config, port = user_config(server)

    def open_url(url: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    host = tokenwell.Host(user_agent=tokenwell.Browser(open_url=open_url))
    with tokenwell.open("own", config, host=host) as connection:
        with pytest.raises(KeyboardInterrupt):
            connection.authorize(timeout=300)

        def is_free() -> bool:
            try:
                socket.create_server(("127.0.0.1", port)).close()
            except OSError:
                return False
            return True

        eventually("free port", is_free)


def device_config(server: ScriptedServer) -> dict[str, Any]:
    begun = {
        "device_code": "d",
        "user_code": "WDJB-MJHT",
        "verification_uri": "https://as.client.example/device",
        "expires_in": 600,
        "interval": 1,
    }
    server.answer("/device", Answer(200, begun))
    server.answer("/token", Answer(400, {"error": "authorization_pending"}))
    return {
        "grant_type": "device_code",
        "client_id": "client",
        "device_authorization_endpoint": server.url("/device"),
        "token_endpoint": server.url("/token"),
    }


def test_waiting_for_a_devices_user_ends_with_close(server: ScriptedServer) -> None:
    host = tokenwell.Host(user_agent=tokenwell.Browser(show_device_code=lambda device: None))
    connection = tokenwell.open("own", device_config(server), host=host)

    def close() -> None:
        eventually("a question", lambda: server.requests())
        connection.close()

    closing = threading.Thread(target=close)
    closing.start()
    with pytest.raises(tokenwell.ClosedError):
        connection.authorize(timeout=300)
    closing.join()
    asked = len(server.requests())
    time.sleep(1.5)
    assert len(server.requests()) == asked


def test_what_a_devices_user_has_granted_is_stored_after_close(server: ScriptedServer) -> None:
    store = OwnStore()
    host = host_with(
        store, user_agent=tokenwell.Browser(show_device_code=lambda device: None)
    )
    connection = tokenwell.open("own", device_config(server), host=host)
    server.answer("/token", Answer(200, tokens(1)))
    failures = 3

    def fail() -> None:
        nonlocal failures
        if server.requests() and failures:
            failures -= 1
            connection.close()
            raise OSError("the disk is full")

    store.before["compare_and_swap"] = fail
    with contextlib.suppress(tokenwell.Error):
        connection.authorize(timeout=300)
    assert failures == 0
    with tokenwell.open("own", device_config(server), host=host) as again:
        assert again.token().access_token == tokens(1)["access_token"]


def test_a_renewal_under_way_survives_close(server: ScriptedServer, tmp_path: Path) -> None:
    go_on = threading.Event()
    server.answer("/token", Answer(200, tokens(1), until=go_on))
    connection = tokenwell.open("own", server.machine(), directory=tmp_path)
    found: list[str] = []
    renewing = threading.Thread(target=lambda: found.append(connection.token().access_token))
    renewing.start()
    eventually("the request", lambda: server.requests())
    connection.close()
    go_on.set()
    renewing.join(PATIENCE)
    assert found == [tokens(1)["access_token"]]
    with tokenwell.open("own", server.machine(), directory=tmp_path) as again:
        assert again.token().access_token == tokens(1)["access_token"]
    assert len(server.requests()) == 1


@pytest.mark.parametrize(
    ("field", "value", "names"),
    [
        ("client_id", b"client", "client_id"),
        ("timeout", decimal.Decimal(3), "timeout"),
        ("timeout", float("nan"), "timeout"),
        ("scope", {"read"}, "scope"),
        ("signing_key", {"ref": Path("key.pem")}, "signing_key.ref"),
        ("renewal", {"early_seconds": 1j}, "renewal.early_seconds"),
        ("client_id", "\ud800", "client_id"),
        ("assertion_claims", {1: "x"}, "assertion_claims"),
    ],
)
def test_a_value_that_json_lacks_is_named_by_its_field(
    field: str, value: Any, names: str
) -> None:
    with pytest.raises(tokenwell.ConfigTypeError, match=names) as failed:
        tokenwell.open("own", {"client_id": "client", field: value})
    assert isinstance(failed.value, TypeError)
    assert isinstance(failed.value, tokenwell.NotConfiguredError)
    assert [problem.field for problem in failed.value.problems] == [names]


def test_a_value_that_the_config_cannot_have_is_named_by_its_field() -> None:
    with pytest.raises(tokenwell.NotConfiguredError) as failed:
        tokenwell.open("own", {"timeout": "soon", "clent_id": "x", "pkce": 3})
    told = {problem.field: problem for problem in failed.value.problems}
    assert {"timeout", "clent_id", "pkce"} <= set(told)
    assert "client_id" in told["clent_id"].mend


def test_a_config_that_refers_to_itself_is_an_error() -> None:
    config: dict[str, Any] = {"client_id": "x"}
    config["parameters"] = config
    with pytest.raises(tokenwell.ConfigTypeError):
        tokenwell.open("own", config)


def test_a_config_that_is_none_at_all_is_an_error() -> None:
    with pytest.raises(tokenwell.ConfigTypeError):
        tokenwell.open("own", 7)  # type: ignore[arg-type]
    with pytest.raises(tokenwell.NotConfiguredError):
        tokenwell.open("own", "{")


def test_a_name_that_is_none_is_an_error() -> None:
    with pytest.raises(TypeError, match="name"):
        tokenwell.open(7, {})  # type: ignore[arg-type]
    with pytest.raises(tokenwell.Error):
        tokenwell.open("../up", {})


@pytest.mark.parametrize("value", ["60", 1.5, True])
def test_an_argument_of_another_type_is_named(server: ScriptedServer, value: Any) -> None:
    with tokenwell.open("own", server.machine()) as connection:
        with pytest.raises(TypeError, match="min_validity"):
            connection.token(min_validity=value)


@pytest.mark.parametrize("value", [-1, 1 << 32])
def test_an_argument_out_of_range_is_named(server: ScriptedServer, value: int) -> None:
    with tokenwell.open("own", server.machine()) as connection:
        with pytest.raises(ValueError, match="min_validity"):
            connection.token(min_validity=value)


@pytest.mark.parametrize(
    ("call", "error", "names"),
    [
        (lambda c: c.authorization_headers("GET", "x", min_validity=-1), ValueError, "min_validity"),
        (lambda c: c.authorization_headers("GET", "x", min_validity="1"), TypeError, "min_validity"),
        (lambda c: c.authorization_headers("GET", "x", rejected=7), TypeError, "rejected"),
        (lambda c: c.authorization_headers("GET", "x", dpop_nonce=7), TypeError, "dpop_nonce"),
        (lambda c: c.authorization_headers("GET", 7), TypeError, "url"),
        (lambda c: c.begin_authorization(parameters=7), TypeError, "parameters"),
        (lambda c: c.begin_authorization(prompt=["soon"]), ValueError, "prompt"),
        (lambda c: c.complete_authorization("\ud800"), ValueError, "redirect"),
        (
            lambda c: c.complete_authorization(tokenwell.FormPost(b"code=x")),
            TypeError,
            "redirect.body",
        ),
        (lambda c: c.host.register_client(7, {}), TypeError, "issuer"),
        (lambda c: c.host.connection("own", {}, origins="https://x"), TypeError, "origins"),
        (lambda c: c.host.connection("own", {}, origins=[7]), TypeError, "origins"),
        (lambda c: tokenwell.open("own", {}, host=7), TypeError, "host"),
        (lambda c: tokenwell.LocalSecrets(password=b"x"), TypeError, "password"),
        (lambda c: tokenwell.Host(tls_trust="no"), TypeError, "tls_trust"),
    ],
)
def test_each_argument_that_does_not_fit_is_named(
    server: ScriptedServer, call: Any, error: type[Exception], names: str
) -> None:
    with tokenwell.open("own", server.machine(), host=tokenwell.Host()) as connection:
        with pytest.raises(error, match=f"^{re.escape(names)}"):
            call(connection)
    assert server.requests() == []


def test_a_host_is_made_of_what_it_needs() -> None:
    with pytest.raises(TypeError, match="secrets"):
        tokenwell.Host(store=MemoryStore())
    with pytest.raises(TypeError, match="store"):
        tokenwell.Host(store=object(), secrets=tokenwell.LocalSecrets())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="events"):
        tokenwell.Host(events=7)  # type: ignore[arg-type]


def test_tls_that_verifies_nothing_is_refused_before_anything_is_sent(server: ScriptedServer) -> None:
    with tokenwell.open("own", server.machine(tls="off")) as connection:
        with pytest.raises(tokenwell.ForbiddenError, match="off"):
            connection.token()
    assert server.requests() == []


def test_no_secret_and_no_token_is_in_what_is_printed(server: ScriptedServer) -> None:
    server.answer("/token", Answer(200, tokens(1)))
    with tokenwell.open("own", server.machine()) as connection:
        token = connection.token()
        assert token.access_token not in repr(token)
        assert token.access_token not in repr(connection.history())


def test_what_completes_an_authorization_is_not_in_what_is_printed(
    server: ScriptedServer,
) -> None:
    config, _ = user_config(server)
    with tokenwell.open("own", config) as connection:
        begun = connection.begin_authorization()
    assert begun.state not in repr(begun)
    assert begun.redirect_uri in repr(begun)


def test_what_interrupts_a_call_is_raised_and_the_connection_lives_on(
    server: ScriptedServer,
) -> None:
    class Interrupt(BaseException):
        pass

    server.answer("/token", Answer(200, tokens(1)))
    with tokenwell.open("own", server.machine(), host=tokenwell.Host()) as connection:
        real = connection._host._store.load
        connection._host._store.load = raises_with(Interrupt())  # type: ignore[method-assign]
        with pytest.raises(Interrupt):
            connection.token()
        connection._host._store.load = real  # type: ignore[method-assign]
        assert connection.token().access_token == tokens(1)["access_token"]


def raises_with(error: BaseException) -> Any:
    def act(*_: Any) -> None:
        raise error

    return act
