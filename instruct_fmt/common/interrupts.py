"""Signals that must not fall into somebody else's code.

An interrupt is an exception that comes up wherever the program is. In a library written in C or Rust it may be taken
for an error of that library, or be dropped, and the program goes on as if nobody had asked it to end.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def interrupts_later() -> Iterator[None]:
    """Signals that end the program wait until the block is left; in a thread that gets none, nothing is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    before = {number: signal.getsignal(number) for number in _ENDING}
    taken = [number for number, handler in before.items() if handler not in (None, signal.SIG_IGN)]
    for number in taken:
        signal.signal(number, lambda came, _frame: waiting.append(came))
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])
        for number in waiting:
            signal.raise_signal(number)
