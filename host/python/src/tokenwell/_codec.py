"""Values of the component model, between Python and the runtime's C interface.

``wasmtime`` converts values too, but asks the runtime for the types anew with
each call and makes an object of each byte of a list: some milliseconds for one
record. Here the types are asked for once, through the same library's public
description of the component, and bytes are copied as a whole.

What a value is in Python: a record a ``dict`` by the WIT names, a variant a
tuple of its case and its payload (``None`` without one), an enum its name, an
option ``None`` or the value, a result ``("ok", value)`` or ``("err", value)``,
``list<u8>`` is ``bytes``; a resource of the host is its number in the guest's
table, one of the guest a :class:`GuestResource`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from wasmtime import WasmtimeError, _bindings
from wasmtime import _ffi as ffi
from wasmtime import component as types

Lift = Callable[[Any], Any]
"""Reads a value that stays the caller's."""
Lower = Callable[[Any, Any], None]
"""Writes a value; what is allocated for it belongs to the one written to."""

_val = ffi.wasmtime_component_val_t
_entry = ffi.wasmtime_component_valrecord_entry
_SIZE = ctypes.sizeof(_val)
_OF: int = getattr(_val, "of").offset
_ENTRY_SIZE = ctypes.sizeof(_entry)
_ENTRY_NAME: int = getattr(_entry, "name").offset
_ENTRY_VAL: int = getattr(_entry, "val").offset

_keeping = ctypes.PyDLL(str(ffi.filename))


def quick(name: str) -> Any:
    """A function of the C interface that does not give other threads the interpreter
    meanwhile: for those that are done at once and never call back."""
    function = getattr(_keeping, name)
    theirs = getattr(_bindings, f"_{name}")
    function.argtypes, function.restype = theirs.argtypes, theirs.restype
    return function


_val_new = quick("wasmtime_component_val_new")
val_delete = quick("wasmtime_component_val_delete")
_vallist_new = quick("wasmtime_component_vallist_new_uninit")
_valtuple_new = quick("wasmtime_component_valtuple_new_uninit")
_valrecord_new = quick("wasmtime_component_valrecord_new_uninit")
_any_clone = quick("wasmtime_component_resource_any_clone")
_any_delete = quick("wasmtime_component_resource_any_delete")
_any_to_host = quick("wasmtime_component_resource_any_to_host")
_host_new = quick("wasmtime_component_resource_host_new")
_host_delete = quick("wasmtime_component_resource_host_delete")
_host_rep = quick("wasmtime_component_resource_host_rep")
_host_to_any = quick("wasmtime_component_resource_host_to_any")

# The library's own prototype of this one takes no `bytes`.
_byte_vec_new = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)(
    ("wasm_byte_vec_new", _keeping)
)

_BOOL, _U8, _U16, _U32, _U64 = 0, 2, 4, 6, 8
_STRING, _LIST, _RECORD, _TUPLE, _VARIANT, _ENUM = 12, 13, 14, 15, 16, 17
_OPTION, _RESULT, _RESOURCE = 18, 19, 21

HOST_RESOURCE = 1
"""The one type that all of the host's resources have in the runtime. The
component's own types keep them apart, and so does the table, which is asked for
an object of a certain class."""


def _byte_values() -> list[bytes]:
    values = []
    for byte in range(256):
        value = _val()
        ctypes.memset(ctypes.addressof(value), 0, _SIZE)
        value.kind = _U8
        value.of.u8 = byte
        values.append(bytes(value))
    return values


_BYTES = _byte_values()


class GuestResource:
    """A resource of the component's, in the hands of the host."""

    __slots__ = ("_pointer",)

    def __init__(self, pointer: Any) -> None:
        self._pointer = pointer

    def borrow(self) -> Any:
        return _any_clone(self._pointer)

    def delete(self) -> None:
        """Gives up the handle; the resource itself ends with its instance."""
        if self._pointer is not None:
            _any_delete(self._pointer)
            self._pointer = None


def _write_text(address: int, text: str) -> None:
    encoded = text.encode("utf-8")
    _byte_vec_new(address, len(encoded), encoded)


def _read_text(vector: Any) -> str:
    return ctypes.string_at(vector.data, vector.size).decode("utf-8") if vector.size else ""


def _number(kind: int, name: str) -> tuple[Lift, Lower]:
    def lift(val: Any) -> Any:
        return getattr(val.of, name)

    def lower(value: Any, val: Any) -> None:
        setattr(val.of, name, value)
        val.kind = kind

    return lift, lower


def _string() -> tuple[Lift, Lower]:
    def lift(val: Any) -> Any:
        return _read_text(val.of.string)

    def lower(value: Any, val: Any) -> None:
        _write_text(ctypes.addressof(val) + _OF, value)
        val.kind = _STRING

    return lift, lower


def _enum() -> tuple[Lift, Lower]:
    def lift(val: Any) -> Any:
        return _read_text(val.of.enumeration)

    def lower(value: Any, val: Any) -> None:
        _write_text(ctypes.addressof(val) + _OF, value)
        val.kind = _ENUM

    return lift, lower


def _bytes() -> tuple[Lift, Lower]:
    def lift(val: Any) -> Any:
        values = val.of.list
        raw = ctypes.string_at(values.data, values.size * _SIZE) if values.size else b""
        return raw[_OF::_SIZE]

    def lower(value: Any, val: Any) -> None:
        values = ffi.wasmtime_component_vallist_t()
        _vallist_new(ctypes.byref(values), len(value))
        raw = b"".join([_BYTES[byte] for byte in value])
        if raw:
            ctypes.memmove(values.data, raw, len(raw))
        val.of.list = values
        val.kind = _LIST

    return lift, lower


def _list(lift_one: Lift, lower_one: Lower) -> tuple[Lift, Lower]:
    def lift(val: Any) -> Any:
        values = val.of.list
        data = values.data
        return [lift_one(data[i]) for i in range(values.size)]

    def lower(value: Any, val: Any) -> None:
        values = ffi.wasmtime_component_vallist_t()
        _vallist_new(ctypes.byref(values), len(value))
        data = values.data
        for i, one in enumerate(value):
            lower_one(one, data[i])
        val.of.list = values
        val.kind = _LIST

    return lift, lower


def _tuple(parts: list[tuple[Lift, Lower]]) -> tuple[Lift, Lower]:
    lifts = [lift for lift, _ in parts]
    lowers = [lower for _, lower in parts]

    def lift(val: Any) -> Any:
        data = val.of.tuple.data
        return tuple(one(data[i]) for i, one in enumerate(lifts))

    def lower(value: Any, val: Any) -> None:
        values = ffi.wasmtime_component_valtuple_t()
        _valtuple_new(ctypes.byref(values), len(lowers))
        data = values.data
        for i, one in enumerate(lowers):
            one(value[i], data[i])
        val.of.tuple = values
        val.kind = _TUPLE

    return lift, lower


def _record(fields: list[tuple[str, Lift, Lower]]) -> tuple[Lift, Lower]:
    def lift(val: Any) -> Any:
        data = val.of.record.data
        return {name: one(data[i].val) for i, (name, one, _) in enumerate(fields)}

    def lower(value: Any, val: Any) -> None:
        values = ffi.wasmtime_component_valrecord_t()
        _valrecord_new(ctypes.byref(values), len(fields))
        at = ctypes.cast(values.data, ctypes.c_void_p).value or 0
        for name, _, one in fields:
            one(value[name], _val.from_address(at + _ENTRY_VAL))
            _write_text(at + _ENTRY_NAME, name)
            at += _ENTRY_SIZE
        val.of.record = values
        val.kind = _RECORD

    return lift, lower


def _boxed(lower: Lower, value: Any) -> Any:
    payload = _val()
    lower(value, payload)
    return _val_new(ctypes.byref(payload))


def _option(lift_one: Lift, lower_one: Lower) -> tuple[Lift, Lower]:
    def lift(val: Any) -> Any:
        payload = val.of.option
        return lift_one(payload[0]) if payload else None

    def lower(value: Any, val: Any) -> None:
        val.of.option = None if value is None else _boxed(lower_one, value)
        val.kind = _OPTION

    return lift, lower


def _result(
    ok: tuple[Lift, Lower] | None, err: tuple[Lift, Lower] | None
) -> tuple[Lift, Lower]:
    def lift(val: Any) -> Any:
        result = val.of.result
        case, one = ("ok", ok) if result.is_ok else ("err", err)
        return case, one[0](result.val[0]) if one is not None and result.val else None

    def lower(value: Any, val: Any) -> None:
        case, payload = value
        one = ok if case == "ok" else err
        boxed = None if one is None else _boxed(one[1], payload)
        val.of.result.is_ok = case == "ok"
        val.of.result.val = boxed
        val.kind = _RESULT

    return lift, lower


def _variant(cases: dict[str, tuple[Lift, Lower] | None]) -> tuple[Lift, Lower]:
    def lift(val: Any) -> Any:
        variant = val.of.variant
        case = _read_text(variant.discriminant)
        one = cases[case]
        return case, one[0](variant.val[0]) if one is not None and variant.val else None

    def lower(value: Any, val: Any) -> None:
        case, payload = value
        one = cases[case]
        val.of.variant.val = None if one is None else _boxed(one[1], payload)
        _write_text(ctypes.addressof(val) + _OF, case)
        val.kind = _VARIANT

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
                return _number(_BOOL, "boolean")
            case types.U8():
                return _number(_U8, "u8")
            case types.U16():
                return _number(_U16, "u16")
            case types.U32():
                return _number(_U32, "u32")
            case types.U64():
                return _number(_U64, "u64")
            case types.String():
                return _string()
            case types.EnumType():
                return _enum()
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
        def lift(val: Any) -> Any:
            return GuestResource(_any_clone(val.of.resource))

        def lower(value: Any, val: Any) -> None:
            val.of.resource = value.borrow()
            val.kind = _RESOURCE

        return lift, lower

    def _host_resource(self) -> tuple[Lift, Lower]:
        context = self._context
        host_pointer = ctypes.POINTER(ffi.wasmtime_component_resource_host_t)
        any_pointer = ctypes.POINTER(ffi.wasmtime_component_resource_any_t)

        def lift(val: Any) -> Any:
            host = host_pointer()
            _check(
                _any_to_host(
                    context(), val.of.resource, ctypes.byref(host)
                )
            )
            number = _host_rep(host)
            _host_delete(host)
            return number

        def lower(value: Any, val: Any) -> None:
            host = _host_new(True, value, HOST_RESOURCE)
            handle = any_pointer()
            try:
                _check(
                    _host_to_any(
                        context(), host, ctypes.byref(handle)
                    )
                )
            finally:
                _host_delete(host)
            val.of.resource = handle
            val.kind = _RESOURCE

        return lift, lower
