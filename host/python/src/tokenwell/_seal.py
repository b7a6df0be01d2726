"""A sealed value, as ``host/STORE.md`` has it: ChaCha20-Poly1305 (RFC 8439) with the
store key as associated data."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

_MAGIC = b"TWS"
_FORMAT = 1
_NONCE_LENGTH = 12


@dataclass(frozen=True, slots=True, repr=False)
class SealingKey:
    """A key that seals stored records."""

    id: str
    """A short name that says which key it is and nothing about it."""
    key: bytes
    """32 bytes."""


class NotSealed(Exception):
    """It is no sealed value, or a damaged one."""


class WrongKey(Exception):
    """It is sealed under another key."""


def seal(key: SealingKey, store_key: str, plain: bytes) -> bytes:
    """Seals a value for a store key."""
    identifier = key.id.encode()
    header = _MAGIC + bytes([_FORMAT, len(identifier)]) + identifier
    nonce = os.urandom(_NONCE_LENGTH)
    data = header + store_key.encode()
    return header + nonce + ChaCha20Poly1305(key.key).encrypt(nonce, plain, data)


def key_id(sealed: bytes) -> str | None:
    """The identifier of the key that a value is sealed under; ``None`` where it is not a
    sealed value of this version."""
    try:
        return _split(sealed)[1]
    except (NotSealed, UnicodeDecodeError):
        return None


def open_sealed(keys: list[SealingKey], store_key: str, sealed: bytes) -> bytes:
    """Opens a sealed value; raises :class:`WrongKey`, :class:`NotSealed`."""
    header, identifier, nonce, ciphertext = _split(sealed)
    for key in keys:
        if key.id == identifier:
            try:
                return ChaCha20Poly1305(key.key).decrypt(
                    nonce, ciphertext, header + store_key.encode()
                )
            except InvalidTag:
                raise NotSealed(
                    "the record is damaged, or belongs to another connection"
                ) from None
    raise WrongKey(
        f"the record is sealed under the key {identifier}, which the host does not give"
    )


def _split(sealed: bytes) -> tuple[bytes, str, bytes, bytes]:
    if sealed[:3] != _MAGIC:
        raise NotSealed("the record is not a sealed one")
    if len(sealed) < 5:
        raise NotSealed("the record is cut short")
    if sealed[3] > _FORMAT:
        raise NotSealed(
            f"the record has the format version {sealed[3]}; this version reads {_FORMAT}"
        )
    end = 5 + sealed[4]
    if len(sealed) < end + _NONCE_LENGTH:
        raise NotSealed("the record is cut short")
    identifier = sealed[5:end].decode("utf-8", "replace")
    return sealed[:end], identifier, sealed[end : end + _NONCE_LENGTH], sealed[end + _NONCE_LENGTH :]
