"""The preview: every token is shown with its colour, its boundaries and its bytes."""

from __future__ import annotations

import html
import itertools
import json
import re
from typing import Any

import pytest
import small_tokenizers

import instruct_fmt as ifmt
from instruct_fmt.embedded import sample_path
from instruct_fmt.errors import RowError
from instruct_fmt.look.preview import Preview, ShownToken, preview
from instruct_fmt.look.token_texts import token_texts

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
GREEN, RED = ("157", "114"), ("224", "217")


def chat(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


@pytest.fixture(scope="module")
def fmt() -> ifmt.Formatter:
    return ifmt.compile(None, "embedded")


@pytest.mark.parametrize("name", ["chatml", "llama3", "sentencepiece"])
@pytest.mark.parametrize("text", ["a b  c", "café 中文 🪆", "\n\tx\r\n", "Ġ▁<0x41>", "\x00\x7f"])
def test_the_bytes_of_the_tokens_are_the_text(name: str, text: str) -> None:
    tokenizer = small_tokenizers.build(name)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    joined = b"".join(token_texts(tokenizer, ids)).decode()
    expected = text if name != "sentencepiece" else " " + text.replace("▁", " ")
    assert joined == expected


def test_word_pieces_are_shown_by_name_and_unknown_ids_by_number() -> None:
    tokenizer = small_tokenizers.build("wordpiece")
    ids = tokenizer("questions", add_special_tokens=False)["input_ids"]
    assert [text.decode() for text in token_texts(tokenizer, ids)] == tokenizer.convert_ids_to_tokens(ids)
    assert token_texts(tokenizer, [10**6]) == [b"<id 1000000>"]


def test_pieces_follow_the_labels(fmt: ifmt.Formatter) -> None:
    row = chat("Why?", "Because.\nSo.")
    encoded = fmt.encode(row)
    (tokens,) = preview(fmt, row).rows
    assert [piece.trained for piece in tokens] == [label != -100 for label in encoded["labels"]]
    trained = "".join(piece.text for piece in tokens if piece.trained)
    assert trained == "Because.⏎\nSo.<|im_end|>"
    special = [piece.text for piece in tokens if piece.special]
    assert special == ["<|im_start|>", "<|im_end|>", "<|im_start|>", "<|im_end|>"]


def test_terminal_text(fmt: ifmt.Formatter) -> None:
    shown = str(fmt.preview(chat("Why?", "Because.")))
    header, body = shown.split("\n", 1)
    pattern = r"\d+ tokens: \d+ trained \(green\) in 1 part, \d+ masked \(red\); a turn ends in <\|im_end\|>"
    assert re.fullmatch(pattern, header)
    assert ESCAPES.sub("", body) == (
        "<|im_start|>user⏎\nWhy?<|im_end|>⏎\n<|im_start|>assistant⏎\nBecause.<|im_end|>⏎\n"
    )
    parts = re.findall(r"\x1b\[(?:1;)?30;48;5;(\d+)m([^\x1b]*)\x1b\[0m", body)
    green = "".join(text for colour, text in parts if colour in GREEN)
    red = "".join(text for colour, text in parts if colour in RED)
    assert green == "Because.<|im_end|>"
    assert red == "<|im_start|>user⏎Why?<|im_end|>⏎<|im_start|>assistant⏎⏎"


def test_neighbours_have_different_shades() -> None:
    tokens = tuple(ShownToken("x", trained, False) for trained in (True, True, False, False) * 3)
    colours = re.findall(r"48;5;(\d+)m", str(Preview((tokens,))))
    assert all(one != two for one, two in itertools.pairwise(colours))
    assert set(colours) == {*GREEN, *RED}


def test_parts_of_a_character_are_shown_as_bytes(fmt: ifmt.Formatter) -> None:
    (tokens,) = fmt.preview(chat("?", "🪡")).rows
    trained = [piece.text for piece in tokens if piece.trained]
    assert trained[-1] == "<|im_end|>"
    assert "".join(trained[:-1]).strip() == r"\xf0\x9f\xaa\xa1"


def test_text_cannot_drive_the_terminal_or_the_page(fmt: ifmt.Formatter) -> None:
    shown = fmt.preview(chat("\x1b[2J\u202e\r", "<script>&"))
    plain = ESCAPES.sub("", str(shown))
    assert r"\x1b[2J" in plain
    assert r"\u202e\r" in plain or r"\xe2" in plain
    assert "\x1b" not in plain
    assert "<script>" not in shown._repr_html_()


def test_notebook_and_rich_show_the_same_text(fmt: ifmt.Formatter) -> None:
    shown = fmt.preview(chat("a & b", "<b>"))
    plain = ESCAPES.sub("", str(shown))
    page = html.unescape(re.sub(r"<[^>]*>", "", shown._repr_html_().replace("<pre", "\n<pre")))
    assert page.strip() == plain.strip()
    assert shown.rich().plain == plain
    assert shown.plain().replace("⟦", "").replace("⟧", "") == plain
    assert "⟦<b><|im_end|>⟧⏎\n" in shown.plain()
    assert repr(shown) == f"<Preview: {plain.splitlines()[0]}>"


@pytest.mark.parametrize("colours", [None, "256"])
def test_a_console_without_colours_gets_marks(fmt: ifmt.Formatter, colours: Any) -> None:
    from rich.console import Console

    console = Console(color_system=colours, force_terminal=bool(colours), width=500, _environ={})
    with console.capture() as caught:
        console.print(fmt.preview(chat("a", "b")))
    assert ("⟦b" in caught.get()) == (colours is None)
    assert ("\x1b[" in caught.get()) == (colours is not None)


def test_every_row_of_the_sample_can_be_shown(fmt: ifmt.Formatter) -> None:
    for line in sample_path().read_text("utf-8").splitlines():
        row = json.loads(line)
        (tokens,) = fmt.preview(row).rows
        assert len(tokens) == len(fmt.encode(row)["input_ids"])


def test_every_row_that_one_row_becomes_is_shown() -> None:
    turns = [{"role": role, "content": text} for role, text in zip(["user", "assistant"] * 2, "abcd", strict=True)]
    shown = ifmt.compile(None, "embedded", history="expand").preview({"messages": turns})
    assert len(shown.rows) == 2
    assert [line.endswith("<|im_end|>") for line in str(shown).splitlines() if " tokens: " in line] == [True, True]


def test_a_bad_row_is_named(fmt: ifmt.Formatter) -> None:
    with pytest.raises(RowError):
        fmt.preview({"messages": []})
