"""Where a connection may send to.

The rule: https anywhere, plain http to the loopback interface only; and of these
only the connection's own origins. An origin is a scheme, a host and a port. A
connection's own are those of

- the ``issuer`` and the endpoints that its config names,
- the ``issuer`` and the endpoints that the catalogue has for its provider, those for
  refreshing and exchanging a token and the servers that a redirect may name among them,
  with the config's parameters put in,
- the endpoints that the issuer's metadata names (RFC 8414 section 2), where it was
  fetched by this connection from that issuer's own well-known place and says, to the
  letter, that it is that issuer's (RFC 8414 section 3.3): of the issuers that share
  an origin, such as the tenants of one server, none speaks for another.

The last is what the component believes too. A credential keeps the endpoints that
issued it, so a renewal may go to one before this process has seen the metadata: then
the host fetches it itself, once a minute at most where the issuer answers, and looks
again. A redirect is an answer and not followed, so that no origin is added by one. What
concerns no connection (the metadata of a resource, registration) is held to the first
sentence alone, and bears no token of a connection.
"""

from __future__ import annotations

import functools
import ipaddress
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from . import _fork

Origin = tuple[str, str, int]

_PORTS = {"https": 443, "http": 80}
DISCOVERY_PAUSE_SECONDS = 60.0

_BRACES = re.compile(r"\{([^{}]*)\}")

_WELL_KNOWN = ("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server")

ENDPOINTS = (
    "authorization_endpoint",
    "token_endpoint",
    "revocation_endpoint",
    "introspection_endpoint",
    "userinfo_endpoint",
    "device_authorization_endpoint",
    "pushed_authorization_request_endpoint",
    "jwks_uri",
)


@functools.lru_cache(maxsize=1024)
def origin(url: str) -> Origin | None:
    """The origin of an http or https URL; ``None`` for anything else."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, _PORTS[parts.scheme] if port is None else port


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def may_carry_a_token(url: str) -> bool:
    """Whether a URL is one that secrets may be sent to: https, or loopback."""
    found = origin(url)
    return found is not None and (found[0] == "https" or is_loopback(found[1]))


class Egress:
    """The origins of one connection; ``None``: of none in particular."""

    def __init__(self, urls: Iterable[str] | None, issuers: Iterable[str] = ()) -> None:
        self._next_discovery = 0.0
        self._issuers = tuple(issuers)
        self._origins: set[Origin] | None = None
        if urls is not None:
            named = (*urls, *self._issuers)
            self._origins = {found for url in named if (found := origin(url))}
        self._after_fork()
        _fork.remade(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._discovering = threading.Lock()

    def allows(self, url: str) -> bool:
        """Whether a request to that URL may leave."""
        if not may_carry_a_token(url):
            return False
        return self._origins is None or origin(url) in self._origins

    def discover(self, fetch: Callable[[str], tuple[int, bytes] | None]) -> bool:
        """Fetches the metadata of the issuers, unless that was done just now, and tells
        whether what they name is known now. An issuer that does not answer, or is failing,
        says nothing of it."""
        with self._discovering:
            if time.monotonic() < self._next_discovery:
                return True
            is_known = True
            for issuer in self._issuers:
                answers = []
                for url in filter(self.allows, _metadata_urls(issuer)):
                    answers.append(answer := fetch(url))
                    if answer is not None and answer[0] == 200:
                        self.learn("GET", url, *answer)
                        answers.clear()
                        break
                is_known &= all(one is not None and not _may_pass(one[0]) for one in answers)
            if is_known:
                self._next_discovery = time.monotonic() + DISCOVERY_PAUSE_SECONDS
            return is_known

    def learn(self, method: str, url: str, status: int, body: bytes) -> None:
        """Looks whether a response is the metadata of the connection's issuer, and
        adds the origins that it names."""
        if self._origins is None or method != "GET" or status != 200:
            return
        at = _place(url)
        asked = [one for one in self._issuers if at in map(_place, _metadata_urls(one))]
        if not asked:
            return
        try:
            metadata = json.loads(body)
        except ValueError:
            return
        if not isinstance(metadata, dict) or metadata.get("issuer") not in asked:
            return
        aliases = metadata.get("mtls_endpoint_aliases")
        named = [metadata.get(name) for name in ENDPOINTS]
        if isinstance(aliases, dict):
            named += [aliases.get(name) for name in ENDPOINTS]
        learned = {found for url in named if isinstance(url, str) and (found := origin(url))}
        with self._lock:
            self._origins = self._origins | learned


def of_config(
    config: Mapping[str, Any], provider: Mapping[str, Any] | None, further: Iterable[str]
) -> Egress:
    """The origins of a connection with that config, as the contract has it, the
    catalogue's provider that it names, and those that the host adds."""
    fields = {name: config[name.replace("_", "-")] for name in ("issuer", *ENDPOINTS)}
    urls = [url for url in fields.values() if url]
    issuers = [fields["issuer"]] if fields["issuer"] else []
    if provider is not None:
        values = {"client_id": config["client-id"]}
        values |= {one["name"]: one["default"] for one in provider["parameters"]}
        values |= {one["name"]: one["value"] for one in config["parameters"]}
        for one in provider["endpoints"]:
            url = _filled_in(one["value"], values)
            if url is not None:
                urls.append(url)
                # One by hand is another server, which merely speaks as the provider does.
                if one["name"] == "issuer" and not fields["issuer"]:
                    issuers.append(url)
    return Egress([*urls, *further], issuers)


def _may_pass(status: int) -> bool:
    """Whether an answer says nothing but that the server is failing or has too much to do."""
    return status >= 500 or status == 429


def _metadata_urls(issuer: str) -> list[str]:
    """OpenID Connect Discovery section 4, RFC 8414 section 3.1."""
    parts = urlsplit(issuer)
    base, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    return [f"{base}{path}{_WELL_KNOWN[0]}", f"{base}{_WELL_KNOWN[1]}{path}"]


def _place(url: str) -> tuple[Origin | None, str]:
    """What metadata is fetched from, however the origin is written."""
    return origin(url), urlsplit(url).path


def _filled_in(template: str, values: Mapping[str, str | None]) -> str | None:
    """A URL with the parameters put in; ``None`` where one has no value: then the component
    leaves the endpoint out as well."""
    if any(values.get(name) is None for name in _BRACES.findall(template)):
        return None
    return _BRACES.sub(lambda match: str(values[match[1]]), template)
