"""What is said in calls and answers: the records of the contract's ``types``. Times
are in seconds since 1970."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from .errors import Error, Problem, from_contract, problem

__all__ = [
    "DeviceAuthorization",
    "Event",
    "FormPost",
    "Outcome",
    "Pending",
    "PendingAuthorization",
    "Prompt",
    "Provider",
    "ProviderParameter",
    "ProviderSummary",
    "Redirect",
    "RedirectUrl",
    "Renewal",
    "ResolvedField",
    "Status",
    "Token",
]

Prompt = Literal["none", "login", "consent", "select_account"]
State = Literal["not-configured", "not-authorized", "authorized", "error"]


@dataclass(frozen=True, slots=True)
class Token:
    """A token that has not expired."""

    access_token: str = field(repr=False)
    """The access token."""
    token_type: str
    """Its type, such as ``Bearer`` (RFC 6749 section 7.1)."""
    expires_at: int | None
    """When it expires by this host's clock; ``None``: not known."""
    fresh_until: int | None
    """Until when it may be used without asking again; ``None``: as long as no server
    refuses it."""
    scope: tuple[str, ...]
    """The scopes granted."""
    refreshable: bool
    """Whether it can be renewed without the user."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """A renewal that succeeded."""

    at: int
    """When."""
    reason: str
    """Why: ``authorization``, ``first-token``, ``expired``, ``early``,
    ``min-validity``, ``rejected``, ``requested`` or ``config-changed``."""


@dataclass(frozen=True, slots=True)
class Status:
    """Where a connection stands."""

    state: State
    """``authorized``: a token is at hand or can be had without the user; ``error``: the
    last attempt failed, as ``error`` says."""
    problems: tuple[Problem, ...]
    """What the config lacks, where it is ``not-configured``."""
    error: Error | None
    """How the last attempt failed."""
    expires_at: int | None
    """When the access token expires."""
    refreshable: bool
    """Whether it can be renewed without the user."""
    refresh_expires_at: int | None
    """When the refresh token expires, where the server said so."""
    scope: tuple[str, ...]
    """The scopes granted."""
    authorized_at: int | None
    """When the connection was authorized."""
    last_renewal: Renewal | None
    """The last renewal."""
    next_retry_at: int | None
    """When a failed renewal is tried again."""
    warnings: tuple[Problem, ...]
    """What works but should be otherwise."""


@dataclass(frozen=True, slots=True)
class ResolvedField:
    """A field of a config as it takes effect."""

    field: str
    """The field, by its name in the config."""
    value: str
    """Its value, as JSON writes it; a secret as ``***``."""
    origin: Literal["config", "provider", "metadata", "default"]
    """Where it comes from."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. Neither a secret nor a token is ever in one."""

    at: int
    """When."""
    connection: str
    """The connection it happened to."""
    kind: str
    """What, in one word of a list that grows: ``authorized``, ``renewed``,
    ``renewal-failed``, …"""
    message: str
    """What, in one sentence."""
    details: dict[str, str]
    """The particulars."""


@dataclass(frozen=True, slots=True)
class PendingAuthorization:
    """An authorization under way."""

    authorization_url: str = field(repr=False)
    """The URL for the user's browser."""
    state: str = field(repr=False)
    """The ``state`` that the response must bear."""
    redirect_uri: str
    """Where the user is sent back to."""
    expires_at: int
    """When it is too late."""
    url_expires_at: int | None
    """Until when the URL can be opened, where the server has said so of the request that was
    pushed to it (RFC 9126 section 2.2)."""


@dataclass(frozen=True, slots=True)
class RedirectUrl:
    """The callback URL, whole."""

    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class FormPost:
    """The body of a form post (OAuth 2.0 Form Post Response Mode)."""

    body: str = field(repr=False)


Redirect = RedirectUrl | FormPost


@dataclass(frozen=True, slots=True)
class DeviceAuthorization:
    """A device authorization under way (RFC 8628 section 3.2)."""

    user_code: str
    """What the user types."""
    verification_uri: str
    """Where."""
    verification_uri_complete: str | None
    """The same with the code in it."""
    expires_at: int
    """When it is too late."""
    interval_seconds: int
    """How long to wait between polls."""


@dataclass(frozen=True, slots=True)
class Pending:
    """The user has not decided."""

    poll_after_seconds: int
    """When to poll again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an authorization went, for the page that the user is left with."""

    kind: Literal["authorized", "failed", "refused"]
    """``refused``: this was not the answer that is awaited."""
    reason: str | None = None
    """Why it was not authorized, free of secrets."""


@dataclass(frozen=True, slots=True)
class ProviderSummary:
    """A provider, in one line."""

    id: str
    """The identifier that a config names."""
    name: str
    """The name people know it by."""


@dataclass(frozen=True, slots=True)
class ProviderParameter:
    """A value that a provider needs beside the client's own."""

    name: str
    """The name, as in the config's ``parameters``."""
    help: str
    """What it is and where to find it."""
    pattern: str
    """The regular expression that a value must match in full."""
    required: bool
    """Whether there is no doing without it."""
    default: str | None
    """The value taken when none is given."""


@dataclass(frozen=True, slots=True)
class Provider:
    """Everything the catalogue knows of a provider."""

    id: str
    """The identifier that a config names."""
    name: str
    """The name people know it by."""
    parameters: tuple[ProviderParameter, ...]
    """What it needs to be told."""
    defaults: dict[str, str]
    """The fields of a config that it sets, with its parameters in braces."""
    endpoints: tuple[tuple[str, str], ...]
    """Where requests go to because of it: names of its catalogue entry, such as
    ``token_endpoint`` and ``refresh_endpoint``, with URLs that have its parameters in braces.
    ``callback_servers``, the servers that a redirect may name, are there once for each."""
    redirect_uris: Literal["loopback", "exact", "https"] | None
    """Which redirect URIs it accepts, where that is known: a loopback one with any port, those
    registered as they are, port included, or ``https`` alone."""
    registration_page: str | None
    """The page where a client is registered."""
    documentation_page: str | None
    """The page that documents the provider's OAuth."""
    peculiarities: tuple[str, ...]
    """What is peculiar about it, a sentence each."""


def token(found: dict[str, Any]) -> Token:
    return Token(
        found["access-token"],
        found["token-type"],
        found["expires-at"],
        found["fresh-until"],
        tuple(found["scope"]),
        found["refreshable"],
    )


def status(found: dict[str, Any]) -> Status:
    state, payload = found["state"]
    renewal = found["last-renewal"]
    return Status(
        state=state,
        problems=tuple(map(problem, payload)) if state == "not-configured" else (),
        error=from_contract(payload) if state == "error" else None,
        expires_at=found["expires-at"],
        refreshable=found["refreshable"],
        refresh_expires_at=found["refresh-expires-at"],
        scope=tuple(found["scope"]),
        authorized_at=found["authorized-at"],
        last_renewal=renewal and Renewal(renewal["at"], renewal["reason"]),
        next_retry_at=found["next-retry-at"],
        warnings=tuple(map(problem, found["warnings"])),
    )


def event(found: dict[str, Any]) -> Event:
    return Event(
        found["at"],
        found["connection"],
        found["kind"],
        found["message"],
        {one["name"]: one["value"] for one in found["details"]},
    )


def device_authorization(found: dict[str, Any]) -> DeviceAuthorization:
    return DeviceAuthorization(
        found["user-code"],
        found["verification-uri"],
        found["verification-uri-complete"],
        found["expires-at"],
        found["interval-seconds"],
    )


def pending_authorization(found: dict[str, Any]) -> PendingAuthorization:
    return PendingAuthorization(
        found["authorization-url"],
        found["state"],
        found["redirect-uri"],
        found["expires-at"],
        found["url-expires-at"],
    )


def provider(found: dict[str, Any]) -> Provider:
    return Provider(
        found["id"],
        found["name"],
        tuple(ProviderParameter(**one) for one in found["parameters"]),
        {one["name"]: one["value"] for one in found["defaults"]},
        tuple((one["name"], one["value"]) for one in found["endpoints"]),
        found["redirect-uris"],
        found["registration-page"],
        found["documentation-page"],
        tuple(found["peculiarities"]),
    )
