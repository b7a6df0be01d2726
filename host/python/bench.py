"""What a warm token and a client credentials grant cost, the latter beside Authlib's in the
same run:

    python3 host/python/bench.py [--json]

It runs with the interpreter that has the package installed, or else with the environment
that verify.py makes. With --json it prints one object, times in microseconds, for
`cargo xtask bench --hosts`.

The peer is Authlib's OAuth2Session on requests, its oldest and most used client, and the one
that the ratio is about; the one on httpx, which this version of Authlib says is to go, is
measured too. All times are medians. What is compared is done by turns, over loopback and kept connections,
against one server in a process of its own that answers at once: so next to nothing is
measured but the clients, and beside a server that has to think the ratio is lower.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE.parent.parent / "target" / "python" / "environment"

WARM = 20_000
WARM_UP = 50
ROUNDS = 300
HISTORY = 60
"""More renewals than a connection's history holds, which is stored with each."""
CLIENT = ("client", "client-secret-4c1f")
ANSWER = {"access_token": "access-token-9e07", "token_type": "Bearer", "expires_in": 3600}
WARM_LIMIT = 200.0
RATIO_LIMIT = 1.5

Call = Callable[[], object]


class TokenEndpoint(asyncio.Protocol):
    """Answers each request with the same token, and keeps the connection."""

    def __init__(self) -> None:
        body = json.dumps(ANSWER).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        self._answer = head.encode() + b"\r\ncache-control: no-store\r\n\r\n" + body
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while True:
            head, found, rest = self._received.partition(b"\r\n\r\n")
            fields = (line.partition(b":") for line in head.split(b"\r\n")[1:])
            lengths = [int(value) for name, _, value in fields if name.lower() == b"content-length"]
            if not found or len(rest) < sum(lengths):
                return
            self._received = rest[sum(lengths) :]
            self._transport.write(self._answer)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(TokenEndpoint, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Until whoever started it is gone.
    await asyncio.to_thread(sys.stdin.read)


@contextmanager
def token_endpoint() -> Iterator[str]:
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdin and server.stdout
    try:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/token"
    finally:
        server.stdin.close()
        server.wait()


def timed(act: Call) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def median(times: list[float]) -> float:
    return round(statistics.median(times) * 1e6, 1)


def started() -> tuple[float, float]:
    """From nothing to the package, and on to an open connection, in processes of their own."""
    program = (
        "import time; b = time.perf_counter()\n"
        "import tokenwell\n"
        "i = time.perf_counter()\n"
        "tokenwell.open('x', {'client_id': 'x'})\n"
        "print(i - b, time.perf_counter() - i)"
    )
    found = []
    for _ in range(6):
        ran = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        found.append([float(one) for one in ran.stdout.split()])
    # The first may have had to compile the component.
    imports, opens = zip(*found[1:], strict=True)
    return median(list(imports)), median(list(opens))


def measure(endpoint: str, directory: str) -> dict[str, object]:
    import tokenwell
    from authlib.integrations.requests_client import OAuth2Session

    # The next module warns of its own end.
    warnings.simplefilter("ignore")
    from authlib.integrations.httpx_client import OAuth2Client

    config = {
        "grant_type": "client_credentials",
        "client_id": CLIENT[0],
        "client_secret": CLIENT[1],
        "token_endpoint": endpoint,
    }
    # Authlib refuses plain http, loopback or not, unless it is told otherwise.
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
    session = OAuth2Session(*CLIENT)
    session.trust_env = False
    client = OAuth2Client(*CLIENT, trust_env=False)

    memory, files = tokenwell.Host(), tokenwell.Host.in_directory(directory)
    in_memory = memory.connection("bench", config)
    in_files = files.connection("bench", config)

    def first_tokens(host: tokenwell.Host) -> Call:
        """The first token of one connection after another, each of which is open already, as
        Authlib's session is: the grant, and storing it twice."""
        opened = [host.connection(f"first-{i}", config) for i in range(WARM_UP + ROUNDS)]
        tokens = (connection.token() for connection in opened)
        return lambda: next(tokens)

    calls: dict[str, Call] = {
        "round_trip_us": first_tokens(memory),
        "peer_round_trip_us": lambda: session.fetch_token(
            endpoint, grant_type="client_credentials"
        ),
        "peer_httpx_round_trip_us": lambda: client.fetch_token(
            endpoint, grant_type="client_credentials"
        ),
        "renewal_us": in_memory.refresh,
        "round_trip_files_us": first_tokens(files),
    }
    for _ in range(HISTORY):
        in_memory.refresh()
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    shuffle = random.Random(1).shuffle
    for i in range(WARM_UP + ROUNDS):
        # Nobody always follows the same one: what that leaves behind is shared.
        shuffle(order)
        for name in order:
            took = timed(calls[name])
            if i >= WARM_UP:
                times[name].append(took)
    medians = {name: median(found) for name, found in times.items()}

    def ratio(peer: str) -> float:
        return round(medians["round_trip_us"] / medians[peer], 2)

    in_files.token()
    just_written = median([timed(in_files.token) for _ in range(2000)])
    time.sleep(2.2)
    in_files.token()
    in_memory.token()

    async def coroutines() -> list[float]:
        connection = tokenwell.AsyncConnection(in_memory)
        found = []
        for _ in range(WARM):
            begun = time.perf_counter()
            await connection.token()
            found.append(time.perf_counter() - begun)
        return found

    import_us, first_open_us = started()
    return {
        "language": "python",
        "peer": "Authlib",
        "warm_token_us": median([timed(in_memory.token) for _ in range(WARM)]),
        "warm_token_files_us": median([timed(in_files.token) for _ in range(WARM)]),
        "warm_token_just_written_us": just_written,
        "warm_token_asyncio_us": median(asyncio.run(coroutines())),
        **medians,
        "ratio": ratio("peer_round_trip_us"),
        "ratio_httpx": ratio("peer_httpx_round_trip_us"),
        "import_us": import_us,
        "first_open_us": first_open_us,
    }


ROWS = (
    ("warm token(), in memory", "warm_token_us"),
    ("  for a coroutine", "warm_token_asyncio_us"),
    ("  with files", "warm_token_files_us"),
    ("  with files, just written", "warm_token_just_written_us"),
    ("client credentials, in memory", "round_trip_us"),
    ("  by Authlib's OAuth2Session, requests", "peer_round_trip_us"),
    ("  by Authlib's OAuth2Client, httpx", "peer_httpx_round_trip_us"),
    ("  with files, written durably", "round_trip_files_us"),
    ("a renewal with a full history", "renewal_us"),
    ("import", "import_us"),
    ("the first open in a process", "first_open_us"),
)


def table(result: dict[str, object]) -> str:
    lines = [f"{what:<38}{result[name]:>12,.1f} µs" for what, name in ROWS]
    for what, found, limit, unit in (
        ("warm token()", result["warm_token_files_us"], WARM_LIMIT, " µs"),
        ("client credentials", result["ratio"], RATIO_LIMIT, " × Authlib"),
    ):
        assert isinstance(found, float)
        holds = "holds" if found <= limit else "DOES NOT HOLD"
        lines.append(f"{what:<38}{found:>12,.2f}{unit}, at most {limit:g}: {holds}")
    return "\n".join(lines)


def main() -> None:
    arguments = argparse.ArgumentParser(description="What a token costs, beside Authlib.")
    arguments.add_argument("--json", action="store_true", help="one object in place of the table")
    arguments.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = arguments.parse_args()
    if asked.serve:
        asyncio.run(serve())
        return
    with token_endpoint() as endpoint, tempfile.TemporaryDirectory() as directory:
        result = measure(endpoint, directory)
    print(json.dumps(result) if asked.json else table(result))


if __name__ == "__main__":
    if not all(importlib.util.find_spec(name) for name in ("tokenwell", "authlib", "httpx", "requests")):
        python = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin") / "python"
        if not python.is_file() or Path(sys.prefix).resolve() == ENVIRONMENT.resolve():
            sys.exit("run host/python/verify.py first: it makes the environment")
        os.execv(python, [str(python), __file__, *sys.argv[1:]])
    main()
