"""Where records are kept: in files, in memory, or in a store of your own.

Values are opaque bytes, sealed by the component; a store never sees a token.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from . import _files, _fork

__all__ = [
    "UNCHANGED",
    "Entry",
    "Fenced",
    "FileStore",
    "Lease",
    "MemoryStore",
    "Stale",
    "StoreCorrupt",
    "StoreDenied",
    "StoreError",
    "StoreUnavailable",
    "Stored",
    "TokenStore",
    "Unchanged",
]


class StoreError(Exception):
    """Why a store could not do it. The text says what, and must hold no secret."""


class StoreUnavailable(StoreError):
    """It cannot be reached, is full, or failed; another time it may work."""


class StoreDenied(StoreError):
    """It does not allow it."""


class StoreCorrupt(StoreError):
    """What is stored is not what the store wrote. It is left as it is."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored value."""

    version: int
    """Which value it is. It never returns to an earlier number under the same key,
    not even when the entry was deleted in between. At most 2^64 - 1."""
    value: bytes
    """The value."""


class Unchanged:
    """The value is the one known already."""

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = Unchanged()


@dataclass(frozen=True, slots=True)
class Stored:
    """The value is stored, durably."""

    version: int
    """Its version."""


@dataclass(frozen=True, slots=True)
class Stale:
    """Another value is there than was expected, or none."""

    current: Entry | None
    """What is there."""


@dataclass(frozen=True, slots=True)
class Fenced:
    """A later lease on the key has been given out than the one named."""


class Lease(ABC):
    """The right to renew what is under a key. Lost when its time runs out."""

    @property
    @abstractmethod
    def fence(self) -> int:
        """A number greater than that of every earlier lease on the key."""

    @abstractmethod
    def release(self) -> None:
        """Gives it back. Called once, perhaps from another thread."""


class TokenStore(ABC):
    """Keeps values under keys: letters, digits, ``.``, ``_`` and ``-``, no leading
    dot, at most 100 of them.

    Subclass it for a store of your own. Calls come from any number of threads at
    once. What it raises beside the :class:`StoreError` of this module counts as
    :class:`StoreUnavailable`, and is the ``__cause__`` of the error that the caller of
    the connection sees; what does not return within the host's ``callback_timeout``
    too, and what it still does afterwards is ignored.
    """

    @abstractmethod
    def load(self, key: str, known: int | None = None) -> Entry | Unchanged | None:
        """Reads the entry under a key; ``None``: there is none. With the version that
        the caller has already, an unchanged value may be answered as
        :data:`UNCHANGED`: with each ``token()`` this is asked, so it should be quick.

        Raises :class:`StoreError`.
        """

    @abstractmethod
    def compare_and_swap(
        self, key: str, expected: int | None, value: bytes, fence: int | None = None
    ) -> Stored | Stale | Fenced:
        """Stores a value where the entry still has the expected version (``None``:
        where there is none), atomically among all that share the store. With a fence
        number, only while no later lease on the key has been given out. When it
        returns :class:`Stored`, the value survives a crash.

        Raises :class:`StoreError`; :class:`StoreUnavailable` also where the value may
        be stored or not.
        """

    @abstractmethod
    def delete(self, key: str, expected: int) -> bool:
        """Deletes the entry where it still has that version, and tells whether.

        Raises :class:`StoreError`.
        """

    @abstractmethod
    def acquire_lease(self, key: str, ttl: float, wait: float) -> Lease | None:
        """Takes the lease on a key for at most ``ttl`` seconds, waiting for its
        present holder for at most ``wait`` seconds; ``None``: it is held. The lease of
        a holder whose time has run out does not hold.

        Raises :class:`StoreError`.
        """


_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


def check_key(key: str) -> None:
    """Says whether a store takes that key; raises :class:`StoreDenied`."""
    if not _KEY.fullmatch(key):
        raise StoreDenied(
            "a key has letters, digits, `.`, `_` and `-`, no leading dot, and at most 100 of them"
        )


class _Turnstile:
    """Waiting for a lease: of all that wait in this process only the first tries to
    take it, so that a thousand callers cost no more than one."""

    def __init__(self) -> None:
        self._releases = 0
        self.make_locks()

    def make_locks(self) -> None:
        self.first = threading.Lock()
        self._lock = threading.Condition()

    def release(self) -> None:
        with self._lock:
            self._releases += 1
            self._lock.notify_all()

    def passes(self, wait: float, attempt: Any) -> Any:
        """Attempts until the lease is taken or the time is over. An attempt gives the
        lease, or after how many seconds it is worth another."""
        deadline = time.monotonic() + wait
        if not self.first.acquire(timeout=min(wait, threading.TIMEOUT_MAX)):
            return None
        try:
            while True:
                with self._lock:
                    seen = self._releases
                outcome = attempt()
                if isinstance(outcome, Lease):
                    return outcome
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                with self._lock:
                    # A release ends the pause early.
                    self._lock.wait_for(lambda: self._releases != seen, min(outcome, left))
        finally:
            self.first.release()


class _Turnstiles:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, _Turnstile] = {}
        _fork.remade(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        for turnstile in self._keys.values():
            turnstile.make_locks()

    def at(self, key: str) -> _Turnstile:
        with self._lock:
            return self._keys.setdefault(key, _Turnstile())


@dataclass(slots=True)
class _Slot:
    value: bytes | None = None
    version: int = 0
    fence: int = 0
    held_until: float = 0.0


class MemoryStore(TokenStore):
    """Keeps records in the memory of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # A slot stays when its entry is deleted, for the numbers' sake.
        self._slots: dict[str, _Slot] = {}
        self._turnstiles = _Turnstiles()
        _fork.remade(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        # Whoever held a lease holds it in the other process, which has its own records.
        for slot in self._slots.values():
            slot.held_until = 0.0

    def load(self, key: str, known: int | None = None) -> Entry | Unchanged | None:
        check_key(key)
        with self._lock:
            slot = self._slots.get(key)
            if slot is None or slot.value is None:
                return None
            return UNCHANGED if slot.version == known else Entry(slot.version, slot.value)

    def compare_and_swap(
        self, key: str, expected: int | None, value: bytes, fence: int | None = None
    ) -> Stored | Stale | Fenced:
        check_key(key)
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            if fence is not None and fence < slot.fence:
                return Fenced()
            current = None if slot.value is None else Entry(slot.version, slot.value)
            if (current and current.version) != expected:
                return Stale(current)
            slot.version += 1
            slot.value = bytes(value)
            return Stored(slot.version)

    def delete(self, key: str, expected: int) -> bool:
        check_key(key)
        with self._lock:
            slot = self._slots.get(key)
            if slot is None or slot.value is None or slot.version != expected:
                return False
            slot.value = None
            return True

    def acquire_lease(self, key: str, ttl: float, wait: float) -> Lease | None:
        check_key(key)
        turnstile = self._turnstiles.at(key)

        def attempt() -> Lease | float:
            with self._lock:
                slot = self._slots.setdefault(key, _Slot())
                now = time.monotonic()
                if slot.held_until > now:
                    return slot.held_until - now
                slot.fence += 1
                slot.held_until = now + ttl
                return _MemoryLease(self, turnstile, slot, slot.fence)

        lease: Lease | None = turnstile.passes(wait, attempt)
        return lease


class _MemoryLease(Lease):
    def __init__(
        self, store: MemoryStore, turnstile: _Turnstile, slot: _Slot, fence: int
    ) -> None:
        self._store, self._turnstile, self._slot, self._fence = store, turnstile, slot, fence

    @property
    def fence(self) -> int:
        return self._fence

    def release(self) -> None:
        with self._store._lock:
            if self._slot.fence == self._fence:
                self._slot.held_until = 0.0
        self._turnstile.release()


_FORMAT = "tokenwell-record"
_FORMAT_VERSION = 1
_RECORD_LIMIT = 16 << 20
_LONGEST_LEASE_SECONDS = 24 * 60 * 60
_LONGEST_PAUSE = 0.05
_SETTLED_NS = 2_000_000_000
_U64 = (1 << 64) - 1

# What tells one content of a file from another without reading it.
_Signature = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a record's file held when it was last read."""

    signature: _Signature | None
    content: bytes
    entry: Entry

    @property
    def version(self) -> int:
        return self.entry.version


class FileStore(TokenStore):
    """Keeps each record in a file of a directory, which is created when first written
    to. Any number of processes on the machine can share the directory, those of the
    command line and of hosts in other languages among them: format and locks are
    those of ``host/src/store/file.rs``. POSIX systems only.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self._turnstiles = _Turnstiles()
        self._seen: dict[str, _Seen] = {}

    def load(self, key: str, known: int | None = None) -> Entry | Unchanged | None:
        check_key(key)
        seen = self._seen.get(key)
        if known is not None and seen is not None and seen.version == known:
            # A record is only ever replaced whole, by a file of its own.
            try:
                if seen.signature == _signature(os.stat(self._record_file(key))):
                    return UNCHANGED
            except OSError:
                pass
        entry = self._read(key)
        return UNCHANGED if entry is not None and entry.version == known else entry

    def compare_and_swap(
        self, key: str, expected: int | None, value: bytes, fence: int | None = None
    ) -> Stored | Stale | Fenced:
        check_key(key)
        with self._lock(key):
            state = self._lease_state(key)
            if fence is not None and fence < state["fence"]:
                return Fenced()
            current = self._read(key)
            version = None if current is None else current.version
            if version != expected:
                return Stale(current)
            version = _next_number(state["deleted_version"] if version is None else version)
            record = {
                "format": _FORMAT,
                "format_version": _FORMAT_VERSION,
                "version": version,
                "sealed": base64.b64encode(value).decode("ascii"),
            }
            self._write(key, self._record_file(key), record, durable=True)
            return Stored(version)

    def delete(self, key: str, expected: int) -> bool:
        check_key(key)
        with self._lock(key):
            current = self._read(key)
            if current is None or current.version != expected:
                return False
            state = self._lease_state(key)
            state["deleted_version"] = expected
            self._write(key, self._lock_file(key, "lease"), state, durable=True)
            with self._telling(key, "deleting"):
                os.unlink(self._record_file(key))
                _files.sync_directory(self.directory)
            return True

    def acquire_lease(self, key: str, ttl: float, wait: float) -> Lease | None:
        check_key(key)
        turnstile = self._turnstiles.at(key)
        pause = 0.005

        def attempt() -> Lease | float:
            nonlocal pause
            taken = self._take_lease(key, ttl, turnstile)
            if isinstance(taken, Lease):
                return taken
            again, pause = pause, min(pause * 2, _LONGEST_PAUSE)
            return min(taken, again)

        lease: Lease | None = turnstile.passes(wait, attempt)
        return lease

    def _take_lease(self, key: str, ttl: float, turnstile: _Turnstile) -> Lease | float:
        with self._lock(key):
            state = self._lease_state(key)
            now = time.time()
            left = state["expires_at_ms"] / 1000 - now
            previous = self._lock_file(key, f"holder.{state['fence']}")
            with self._telling(key, "locking"):
                if left > 0 and _files.is_locked(previous):
                    return left
            fence = state["fence"] = _next_number(state["fence"])
            state["expires_at_ms"] = int((now + min(ttl, _LONGEST_LEASE_SECONDS)) * 1000)
            path = self._lock_file(key, f"holder.{fence}")
            with self._telling(key, "locking"):
                handle = _files.lock(path)
            try:
                self._write(key, self._lock_file(key, "lease"), state, durable=False)
                with self._telling(key, "locking"):
                    previous.unlink(missing_ok=True)
            except BaseException:
                _release(handle, path)
                raise
            return _FileLease(fence, handle, path, turnstile)

    def _record_file(self, key: str) -> Path:
        return self.directory / key

    def _lock_file(self, key: str, suffix: str) -> Path:
        return self.directory / ".locks" / f"{key}.{suffix}"

    @contextlib.contextmanager
    def _lock(self, key: str) -> Any:
        with self._telling(key, "locking"):
            _files.create_private_directory(self.directory / ".locks")
            handle = _files.lock(self._lock_file(key, "lock"))
        try:
            yield
        finally:
            _files.unlock(handle)

    @contextlib.contextmanager
    def _telling(self, key: str, doing: str) -> Any:
        try:
            yield
        except OSError as error:
            text = f"{doing} {self._record_file(key)} failed: {error.strerror or error}"
            raise StoreUnavailable(text) from error

    def _read(self, key: str) -> Entry | None:
        path = self._record_file(key)
        with self._telling(key, "reading"):
            try:
                with open(path, "rb") as file:
                    found = os.fstat(file.fileno())
                    content = file.read(_RECORD_LIMIT + 1)
            except FileNotFoundError:
                return None
        if len(content) > _RECORD_LIMIT:
            raise StoreCorrupt(f"{path} is longer than any record")
        seen = self._seen.get(key)
        if seen is not None and seen.content == content:
            entry = seen.entry
        else:
            entry = _parse(path, content)
        # A file that was written just now could be replaced within the same tick of
        # the file system's clock: until it is older it is read again each time.
        is_settled = time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > _SETTLED_NS
        signature = _signature(found) if is_settled else None
        self._seen[key] = _Seen(signature, content, entry)
        return entry

    def _write(self, key: str, path: Path, content: dict[str, Any], *, durable: bool) -> None:
        encoded = json.dumps(content, separators=(",", ":")).encode() + b"\n"
        with self._telling(key, "writing"):
            _files.replace(path, encoded, durable=durable)

    def _lease_state(self, key: str) -> dict[str, int]:
        """The last lease. One that cannot be read counts as none: fences and versions
        then go on from the clock."""
        names = ("fence", "expires_at_ms", "deleted_version")
        with self._telling(key, "reading the lease of"):
            try:
                content = self._lock_file(key, "lease").read_bytes()
            except FileNotFoundError:
                content = b""
        try:
            found = json.loads(content)
            state = {name: found.get(name, 0) for name in names}
        except (ValueError, AttributeError):
            state = {}
        if not all(_is_u64(state.get(name)) for name in names):
            state = dict.fromkeys(names, 0)
        return state


class _FileLease(Lease):
    def __init__(self, fence: int, handle: int, path: Path, turnstile: _Turnstile) -> None:
        self._fence, self._handle, self._path, self._turnstile = fence, handle, path, turnstile

    @property
    def fence(self) -> int:
        return self._fence

    def release(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            _release(handle, self._path)
            self._turnstile.release()


def _release(handle: int, path: Path) -> None:
    # Where that fails, the lock still ends as the file is closed.
    with contextlib.suppress(OSError):
        path.unlink()
    _files.unlock(handle)


def _is_u64(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _U64


def _signature(found: os.stat_result) -> _Signature:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _parse(path: Path, content: bytes) -> Entry:
    not_a_record = f"{path} is not a whole token record"
    try:
        record = json.loads(content)
    except ValueError:
        raise StoreCorrupt(not_a_record) from None
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise StoreCorrupt(not_a_record)
    format_version = record.get("format_version")
    if not _is_u64(format_version):
        raise StoreCorrupt(not_a_record)
    if format_version != _FORMAT_VERSION:
        raise StoreCorrupt(
            f"{path} has format version {format_version}; this version reads {_FORMAT_VERSION}"
        )
    version, sealed = record.get("version"), record.get("sealed")
    if not _is_u64(version) or not isinstance(sealed, str):
        raise StoreCorrupt(not_a_record)
    try:
        value = base64.b64decode(sealed, validate=True)
    except ValueError:
        raise StoreCorrupt(not_a_record) from None
    return Entry(version, value)  # type: ignore[arg-type]


def _next_number(previous: int) -> int:
    """A number greater than that one, and than any given out before it, even if there
    is no memory of those."""
    return min(max(previous + 1, time.time_ns() // 1000), _U64)
