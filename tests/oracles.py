"""Slow, independent answers to "what is right?": plain Jinja renderings, rotated letters, token bytes.

Nothing here looks at how the package works: the oracle renders a conversation twice, once with rotated
letters, and whatever differs between the two equally long texts was written by the rotated messages.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

from jinja2 import TemplateError as JinjaError
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

Message = Mapping[str, Any]
# What templates look for inside text: tags, bracketed markers; these keep their letters.
KEPT = re.compile(r"<[^<>\n]{1,40}>|\[/?[A-Z_]{2,30}\]")
PLAIN_FAILURES = (JinjaError, TypeError, ValueError, KeyError, AttributeError, IndexError, ZeroDivisionError)


# plain Jinja


@dataclass(frozen=True)
class Plain:
    """A chat template as plain Jinja renders it in the installed transformers; `now` pins its clock."""

    template: str
    names: Mapping[str, Any]
    now: datetime | None = None

    def __call__(
        self,
        messages: Sequence[Message],
        tools: Sequence[Any] | None = None,
        prompt: bool = False,
        **kwargs: Any,
    ) -> str:
        compiled = _compiled(self.template)
        clean = [{key: value for key, value in message.items() if value is not None} for message in messages]
        chat = chat_template_utils._alias_reasoning_fields(copy.deepcopy(clean))
        if self.now is not None:
            kwargs["strftime_now"] = self.now.strftime
        names = {**self.names, **kwargs}
        text: str = compiled.render(
            messages=chat, tools=tools or None, documents=None, add_generation_prompt=prompt, **names
        )
        return text


@cache
def _compiled(template: str) -> Any:
    return chat_template_utils._compile_jinja_template(template)


def plain(template: str, tokenizer: PreTrainedTokenizerFast, now: datetime | None = None) -> Plain:
    """The plain renderer of a template with a tokenizer's special tokens."""
    return Plain(template, dict(tokenizer.special_tokens_map), now)


def chat_ids(
    tokenizer: PreTrainedTokenizerFast,
    template: str,
    messages: Sequence[Message],
    tools: Sequence[Any] | None = None,
    **kwargs: Any,
) -> list[int]:
    """The ids of transformers' `apply_chat_template`."""
    encoded = tokenizer.apply_chat_template(
        list(messages), tools=tools or None, chat_template=template, tokenize=True, **kwargs
    )
    return list(encoded["input_ids"])


# rotated letters


def rotate(text: str) -> str:
    """The text with its ASCII letters moved by 13, tags and bracketed markers aside; the length stays."""
    out, done = [], 0
    for match in KEPT.finditer(text):
        out += [_rot13(text[done : match.start()]), match.group()]
        done = match.end()
    return "".join([*out, _rot13(text[done:])])


def _rot13(text: str) -> str:
    return "".join(_rotated_letter(char) for char in text)


def _rotated_letter(char: str) -> str:
    if not (char.isascii() and char.isalpha()):
        return char
    base = ord("a") if char.islower() else ord("A")
    return chr((ord(char) - base + 13) % 26 + base)


def _rotate_value(value: Any) -> Any:
    """Rotates the strings of a JSON value; the keys of objects stay."""
    if isinstance(value, str):
        return rotate(value)
    if isinstance(value, Mapping):
        return {key: item if key == "type" else _rotate_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rotate_value(item) for item in value]
    return value


def rotate_message(message: Message) -> dict[str, Any]:
    """Content, reasoning and argument values, rotated; names stay, because templates look them up."""
    out = dict(message)
    for key in ("content", "reasoning_content"):
        if out.get(key):
            out[key] = _rotate_value(out[key])
    if out.get("tool_calls"):
        out["tool_calls"] = [_rotate_call(call) for call in out["tool_calls"]]
    return out


def _rotate_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(call["function"])
    function["arguments"] = _rotate_value(function["arguments"])
    return {**call, "function": function}


def letters(message: Message) -> int:
    """How many letters `rotate_message` changes."""
    return sum(a != b for a, b in zip(repr(dict(message)), repr(rotate_message(message)), strict=True))


def written_by(
    render: Callable[..., str], messages: Sequence[Message], which: Sequence[int], **kwargs: Any
) -> set[int]:
    """The positions (characters) of the rendered text that hold letters of the messages `which`."""
    turned = [rotate_message(m) if i in which else m for i, m in enumerate(messages)]
    before, after = render(messages, **kwargs), render(turned, **kwargs)
    if len(before) != len(after):
        raise ValueError("the two renderings differ in length: this template cannot be judged by rotation")
    return {i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b}


# token bytes


@cache
def _byte_of() -> dict[str, int]:
    """GPT-2's table from printable characters to bytes."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in kept}
    shift = 0
    for byte in range(256):
        if byte not in kept:
            table[chr(256 + shift)] = byte
            shift += 1
    return table


@lru_cache(maxsize=64)
def added_tokens(tokenizer: PreTrainedTokenizerFast) -> frozenset[str]:
    """The tokenizer's added tokens."""
    return frozenset(tokenizer.get_added_vocab())


def pieces(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> list[bytes]:
    """The bytes of each token; in SentencePiece-style vocabularies `▁` is a space, in added tokens too."""
    added = added_tokens(tokenizer)
    byte_level = "ByteLevel" in type(tokenizer.backend_tokenizer.decoder).__name__
    tokens = tokenizer.convert_ids_to_tokens(list(ids))
    return [_piece(token, token in added, byte_level) for token in tokens]


def _piece(token: str, added: bool, byte_level: bool) -> bytes:
    if added and byte_level:
        return token.encode()
    if byte_level:
        return bytes(_byte_of()[char] for char in token)
    if re.fullmatch(r"<0x[0-9A-F]{2}>", token):
        return bytes([int(token[3:5], 16)])
    return token.replace("▁", " ").encode()


def text_of(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> str:
    """The text of some ids, byte for byte; a cut character shows as a backslash escape."""
    return b"".join(pieces(tokenizer, ids)).decode("utf-8", "backslashreplace")


def runs(labels: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The half-open token ranges whose labels are not -100."""
    start: int | None = None
    for i, label in enumerate([*labels, -100]):
        if label != -100 and start is None:
            start = i
        elif label == -100 and start is not None:
            yield start, i
            start = None


def trained_texts(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int], labels: Sequence[int]) -> list[str]:
    """The text of every trained run of tokens."""
    return [text_of(tokenizer, ids[start:end]) for start, end in runs(labels)]


def trained_bytes(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int], labels: Sequence[int]) -> list[bool]:
    """For each byte of the decoded ids, whether its token is trained."""
    out: list[bool] = []
    for piece, label in zip(pieces(tokenizer, ids), labels, strict=True):
        out += [label != -100] * len(piece)
    return out


def token_starts(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> list[int]:
    """For each byte of the decoded ids, the byte at which its token starts."""
    out: list[int] = []
    for piece in pieces(tokenizer, ids):
        out += [len(out)] * len(piece)
    return out
