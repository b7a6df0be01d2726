"""The user's browser, and the listener it is sent back to."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from abc import ABC, abstractmethod
from collections.abc import Callable

from ._loopback import (
    Arrival,
    Listener,
    LoopbackListener,
    UserAgentDenied,
    UserAgentError,
    UserAgentUnavailable,
)
from .types import DeviceAuthorization

__all__ = [
    "Arrival",
    "Browser",
    "Listener",
    "LoopbackListener",
    "UserAgent",
    "UserAgentDenied",
    "UserAgentError",
    "UserAgentUnavailable",
]

FAILURE_SECONDS = 2.0
"""How long a launcher has to say that it failed. Some stay for as long as the browser
does, whose redirect is waited for meanwhile."""


class UserAgent(ABC):
    """What reaches the user before the host. Subclass it for a way of your own; what it
    raises beside :class:`UserAgentError` counts as :class:`UserAgentUnavailable`."""

    @abstractmethod
    def listen(self, connection: str, redirect_uri: str | None) -> Listener:
        """Opens a listener for the connection of that name: on the given redirect URI, or
        else where the user agent likes (RFC 8252 section 7.3)."""

    @abstractmethod
    def open_url(self, connection: str, url: str) -> None:
        """Opens a URL in the user's browser, or shows it."""

    @abstractmethod
    def show_device_code(self, connection: str, device: DeviceAuthorization) -> None:
        """Shows a device code to the user (RFC 8628 section 3.3)."""


class Browser(UserAgent):
    """The user's own browser (RFC 8252 section 4), by Python's ``webbrowser``: the one of
    the environment variable ``BROWSER``, or else the desktop's. The redirect is awaited by
    a :class:`LoopbackListener`; a device code is printed on standard error.

    ``open_url`` and ``show_device_code`` are functions to do it in place of that.
    """

    def __init__(
        self,
        *,
        open_url: Callable[[str], object] | None = None,
        show_device_code: Callable[[DeviceAuthorization], object] | None = None,
    ) -> None:
        self._open_url = open_url
        self._show_device_code = show_device_code

    def listen(self, connection: str, redirect_uri: str | None) -> Listener:
        return LoopbackListener(connection, redirect_uri)

    def open_url(self, connection: str, url: str) -> None:
        if not url.startswith(("https://", "http://")):
            raise UserAgentDenied("a browser is not opened on anything but http and https URLs")
        if self._open_url is not None:
            self._open_url(url)
            return
        if sys.platform not in ("win32", "darwin") and not any(
            os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")
        ):
            raise UserAgentUnavailable(
                "there is no display for a browser, and BROWSER names none"
            )
        failed = threading.Event()
        done = threading.Event()

        def launch() -> None:
            try:
                if not webbrowser.open(url):
                    failed.set()
            except Exception:
                failed.set()
            done.set()

        threading.Thread(target=launch, name="tokenwell-browser", daemon=True).start()
        done.wait(FAILURE_SECONDS)
        if failed.is_set():
            raise UserAgentUnavailable("no browser could be opened")

    def show_device_code(self, connection: str, device: DeviceAuthorization) -> None:
        if self._show_device_code is not None:
            self._show_device_code(device)
            return
        print(
            f"To authorize {connection}, visit {device.verification_uri} and enter the code "
            f"{device.user_code}",
            file=sys.stderr,
            flush=True,
        )
