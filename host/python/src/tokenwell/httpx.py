"""For ``httpx``: ``httpx.Client(auth=tokenwell.httpx.TokenAuth(connection))``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

import httpx

from . import _resource_server as resource_server
from ._egress import origin
from .aio import AsyncConnection
from .connection import Connection

__all__ = ["TokenAuth"]


class TokenAuth(httpx.Auth):
    """Adds the token of a connection to each request, for both kinds of client. Where the
    resource server refuses the token itself (``invalid_token``, RFC 6750 section 3.1) it is
    renewed and the request sent once more; once more also with the nonce that it demands in
    DPoP proofs (RFC 9449 section 9). A body that is a stream cannot be sent again: its 401
    is handed on.

    Requests raise :class:`tokenwell.Error` where there is no token, and
    :class:`tokenwell.ForbiddenError` for a URL that is neither https nor on the loopback
    interface.
    """

    def __init__(self, connection: Connection | AsyncConnection) -> None:
        if not isinstance(connection, Connection | AsyncConnection):
            raise TypeError(f"connection: a {type(connection).__name__} is no connection")
        self._async = (
            connection if isinstance(connection, AsyncConnection) else AsyncConnection(connection)
        )
        self._connection = self._async.connection

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        exchange = _begin(request)
        while True:
            request.headers.update(exchange.authorization(self._connection, request.method))
            response = yield request
            if not _again(exchange, request, response):
                return

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        exchange = _begin(request)
        while True:
            request.headers.update(await self._async._authorization(request.method, exchange))
            response = yield request
            if not _again(exchange, request, response):
                return


def _begin(request: httpx.Request) -> resource_server.Exchange:
    url = str(request.url)
    resource_server.refuse_open_http(url)
    return resource_server.Exchange(url)


def _again(
    exchange: resource_server.Exchange, request: httpx.Request, response: httpx.Response
) -> bool:
    # Where a redirect has led elsewhere, the answer says nothing of the token: it was not sent.
    is_from_there = origin(str(response.request.url)) == origin(exchange.url)
    return (
        is_from_there
        and isinstance(request.stream, httpx.ByteStream)
        and exchange.again(request.headers, response.status_code, response.headers)
    )
