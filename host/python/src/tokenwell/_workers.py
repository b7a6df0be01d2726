"""Threads for what may never return: they do not hold up the end of the
process, and whoever waits for one stops waiting in time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

IDLE_SECONDS = 30.0
"""How long a thread without work is kept."""


class Job(Generic[T]):
    """A piece of work that another thread does."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._abandoned: Callable[[T], None] | None = None
        self._value: T | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        value = None
        try:
            value = self._work()
        except BaseException as error:
            self._error = error
        with self._lock:
            self._value = value
            self._done.set()
            abandoned = self._abandoned
        if abandoned is not None and self._error is None:
            abandoned(value)  # type: ignore[arg-type]

    def is_over(self, seconds: float) -> bool:
        """Whether it is over within so many seconds."""
        return self._done.wait(seconds)

    def wait(
        self, seconds: float | None = None, abandon: Callable[[T], None] | None = None
    ) -> T:
        """What came of it; raises what it raised, or :class:`TimeoutError`. Then, or
        where waiting is interrupted, ``abandon`` is given what comes of it later."""
        try:
            in_time = self._done.wait(seconds)
        except BaseException:
            self._abandon(abandon)
            raise
        if not in_time and not self._abandon(abandon):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def _abandon(self, abandon: Callable[[T], None] | None) -> bool:
        with self._lock:
            if self._done.is_set():
                return True
            self._abandoned = abandon
            return False


class Workers:
    """Threads that wait for work and are there when it comes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Condition()
        self._jobs: deque[Job[Any]] = deque()
        self._idle = 0

    def start(self, work: Callable[[], T]) -> Job[T]:
        """Begins a piece of work at once, however many are under way."""
        job = Job(work)
        with self._lock:
            self._jobs.append(job)
            if self._idle >= len(self._jobs):
                self._lock.notify()
                return job
        try:
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()
        except RuntimeError:
            # There are no new threads once the process is ending (or too many): it is done
            # here, unless one that was busy has taken it meanwhile.
            with self._lock:
                is_taken = job not in self._jobs
                if not is_taken:
                    self._jobs.remove(job)
            if not is_taken:
                job.run()
        return job

    def _serve(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
                try:
                    while not self._jobs:
                        if not self._lock.wait(IDLE_SECONDS) and not self._jobs:
                            return
                    job = self._jobs.popleft()
                finally:
                    self._idle -= 1
            job.run()
            del job
