"""The bytes that a token stands for.

In: a fast tokenizer and ids. Out: for each id its bytes, also where a token is only a part of a character.
They are for showing: where the decoder is neither byte-level nor SentencePiece-like, they are token names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

__all__ = ["token_texts"]

_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[bytes]:
    """The bytes of each token: UTF-8, or a piece of it.

    Args:
        tokenizer: a transformers fast tokenizer.
        ids: token ids; one that the vocabulary lacks gives ``<id 99>``.

    >>> from transformers import AutoTokenizer
    >>> from instruct_fmt.embedded import tokenizer_path
    >>> tokenizer = AutoTokenizer.from_pretrained(tokenizer_path())
    >>> token_texts(tokenizer, tokenizer("ß<|im_end|>")["input_ids"])[-1]
    b'<|im_end|>'
    """
    decoder = repr(tokenizer.backend_tokenizer.decoder)
    added = tokenizer.added_tokens_decoder
    texts = []
    for token in map(int, ids):
        name = tokenizer.convert_ids_to_tokens(token) if token < len(tokenizer) else None
        if name is None:
            texts.append(f"<id {token}>".encode())
        elif token in added:
            texts.append(str(added[token]).encode())
        else:
            texts.append(_bytes(name, decoder))
    return texts


def _bytes(name: str, decoder: str) -> bytes:
    if "ByteLevel" in decoder:
        table = _byte_of_char()
        return b"".join(table.get(char) or char.encode() for char in name)
    fallback = _FALLBACK.fullmatch(name) if "ByteFallback" in decoder else None
    if fallback:
        return bytes.fromhex(fallback[1])
    return (name.replace("▁", " ") if "▁" in decoder else name).encode()


@cache
def _byte_of_char() -> dict[str, bytes]:
    """The characters that byte-level BPE writes for bytes: `bytes_to_unicode` of GPT-2's encoder.py."""
    same = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in same]
    chars = [(chr(byte), byte) for byte in same] + [(chr(256 + n), byte) for n, byte in enumerate(moved)]
    return {char: bytes([byte]) for char, byte in chars}
