"""What a forked process makes anew. It has none of the other threads, so a lock that one of
them held would never be given back."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Remade(Protocol):
    """What has such locks."""

    def _after_fork(self) -> None:
        """Makes them anew."""


_all: weakref.WeakSet[Remade] = weakref.WeakSet()


def remade(thing: Remade) -> None:
    """Has that object's locks made anew in processes that are forked from this one."""
    _all.add(thing)


def _in_child() -> None:
    for thing in list(_all):
        thing._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
