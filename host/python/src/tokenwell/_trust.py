"""How servers are first met, and held to, where a config says ``tls: trust``."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .store import Entry, Stale, Stored, StoreCorrupt, TokenStore
from .types import Event


@dataclass(frozen=True, slots=True)
class HeldTo:
    """What a server is held to that was met before."""

    imported: str | None
    """The certificate that was imported for it, by its fingerprint; ``None``: one that the
    system vouches for, as it did then."""


class Replaced(Exception):
    """A server shows another certificate than it is held to."""

    def __init__(self, server: str, shown: str, held_to: HeldTo) -> None:
        what = (
            f"{server} shows another certificate, SHA-256 {shown}, than the one that was imported "
            f"for it, {held_to.imported}"
        )
        if held_to.imported is None:
            what = (
                f"{server} shows a certificate that the system does not vouch for, SHA-256 "
                f"{shown}, and showed one that it does when it was first met"
            )
        super().__init__(
            f"{what}; if it has been replaced by its owner, clear the connection's trust"
        )


@dataclass(slots=True)
class _Met:
    """How the servers were first met, each by host and port."""

    servers: dict[str, dict[str, Any]] = field(default_factory=dict)
    vouched_for: set[str] = field(default_factory=set)

    def held_to(self, server: str) -> HeldTo | None:
        if server in self.vouched_for:
            return HeldTo(None)
        imported = self.servers.get(server)
        return None if imported is None else HeldTo(imported["sha256"])

    def encoded(self) -> bytes:
        content: dict[str, Any] = {"servers": dict(sorted(self.servers.items()))}
        if self.vouched_for:
            content["vouched_for"] = sorted(self.vouched_for)
        return json.dumps(content, indent=2).encode()


class Trust:
    """How one connection first met its servers. It is stored under a key of its own, in the
    form that all hosts share (``host/STORE.md``).

    ``guarded`` calls a method of the store, and ``emit`` is told of each import.
    """

    def __init__(
        self,
        connection: str,
        store: TokenStore,
        guarded: Callable[[Callable[[], Any]], Any],
        emit: Callable[[Event], None],
    ) -> None:
        self.connection = connection
        self._key = f"{connection}.trust"
        self._store = store
        self._guarded = guarded
        self._emit = emit

    def held_to(self, server: str) -> HeldTo | None:
        """What a server is held to, where it was met before."""
        return self._load()[0].held_to(server)

    def judge(
        self, server: str, held_to: HeldTo | None, certificate: bytes | None, vouched_for: bool
    ) -> None:
        """Judges the certificate that a server shows, for which the system vouches or not, by
        what the server is held to. Where it was never met, how it is met now is written down;
        what another process has written just now holds. Raises :class:`Replaced`."""
        if certificate is None:
            raise ValueError("the server shows no certificate")
        shown = hashlib.sha256(certificate).hexdigest()
        if held_to is None:
            held_to = self._meet(server, certificate, shown, vouched_for)
        if not (vouched_for if held_to.imported is None else held_to.imported == shown):
            raise Replaced(server, shown, held_to)

    def _meet(self, server: str, certificate: bytes, shown: str, vouched_for: bool) -> HeldTo:
        """Writes down how a server was first met, and gives what holds."""
        while True:
            met, version = self._load()
            if (theirs := met.held_to(server)) is not None:
                return theirs
            if vouched_for:
                met.vouched_for.add(server)
            else:
                met.servers[server] = {
                    "sha256": shown,
                    "imported_at": int(time.time()),
                    "certificate": base64.b64encode(certificate).decode("ascii"),
                }
            value = met.encoded()
            swapped = self._guarded(
                lambda: self._store.compare_and_swap(self._key, version, value, None)
            )
            if isinstance(swapped, Stored):
                if vouched_for:
                    return HeldTo(None)
                self._tell(server, shown)
                return HeldTo(shown)
            if not isinstance(swapped, Stale):
                raise TypeError(f"compare_and_swap returned a {type(swapped).__name__}")

    def clear(self) -> None:
        """Forgets how the servers were met. Raises :class:`StoreError`."""
        while True:
            entry = self._guarded(lambda: self._store.load(self._key, None))
            if entry is None or self._guarded(
                lambda: self._store.delete(self._key, entry.version)
            ):
                return

    def _load(self) -> tuple[_Met, int | None]:
        entry = self._guarded(lambda: self._store.load(self._key, None))
        if not isinstance(entry, Entry):
            return _Met(), None
        try:
            found = json.loads(entry.value)
            servers = found["servers"]
            # An entry from before there were any has no such list.
            vouched_for = found.get("vouched_for", [])
            texts = [one["sha256"] for one in servers.values()] + vouched_for
            if not all(isinstance(text, str) for text in texts):
                raise TypeError
        except (ValueError, TypeError, KeyError, AttributeError):
            raise StoreCorrupt(f"{self._key} does not hold how servers were met") from None
        return _Met(servers, set(vouched_for)), entry.version

    def _tell(self, server: str, sha256: str) -> None:
        self._emit(
            Event(
                at=int(time.time()),
                connection=self.connection,
                kind="certificate-imported",
                message=f"imported the certificate of {server}, which the system does not vouch "
                f"for: SHA-256 {sha256}",
                details={"server": server},
            )
        )
