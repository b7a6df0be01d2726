"""Values of the component model, between Python and the runtime's C interface.

``wasmtime`` converts values too, but asks the runtime for the types anew with
each call and makes an object of each byte of a list: some milliseconds for one
record. Here the types are asked for once, through the same library's public
description of the component, bytes are copied as a whole, and values are read and
written by their address: an object for each part of each would cost more than all
else does. The layout is that of ``wasmtime``'s own structures, on 64 bits, which it
needs anyway.

What a value is in Python: a record a ``dict`` by the WIT names, a variant a
tuple of its case and its payload (``None`` without one), an enum its name, an
option ``None`` or the value, a result ``("ok", value)`` or ``("err", value)``,
``list<u8>`` is ``bytes``; a resource of the host is its number in the guest's
table, one of the guest a :class:`GuestResource`.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any

from wasmtime import WasmtimeError, _bindings
from wasmtime import _ffi as ffi
from wasmtime import component as types

Lift = Callable[[int], Any]
"""Reads the value at an address, which stays the caller's."""
Lower = Callable[[Any, int], None]
"""Writes a value to an address; what is allocated for it belongs to whom the place does."""

_val = ffi.wasmtime_component_val_t
_entry = ffi.wasmtime_component_valrecord_entry
SIZE = ctypes.sizeof(_val)
_OF: int = getattr(_val, "of").offset
_ENTRY_SIZE = ctypes.sizeof(_entry)
_ENTRY_NAME: int = getattr(_entry, "name").offset
_ENTRY_VAL: int = getattr(_entry, "val").offset
_VARIANT_VAL: int = getattr(ffi.wasmtime_component_valvariant_t, "val").offset
_RESULT_VAL: int = getattr(ffi.wasmtime_component_valresult_t, "val").offset

_keeping = ctypes.PyDLL(str(ffi.filename))
_at = ctypes.c_void_p


def quick(name: str, *argtypes: Any) -> Any:
    """A function of the C interface that does not give other threads the interpreter
    meanwhile: for those that are done at once and never call back."""
    function = getattr(_keeping, name)
    theirs = getattr(_bindings, f"_{name}")
    function.argtypes, function.restype = argtypes or theirs.argtypes, theirs.restype
    return function


val_delete = quick("wasmtime_component_val_delete")
_val_new = quick("wasmtime_component_val_new", _at)
_val_new.restype = _at
_vallist_new = quick("wasmtime_component_vallist_new_uninit", _at, ctypes.c_size_t)
_valtuple_new = quick("wasmtime_component_valtuple_new_uninit", _at, ctypes.c_size_t)
_valrecord_new = quick("wasmtime_component_valrecord_new_uninit", _at, ctypes.c_size_t)
_any_clone = quick("wasmtime_component_resource_any_clone", _at)
_any_clone.restype = _at
_any_delete = quick("wasmtime_component_resource_any_delete", _at)
_any_to_host = quick("wasmtime_component_resource_any_to_host", _at, _at, _at)
_host_new = quick(
    "wasmtime_component_resource_host_new", ctypes.c_bool, ctypes.c_uint32, ctypes.c_uint32
)
_host_new.restype = _at
_host_delete = quick("wasmtime_component_resource_host_delete", _at)
_host_rep = quick("wasmtime_component_resource_host_rep", _at)
_host_to_any = quick("wasmtime_component_resource_host_to_any", _at, _at, _at)
_byte_vec_new = quick("wasm_byte_vec_new", _at, ctypes.c_size_t, ctypes.c_char_p)

_BOOL, _U8, _U16, _U32, _U64 = 0, 2, 4, 6, 8
_STRING, _LIST, _RECORD, _TUPLE, _VARIANT, _ENUM = 12, 13, 14, 15, 16, 17
_OPTION, _RESULT, _RESOURCE = 18, 19, 21

HOST_RESOURCE = 1
"""The one type that all of the host's resources have in the runtime. The
component's own types keep them apart, and so does the table, which is asked for
an object of a certain class."""

_bytes_at = ctypes.string_at
_put = ctypes.memmove
_one_word = struct.Struct("@Q")
_two_words = struct.Struct("@QQ")


def _word(address: int) -> int:
    word: int = _one_word.unpack(_bytes_at(address, 8))[0]
    return word


def _kind(address: int, kind: int) -> None:
    _put(address, _KINDS[kind], 1)


_KINDS = [bytes([kind]) for kind in range(32)]


def _byte_values() -> list[bytes]:
    filling = b"\0" * (SIZE - _OF - 1)
    return [
        _KINDS[_U8] + b"\0" * (_OF - 1) + bytes([byte]) + filling for byte in range(256)
    ]


_BYTES = _byte_values()


class GuestResource:
    """A resource of the component's, in the hands of the host."""

    __slots__ = ("_pointer",)

    def __init__(self, pointer: int) -> None:
        self._pointer: int | None = pointer

    def borrow(self) -> int:
        pointer: int = _any_clone(self._pointer)
        return pointer

    def delete(self) -> None:
        """Gives up the handle; the resource itself ends with its instance."""
        if self._pointer is not None:
            _any_delete(self._pointer)
            self._pointer = None


def _write_text(address: int, text: str) -> None:
    encoded = text.encode("utf-8")
    _byte_vec_new(address, len(encoded), encoded)


def _read_text(address: int) -> str:
    size, data = _two_words.unpack(_bytes_at(address, 16))
    return _bytes_at(data, size).decode("utf-8") if size else ""


def _number(kind: int, format: str, convert: Callable[[int], Any] = int) -> tuple[Lift, Lower]:
    packing = struct.Struct(format)
    size, unpack, pack = packing.size, packing.unpack, packing.pack

    def lift(address: int) -> Any:
        return convert(unpack(_bytes_at(address + _OF, size))[0])

    def lower(value: Any, address: int) -> None:
        _put(address + _OF, pack(value), size)
        _put(address, _KINDS[kind], 1)

    return lift, lower


def _string(kind: int) -> tuple[Lift, Lower]:
    def lift(address: int) -> Any:
        return _read_text(address + _OF)

    def lower(value: Any, address: int) -> None:
        _write_text(address + _OF, value)
        _kind(address, kind)

    return lift, lower


def _bytes() -> tuple[Lift, Lower]:
    def lift(address: int) -> Any:
        size, data = _two_words.unpack(_bytes_at(address + _OF, 16))
        return _bytes_at(data, size * SIZE)[_OF::SIZE] if size else b""

    def lower(value: Any, address: int) -> None:
        _vallist_new(address + _OF, len(value))
        if value:
            raw = b"".join([_BYTES[byte] for byte in value])
            _put(_word(address + _OF + 8), raw, len(raw))
        _kind(address, _LIST)

    return lift, lower


def _list(lift_one: Lift, lower_one: Lower) -> tuple[Lift, Lower]:
    def lift(address: int) -> Any:
        size, data = _two_words.unpack(_bytes_at(address + _OF, 16))
        return [lift_one(at) for at in range(data, data + size * SIZE, SIZE)] if size else []

    def lower(value: Any, address: int) -> None:
        _vallist_new(address + _OF, len(value))
        at = _word(address + _OF + 8)
        for one in value:
            lower_one(one, at)
            at += SIZE
        _kind(address, _LIST)

    return lift, lower


def _tuple(parts: list[tuple[Lift, Lower]]) -> tuple[Lift, Lower]:
    def lift(address: int) -> Any:
        data = _word(address + _OF + 8)
        return tuple(one(data + i * SIZE) for i, (one, _) in enumerate(parts))

    def lower(value: Any, address: int) -> None:
        _valtuple_new(address + _OF, len(parts))
        at = _word(address + _OF + 8)
        for part, (_, one) in zip(value, parts, strict=True):
            one(part, at)
            at += SIZE
        _kind(address, _TUPLE)

    return lift, lower


def _record(fields: list[tuple[str, Lift, Lower]]) -> tuple[Lift, Lower]:
    def lift(address: int) -> Any:
        at = _word(address + _OF + 8) + _ENTRY_VAL
        found = {}
        for name, one, _ in fields:
            found[name] = one(at)
            at += _ENTRY_SIZE
        return found

    def lower(value: Any, address: int) -> None:
        _valrecord_new(address + _OF, len(fields))
        at = _word(address + _OF + 8)
        for name, _, one in fields:
            one(value[name], at + _ENTRY_VAL)
            _write_text(at + _ENTRY_NAME, name)
            at += _ENTRY_SIZE
        _kind(address, _RECORD)

    return lift, lower


def _boxed(lower: Lower, value: Any) -> bytes:
    """A value of its own, moved to where the runtime keeps it, as a pointer."""
    payload = ctypes.create_string_buffer(SIZE)
    at = ctypes.addressof(payload)
    lower(value, at)
    return _one_word.pack(_val_new(at))


_NULL = _one_word.pack(0)


def _option(lift_one: Lift, lower_one: Lower) -> tuple[Lift, Lower]:
    def lift(address: int) -> Any:
        payload = _word(address + _OF)
        return lift_one(payload) if payload else None

    def lower(value: Any, address: int) -> None:
        _put(address + _OF, _NULL if value is None else _boxed(lower_one, value), 8)
        _kind(address, _OPTION)

    return lift, lower


def _result(
    ok: tuple[Lift, Lower] | None, err: tuple[Lift, Lower] | None
) -> tuple[Lift, Lower]:
    def lift(address: int) -> Any:
        is_ok = _bytes_at(address + _OF, 1) != b"\0"
        case, one = ("ok", ok) if is_ok else ("err", err)
        payload = _word(address + _OF + _RESULT_VAL)
        return case, one[0](payload) if one is not None and payload else None

    def lower(value: Any, address: int) -> None:
        case, payload = value
        one = ok if case == "ok" else err
        boxed = _NULL if one is None else _boxed(one[1], payload)
        _put(address + _OF, b"\1" if case == "ok" else b"\0", 1)
        _put(address + _OF + _RESULT_VAL, boxed, 8)
        _kind(address, _RESULT)

    return lift, lower


def _variant(cases: dict[str, tuple[Lift, Lower] | None]) -> tuple[Lift, Lower]:
    def lift(address: int) -> Any:
        case = _read_text(address + _OF)
        one = cases[case]
        payload = _word(address + _OF + _VARIANT_VAL)
        return case, one[0](payload) if one is not None and payload else None

    def lower(value: Any, address: int) -> None:
        case, payload = value
        one = cases[case]
        boxed = _NULL if one is None else _boxed(one[1], payload)
        _put(address + _OF + _VARIANT_VAL, boxed, 8)
        _write_text(address + _OF, case)
        _kind(address, _VARIANT)

    return lift, lower


def _check(error: Any) -> None:
    if error:
        raise WasmtimeError._from_ptr(error)


class Codec:
    """Makes readers and writers of types for one side: ``context`` tells the
    runtime's context of the running call, for what concerns resources."""

    def __init__(self, context: Callable[[], Any], *, guest_resources: bool) -> None:
        self._context = context
        self._guest_resources = guest_resources

    def of(self, ty: Any) -> tuple[Lift, Lower]:
        """The reader and the writer of a type."""
        match ty:
            case types.Bool():
                return _number(_BOOL, "@B", bool)
            case types.U8():
                return _number(_U8, "@B")
            case types.U16():
                return _number(_U16, "@H")
            case types.U32():
                return _number(_U32, "@I")
            case types.U64():
                return _number(_U64, "@Q")
            case types.String():
                return _string(_STRING)
            case types.EnumType():
                return _string(_ENUM)
            case types.ListType():
                element = ty.element
                return _bytes() if isinstance(element, types.U8) else _list(*self.of(element))
            case types.TupleType():
                return _tuple([self.of(element) for element in ty.elements])
            case types.RecordType():
                return _record([(name, *self.of(field)) for name, field in ty.fields])
            case types.OptionType():
                return _option(*self.of(ty.payload))
            case types.ResultType():
                ok, err = ty.ok, ty.err
                return _result(
                    None if ok is None else self.of(ok), None if err is None else self.of(err)
                )
            case types.VariantType():
                return _variant(
                    {
                        name: None if payload is None else self.of(payload)
                        for name, payload in ty.cases
                    }
                )
            case types.OwnType() | types.BorrowType():
                return self._guest_resource() if self._guest_resources else self._host_resource()
        raise NotImplementedError(f"the type {type(ty).__name__}")

    def _guest_resource(self) -> tuple[Lift, Lower]:
        def lift(address: int) -> Any:
            return GuestResource(_any_clone(_word(address + _OF)))

        def lower(value: Any, address: int) -> None:
            _put(address + _OF, _one_word.pack(value.borrow()), 8)
            _kind(address, _RESOURCE)

        return lift, lower

    def _host_resource(self) -> tuple[Lift, Lower]:
        context = self._context

        def lift(address: int) -> Any:
            host = ctypes.c_void_p()
            _check(_any_to_host(context(), _word(address + _OF), ctypes.addressof(host)))
            number = _host_rep(host)
            _host_delete(host)
            return number

        def lower(value: Any, address: int) -> None:
            host = _host_new(True, value, HOST_RESOURCE)
            handle = ctypes.c_void_p()
            try:
                _check(_host_to_any(context(), host, ctypes.addressof(handle)))
            finally:
                _host_delete(host)
            _put(address + _OF, _one_word.pack(handle.value), 8)
            _kind(address, _RESOURCE)

        return lift, lower
