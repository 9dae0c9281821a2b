"""Calls that a fork must not fall into.

A process that forks copies the locks of threads that the copy does not have: whoever waits for one in the copy waits
for ever. Engines have locks that Python does not see. So a fork, in whatever thread, waits until nobody is inside one
of the calls that are marked here, and nobody enters one meanwhile. `multiprocessing`, `datasets.map(num_proc=…)` and
PyTorch's `DataLoader` fork.
"""

from __future__ import annotations

import os
import threading
from types import TracebackType

# A signal handler may fork in the midst of a marked call of its own thread: that fork goes ahead.
LONGEST_WAIT_SECONDS = 10.0


class Undivided:
    """A context manager: no fork happens while a thread is in its block. Blocks may be nested."""

    def __init__(self) -> None:
        self._change = threading.Condition(threading.Lock())
        self._depth = threading.local()
        self._inside = 0
        self._forking = False

    def __enter__(self) -> None:
        depth = getattr(self._depth, "value", 0)
        if not depth:
            with self._change:
                while self._forking:
                    self._change.wait()
                self._inside += 1
        self._depth.value = depth + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth.value -= 1
        if not self._depth.value:
            with self._change:
                self._inside -= 1
                self._change.notify_all()

    def before_fork(self) -> None:
        """Wait until all blocks are left, and keep them closed."""
        self._change.acquire()
        self._forking = True
        self._change.wait_for(lambda: not self._inside, LONGEST_WAIT_SECONDS)

    def after_fork(self) -> None:
        """Open the blocks again."""
        self._forking = False
        self._change.notify_all()
        self._change.release()

    def after_fork_in_child(self) -> None:
        """The same in the copy, where no other thread is."""
        self._inside = 1 if getattr(self._depth, "value", 0) else 0
        self.after_fork()


undivided = Undivided()
if hasattr(os, "register_at_fork"):  # where there are forks
    os.register_at_fork(
        before=undivided.before_fork,
        after_in_parent=undivided.after_fork,
        after_in_child=undivided.after_fork_in_child,
    )
