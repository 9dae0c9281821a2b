"""Prompts and completions as text are read in one way: in every order, batch and process."""

from __future__ import annotations

import pickle
from typing import Any

import pyarrow as pa
import pytest
import small_tokenizers

import instruct_fmt as ifmt

PLAIN = {"prompt": "hi", "completion": "hello"}
MARKED = {"prompt": "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "completion": "hello<|im_end|>"}


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows))


def compile_for(template: str | None, **options: Any) -> ifmt.Formatter:
    return ifmt.compile(template, small_tokenizers.build("chatml"), **options)


def test_the_first_batch_decides_nothing() -> None:
    alone = compile_for("chatml").encode_batch(table(PLAIN)).table
    for rows in ([MARKED, PLAIN], [PLAIN, MARKED]):
        fmt = compile_for("chatml")
        batches = [fmt.encode_batch(table(row), number) for number, row in enumerate(rows)]
        assert [rejection.reason for batch in batches for rejection in batch.rejected] == ["control-token"]
        assert pa.concat_tables([batch.table for batch in batches]).equals(alone)


@pytest.mark.parametrize("row", [PLAIN, MARKED])
def test_another_process_knows_whose_template_it_is(row: dict[str, Any]) -> None:
    fmt = pickle.loads(pickle.dumps(compile_for(None)))
    with pytest.raises(ifmt.errors.UsageError, match="the tokenizer's own"):
        fmt.encode(row)
    given = pickle.loads(pickle.dumps(compile_for(fmt.tokenizer.chat_template)))
    assert given.encode(PLAIN) == compile_for("chatml", format="instruction").encode(PLAIN)


def test_the_template_chosen_by_hand_is_another_setting() -> None:
    own = compile_for(None)
    assert own.fingerprint != compile_for(own.tokenizer.chat_template).fingerprint


def test_messages_are_messages_under_any_template() -> None:
    row = {
        "prompt": [{"role": "user", "content": "hi"}],
        "completion": [{"role": "assistant", "content": "hello"}],
    }
    for template in (None, "chatml"):
        for format in (None, "instruction", "prompt_completion"):
            assert compile_for(template, format=format).encode(row) == compile_for("chatml").encode(PLAIN)


def test_the_doctor_says_how_rows_are_read() -> None:
    found = {finding.code: finding for finding in compile_for("chatml").check([PLAIN])}
    assert "read as instruction (1 rows)" in found["format"].what
    assert 'format="prompt_completion"' in found["format"].why
