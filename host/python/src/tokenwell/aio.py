"""Connections for asyncio. The component runs in threads; a token that is still fresh is
handed out without one."""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, TypeVar

from . import connection as blocking
from ._workers import Workers
from .connection import Config, Connection, Host
from .errors import Problem
from .types import (
    DeviceAuthorization,
    Event,
    Pending,
    PendingAuthorization,
    Prompt,
    Redirect,
    ResolvedField,
    Status,
    Token,
)

T = TypeVar("T")


class AsyncConnection:
    """A :class:`~tokenwell.Connection` whose methods are coroutines.

    A coroutine that is cancelled stops waiting; what its thread has begun goes on to its end,
    so that no answer of a server is lost. One object may be used from several event loops.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._workers = Workers("tokenwell-async")

    @property
    def connection(self) -> Connection:
        """The connection itself, for threads."""
        return self._connection

    @property
    def name(self) -> str:
        """Its name."""
        return self._connection.name

    async def __aenter__(self) -> AsyncConnection:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """As :meth:`tokenwell.Connection.close`; it does not wait."""
        self._connection.close()

    async def _run(self, act: Callable[[], T]) -> T:
        if self._pid != os.getpid():
            self._reset()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()

        def settle(value: T | None, error: BaseException | None) -> None:
            if not future.done():
                if error is not None:
                    future.set_exception(error)
                else:
                    future.set_result(value)  # type: ignore[arg-type]

        def work() -> None:
            value, failure = None, None
            try:
                value = context.run(act)
            except BaseException as error:
                failure = error
            try:
                loop.call_soon_threadsafe(settle, value, failure)
            except RuntimeError:
                # The loop is closed: nobody waits any longer.
                pass

        self._workers.start(work)
        return await future

    async def check(self) -> list[Problem]:
        """As :meth:`tokenwell.Connection.check`."""
        return await self._run(self._connection.check)

    async def resolve(self) -> list[ResolvedField]:
        """As :meth:`tokenwell.Connection.resolve`."""
        return await self._run(self._connection.resolve)

    async def status(self) -> Status:
        """As :meth:`tokenwell.Connection.status`."""
        return await self._run(self._connection.status)

    async def token(
        self, *, min_validity: int | None = None, rejected: str | None = None
    ) -> Token:
        """As :meth:`tokenwell.Connection.token`."""
        connection = self._connection
        if rejected is None and blocking._is_trusted(connection.host._store):
            if min_validity is not None:
                blocking._seconds("min_validity", min_validity)
            known = connection._still(min_validity)
            if known is not None:
                return known
        return await self._run(
            lambda: connection.token(min_validity=min_validity, rejected=rejected)
        )

    async def authorization_headers(
        self,
        method: str,
        url: str,
        *,
        min_validity: int | None = None,
        rejected: str | None = None,
        dpop_nonce: str | None = None,
    ) -> dict[str, str]:
        """As :meth:`tokenwell.Connection.authorization_headers`."""
        return await self._run(
            lambda: self._connection.authorization_headers(
                method,
                url,
                min_validity=min_validity,
                rejected=rejected,
                dpop_nonce=dpop_nonce,
            )
        )

    async def response(self) -> dict[str, Any]:
        """As :meth:`tokenwell.Connection.response`."""
        return await self._run(self._connection.response)

    async def begin_authorization(
        self,
        *,
        redirect_uri: str | None = None,
        prompt: Iterable[Prompt] = (),
        login_hint: str | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> PendingAuthorization:
        """As :meth:`tokenwell.Connection.begin_authorization`."""
        return await self._run(
            lambda: self._connection.begin_authorization(
                redirect_uri=redirect_uri,
                prompt=prompt,
                login_hint=login_hint,
                parameters=parameters,
            )
        )

    async def complete_authorization(self, redirect: Redirect | str) -> Status:
        """As :meth:`tokenwell.Connection.complete_authorization`."""
        return await self._run(lambda: self._connection.complete_authorization(redirect))

    async def authorize(
        self,
        *,
        timeout: int | None = None,
        device: bool = False,
        prompt: Iterable[Prompt] = (),
        login_hint: str | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> Status:
        """As :meth:`tokenwell.Connection.authorize`."""
        return await self._run(
            lambda: self._connection.authorize(
                timeout=timeout,
                device=device,
                prompt=prompt,
                login_hint=login_hint,
                parameters=parameters,
            )
        )

    async def begin_device_authorization(self) -> DeviceAuthorization:
        """As :meth:`tokenwell.Connection.begin_device_authorization`."""
        return await self._run(self._connection.begin_device_authorization)

    async def poll_device_authorization(self) -> Pending | None:
        """As :meth:`tokenwell.Connection.poll_device_authorization`."""
        return await self._run(self._connection.poll_device_authorization)

    async def refresh(self) -> Token:
        """As :meth:`tokenwell.Connection.refresh`."""
        return await self._run(self._connection.refresh)

    async def clear(self) -> None:
        """As :meth:`tokenwell.Connection.clear`."""
        await self._run(self._connection.clear)

    async def clear_trust(self) -> None:
        """As :meth:`tokenwell.Connection.clear_trust`."""
        await self._run(self._connection.clear_trust)

    async def revoke(self) -> None:
        """As :meth:`tokenwell.Connection.revoke`."""
        await self._run(self._connection.revoke)

    async def introspect(self) -> dict[str, Any]:
        """As :meth:`tokenwell.Connection.introspect`."""
        return await self._run(self._connection.introspect)

    async def userinfo(self) -> dict[str, Any]:
        """As :meth:`tokenwell.Connection.userinfo`."""
        return await self._run(self._connection.userinfo)

    async def history(self) -> list[Event]:
        """As :meth:`tokenwell.Connection.history`."""
        return await self._run(self._connection.history)

    async def reseal(self) -> None:
        """As :meth:`tokenwell.Connection.reseal`."""
        await self._run(self._connection.reseal)


def open_connection(
    name: str,
    config: Config | None = None,
    *,
    directory: str | os.PathLike[str] | None = None,
    password: str | Callable[[], str] | None = None,
    host: Host | None = None,
) -> AsyncConnection:
    """As :func:`tokenwell.open`, for ``async with``. The first in a process loads the
    component, which takes a tenth of a second, or where it is not cached one second."""
    return AsyncConnection(
        blocking.open_connection(name, config, directory=directory, password=password, host=host)
    )
