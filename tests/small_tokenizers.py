"""Small tokenizers, trained in process and offline: a name comes in, a fast transformers tokenizer goes out.

`build(name)` returns the same object each time; `fresh(name)` a new one, for tests that change it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "The user asks a question and the assistant gives a short answer in plain words.",
    "system user assistant tool function call result name arguments content role message",
    "What is the weather in Paris today? It is sunny, 21 degrees, with a light wind.",
    "### Instruction:\nWrite a poem about the sea.\n\n### Response:\nThe sea is wide.\n\n### Input:\nblue",
    '{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}',
    "USER: hello there\nASSISTANT: hello to you, 1. one 2. two 3. three",
    "def area(width, height):\n    return width * height\n",
    "I think that I think, therefore I write. Yes. No. Maybe so, maybe not, who knows?",
    "北京 天气 很好 你好 中文 café naïve Ünïcödé 😀 🎉",
]

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN_ADDED = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
LLAMA3_SPECIAL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|python_tag|>",
)
MANY_SPECIAL = (
    *(
        "<s>",
        "</s>",
        "[INST]",
        "[/INST]",
        "<|user|>",
        "<|assistant|>",
        "<|system|>",
        "<|observation|>",
        "<|end|>",
    ),
    *("<|eom|>", "<|bom|>", "<|return|>", "<|start|>", "<|message|>", "<|channel|>", "<|call|>"),
    *(
        "<start_of_turn>",
        "<end_of_turn>",
        "<|turn>",
        "<turn|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
    ),
)


# Line breaks in a row, and behind signs, as in code and lists: real vocabularies have a token for each.
LINES = ["one\n\ntwo\n\n\nthree\n\n\n\nfour", "a>\nb>\n\nc>\n", "x:\ny:\n\nz:\n", "1.\n2.\n\n3.\n", "p ><q ><r ><"] * 8


def byte_level(
    special: Iterable[str], added: Iterable[str] = (), nfc: bool = False, corpus: Iterable[str] = CORPUS
) -> Tokenizer:
    """A byte-level BPE, like GPT-2's: every byte has a token."""
    tokenizer = Tokenizer(models.BPE())
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in added])
    return tokenizer


def sentencepiece_bpe() -> Tokenizer:
    """Like Llama 2's: spaces become `▁`, one is put in front, and unknown characters fall back to bytes."""
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    scratch = Tokenizer(models.BPE(unk_token="<unk>"))
    scratch.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=["<unk>", "<s>", "</s>", *fallback],
        show_progress=False,
        limit_alphabet=90,
    )
    scratch.train_from_iterator([line.replace("\n", " ") for line in CORPUS], trainer)
    model = _bpe_parts(scratch)
    tokenizer = Tokenizer(models.BPE(**model, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = _bos("<s>", tokenizer)
    return tokenizer


def _bpe_parts(tokenizer: Tokenizer) -> dict[str, Any]:
    model = json.loads(tokenizer.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(pair) for pair in model["merges"]]}


def metaspace_unigram() -> Tokenizer:
    """Like T5's: a Unigram model over `▁` words; unknown characters become `<unk>`."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([line.replace("\n", " ") for line in CORPUS] * 3, trainer)
    return tokenizer


def wordpiece() -> Tokenizer:
    """Like BERT's: words and `##` pieces, no white space; [CLS] and [SEP] are put around."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=500, special_tokens=["[UNK]", "[CLS]", "[SEP]", "[PAD]"], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def _bos(token: str, tokenizer: Tokenizer, eos: str | None = None) -> Any:
    """A post-processor that puts BOS in front and, if named, EOS behind."""
    single = f"{token} $A" + (f" {eos}" if eos else "")
    names = [token, *([eos] if eos else [])]
    return processors.TemplateProcessing(
        single=single, special_tokens=[(name, tokenizer.token_to_id(name)) for name in names]
    )


def _fast(tokenizer: Tokenizer, template: str | None = None, **options: Any) -> PreTrainedTokenizerFast:
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **options)
    fast.chat_template = template
    return fast


def _qwen(nfc: bool = False, **options: Any) -> PreTrainedTokenizerFast:
    names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", **options}
    names = {key: value for key, value in names.items() if value is not None}
    return _fast(byte_level(QWEN_SPECIAL, QWEN_ADDED, nfc), CHATML, **names)


def _llama3(eos_too: bool = False) -> PreTrainedTokenizerFast:
    tokenizer = byte_level(LLAMA3_SPECIAL)
    tokenizer.post_processor = _bos("<|begin_of_text|>", tokenizer, "<|eot_id|>" if eos_too else None)
    names = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "pad_token": "<|end_of_text|>"}
    return _fast(tokenizer, LLAMA3, **names)


def _many(**options: Any) -> PreTrainedTokenizerFast:
    """One tokenizer for many families: BOS `<s>`, EOS `</s>`, and the markers of well-known templates."""
    return _fast(byte_level(MANY_SPECIAL, QWEN_ADDED), **{"bos_token": "<s>", "eos_token": "</s>", **options})


def _truncating() -> PreTrainedTokenizerFast:
    """Somebody left truncation and padding switched on in the backend, and the padding is on the left."""
    tokenizer = byte_level(QWEN_SPECIAL, QWEN_ADDED)
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(direction="left", length=32, pad_id=tokenizer.token_to_id("<|endoftext|>"))
    names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    return _fast(tokenizer, CHATML, padding_side="left", **names)


def _split_digits(corpus: Iterable[str] = CORPUS) -> PreTrainedTokenizerFast:
    """A byte-level BPE that splits like Llama 3's: by a pattern, digits in groups of three."""
    tokenizer = byte_level(QWEN_SPECIAL, QWEN_ADDED, corpus=corpus)
    pattern = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return _fast(tokenizer, CHATML, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def _normalised() -> PreTrainedTokenizerFast:
    """Special tokens are looked for in the normalised text, so that other characters can become them."""
    tokenizer = byte_level(())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=True) for token in QWEN_SPECIAL])
    return _fast(tokenizer, CHATML, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def _whole_words() -> PreTrainedTokenizerFast:
    """Added tokens that match whole words only, or take the white space around them along."""
    tokenizer = byte_level(QWEN_SPECIAL)
    tokenizer.add_tokens([AddedToken("sea", single_word=True, normalized=False)])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=True, normalized=False)])
    return _fast(tokenizer, CHATML, eos_token="<|im_end|>", pad_token="<|endoftext|>")


SP_NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
BUILDERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "chatml": _qwen,
    "chatml_special_think": lambda: _fast(
        byte_level((*QWEN_SPECIAL, *QWEN_ADDED)), CHATML, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    ),
    "chatml_nfc": lambda: _qwen(nfc=True),
    "chatml_pad_is_eos": lambda: _qwen(pad_token="<|im_end|>"),
    "chatml_no_eos": lambda: _qwen(eos_token=None, pad_token=None),
    "chatml_eot_eos": lambda: _qwen(eos_token="<|endoftext|>"),
    "chatml_bos_eos": lambda: _qwen(bos_token="<|endoftext|>", eos_token="<|endoftext|>"),
    "chatml_digits": _split_digits,
    "chatml_lines": lambda: _split_digits([*CORPUS, *LINES]),
    "chatml_truncating": _truncating,
    "chatml_normalised": _normalised,
    "chatml_whole_words": _whole_words,
    "llama3": _llama3,
    "llama3_adds_eos": lambda: _llama3(eos_too=True),
    "many": _many,
    "many_turn_end": lambda: _many(eos_token="<end_of_turn>"),
    "sentencepiece": lambda: _fast(sentencepiece_bpe(), **SP_NAMES),
    "unigram": lambda: _fast(metaspace_unigram(), **SP_NAMES),
    "wordpiece": lambda: _fast(
        wordpiece(),
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        eos_token="[SEP]",
    ),
}


def fresh(name: str) -> PreTrainedTokenizerFast:
    """A new tokenizer, trained again."""
    return BUILDERS[name]()


@cache
def build(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer of that name, made once."""
    return fresh(name)


def with_markers(markers: Iterable[str]) -> PreTrainedTokenizerFast:
    """The tokenizer of the template corpus: every marker of the templates is one special token."""
    names = ["<s>", "</s>", *sorted(set(markers) - {"<s>", "</s>"})]
    return _fast(byte_level(names), bos_token="<s>", eos_token="</s>", unk_token="</s>", pad_token="</s>")
