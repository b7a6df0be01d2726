"""Hosts and connections."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import queue
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar, get_args

from . import _config, _cookies, _egress, _fork, _imports, _wasi, types
from ._component import CONNECTIONS, INTERACTIVE, Guest, Runtime
from ._http import HttpClient, HttpClients, HttpError, Response
from ._loopback import Arrival, Listener, UserAgentUnavailable
from ._password import PasswordWanted, asking_later
from ._trust import Trust
from ._workers import Job, Workers
from .errors import (
    ClosedError,
    ForbiddenError,
    Problem,
    StorageError,
    UnavailableError,
    UnsupportedError,
    from_contract,
    not_configured,
    problem,
)
from .secrets import (
    LocalSecrets,
    SecretDenied,
    SecretError,
    SecretNotFound,
    Secrets,
    SecretUnsupported,
)
from .store import (
    FileStore,
    Lease,
    MemoryStore,
    StoreCorrupt,
    StoreError,
    TokenStore,
    Unchanged,
)
from .types import (
    DeviceAuthorization,
    Event,
    FormPost,
    Pending,
    PendingAuthorization,
    Prompt,
    Provider,
    ProviderSummary,
    Redirect,
    RedirectUrl,
    ResolvedField,
    Status,
    Token,
)
from .user_agent import Browser, UserAgent

T = TypeVar("T")
P = ParamSpec("P")
Config = Mapping[str, Any] | str
"""A config: the JSON document of CONFIG.md as a ``dict``, or its text."""

CALLBACK_TIMEOUT_SECONDS = 30.0
GUESTS_AT_ONCE = 8
"""So many calls of one connection run at once; further ones wait for them."""
IDLE_GUESTS = 2
GUEST_AGE_SECONDS = 300.0
"""How long an instance is used: it keeps the metadata that it has fetched."""

USER_STEP_SECONDS = 0.1
"""How often it is looked, while the user is waited for, whether that is still of use."""
EVENTS_SECONDS = 5.0
"""How long the end of the process waits for those who are told of events."""
GIVEN_UP = "the connection was closed, or the call given up"
TIMEOUT_SECONDS = 30.0
"""What ``timeout`` is where the config names none."""

PROMPTS = get_args(Prompt)

_U32 = (1 << 32) - 1

_runtime_lock = threading.Lock()
_runtime: Runtime | None = None
_in_callback = threading.local()
_calls = threading.local()
"""The call that a thread performs: ``begun``."""


def _the_runtime() -> Runtime:
    """The component, which is loaded once in a process."""
    global _runtime
    with _runtime_lock:
        if _runtime is None:
            _runtime = Runtime({**_wasi.IMPORTS, **_imports.IMPORTS})
        return _runtime


class Host:
    """What connections are run with: a store, secrets, a user agent, and who is told of
    events. Any number of threads may use one.

    Without a store everything is kept in memory; a store of your own needs ``secrets``
    too, since what it keeps would be sealed with a key that is gone with the process.
    ``events`` is called with each :class:`Event`, one at a time, from a thread of its
    own, for which the end of the process waits for five seconds at most; what it raises is
    told as a ``RuntimeWarning``. ``tls_trust`` is whether a config may have ``tls: trust``.
    ``callback_timeout`` is how long, in seconds, a method of a store, of secrets or of a user
    agent of your own may take: then the call fails, and the method's thread is left to itself.

    ``with``, or :meth:`close`, closes the connections to servers that it keeps.
    """

    def __init__(
        self,
        *,
        store: TokenStore | None = None,
        secrets: Secrets | None = None,
        events: Callable[[Event], object] | None = None,
        user_agent: UserAgent | None = None,
        tls_trust: bool = True,
        callback_timeout: float = CALLBACK_TIMEOUT_SECONDS,
    ) -> None:
        if store is not None and secrets is None:
            raise TypeError("a store was given without secrets: give `secrets` too")
        for name, value, kind in (
            ("store", store, TokenStore),
            ("secrets", secrets, Secrets),
            ("user_agent", user_agent, UserAgent),
        ):
            if value is not None and not isinstance(value, kind):
                raise TypeError(f"{name}: a {type(value).__name__} is no {kind.__name__}")
        if events is not None and not callable(events):
            raise TypeError(f"events: a {type(events).__name__} cannot be called")
        if not isinstance(tls_trust, bool):
            raise TypeError(f"tls_trust: a {type(tls_trust).__name__} is no bool")
        if not isinstance(callback_timeout, int | float) or not callback_timeout > 0:
            raise ValueError("callback_timeout: not a number of seconds greater than 0")
        self._store = store or MemoryStore()
        self._secrets = secrets or LocalSecrets()
        self._user_agent = user_agent or Browser()
        self._events = events
        self._tls_trust = tls_trust
        self._callback_timeout = float(callback_timeout)
        self._reset()
        _fork.remade(self)
        _hosts.add(self)

    @classmethod
    def in_directory(
        cls,
        directory: str | os.PathLike[str],
        *,
        password: str | Callable[[], str] | None = None,
        events: Callable[[Event], object] | None = None,
        user_agent: UserAgent | None = None,
        tls_trust: bool = True,
        callback_timeout: float = CALLBACK_TIMEOUT_SECONDS,
    ) -> Host:
        """A host that keeps its connections' tokens, and the key that seals them, in a
        directory, shared with the command line: :class:`FileStore` and
        :class:`LocalSecrets`."""
        store = FileStore(directory)
        return cls(
            store=store,
            secrets=LocalSecrets(directory, store=store, password=password),
            events=events,
            user_agent=user_agent,
            tls_trust=tls_trust,
            callback_timeout=callback_timeout,
        )

    def _reset(self) -> None:
        self._workers = Workers("tokenwell")
        self._http = HttpClients()
        self._event_lock = threading.Condition()
        self._is_telling = False
        self._event_queue: list[Event] = []

    def _after_fork(self) -> None:
        # Not freed: the other process has its sockets in use.
        _leaked.append(self._http)
        self._reset()

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections to servers that are kept for later requests. What is still
        open on the host goes on, with a connection for each request."""
        self._http.close()

    def connection(self, name: str, config: Config, *, origins: Iterable[str] = ()) -> Connection:
        """Opens a connection. Neither the store nor the network is touched, and the
        config may be incomplete. The name becomes part of store keys: letters, digits,
        ``-``, ``_`` and ``.``, at most 64, beginning with a letter or digit. ``origins``
        are URLs whose origins it may reach beside its own.

        Raises :class:`ConfigTypeError`, :class:`NotConfiguredError`.
        """
        if not isinstance(name, str):
            raise TypeError(f"name: a {type(name).__name__} is no text")
        if isinstance(origins, str):
            raise TypeError("origins: a text is no list of URLs")
        urls = tuple(_text("origins", url) for url in origins)
        return Connection(self, name, self._parse(config), urls)

    def _parse(self, config: Config) -> dict[str, Any]:
        text = _config.to_json(config)
        case, parsed = self._apart(lambda guest: guest.call(CONNECTIONS, "parse-config", text))
        if case == "err":
            raise not_configured([problem(one) for one in parsed])
        result: dict[str, Any] = parsed
        return result

    def format_config(self, connection: Connection) -> str:
        """The config of a connection in its JSON form; fields at their defaults are left
        out."""
        text: str = self._apart(
            lambda guest: guest.call(CONNECTIONS, "format-config", connection._config)
        )
        return text

    def list_providers(self) -> list[ProviderSummary]:
        """The providers of the catalogue, in the order of their identifiers."""
        found = self._apart(lambda guest: guest.call(CONNECTIONS, "list-providers"))
        return [ProviderSummary(one["id"], one["name"]) for one in found]

    def show_provider(self, identifier: str) -> Provider | None:
        """One provider; ``None`` where the catalogue has none of that identifier."""
        found = self._show_provider(_text("identifier", identifier))
        return None if found is None else types.provider(found)

    def _show_provider(self, identifier: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._apart(
            lambda guest: guest.call(CONNECTIONS, "show-provider", identifier)
        )
        return found

    def discover_resource(self, url: str) -> dict[str, Any]:
        """The metadata of the protected resource that a URL belongs to (RFC 9728), which
        is called without a token: ``authorization_servers`` names the issuers it takes
        tokens of. Raises :class:`Error`."""
        text = _text("url", url)
        found = self._apart(lambda guest: guest.call(CONNECTIONS, "discover-resource", text))
        metadata: dict[str, Any] = json.loads(_unwrapped(found))
        return metadata

    def register_client(
        self,
        issuer: str,
        metadata: Mapping[str, Any],
        *,
        initial_access_token: str | None = None,
    ) -> dict[str, Any]:
        """Registers a client at the authorization server of an issuer (RFC 7591), and
        gives the server's answer, ``client_id`` and secrets included. Nothing is stored.
        Raises :class:`Error`."""
        document = _config.to_json(metadata)
        place = _text("issuer", issuer)
        token = initial_access_token
        if token is not None:
            token = _text("initial_access_token", token)
        found = self._apart(
            lambda guest: guest.call(CONNECTIONS, "register-client", place, document, token)
        )
        registered: dict[str, Any] = json.loads(_unwrapped(found))
        return registered

    def _apart(self, act: Callable[[Guest], T]) -> T:
        """Calls what concerns no connection, in an instance of its own."""
        _refuse_within_callback()
        egress = _egress.Egress(None)
        services = _Services(
            self, "", egress, self._http.client, lambda: False, ignore_cookie_policy=True
        )
        guest = Guest(_the_runtime(), services)
        try:
            return act(guest)
        finally:
            guest.close()

    def _emit(self, event: Event) -> None:
        """Passes an event on without waiting for whoever is told."""
        if self._events is None:
            return
        with self._event_lock:
            self._event_queue.append(event)
            # One that never returns keeps the rest waiting, and not the connection: of
            # those there are no more than so many.
            del self._event_queue[:-1000]
            if self._is_telling:
                return
            self._is_telling = True
        self._workers.start(self._tell_events)

    def _tell_events(self) -> None:
        _in_callback.active = True
        try:
            while True:
                with self._event_lock:
                    if not self._event_queue:
                        self._is_telling = False
                        self._event_lock.notify_all()
                        return
                    event = self._event_queue.pop(0)
                try:
                    assert self._events is not None
                    self._events(event)
                except Exception as error:
                    what = "".join(traceback.format_exception(error))
                    # Where warnings are errors nobody could catch it, and the later events
                    # are to be told all the same.
                    with contextlib.suppress(Exception):
                        warnings.warn(f"`events` raised:\n{what}", RuntimeWarning)
        finally:
            _in_callback.active = False

    def _await_events(self, seconds: float) -> None:
        """Waits until whoever is told of events has been told of all, for so many seconds at
        most."""
        with self._event_lock:
            self._event_lock.wait_for(lambda: not self._is_telling, max(seconds, 0))

    def _guarded(
        self,
        target: object,
        act: Callable[[], T],
        *,
        more_seconds: float = 0.0,
        abandon: Callable[[T], Any] | None = None,
    ) -> T:
        """Calls into an object of the user's, and waits no longer than may be waited for
        it. Those of this package are trusted to return."""
        if _is_trusted(target):
            return act()

        def work() -> T:
            _in_callback.active = True
            try:
                return act()
            finally:
                _in_callback.active = False

        return self._workers.start(work).wait(self._callback_timeout + more_seconds, abandon)

    def _secrets_call(self, name: str, *arguments: Any) -> Any:
        """Calls into the secrets. A master password is asked for apart from that, since the
        user takes as long as he does: in the thread of whoever called the connection, which
        Ctrl-C interrupts."""
        secrets = self._secrets

        def act() -> Any:
            return asking_later(lambda: getattr(secrets, name)(*arguments))

        while True:
            try:
                return self._guarded(secrets, act)
            except PasswordWanted as wanted:
                begun = getattr(_calls, "begun", None) or _Begun()
                begun.ask(wanted.password.ask)


def _is_trusted(target: object) -> bool:
    """Whether it is this package's own, without a function or a store of the user's in it,
    and so returns in time."""
    kind = type(target)
    return (
        kind is FileStore
        or kind is MemoryStore
        or (
            isinstance(target, LocalSecrets)
            and kind is LocalSecrets
            and not target.asks
            and _is_trusted(target._store)
        )
    )


_hosts: weakref.WeakSet[Host] = weakref.WeakSet()
_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _refuse_within_callback() -> None:
    if getattr(_in_callback, "active", False):
        raise RuntimeError(
            "a store, secrets, a user agent or an event's receiver cannot call a connection: "
            "the connection is waiting for it"
        )


def _after_fork() -> None:
    global _runtime, _runtime_lock, _default_lock
    _runtime_lock = threading.Lock()
    _default_lock = threading.Lock()
    # Not freed: what the other process had under way is in it.
    _leaked.append(_runtime)
    _runtime = None


_leaked: list[object] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _before_exit() -> None:
    """Only threads that the end of the process does not wait for are left by now. What they
    have begun would be lost with the answer of a server."""
    began = time.monotonic()
    for connection in list(_connections):
        connection._await_calls(began)
    until = time.monotonic() + EVENTS_SECONDS
    for host in list(_hosts):
        host._await_events(until - time.monotonic())
        host.close()


class _Services:
    """What one instance has of the host."""

    def __init__(
        self,
        host: Host,
        name: str,
        egress: _egress.Egress,
        client: Callable[[], HttpClient],
        is_closed: Callable[[], bool],
        *,
        ignore_cookie_policy: bool,
    ) -> None:
        self._host = host
        self._name = name
        self._key = f"{name}.tokens"
        self._trusts_store = _is_trusted(host._store)
        self._egress = egress
        self._client = client
        self._is_closed = is_closed
        self._ignore_cookie_policy = ignore_cookie_policy
        self.begun: _Begun | None = None
        self.awaits_user = False
        self.version: int | None = None
        self.cause: BaseException | None = None
        self.refusal: str | None = None

    def is_cancelled(self) -> bool:
        """Whether there is no use in waiting for the user."""
        return self._is_closed() or (self.begun is not None and self.begun.is_cancelled)

    def note(self, error: Exception) -> None:
        """Keeps what an object of the user's raised."""
        self.cause = error

    def saw(self, key: str, version: int | None) -> None:
        """Keeps which version of the connection's record the instance knows."""
        if key == self._key:
            self.version = version

    def store_call(self, name: str, *arguments: Any, **guard: Any) -> Any:
        call = getattr(self._host._store, name)
        # With each request, so without the closure.
        if self._trusts_store:
            return call(*arguments)
        return self._host._guarded(self._host._store, lambda: call(*arguments), **guard)

    def guarded_lease(self, lease: Lease) -> Lease:
        if self._trusts_store:
            return lease
        return _GuardedLease(self._host, lease)

    def secrets_call(self, name: str, *arguments: Any) -> Any:
        return self._host._secrets_call(name, *arguments)

    def user_agent_call(self, name: str, *arguments: Any, **guard: Any) -> Any:
        agent = self._host._user_agent
        return self._host._guarded(agent, lambda: getattr(agent, name)(*arguments), **guard)

    def next_arrival(self, listener: Listener, wait: float) -> Arrival | None:
        """Awaits an arrival, and looks now and then whether that is still of use."""
        deadline = time.monotonic() + wait
        while True:
            if self.is_cancelled():
                raise UserAgentUnavailable(GIVEN_UP)
            left = max(deadline - time.monotonic(), 0.0)
            step = min(left, USER_STEP_SECONDS)
            arrival: Arrival | None = self._host._guarded(
                listener,
                lambda: listener.next(step),
                more_seconds=step,
                abandon=lambda late: late and late.respond(None),
            )
            if arrival is not None or left <= step:
                return arrival

    def sleep(self, seconds: float) -> None:
        """Sleeps; raises :class:`ClosedError` where that is between two questions whether the
        user has decided on a device's code, and of no use any longer."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self.awaits_user and self.is_cancelled():
                raise ClosedError(GIVEN_UP)
            time.sleep(min(left, USER_STEP_SECONDS) if self.awaits_user else left)

    def quietly(self, act: Callable[[], None]) -> None:
        with contextlib.suppress(Exception):
            self._host._guarded(None, act)

    def emit(self, event: Event) -> None:
        self._host._emit(event)

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, **timeouts: float
    ) -> Response:
        """Sends a request of the instance's, where the connection may send to."""
        client = self._client()
        if not self._egress.allows(url):

            def fetch(place: str) -> tuple[int, bytes] | None:
                accept = {"accept": "application/json"}
                try:
                    found = client.send("GET", place, accept, b"", **timeouts)
                except HttpError:
                    return None
                return found.status, found.body

            is_known = not _egress.may_carry_a_token(url) or self._egress.discover(fetch)
            if not self._egress.allows(url):
                if not is_known:
                    raise HttpError(("destination-unavailable", None))
                at = _egress.origin(url)
                place = "what is no URL" if at is None else f"{at[0]}://{at[1]}:{at[2]}"
                self.refusal = f"{place} is none of the origins that the connection may send to"
                raise HttpError(("HTTP-request-denied", None))
        try:
            response = client.send(method, url, headers, body, **timeouts)
        except HttpError as error:
            # `wasi:http` has no words for it, and the component takes it for a failure of
            # the network.
            self.refusal = error.refusal
            raise
        self._egress.learn(method, url, response.status, response.body)
        if not self._ignore_cookie_policy:
            for event in _cookies.refused(self._name, url, response.headers):
                self.emit(event)
        if response.status == 200:
            # The user has decided: what came has to be stored, whoever still waits.
            self.awaits_user = False
        return response


class _GuardedLease(Lease):
    def __init__(self, host: Host, lease: Lease) -> None:
        self._host, self._lease = host, lease

    @property
    def fence(self) -> int:
        return self._lease.fence

    def release(self) -> None:
        # Nobody waits for it: it may never return.
        self._host._workers.start(self._lease.release)


@dataclass(frozen=True, slots=True)
class _Known:
    """A token that has been handed out, and what of the store it came from."""

    token: Token
    version: int
    since: float

    def is_fresh(self, now: float, min_validity: int | None) -> bool:
        token = self.token
        if now < self.since:
            # The clock was set back: the component knows what to do.
            return False
        if token.fresh_until is not None and now >= token.fresh_until:
            return False
        return min_validity is None or (
            token.expires_at is not None and now + min_validity < token.expires_at
        )


def _to_its_end(
    method: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[Connection, P], T]:
    """A method that goes on when whoever waits for it is interrupted, since the answer of a
    server, with the successor of a spent refresh token, would be lost."""

    @functools.wraps(method)
    def run(self: Connection, /, *arguments: P.args, **named: P.kwargs) -> T:
        if getattr(_calls, "begun", None) is not None:
            return method(self, *arguments, **named)
        _refuse_within_callback()
        begun = self._begin()

        def perform() -> T:
            return self._perform(begun, lambda: method(self, *arguments, **named))

        # What a signal's handler raises, KeyboardInterrupt for one, is raised there alone.
        if threading.current_thread() is not threading.main_thread():
            return perform()
        begun.errands = queue.SimpleQueue()
        begun.caller = threading.get_ident()
        try:
            job = self._host._workers.start(perform)
            while (errand := begun.errands.get()) is not None:
                errand.run()
            return job.wait()
        except BaseException:
            begun.is_cancelled = True
            raise

    return run


class _Begun:
    """A call that has been begun."""

    is_cancelled = False
    """Whether nobody waits for what comes of it: then it does not wait for the user."""
    asks = False
    """Whether the user is being asked for something."""
    errands: queue.SimpleQueue[Job[Any] | None] | None = None
    """What its caller does for it, where another thread performs it. It ends with ``None``."""
    caller: int | None = None
    """The caller's thread, where there are errands."""

    def ask(self, act: Callable[[], T]) -> T:
        """Asks the user for something, in the thread of the caller."""

        def asking() -> T:
            _in_callback.active = True
            try:
                return act()
            finally:
                _in_callback.active = False

        if self.is_cancelled:
            raise ClosedError(GIVEN_UP)
        self.asks = True
        try:
            if self.errands is None or self.caller == threading.get_ident():
                return asking()
            errand = Job(asking)
            self.errands.put(errand)
            # A caller that has been interrupted elsewhere does no errands.
            while not errand.is_over(USER_STEP_SECONDS):
                if self.is_cancelled:
                    raise ClosedError(GIVEN_UP)
            return errand.wait()
        finally:
            self.asks = False


class Connection:
    """A named connection. Any number of threads may use one, and any number of
    connections may be open for one name, in any number of processes; nothing is lost when
    it is closed. Made by :meth:`Host.connection` and :func:`tokenwell.open`.

    Each method raises :class:`Error`, as the contract has it, and :class:`ClosedError` once
    the connection is closed.
    """

    def __init__(
        self, host: Host, name: str, config: dict[str, Any], origins: tuple[str, ...]
    ) -> None:
        self._host = host
        self._name = name
        self._config = config
        provider = None if not config["provider"] else host._show_provider(config["provider"])
        self._egress = _egress.of_config(config, provider, origins)
        self._closed = False
        self._owns_host = False
        self._known: _Known | None = None
        self._client: HttpClient | None = None
        self._reset()
        _fork.remade(self)
        _connections.add(self)
        # The name is judged now, and not by the first call.
        with self._guest():
            pass

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(GUESTS_AT_ONCE)
        self._under_way: set[_Begun] = set()
        self._ended = threading.Condition(self._lock)
        self._idle: list[tuple[Guest, Any]] = []
        self._client = None

    def _after_fork(self) -> None:
        # Not freed, as the component in it.
        _leaked.append(self._idle)
        self._reset()

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def host(self) -> Host:
        """The host it runs on."""
        return self._host

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection. A renewal that is under way is not cut off, since its answer
        would be lost: the end of the process waits for it, at most for ``timeout``. Waiting for
        the user ends."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        self._known = None
        for guest, _ in idle:
            guest.close()
        if self._owns_host:
            self._host.close()

    def check(self) -> list[Problem]:
        """Everything that is wrong with the config, errors first, what the host does not allow
        among them. Sends nothing."""
        with self._guest() as call:
            problems = [problem(one) for one in call("check")]
        if (refusal := self._tls_refusal()) is not None:
            mend = "have the host allow it, or leave it out"
            problems.insert(0, Problem("tls", "error", refusal, mend))
        return problems

    @_to_its_end
    def resolve(self) -> list[ResolvedField]:
        """The config as it takes effect, every default filled in, the server's metadata
        (RFC 8414) included, which is fetched where an issuer is named."""
        with self._guest(online=True) as call:
            return [ResolvedField(**one) for one in self._result(call, "resolve")]

    def status(self) -> Status:
        """Where the connection stands. Sends nothing."""
        with self._guest() as call:
            return types.status(self._result(call, "status"))

    def token(self, *, min_validity: int | None = None, rejected: str | None = None) -> Token:
        """A token that has not expired, renewed first where needed.

        ``min_validity`` is the least validity wanted, in seconds; ``rejected`` the value of
        a token that a resource server has just refused: it is renewed, unless it has been
        replaced meanwhile.

        A token is handed out again without asking the component until it has to be looked
        at (``fresh_until``), as long as the store's entry is the very one that it came
        from. So what another thread or process has cleared, renewed or authorized anew
        counts at once.
        """
        # With each request, so without options.
        if rejected is None:
            if min_validity is not None:
                _seconds("min_validity", min_validity)
            known = self._still(min_validity)
            if known is not None:
                return known
        return self._token(_token_options(min_validity, rejected))

    @_to_its_end
    def _token(self, options: dict[str, Any]) -> Token:
        with self._guest(online=True) as call:
            if options["rejected"] is None:
                known = self._still(options["min-validity-seconds"])
                if known is not None:
                    return known
            found = types.token(self._result(call, "token", options))
            self._remember(call, found)
        return found

    def _still(self, min_validity: int | None) -> Token | None:
        """The token that was handed out last, where it still stands."""
        known = self._known
        if known is None or self._closed or not known.is_fresh(time.time(), min_validity):
            return None
        store = self._host._store
        key = f"{self._name}.tokens"
        version = known.version
        try:
            if _is_trusted(store):
                loaded = store.load(key, version)
            else:
                _refuse_within_callback()
                loaded = self._host._guarded(store, lambda: store.load(key, version))
        except RuntimeError:
            raise
        except Exception:
            # It is for the component to say what follows.
            return None
        unchanged = isinstance(loaded, Unchanged) or (
            loaded is not None and loaded.version == version
        )
        return known.token if unchanged else None

    def _remember(self, call: _Call, token: Token) -> None:
        version = call.services.version
        if version is not None and not self._closed:
            self._known = _Known(token, version, time.time())

    @_to_its_end
    def authorization_headers(
        self,
        method: str,
        url: str,
        *,
        min_validity: int | None = None,
        rejected: str | None = None,
        dpop_nonce: str | None = None,
    ) -> dict[str, str]:
        """The headers that authorize one request: ``Authorization``, and for a bound token
        its ``DPoP`` proof (RFC 9449 section 7.1), which is for this method and URL and to be
        sent once. ``dpop_nonce`` is what the resource server asked for in its last
        response."""
        options = _token_options(min_validity, rejected)
        nonce = None if dpop_nonce is None else _text("dpop_nonce", dpop_nonce)
        with self._guest(online=True) as call:
            found = self._result(
                call, "authorization-headers", _text("method", method), _text("url", url),
                options, nonce,
            )  # fmt: skip
            return {one["name"]: one["value"] for one in found}

    def response(self) -> dict[str, Any]:
        """The token endpoint's last successful response, whole."""
        with self._guest() as call:
            found: dict[str, Any] = json.loads(self._result(call, "response-json"))
            return found

    @_to_its_end
    def begin_authorization(
        self,
        *,
        redirect_uri: str | None = None,
        prompt: Iterable[Prompt] = (),
        login_hint: str | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> PendingAuthorization:
        """Begins an authorization: the URL is for the user's browser, the rest is stored.
        Any process that shares the store can complete it.

        ``redirect_uri`` is that of the listener in use; ``prompt`` stands in place of the
        config's, by the same names; ``login_hint`` is the user expected to sign in;
        ``parameters`` are further ones of this one request."""
        options = _authorization_options(redirect_uri, prompt, login_hint, parameters)
        with self._guest(online=True) as call:
            found = self._result(call, "begin-authorization", options)
            return types.pending_authorization(found)

    @_to_its_end
    def complete_authorization(self, redirect: Redirect | str) -> Status:
        """Completes an authorization with what came back: the callback URL, whole, or the
        body of a form post. A redirect that is not the answer to one begun here is refused,
        and what was begun stays."""
        match redirect:
            case str():
                came = ("url", _text("redirect", redirect))
            case RedirectUrl():
                came = ("url", _text("redirect.url", redirect.url))
            case FormPost():
                came = ("form-post", _text("redirect.body", redirect.body))
            case _:
                raise TypeError(f"redirect: a {type(redirect).__name__} is no redirect")
        with self._guest(online=True) as call:
            self._result(call, "complete-authorization", came)
            return types.status(self._result(call, "status"))

    @_to_its_end
    def authorize(
        self,
        *,
        timeout: int | None = None,
        device: bool = False,
        prompt: Iterable[Prompt] = (),
        login_hint: str | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> Status:
        """Authorizes the connection with the user before the host: opens the listener and
        the browser, awaits the redirect, obtains the token, and tells the user how it went.
        ``timeout`` is how long to wait for the user, in seconds, 300 by default; ``device``
        shows a device code in place of the browser (RFC 8628)."""
        if timeout is not None:
            _seconds("timeout", timeout)
        options = {
            "authorization": _authorization_options(None, prompt, login_hint, parameters),
            "timeout-seconds": timeout,
            "device": bool(device),
        }
        with self._guest(online=True, apart=True) as call:
            _unwrapped(
                call.guest.call(INTERACTIVE, "authorize", call.connection, options), call.services
            )
            return types.status(self._result(call, "status"))

    @_to_its_end
    def begin_device_authorization(self) -> DeviceAuthorization:
        """Begins a device authorization (RFC 8628 section 3.1), in place of one under way.
        Any process that shares the store can poll."""
        with self._guest(online=True) as call:
            found = self._result(call, "begin-device-authorization")
            return types.device_authorization(found)

    @_to_its_end
    def poll_device_authorization(self) -> Pending | None:
        """Asks once whether the user has decided (RFC 8628 section 3.4); where that is too
        soon, nothing is sent. ``None``: the connection is authorized."""
        with self._guest(online=True) as call:
            case, payload = self._result(call, "poll-device-authorization")
            return Pending(payload) if case == "pending" else None

    @_to_its_end
    def refresh(self) -> Token:
        """Renews the token now, whether or not it is due."""
        with self._guest(online=True) as call:
            found = types.token(self._result(call, "refresh"))
            self._remember(call, found)
            return found

    def clear(self) -> None:
        """Forgets the credential. The config is the host's and stays."""
        self._known = None
        with self._guest() as call:
            self._result(call, "clear")

    @_to_its_end
    def revoke(self) -> None:
        """Revokes the credential at the server (RFC 7009), then clears it."""
        self._known = None
        with self._guest(online=True) as call:
            self._result(call, "revoke")

    @_to_its_end
    def introspect(self) -> dict[str, Any]:
        """What the server knows of the access token (RFC 7662)."""
        with self._guest(online=True) as call:
            found: dict[str, Any] = json.loads(self._result(call, "introspect"))
            return found

    @_to_its_end
    def userinfo(self) -> dict[str, Any]:
        """The user's claims (OpenID Connect Core section 5.3)."""
        with self._guest(online=True) as call:
            found: dict[str, Any] = json.loads(self._result(call, "userinfo"))
            return found

    def history(self) -> list[Event]:
        """What has happened to the connection, the latest last."""
        with self._guest() as call:
            return [types.event(one) for one in self._result(call, "history")]

    def reseal(self) -> None:
        """Seals the stored records anew under the host's current key."""
        with self._guest() as call:
            self._result(call, "reseal")

    def clear_trust(self) -> None:
        """Forgets how the servers were first met (``tls: trust``), so that each is met anew.
        The tokens stay."""
        _refuse_within_callback()
        self._refuse_closed()
        try:
            self._trust().clear()
        except StoreCorrupt as error:
            raise StorageError(str(error), storage="corrupt") from error
        except Exception as error:
            what = str(error) if isinstance(error, StoreError) else type(error).__name__
            raise StorageError(f"the store failed: {what}", storage="unavailable") from error

    # ---- calls

    def _begin(self) -> _Begun:
        begun = _Begun()
        with self._lock:
            self._under_way.add(begun)
        return begun

    def _perform(self, begun: _Begun, act: Callable[[], T]) -> T:
        _calls.begun = begun
        try:
            return act()
        finally:
            _calls.begun = None
            with self._lock:
                self._under_way.discard(begun)
                self._ended.notify_all()
            if begun.errands is not None:
                begun.errands.put(None)

    def _await_calls(self, since: float) -> None:
        """Waits until what has been begun, and does not wait for the user, is over, for as
        long as a request may take, from a time of the monotonic clock on."""
        until = since + (self._config["timeout"] or TIMEOUT_SECONDS)
        with self._lock:
            for begun in self._under_way:
                begun.is_cancelled = True
            self._ended.wait_for(
                lambda: all(begun.asks for begun in self._under_way),
                max(until - time.monotonic(), 0),
            )

    # ---- instances

    def _result(self, call: _Call, name: str, *arguments: Any) -> Any:
        return _unwrapped(call(name, *arguments), call.services)

    @contextlib.contextmanager
    def _guest(self, *, online: bool = False, apart: bool = False) -> Iterator[_Call]:
        """An instance in which the connection is open, for one call. ``online``: it may
        send something. ``apart``: it may take long, and is none of those that wait for one
        another."""
        _refuse_within_callback()
        self._refuse_closed()
        if online:
            self._prepare_to_send()
        if not apart:
            self._slots.acquire()
        try:
            self._refuse_closed()
            with self._lock:
                opened = self._idle.pop() if self._idle and not apart else None
            if opened is not None and time.monotonic() - opened[0].born > GUEST_AGE_SECONDS:
                opened[0].close()
                opened = None
            guest, connection = opened or self._open()
            guest.services.cause = None
            guest.services.refusal = None
            guest.services.version = None
            guest.services.begun = getattr(_calls, "begun", None)
            try:
                yield _Call(guest, connection)
            finally:
                with self._lock:
                    keep = (
                        not (guest.broken or apart or self._closed)
                        and len(self._idle) < IDLE_GUESTS
                    )
                    if keep:
                        self._idle.append((guest, connection))
                if not keep:
                    guest.close()
        finally:
            if not apart:
                self._slots.release()

    def _open(self) -> tuple[Guest, Any]:
        services = _Services(
            self._host, self._name, self._egress, self._http_client, lambda: self._closed,
            ignore_cookie_policy=self._config["ignore-cookie-policy"],
        )  # fmt: skip
        guest = Guest(_the_runtime(), services)
        try:
            opened = guest.call(CONNECTIONS, "[static]connection.open", self._name, self._config)
            return guest, guest.keep(_unwrapped(opened))
        except BaseException:
            guest.close()
            raise

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ClosedError(f"the connection {self._name} has been closed")

    def _http_client(self) -> HttpClient:
        return self._client or self._host._http.client()

    def _tls_refusal(self) -> str | None:
        """Why the host does not allow the config's ``tls``; ``None``: it does."""
        tls = self._config["tls"]
        if tls == "off" or (tls == "trust" and not self._host._tls_trust):
            return f"`tls: {tls}` is not allowed by this host"
        return None

    def _prepare_to_send(self) -> None:
        """Tells what a config asks for and the host does not allow, before anything is sent
        under another rule; reads the client's certificate (RFC 8705)."""
        if (refusal := self._tls_refusal()) is not None:
            raise ForbiddenError(f"not allowed: {refusal}")
        trust = self._trust() if self._config["tls"] == "trust" else None
        certificate = self._config["client-certificate"]
        key = self._config["client-certificate-key"]
        identity = None
        if certificate and key:
            identity = (
                self._resolve("client_certificate", certificate),
                self._resolve("client_certificate_key", key),
            )
        self._client = self._host._http.client(identity, trust)

    def _trust(self) -> Trust:
        host = self._host
        store = host._store
        return Trust(self._name, store, lambda act: host._guarded(store, act), host._emit)

    def _resolve(self, field: str, reference: str) -> str:
        try:
            value: str = self._host._secrets_call("resolve", reference)
            return value
        except SecretNotFound as error:
            mend = "name a PEM file that the host can read"
            raise not_configured([Problem(field, "error", str(error), mend)]) from error
        except SecretDenied as error:
            raise ForbiddenError(str(error)) from error
        except SecretUnsupported as error:
            raise UnsupportedError(str(error)) from error
        except SecretError as error:
            raise UnavailableError(str(error)) from error
        except Exception as error:
            raise UnavailableError(f"{field} cannot be had: {type(error).__name__}") from error


class _Call:
    """The methods of a connection that is open in an instance."""

    def __init__(self, guest: Guest, connection: Any) -> None:
        self.guest = guest
        self.connection = connection
        self.services: _Services = guest.services

    def __call__(self, name: str, *arguments: Any) -> Any:
        return self.guest.call(
            CONNECTIONS, f"[method]connection.{name}", self.connection, *arguments
        )


def _unwrapped(result: tuple[str, Any], services: _Services | None = None) -> Any:
    case, payload = result
    if case == "ok":
        return payload
    if services is None:
        raise from_contract(payload)
    if services.refusal is not None:
        raise ForbiddenError(f"not allowed: {services.refusal}")
    raise from_contract(payload) from services.cause


def _authorization_options(
    redirect_uri: str | None,
    prompt: Iterable[str],
    login_hint: str | None,
    parameters: Mapping[str, str] | None,
) -> dict[str, Any]:
    if not isinstance(parameters, Mapping | None):
        raise TypeError(f"parameters: a {type(parameters).__name__} is no mapping")
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    for one in prompts:
        # The contract's spelling was once the only one here.
        if one not in (*PROMPTS, "select-account"):
            raise ValueError(f"prompt: {one!r} is none of {', '.join(PROMPTS)}")
    given = [
        {"name": _text("parameters", name), "value": _text(f"parameters.{name}", value)}
        for name, value in (parameters or {}).items()
    ]
    return {
        "redirect-uri": None if redirect_uri is None else _text("redirect_uri", redirect_uri),
        "prompt": [one.replace("_", "-") for one in prompts],
        "login-hint": None if login_hint is None else _text("login_hint", login_hint),
        "parameters": given,
    }


def _token_options(min_validity: int | None, rejected: str | None) -> dict[str, Any]:
    return {
        "min-validity-seconds": (
            None if min_validity is None else _seconds("min_validity", min_validity)
        ),
        "rejected": None if rejected is None else _text("rejected", rejected),
    }


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name}: a {type(value).__name__} is no text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{name}: not Unicode text") from None
    return value


def _seconds(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}: a {type(value).__name__} is no whole number of seconds")
    if not 0 <= value <= _U32:
        raise ValueError(f"{name}: {value} is not from 0 to {_U32}")
    return value


_default_lock = threading.Lock()
_default: Host | None = None


def _default_host() -> Host:
    global _default
    with _default_lock:
        if _default is None:
            _default = Host()
        return _default


def open_connection(
    name: str,
    config: Config | None = None,
    *,
    directory: str | os.PathLike[str] | None = None,
    password: str | Callable[[], str] | None = None,
    host: Host | None = None,
) -> Connection:
    """Opens a connection: ``with tokenwell.open("crm", config) as connection``.

    With ``directory`` its tokens are kept there, shared with the command line and all
    processes, and without ``config`` it is that of ``NAME.json`` there, as ``tokenwell
    create`` writes it. ``password`` is the master password, or a function that asks for it
    once it is needed, for as long as it likes: in the thread that called the connection, and
    again where what was typed is not the one.
    Without a directory they are kept in memory, for all connections of the process that are
    opened so; ``host`` is one of your own making.

    Raises :class:`ConfigTypeError`, :class:`NotConfiguredError`; ``OSError`` where
    ``NAME.json`` cannot be read.
    """
    if not isinstance(host, Host | None):
        raise TypeError(f"host: a {type(host).__name__} is no Host")
    if host is not None and (directory is not None or password is not None):
        raise TypeError("give a host, or a directory and perhaps its password")
    if password is not None and directory is None:
        raise TypeError("password: there is nothing to open with it without a directory")
    if directory is not None:
        host = Host.in_directory(directory, password=password)
        if config is None:
            if not isinstance(name, str) or os.path.basename(name) != name:
                raise ValueError(f"name: {name!r} is no name of a connection")
            config = (Path(directory) / f"{name}.json").read_text("utf-8")
    if config is None:
        raise TypeError("config: it is missing, and there is no directory to read it from")
    connection = (host or _default_host()).connection(name, config)
    # Nobody else has it.
    connection._owns_host = directory is not None
    return connection


