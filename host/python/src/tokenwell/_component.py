"""The component: loaded once for the process, and run in instances."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from importlib import metadata, resources
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from wasmtime import Config, Engine, Store, WasmtimeError
from wasmtime import _ffi as ffi
from wasmtime import component as wit

from ._codec import HOST_RESOURCE, SIZE, Codec, GuestResource, Lift, Lower, bytes_at, put, quick, val_delete
from .errors import InternalError

MEMORY_LIMIT = 64 << 20
"""The most memory that one instance may have, in bytes."""

TICK_SECONDS = 1.0
COMPUTE_TICKS = 11
"""For how many ticks the component may compute between two calls of the host;
the time that it waits for the host does not count."""

CONNECTIONS = "tokenwell:oauth2/connections@0.2.0"
INTERACTIVE = "tokenwell:oauth2/interactive@0.2.0"

_FILE = "tokenwell-interactive.wasm"

HostFunction = Callable[..., Any]
Imports = Mapping[str, Mapping[str, HostFunction]]
T = TypeVar("T")

_val = ffi.wasmtime_component_val_t
_set_epoch_deadline = quick("wasmtime_context_set_epoch_deadline")
_running = threading.local()


class Guest:
    """One instance of the component, for one call at a time.

    ``services`` is what its imports act on; they are called with the guest as
    their first argument.
    """

    def __init__(self, runtime: Runtime, services: Any) -> None:
        self.runtime = runtime
        self.services = services
        self.born = monotonic()
        # When the time that it may compute has to be counted anew.
        self.tired = 0.0
        self.failure: BaseException | None = None
        self.broken = False
        self._resources: dict[int, Any] = {}
        self._unused: list[int] = []
        self._functions: dict[tuple[str, str], Any] = {}
        self._kept: list[GuestResource] = []
        self._store = Store(runtime.engine)
        self._store.set_limits(memory_size=MEMORY_LIMIT)
        self.context = self._store._context()
        self.address = ctypes.addressof(self.context.contents)
        self._entered(self._instantiate)

    def _instantiate(self) -> None:
        self._instance = self.runtime.linker.instantiate(self._store, self.runtime.component)

    # What the host hands to the guest.

    def add(self, resource: Any) -> int:
        """Puts a resource of the host's into the guest's hands."""
        number = self._unused.pop() if self._unused else len(self._resources) + 1
        self._resources[number] = resource
        return number

    def get(self, number: int, kind: type[T]) -> T:
        """A resource that the guest names."""
        resource = self._resources.get(number)
        if not isinstance(resource, kind):
            raise InternalError(f"the component names a {kind.__name__} that it has not")
        return resource

    def take(self, number: int, kind: type[T]) -> T:
        """A resource that the guest gives back."""
        resource = self.get(number, kind)
        del self._resources[number]
        self._unused.append(number)
        return resource

    def drop(self, number: int) -> None:
        """The guest has dropped a resource."""
        resource = self._resources.pop(number, None)
        if resource is None:
            return
        self._unused.append(number)
        end = getattr(resource, "end", None)
        if end is not None:
            end()

    # Calls.

    def call(self, interface: str, name: str, *arguments: Any) -> Any:
        """Calls an export.

        Raises what an import was interrupted by, and :class:`InternalError` where
        the component itself failed.
        """
        function, lowers, lift = self._function(interface, name)
        parameters = (_val * len(arguments))()
        at = ctypes.addressof(parameters)
        result = _val()
        result_at = ctypes.addressof(result)
        written = 0
        _running_before = getattr(_running, "guest", None)
        _running.guest = self
        try:
            for lower, argument in zip(lowers, arguments, strict=True):
                put(at + written * SIZE, lower(argument), SIZE)
                written += 1

            def enter() -> None:
                error = ffi.wasmtime_component_func_call(
                    ctypes.byref(function),
                    self.context,
                    parameters,
                    written,
                    ctypes.byref(result) if lift is not None else None,
                    0 if lift is None else 1,
                )
                if error:
                    raise WasmtimeError._from_ptr(error)

            self._entered(enter)
            if lift is None:
                return None
            try:
                return lift(bytes_at(result_at, SIZE), 0)
            finally:
                val_delete(result_at)
        finally:
            _running.guest = _running_before
            for i in range(written):
                val_delete(at + i * SIZE)

    def keep(self, resource: GuestResource) -> GuestResource:
        """Holds a resource of the guest's for as long as the guest."""
        self._kept.append(resource)
        return resource

    def _entered(self, enter: Callable[[], None]) -> None:
        self.rest()
        with self.runtime.ticking():
            try:
                enter()
            except WasmtimeError as error:
                self.broken = True
                failure, self.failure = self.failure, None
                if failure is not None:
                    raise failure from None
                raise InternalError(f"the component failed: {_cause(error)}") from error

    def rest(self) -> None:
        """Begins anew to count how long the component computes."""
        self.tired = monotonic() + TICK_SECONDS / 2
        _set_epoch_deadline(self.context, COMPUTE_TICKS)

    def _function(self, interface: str, name: str) -> Any:
        known = self._functions.get((interface, name))
        if known is None:
            index, lowers, lift = self.runtime.exports[interface, name]
            raw = ffi.wasmtime_component_func_t()
            found = ffi.wasmtime_component_instance_get_func(
                ctypes.byref(self._instance._instance),
                self.context,
                index.ptr(),
                ctypes.byref(raw),
            )
            if not found:
                raise InternalError(f"the component lacks {name}")
            known = self._functions[interface, name] = (raw, lowers, lift)
        return known

    def close(self) -> None:
        """Ends the instance, and what it still has of the host."""
        for number in list(self._resources):
            with contextlib.suppress(Exception):
                self.drop(number)
        for resource in self._kept:
            resource.delete()
        self._kept.clear()
        self._store.close()


class Runtime:
    """The component, compiled and linked."""

    def __init__(self, imports: Imports, wasm: bytes | None = None) -> None:
        config = Config()
        config.epoch_interruption = True
        # The component is of WASI 0.2, which has none; and with it wasmtime 50 fails to
        # pass lists of borrowed resources to a host like this one.
        ffi.wasmtime_config_concurrency_support_set(config.ptr(), False)
        self.engine = Engine(config)
        if wasm is None:
            self.component = _compiled(self.engine)
        else:
            self.component = wit.Component(self.engine, wasm)
        self.linker = wit.Linker(self.engine)
        self._callbacks: list[Any] = []
        self.exports: dict[tuple[str, str], tuple[Any, list[Lower], Lift | None]] = {}
        self._calls = 0
        self._ticker: threading.Thread | None = None
        self._lock = threading.Condition()
        self._link(imports)
        self._find_exports()

    def _link(self, imports: Imports) -> None:
        codec = Codec(_running, guest_resources=False)
        described = self.component.type.imports(self.engine)
        with self.linker.root() as root:
            for interface, item in described.items():
                with root.add_instance(interface) as instance:
                    for name, exported in item.ty.exports(self.engine).items():  # type: ignore[union-attr]
                        ty = exported.ty
                        if isinstance(ty, wit.ResourceType):
                            self._add_resource(instance, name)
                        elif isinstance(ty, wit.FuncType):
                            function = imports.get(interface, {}).get(name)
                            self._add(instance, name, function, ty, codec, interface)

    def _add_resource(self, instance: Any, name: str) -> None:
        encoded = name.encode()
        kind = wit.ResourceType.host(HOST_RESOURCE)
        error = ffi.wasmtime_component_linker_instance_add_resource(
            instance.ptr(),
            ctypes.create_string_buffer(encoded),
            len(encoded),
            kind.ptr(),
            ctypes.cast(_dropped_callback, ffi.wasmtime_component_resource_destructor_t),
            None,
            _nothing_to_finalize,
        )
        if error:
            raise WasmtimeError._from_ptr(error)

    def _add(
        self,
        instance: Any,
        name: str,
        function: HostFunction | None,
        ty: Any,
        codec: Codec,
        interface: str,
    ) -> None:
        if function is None:

            def function(guest: Guest, *_: Any) -> Any:
                raise InternalError(f"the component called {interface} {name}")

        lifts = [codec.of(parameter)[0] for _, parameter in ty.params]
        result = ty.result
        lower = None if result is None else codec.of(result)[1]
        callback = _callback_type(_callback(function, lifts, lower))
        self._callbacks.append(callback)
        encoded = name.encode()
        error = ffi.wasmtime_component_linker_instance_add_func(
            instance.ptr(),
            ctypes.create_string_buffer(encoded),
            len(encoded),
            ctypes.cast(callback, ffi.wasmtime_component_func_callback_t),
            None,
            _nothing_to_finalize,
        )
        if error:
            raise WasmtimeError._from_ptr(error)

    def _find_exports(self) -> None:
        codec = Codec(_running, guest_resources=True)
        for interface, item in self.component.type.exports(self.engine).items():
            at = self.component.get_export_index(interface)
            for name, exported in item.ty.exports(self.engine).items():  # type: ignore[union-attr]
                ty = exported.ty
                if not isinstance(ty, wit.FuncType):
                    continue
                index = self.component.get_export_index(name, at)
                lowers = [codec.of(parameter)[1] for _, parameter in ty.params]
                result = ty.result
                lift = None if result is None else codec.of(result)[0]
                self.exports[interface, name] = (index, lowers, lift)

    @contextlib.contextmanager
    def ticking(self) -> Any:
        """Moves the engine's epoch on, so that an instance cannot compute without
        end. There is a thread for it only while there are calls."""
        with self._lock:
            self._calls += 1
            if self._ticker is None:
                self._ticker = threading.Thread(
                    target=self._tick, name="tokenwell-ticker", daemon=True
                )
                self._ticker.start()
            elif self._calls == 1:
                self._lock.notify_all()
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1

    def _tick(self) -> None:
        while True:
            with self._lock:
                while self._calls == 0:
                    if not self._lock.wait(timeout=60) and self._calls == 0:
                        self._ticker = None
                        return
            time.sleep(TICK_SECONDS)
            self.engine.increment_epoch()


def _cause(error: WasmtimeError) -> str:
    """What a trap says of itself, without the addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    at = lines.index("Caused by:") + 1 if "Caused by:" in lines else 0
    return lines[at] if at < len(lines) else "it trapped"


# The library's own, with addresses in place of pointers.
_callback_type = ctypes.CFUNCTYPE(
    ctypes.c_size_t, *[ctypes.c_void_p] * 4, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t
)
_nothing_to_finalize = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)


def _failed(guest: Guest, error: BaseException) -> int:
    """Ends the call. No exception of Python's can pass through the runtime: it is raised
    again outside."""
    guest.failure = error
    message = ctypes.create_string_buffer(b"an import failed")
    pointer = ffi.wasmtime_error_new(message)
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0


def _dropped(_data: Any, _context: Any, number: int) -> int:
    guest: Guest | None = getattr(_running, "guest", None)
    if guest is not None:
        try:
            guest.drop(number)
        except BaseException as error:
            return _failed(guest, error)
    return 0


_dropped_callback = ctypes.CFUNCTYPE(
    ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32
)(_dropped)


def _callback(
    function: HostFunction, lifts: list[Lift], lower: Lower | None
) -> Callable[..., int]:
    """What the runtime calls for an import. No exception of Python's can pass
    through the runtime: one ends the call, and is raised again outside."""

    size = len(lifts) * SIZE
    places = [(lift, i * SIZE) for i, lift in enumerate(lifts)]

    def called(
        _data: Any, _context: Any, _ty: Any, args: Any, _n: int, results: Any, _m: int
    ) -> int:
        guest: Guest = _running.guest
        try:
            raw = bytes_at(args, size) if size else b""
            values: list[Any] = [guest]
            for lift, at in places:
                values.append(lift(raw, at))
            value = function(*values)
            if lower is not None:
                put(results, lower(value), SIZE)
            if monotonic() > guest.tired:
                guest.rest()
        except BaseException as error:
            return _failed(guest, error)
        return 0

    return called


def _compiled(engine: Engine) -> wit.Component:
    """The package's component: compiled, which takes half a second, or from the
    cache of an earlier process."""
    wasm = resources.files(__package__).joinpath(_FILE).read_bytes()
    cache = _cache_file(wasm)
    if cache is not None:
        try:
            return wit.Component.deserialize(engine, cache.read_bytes())
        except (OSError, WasmtimeError):
            pass
    component = wit.Component(engine, wasm)
    if cache is not None:
        _store_in_cache(cache, bytes(component.serialize()))
    return component


def _cache_file(wasm: bytes) -> Path | None:
    """Where the compiled component is cached: a private directory of the user's,
    since whoever can write there can run code here. ``TOKENWELL_CACHE`` names
    another, or none where it is empty."""
    named = os.environ.get("TOKENWELL_CACHE")
    if named == "":
        return None
    try:
        if named is not None:
            directory = Path(named)
        elif sys.platform == "win32":
            directory = Path(os.environ["LOCALAPPDATA"]) / "tokenwell" / "cache"
        elif sys.platform == "darwin":
            directory = Path.home() / "Library" / "Caches" / "tokenwell"
        else:
            base = os.environ.get("XDG_CACHE_HOME")
            directory = (Path(base) if base else Path.home() / ".cache") / "tokenwell"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if sys.platform != "win32":
            found = directory.stat()
            if found.st_uid != os.geteuid() or found.st_mode & 0o022:
                return None
    except (OSError, KeyError, RuntimeError):
        return None
    digest = hashlib.sha256(wasm).hexdigest()[:16]
    return directory / f"python-{metadata.version('wasmtime')}-{digest}.cwasm"


def _store_in_cache(path: Path, content: bytes) -> None:
    # Without a cache the next process compiles again, and that is all.
    with contextlib.suppress(OSError):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
