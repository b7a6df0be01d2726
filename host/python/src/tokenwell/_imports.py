"""The contract's own imports: the host's store, secrets, events and user agent, as the
component calls them. Their errors become the contract's; one that is none of the kind
counts as ``unavailable``, and is kept to be the cause of what the caller sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import types
from ._component import Guest, HostFunction
from ._loopback import Arrival, Listener, UserAgentDenied, UserAgentError
from .secrets import SealingKey, SecretDenied, SecretError, SecretNotFound, SecretUnsupported
from .store import (
    Entry,
    Fenced,
    Lease,
    Stale,
    StoreCorrupt,
    StoreDenied,
    Stored,
    StoreError,
    Unchanged,
)

_U64 = (1 << 64) - 1


class HeldLease:
    """A lease in the hands of an instance."""

    def __init__(self, lease: Lease, fence: int) -> None:
        self.lease = lease
        self.fence = fence

    def end(self) -> None:
        self.lease.release()


class HeldListener:
    """A listener in the hands of an instance."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def end(self) -> None:
        self.listener.close()


class HeldArrival:
    """An arrival in the hands of an instance."""

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival

    def end(self) -> None:
        self.arrival.respond(None)


def _outcome(
    guest: Guest, what: str, act: Callable[[], Any], failed: Callable[[Exception], Any]
) -> tuple[str, Any]:
    """What an import answers: of what the user's object returned, or raised."""
    try:
        return "ok", act()
    except (StoreError, SecretError, UserAgentError) as error:
        return "err", failed(error)
    except Exception as error:
        guest.services.note(error)
        if isinstance(error, TimeoutError):
            text = f"{what} did not return in time"
        else:
            text = f"{what} raised {type(error).__name__}"
        return "err", ("unavailable", text)


def _store_failed(error: Exception) -> tuple[str, str]:
    match error:
        case StoreDenied():
            return "denied", str(error)
        case StoreCorrupt():
            return "corrupt", str(error)
    return "unavailable", str(error)


def _secret_failed(error: Exception) -> tuple[str, str]:
    match error:
        case SecretNotFound():
            return "not-found", str(error)
        case SecretDenied():
            return "denied", str(error)
        case SecretUnsupported():
            return "unsupported", str(error)
    return "unavailable", str(error)


def _user_agent_failed(error: Exception) -> tuple[str, str]:
    return "denied" if isinstance(error, UserAgentDenied) else "unavailable", str(error)


def _checked(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{what} is a {type(value).__name__}, and no {kind.__name__}")
    if isinstance(value, int) and not 0 <= value <= _U64:
        raise ValueError(f"{what} is not a number from 0 to 2^64 - 1")
    return value


def _entry(entry: Entry, where: str) -> dict[str, Any]:
    return {
        "version": _checked(entry.version, int, f"the version that {where} returned"),
        "value": bytes(_checked(entry.value, bytes, f"the value that {where} returned")),
    }


# ---- token-store


def _load(guest: Guest, key: str, known: int | None) -> tuple[str, Any]:
    def act() -> Any:
        loaded = guest.services.store_call("load", key, known)
        if loaded is None:
            guest.services.saw(key, None)
            return "absent", None
        if isinstance(loaded, Unchanged):
            guest.services.saw(key, known)
            return "unchanged", None
        _checked(loaded, Entry, "what load returned")
        entry = _entry(loaded, "load")
        guest.services.saw(key, entry["version"])
        return "entry", entry

    return _outcome(guest, "the store's load", act, _store_failed)


def _compare_and_swap(
    guest: Guest, key: str, expected: int | None, value: bytes, fence: int | None
) -> tuple[str, Any]:
    def act() -> Any:
        swapped = guest.services.store_call("compare_and_swap", key, expected, value, fence)
        match swapped:
            case Stored():
                version = _checked(swapped.version, int, "the version of what was stored")
                guest.services.saw(key, version)
                return "stored", version
            case Stale():
                current = swapped.current
                return "stale", None if current is None else _entry(current, "compare_and_swap")
            case Fenced():
                return "fenced", None
        raise TypeError(f"compare_and_swap returned a {type(swapped).__name__}")

    return _outcome(guest, "the store's compare_and_swap", act, _store_failed)


def _delete(guest: Guest, key: str, expected: int) -> tuple[str, Any]:
    def act() -> Any:
        return bool(guest.services.store_call("delete", key, expected))

    return _outcome(guest, "the store's delete", act, _store_failed)


def _acquire_lease(guest: Guest, key: str, ttl: int, wait: int) -> tuple[str, Any]:
    def act() -> Any:
        lease = guest.services.store_call(
            "acquire_lease",
            key,
            ttl / 1000,
            wait / 1000,
            more_seconds=wait / 1000,
            abandon=lambda late: None if late is None else late.release(),
        )
        if lease is None:
            return None
        try:
            fence = _checked(lease.fence, int, "the fence of the lease")
        except Exception:
            lease.release()
            raise
        return guest.add(HeldLease(guest.services.guarded_lease(lease), fence))

    return _outcome(guest, "the store's acquire_lease", act, _store_failed)


# ---- secrets


def _resolve(guest: Guest, reference: str) -> tuple[str, Any]:
    def act() -> Any:
        value = guest.services.secrets_call("resolve", reference)
        return _checked(value, str, "what resolve returned")

    return _outcome(guest, "the host's resolve", act, _secret_failed)


def _sealing_keys(guest: Guest, needed: str | None) -> tuple[str, Any]:
    def act() -> Any:
        keys = guest.services.secrets_call("sealing_keys", needed)
        for key in keys:
            _checked(key, SealingKey, "a sealing key")
        return [{"id": key.id, "key": key.key} for key in keys]

    return _outcome(guest, "the host's sealing_keys", act, _secret_failed)


def _sign(guest: Guest, key: str, algorithm: str, data: bytes) -> tuple[str, Any]:
    def act() -> Any:
        signature = guest.services.secrets_call("sign", key, algorithm, data)
        return _checked(signature, bytes, "what sign returned")

    return _outcome(guest, "the host's sign", act, _secret_failed)


def _public_key(guest: Guest, key: str) -> tuple[str, Any]:
    def act() -> Any:
        jwk = guest.services.secrets_call("public_key", key)
        return _checked(jwk, str, "what public_key returned")

    return _outcome(guest, "the host's public_key", act, _secret_failed)


def _verify(
    guest: Guest, jwk: str, algorithm: str, data: bytes, signature: bytes
) -> tuple[str, Any]:
    def act() -> Any:
        verified = guest.services.secrets_call("verify", jwk, algorithm, data, signature)
        return _checked(verified, bool, "what verify returned")

    return _outcome(guest, "the host's verify", act, _secret_failed)


# ---- user-agent


def _listen(guest: Guest, connection: str, redirect_uri: str | None) -> tuple[str, Any]:
    def act() -> Any:
        listener = guest.services.user_agent_call(
            "listen", connection, redirect_uri, abandon=lambda late: late.close()
        )
        return guest.add(HeldListener(_checked(listener, Listener, "what listen returned")))

    return _outcome(guest, "the user agent's listen", act, _user_agent_failed)


def _open_url(guest: Guest, connection: str, url: str) -> tuple[str, Any]:
    def act() -> None:
        guest.services.user_agent_call("open_url", connection, url)

    return _outcome(guest, "the user agent's open_url", act, _user_agent_failed)


def _show_device_code(guest: Guest, connection: str, device: dict[str, Any]) -> tuple[str, Any]:
    def act() -> None:
        shown = types.device_authorization(device)
        guest.services.user_agent_call("show_device_code", connection, shown)
        guest.services.awaits_user = True

    return _outcome(guest, "the user agent's show_device_code", act, _user_agent_failed)


def _next(guest: Guest, number: int, wait: int) -> tuple[str, Any]:
    listener = guest.get(number, HeldListener).listener

    def act() -> Any:
        arrival = guest.services.next_arrival(listener, wait / 1000)
        if arrival is None:
            return None
        return guest.add(HeldArrival(_checked(arrival, Arrival, "what next returned")))

    return _outcome(guest, "the listener's next", act, _user_agent_failed)


def _redirect(guest: Guest, number: int) -> tuple[str, str]:
    redirect = guest.get(number, HeldArrival).arrival.redirect
    if isinstance(redirect, types.FormPost):
        return "form-post", redirect.body
    return "url", redirect.url


def _respond(guest: Guest, number: int, outcome: tuple[str, str | None]) -> None:
    arrival = guest.get(number, HeldArrival).arrival
    told = types.Outcome(outcome[0], outcome[1])  # type: ignore[arg-type]
    guest.services.quietly(lambda: arrival.respond(told))


IMPORTS: dict[str, dict[str, HostFunction]] = {
    "tokenwell:oauth2/token-store@0.2.0": {
        "load": _load,
        "compare-and-swap": _compare_and_swap,
        "delete": _delete,
        "acquire-lease": _acquire_lease,
        "[method]lease.fence": lambda guest, number: guest.get(number, HeldLease).fence,
    },
    "tokenwell:oauth2/secrets@0.2.0": {
        "resolve": _resolve,
        "sealing-keys": _sealing_keys,
        "sign": _sign,
        "public-key": _public_key,
        "verify": _verify,
    },
    "tokenwell:oauth2/events@0.2.0": {
        "emit": lambda guest, event: guest.services.emit(types.event(event)),
    },
    "tokenwell:oauth2/user-agent@0.2.0": {
        "listen": _listen,
        "open-url": _open_url,
        "show-device-code": _show_device_code,
        "[method]listener.redirect-uri": lambda guest, number: guest.get(
            number, HeldListener
        ).listener.redirect_uri,
        "[method]listener.next": _next,
        "[method]arrival.redirect": _redirect,
        "[method]arrival.respond": _respond,
    },
}
