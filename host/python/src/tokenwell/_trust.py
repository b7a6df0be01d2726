"""The certificates that are imported on first use, where a config says ``tls: trust``."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

from .store import Entry, Stale, Stored, StoreCorrupt, TokenStore
from .types import Event


class Replaced(Exception):
    """A server shows another certificate than the one that was imported for it."""

    def __init__(self, server: str, shown: str, imported: str) -> None:
        super().__init__(
            f"{server} shows another certificate, SHA-256 {shown}, than the one that was imported "
            f"for it, {imported}; if it has been replaced by its owner, clear the connection's trust"
        )


class Trust:
    """What was imported for one connection. It is stored under a key of its own, in the
    form that all hosts share (``host/src/http_client/certificates.rs``).

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

    def judge(self, server: str, certificate: bytes | None) -> None:
        """Imports the certificate that a server shows, or raises :class:`Replaced` where
        another was imported for it before, be it by another process just now."""
        if certificate is None:
            raise ValueError("the server shows no certificate")
        shown = hashlib.sha256(certificate).hexdigest()
        while True:
            servers, version = self._load()
            known = servers.get(server)
            if known is not None:
                if known["sha256"] != shown:
                    raise Replaced(server, shown, known["sha256"])
                return
            servers[server] = {
                "sha256": shown,
                "imported_at": int(time.time()),
                "certificate": base64.b64encode(certificate).decode("ascii"),
            }
            value = json.dumps({"servers": dict(sorted(servers.items()))}, indent=2).encode()
            swapped = self._guarded(
                lambda: self._store.compare_and_swap(self._key, version, value, None)
            )
            if isinstance(swapped, Stored):
                self._tell(server, shown)
                return
            if not isinstance(swapped, Stale):
                raise TypeError(f"compare_and_swap returned a {type(swapped).__name__}")

    def knows(self, server: str) -> bool:
        """Whether a certificate was imported for a server."""
        return server in self._load()[0]

    def clear(self) -> None:
        """Forgets what was imported. Raises :class:`StoreError`."""
        while True:
            entry = self._guarded(lambda: self._store.load(self._key, None))
            if entry is None or self._guarded(
                lambda: self._store.delete(self._key, entry.version)
            ):
                return

    def _load(self) -> tuple[dict[str, dict[str, Any]], int | None]:
        entry = self._guarded(lambda: self._store.load(self._key, None))
        if not isinstance(entry, Entry):
            return {}, None
        try:
            servers = json.loads(entry.value)["servers"]
            for one in servers.values():
                if not isinstance(one["sha256"], str):
                    raise TypeError
        except (ValueError, TypeError, KeyError, AttributeError):
            raise StoreCorrupt(f"{self._key} does not hold imported certificates") from None
        return servers, entry.version

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
