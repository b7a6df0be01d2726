"""Connections for asyncio. The component runs in threads; a token that is still fresh is
handed out without one."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import time
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from . import _fork
from . import connection as blocking
from ._resource_server import Exchange, bearer
from ._workers import Workers
from .connection import Config, Connection, Host
from .types import Token

T = TypeVar("T")


P = ParamSpec("P")


def _as_coroutine(
    method: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[AsyncConnection, P], Coroutine[Any, Any, T]]:
    """A method of a connection, with its arguments and its documentation, as a coroutine."""

    @functools.wraps(method)
    async def run(self: AsyncConnection, /, *arguments: P.args, **named: P.kwargs) -> T:
        return await self._run(lambda: method(self._connection, *arguments, **named))

    return run


class AsyncConnection:
    """A :class:`~tokenwell.Connection` whose methods are coroutines.

    A coroutine that is cancelled stops waiting, also for the user; what else its thread has
    begun goes on to its end, so that no answer of a server is lost. ``async with`` waits for that, at most for the
    config's ``timeout``, and so does the end of the process. One object may be used from
    several event loops.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._after_fork()
        _fork.remade(self)

    def _after_fork(self) -> None:
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
        left = time.monotonic()
        await self._in_thread(lambda: self._connection._await_calls(left))

    def close(self) -> None:
        """As :meth:`tokenwell.Connection.close`; it does not wait."""
        self._connection.close()

    async def _run(self, act: Callable[[], T]) -> T:
        connection = self._connection
        begun = connection._begin()
        try:
            return await self._in_thread(lambda: connection._perform(begun, act))
        except asyncio.CancelledError:
            begun.is_cancelled = True
            raise

    async def _in_thread(self, act: Callable[[], T]) -> T:
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

    async def token(
        self, *, min_validity: int | None = None, rejected: str | None = None
    ) -> Token:
        """As :meth:`tokenwell.Connection.token`."""
        connection = self._connection
        known = self._at_once(min_validity, rejected)
        if known is not None:
            return known
        return await self._run(
            lambda: connection.token(min_validity=min_validity, rejected=rejected)
        )

    def _at_once(self, min_validity: int | None, rejected: str | None) -> Token | None:
        """The token that is at hand, where nobody has to be waited for to tell."""
        connection = self._connection
        if rejected is not None or not blocking._is_trusted(connection.host._store):
            return None
        if min_validity is not None:
            blocking._seconds("min_validity", min_validity)
        return connection._still(min_validity)

    async def _authorization(self, method: str, exchange: Exchange) -> dict[str, str]:
        """As :meth:`Exchange.authorization` of this connection."""
        known = self._at_once(None, exchange.rejected)
        headers = None if known is None else bearer(known)
        if headers is not None:
            return headers
        return await self._run(lambda: exchange.authorization(self._connection, method))

    check = _as_coroutine(Connection.check)
    resolve = _as_coroutine(Connection.resolve)
    status = _as_coroutine(Connection.status)
    authorization_headers = _as_coroutine(Connection.authorization_headers)
    response = _as_coroutine(Connection.response)
    begin_authorization = _as_coroutine(Connection.begin_authorization)
    complete_authorization = _as_coroutine(Connection.complete_authorization)
    authorize = _as_coroutine(Connection.authorize)
    begin_device_authorization = _as_coroutine(Connection.begin_device_authorization)
    poll_device_authorization = _as_coroutine(Connection.poll_device_authorization)
    refresh = _as_coroutine(Connection.refresh)
    clear = _as_coroutine(Connection.clear)
    clear_trust = _as_coroutine(Connection.clear_trust)
    revoke = _as_coroutine(Connection.revoke)
    introspect = _as_coroutine(Connection.introspect)
    userinfo = _as_coroutine(Connection.userinfo)
    history = _as_coroutine(Connection.history)
    reseal = _as_coroutine(Connection.reseal)


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
