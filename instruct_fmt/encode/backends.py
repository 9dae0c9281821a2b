"""Tokenizer engines behind one protocol: texts in, flat ids and row offsets out.

`tokenizers` is the reference. A faster engine is taken only where it gives the reference's ids on a list of awkward
texts, and a sample of each run is encoded by both; at the first difference the reference takes over, loudly.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from itertools import chain
from threading import Lock
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers import Tokenizer

from instruct_fmt.common.foreign_errors import ForeignError, foreign_errors
from instruct_fmt.common.forks import undivided
from instruct_fmt.common.interrupts import interrupts_later
from instruct_fmt.errors import TokenizerError, shown
from instruct_fmt.tokenizer.vocabulary import Vocabulary

logger = logging.getLogger("instruct_fmt")

Flat = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]
Texts: TypeAlias = "Sequence[str] | pa.Array"

# The cache of distinct words of an engine may grow without a bound; the engine is made anew when this process has grown
# by so much since it was made, or, where that cannot be told, after so much text.
CACHE_BYTES = 160_000_000
CACHE_TEXT_BYTES = 96_000_000
SETTLING_BYTES, LOOK_EVERY = 24_000_000, 500_000
# The reference encodes a sample of some texts as well, and the next one behind so many times as many ids.
SAMPLE, CHECK_EVERY, SAMPLED_CHARACTERS = 3, 2000, 20_000
# So few texts are not worth the wrapping of a batch.
FEW, FEW_CHARACTERS = 4, 20_000

PROBES = (
    "Hello, world!",
    "  two  spaces,\ttabs\t\tand\n\n\nlines \r\n end ",
    "don't I'M we'll 123456789 3.14 1,000 x=y+1; #include <vector>\n{\n    return 0;\n}",
    "naïve café Ångström ﬁne x² ½ № İstanbul ſ",
    "e\u0301 o\u0308 한국어 \u1112\u1161\u11ab 日本語のテキスト 中文，標點。",
    "עברית العَرَبِيَّة हिन्दी ไทย \u202eabc\u202c",
    "👩‍👩‍👧‍👦 👍🏽 🇩🇪 🏳️‍🌈 e\ufe0f",
    "\u0000\u0001\u007f\u0080\ufeff\ufffd\ue000\U0010fffd\u2028\u2029\u00a0\u3000",
    "▁ ▁▁ Ġ Ċ <0x0A> <unk> ##ing",
    "a" * 300 + " " * 70 + "!" * 70 + "\n" * 20,
    "",
    " ",
)


class Backend(Protocol):
    """An engine. `encode` adds no special tokens; row i's ids are `ids[offsets[i]:offsets[i + 1]]`."""

    name: str

    def encode(self, texts: Texts) -> Flat: ...


class ReferenceBackend:
    """The `tokenizers` library: what every other engine is compared with."""

    name = "tokenizers"

    def __init__(self, engine: Tokenizer) -> None:
        self._engine = engine

    def encode(self, texts: Texts) -> Flat:
        plain = _strings(texts)
        rows = [encoding.ids for encoding in self._engine.encode_batch_fast(plain, add_special_tokens=False)]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        ids = np.fromiter(chain.from_iterable(rows), np.int32, int(offsets[-1]))
        return ids, offsets


class _Renewed:
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


class GigatokenBackend:
    """The `gigatoken` library."""

    name = "gigatoken"

    def __init__(self, definition: str) -> None:
        import gigatoken

        self._engine = _Renewed(lambda: gigatoken.Tokenizer.from_json(definition))

    def encode(self, texts: Texts) -> Flat:
        if len(texts) < FEW and _characters(texts) < FEW_CHARACTERS:
            return self._few(texts)
        from awkward import Array
        from awkward.contents import ListOffsetArray, NumpyArray
        from awkward.index import Index64

        column = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.large_string())
        _, places, text = column.buffers()
        edges = np.frombuffer(places, np.int64)[column.offset :][: len(column) + 1]
        characters = NumpyArray(np.frombuffer(text or b"", np.uint8), parameters={"__array__": "char"})
        strings = Array(ListOffsetArray(Index64(edges), characters, parameters={"__array__": "string"}))
        # The threads are ours: an engine's own would be more than there are cores, and break where a process forks.
        with undivided:
            layout = self._engine.get(int(edges[-1] - edges[0])).encode_batch(strings, parallel=False).layout
        offsets = np.asarray(layout.offsets.data).astype(np.int64)
        ids = np.asarray(layout.content.data)[offsets[0] : offsets[-1]]
        return _int32(ids), offsets - offsets[0]

    def _few(self, texts: Texts) -> Flat:
        plain = _strings(texts)
        with undivided:
            engine = self._engine.get(sum(map(len, plain)))
            # Not `encode`, which wants the engine for itself and raises where another thread encodes a batch.
            return _flat(engine.encode_batch_list(plain, parallel=False))


class FastokensBackend:
    """The `fastokens` library."""

    name = "fastokens"

    def __init__(self, definition: str) -> None:
        import fastokens

        self._engine = _Renewed(lambda: fastokens.Tokenizer.from_json_str(definition))

    def encode(self, texts: Texts) -> Flat:
        plain = _strings(texts)
        with undivided:
            ids, offsets = self._engine.get(sum(map(len, plain))).encode_batch_flat(plain)
        return _int32(np.frombuffer(ids, np.uint32)), np.frombuffer(offsets, np.uint64).astype(np.int64)


class WatchedBackend:
    """A fast engine, whose ids are compared with the reference's for a sample: one id of `CHECK_EVERY`."""

    def __init__(self, fast: Backend, reference: Backend) -> None:
        self._fast, self._reference = fast, reference
        self._due = 0
        self.name = fast.name

    def encode(self, texts: Texts) -> Flat:
        if self._fast is self._reference or not len(texts):
            return self._reference.encode(texts)
        try:
            with foreign_errors():
                ids, offsets = self._fast.encode(texts)
        except ForeignError as error:
            return self._taken_over(texts, f"raised {error}")
        self._due -= int(offsets[-1])
        if self._due > 0:
            return ids, offsets
        places = np.unique(np.linspace(0, len(texts) - 1, SAMPLE).astype(np.int64)).tolist()
        sample = [str(texts[place]) for place in places]
        long = any(len(text) > SAMPLED_CHARACTERS for text in sample)
        if long:  # their beginnings are enough: the reference takes seconds and gigabytes for some megabytes
            sample = [text[:SAMPLED_CHARACTERS] for text in sample]
        found, ends = self._fast.encode(sample) if long else _chosen(ids, offsets, places)
        expected, edges = self._reference.encode(sample)
        self._due = CHECK_EVERY * int(edges[-1])
        for number, text in enumerate(sample):
            ours = found[ends[number] : ends[number + 1]]
            if not np.array_equal(ours, expected[edges[number] : edges[number + 1]]):
                return self._taken_over(texts, f"differs from tokenizers on {shown(text)}")
        return ids, offsets

    def _taken_over(self, texts: Texts, why: str) -> Flat:
        logger.warning("backend %s %s; tokenizers takes over", self.name, why)
        self._fast, self.name = self._reference, self._reference.name
        return self._reference.encode(texts)


def anonymous_memory() -> int | None:
    """The bytes of memory of this process that are no mapped file; None where the system does not tell."""
    try:
        with open("/proc/self/status", "rb") as status:  # noqa: PTH123 - it is read often
            found = re.search(rb"RssAnon:\s*(\d+) kB", status.read())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _characters(texts: Texts) -> int:
    """At least the characters of some texts: bytes, where they are Arrow's."""
    return int(texts.nbytes) if isinstance(texts, pa.Array) else sum(map(len, texts))


def _chosen(ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], places: Sequence[int]) -> Flat:
    return _flat([ids[offsets[place] : offsets[place + 1]] for place in places])


def _strings(texts: Texts) -> list[str]:
    return texts.to_pylist() if isinstance(texts, pa.Array) else list(texts)


def _flat(rows: Sequence[Any]) -> Flat:
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return np.concatenate([np.zeros(0, np.int32), *rows]).astype(np.int32), offsets


def _int32(ids: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Ids as int32; no vocabulary is so large that the sign would matter."""
    found: npt.NDArray[np.int32] = ids.view(np.int32) if ids.dtype == np.uint32 else ids.astype(np.int32)
    return found


def _gigatoken(definition: str) -> Backend:
    backend = GigatokenBackend(definition)
    backend.encode(["a"])  # made at the first text
    return backend


def _fastokens(definition: str) -> Backend:
    backend = FastokensBackend(definition)
    backend.encode(["a"])
    return backend


FAST: dict[str, Callable[[str], Backend]] = {"gigatoken": _gigatoken, "fastokens": _fastokens}


def choose(name: str, vocabulary: Vocabulary) -> Backend:
    """The engine that was asked for; with ``auto`` the fastest that is installed and proves equal.

    Args:
        name: ``auto``, ``tokenizers`` or a fast engine's name.
        vocabulary: the tokenizer; its engine is the reference, its added tokens are part of the proof.

    Raises:
        TokenizerError: the engine that was asked for is missing, does not load the tokenizer, or gives other ids.
    """
    reference = ReferenceBackend(vocabulary.backend)
    added = [token.content for token in vocabulary.added]
    for fast in FAST if name == "auto" else [name]:
        if fast == reference.name:
            return reference
        try:
            with interrupts_later(), foreign_errors():  # an engine imports other libraries, and drops an interrupt
                backend = FAST[fast](vocabulary.definition)
                _prove(backend, reference, added)
        except ImportError as error:
            if name != "auto":
                raise TokenizerError(
                    "backend",
                    f"{name!r}, which is not installed",
                    "an installed engine",
                    f"pip install {name}, or backend='auto'",
                ) from error
        except (TokenizerError, ForeignError) as error:
            if name != "auto":
                raise TokenizerError(f"backend: {error}") from error
            logger.info("backend %s: %s", fast, error)
        else:
            return WatchedBackend(backend, reference)
    return reference


def _prove(backend: Backend, reference: Backend, added: Sequence[str]) -> None:
    tokens = list(added[:64])
    texts = [*PROBES, *(f"a{token} b\n{token}{token}c" for token in tokens), " ".join(tokens)]
    found, expected = backend.encode(texts), reference.encode(texts)
    if not (np.array_equal(found[0], expected[0]) and np.array_equal(found[1], expected[1])):
        raise TokenizerError(f"{backend.name} gives other ids than tokenizers; fix: backend='tokenizers'")
