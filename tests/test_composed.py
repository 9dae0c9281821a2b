"""Text that a tokenizer composes, NFC: columns are composed beforehand, and give the ids of the text as it was."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import byte_level

import instruct_fmt as ifmt
from instruct_fmt.common.nfc import composed_column
from instruct_fmt.template.plan.planning import PLANS_OFF

SIGNS = [
    "a",
    "e",
    " ",
    "é",
    "\u0301",
    "\u0327",
    "\u212b",
    "ᄒ",
    "ᅡ",
    "ᆫ",
    "中",
    "\u0958",
    "—",
    "\u2000",
    "\u2adc",
    "’",
    ".",
]
TEXT = st.lists(st.sampled_from(SIGNS), max_size=12).map("".join)


@settings(deadline=None)  # the first call imports
@given(st.lists(TEXT, max_size=6), st.integers(0, 2))
def test_columns_are_composed(texts: list[str], start: int) -> None:
    column = pa.array(texts, pa.large_string())[start:]
    wanted = [unicodedata.normalize("NFC", text) for text in texts[start:]]
    found = composed_column(column)
    assert found.to_pylist() == wanted
    assert (found is column) == (wanted == texts[start:])


def test_nothing_that_is_passed_over_changes() -> None:
    """No character alone, nor between letters, but those that the columns are searched for."""
    codes = (code for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    changing = [code for code in codes if unicodedata.normalize("NFC", f"a{chr(code)}a") != f"a{chr(code)}a"]
    texts = [f"a{chr(code)}a" for code in changing]
    assert len(texts) > 1000
    assert composed_column(pa.array(texts, pa.large_string())).to_pylist() == [
        unicodedata.normalize("NFC", text) for text in texts
    ]


@lru_cache(maxsize=16)
def _formatter(template: str, history: str) -> ifmt.Formatter:
    from transformers import PreTrainedTokenizerFast

    special = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    engine = byte_level(special, nfc=True)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=engine, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    return ifmt.compile(template, tokenizer, history=history, max_rejected=1.0)  # type: ignore[arg-type]


# Literals beside what a row says, some of which a combining sign of the row joins.
PLAIN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
JOINING = PLAIN.replace("{{ m.role }}\n{{ m.content }}", "{{ m.role }}e{{ m.content | trim }}").replace(
    "assistant\n{% endif %}", "assistante{% endif %}"
)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.lists(TEXT, min_size=2, max_size=4).filter(lambda texts: len(texts) % 2 == 0), min_size=1, max_size=9
    ),
    template=st.sampled_from([PLAIN, JOINING]),
    history=st.sampled_from(["auto", "expand"]),
)
def test_the_same_ids_as_row_by_row(rows: list[list[str]], template: str, history: str) -> None:
    fmt = _formatter(template, history)
    made: list[dict[str, Any]] = [
        {"messages": [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]}
        for texts in rows
    ]
    table = pa.Table.from_pylist(made * 8)
    found, ordinary = fmt.encode_batch(table), fmt.planned(PLANS_OFF).encode_batch(table)
    assert found.table.equals(ordinary.table)
    assert found.rejected == ordinary.rejected
    assert found.unread == ordinary.unread
    for texts, ids in zip(rows, ordinary.table.column("input_ids").to_pylist(), strict=False):
        if (
            template == PLAIN
            and history == "auto"
            and texts[1].strip()
            and len(texts) == 2
            and len(ordinary.rejected) == 0
        ):
            said = f"<|im_start|>user\n{texts[0]}<|im_end|>\n<|im_start|>assistant\n{texts[1]}<|im_end|>\n"
            assert fmt.tokenizer.decode(ids) == unicodedata.normalize("NFC", said)


@pytest.mark.parametrize("text", ["cafe\u0301", "\u212bngstro\u0308m", "Vie\u0323\u0302t", "\u1112\u1161\u11ab"])
def test_rows_that_are_composed_go_by_plans(text: str) -> None:
    fmt = _formatter(PLAIN, "auto")
    row = {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": f"{text} too"}]}
    composed = {
        "messages": [{**one, "content": unicodedata.normalize("NFC", one["content"])} for one in row["messages"]]
    }
    batch = fmt.encode_batch(pa.Table.from_pylist([row] * 10))
    assert batch.table.equals(fmt.encode_batch(pa.Table.from_pylist([composed] * 10)).table)
    assert batch.table.to_pylist()[0] == fmt.encode(row)
    assert batch.counts["path:plan"] == 10


def test_signs_in_another_order_are_no_reason_to_refuse() -> None:
    """On its way to NFC the cedilla goes in front of the acute: tokens have no places until the text is composed."""
    fmt = _formatter(PLAIN, "auto")
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "a\u0301\u0327"}]}
    encoded = fmt.encode(row)
    assert fmt.tokenizer.decode([id for id in encoded["labels"] if id != -100]) == "\u00e1\u0327<|im_end|>"
    for found in (fmt, fmt.planned(PLANS_OFF)):
        assert found.encode_batch(pa.Table.from_pylist([row] * 10)).table.to_pylist() == [encoded] * 10


@pytest.mark.real
@pytest.mark.parametrize("name", ["qwen3", "gemma3"])
def test_real_tokenizers_give_the_same_ids(name: str, real_tokenizers: Path) -> None:
    """Beside `apply_chat_template` on the text as it was written, composed or not; one with NFC and one without."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real_tokenizers / name)
    said = [
        "cafe\u0301 au lait",
        "\u212bngstro\u0308m",
        "Vie\u0323\u0302t Nam",
        "\u1112\u1161\u11ab",
        "a\u0301\u0327",
        "plain",
    ]
    rows = [
        {"messages": [{"role": "user", "content": f"{one}?"}, {"role": "assistant", "content": f"{two}."}]}
        for one in said
        for two in said
    ]
    fmt = ifmt.compile(PLAIN, str(real_tokenizers / name), boundary="joint", append_eos="never", stop=["<|im_end|>"])
    found = fmt.encode_batch(pa.Table.from_pylist(rows))
    wanted = [
        tokenizer.apply_chat_template(row["messages"], chat_template=PLAIN, tokenize=True, return_dict=False)
        for row in rows
    ]
    assert found.table.column("input_ids").to_pylist() == wanted
