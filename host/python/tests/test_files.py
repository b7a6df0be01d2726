"""One directory, shared with the command line and between processes."""

from __future__ import annotations

import asyncio
import base64
import errno
import json
import multiprocessing
import os
import signal
import stat
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from support import (
    PATIENCE,
    REDIRECT_URI,
    SECRET,
    Answer,
    Cli,
    OidcProvider,
    Process,
    ScriptedServer,
    ending,
    eventually,
    needs,
    tokens,
)

import tokenwell
from tokenwell import _files
from tokenwell.secrets import SecretNotFound
from tokenwell.store import MemoryStore


def test_authorized_by_the_command_line_used_from_python_looked_at_with_both(
    provider: OidcProvider, cli: Cli
) -> None:
    cli.create("web", provider.web())
    begun = json.loads(cli.run("authorize", "web", "--no-browser", "--json").splitlines()[0])
    cli.run("complete", "web", provider.decide(begun["authorization_url"]))

    with tokenwell.open("web", directory=cli.directory) as connection:
        first = connection.token().access_token
        assert first == cli.json("token", "web")["access_token"]
        renewed = connection.refresh().access_token
        assert renewed != first
    assert cli.json("token", "web")["access_token"] == renewed
    status = cli.json("status", "web")
    assert status["state"] == "authorized"
    assert status["last_renewal"]["reason"] == "requested"


def test_authorized_from_python_used_by_the_command_line(
    provider: OidcProvider, cli: Cli
) -> None:
    cli.directory.mkdir(mode=0o700)
    (cli.directory / "web.json").write_text(json.dumps(provider.web()))
    with tokenwell.open("web", directory=cli.directory) as connection:
        provider.authorize(connection)
        token = connection.token().access_token
    assert cli.json("token", "web")["access_token"] == token
    assert stat.S_IMODE((cli.directory / "web.tokens").stat().st_mode) == 0o600
    assert stat.S_IMODE((cli.directory / "tokenwell.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("first", ["command line", "python"])
def test_a_master_password_opens_what_the_other_has_sealed(
    server: ScriptedServer, tmp_path: Path, first: str
) -> None:
    cli = Cli(tmp_path, TOKENWELL_PASSWORD="correct horse")
    cli.create("machine", server.machine())
    server.answer("/token", Answer(200, tokens(1)))

    def by_python() -> str:
        with tokenwell.open(
            "machine", directory=cli.directory, password="correct horse"
        ) as connection:
            return connection.token().access_token

    def by_cli() -> str:
        found: str = cli.json("token", "machine")["access_token"]
        return found

    order = [by_cli, by_python] if first == "command line" else [by_python, by_cli]
    assert order[0]() == order[1]()
    assert len(server.requests()) == 1
    keys = json.loads((cli.directory / "tokenwell.keys").read_bytes())
    assert keys["format"] == "tokenwell-record"


def test_a_wrong_password_is_told_and_changes_nothing(
    server: ScriptedServer, tmp_path: Path
) -> None:
    cli = Cli(tmp_path, TOKENWELL_PASSWORD="correct horse")
    cli.create("machine", server.machine())
    server.answer("/token", Answer(200, tokens(1)))
    cli.json("token", "machine")
    before = (cli.directory / "machine.tokens").read_bytes()
    with tokenwell.open("machine", directory=cli.directory, password="battery") as connection:
        with pytest.raises(tokenwell.StorageError) as failed:
            connection.token()
    assert failed.value.storage == "wrong-key"
    assert "battery" not in str(failed.value) and "horse" not in str(failed.value)
    assert (cli.directory / "machine.tokens").read_bytes() == before


def test_a_password_is_asked_for_in_the_callers_thread_for_as_long_as_it_takes(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.answer("/token", Answer(200, tokens(1)))
    tokenwell.LocalSecrets(tmp_path, password="correct horse").sealing_keys()
    asked: list[threading.Thread] = []

    def ask() -> str:
        asked.append(threading.current_thread())
        time.sleep(0.6)
        return "correct horse"

    host = tokenwell.Host.in_directory(tmp_path, password=ask, callback_timeout=0.5)
    with tokenwell.open("machine", server.machine(), host=host) as connection:
        assert connection.token().access_token == tokens(1)["access_token"]
        connection.refresh()
    assert asked == [threading.current_thread()]


def test_where_no_thread_can_be_begun_a_call_goes_on_in_the_callers(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenwell import _workers

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    server.answer("/token", Answer(200, tokens(1)), Answer(200, tokens(2)))
    tokenwell.LocalSecrets(tmp_path, password="correct horse").sealing_keys()
    heard: list[str] = []
    host = tokenwell.Host.in_directory(
        tmp_path, password=lambda: "correct horse", events=lambda event: heard.append(event.kind)
    )
    threads = types.SimpleNamespace(**vars(threading) | {"Thread": refuse})
    with tokenwell.open("machine", server.machine(), host=host) as connection:
        monkeypatch.setattr(_workers, "threading", threads)
        assert connection.token().access_token == tokens(1)["access_token"]
        assert connection.refresh().access_token == tokens(2)["access_token"]
    assert heard == ["renewed", "renewed"]


def test_secrets_around_those_of_the_package_have_the_password_asked_for_too(
    server: ScriptedServer, tmp_path: Path
) -> None:
    class Around(tokenwell.Secrets):
        def __init__(self) -> None:
            self.within = tokenwell.LocalSecrets(tmp_path, password=ask)

        def resolve(self, reference: str) -> str:
            return self.within.resolve(reference)

        def sealing_keys(self, needed: str | None = None) -> list[tokenwell.SealingKey]:
            try:
                return self.within.sealing_keys(needed)
            except Exception as error:
                raise tokenwell.secrets.SecretUnavailable("the keys cannot be had") from error

    asked: list[threading.Thread] = []

    def ask() -> str:
        asked.append(threading.current_thread())
        return "correct horse"

    server.answer("/token", Answer(200, tokens(1)))
    tokenwell.LocalSecrets(tmp_path, password="correct horse").sealing_keys()
    host = tokenwell.Host(store=tokenwell.FileStore(tmp_path), secrets=Around())
    with tokenwell.open("machine", server.machine(), host=host) as connection:
        assert connection.token().access_token == tokens(1)["access_token"]
    assert asked == [threading.current_thread()]


def test_a_mistyped_password_is_asked_for_again(server: ScriptedServer, tmp_path: Path) -> None:
    server.answer("/token", Answer(200, tokens(1)))
    tokenwell.LocalSecrets(tmp_path, password="correct horse").sealing_keys()
    typed = iter(["correct hoarse", "correct horse"])
    with tokenwell.open(
        "machine", server.machine(), directory=tmp_path, password=lambda: next(typed)
    ) as connection:
        with pytest.raises(tokenwell.StorageError) as failed:
            connection.token()
        assert failed.value.storage == "wrong-key"
        assert connection.token().access_token == tokens(1)["access_token"]


def test_ctrl_c_ends_the_question_for_the_password(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.answer("/token", Answer(200, tokens(1)))
    tokenwell.LocalSecrets(tmp_path, password="correct horse").sealing_keys()
    ended: list[str] = []

    def ask() -> str:
        if not ended:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(PATIENCE)
            finally:
                ended.append("as getpass does, with the terminal as it was")
        return "correct horse"

    with tokenwell.open(
        "machine", server.machine(), directory=tmp_path, password=ask
    ) as connection:
        with pytest.raises(KeyboardInterrupt):
            connection.token()
        assert ended
        assert connection.token().access_token == tokens(1)["access_token"]


def test_leaving_a_connection_does_not_wait_for_a_password(
    server: ScriptedServer, tmp_path: Path
) -> None:
    tokenwell.LocalSecrets(tmp_path, password="correct horse").sealing_keys()
    asked, typed = threading.Event(), threading.Event()

    def ask() -> str:
        asked.set()
        typed.wait(PATIENCE)
        return "correct horse"

    async def main() -> None:
        async with tokenwell.open_async(
            "machine", server.machine(timeout=60), directory=tmp_path, password=ask
        ) as connection:
            asking = asyncio.create_task(connection.token())
            while not asked.is_set():
                await asyncio.sleep(0.01)
            asking.cancel()
            began.append(time.monotonic())

    began: list[float] = []
    try:
        asyncio.run(main())
        assert time.monotonic() - began[0] < 10
    finally:
        typed.set()


def test_a_replaced_key_is_followed(server: ScriptedServer, cli: Cli, tmp_path: Path) -> None:
    cli.create("machine", server.machine())
    server.answer("/token", Answer(200, tokens(1)))
    with tokenwell.open("machine", directory=cli.directory) as connection:
        token = connection.token().access_token
    password = tmp_path / "password"
    password.write_text("correct horse\n")
    cli.run("rekey", "--to", "password", "--new-password-file", str(password))
    with tokenwell.open(
        "machine", directory=cli.directory, password="correct horse"
    ) as connection:
        assert connection.token().access_token == token


def test_a_secret_sealed_by_the_command_line_is_resolved(
    server: ScriptedServer, cli: Cli
) -> None:
    cli.create("machine", server.machine(client_secret={"ref": "sealed:machine-secret"}))
    process = cli.start("seal", "machine-secret")
    with ending(process):
        assert process.child.stdin
        process.child.stdin.write(SECRET)
        code, _, errors = process.finish()
        assert code == 0, errors
    server.answer("/token", Answer(200, tokens(1)))
    with tokenwell.open("machine", directory=cli.directory) as connection:
        connection.token()
    (headers,) = server.headers("/token")
    basic = headers["authorization"].partition(" ")[2]
    assert base64.b64decode(basic).decode() == f"client:{SECRET}"


CHILD = """
import sys, tokenwell
with tokenwell.open("shop", directory=sys.argv[1]) as connection:
    print("ready", flush=True)
    sys.stdin.readline()
    print(connection.token().access_token, flush=True)
"""


def test_processes_of_both_kinds_on_an_expired_token_send_one_request(
    server: ScriptedServer, cli: Cli
) -> None:
    cli.create(
        "shop",
        {
            "client_id": "client",
            "client_secret": SECRET,
            "authorization_endpoint": server.url("/authorize"),
            "token_endpoint": server.url("/token"),
            "redirect_uri": REDIRECT_URI,
        },
    )
    begun = json.loads(cli.run("authorize", "shop", "--no-browser", "--json").splitlines()[0])
    state = begun["authorization_url"].partition("state=")[2].partition("&")[0]
    server.answer("/token", Answer(200, tokens(1, 1, refresh_token="refresh-1")))
    cli.run("complete", "shop", f"{REDIRECT_URI}?code=c&state={state}")
    expires_at = cli.json("status", "shop")["expires_at"]
    eventually("expiry", lambda: time.time() > expires_at + 1)

    go_on = threading.Event()
    server.answer(
        "/token", Answer(200, tokens(2, 3600, refresh_token="refresh-2"), until=go_on)
    )
    pythons = [
        Process(sys.executable, "-P", "-c", CHILD, cli.directory)
        if sys.version_info >= (3, 11)
        else Process(sys.executable, "-c", CHILD, cli.directory)
        for _ in range(4)
    ]
    clis: list[Process] = []
    try:
        for child in pythons:
            assert child.line() == "ready"
        for child in pythons:
            assert child.child.stdin
            child.child.stdin.write("\n")
            child.child.stdin.flush()
        clis = [cli.start("token", "shop") for _ in range(4)]
        eventually("the renewal's request", lambda: len(server.requests()) == 2)
        # The others are waiting for its lease by now, or come to it later.
        time.sleep(0.5)
        go_on.set()
        found = set()
        for child in pythons + clis:
            code, output, errors = child.finish()
            assert code == 0, errors
            found.add(output.strip())
        assert found == {tokens(2)["access_token"]}
        assert len(server.requests()) == 2
    finally:
        for child in pythons + clis:
            child.end()


def test_what_another_process_has_cleared_is_not_handed_out_again(
    server: ScriptedServer, cli: Cli
) -> None:
    cli.create("machine", server.machine())
    server.answer("/token", Answer(200, tokens(1)), Answer(200, tokens(2)))
    with tokenwell.open("machine", directory=cli.directory) as connection:
        assert connection.token().access_token == tokens(1)["access_token"]
        cli.run("clear", "machine")
        assert connection.token().access_token == tokens(2)["access_token"]


def test_what_another_process_has_renewed_is_handed_out(
    server: ScriptedServer, cli: Cli
) -> None:
    cli.create("machine", server.machine())
    server.answer("/token", Answer(200, tokens(1)), Answer(200, tokens(2)))
    with tokenwell.open("machine", directory=cli.directory) as connection:
        connection.token()
        cli.run("refresh", "machine")
        assert connection.token().access_token == tokens(2)["access_token"]
        assert connection.token().access_token == tokens(2)["access_token"]
    assert len(server.requests()) == 2


def test_a_directory_that_is_there_may_be_told_in_any_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.mkdir

    def mkdir(path: str | Path, *arguments: object, **named: object) -> None:
        if not Path(path).is_relative_to(tmp_path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        real(path, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "mkdir", mkdir)
    store = tokenwell.FileStore(tmp_path / "new" / "connections")
    assert isinstance(
        store.compare_and_swap("crm.tokens", None, b"value"), tokenwell.store.Stored
    )


def test_a_file_where_a_directory_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = tokenwell.FileStore(tmp_path / "file" / "connections")
    with pytest.raises(tokenwell.store.StoreUnavailable):
        store.compare_and_swap("crm.tokens", None, b"value")


def test_an_unchanged_file_is_not_read_again(server: ScriptedServer, cli: Cli) -> None:
    store = tokenwell.FileStore(cli.directory)
    stored = store.compare_and_swap("crm.tokens", None, b"value")
    assert isinstance(stored, tokenwell.store.Stored)
    path = cli.directory / "crm.tokens"
    assert store.load("crm.tokens", stored.version) is tokenwell.store.UNCHANGED
    # A file older than the file system's clock is coarse is known by its signature.
    eventually("rest", lambda: time.time() - path.stat().st_ctime > 2.1)
    assert store.load("crm.tokens", stored.version) is tokenwell.store.UNCHANGED
    path.write_bytes(path.read_bytes())
    assert store.load("crm.tokens", stored.version) is tokenwell.store.UNCHANGED
    path.write_text("{")
    with pytest.raises(tokenwell.store.StoreCorrupt):
        store.load("crm.tokens", stored.version)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def _forked(directory: str, results: multiprocessing.SimpleQueue[str]) -> None:
    with tokenwell.open("machine", directory=directory) as connection:
        results.put(connection.token().access_token)


@needs_fork
def test_a_forked_process_has_connections_of_its_own(server: ScriptedServer, cli: Cli) -> None:
    cli.create("machine", server.machine())
    server.answer("/token", Answer(200, tokens(1)))
    with tokenwell.open("machine", directory=cli.directory) as connection:
        connection.token()
        context = multiprocessing.get_context("fork")
        results = context.SimpleQueue()
        child = context.Process(target=_forked, args=(str(cli.directory), results))
        child.start()
        child.join(60)
        assert child.exitcode == 0
        assert results.get() == connection.token().access_token
    assert len(server.requests()) == 1


def in_a_forked_process(act: Callable[[], object]) -> object:
    """What comes of it there, where it comes to an end."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=lambda: results.put(act()))
    child.start()
    child.join(20)
    child.kill()
    child.join()
    return None if results.empty() else results.get()


@needs_fork
def test_a_forked_process_waits_for_no_thread_of_the_other(server: ScriptedServer) -> None:
    go_on = threading.Event()
    server.answer("/token", Answer(200, tokens(1), until=go_on), Answer(200, tokens(2)))
    with tokenwell.open("machine", server.machine(), host=tokenwell.Host()) as connection:
        renewing = threading.Thread(target=connection.token)
        renewing.start()
        waiting = threading.Thread(target=connection.token)
        try:
            eventually("the request", lambda: server.requests())
            waiting.start()
            time.sleep(0.2)
            token = in_a_forked_process(lambda: connection.token().access_token)
        finally:
            go_on.set()
            renewing.join()
            waiting.join()
    assert token == tokens(2)["access_token"]


@needs_fork
def test_a_forked_process_gets_a_lease_that_a_thread_of_the_other_waits_for(
    tmp_path: Path,
) -> None:
    store = tokenwell.FileStore(tmp_path)
    held = tokenwell.FileStore(tmp_path).acquire_lease("crm.tokens", 60, 0)
    assert held is not None
    waiting = threading.Thread(target=store.acquire_lease, args=("crm.tokens", 60, 1))
    waiting.start()
    time.sleep(0.2)

    def act() -> bool:
        held.release()
        return store.acquire_lease("crm.tokens", 60, 5) is not None

    try:
        assert in_a_forked_process(act)
    finally:
        held.release()
        waiting.join()


@needs_fork
def test_a_forked_process_opens_the_store_while_the_other_is_asked_for_the_password(
    tmp_path: Path,
) -> None:
    tokenwell.LocalSecrets(tmp_path, password="correct horse").sealing_keys()
    asked, typed = threading.Event(), threading.Event()

    def ask() -> str:
        asked.set()
        typed.wait(PATIENCE)
        return "correct horse"

    secrets = tokenwell.LocalSecrets(tmp_path, password=ask)
    asking = threading.Thread(target=secrets.sealing_keys)
    asking.start()
    try:
        assert asked.wait(PATIENCE)

        def act() -> int:
            typed.set()
            return len(secrets.sealing_keys())

        assert in_a_forked_process(act) == 1
    finally:
        typed.set()
        asking.join()


@needs_fork
def test_a_forked_process_asks_for_the_metadata_while_the_other_does() -> None:
    from tokenwell._egress import Egress

    egress = Egress([], ["https://as.example"])
    asked, answered = threading.Event(), threading.Event()

    def fetch(url: str) -> None:
        asked.set()
        answered.wait(PATIENCE)

    asking = threading.Thread(target=egress.discover, args=(fetch,))
    asking.start()
    try:
        assert asked.wait(PATIENCE)
        fetched: list[str] = []

        def act() -> int:
            egress.discover(fetched.append)
            return len(fetched)

        assert in_a_forked_process(act) == 2
    finally:
        answered.set()
        asking.join()


def test_a_store_that_finds_its_first_key_in_the_file_marks_it_as_anothers_too(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tokenwell.key"

    def begun() -> tokenwell.SealingKey:
        """The first key of a new store."""
        (key,) = tokenwell.LocalSecrets(tmp_path, store=MemoryStore()).sealing_keys()
        return key

    key = begun()
    alone = json.loads(path.read_bytes())
    assert set(alone) == {"format", "id", "key"}
    other = {"id": "0f0f0f0f", "key": base64.b64encode(b"k" * 32).decode(), "shared": True}
    path.write_text(json.dumps(alone | {"others": [other]}))

    assert begun() == key
    assert json.loads(path.read_bytes()) == alone | {"shared": True, "others": [other]}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    marked = path.stat()
    assert begun() == key
    assert path.stat().st_ino == marked.st_ino, "there is nothing to write"


def test_a_key_that_is_found_in_a_file_that_cannot_be_written_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (key,) = tokenwell.LocalSecrets(tmp_path, store=MemoryStore()).sealing_keys()

    def lock(path: Path) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(_files, "lock", lock)
    assert tokenwell.LocalSecrets(tmp_path, store=MemoryStore()).sealing_keys() == [key]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
@pytest.mark.parametrize("name", ["machine.tokens", "tokenwell.keys", "tokenwell.key"])
def test_missing_permissions_are_a_failure_of_the_store_and_no_policy(
    server: ScriptedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    code: int,
) -> None:
    replace = _files.replace

    def forbidding(path: Path, content: bytes, *, durable: bool) -> None:
        if path.name == name:
            raise OSError(code, os.strerror(code))
        replace(path, content, durable=durable)

    monkeypatch.setattr(_files, "replace", forbidding)
    server.answer("/token", Answer(200, tokens(1)))
    with tokenwell.open("machine", server.machine(), directory=tmp_path) as connection:
        with pytest.raises(tokenwell.StorageError) as failed:
            connection.token()
    assert failed.value.storage == "unavailable"
    assert os.strerror(code) in str(failed.value)


def test_a_key_file_that_others_can_read_is_forbidden(
    server: ScriptedServer, tmp_path: Path
) -> None:
    tokenwell.LocalSecrets(tmp_path).sealing_keys()
    (tmp_path / "tokenwell.key").chmod(0o640)
    with tokenwell.open("machine", server.machine(), directory=tmp_path) as connection:
        with pytest.raises(tokenwell.ForbiddenError, match="chmod 600"):
            connection.token()
    assert server.requests() == []


@pytest.mark.parametrize("reference", ["file:", "file:sub", "file:unreadable"])
def test_what_no_time_will_bring_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    (tmp_path / "sub").mkdir()
    read = Path.read_bytes

    def unreadable(path: Path) -> bytes:
        if path.name == "unreadable":
            raise PermissionError(errno.EACCES, "Permission denied")
        return read(path)

    # To the superuser nothing is.
    monkeypatch.setattr(Path, "read_bytes", unreadable)
    with pytest.raises(SecretNotFound):
        tokenwell.LocalSecrets(tmp_path).resolve(reference)


def test_a_key_that_the_command_line_replaces_stays_for_another_store_that_has_it_too(
    server: ScriptedServer, cli: Cli
) -> None:
    server.answer("/token", Answer(200, tokens(1)))
    cli.create("machine", server.machine())
    cli.json("token", "machine")
    store = MemoryStore()
    tokenwell.LocalSecrets(cli.directory, store=store).seal_secret("api", "s")
    cli.run("rekey")
    assert tokenwell.LocalSecrets(cli.directory, store=store).resolve("sealed:api") == "s"
    assert cli.json("token", "machine")["access_token"] == tokens(1)["access_token"]


def test_a_key_in_the_keyring_is_shared_with_the_command_line(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("keyring")
    from secret_service import secret_service

    with secret_service(tmp_path / "session") as address:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        server.answer("/token", Answer(200, tokens(1)))
        cli = Cli(tmp_path, DBUS_SESSION_BUS_ADDRESS=address)
        cli.create("machine", server.machine())
        with tokenwell.open("machine", directory=cli.directory) as connection:
            token = connection.token().access_token
        assert not (cli.directory / "tokenwell.key").exists()
        assert cli.json("token", "machine")["access_token"] == token

        cli.create("other", server.machine())
        secrets = tokenwell.LocalSecrets(cli.directory)
        assert secrets.key_source() == "keyring"
    assert len(server.requests()) == 1
