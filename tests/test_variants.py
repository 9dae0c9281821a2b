"""Engines over the same model give the ids of engines that are read again from a changed definition."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import build, fresh
from tokenizers import AddedToken, Tokenizer

from instruct_fmt.encode.control import ControlTokens
from instruct_fmt.tokenizer.variants import renamed, without_dummy_prefix
from instruct_fmt.tokenizer.vocabulary import Vocabulary

NAMES = ["chatml_nfc", "llama3", "many", "sentencepiece", "unigram", "wordpiece", "chatml_normalised"]
TEXT = st.lists(
    st.sampled_from(["a", "Yes", " ", "\n\n", "é", "中", "😀", "<|im_end|>", "</s>", "[Q]", "▁"]), max_size=8
)


def _engine(name: str) -> Tokenizer:
    found: Tokenizer = build(name).backend_tokenizer
    return found


def _read_again(engine: Tokenizer, names: dict[str, str]) -> Tokenizer:
    spec: dict[str, Any] = json.loads(engine.to_str())
    spec["post_processor"] = None
    for token in spec["added_tokens"]:
        if token["content"] in names:
            token.update(content=names[token["content"]], single_word=False)
    return Tokenizer.from_str(json.dumps(spec))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None)
@given(pieces=TEXT)
def test_renamed_tokens(name: str, pieces: list[str]) -> None:
    engine, text = _engine(name), "".join(pieces)
    tokens = sorted(engine.get_added_tokens_decoder().items())
    names = {token.content: f"\uf8ff\ue200{number}\uf8ff" for number, (_, token) in enumerate(tokens)}
    changed, wanted = renamed(engine, names, continues=False), _read_again(engine, names)
    assert changed.encode(text, add_special_tokens=False).tokens == wanted.encode(text, add_special_tokens=False).tokens
    assert engine.to_str() == build(name).backend_tokenizer.to_str()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None)
@given(pieces=TEXT)
def test_text_that_continues_another(name: str, pieces: list[str]) -> None:
    """Behind a character that ends a word, the ids are those that the text has there."""
    engine, text = _engine(name), "".join(pieces)
    changed = without_dummy_prefix(engine)
    assert (changed.get_added_tokens_decoder().keys()) == engine.get_added_tokens_decoder().keys()
    if changed is engine:
        return
    assert not changed.encode("a", add_special_tokens=False).tokens[0].startswith("▁")
    assert "▁" not in "".join(changed.encode(text.replace(" ", "").replace("▁", ""), add_special_tokens=False).tokens)


def test_a_decoder_puts_nothing_in_front() -> None:
    """A byte-level decoder says `add_prefix_space` and means nothing by it: the engine continues a text as it is."""
    engine = _engine("chatml")
    assert json.loads(engine.decoder.__getstate__())["add_prefix_space"]
    assert without_dummy_prefix(engine) is engine


def test_ids_of_added_tokens_that_move() -> None:
    """A word of the model's that is an added token takes a new id when it is renamed, and the next one moves on: in a
    row they keep the tokenizer's own."""
    tokenizer = fresh("chatml")
    tokenizer.add_tokens([AddedToken("a"), AddedToken("\n\n\n", normalized=False)])
    vocabulary = Vocabulary.of(tokenizer)
    control = ControlTokens(vocabulary, ["<|im_end|>"])
    text = "Yes.\n\n\n<|im_end|>"
    found = control.encode(text, control.written(text)[-1:], continues=False)
    assert vocabulary.backend.token_to_id("\n\n\n") in found.ids
    assert vocabulary.backend.token_to_id("<|im_end|>") not in found.ids
    assert "".join(vocabulary.backend.decode([id], skip_special_tokens=False) for id in found.ids) == text
