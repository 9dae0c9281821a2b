"""A tokenizer as this package needs it: an own copy of its engine, the byte length of each id, and its ends.

In: a fast transformers tokenizer, or its contents. Out: a `Vocabulary`, which nothing outside can change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from instruct_fmt.errors import TokenizerError, shown
from instruct_fmt.tokenizer.variants import state_of, without_dummy_prefix
from instruct_fmt.types import Added, Ints

MAX_TOKEN, MAX_ID = 1000, 2**26
"""A model has a row of weights for each id, so that no real one is near."""
FEW_IDS = 20_000
"""So many are looked up by NumPy in less time than Arrow needs to be asked."""
LETTER = "a"


class Dummies(NamedTuple):
    """Where an engine writes a blank that a text does not have, such as SentencePiece's dummy prefix.

    Attributes:
        first: in front of a text, and in front of one that begins with a blank.
        behind: the same behind an added token.
    """

    first: tuple[bool, bool]
    behind: tuple[bool, bool]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a tokenizer is made of.

    Attributes:
        definition: its engine in its JSON form, without truncation and padding.
        special: its special tokens by name.
        chat_template: its chat template, or several by name, or None.
        eos, eos_id: its EOS, or None.
        pad_id: its padding, or None.
        name: what it was loaded by; empty if it was not.
    """

    definition: str
    special: Mapping[str, Any]
    chat_template: Any
    eos: str | None
    eos_id: int | None
    pad_id: int | None
    name: str


class Vocabulary:
    """What is read off a tokenizer.

    Args:
        contents: what the tokenizer is made of.
        backend: its engine, which nobody else has; None to make it.
    """

    def __init__(self, contents: Contents, backend: Tokenizer | None = None) -> None:
        self.contents = contents
        self.backend = backend if backend is not None else Tokenizer.from_str(contents.definition)
        self.definition, self.name = contents.definition, contents.name
        self.special, self.chat_template = contents.special, contents.chat_template
        self.eos, self.eos_id, self.pad_id = contents.eos, contents.eos_id, contents.pad_id
        self.prefix, self.suffix = self._ends()

    @classmethod
    def of(cls, tokenizer: Any, *, private: bool = False) -> Vocabulary:
        """What is read off a fast `transformers` tokenizer.

        Args:
            tokenizer: the tokenizer.
            private: whether nobody else has it; if somebody has, its engine is copied, so that neither its state nor a
                later change matters.

        Raises:
            TokenizerError: the tokenizer is not a fast one.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise TokenizerError(
                "",
                f"a {type(tokenizer).__name__} without a `tokenizers` backend",
                "a fast tokenizer",
                "load it with AutoTokenizer.from_pretrained(…), or convert it",
            )
        own, definition = _own(backend, private=private)
        if (highest := max(own.get_vocab(with_added_tokens=True).values(), default=0)) > MAX_ID:
            raise TokenizerError(
                "", f"a token with the id {highest:,}", f"ids up to {MAX_ID:,}", "correct tokenizer.json"
            )
        special = dict(tokenizer.special_tokens_map)
        if (long := max(map(len, map(str, special.values())), default=0)) > MAX_TOKEN:
            raise TokenizerError(
                "", f"a special token of {long:,} characters", f"at most {MAX_TOKEN}", "correct tokenizer_config.json"
            )
        template = tokenizer.chat_template
        named = isinstance(template, dict) and all(isinstance(one, str) for one in template.values())
        if template is not None and not isinstance(template, str) and not named:
            raise TokenizerError(
                "", f"the chat template {shown(template)}", "a text, or texts by name", "correct tokenizer_config.json"
            )
        contents = Contents(
            definition,
            special,
            template,
            tokenizer.eos_token,
            tokenizer.eos_token_id,
            tokenizer.pad_token_id,
            str(getattr(tokenizer, "name_or_path", "") or ""),
        )
        return cls(contents, own)

    @cached_property
    def digest(self) -> str:
        """A hash of the contents: the engine without padding and truncation, the special tokens, the template."""
        rest = json.dumps([self.special, self.chat_template], sort_keys=True)
        return hashlib.sha256(f"{self.definition}\n{rest}".encode()).hexdigest()

    @cached_property
    def _decoder(self) -> Any:
        return state_of(self.backend.decoder)

    @cached_property
    def added(self) -> tuple[Added, ...]:
        """The added tokens, special or not, by id."""
        tokens = self.backend.get_added_tokens_decoder()
        return tuple(Added(id, token.content, token.special, token.single_word) for id, token in sorted(tokens.items()))

    def shown(self, ids: npt.NDArray[np.int32]) -> Ints:
        """The places of ids that are added tokens of more than blanks."""
        lowest, flags = self._shown
        places: Ints = np.flatnonzero(ids >= lowest)  # added tokens are mostly the highest
        return places[flags.take(ids[places], mode="clip")]

    @cached_property
    def _shown(self) -> tuple[int, npt.NDArray[np.bool_]]:
        """The lowest of those ids, and flags for ids; the last one stands for all that are higher."""
        ids = [token.id for token in self.added if token.visible]
        flags = np.zeros(max(ids, default=0) + 2, np.bool_)
        flags[ids] = True
        return min(ids, default=len(flags)), flags

    def _ends(self) -> tuple[list[int], list[int]]:
        """The ids that the tokenizer itself puts before and behind a text."""
        bare = self.backend.encode(LETTER, add_special_tokens=False).ids
        full = self.backend.encode(LETTER, add_special_tokens=True).ids
        for at in range(len(full) - len(bare) + 1):
            if full[at : at + len(bare)] == bare:
                return full[:at], full[at + len(bare) :]
        return [], []

    @cached_property
    def continuation(self) -> Tokenizer:
        """The engine for a text that continues another one: no dummy prefix in the middle."""
        return without_dummy_prefix(self.backend)

    @cached_property
    def dummies(self) -> Dummies | None:
        """Where the engine writes a blank that the text does not have; None where it never does."""
        if self.continuation is self.backend or not self.has_lengths:
            return None
        token = next((token.content for token in self.added if token.visible), None)

        def more(before: str, text: str) -> bool:
            ids = np.array(self.ids_of(before + text), np.int32)
            return int(self.lengths(ids).sum()) > len((before + text).encode())

        behind = (more(token, LETTER), more(token, " " + LETTER)) if token else (False, False)
        return Dummies((more("", LETTER), more("", " " + LETTER)), behind)

    def ids_of(self, text: str) -> list[int]:
        """The ids of the beginning of a text."""
        ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        return ids

    @cached_property
    def byte_level(self) -> bool:
        return _has(self._decoder, "ByteLevel")

    @cached_property
    def normalises(self) -> bool:
        """Whether a normaliser can change a text so that byte lengths add up by accident."""
        return self.byte_level and self.backend.normalizer is not None

    @cached_property
    def has_lengths(self) -> bool:
        """Whether the vocabulary tells how many bytes an id stands for."""
        return self.byte_level or _has(self._decoder, "ByteFallback") or _has(self._decoder, "Metaspace")

    def lengths(self, ids: npt.NDArray[np.int32]) -> Ints:
        """For each id the number of bytes that it stands for; only where `has_lengths`."""
        sizes = self._sizes
        if len(ids) and int(ids.max()) >= len(sizes):
            self._sizes = sizes = np.concatenate([sizes, self._sizes_from(len(sizes), int(ids.max()) + 1)])
        if len(ids) < FEW_IDS:
            return sizes.take(ids)
        # Arrow's look-up takes 32-bit ids as they are, and lets other threads work.
        found: Ints = pc.take(pa.array(sizes), pa.array(ids), boundscheck=False).to_numpy()
        return found

    @cached_property
    def _sizes(self) -> Ints:
        return self._sizes_from(0, self.backend.get_vocab_size())

    def _sizes_from(self, start: int, stop: int) -> Ints:
        """The bytes of each id of a range, in few bits; ids that the vocabulary lacks never come."""
        tokens = map(str, map(self.backend.id_to_token, range(start, stop)))
        sizes = np.fromiter(map(len if self.byte_level else _piece_length, tokens), np.int64, stop - start)
        for token in self.added:
            if start <= token.id < stop:
                text = token.content if self.byte_level else token.content.replace("▁", " ")
                sizes[token.id - start] = len(text.encode())
        return sizes.astype(np.int16 if sizes.max(initial=0) <= np.iinfo(np.int16).max else np.int64)

    @cached_property
    def has_empty(self) -> bool:
        """Whether an id stands for no byte."""
        return not self._sizes.all()

    @cached_property
    def written_ends(self) -> tuple[str | None, str | None]:
        """What to write in front of a text for BOS, and behind it for EOS; None where only the ids can be added."""
        if self.continuation is not self.backend:  # a text behind BOS may lose its dummy space
            return None if self.prefix else "", None
        prefix = "".join(self.backend.id_to_token(id) or "" for id in self.prefix)
        eos, bare = self.eos or "", self.backend.encode(LETTER, add_special_tokens=False).ids
        written = [self.backend.encode(text, add_special_tokens=False).ids for text in (prefix + LETTER, LETTER + eos)]
        ends = [] if self.eos_id is None else [self.eos_id]
        return prefix if written[0] == self.prefix + bare else None, eos if written[1] == bare + ends else None


def _has(part: Any, kind: str) -> bool:
    if isinstance(part, list):
        return any(_has(item, kind) for item in part)
    if isinstance(part, dict):
        return part.get("type") == kind or any(_has(item, kind) for item in part.values())
    return False


def _piece_length(token: str) -> int:
    """The bytes that a piece of SentencePiece's stands for: ``<0x0A>`` is one, ``▁`` is a space."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return 1
    return len(token.replace("▁", " ").encode())


def _own(backend: Tokenizer, *, private: bool) -> tuple[Tokenizer, str]:
    """An engine of our own without truncation and padding, and its JSON form."""
    definition = backend.to_str()
    own = backend if private else Tokenizer.from_str(definition)
    if backend.truncation is None and backend.padding is None:
        return own, definition
    own.no_truncation()
    own.no_padding()
    return own, own.to_str()
