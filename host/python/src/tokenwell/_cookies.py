"""The cookies in a server's responses. None is ever kept or sent; a cookie that a browser
would refuse tells of a server, or of something between, that is not set up as it should be."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from .types import Event

LONGEST = 4096
"""The longest name and value together (RFC 6265 section 6.1), in bytes."""


def refused(connection: str, url: str, headers: Iterable[tuple[str, bytes]]) -> Iterator[Event]:
    """Tells of each cookie of a response in which something is wrong."""
    parts = urlsplit(url)
    server = parts.hostname or ""
    for name, value in headers:
        if name != "set-cookie":
            continue
        # A character for each byte.
        what = violation(parts.scheme, server, value.decode("latin-1"))
        if what is not None:
            yield Event(
                at=int(time.time()),
                connection=connection,
                kind="cookie-refused",
                message=f"a cookie of {server} {what}; it is left out of account",
                details={"server": server},
            )


def violation(scheme: str, host: str, set_cookie: str) -> str | None:
    """What is wrong with a cookie that a server sets (RFC 6265 section 5.3 and its
    successor's prefixes), a clause without its value."""
    pair, *rest = set_cookie.split(";")
    name, equals, _ = pair.partition("=")
    name = name.strip()
    if not equals or not name:
        return "has no name"
    if len(pair) > LONGEST:
        return "is longer than 4096 bytes"
    # Of those of one name the last holds.
    attributes = {
        attribute.strip().lower(): value.strip()
        for attribute, _, value in (one.partition("=") for one in rest)
    }
    secure = "secure" in attributes
    if secure and scheme != "https":
        return "is for https alone, and comes by http"
    if domain := attributes.get("domain", "").lower():
        if not _covers(domain.lstrip("."), host):
            return "is for another domain"
        if "." not in domain.lstrip(".") and domain != host:
            return "is for a whole top-level domain"
    if attributes.get("samesite", "").lower() == "none" and not secure:
        return "is for other sites, and not for https alone"
    if name.startswith("__Secure-") and not secure:
        return "has a name for https alone, and is not"
    is_of_host = secure and "domain" not in attributes and attributes.get("path") == "/"
    if name.startswith("__Host-") and not is_of_host:
        return "has a name for one host alone, and is not"
    return None


def _covers(domain: str, host: str) -> bool:
    """Whether a cookie's domain covers a host (RFC 6265 section 5.1.3)."""
    if host == domain:
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host.endswith(f".{domain}")
    return False
