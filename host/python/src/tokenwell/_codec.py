"""Values of the component model, between Python and the runtime's C interface.

``wasmtime`` converts values too, but asks the runtime for the types anew with
each call and makes an object of each byte of a list: some milliseconds for one
record. Here the types are asked for once, through the same library's public
description of the component, and a value is read or written as one piece of memory:
each step over to C costs more than all that is done there, and so does an object for
each part. The layout is that of ``wasmtime``'s own structures, on 64 bits, which it
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
from collections.abc import Callable, Sequence
from typing import Any

from wasmtime import WasmtimeError, _bindings
from wasmtime import _ffi as ffi
from wasmtime import component as types

Lift = Callable[[bytes, int], Any]
"""Reads the value at a place of a copy of the runtime's memory. What it points to stays
the runtime's."""
Lower = Callable[[Any], bytes]
"""Makes the memory of a value. What is allocated for it belongs to whom the memory is
given; where the value is not of its type, it is lost."""

_val = ffi.wasmtime_component_val_t
_entry = ffi.wasmtime_component_valrecord_entry
SIZE = ctypes.sizeof(_val)
_OF: int = getattr(_val, "of").offset
_ENTRY_SIZE = ctypes.sizeof(_entry)
_ENTRY_VAL: int = getattr(_entry, "val").offset
_VARIANT_VAL: int = _OF + getattr(ffi.wasmtime_component_valvariant_t, "val").offset
_RESULT_VAL: int = _OF + getattr(ffi.wasmtime_component_valresult_t, "val").offset

_keeping = ctypes.PyDLL(str(ffi.filename))
_at = ctypes.c_void_p


def quick(name: str, *argtypes: Any) -> Any:
    """A function of the C interface that does not give other threads the interpreter
    meanwhile: for those that are done at once and never call back."""
    function = getattr(_keeping, name)
    theirs = getattr(_bindings, f"_{name}")
    function.argtypes, function.restype = argtypes or theirs.argtypes, theirs.restype
    return function


val_delete = quick("wasmtime_component_val_delete", _at)
put = ctypes.PYFUNCTYPE(None, _at, ctypes.c_char_p, ctypes.c_size_t)(
    ctypes.cast(ctypes.memmove, _at).value or 0
)
"""Copies so many bytes to an address."""
_val_new = quick("wasmtime_component_val_new", _at)
_val_new.restype = _at
_vallist_new = quick("wasmtime_component_vallist_new_uninit", _at, ctypes.c_size_t)
_valtuple_new = quick("wasmtime_component_valtuple_new_uninit", _at, ctypes.c_size_t)
_valrecord_new = quick("wasmtime_component_valrecord_new_uninit", _at, ctypes.c_size_t)
_any_clone = quick("wasmtime_component_resource_any_clone", _at)
_any_clone.restype = _at
_any_delete = quick("wasmtime_component_resource_any_delete", _at)
_any_to_host = quick("wasmtime_component_resource_any_to_host", _at, _at, _at)
_any_to_host.restype = _at
_host_new = quick(
    "wasmtime_component_resource_host_new", ctypes.c_bool, ctypes.c_uint32, ctypes.c_uint32
)
_host_new.restype = _at
_host_delete = quick("wasmtime_component_resource_host_delete", _at)
_host_rep = quick("wasmtime_component_resource_host_rep", _at)
_host_to_any = quick("wasmtime_component_resource_host_to_any", _at, _at, _at)
_host_to_any.restype = _at
_byte_vec_new = quick("wasm_byte_vec_new", _at, ctypes.c_size_t, ctypes.c_char_p)

_BOOL, _U8, _U16, _U32, _U64 = 0, 2, 4, 6, 8
_STRING, _LIST, _RECORD, _TUPLE, _VARIANT, _ENUM = 12, 13, 14, 15, 16, 17
_OPTION, _RESULT, _RESOURCE = 18, 19, 21

HOST_RESOURCE = 1
"""The one type that all of the host's resources have in the runtime. The
component's own types keep them apart, and so does the table, which is asked for
an object of a certain class."""

bytes_at = ctypes.PYFUNCTYPE(ctypes.py_object, _at, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)
"""A copy of so many bytes from an address on."""
_Word = ctypes.c_size_t * 1
_Vector = ctypes.c_size_t * 2
_Value = ctypes.c_char * SIZE
_word = struct.Struct("@Q").unpack_from
_vector = struct.Struct("@QQ").unpack_from
# A kind, and what follows it.
_with_flag = struct.Struct(f"@B{_OF - 1}xB{_RESULT_VAL - _OF - 1}xQ{SIZE - _RESULT_VAL - 8}x").pack
_with_word = struct.Struct(f"@B{_OF - 1}xQ{SIZE - _OF - 8}x").pack
_with_vector = struct.Struct(f"@B{_OF - 1}x16s{SIZE - _OF - 16}x").pack
_with_vector_and_word = struct.Struct(f"@B{_OF - 1}x16sQ{SIZE - _OF - 24}x").pack
_ZERO_BYTE = _with_word(_U8, 0)


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


def _text(encoded: bytes) -> bytes:
    """Memory of the runtime's with a text, in UTF-8: how long it is and where."""
    vector = _Vector()
    _byte_vec_new(vector, len(encoded), encoded)
    return bytes(vector)


def _read_text(raw: bytes, at: int) -> str:
    size, data = _vector(raw, at + _OF)
    return bytes_at(data, size).decode("utf-8") if size else ""


def _filled(new: Any, length: int, parts: Sequence[bytes | bytearray]) -> bytes:
    """A vector of the runtime's: how long it is and where."""
    vector = _Vector()
    new(vector, length)
    raw = b"".join(parts)
    put(vector[1], raw, len(raw))
    return bytes(vector)


def _number(kind: int, format: str, convert: Callable[[int], Any] = int) -> tuple[Lift, Lower]:
    size = struct.calcsize(f"@{format}")
    pack = struct.Struct(f"@B{_OF - 1}x{format}{SIZE - _OF - size}x").pack
    unpack = struct.Struct(f"@{format}").unpack_from

    def lift(raw: bytes, at: int) -> Any:
        return convert(unpack(raw, at + _OF)[0])

    def lower(value: Any) -> bytes:
        return pack(kind, value)

    return lift, lower


def _string(kind: int) -> tuple[Lift, Lower]:
    def lower(value: Any) -> bytes:
        return _with_vector(kind, _text(value.encode("utf-8")))

    return _read_text, lower


def _bytes() -> tuple[Lift, Lower]:
    def lift(raw: bytes, at: int) -> Any:
        size, data = _vector(raw, at + _OF)
        return bytes_at(data, size * SIZE)[_OF::SIZE] if size else b""

    def lower(value: Any) -> bytes:
        values = bytearray(_ZERO_BYTE * len(value))
        values[_OF::SIZE] = value
        return _with_vector(_LIST, _filled(_vallist_new, len(value), [values]))

    return lift, lower


def _list(lift_one: Lift, lower_one: Lower) -> tuple[Lift, Lower]:
    def lift(raw: bytes, at: int) -> Any:
        size, data = _vector(raw, at + _OF)
        if not size:
            return []
        inside = bytes_at(data, size * SIZE)
        return [lift_one(inside, at) for at in range(0, len(inside), SIZE)]

    def lower(value: Any) -> bytes:
        values = [lower_one(one) for one in value]
        return _with_vector(_LIST, _filled(_vallist_new, len(values), values))

    return lift, lower


def _tuple(parts: list[tuple[Lift, Lower]]) -> tuple[Lift, Lower]:
    length = len(parts)
    places = [(lift_one, i * SIZE) for i, (lift_one, _) in enumerate(parts)]
    lowers = [lower_one for _, lower_one in parts]

    def lift(raw: bytes, at: int) -> Any:
        inside = bytes_at(_vector(raw, at + _OF)[1], length * SIZE)
        return tuple([lift_one(inside, place) for lift_one, place in places])

    def lower(value: Any) -> bytes:
        values = [lower_one(part) for part, lower_one in zip(value, lowers, strict=True)]
        return _with_vector(_TUPLE, _filled(_valtuple_new, length, values))

    return lift, lower


def _record(fields: list[tuple[str, Lift, Lower]]) -> tuple[Lift, Lower]:
    length = len(fields)
    places = [
        (name, lift_one, i * _ENTRY_SIZE + _ENTRY_VAL)
        for i, (name, lift_one, _) in enumerate(fields)
    ]
    lowers = [(name, name.encode("utf-8"), lower_one) for name, _, lower_one in fields]

    def lift(raw: bytes, at: int) -> Any:
        inside = bytes_at(_vector(raw, at + _OF)[1], length * _ENTRY_SIZE)
        return {name: lift_one(inside, place) for name, lift_one, place in places}

    def lower(value: Any) -> bytes:
        entries = []
        for name, encoded, lower_one in lowers:
            entries.append(_text(encoded))
            entries.append(lower_one(value[name]))
        return _with_vector(_RECORD, _filled(_valrecord_new, length, entries))

    return lift, lower


def _boxed(raw: bytes) -> int:
    """Where the runtime keeps a value of its own."""
    # The runtime empties the memory that it takes a value from.
    address: int = _val_new(_Value.from_buffer_copy(raw))
    return address


def _option(lift_one: Lift, lower_one: Lower) -> tuple[Lift, Lower]:
    none = _with_word(_OPTION, 0)

    def lift(raw: bytes, at: int) -> Any:
        (payload,) = _word(raw, at + _OF)
        return lift_one(bytes_at(payload, SIZE), 0) if payload else None

    def lower(value: Any) -> bytes:
        return none if value is None else _with_word(_OPTION, _boxed(lower_one(value)))

    return lift, lower


def _result(
    ok: tuple[Lift, Lower] | None, err: tuple[Lift, Lower] | None
) -> tuple[Lift, Lower]:
    def lift(raw: bytes, at: int) -> Any:
        case, one = ("ok", ok) if raw[at + _OF] else ("err", err)
        (payload,) = _word(raw, at + _RESULT_VAL)
        return case, one[0](bytes_at(payload, SIZE), 0) if one is not None and payload else None

    def lower(value: Any) -> bytes:
        case, payload = value
        one = ok if case == "ok" else err
        return _with_flag(_RESULT, case == "ok", 0 if one is None else _boxed(one[1](payload)))

    return lift, lower


def _variant(cases: dict[str, tuple[Lift, Lower] | None]) -> tuple[Lift, Lower]:
    def lift(raw: bytes, at: int) -> Any:
        case = _read_text(raw, at)
        one = cases[case]
        (payload,) = _word(raw, at + _VARIANT_VAL)
        return case, one[0](bytes_at(payload, SIZE), 0) if one is not None and payload else None

    def lower(value: Any) -> bytes:
        case, payload = value
        one = cases[case]
        boxed = 0 if one is None else _boxed(one[1](payload))
        return _with_vector_and_word(_VARIANT, _text(case.encode("utf-8")), boxed)

    return lift, lower


class Codec:
    """Makes readers and writers of types for one side: ``running.guest.address`` is where
    the runtime's context of the running call is, for what concerns resources."""

    def __init__(self, running: Any, *, guest_resources: bool) -> None:
        self._running = running
        self._guest_resources = guest_resources

    def of(self, ty: Any) -> tuple[Lift, Lower]:
        """The reader and the writer of a type."""
        match ty:
            case types.Bool():
                return _number(_BOOL, "B", bool)
            case types.U8():
                return _number(_U8, "B")
            case types.U16():
                return _number(_U16, "H")
            case types.U32():
                return _number(_U32, "I")
            case types.U64():
                return _number(_U64, "Q")
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
        def lift(raw: bytes, at: int) -> Any:
            return GuestResource(_any_clone(_word(raw, at + _OF)[0]))

        def lower(value: Any) -> bytes:
            return _with_word(_RESOURCE, value.borrow())

        return lift, lower

    def _host_resource(self) -> tuple[Lift, Lower]:
        running = self._running

        def lift(raw: bytes, at: int) -> Any:
            host = _Word()
            error = _any_to_host(running.guest.address, _word(raw, at + _OF)[0], host)
            if error:
                raise _error(error)
            address = host[0]
            number = _host_rep(address)
            _host_delete(address)
            return number

        def lower(value: Any) -> bytes:
            # Numbers are used again, so that there are few. Where two threads make the
            # same, one is too many for good, which is a word or two.
            host = _host_resources.get(value)
            if host is None:
                host = _host_resources[value] = _host_new(True, value, HOST_RESOURCE)
            handle = _Word()
            error = _host_to_any(running.guest.address, host, handle)
            if error:
                raise _error(error)
            return _with_word(_RESOURCE, handle[0])

        return lift, lower


_host_resources: dict[int, int] = {}
"""What the runtime makes handles of, by number."""


def _error(address: int) -> WasmtimeError:
    pointer = ctypes.cast(address, ctypes.POINTER(ffi.wasmtime_error_t))
    error: WasmtimeError = WasmtimeError._from_ptr(pointer)
    return error
