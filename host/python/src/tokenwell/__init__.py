"""Tokenwell: an OAuth 2.0 client connection that always hands out a fresh token.

    import tokenwell

    config = {
        "issuer": "https://login.example.com",
        "grant_type": "client_credentials",
        "client_id": "platform",
        "client_secret": {"ref": "env:CRM_SECRET"},
    }
    with tokenwell.open("crm", config) as connection:
        token = connection.token()
"""

from . import secrets, store, user_agent
from .aio import AsyncConnection
from .aio import open_connection as open_async
from .connection import Config, Connection, Host
from .connection import open_connection as open
from .errors import (
    ClosedError,
    ConfigTypeError,
    DeniedError,
    Error,
    ForbiddenError,
    InternalError,
    NotAuthorizedError,
    NotConfiguredError,
    Problem,
    ProtocolViolationError,
    ReauthorizationRequiredError,
    RefusedError,
    ServerError,
    StorageError,
    UnavailableError,
    UnsupportedError,
)
from .secrets import LocalSecrets, SealingKey, Secrets
from .store import FileStore, MemoryStore, TokenStore
from .types import (
    DeviceAuthorization,
    Event,
    FormPost,
    Outcome,
    Pending,
    PendingAuthorization,
    Provider,
    ProviderParameter,
    ProviderSummary,
    RedirectUrl,
    Renewal,
    ResolvedField,
    Status,
    Token,
)
from .user_agent import Browser, UserAgent

__version__ = "0.1.0"

__all__ = [
    "AsyncConnection",
    "Browser",
    "ClosedError",
    "Config",
    "ConfigTypeError",
    "Connection",
    "DeniedError",
    "DeviceAuthorization",
    "Error",
    "Event",
    "FileStore",
    "ForbiddenError",
    "FormPost",
    "Host",
    "InternalError",
    "LocalSecrets",
    "MemoryStore",
    "NotAuthorizedError",
    "NotConfiguredError",
    "Outcome",
    "Pending",
    "PendingAuthorization",
    "Problem",
    "ProtocolViolationError",
    "Provider",
    "ProviderParameter",
    "ProviderSummary",
    "ReauthorizationRequiredError",
    "RedirectUrl",
    "RefusedError",
    "Renewal",
    "ResolvedField",
    "SealingKey",
    "Secrets",
    "ServerError",
    "Status",
    "StorageError",
    "Token",
    "TokenStore",
    "UnavailableError",
    "UnsupportedError",
    "UserAgent",
    "open",
    "open_async",
    "secrets",
    "store",
    "user_agent",
]
