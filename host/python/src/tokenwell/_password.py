"""A sealing key from a master password, by Argon2id (RFC 9106). As
``host/src/secrets/password.rs``: the identifier says how the key is made."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from argon2.low_level import Type, hash_secret_raw

from . import _fork
from ._seal import SealingKey
from .secrets import SecretDenied, SecretNotFound, SecretUnavailable

_SCHEME = "argon2id"

# What keys are made with: RFC 9106 section 4, the second recommended option.
_MEMORY, _PASSES, _LANES = 64 * 1024, 3, 4

# The least that a key may be made with, in KiB and passes: a store that names less
# would have new records sealed so that the password can be guessed.
_LEAST = (19 * 1024, 2)

# The most that is believed of a stored record, whose writer may be anybody.
_MOST = (1024 * 1024, 16, 16)

_SALT_LENGTH = 16


T = TypeVar("T")

_later = threading.local()


class PasswordWanted(BaseException):
    """A master password has to be asked for first: ``password``. No error, and none that
    secrets of the user's, around those of this package, would take for one."""

    def __init__(self, password: MasterPassword) -> None:
        super().__init__("the master password has to be asked for")
        self.password = password


def asking_later(act: Callable[[], T]) -> T:
    """Raises :class:`PasswordWanted` in place of asking for a master password."""
    _later.active = True
    try:
        return act()
    finally:
        _later.active = False


class MasterPassword:
    """The master password: at hand, to be asked for, or none."""

    def __init__(self, given: str | Callable[[], str] | None) -> None:
        if given is not None and not isinstance(given, str) and not callable(given):
            raise TypeError(f"password: a {type(given).__name__} is neither text nor function")
        self._given = given if isinstance(given, str) else None
        self._prompt = given if callable(given) else None
        self._asked: str | None = None
        self._after_fork()
        _fork.remade(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

    @property
    def is_given(self) -> bool:
        return self._given is not None

    def _reveal(self) -> str:
        if self._given is not None:
            return self._given
        if self._prompt is None:
            raise SecretNotFound(
                "what is stored is sealed under a master password, and none was given"
            )
        if getattr(_later, "active", False):
            asked = self._asked
            if asked is None:
                raise PasswordWanted(self)
            return asked
        return self.ask()

    def ask(self) -> str:
        """The password that the user types, or has typed before."""
        assert self._prompt is not None
        with self._lock:
            if self._asked is None:
                try:
                    self._asked = self._prompt()
                except Exception as error:
                    raise SecretNotFound(
                        "what is stored is sealed under a master password, which cannot be "
                        f"asked for: {type(error).__name__}"
                    ) from error
            return self._asked

    def new_key(self) -> SealingKey:
        """A new key of this password, under a salt of its own. It takes a fraction of a
        second and 64 MiB."""
        password = self._reveal()
        if not password:
            raise SecretNotFound("the master password is empty")
        made = _Made(_MEMORY, _PASSES, _LANES, os.urandom(_SALT_LENGTH))
        key = made.derive(password)
        return SealingKey(made.identifier(_check(key)), key)

    def key(self, identifier: str, *, to_seal: bool) -> SealingKey:
        """The key of that identifier."""
        parsed = _parse(identifier)
        if parsed is None:
            raise SecretUnavailable(f"{identifier} does not say how its key is made")
        made, expected = parsed
        if to_seal and (made.memory, made.passes) < _LEAST:
            raise SecretDenied(
                "the store's key is made with less than is safe: "
                f"{made.memory} KiB and {made.passes} passes"
            )
        password = self._reveal()
        key = made.derive(password)
        if _check(key) != expected:
            with self._lock:
                # It may have been mistyped: the next time it is asked for again.
                if self._asked == password:
                    self._asked = None
            raise SecretNotFound(
                "the master password is not the one that this was sealed with"
            )
        return SealingKey(identifier, key)


def is_password_key(identifier: str) -> bool:
    """Whether the identifier is that of a key from a password."""
    return identifier.split("$", 1)[0] == _SCHEME


@dataclass(frozen=True, slots=True)
class _Made:
    memory: int
    passes: int
    lanes: int
    salt: bytes

    def identifier(self, check: bytes) -> str:
        return (
            f"{_SCHEME}$m={self.memory},t={self.passes},p={self.lanes}"
            f"${_encode(self.salt)}${_encode(check)}"
        )

    def derive(self, password: str) -> bytes:
        try:
            return hash_secret_raw(
                password.encode(),
                self.salt,
                time_cost=self.passes,
                memory_cost=self.memory,
                parallelism=self.lanes,
                hash_len=32,
                type=Type.ID,
                version=19,
            )
        except Exception as error:
            raise SecretUnavailable(f"deriving the key failed: {error}") from error


def _parse(identifier: str) -> tuple[_Made, bytes] | None:
    parts = identifier.split("$")
    if len(parts) != 4 or parts[0] != _SCHEME:
        return None
    numbers = parts[1].split(",")
    if len(numbers) != 3:
        return None
    values = []
    for number, name, most in zip(numbers, "mtp", _MOST, strict=True):
        digits = number.removeprefix(f"{name}=")
        if digits == number or not (digits.isascii() and digits.isdigit()):
            return None
        if not 1 <= int(digits) <= most:
            return None
        values.append(int(digits))
    salt, check = _decode(parts[2]), _decode(parts[3])
    if salt is None or check is None or len(check) != 4:
        return None
    memory, passes, lanes = values
    return _Made(memory, passes, lanes, salt), check


def _check(key: bytes) -> bytes:
    """Tells a wrong password from a damaged record."""
    return hashlib.sha256(b"tokenwell key check" + key).digest()[:4]


def _encode(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _decode(text: str) -> bytes | None:
    if "=" in text or not text.isascii():
        return None
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
