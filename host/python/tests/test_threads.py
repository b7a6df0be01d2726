"""Many threads, event loops and connections."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support import Answer, Process, ScriptedServer, ending, eventually, tokens

import tokenwell


class Clock:
    """Sets the clock forward, by so many seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0
        seconds, nanoseconds = time.time, time.time_ns
        monkeypatch.setattr(time, "time", lambda: seconds() + self.ahead)
        monkeypatch.setattr(time, "time_ns", lambda: nanoseconds() + self.ahead * 10**9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("where", ["memory", "files"])
def test_two_hundred_threads_without_a_token_send_one_request(
    server: ScriptedServer, where: str, tmp_path: Any
) -> None:
    go_on = threading.Event()
    server.answer("/token", Answer(200, tokens(1), until=go_on))
    host = tokenwell.Host() if where == "memory" else tokenwell.Host.in_directory(tmp_path)
    with tokenwell.open("many", server.machine(), host=host) as connection:
        with ThreadPoolExecutor(200) as threads:
            asking = [threads.submit(connection.token) for _ in range(200)]
            eventually("the request", lambda: server.requests())
            go_on.set()
            found = {one.result(60).access_token for one in asking}
    assert found == {tokens(1)["access_token"]}
    assert len(server.requests()) == 1


def test_while_one_thread_renews_what_is_due_the_others_get_the_valid_token(
    server: ScriptedServer, clock: Clock
) -> None:
    go_on = threading.Event()
    server.answer("/token", Answer(200, tokens(1, 3600)), Answer(200, tokens(2), until=go_on))
    with tokenwell.open("due", server.machine(), host=tokenwell.Host()) as connection:
        connection.token()
        clock.ahead = 3590
        renewing = threading.Thread(target=connection.token)
        renewing.start()
        try:
            eventually("the renewal", lambda: len(server.requests()) == 2)
            assert connection.token().access_token == tokens(1)["access_token"]
        finally:
            go_on.set()
            renewing.join()
        assert connection.token().access_token == tokens(2)["access_token"]


def test_coroutines_share_one_request_and_the_loop_is_not_held_up(
    server: ScriptedServer,
) -> None:
    go_on = threading.Event()
    server.answer("/token", Answer(200, tokens(1), until=go_on))

    async def main() -> set[str]:
        host = tokenwell.Host()
        async with tokenwell.open_async("loop", server.machine(), host=host) as connection:
            asking = [asyncio.create_task(connection.token()) for _ in range(50)]
            while not server.requests():
                await asyncio.sleep(0.001)
            go_on.set()
            return {token.access_token for token in await asyncio.gather(*asking)}

    assert asyncio.run(main()) == {tokens(1)["access_token"]}
    assert len(server.requests()) == 1


def test_each_method_of_a_connection_is_there_as_a_coroutine() -> None:
    methods = {
        name: method
        for name, method in vars(tokenwell.Connection).items()
        if inspect.isfunction(method) and not name.startswith("_") and name != "close"
    }
    assert len(methods) > 15
    for name, method in methods.items():
        twin = getattr(tokenwell.AsyncConnection, name)
        assert inspect.iscoroutinefunction(twin), name
        assert inspect.signature(twin) == inspect.signature(method), name
        assert twin.__doc__, name


def test_a_cancelled_coroutine_loses_no_answer(server: ScriptedServer) -> None:
    go_on = threading.Event()
    server.answer("/token", Answer(200, tokens(1), until=go_on), Answer(200, tokens(2)))

    async def main() -> str:
        host = tokenwell.Host()
        async with tokenwell.open_async("loop", server.machine(), host=host) as connection:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(connection.token(), 0.2)
            go_on.set()
            return (await connection.token()).access_token

    assert asyncio.run(main()) == tokens(1)["access_token"]
    assert len(server.requests()) == 1


def test_what_a_cancelled_coroutine_began_is_stored_when_the_connection_is_left(
    server: ScriptedServer, tmp_path: Path
) -> None:
    go_on = threading.Event()
    server.answer("/token", Answer(200, tokens(1), until=go_on), Answer(200, tokens(2)))

    async def main() -> None:
        async with tokenwell.open_async("loop", server.machine(), directory=tmp_path) as connection:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(connection.token(), 0.2)
            threading.Timer(0.3, go_on.set).start()

    asyncio.run(main())
    with tokenwell.open("loop", server.machine(), directory=tmp_path) as connection:
        assert connection.status().state == "authorized"
        assert connection.token().access_token == tokens(1)["access_token"]
    assert len(server.requests()) == 1


LEFT = """
import asyncio, json, sys, tokenwell
connection = tokenwell.open_async("left", json.loads(sys.argv[1]), directory=sys.argv[2])
async def main():
    asking = asyncio.create_task(connection.token())
    print("began", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    asking.cancel()
asyncio.run(main())
print("leaving", flush=True)
"""


def test_the_end_of_the_process_waits_for_what_was_begun(
    server: ScriptedServer, tmp_path: Path
) -> None:
    go_on = threading.Event()
    server.answer("/token", Answer(200, tokens(1), until=go_on), Answer(200, tokens(2)))
    config = json.dumps(server.machine())
    with ending(Process(sys.executable, "-c", LEFT, config, tmp_path)) as process:
        assert process.line() == "began"
        eventually("the request", lambda: server.requests())
        process.child.stdin.write("\n")
        process.child.stdin.flush()
        assert process.line() == "leaving"
        time.sleep(0.3)
        go_on.set()
        code, _, errors = process.finish()
        assert code == 0, errors
    with tokenwell.open("left", server.machine(), directory=tmp_path) as connection:
        assert connection.token().access_token == tokens(1)["access_token"]
    assert len(server.requests()) == 1


def test_the_end_of_the_process_does_not_wait_for_longer_than_a_request_may_take(
    server: ScriptedServer, tmp_path: Path
) -> None:
    go_on = threading.Event()
    server.answer("/token", Answer(200, tokens(1), until=go_on))
    config = json.dumps(server.machine(timeout=1))
    try:
        with ending(Process(sys.executable, "-c", LEFT, config, tmp_path)) as process:
            assert process.line() == "began"
            eventually("the request", lambda: server.requests())
            process.child.stdin.write("\n")
            process.child.stdin.flush()
            assert process.finish()[0] == 0
    finally:
        go_on.set()


def test_what_ctrl_c_interrupts_is_still_stored(server: ScriptedServer) -> None:
    go_on = threading.Event()
    server.answer("/token", Answer(200, tokens(1), until=go_on), Answer(200, tokens(2)))

    def interrupt() -> None:
        eventually("the request", lambda: server.requests())
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    with tokenwell.open("ctrl-c", server.machine(), host=tokenwell.Host()) as connection:
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            connection.token()
        interrupting.join()
        go_on.set()
        assert connection.token().access_token == tokens(1)["access_token"]
    assert len(server.requests()) == 1


def test_the_same_object_serves_several_loops(server: ScriptedServer) -> None:
    server.answer("/token", Answer(200, tokens(1)))
    connection = tokenwell.open_async("loops", server.machine(), host=tokenwell.Host())

    async def main() -> str:
        return (await connection.token()).access_token

    assert asyncio.run(main()) == asyncio.run(main())


def test_a_fresh_token_is_handed_out_again_only_while_it_is_fresh(
    server: ScriptedServer, clock: Clock
) -> None:
    server.answer("/token", *(Answer(200, tokens(number)) for number in (1, 2, 3)))
    with tokenwell.open("clock", server.machine(), host=tokenwell.Host()) as connection:
        first = connection.token()
        assert connection.token() is first
        assert connection.token(min_validity=60) is first
        clock.ahead = 2400
        assert connection.token() is first
        second = connection.token(min_validity=1500)
        assert second.access_token == tokens(2)["access_token"]
        clock.ahead += 3500
        assert connection.token().access_token == tokens(3)["access_token"]


def test_a_rejected_token_is_renewed_once_for_all(server: ScriptedServer) -> None:
    server.answer("/token", *(Answer(200, tokens(number)) for number in (1, 2, 3)))
    with tokenwell.open("rejected", server.machine(), host=tokenwell.Host()) as connection:
        first = connection.token().access_token
        again = {connection.token(rejected=first).access_token for _ in range(3)}
    assert again == {tokens(2)["access_token"]}
