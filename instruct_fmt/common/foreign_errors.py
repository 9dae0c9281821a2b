"""What other libraries raise over input that they were not made for, in one exception.

Engines written in Rust raise `Exception` itself, and where they give up, `PanicException`, which is no `Exception`; a
library may raise anything over a file of the wrong shape. What this package raises, interrupts and a lack of memory
pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from instruct_fmt.errors import InstructFmtError

_LONGEST = 300


class ForeignError(Exception):
    """What a library raised, in one line; its cause is the error."""


@contextmanager
def foreign_errors() -> Iterator[None]:
    """Errors of whatever kind in the block become `ForeignError`.

    Raises:
        ForeignError: the block raised something that is no error of this package, no interrupt and no lack of memory.
    """
    try:
        yield
    except (InstructFmtError, MemoryError):
        raise
    except Exception as error:
        raise ForeignError(_line(error)) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ForeignError(_line(error)) from error


def _line(error: BaseException) -> str:
    text = " ".join((str(error).strip().splitlines() or [""])[0].split())
    text = text if len(text) < _LONGEST else f"{text[:_LONGEST]}…"
    plain = isinstance(error, OSError | ValueError) or type(error) is Exception
    return text if plain and text else f"{type(error).__name__}: {text}"
