"""Tokenizer engines behind one protocol: texts in, flat ids and row offsets out.

`tokenizers` is the reference. A faster engine is taken only where it gives the reference's ids on a list of awkward
texts, and a sample of each run is encoded by both; at the first difference the reference takes over, loudly.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib import import_module

import numpy as np

from instruct_fmt.common.engines import ENGINES
from instruct_fmt.common.foreign_errors import ForeignError, foreign_errors
from instruct_fmt.common.interrupts import interrupts_later
from instruct_fmt.encode.engines.backend import Backend
from instruct_fmt.encode.engines.reference import ReferenceBackend
from instruct_fmt.encode.engines.watched import WatchedBackend
from instruct_fmt.errors import TokenizerError
from instruct_fmt.tokenizer.vocabulary import Vocabulary

logger = logging.getLogger("instruct_fmt")


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


def choose(name: str, vocabulary: Vocabulary) -> Backend:
    """The engine that was asked for; with ``auto`` the fastest that is installed and proves equal.

    Args:
        name: ``auto``, ``tokenizers`` or a fast engine's name.
        vocabulary: the tokenizer; its engine is the reference, its added tokens are part of the proof.

    Raises:
        TokenizerError: the engine that was asked for is missing, does not load the tokenizer, or gives other ids.
    """
    return _chosen(name, vocabulary.definition, ReferenceBackend(vocabulary.backend), vocabulary)


def choose_continued(backend: Backend, vocabulary: Vocabulary) -> Backend:
    """The engine for parts that continue a row: the same, or one without the blank in front that proves equal, too."""
    if vocabulary.continuation is vocabulary.backend:
        return backend
    reference = ReferenceBackend(vocabulary.continuation)
    try:
        return _chosen(backend.name, vocabulary.continuation.to_str(), reference, vocabulary)
    except TokenizerError as error:
        logger.info("backend %s, for parts that continue a row: %s", backend.name, error)
        return reference


def _chosen(name: str, definition: str, reference: Backend, vocabulary: Vocabulary) -> Backend:
    added = [token.content for token in vocabulary.added]
    for fast in ENGINES if name == "auto" else [name]:
        if fast == reference.name:
            return reference
        try:
            with interrupts_later(), foreign_errors():  # an engine imports other libraries, and drops an interrupt
                backend = import_module(ENGINES[fast].module).make(definition)
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
