"""What the tests stand on: the project's authorization server, its browser, its command
line, and a server whose answers a test writes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = Path(__file__).resolve().parent.parent
WORKSPACE = HOST.parent.parent
PATIENCE = 120.0
SECRET = "client-secret-4c1f"
REDIRECT_URI = "https://client.example/oauth2"


def needs(part: str) -> None:
    """Skips the test, and says so, where the machine is known to lack a part: the build
    driver names such parts in TOKENWELL_TEST_WITHOUT."""
    without = os.environ.get("TOKENWELL_TEST_WITHOUT", "")
    if part in [one.strip() for one in without.split(",")]:
        test = os.environ.get("PYTEST_CURRENT_TEST", "a test")
        print(f"NOT TESTED: {test}: this machine has no {part}", file=sys.__stderr__, flush=True)
        pytest.skip(f"this machine has no {part}")


def eventually(what: str, ask: Callable[[], Any]) -> Any:
    """Waits until something is there."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if found := ask():
            return found
        time.sleep(0.02)
    raise AssertionError(f"there was no {what}")


class Process:
    """A child process that ends with its test."""

    def __init__(self, *command: str | Path, **arguments: Any) -> None:
        self.child = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **arguments,
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._said: list[str] = []
        assert self.child.stdout and self.child.stderr
        self._readers = [
            threading.Thread(target=self._read, args=(self.child.stdout,), daemon=True),
            threading.Thread(target=self._hear, args=(self.child.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any) -> None:
        for line in stream:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _hear(self, stream: Any) -> None:
        self._said.extend(stream)

    def line(self) -> str:
        line = self._lines.get(timeout=PATIENCE)
        if line is None:
            self._readers[1].join(PATIENCE)
            raise AssertionError(f"the process ended; it said:\n{''.join(self._said)}")
        return line

    def finish(self) -> tuple[int, str, str]:
        """Awaits the end: the code, what is left of its output, and its errors."""
        assert self.child.stdin
        with contextlib.suppress(OSError):
            self.child.stdin.close()
        code = self.child.wait(PATIENCE)
        lines = []
        while (line := self._lines.get(timeout=PATIENCE)) is not None:
            lines.append(line)
        self._readers[1].join(PATIENCE)
        return code, "\n".join(lines), "".join(self._said)

    def end(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        for stream in (self.child.stdin, self.child.stdout, self.child.stderr):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]


class OidcProvider:
    """The authorization server of the project's own tests, with its clients."""

    def __init__(self, **environment: str) -> None:
        needs("node")
        folder = WORKSPACE / "tests/servers/oidc-provider"
        assert (folder / "node_modules/oidc-provider").is_dir(), f"run `npm ci` in {folder}"
        ours = {k: v for k, v in os.environ.items() if not k.endswith("_TTL")}
        self._process = Process(
            "node", "server.mjs", cwd=folder, env=ours | environment
        )
        ready = json.loads(self._process.line())
        self.issuer: str = ready["issuer"]
        self.keys: dict[str, dict[str, Any]] = ready["keys"]
        self._control: str = ready["control"]
        self._http = httpx.Client(timeout=PATIENCE, trust_env=False)

    def url(self, path: str) -> str:
        return self.issuer + path

    def requests(self, path: str) -> list[dict[str, Any]]:
        found = self._http.get(f"{self._control}/_test/requests").json()
        return [one for one in found if one["path"] == path]

    def forget_requests(self) -> None:
        self._http.delete(f"{self._control}/_test/requests")

    def is_active(self, token: str) -> bool:
        answer = self._http.post(
            self.url("/token/introspection"),
            data={"token": token},
            auth=("resource-server", "resource-server-secret-08be"),
        )
        return bool(answer.json()["active"])

    def decide(self, url: str) -> str:
        """Takes a user through the pages over plain HTTP, and returns the redirect to the
        client."""
        with httpx.Client(timeout=PATIENCE, trust_env=False) as visitor:
            for _ in range(10):
                if "/interaction/" in url:
                    page = visitor.get(url).text
                    answer = {"prompt": "consent"}
                    if 'name="prompt" value="login"' in page:
                        answer = {"prompt": "login", "login": "alice", "password": "wonderland"}
                    response = visitor.post(url, data=answer)
                else:
                    response = visitor.get(url)
                url = urllib.parse.urljoin(url, response.headers["location"])
                if not url.startswith(self.issuer):
                    return url
        raise AssertionError(f"the pages go in a circle at {url}")

    def decide_for_device(self, url: str) -> None:
        """Takes a user, with the URL that a device showed him, through the pages."""
        code = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)["user_code"][0]
        place = url.partition("?")[0]
        with httpx.Client(timeout=PATIENCE, trust_env=False) as visitor:
            form = {"xsrf": _hidden(visitor.get(url).text), "user_code": code}
            page = visitor.post(place, data=form).text
            form = {"xsrf": _hidden(page), "user_code": code, "confirm": "yes"}
            response = visitor.post(place, data=form)
            while location := response.headers.get("location"):
                url = urllib.parse.urljoin(place, location)
                if "/interaction/" not in url:
                    response = visitor.get(url)
                    continue
                page = visitor.get(url).text
                answer = {"prompt": "consent"}
                if 'name="prompt" value="login"' in page:
                    answer = {"prompt": "login", "login": "alice", "password": "wonderland"}
                response = visitor.post(url, data=answer)

    def machine(self, **fields: Any) -> dict[str, Any]:
        """The config of a client without a user."""
        return {
            "issuer": self.issuer,
            "grant_type": "client_credentials",
            "client_id": "machine-basic",
            "client_secret": "machine-basic-secret-77d0",
        } | fields

    def web(self, **fields: Any) -> dict[str, Any]:
        """The config of a confidential client with a user."""
        return {
            "issuer": self.issuer,
            "client_id": "web-basic",
            "client_secret": "web-basic-secret-3f1c",
            "redirect_uri": REDIRECT_URI,
            "scope": "openid api:read",
        } | fields

    def authorize(self, connection: Any) -> None:
        begun = connection.begin_authorization()
        connection.complete_authorization(self.decide(begun.authorization_url))

    def end(self) -> None:
        self._http.close()
        self._process.end()


def _hidden(page: str) -> str:
    found = re.search(r'name="xsrf" value="+([^"]*)"', page)
    assert found, page
    return found[1]


def browse(url: str) -> dict[str, Any]:
    """Signs in and consents in a real browser, and tells of the page the user is left
    with."""
    folder = WORKSPACE / "tests/browser"
    assert (folder / "node_modules/playwright-core").is_dir(), f"run `npm ci` in {folder}"
    executable = os.environ.get("CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    )
    process = Process(
        "node", "login.mjs", url, cwd=folder, env=os.environ | {"CHROMIUM": executable}
    )
    try:
        code, output, errors = process.finish()
        assert code == 0, errors
        found: dict[str, Any] = json.loads(output)
        return found
    finally:
        process.end()


class Answer:
    """What the scripted server answers."""

    def __init__(
        self,
        status: int = 200,
        body: object = None,
        *,
        headers: dict[str, str] | None = None,
        until: threading.Event | None = None,
    ) -> None:
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers = {"content-type": "application/json"} | (headers or {})
        self.until = until


def tokens(number: int = 1, expires_in: int | None = 3600, **more: Any) -> dict[str, Any]:
    found = {"access_token": f"access-token-{number}-9e07", "token_type": "Bearer", **more}
    return found if expires_in is None else found | {"expires_in": expires_in}


class Certificate:
    """A certificate of a server on 127.0.0.1, which it has signed itself."""

    def __init__(self, directory: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a server of the tests")])
        now = datetime.now(timezone.utc)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]),
                critical=False,
            )
            .sign(key, hashes.SHA256())
        )
        self.der = made.public_bytes(serialization.Encoding.DER)
        self.sha256 = hashlib.sha256(self.der).hexdigest()
        self.path = directory / f"{self.sha256[:8]}.pem"
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        self.path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)


class ScriptedServer:
    """A server on 127.0.0.1 that answers as it is told and remembers what it was asked; with
    a certificate, by TLS."""

    def __init__(self, certificate: Certificate | None = None) -> None:
        self.received: list[tuple[str, str, dict[str, str], dict[str, str]]] = []
        self._answers: dict[str, list[Answer]] = {}
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                form = dict(urllib.parse.parse_qsl(self.rfile.read(length).decode("latin-1")))
                path = self.path.partition("?")[0]
                headers = {name.lower(): value for name, value in self.headers.items()}
                answer = outer._answer(self.command, path, headers, form)
                if answer.until is not None:
                    answer.until.wait(PATIENCE)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_POST = do_PUT = _serve

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        scheme = "http" if certificate is None else "https"
        self.origin = f"{scheme}://127.0.0.1:{self._server.server_port}"
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.show(certificate)
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        ).start()

    def show(self, certificate: Certificate) -> None:
        """Shows that certificate in the handshakes to come."""
        self._tls.load_cert_chain(certificate.path)

    def demand(self, certificate: Certificate) -> None:
        """Wants that certificate of clients, in the handshakes to come (RFC 8705)."""
        self._tls.verify_mode = ssl.CERT_REQUIRED
        self._tls.load_verify_locations(certificate.path)

    def url(self, path: str) -> str:
        return self.origin + path

    def answer(self, path: str, *answers: Answer) -> None:
        """The next answers at a path; the last is given again and again."""
        with self._lock:
            self._answers[path] = list(answers)

    def requests(self, path: str = "/token") -> list[dict[str, str]]:
        """The forms that came to a path."""
        with self._lock:
            return [form for _, at, _, form in self.received if at == path]

    def headers(self, path: str) -> list[dict[str, str]]:
        with self._lock:
            return [headers for _, at, headers, _ in self.received if at == path]

    def _answer(
        self, method: str, path: str, headers: dict[str, str], form: dict[str, str]
    ) -> Answer:
        with self._lock:
            self.received.append((method, path, headers, form))
            answers = self._answers.get(path)
            if not answers:
                return Answer(404, {"error": "nothing is here"})
            return answers.pop(0) if len(answers) > 1 else answers[0]

    def machine(self, **fields: Any) -> dict[str, Any]:
        return {
            "grant_type": "client_credentials",
            "client_id": "client",
            "client_secret": SECRET,
            "token_endpoint": self.url("/token"),
        } | fields

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Cli:
    """The command line on a directory of its own."""

    def __init__(self, home: Path, **environment: str) -> None:
        named = os.environ.get("TOKENWELL_CLI")
        self.program = Path(named) if named else HOST / "../../target/release/tokenwell"
        assert self.program.is_file(), f"there is no {self.program}: run `cargo xtask build`"
        self.directory = home / "connections"
        unwanted = ("TOKENWELL_PASSWORD", "TOKENWELL_STORE", "DBUS_SESSION_BUS_ADDRESS")
        self._environment = {k: v for k, v in os.environ.items() if k not in unwanted}
        self._environment |= {"HOME": str(home)} | environment
        self._home = home

    def start(self, *arguments: str) -> Process:
        return Process(
            self.program, "--dir", self.directory, *arguments, env=self._environment
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        process = self.start(*arguments)
        try:
            found, output, errors = process.finish()
        finally:
            process.end()
        assert found == code, f"{arguments} exited with {found}:\n{output}\n{errors}"
        return output

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def create(self, name: str, config: dict[str, Any]) -> None:
        path = self._home / f"{name}.config.json"
        path.write_text(json.dumps(config))
        self.run("create", name, "--config", str(path))


@contextlib.contextmanager
def ending(thing: Any) -> Iterator[Any]:
    try:
        yield thing
    finally:
        thing.end()
