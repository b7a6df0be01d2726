"""What a warm token and a client credentials grant cost, the latter beside Authlib's in the
same run. Run it with the environment that verify.py makes; it prints JSON, times in
microseconds:

    target/python/environment/bin/python host/python/bench.py
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORKSPACE = HERE.parent.parent
ENVIRONMENT = WORKSPACE / "target" / "python" / "environment"

WARM = 20_000
ROUNDS = 100
CLIENT = ("machine-basic", "machine-basic-secret-77d0")


def median(times: list[float]) -> float:
    return round(statistics.median(times) * 1e6, 1)


def each(count: int, act: Callable[[], object]) -> list[float]:
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        act()
        times.append(time.perf_counter() - begun)
    return times


def started() -> dict[str, float]:
    """From nothing to an open connection, in processes of their own."""
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
    return {"import": median(list(imports)), "first_open": median(list(opens))}


def main() -> None:
    import tokenwell
    from authlib.integrations.httpx_client import OAuth2Client
    from authlib.integrations.requests_client import OAuth2Session

    server = subprocess.Popen(
        ["node", "server.mjs"],
        cwd=WORKSPACE / "tests/servers/oidc-provider",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert server.stdout and server.stdin
    try:
        issuer = json.loads(server.stdout.readline())["issuer"]
        endpoint = f"{issuer}/token"
        config = {
            "grant_type": "client_credentials",
            "client_id": CLIENT[0],
            "client_secret": CLIENT[1],
            "token_endpoint": endpoint,
        }
        # Authlib refuses plain http, loopback or not, unless it is told otherwise.
        os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
        with_requests = OAuth2Session(*CLIENT)
        with_requests.trust_env = False
        with_httpx = OAuth2Client(*CLIENT, trust_env=False)
        with tempfile.TemporaryDirectory() as directory:
            hosts = {
                "memory": tokenwell.Host(),
                "files": tokenwell.Host.in_directory(directory),
            }
            in_memory = hosts["memory"].connection("bench", config)
            in_files = hosts["files"].connection("bench", config)

            def first_token(where: str) -> Callable[[], Callable[[], object]]:
                """The first token of a connection of its own, which is open already, as
                Authlib's session is: the grant, and storing it twice."""
                numbers = iter(range(1 << 20))

                def prepare() -> Callable[[], object]:
                    return hosts[where].connection(f"first-{next(numbers)}", config).token

                return prepare

            # What is timed, and what makes it ready.
            calls: dict[str, Callable[[], Callable[[], object]]] = {
                "tokenwell_memory": first_token("memory"),
                "tokenwell_files": first_token("files"),
                "tokenwell_memory_renewal": lambda: in_memory.refresh,
                "tokenwell_files_renewal": lambda: in_files.refresh,
                "authlib_requests": lambda: lambda: with_requests.fetch_token(
                    endpoint, grant_type="client_credentials"
                ),
                "authlib_httpx": lambda: lambda: with_httpx.fetch_token(
                    endpoint, grant_type="client_credentials"
                ),
            }
            times: dict[str, list[float]] = {name: [] for name in calls}
            # As many as fill a connection's history, which is stored with each renewal.
            for _ in range(60):
                for prepare in calls.values():
                    prepare()()
            # By turns, so that whatever else the machine does is shared.
            for _ in range(ROUNDS):
                for name, prepare in calls.items():
                    times[name] += each(1, prepare())
            medians = {name: median(found) for name, found in times.items()}
            in_files.token()
            # A file that was written just now is read each time.
            just_written = median(each(2000, in_files.token))
            time.sleep(2.2)
            in_files.token()

            async def warm_coroutine() -> list[float]:
                connection = tokenwell.AsyncConnection(in_memory)
                found = []
                for _ in range(WARM // 4):
                    begun = time.perf_counter()
                    await connection.token()
                    found.append(time.perf_counter() - begun)
                return found

            in_memory.token()
            result = {
                "warm_token": {
                    "memory": median(each(WARM, in_memory.token)),
                    "files": median(each(WARM, in_files.token)),
                    "files_just_written": just_written,
                    "asyncio_memory": median(asyncio.run(warm_coroutine())),
                    "limit": 200,
                },
                "client_credentials": medians,
                "ratios": {
                    f"{ours}/{theirs}": round(medians[ours] / medians[theirs], 2)
                    for ours in medians
                    if ours.startswith("tokenwell")
                    for theirs in ("authlib_requests", "authlib_httpx")
                },
                "ratio_limit": 1.5,
                "start": started(),
            }
        print(json.dumps(result, indent=2))
    finally:
        server.stdin.close()
        server.wait()


if __name__ == "__main__":
    if Path(sys.prefix).resolve() != ENVIRONMENT.resolve():
        python = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin") / "python"
        if not python.is_file():
            sys.exit("run host/python/verify.py first: it makes the environment")
        os.execv(python, [str(python), __file__])
    main()
