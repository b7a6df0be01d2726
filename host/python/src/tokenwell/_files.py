"""Files that hold secrets or tokens: private, written whole or not at all, and locked
against other processes. As ``host/src/files.rs``."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from pathlib import Path

if sys.platform != "win32":
    import fcntl

LOCK_TIMEOUT_SECONDS = 10.0
"""How long to wait for a lock that is held only for short writes. Whoever has it for
longer is stopped or stuck."""


def create_private_directory(path: Path) -> None:
    """Creates a directory, and those above it, that nobody else can look into."""
    if path.is_dir():
        return
    for parent in (*reversed(path.parents), path):
        try:
            parent.mkdir(mode=0o700)
        except OSError:
            # What is there already may be told in other ways than as existing, as for
            # macOS's root.
            if not parent.is_dir():
                raise


def replace(path: Path, content: bytes, *, durable: bool) -> None:
    """Puts a private file in place of whatever is there, so that a reader sees either
    the old content or the new. The caller holds the lock that keeps others from writing
    the same file. What is ``durable`` survives a crash of the machine."""
    temporary = path.with_name(f".{path.name}.tmp")
    # What a writer that died has left behind.
    temporary.unlink(missing_ok=True)
    try:
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(handle, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        # The first error is the one to report.
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes creations, renamings and deletions in a directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock(path: Path) -> int:
    """Locks a file, which is created where needed, against all other lockers, in this
    process and in others: ``flock``, the lock of the reference host. It ends when the
    descriptor, which is returned, is closed."""
    if sys.platform == "win32":
        raise OSError(errno.ENOSYS, "the locks of a file store need a POSIX system")
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
        pause = 0.001
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return handle
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError(
                        errno.ETIMEDOUT, f"{path} is locked by another process"
                    ) from None
            time.sleep(pause)
            pause = min(pause * 2, 0.01)
    except BaseException:
        os.close(handle)
        raise


def unlock(handle: int) -> None:
    """Ends a lock, also where a forked process has the descriptor too."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)
    os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether a file is there and somebody has locked it."""
    if sys.platform == "win32":
        raise OSError(errno.ENOSYS, "the locks of a file store need a POSIX system")
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
