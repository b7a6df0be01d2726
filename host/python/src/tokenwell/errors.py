"""What can go wrong: one class for each ``error-kind`` of the contract, and what
only a host can fail at. No text in them contains a secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

__all__ = [
    "ClosedError",
    "ConfigTypeError",
    "DeniedError",
    "Error",
    "ForbiddenError",
    "InternalError",
    "NotAuthorizedError",
    "NotConfiguredError",
    "Problem",
    "ProtocolViolationError",
    "ReauthorizationRequiredError",
    "RefusedError",
    "ServerError",
    "StorageError",
    "UnavailableError",
    "UnsupportedError",
]

Severity = Literal["error", "warning"]
ViolationKind = Literal[
    "state", "issuer", "nonce", "redirect", "response", "metadata", "id-token"
]
StorageFailureKind = Literal["unavailable", "wrong-key", "corrupt", "newer-version"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a config."""

    field: str
    """The field, by its name in the config; ``renewal.early_seconds`` inside one."""
    severity: Severity
    """``error``: the connection cannot work; ``warning``: it works, but less safely
    or not as expected."""
    message: str
    """What is wrong."""
    mend: str
    """What to do about it."""


@dataclass(frozen=True, slots=True)
class ServerError:
    """What an authorization server said (RFC 6749 sections 4.1.2.1 and 5.2)."""

    code: str
    """``error``."""
    description: str | None
    """``error_description``, with ``error_uri`` where there is one."""
    http_status: int | None
    """The HTTP status; ``None`` where it came in a redirect."""


class Error(Exception):
    """Why a connection could not do what was asked. ``code`` is the name of the
    kind in the contract; what does not belong to the kind is empty."""

    code: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str,
        *,
        problems: tuple[Problem, ...] = (),
        server_error: ServerError | None = None,
        retry_at: int | None = None,
        violation: ViolationKind | None = None,
        storage: StorageFailureKind | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        """What happened, in one sentence."""
        self.problems = problems
        """What is wrong with the config."""
        self.server_error = server_error
        """What the server said."""
        self.retry_at = retry_at
        """When the next try is due, in seconds since 1970."""
        self.violation = violation
        """Which rule a response broke."""
        self.storage = storage
        """What the store could not do."""


class NotConfiguredError(Error):
    """Complete the config: ``problems`` says how."""

    code = "not-configured"


class ConfigTypeError(NotConfiguredError, TypeError):
    """A value of the config is of a type that JSON does not have; ``problems`` names
    the field."""


class NotAuthorizedError(Error):
    """Authorize the connection."""

    code = "not-authorized"


class ReauthorizationRequiredError(Error):
    """Authorize the connection again; ``server_error`` where the server said why."""

    code = "reauthorization-required"


class DeniedError(Error):
    """The authorization endpoint said no: ``server_error``."""

    code = "denied"


class RefusedError(Error):
    """The token endpoint, or another endpoint of the server, said no:
    ``server_error``."""

    code = "refused"


class UnavailableError(Error):
    """Try again later, at ``retry_at`` where that is known."""

    code = "unavailable"


class ProtocolViolationError(Error):
    """Do not go on: a response broke the protocol, the rule being ``violation``."""

    code = "protocol-violation"


class StorageError(Error):
    """Mend the store: ``storage``. What is stored is untouched."""

    code = "storage"


class ForbiddenError(Error):
    """The host's policy says no."""

    code = "forbidden"


class UnsupportedError(Error):
    """This version cannot do it."""

    code = "unsupported"


class InternalError(Error):
    """The component trapped or the host failed: a defect, or a limit reached."""

    code = "internal"


class ClosedError(Error):
    """The connection has been closed."""

    code = "closed"


_CLASSES: dict[str, type[Error]] = {
    kind.code: kind
    for kind in (
        NotConfiguredError,
        NotAuthorizedError,
        ReauthorizationRequiredError,
        DeniedError,
        RefusedError,
        UnavailableError,
        ProtocolViolationError,
        StorageError,
        ForbiddenError,
        UnsupportedError,
    )
}


def problem(found: dict[str, Any]) -> Problem:
    """A problem as the contract has it."""
    return Problem(found["field"], found["severity"], found["message"], found["mend"])


def not_configured(problems: list[Problem]) -> NotConfiguredError:
    """The error of a config with these problems."""
    errors = [p for p in problems if p.severity == "error"]
    text = "; ".join(f"{p.field}: {p.message}" for p in errors or problems)
    return NotConfiguredError(
        f"the connection is not configured: {text}", problems=tuple(problems)
    )


def from_contract(found: dict[str, Any]) -> Error:
    """The error that the component returned."""
    said = found["server-error"]
    server_error = said and ServerError(said["code"], said["description"], said["http-status"])
    problems = tuple(problem(one) for one in found["problems"])
    if found["kind"] == "not-configured" and problems:
        return not_configured(list(problems))
    return _CLASSES[found["kind"]](
        found["message"],
        problems=problems,
        server_error=server_error,
        retry_at=found["retry-at"],
        violation=found["violation"],
        storage=found["storage"],
    )
