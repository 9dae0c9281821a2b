"""Engines that remember every word: they are made anew before that takes too much memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from threading import Lock
from typing import Any

# The cache of distinct words of an engine may grow without a bound; the engine is made anew when this process has grown
# by so much since it was made, or, where that cannot be told, after so much text.
CACHE_BYTES = 160_000_000


CACHE_TEXT_BYTES = 96_000_000


SETTLING_BYTES, LOOK_EVERY = 24_000_000, 500_000


class Renewed:
    """An engine that is made anew when its cache may have grown beyond a budget. Threads may share it."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._lock = Lock()
        self._engine: Any = None
        self._encoded, self._looked, self._grown_to = 0, 0, 0

    def get(self, size: int) -> Any:
        """The engine, for a text of so many bytes."""
        with self._lock:
            self._encoded += size
            if self._engine is None or (self._encoded - self._looked > LOOK_EVERY and self._is_large()):
                self._engine = None  # the old one goes before the new one comes
                self._engine, self._encoded, self._looked, self._grown_to = self._make(), 0, -LOOK_EVERY, 0
            return self._engine

    def _is_large(self) -> bool:
        now, self._looked = anonymous_memory(), self._encoded
        if now is None:
            return self._encoded > CACHE_TEXT_BYTES
        if not self._grown_to or self._encoded < SETTLING_BYTES:  # what else a run needs is there only after a while
            self._grown_to = now + CACHE_BYTES
        return now > self._grown_to


def anonymous_memory() -> int | None:
    """The bytes of memory of this process that are no mapped file; None where the system does not tell."""
    try:
        with open("/proc/self/status", "rb") as status:  # noqa: PTH123 - it is read often
            found = re.search(rb"RssAnon:\s*(\d+) kB", status.read())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
