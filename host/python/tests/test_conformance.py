"""The conformance kit, host/conformance: cases that every host runs."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import HOST, PATIENCE

import tokenwell
from tokenwell.secrets import SecretError
from tokenwell.store import UNCHANGED, Entry, Fenced, Lease, Stale, Stored, StoreError

KIT = Path(os.environ.get("TOKENWELL_CONFORMANCE") or HOST.parent / "conformance")

STEP = {"call", "gives", "fails"}
ONLINE = STEP | {
    "with", "restart", "pause-milliseconds", "times", "server", "events", "browser", "shown",
}  # fmt: skip


def cases(directory: str) -> list[Any]:
    return [
        pytest.param(case, id=f"{path.stem}: {case['case']}")
        for path in sorted((KIT / directory).glob("*.json"))
        for case in json.loads(path.read_text())
    ]


def known(found: dict[str, Any], names: set[str]) -> None:
    assert set(found) <= names, f"unknown members: {set(found) - names}"


def test_the_kit_is_there() -> None:
    assert all(cases(part) for part in ("store", "secrets", "connections", "files"))


# ---- matching


class Names:
    """What the placeholders of a case are bound to."""

    def __init__(self) -> None:
        self.bound: dict[str, str] = {}
        self.secrets: tokenwell.Secrets | None = None

    def fill(self, value: Any) -> Any:
        if isinstance(value, str):
            return re.sub(r"\{\{(\w+)\}\}", lambda m: self.bound[m[1]], value)
        if isinstance(value, list):
            return [self.fill(one) for one in value]
        if isinstance(value, dict):
            return {name: self.fill(one) for name, one in value.items()}
        return value

    def match(self, expected: Any, found: Any, at: str = "") -> None:
        told = f"at {at or 'the top'}: expected {expected!r}, found {found!r}"
        if isinstance(expected, str):
            assert isinstance(found, str), told
            parts = re.split(r"\{\{(\w+)\}\}", expected)
            pattern, unbound = "", []
            for i, part in enumerate(parts):
                if i % 2 == 0:
                    pattern += re.escape(part)
                elif part in self.bound:
                    pattern += re.escape(self.bound[part])
                elif part in unbound:
                    pattern += f"(?P={part})"
                else:
                    pattern += f"(?P<{part}>.+)"
                    unbound.append(part)
            matched = re.fullmatch(pattern, found, re.DOTALL)
            assert matched, told
            self.bound |= matched.groupdict()
        elif isinstance(expected, dict):
            if set(expected) == {"from-now"}:
                least, most = expected["from-now"]
                assert isinstance(found, int), told
                assert least <= found - time.time() + 1 and found - time.time() <= most, told
            elif set(expected) == {"jwt"}:
                self.match_jwt(expected["jwt"], found, at)
            else:
                assert isinstance(found, dict), told
                for name, one in expected.items():
                    self.match(one, found.get(name), f"{at}.{name}")
        elif isinstance(expected, list):
            assert isinstance(found, list) and len(found) == len(expected), told
            for i, one in enumerate(expected):
                self.match(one, found[i], f"{at}[{i}]")
        elif expected is None:
            assert found is None, told
        else:
            assert type(found) is type(expected) and found == expected, told

    def match_jwt(self, expected: dict[str, Any], found: str, at: str) -> None:
        known(expected, {"header", "claims", "jwk"})
        head, claims, signature = found.split(".")
        header = json.loads(unbase64(head))
        self.match(expected.get("header", {}), header, f"{at}.header")
        self.match(expected.get("claims", {}), json.loads(unbase64(claims)), f"{at}.claims")
        jwk = self.fill(expected["jwk"]) if "jwk" in expected else header["jwk"]
        assert self.secrets is not None
        assert self.secrets.verify(
            json.dumps(jwk), header["alg"], f"{head}.{claims}".encode(), unbase64(signature)
        )


def unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def enbase64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def by_wit(value: Any) -> Any:
    """A result as the WIT has it."""
    match value:
        case tokenwell.Status():
            state: Any = value.state
            if state == "not-configured":
                state = {state: by_wit(value.problems)}
            elif state == "error":
                state = {state: error_by_wit(value.error)}
            rest = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            del rest["problems"], rest["error"]
            return by_wit(rest) | {"state": state}
        case tokenwell.Event():
            details = [{"name": name, "value": one} for name, one in value.details.items()]
            return {
                "at": value.at,
                "connection": value.connection,
                "kind": value.kind,
                "message": value.message,
                "details": details,
            }
        case tokenwell.Pending():
            return {"pending": value.poll_after_seconds}
        case dict():
            return {name.replace("_", "-"): by_wit(one) for name, one in value.items()}
        case list() | tuple():
            return [by_wit(one) for one in value]
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return by_wit({f.name: getattr(value, f.name) for f in fields})
    return value


def error_by_wit(error: Any) -> dict[str, Any]:
    return {
        "kind": error.code,
        "message": error.message,
        "problems": by_wit(error.problems),
        "server-error": by_wit(error.server_error),
        "retry-at": error.retry_at,
        "violation": error.violation,
        "storage": error.storage,
    }


# ---- the directory of a case


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in json.loads((KIT / "environment.json").read_text()).items():
        monkeypatch.setenv(name, value)


def fill_directory(case: dict[str, Any], directory: Path, names: Names) -> dict[str, bytes]:
    directory.mkdir(mode=0o700)
    files: dict[str, bytes] = {}
    if "directory" in case:
        for path in (KIT / "files" / case["directory"]).iterdir():
            files[path.name] = path.read_bytes()
    else:
        files["tokenwell.key"] = (KIT / "tokenwell.key").read_bytes()
    for name, text in case.get("files", {}).items():
        files[name] = names.fill(text).encode()
    for name, content in files.items():
        (directory / name).write_bytes(content)
        (directory / name).chmod(0o600)
    return files


# ---- store/


def value_of(given: Any) -> bytes:
    if isinstance(given, str):
        return given.encode()
    if "counted" in given:
        return bytes(i % 251 for i in range(given["counted"]))
    return base64.b64decode(given["base64"])


class StoreRun:
    def __init__(self, kind: str, directory: Path) -> None:
        self._kind = kind
        self._directory = directory
        self._memory = tokenwell.MemoryStore()
        self._handles: dict[str, tokenwell.TokenStore] = {}
        self.leases: dict[str, Lease] = {}
        self.names = Names()

    def handle(self, name: str) -> tokenwell.TokenStore:
        if self._kind == "memory":
            return self._memory
        return self._handles.setdefault(name, tokenwell.FileStore(self._directory))

    def step(self, step: dict[str, Any]) -> None:
        known(
            step,
            STEP | {"on", "key", "known", "expected", "value", "fence", "ttl-milliseconds",
                    "wait-milliseconds", "lease", "times", "outcomes", "meanwhile", "growing"},
        )  # fmt: skip
        if "times" in step:
            with ThreadPoolExecutor(step["times"]) as threads:
                found = list(threads.map(lambda _: self.outcome(step), range(step["times"])))
            counts: dict[str, int] = {}
            for _, outcome in found:
                name = outcome if isinstance(outcome, str) else next(iter(outcome), "null")
                counts[name] = counts.get(name, 0) + 1
            assert counts == step["outcomes"]
        else:
            if "meanwhile" in step:
                with ThreadPoolExecutor(1) as threads:
                    waiting = threads.submit(self.outcome, step)
                    time.sleep(0.05)
                    for one in step["meanwhile"]:
                        self.step(one)
                    case, found = waiting.result(PATIENCE)
            else:
                case, found = self.outcome(step)
            if "fails" in step:
                assert (case, found) == ("fails", step["fails"])
            else:
                assert case == "gives", found
                if "gives" in step:
                    self.match(step["gives"], found)
        if "growing" in step:
            values = [int(self.names.bound[name]) for name in step["growing"]]
            assert values == sorted(set(values)), step["growing"]

    def match(self, expected: Any, found: Any) -> None:
        for case in ("entry", "stale"):
            if isinstance(expected, dict) and isinstance(expected.get(case), dict):
                assert isinstance(found, dict) and found.get(case), found
                inner = dict(expected[case])
                if "value" in inner:
                    assert value_of(inner.pop("value")) == found[case]["value"]
                self.names.match(inner, {"version": found[case]["version"]})
                return
        self.names.match(expected, found)

    def outcome(self, step: dict[str, Any]) -> tuple[str, Any]:
        try:
            return "gives", self.call(step)
        except StoreError as error:
            kinds = {"StoreUnavailable": "unavailable", "StoreDenied": "denied"}
            return "fails", kinds.get(type(error).__name__, "corrupt")

    def call(self, step: dict[str, Any]) -> Any:
        store = self.handle(step.get("on", "a"))

        def number(name: str) -> int | None:
            given = step.get(name)
            return None if given is None else int(self.names.fill(given))

        match step["call"]:
            case "load":
                loaded = store.load(step["key"], number("known"))
                if loaded is UNCHANGED:
                    return "unchanged"
                return "absent" if loaded is None else {"entry": self.entry(loaded)}
            case "compare-and-swap":
                swapped = store.compare_and_swap(
                    step["key"], number("expected"), value_of(step["value"]), number("fence")
                )
                match swapped:
                    case Stored():
                        return {"stored": str(swapped.version)}
                    case Stale():
                        current = swapped.current
                        return {"stale": None if current is None else self.entry(current)}
                    case Fenced():
                        return "fenced"
            case "delete":
                return store.delete(step["key"], number("expected") or 0)
            case "acquire-lease":
                lease = store.acquire_lease(
                    step["key"], step["ttl-milliseconds"] / 1000, step["wait-milliseconds"] / 1000
                )
                if lease is None:
                    return {"held": None} if "times" in step else None
                self.leases[step.get("lease", f"{id(lease)}")] = lease
                return {"fence": str(lease.fence)}
            case "release":
                self.leases.pop(step["lease"]).release()
                return None
        raise AssertionError(f"unknown: {step['call']}")

    def entry(self, entry: Any) -> dict[str, Any]:
        assert isinstance(entry, Entry)
        return {"version": str(entry.version), "value": entry.value}


@pytest.mark.parametrize("kind", ["memory", "files"])
@pytest.mark.parametrize("case", cases("store"))
def test_store(case: dict[str, Any], kind: str, tmp_path: Path) -> None:
    known(case, {"case", "steps"})
    run = StoreRun(kind, tmp_path / "connections")
    try:
        for step in case["steps"]:
            run.step(step)
    finally:
        for lease in run.leases.values():
            lease.release()


# ---- secrets/


@pytest.mark.parametrize("case", cases("secrets"))
def test_secrets(case: dict[str, Any], tmp_path: Path) -> None:
    known(case, {"case", "steps", "files", "directory", "password"})
    names = Names()
    directory = tmp_path / "connections"
    fill_directory(case, directory, names)
    secrets = names.secrets = tokenwell.LocalSecrets(directory, password=case.get("password"))
    for step in case["steps"]:
        known(
            step,
            STEP | {"includes", "reference", "needed", "key", "algorithm", "data", "jwk",
                    "signature"},
        )  # fmt: skip
        try:
            asked = {k: v for k, v in step.items() if k not in ("gives", "fails", "includes")}
            found = secrets_call(secrets, names.fill(asked))
        except SecretError as error:
            kind = re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__[6:]).lower()
            assert step.get("fails") == kind, error
            continue
        assert "fails" not in step, found
        if "gives" in step:
            names.match(step["gives"], found)
        if "includes" in step:
            assert any(matches(names, step["includes"], one) for one in found)


def matches(names: Names, expected: Any, found: Any) -> bool:
    try:
        names.match(expected, found)
    except AssertionError:
        return False
    return True


def secrets_call(secrets: tokenwell.LocalSecrets, step: dict[str, Any]) -> Any:
    data = step.get("data", "").encode()
    match step["call"]:
        case "resolve":
            return secrets.resolve(step["reference"])
        case "sealing-keys":
            keys = secrets.sealing_keys(step.get("needed"))
            return [{"id": k.id, "key": base64.b64encode(k.key).decode()} for k in keys]
        case "sign":
            return enbase64(secrets.sign(step["key"], step["algorithm"], data))
        case "public-key":
            return json.loads(secrets.public_key(step["key"]))
        case "verify":
            signature = unbase64(step["signature"])
            jwk = json.dumps(step["jwk"])
            return secrets.verify(jwk, step["algorithm"], data, signature)
    raise AssertionError(f"unknown: {step['call']}")


# ---- connections/, files/, interactive/


class Played:
    """The HTTP server of a case."""

    def __init__(self, names: Names) -> None:
        self.expected: list[dict[str, Any]] = []
        self.wrong: list[str] = []
        self.over = threading.Event()
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                with lock:
                    response = outer.answer(self, body, names)
                if response == "never":
                    outer.over.wait(PATIENCE)
                    response = "closed"
                if response == "closed":
                    self.close_connection = True
                    return
                known(response, {"status", "headers", "json", "text"})
                headers = {k.lower(): v for k, v in response.get("headers", {}).items()}
                content = names.fill(response.get("text", "")).encode()
                kind = "text/plain"
                if "json" in response:
                    content = json.dumps(names.fill(response["json"])).encode()
                    kind = "application/json"
                self.send_response_only(response.get("status", 200))
                for name, value in ({"content-type": kind} | headers).items():
                    self.send_header(name, names.fill(value))
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = _serve

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        names.bound["server"] = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        ).start()

    def answer(self, came: Any, body: bytes, names: Names) -> Any:
        if not self.expected:
            self.wrong.append(f"{came.command} {came.path} was not expected")
            return {"status": 500}
        exchange = self.expected.pop(0)
        known(exchange, {"request", "response"})
        request = exchange["request"]
        known(request, {"method", "path", "query", "form", "json", "headers"})
        path, _, query = came.path.partition("?")
        headers = {name.lower(): value for name, value in came.headers.items()}
        try:
            for name, found in (("method", came.command), ("path", path)):
                if name in request:
                    names.match(request[name], found, name)
            for name, text in (("query", query), ("form", body.decode())):
                if name in request:
                    pairs = urllib.parse.parse_qsl(text, keep_blank_values=True)
                    assert len(dict(pairs)) == len(pairs), pairs
                    assert set(dict(pairs)) == set(request[name]), (name, dict(pairs))
                    names.match(request[name], dict(pairs), name)
            if "json" in request:
                names.match(request["json"], json.loads(body), "json")
            for name, expected in request.get("headers", {}).items():
                names.match(expected, headers.get(name), name)
        except AssertionError as error:
            self.wrong.append(f"{came.command} {came.path}: {error}")
        return exchange["response"]

    def end(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


class ConnectionRun:
    def __init__(self, case: dict[str, Any], directory: Path) -> None:
        self.case = case
        self.directory = directory
        self.names = Names()
        self.server = Played(self.names)
        self.events: list[tokenwell.Event] = []
        self.shown: list[Any] = []
        self.said: list[str] = []
        self.step: dict[str, Any] = {}
        self.visits: list[threading.Thread] = []
        self.wrong: list[str] = []
        self.host: Any = None
        self.connection: Any = None

    def start(self) -> None:
        store = tokenwell.FileStore(self.directory)
        password = self.case.get("password")
        secrets = tokenwell.LocalSecrets(self.directory, store=store, password=password)
        agent = tokenwell.Browser(open_url=self.open_url, show_device_code=self.shown.append)
        self.names.secrets = secrets
        self.host = tokenwell.Host(
            store=store, secrets=secrets, events=self.events.append, user_agent=agent
        )
        self.connection = None

    def open(self) -> tokenwell.Connection:
        if self.connection is None:
            name = self.case.get("connection", "shop")
            if "config" in self.case:
                config = json.dumps(self.names.fill(self.case["config"]))
            else:
                config = (self.directory / f"{name}.json").read_text()
            self.connection = self.host.connection(name, config)
        return self.connection

    def open_url(self, url: str) -> None:
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
        self.names.bound["state"] = query["state"]
        self.names.bound["redirect_uri"] = query["redirect_uri"]
        visit = threading.Thread(
            target=self.visit, args=(query["redirect_uri"], self.step["browser"])
        )
        visit.start()
        self.visits.append(visit)

    def visit(self, redirect_uri: str, requests: list[dict[str, Any]]) -> None:
        for one in requests:
            known(one, {"query", "status"})
            query = self.names.fill(one.get("query", {}))
            page = httpx.get(redirect_uri, params=query, timeout=PATIENCE, trust_env=False)
            if page.status_code != one["status"]:
                self.wrong.append(f"{query} is answered with {page.status_code}: {page.text}")

    def run(self) -> None:
        before = fill_directory(self.case, self.directory, self.names)
        self.start()
        if "config-fails" in self.case:
            with pytest.raises(tokenwell.NotConfiguredError) as failed:
                self.open()
            self.names.match(self.case["config-fails"], by_wit(failed.value.problems))
            return
        for step in self.case["steps"]:
            self.do(step)
        if self.case.get("unchanged"):
            for name, content in before.items():
                assert (self.directory / name).read_bytes() == content, name
            there = {path.name for path in self.directory.glob("*.tokens")}
            assert there == {name for name in before if name.endswith(".tokens")}
        for secret in self.case.get("never-shown", []):
            assert all(secret not in text for text in self.said), secret

    def do(self, step: dict[str, Any]) -> None:
        known(step, ONLINE)
        self.step = step
        if step.get("restart"):
            if self.connection is not None:
                self.connection.close()
            self.start()
        time.sleep(step.get("pause-milliseconds", 0) / 1000)
        self.server.expected = list(step.get("server", []))
        self.events.clear()
        self.shown.clear()
        times = step.get("times", 1)
        if times > 1:
            self.open()
        with ThreadPoolExecutor(times) as threads:
            outcomes = list(threads.map(lambda _: self.outcome(step), range(times)))
        for visit in self.visits:
            visit.join(PATIENCE)
        for case, found in outcomes:
            if "fails" in step:
                assert case == "fails", found
                self.names.match(step["fails"], found)
            else:
                assert case == "gives", found
                if "gives" in step:
                    self.names.match(step["gives"], found)
        assert self.server.wrong + self.wrong == []
        assert self.server.expected == [], "an exchange did not come"
        self.host._await_events(PATIENCE)
        self.said += [str(by_wit(event)) for event in self.events]
        if "events" in step:
            assert [event.kind for event in self.events] == step["events"]
            name = self.case.get("connection", "shop")
            assert all(event.connection == name for event in self.events)
        if "shown" in step:
            (shown,) = self.shown
            self.names.match(step["shown"], by_wit(shown))

    def outcome(self, step: dict[str, Any]) -> tuple[str, Any]:
        try:
            return "gives", by_wit_of_call(step["call"], self.call(step))
        except tokenwell.Error as error:
            self.said += [repr(error), str(error)]
            return "fails", error_by_wit(error)

    def call(self, step: dict[str, Any]) -> Any:
        given = self.names.fill(step.get("with", {}))
        call = step["call"]
        if call == "discover-resource":
            return self.host.discover_resource(given["url"])
        if call == "register-client":
            return self.host.register_client(
                given["issuer"],
                given["metadata"],
                initial_access_token=given.get("initial-access-token"),
            )
        connection = self.open()
        match call:
            case "token":
                known(given, {"min-validity-seconds", "rejected"})
                return connection.token(
                    min_validity=given.get("min-validity-seconds"),
                    rejected=given.get("rejected"),
                )
            case "authorization-headers":
                options = given.get("options") or {}
                headers = connection.authorization_headers(
                    given["method"],
                    given["url"],
                    min_validity=options.get("min-validity-seconds"),
                    rejected=options.get("rejected"),
                    dpop_nonce=given.get("dpop-nonce"),
                )
                return {name.lower(): value for name, value in headers.items()}
            case "response-json":
                return connection.response()
            case "begin-authorization":
                return connection.begin_authorization(**options_of(given))
            case "complete-authorization":
                came: Any = given.get("url")
                if came is None:
                    came = tokenwell.FormPost(given["form-post"])
                connection.complete_authorization(came)
                return None
            case "authorize":
                known(given, {"timeout-seconds", "device", "authorization"})
                connection.authorize(
                    timeout=given.get("timeout-seconds"),
                    device=given.get("device", False),
                    **options_of(given.get("authorization", {})),
                )
                return None
            case "poll-device-authorization":
                return connection.poll_device_authorization() or "authorized"
            case (
                "status" | "check" | "resolve" | "history" | "introspect" | "userinfo"
                | "refresh" | "clear" | "revoke" | "reseal" | "begin-device-authorization"
            ):  # fmt: skip
                return getattr(connection, call.replace("-", "_"))()
        raise AssertionError(f"unknown: {call}")


def options_of(given: dict[str, Any]) -> dict[str, Any]:
    known(given, {"redirect-uri", "prompt", "login-hint", "parameters"})
    options: dict[str, Any] = {}
    for name in ("redirect-uri", "prompt", "login-hint"):
        if name in given:
            options[name.replace("-", "_")] = given[name]
    if "parameters" in given:
        options["parameters"] = {one["name"]: one["value"] for one in given["parameters"]}
    return options


def by_wit_of_call(call: str, found: Any) -> Any:
    """Headers and documents of the server are not the contract's."""
    documents = (
        "response-json", "introspect", "userinfo", "discover-resource", "register-client",
        "authorization-headers",
    )  # fmt: skip
    return found if call in documents else by_wit(found)


@pytest.mark.parametrize(
    "case", [*cases("connections"), *cases("files"), *cases("interactive")]
)
def test_connections(case: dict[str, Any], tmp_path: Path) -> None:
    known(
        case,
        {"case", "steps", "connection", "config", "config-fails", "directory", "files",
         "password", "unchanged", "never-shown"},
    )  # fmt: skip
    run = ConnectionRun(case, tmp_path / "connections")
    try:
        run.run()
    finally:
        run.server.end()
        if run.connection is not None:
            run.connection.close()
