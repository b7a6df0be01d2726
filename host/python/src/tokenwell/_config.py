"""A config as Python has it, on its way to JSON: what JSON lacks is told by its field."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

from .errors import ConfigTypeError, Problem

_DEEPEST = 32


def to_json(config: Mapping[str, Any] | str) -> str:
    """The JSON document of a config; text is taken for one.

    Raises :class:`ConfigTypeError`, with every value that is none of JSON's.
    """
    if isinstance(config, str):
        return config
    problems: list[Problem] = []
    if not isinstance(config, Mapping):
        problems.append(_problem("", f"is a {type(config).__name__}", "give a dict"))
        raise _error(problems)
    plain = _plain(config, "", 0, problems)
    if problems:
        raise _error(problems)
    return json.dumps(plain, allow_nan=False)


def _error(problems: list[Problem]) -> ConfigTypeError:
    told = "; ".join(f"{p.field or 'the config'}: {p.message}" for p in problems)
    return ConfigTypeError(
        f"the connection is not configured: {told}", problems=tuple(problems)
    )


def _problem(field: str, message: str, mend: str) -> Problem:
    return Problem(field, "error", message, mend)


def _plain(value: Any, field: str, depth: int, problems: list[Problem]) -> Any:
    if depth > _DEEPEST:
        problems.append(_problem(field, "is nested too deeply", "give a flat value"))
        return None
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            problems.append(_problem(field, "is not Unicode text", "give valid text"))
            return None
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            problems.append(_problem(field, f"is {value}", "give a finite number"))
            return None
        return value
    if isinstance(value, Mapping):
        members = {}
        for name, member in value.items():
            if not isinstance(name, str):
                message = f"has a name that is a {type(name).__name__}"
                problems.append(_problem(field, message, "name fields with text"))
                continue
            inner = f"{field}.{name}" if field else name
            members[name] = _plain(member, inner, depth + 1, problems)
        return members
    if isinstance(value, list | tuple):
        return [_plain(one, field, depth + 1, problems) for one in value]
    message = f"is a {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")
    problems.append(_problem(field, message, _mend(value)))
    return None


def _mend(value: Any) -> str:
    if isinstance(value, bytes | bytearray):
        return "decode it to text"
    if isinstance(value, os.PathLike):
        return "give its path as text"
    if isinstance(value, set | frozenset):
        return "give a list"
    return "give text, a number, a bool, a list or a dict, or leave it out"
