"""For ``requests``: ``requests.get(url, auth=tokenwell.requests.TokenAuth(connection))``."""

from __future__ import annotations

from typing import Any

from requests import PreparedRequest, Response
from requests.auth import AuthBase
from requests.cookies import extract_cookies_to_jar

from . import _resource_server as resource_server
from .connection import Connection

__all__ = ["TokenAuth"]


class TokenAuth(AuthBase):
    """Adds the token of a connection to each request. Where the resource server refuses the
    token itself (``invalid_token``, RFC 6750 section 3.1) it is renewed and the request sent
    once more; once more also with the nonce that it demands in DPoP proofs (RFC 9449 section
    9). A body that is a stream cannot be sent again: its 401 is handed on.

    Requests raise :class:`tokenwell.Error` where there is no token, and
    :class:`tokenwell.ForbiddenError` for a URL that is neither https nor on the loopback
    interface.
    """

    def __init__(self, connection: Connection) -> None:
        if not isinstance(connection, Connection):
            raise TypeError(f"connection: a {type(connection).__name__} is no connection")
        self._connection = connection

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        url = r.url or ""
        resource_server.refuse_open_http(url)
        exchange = resource_server.Exchange(url)
        r.headers.update(exchange.authorization(self._connection, r.method or "GET"))

        def handle(response: Response, **arguments: Any) -> Response:
            sent = response.request
            # A redirect is not what was asked about.
            if sent.url != url or not isinstance(sent.body, str | bytes | None):
                return response
            if not exchange.again(sent.headers, response.status_code, response.headers):
                return response
            # What is left of the answer is read, so that its connection can be used.
            response.content  # noqa: B018
            response.close()
            again = sent.copy()
            extract_cookies_to_jar(again._cookies, sent, response.raw)  # type: ignore[attr-defined, no-untyped-call]
            again.prepare_cookies(again._cookies)  # type: ignore[attr-defined]
            again.headers.update(
                exchange.authorization(self._connection, again.method or "GET")
            )
            answer: Response = response.connection.send(again, **arguments)
            answer.history.append(response)
            answer.request = again
            return handle(answer, **arguments)

        r.register_hook("response", handle)  # type: ignore[no-untyped-call]
        return r
