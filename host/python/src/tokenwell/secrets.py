"""Secrets and keys that the host holds: the values behind references, and keys that
seal and sign."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from . import _files, _fork, _seal
from ._seal import SealingKey
from .store import (
    Entry,
    FileStore,
    MemoryStore,
    Stale,
    Stored,
    StoreDenied,
    StoreError,
    TokenStore,
)

if TYPE_CHECKING:
    from ._password import MasterPassword

__all__ = [
    "KeySource",
    "LocalSecrets",
    "SealingKey",
    "SecretDenied",
    "SecretError",
    "SecretNotFound",
    "SecretUnavailable",
    "SecretUnsupported",
    "Secrets",
]

KeySource = Literal["key-file", "keyring", "password"]
"""Where a sealing key is kept: in ``tokenwell.key`` in the directory, in the operating
system's keyring, or nowhere, being derived from a master password."""


class SecretError(Exception):
    """Why the host could not give it. The text must hold no secret."""


class SecretNotFound(SecretError):
    """There is nothing under that reference."""


class SecretDenied(SecretError):
    """The host does not allow it."""


class SecretUnavailable(SecretError):
    """It cannot be had now."""


class SecretUnsupported(SecretError):
    """The host knows no such form of reference or algorithm."""


class Secrets(ABC):
    """Holds what the component must not: the values behind references, and private
    keys. Subclass it for a place of your own. What it raises beside the
    :class:`SecretError` of this module counts as :class:`SecretUnavailable`."""

    @abstractmethod
    def resolve(self, reference: str) -> str:
        """The value behind a reference, such as ``env:NAME``."""

    @abstractmethod
    def sealing_keys(self, needed: str | None = None) -> list[SealingKey]:
        """The keys: the first seals, all open. ``needed`` is the identifier of the key
        that a stored record names; one that can be had only by its identifier is given
        among the others."""

    def sign(self, key: str, algorithm: str, data: bytes) -> bytes:
        """Signs with a key that does not leave the host: ``key`` is a reference,
        ``algorithm`` a JWS algorithm (RFC 7518 section 3.1, RFC 8037), the signature in
        JWS form. By default the key is the text that :meth:`resolve` gives: PEM, a JWK,
        or a Google service account's file."""
        from . import _signing

        return _signing.sign(self.resolve(key), algorithm, data)

    def public_key(self, key: str) -> str:
        """The public half of such a key, as a JWK (RFC 7517)."""
        from . import _signing

        return _signing.public_jwk(self.resolve(key))

    def verify(self, jwk: str, algorithm: str, data: bytes, signature: bytes) -> bool:
        """Checks a JWS signature with a public key given as a JWK."""
        from . import _signing

        return _signing.verify(jwk, algorithm, data, signature)


_KEYS_ENTRY = "tokenwell.keys"
_KEYS_FORMAT = "tokenwell-keys"
_KEY_FILE = "tokenwell.key"
_KEY_FILE_FORMAT = "tokenwell-key"
_FORMAT_VERSION = 1
_SECRET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


class LocalSecrets(Secrets):
    """Secrets of this machine, shared with the command line.

    ``env:NAME`` is an environment variable; ``file:PATH`` a file without the line end at
    its close, relative to the directory; ``keyring:NAME`` the entry ``NAME`` of the
    service ``tokenwell`` in the operating system's keyring; ``sealed:NAME`` is kept in
    the token store, sealed as tokens are.

    The sealing key of a new store is derived from the master password where one is
    given as a text; else it is made at random and kept in the keyring, or where there is
    none in ``tokenwell.key`` in the directory. A function is asked for the master password
    of a store that has one, and again where what it returned is not that. Without a
    directory it is gone with this object. ``announce`` is told where the first key of a
    store is kept, when it has been made: losing it loses what it seals.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        store: TokenStore | None = None,
        password: str | Callable[[], str] | None = None,
        announce: Callable[[KeySource], None] | None = None,
    ) -> None:
        from ._password import MasterPassword

        self._directory = None if directory is None else Path(directory)
        if store is None:
            store = MemoryStore() if self._directory is None else FileStore(self._directory)
        self._store = store
        self._password: MasterPassword = MasterPassword(password)
        self._announce = announce
        self.asks = callable(password) or announce is not None
        """Whether it calls functions that it was given."""
        self._known: list[SealingKey] = []
        self._after_fork()
        _fork.remade(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

    def resolve(self, reference: str) -> str:
        scheme, colon, rest = reference.partition(":")
        match scheme if colon else "":
            case "env":
                return _environment_variable(rest)
            case "file":
                return _read_secret((self._directory or Path()) / rest)
            case "keyring":
                return _text(_keyring_get(rest), reference)
            case "sealed":
                return self._sealed_secret(rest)
        raise SecretUnsupported(
            "a reference is `env:NAME`, `file:PATH`, `keyring:NAME` or `sealed:NAME`"
        )

    def sealing_keys(self, needed: str | None = None) -> list[SealingKey]:
        with self._lock:
            known = self._known
            if not (known if needed is None else any(key.id == needed for key in known)):
                self._known = self._look_up(needed)
            return list(self._known)

    def key_source(self) -> KeySource | None:
        """Where the current sealing key is kept; ``None`` where the store has none."""
        header = self._header()
        if header is not None:
            source: KeySource = header["source"]
            return source
        if self._directory is not None and self._key_file():
            return "key-file"
        return None

    def seal_secret(self, name: str, secret: str) -> None:
        """Keeps a secret for ``sealed:NAME``, in place of one that is there."""
        key = _secret_key(name)
        sealing = self.sealing_keys()[0]
        while True:
            entry = self._load(key)
            sealed = _seal.seal(sealing, key, secret.encode())
            version = None if entry is None else entry.version
            # Somebody else may have written in between.
            if isinstance(self._swap(key, version, sealed), Stored):
                return

    def forget_secret(self, name: str) -> bool:
        """Forgets a sealed secret, and tells whether there was one."""
        key = _secret_key(name)
        while (entry := self._load(key)) is not None:
            try:
                if self._store.delete(key, entry.version):
                    return True
            except StoreError as error:
                raise _from_store(error) from error
        return False

    def _sealed_secret(self, name: str) -> str:
        key = _secret_key(name)
        entry = self._load(key)
        if entry is None:
            raise SecretNotFound(f"there is no sealed secret {name}")
        keys = self.sealing_keys(_seal.key_id(entry.value))
        try:
            plain = _seal.open_sealed(keys, key, entry.value)
        except _seal.WrongKey as error:
            raise SecretNotFound(str(error)) from None
        except _seal.NotSealed as error:
            raise SecretUnavailable(f"{key}: {error}") from None
        return _text(plain, f"sealed:{name}")

    # ---- sealing keys

    def _look_up(self, needed: str | None) -> list[SealingKey]:
        from ._password import is_password_key

        if self._directory is None:
            return self._known or [_random_key()]
        header = self._header()
        if header is not None:
            keys = self._keys_of(header, self._known)
        elif needed is None:
            keys = self._create()
        else:
            # To read what is there, nothing is made.
            keys = self._key_file()
        # A record that was sealed elsewhere with the same password.
        if needed and is_password_key(needed) and all(key.id != needed for key in keys):
            keys.append(self._password.key(needed, to_seal=False))
        return keys

    def _keys_of(self, header: dict[str, Any], known: list[SealingKey]) -> list[SealingKey]:
        """The current key of a store, and those before it."""
        identifier = header["current"]
        current = next((key for key in known if key.id == identifier), None)
        if current is None:
            match header["source"]:
                case "key-file":
                    current = self._in_key_file(identifier)
                case "keyring":
                    current = _in_keyring(identifier)
                case _:
                    current = self._password.key(identifier, to_seal=True)
        keys = [current]
        for previous in header["previous"]:
            try:
                sealed = base64.b64decode(previous["sealed"], validate=True)
                name = f"{_KEYS_ENTRY}/{previous['id']}"
                key = _seal.open_sealed([current], name, sealed)
                if len(key) != 32:
                    raise _damaged()
                keys.append(SealingKey(previous["id"], key))
            except (KeyError, TypeError, ValueError, _seal.NotSealed, _seal.WrongKey):
                raise _damaged() from None
        return keys

    def _create(self) -> list[SealingKey]:
        """The first key of a store, unless somebody else is quicker."""
        source: KeySource
        is_found = False
        if self._password.is_given:
            source, key = "password", self._password.new_key()
        else:
            source, key, is_found = self._first_key()
        header = {
            "format": _KEYS_FORMAT,
            "format_version": _FORMAT_VERSION,
            "source": source,
            "current": key.id,
            "previous": [],
        }
        content = json.dumps(header, separators=(",", ":")).encode()
        swapped = self._swap(_KEYS_ENTRY, None, content)
        if isinstance(swapped, Stored):
            if is_found:
                # Where the file cannot be changed, no key is removed from it either.
                with contextlib.suppress(SecretError):
                    self._share(key.id)
            if self._announce is not None:
                self._announce(source)
            return [key]
        if not isinstance(swapped, Stale) or swapped.current is None:
            raise _damaged()
        theirs = _read_header(swapped.current)
        if source == "keyring" and theirs["current"] != key.id:
            _keyring_delete(_keyring_name(key.id))
        return self._keys_of(theirs, [key])

    def _first_key(self) -> tuple[KeySource, SealingKey, bool]:
        """The key that a store begins with, and whether it was there before and may be
        another store's."""
        if not self._key_file() and _keyring_is_likely():
            key = _random_key()
            try:
                _keyring_set(_keyring_name(key.id), key.key)
            except SecretError:
                pass
            else:
                return "keyring", key, False
        return "key-file", *self._first_in_key_file()

    def _header(self) -> dict[str, Any] | None:
        entry = self._load(_KEYS_ENTRY)
        return None if entry is None else _read_header(entry)

    # ---- the key file

    def _key_path(self) -> Path:
        assert self._directory is not None
        return self._directory / _KEY_FILE

    def _key_file(self) -> list[SealingKey]:
        """The keys, the one that seals first; none where there is no file."""
        return [_stored_key(one) for one in self._kept_keys()]

    def _kept_keys(self) -> list[dict[str, Any]]:
        """The keys as they are in the file."""
        path = self._key_path()
        try:
            with open(path, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                content = file.read(1 << 20)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _failed("reading", path, error) from error
        if sys.platform != "win32" and mode & 0o077:
            raise SecretDenied(
                f"{path} can be read by others than its owner: `chmod 600` it"
            )
        try:
            found = json.loads(content)
            if found.pop("format") != _KEY_FILE_FORMAT:
                raise ValueError
            kept: list[dict[str, Any]] = [found, *found.pop("others", [])]
            for one in kept:
                _stored_key(one)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SecretUnavailable(f"{path} is not a whole key file") from None
        return kept

    @contextlib.contextmanager
    def _changing_key_file(self) -> Iterator[list[dict[str, Any]]]:
        """Writes the keys as they have been changed."""
        path = self._key_path()
        locks = path.parent / ".locks"
        try:
            _files.create_private_directory(locks)
            handle = _files.lock(locks / f"{_KEY_FILE}.lock")
        except OSError as error:
            raise _failed("locking", path, error) from error
        try:
            kept = self._kept_keys()
            yield kept
            content = {"format": _KEY_FILE_FORMAT, **kept[0]}
            if kept[1:]:
                content["others"] = kept[1:]
            encoded = json.dumps(content, separators=(",", ":")).encode() + b"\n"
            try:
                _files.replace(path, encoded, durable=True)
            except OSError as error:
                raise _failed("writing", path, error) from error
        finally:
            _files.unlock(handle)

    def _first_in_key_file(self) -> tuple[SealingKey, bool]:
        """The first key, which is made where there is none; and whether it was there."""
        if keys := self._key_file():
            return keys[0], True
        with self._changing_key_file() as kept:
            # Another process may have been quicker.
            if kept:
                return _stored_key(kept[0]), True
            key = _random_key()
            kept.append({"id": key.id, "key": base64.b64encode(key.key).decode()})
        return key, False

    def _share(self, identifier: str) -> None:
        """Marks a key, where it is there, as one that another store may be sealed under as
        well."""

        def unmarked(kept: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [one for one in kept if one["id"] == identifier and not one.get("shared")]

        if unmarked(self._kept_keys()):
            with self._changing_key_file() as kept:
                for one in unmarked(kept):
                    one["shared"] = True

    def _in_key_file(self, identifier: str) -> SealingKey:
        keys = self._key_file()
        for key in keys:
            if key.id == identifier:
                return key
        has = f"has {keys[0].id}" if keys else "is not there"
        raise SecretNotFound(
            f"the store is sealed under the key {identifier}, and {self._key_path()} {has}; "
            "copy the key file that belongs to the store"
        )

    # ---- the store

    def _load(self, key: str) -> Entry | None:
        try:
            entry = self._store.load(key, None)
        except StoreError as error:
            raise _from_store(error) from error
        return entry if isinstance(entry, Entry) else None

    def _swap(self, key: str, expected: int | None, value: bytes) -> object:
        try:
            return self._store.compare_and_swap(key, expected, value, None)
        except StoreError as error:
            raise _from_store(error) from error


def _random_key() -> SealingKey:
    return SealingKey(os.urandom(4).hex(), os.urandom(32))


def _stored_key(found: dict[str, str]) -> SealingKey:
    key = base64.b64decode(found["key"], validate=True)
    if len(key) != 32 or not isinstance(found["id"], str):
        raise ValueError
    return SealingKey(found["id"], key)


def _read_header(entry: Entry) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads(entry.value)
        if header["format"] != _KEYS_FORMAT:
            raise ValueError
        version = header["format_version"]
    except (ValueError, KeyError, TypeError):
        raise _damaged() from None
    if version != _FORMAT_VERSION:
        raise SecretUnavailable(
            f"the store's entry {_KEYS_ENTRY} has format version {version}; "
            f"this version reads {_FORMAT_VERSION}"
        )
    whole = (
        header.get("source") in ("key-file", "keyring", "password")
        and isinstance(header.get("current"), str)
        and isinstance(header.get("previous"), list)
    )
    if not whole:
        raise _damaged()
    return header


def _damaged() -> SecretUnavailable:
    return SecretUnavailable(f"the store's entry {_KEYS_ENTRY} is damaged")


def _secret_key(name: str) -> str:
    if not _SECRET_NAME.fullmatch(name):
        raise SecretNotFound(
            "a sealed secret's name has at most 80 letters, digits, `-`, `_` and `.`, and "
            "begins with a letter or digit"
        )
    return f"{name}.secret"


def _environment_variable(name: str) -> str:
    if not name or "=" in name or "\0" in name:
        raise SecretNotFound(f"`{name}` is no name of an environment variable")
    value = os.environ.get(name)
    if value is None:
        raise SecretNotFound(f"the environment variable {name} is not set")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise SecretUnavailable(f"the environment variable {name} is not Unicode") from None
    return value


def _read_secret(path: Path) -> str:
    try:
        content = path.read_bytes()
    except (IsADirectoryError, PermissionError) as error:
        # To wait mends neither: it is for whoever wrote the reference to do.
        raise SecretNotFound(f"reading {path} failed: {error.strerror}") from error
    except (OSError, ValueError) as error:
        raise _failed("reading", path, error) from error
    if content.endswith(b"\n"):
        content = content[:-1].removesuffix(b"\r")
    return _text(content, f"file {path}")


def _text(content: bytes, what: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise SecretUnavailable(f"{what} is not text") from None


def _failed(doing: str, path: Path, error: Exception) -> SecretError:
    text = f"{doing} {path} failed: {getattr(error, 'strerror', None) or error}"
    if isinstance(error, FileNotFoundError):
        return SecretNotFound(text)
    return SecretUnavailable(text)


def _from_store(error: StoreError) -> SecretError:
    kind = SecretDenied if isinstance(error, StoreDenied) else SecretUnavailable
    return kind(str(error))


# ---- the operating system's keyring

_SERVICE = "tokenwell"


def _keyring_name(identifier: str) -> str:
    return f"sealing-key-{identifier}"


def _in_keyring(identifier: str) -> SealingKey:
    key = _keyring_get(_keyring_name(identifier))
    if len(key) != 32:
        raise SecretUnavailable(f"the key {identifier} in the keyring is not 32 bytes long")
    return SealingKey(identifier, key)


def _keyring_is_likely() -> bool:
    """Whether there may be a keyring, so that it is worth asking."""
    return sys.platform == "linux" and "DBUS_SESSION_BUS_ADDRESS" in os.environ


def _keyring_get(name: str) -> bytes:
    secret: bytes = _with_secret_service(name, _get_item)
    return secret


def _keyring_set(name: str, secret: bytes) -> None:
    def set_item(collection: Any, attributes: dict[str, str]) -> None:
        label = f"keyring:{name}@{_SERVICE}"
        collection.create_item(label, attributes, secret, replace=True)

    _with_secret_service(name, set_item)


def _keyring_delete(name: str) -> None:
    def delete_items(collection: Any, attributes: dict[str, str]) -> None:
        for item in collection.search_items(attributes):
            item.delete()

    _with_secret_service(name, delete_items)


def _get_item(collection: Any, attributes: dict[str, str]) -> bytes:
    for item in collection.search_items(attributes):
        secret: bytes = item.get_secret()
        return secret
    raise SecretNotFound(
        f"the operating system's keyring has nothing under {_SERVICE}/{attributes['username']}"
    )


def _with_secret_service(name: str, act: Callable[[Any, dict[str, str]], Any]) -> Any:
    """The Secret Service, asked as the reference host asks it: the item of the default
    collection with the attributes ``service`` and ``username``."""
    if sys.platform != "linux":
        raise SecretUnsupported("this host knows the Secret Service of Linux alone")
    try:
        import secretstorage
    except ImportError:
        raise SecretUnsupported(
            "the keyring needs the extra: `pip install tokenwell[keyring]`"
        ) from None
    try:
        bus = secretstorage.dbus_init()
        try:
            collection = secretstorage.get_default_collection(bus)
            if collection.is_locked():
                collection.unlock()
            return act(collection, {"service": _SERVICE, "username": name})
        finally:
            bus.close()
    except SecretError:
        raise
    except Exception as error:
        raise SecretUnavailable(
            f"the operating system's keyring cannot be used: {type(error).__name__}: {error}"
        ) from error
