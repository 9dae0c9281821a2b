"""Conversations that are too long lose their oldest exchanges: what is left is a conversation of its own, as served."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import instruct_fmt as ifmt
from instruct_fmt.errors import RowError
from instruct_fmt.template.plan.planning import PLANS_OFF

SYSTEM = {"role": "system", "content": "Be brief."}


def _exchange(number: int, words: int = 3) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": f"Question {number}? " + "why " * words},
        {"role": "assistant", "content": f"Answer {number}."},
    ]


def _row(*numbers: int, words: int = 3, system: bool = True) -> dict[str, Any]:
    return {"messages": [*([SYSTEM] if system else []), *(m for n in numbers for m in _exchange(n, words))]}


@lru_cache(maxsize=32)
def _formatter(max_length: int | None, history: str = "auto", template: str = "chatml") -> ifmt.Formatter:
    options: dict[str, Any] = {"overlength": "drop_turns", "history": history, "max_rejected": 1.0}
    return ifmt.compile(template, "embedded", max_length=max_length, **options)


def _size(row: dict[str, Any]) -> int:
    return len(_formatter(None).encode(row)["input_ids"])


@pytest.mark.parametrize("system", [True, False])
@pytest.mark.parametrize("left", [1, 2, 3, 5])
def test_the_newest_exchanges_that_fit_are_kept(left: int, system: bool) -> None:
    whole, wanted = _row(1, 2, 3, 4, 5, system=system), _row(*range(6 - left, 6), system=system)
    fmt = _formatter(_size(wanted))
    assert fmt.encode(whole) == _formatter(None).encode(wanted)
    batch = fmt.encode_rows([whole] * 12)
    assert batch.counts["shortened:drop_turns"] == (0 if left == 5 else 12)
    assert batch.counts["turns_dropped"] == 12 * (5 - left)
    assert not batch.rejected


def test_a_last_question_that_is_too_long_is_shortened() -> None:
    row = _row(1, 2, words=60)
    alone = _row(2, words=60)
    fmt = _formatter(_size(alone) - 20)
    encoded = fmt.encode(row)
    assert len(encoded["input_ids"]) == _size(alone) - 20
    answer = [label for label in encoded["labels"] if label != -100]
    assert fmt.tokenizer.decode(answer) == "Answer 2.<|im_end|>"
    batch = fmt.encode_rows([row] * 3)
    assert batch.counts["shortened:drop_turns"] == batch.counts["shortened:truncate_prompt"] == 3
    assert "3 rows without their oldest exchanges, 3 of the model's turns among them" in _report(batch)


def test_a_question_in_several_messages_is_one() -> None:
    def said(*texts: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": text} for text in texts]

    answer = {"role": "assistant", "content": "500."}
    contract = "The contract says 500. " * 12
    row = {"messages": [*_exchange(1), *said(contract, "What is the rent?"), answer]}
    wanted = {"messages": row["messages"][2:]}
    fmt = _formatter(_size(wanted))
    assert fmt.encode(row) == _formatter(None).encode(wanted)
    batch = fmt.encode_batch(pa.Table.from_pylist([row] * 20))
    assert batch.table.to_pylist() == [_formatter(None).encode(wanted)] * 20
    single = {"messages": wanted["messages"]}
    shortened = _formatter(_size(wanted) - 8).encode_rows([single] * 3)
    assert shortened.counts["shortened:drop_turns"] == 0
    assert shortened.counts["shortened:truncate_prompt"] == 3


def _report(batch: Any) -> str:
    from instruct_fmt.look.report import Report

    return str(Report.of("", batch.counts, batch.rejected, batch.unread))


def test_a_row_that_cannot_be_short_enough_is_dropped() -> None:
    with pytest.raises(RowError, match="at most 8"):
        _formatter(8).encode(_row(1, 2, 3))


def test_tools_stay() -> None:
    tools = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}]
    whole, wanted = ({**_row(*numbers), "tools": tools} for numbers in ((1, 2, 3, 4), (3, 4)))
    fmt = _formatter(len(_formatter(None, template="qwen2_5").encode(wanted)["input_ids"]), template="qwen2_5")
    assert fmt.encode(whole) == _formatter(None, template="qwen2_5").encode(wanted)


def test_each_row_of_expand_by_itself() -> None:
    row = _row(1, 2, 3, 4)
    fmt = _formatter(_size(_row(1, 2)), history="expand")
    found = fmt.encode_rows([row]).table.to_pylist()
    assert [fmt.tokenizer.decode(one["input_ids"]).count("Question") for one in found] == [1, 2, 2, 2]
    assert found[-1]["input_ids"] == _formatter(None).encode(_row(3, 4))["input_ids"]


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.builds(_row, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), words=st.integers(0, 40)),
        min_size=1,
        max_size=12,
    ),
    limit=st.integers(20, 160),
    history=st.sampled_from(["auto", "last", "expand"]),
)
def test_the_same_on_every_road(rows: list[dict[str, Any]], limit: int, history: str) -> None:
    fmt = _formatter(limit, history)
    ordinary = fmt.planned(PLANS_OFF).encode_rows(rows)
    assert max(map(len, ordinary.table.column("input_ids").to_pylist()), default=0) <= limit
    for found in (fmt.encode_rows(rows), fmt.encode_batch(pa.Table.from_pylist(rows))):
        assert found.table.to_pylist() == ordinary.table.to_pylist()
        assert found.rows.tolist() == ordinary.rows.tolist()
        for name in ("shortened:drop_turns", "turns_dropped", "trained_turns", "emitted"):
            assert found.counts[name] == ordinary.counts[name]
