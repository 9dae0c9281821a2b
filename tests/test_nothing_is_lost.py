"""Every text of a row is in the text that it becomes, in the ledger, or in the list of what nothing read."""

from __future__ import annotations

import json
import random
from datetime import datetime
from functools import lru_cache
from typing import Any

import pyarrow as pa
from any_rows import Case, make_case
from hypothesis import given, settings
from hypothesis import strategies as st

import instruct_fmt as ifmt
from instruct_fmt.template.plan.planning import Planning

# Prints calls, tools and reasoning; nothing but contents; neither system messages nor results of tools.
FULL = (
    "{% for t in tools or [] %}{{ t | tojson }}\n{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n{% endif %}"
    "{{ m.content if m.content is string else m.content | tojson if m.content else '' }}"
    "{% for c in m.tool_calls or [] %}<call>{{ c.function.name }} {{ c.function.arguments | tojson }}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SILENT = (
    "{% for m in messages %}{% if m.role in ['user', 'assistant'] %}<|im_start|>{{ m.role }}\n"
    "{{ m.content | trim }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES: dict[str, str | None] = {
    "own": None,
    "chatml": "chatml",
    "full": FULL,
    "silent": SILENT,
    "zephyr": "zephyr",
    "llama3_1": "llama3_1",
}
LAX = ("system", "tool", "developer", "name", "reasoning_content", "tool_calls", "label", "weight", "history", "tools")


@lru_cache(maxsize=128)
def formatter(template: str, options: tuple[tuple[str, Any], ...], **more: Any) -> ifmt.Formatter:
    given: dict[str, Any] = {name: dict(value) if isinstance(value, tuple) else value for name, value in options}
    return ifmt.compile(
        given.pop("template", TEMPLATES[template]), "embedded", max_rejected=1.0, backend="tokenizers", **given, **more
    )


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as a table; what Arrow cannot hold as it is becomes JSON, the `Json()` feature of `datasets`."""
    columns = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            texts = pa.array([json.dumps(value) for value in values], pa.string())
            columns[name] = pa.ExtensionArray.from_storage(pa.json_(), texts)
    return pa.table(columns)


def lost(fmt: ifmt.Formatter, case: Case, *, as_table: bool) -> tuple[list[str], str]:
    """The words of a case that are found nowhere, and what became of its row."""
    row = case.row
    rows = [row] * (Planning().min_rows or 0) if as_table else [row]  # so many are worth a plan
    batch = fmt.encode_batch(table_of(rows)) if as_table else fmt.encode_rows(rows)
    if batch.rejected:
        return [], f"rejected: {batch.rejected[0].reason}"
    made = batch.table.column("input_ids").to_pylist()
    text = "".join(fmt.tokenizer.decode(ids) for ids in made[: len(made) // len(rows)])
    words = [
        f"{slot.word} of {slot.column} {slot.names}, unread: {sorted(batch.unread)}"
        for slot in case.slots
        if slot.word not in text and not any(slot.is_named(path) for path in batch.unread)
    ]
    return words, "emitted by plans" if batch.counts["path:plan"] else "emitted"


def outcome(
    seed: int, template: str, history: str = "auto", *, lax: bool = False, as_table: bool = False
) -> tuple[list[str], str]:
    """The words that are lost of the row that a seed makes, and what became of it."""
    case = make_case(random.Random(seed))
    options = tuple(
        (name, tuple(value.items()) if isinstance(value, dict) else value) for name, value in case.options.items()
    )
    chats = {} if "template" in case.options else {"history": history}
    try:
        fmt = formatter(template, options, now=datetime(2025, 1, 31), **chats, allow_dropped=LAX if lax else ())
        return lost(fmt, case, as_table=as_table)
    except ifmt.UsageError:
        return [], "call refused"


@settings(deadline=None, max_examples=300)
@given(
    st.integers(0, 2**32),
    st.sampled_from(sorted(TEMPLATES)),
    st.sampled_from(["auto", "expand", "last"]),
    st.booleans(),
    st.booleans(),
)
def test_no_word_of_a_row_is_lost(seed: int, template: str, history: str, lax: bool, as_table: bool) -> None:
    words, _ = outcome(seed, template, history, lax=lax, as_table=as_table)
    assert not words
