"""Tokenizer engines behind one protocol: texts in, flat ids and row offsets out.

`tokenizers` is the reference. A faster engine is taken only where it gives the reference's ids on a list of awkward
texts, and a sample of every batch is encoded by both; at the first difference the reference takes over, loudly.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers import Tokenizer

from instruct_fmt.errors import TokenizerError

logger = logging.getLogger("instruct_fmt")

Flat = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]
Texts: TypeAlias = "Sequence[str] | pa.Array"

# The cache of distinct words of some engines grows without a bound; they are made anew after so much text.
RENEW_BYTES = 96_000_000
SAMPLE = 2

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
        plain = texts.to_pylist() if isinstance(texts, pa.Array) else list(texts)
        rows = [encoding.ids for encoding in self._engine.encode_batch_fast(plain, add_special_tokens=False)]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        ids = np.fromiter((id for row in rows for id in row), np.int32, int(offsets[-1]))
        return ids, offsets


class GigatokenBackend:
    """The `gigatoken` library. Made anew when its cache may have grown beyond a budget."""

    name = "gigatoken"

    def __init__(self, definition: str) -> None:
        self._definition = definition
        self._engine: Any = None
        self._encoded = 0

    def encode(self, texts: Texts) -> Flat:
        import awkward
        import gigatoken

        column = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.large_string())
        if self._engine is None or self._encoded > RENEW_BYTES:
            self._engine, self._encoded = gigatoken.Tokenizer.from_json(self._definition), 0
        self._encoded += column.nbytes
        if not len(column):
            return np.zeros(0, np.int32), np.zeros(1, np.int64)
        layout = self._engine.encode_batch(awkward.from_arrow(column)).layout
        offsets = np.asarray(layout.offsets.data).astype(np.int64)
        ids = np.asarray(layout.content.data)[offsets[0] : offsets[-1]].astype(np.int32)
        return ids, offsets - offsets[0]


class WatchedBackend:
    """A fast engine, a sample of whose every batch is compared with the reference."""

    def __init__(self, fast: Backend, reference: Backend) -> None:
        self._fast, self._reference = fast, reference
        self.name = fast.name

    def encode(self, texts: Texts) -> Flat:
        if self._fast is self._reference or not len(texts):
            return self._reference.encode(texts)
        ids, offsets = self._fast.encode(texts)
        places = sorted({0, len(texts) - 1, len(texts) // 2})[: SAMPLE + 1]
        sample = [texts[place].as_py() if isinstance(texts, pa.Array) else texts[place] for place in places]
        expected, edges = self._reference.encode(sample)
        for number, place in enumerate(places):
            found = ids[offsets[place] : offsets[place + 1]]
            if not np.array_equal(found, expected[edges[number] : edges[number + 1]]):
                logger.warning(
                    "backend %s differs from tokenizers on %r; tokenizers takes over", self.name, sample[number]
                )
                self._fast, self.name = self._reference, self._reference.name
                return self._reference.encode(texts)
        return ids, offsets


def _gigatoken(engine: Tokenizer) -> Backend:
    import gigatoken

    backend = GigatokenBackend(engine.to_str())
    try:
        backend.encode(["a"])
    except (ValueError, RuntimeError, TypeError, gigatoken.gigatoken_rs.__dict__.get("Error", ValueError)) as error:
        raise TokenizerError(f"gigatoken does not load this tokenizer: {error}") from error
    return backend


FAST: dict[str, Callable[[Tokenizer], Backend]] = {"gigatoken": _gigatoken}


def choose(name: str, engine: Tokenizer, added: Sequence[str]) -> Backend:
    """The engine that was asked for; with ``auto`` the fastest that is installed and proves equal.

    Args:
        name: ``auto``, ``tokenizers`` or a fast engine's name.
        engine: the reference.
        added: added tokens, which are part of the proof.

    Raises:
        TokenizerError: the engine that was asked for is missing, does not load the tokenizer, or gives other ids.
    """
    reference = ReferenceBackend(engine)
    for fast in FAST if name == "auto" else [name]:
        if fast == reference.name:
            return reference
        try:
            backend = FAST[fast](engine)
            _prove(backend, reference, added)
        except ImportError as error:
            if name != "auto":
                raise TokenizerError(
                    f"backend: found {name!r}, which is not installed; expected an installed engine; "
                    f"fix: pip install {name}, or backend='auto'"
                ) from error
        except TokenizerError as error:
            if name != "auto":
                raise
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
