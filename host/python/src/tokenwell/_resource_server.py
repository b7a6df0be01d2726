"""What a resource server's answer says of the token, for the clients' auth classes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ._egress import may_carry_a_token
from .connection import Connection
from .errors import ForbiddenError
from .types import Token

_INVALID_TOKEN = re.compile(r'(?:^|[\s,])error\s*=\s*"?invalid_token"?(?=[\s,]|$)')


def refuse_open_http(url: str) -> None:
    """Keeps tokens from going in clear: https anywhere, http on the loopback interface."""
    if not may_carry_a_token(url):
        raise ForbiddenError("the URL is neither https nor on the loopback interface")


def bearer(token: Token) -> dict[str, str] | None:
    """The header of a bearer token (RFC 6750 section 2.1); ``None``: it is of another type
    and for the component to show."""
    if token.token_type.lower() != "bearer":
        return None
    return {"Authorization": f"Bearer {token.access_token}"}


@dataclass(slots=True)
class Exchange:
    """A request on its way, and why it is sent again."""

    url: str
    rejected: str | None = None
    nonce: str | None = None

    def authorization(self, connection: Connection, method: str) -> dict[str, str]:
        """The headers that authorize it, as it is sent now."""
        token = connection.token(rejected=self.rejected)
        return bearer(token) or connection.authorization_headers(
            method, self.url, rejected=self.rejected, dpop_nonce=self.nonce
        )

    def again(self, sent: Mapping[str, str], status: int, answer: Mapping[str, str]) -> bool:
        """Whether the request is worth sending once more, for a reason that it has not been
        sent again for yet: the token is refused (RFC 6750 section 3.1), or a nonce demanded
        in proofs (RFC 9449 section 9)."""
        if status != 401:
            return False
        demanded = answer.get("dpop-nonce")
        if demanded and self.nonce is None:
            self.nonce = demanded
            return True
        refused = _INVALID_TOKEN.search(answer.get("www-authenticate") or "")
        if refused and self.rejected is None:
            self.rejected = (sent.get("authorization") or "").partition(" ")[2]
            return True
        return False
