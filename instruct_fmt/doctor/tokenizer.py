"""What a fine-tuner must know about a tokenizer, whatever the template.

In: a formatter. Out: findings; each comes from what the tokenizer does or says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from instruct_fmt.doctor.findings import Finding
from instruct_fmt.errors import shown
from instruct_fmt.formatter import Formatter
from instruct_fmt.tokenizer.loading import json_beside

__all__ = ["check_tokenizer"]

# Letters of several scripts and an emoji: a vocabulary without bytes to fall back on knows some of them not.
_LETTERS = "a é ж 北 ひ 😀"
_SHOWN = 8


def check_tokenizer(fmt: Formatter) -> Iterator[Finding]:
    """Findings about the tokenizer alone."""
    yield from _pad(fmt)
    yield from _adds_eos(fmt)
    yield from _plain_added(fmt)
    yield from _alignment(fmt)
    yield from _loses(fmt)
    yield from _embeddings(fmt)


def _pad(fmt: Formatter) -> Iterator[Finding]:
    vocabulary = fmt.vocabulary
    pad = fmt.tokenizer.pad_token
    if vocabulary.pad_id is None:
        eos = vocabulary.eos
        yield Finding(
            "note" if eos else "warning",
            "no-pad",
            "the tokenizer names no pad token",
            f"batches are padded with EOS {shown(eos)}, by length, so no EOS leaves the loss; other collators fail, or "
            "mask every EOS"
            if eos
            else "there is no EOS either that could stand in for it, so no batch can be padded",
            "use fmt.sft_kwargs() or instruct_fmt.collate.Collator" if eos else "set tokenizer.pad_token",
        )
    elif pad in fmt.stop.strings:
        which = "EOS" if pad == vocabulary.eos else "a stop of the template"
        yield Finding(
            "note",
            "pad-is-stop",
            f"the pad token {shown(pad)} is {which}",
            "here padding goes by length; a collator that masks by pad token takes every such stop out of the loss",
            "use instruct_fmt.collate.Collator, or keep the prepared labels; never mask by pad token",
        )


def _adds_eos(fmt: Formatter) -> Iterator[Finding]:
    suffix = fmt.vocabulary.suffix
    if suffix:
        tokens = fmt.tokenizer.convert_ids_to_tokens(suffix)
        yield Finding(
            "note",
            "tokenizer-adds-end",
            f"the tokenizer itself puts {', '.join(map(repr, tokens))} behind any text",
            "it is not used here, so nothing ends twice; a prompt tokenized with it looks finished to the model",
            "when you serve, tokenize prompts with add_special_tokens=False",
        )


def _plain_added(fmt: Formatter) -> Iterator[Finding]:
    """Added tokens that decoding does not hide, and that a row's text would become but for the policy."""
    plain = [token.content for token in fmt.vocabulary.added if not token.special and token.content.strip()]
    if not plain:
        return
    more = f" and {len(plain) - _SHOWN} more" if len(plain) > _SHOWN else ""
    policy = fmt.settings.control_tokens or "text"
    fates = {
        "text": "in an assistant's text they become the token, if they are no header or stop; elsewhere they are text",
        "error": "a row whose text holds one outside of an assistant's message is rejected",
        "allow": "text of a row that spells one becomes the token, whoever wrote it",
    }
    yield Finding(
        "note",
        "added-not-special",
        f"added tokens with special=False: {', '.join(map(repr, plain[:_SHOWN]))}{more}",
        f"decode(skip_special_tokens=True) shows them; {fates[policy]}",
        "",
    )


def _alignment(fmt: Formatter) -> Iterator[Finding]:
    if not fmt.vocabulary.has_lengths:
        yield Finding(
            "note",
            "no-byte-lengths",
            "the vocabulary does not tell how many bytes a token stands for",
            "tokens are placed by the tokenizer's offsets, which are tested on every row; this is slower, and rows "
            "whose offsets fail the test are rejected",
            "",
        )


def _loses(fmt: Formatter) -> Iterator[Finding]:
    backend = fmt.vocabulary.backend

    def ids(text: str) -> list[int]:
        return list(backend.encode(text, add_special_tokens=False).ids)

    if ids("a\n\n  b") == ids("a b"):
        yield Finding(
            "warning",
            "loses-white-space",
            "'a\\n\\n  b' and 'a b' have the same ids",
            "line ends and indentation of the data and of the template are not in the ids",
            "use a tokenizer that keeps white space for text with lines or code",
        )
    unknown = fmt.tokenizer.unk_token_id
    lost = [letter for letter in _LETTERS.split() if unknown is not None and unknown in ids(letter)]
    if lost:
        yield Finding(
            "warning",
            "unknown-characters",
            f"{', '.join(map(repr, lost))} become {shown(fmt.tokenizer.unk_token)}",
            "what the vocabulary does not know is lost, and an answer that holds it trains the unknown token",
            "use a tokenizer with bytes to fall back on, or leave such rows out",
        )


def _embeddings(fmt: Formatter) -> Iterator[Finding]:
    """Compare the highest id with the model's `config.json`, where one lies beside the tokenizer."""
    path = Path(str(getattr(fmt.tokenizer, "name_or_path", "") or "")) / "config.json"
    if not path.is_file():
        return
    config = json_beside(path)
    text = config.get("text_config") if isinstance(config, dict) else None
    size = next(
        (found["vocab_size"] for found in (config, text) if isinstance(found, dict) and "vocab_size" in found), 0
    )
    highest = max(fmt.vocabulary.backend.get_vocab(with_added_tokens=True).values())
    if isinstance(size, int) and 0 < size <= highest:
        yield Finding(
            "error",
            "ids-outside-the-model",
            f"the tokenizer's highest id is {highest}; the model has {size} embeddings",
            "an id without an embedding stops the run on the CPU, and gives nonsense or a device error on a GPU",
            f"model.resize_token_embeddings({highest + 1}) before training",
        )
