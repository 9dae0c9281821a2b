"""The rows of the proof: each variant as `input_ids` and `labels`, and what held-out answers stand behind when served.

In: a file of questions with worked answers (GSM8K) and a tokenizer. Out: `Variant`s, in a file that a machine without
this package can train on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import instruct_fmt as ifmt
from prooflib.variant import Ids, Variant

RECORD = "### Question:\n{instruction}\n\n### Answer:\n{output}"
SPACE = "### Question: {instruction}\n### Answer: {output}"
OTHER = "USER: {instruction}\nASSISTANT:\n{output}"
# As Qwen3's without thinking: the prompt opens and closes a block that earlier turns do not have.
CHAT = """{% for m in messages %}<|im_start|>{{ m.role }}
{% if m.role == 'assistant' and loop.last %}<think>

</think>

{% endif %}{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
<think>

</think>

{% endif %}"""
TURNS = 3
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
Row = dict[str, Any]


def questions(path: Path) -> list[Row]:
    """Questions whose answers end in a line of their own: ``#### 42``."""
    found = []
    for row in json.loads(path.read_text(encoding="utf-8")):
        numbers = _NUMBER.findall(row["output"])
        if numbers:
            answer = f"{row['output']}\n#### {numbers[-1].replace(',', '')}"
            found.append({"instruction": row["instruction"], "output": answer})
    return found


def variants(rows: list[Row], tokenizer: Any, train: int, held: int) -> Iterator[Variant]:
    """All variants.

    Args:
        rows: questions with answers.
        tokenizer: of the model.
        train, held: how many rows are trained on, and how many of the others are held out.
    """
    learn, rest = rows[:train], rows[train : train + held]

    def record(
        name: str, change: Callable[[Ids, Ids], tuple[Ids, Ids]] | None = None, template: str = RECORD
    ) -> Variant:
        made = ifmt.compile(template, tokenizer)
        return _variant(name, "a record template", made, ifmt.compile(RECORD, tokenizer), learn, rest, change)

    header = len(tokenizer("### Answer:\n", add_special_tokens=False)["input_ids"])
    yield record("prepared here")
    yield record("EOS left out", lambda ids, labels: (ids[:-1], labels[:-1]))
    yield record("EOS masked, as where it is the pad token", lambda ids, labels: (ids, [*labels[:-1], -100]))
    yield record("prompt trained", lambda ids, labels: (ids, list(ids)))
    yield record("header trained", lambda ids, labels: (ids, _earlier(ids, labels, header)))
    yield record("another template than is served", template=OTHER)
    joint = ifmt.compile(SPACE, tokenizer, boundary="joint")
    apart = ifmt.compile(SPACE, tokenizer)
    group = "a prompt that ends in a space"
    yield _variant("prepared here", group, apart, apart, learn, rest)
    yield _variant("encoded in one piece: other ids at the seam", group, joint, apart, learn, rest)
    talks, last = _talks(learn), _talks(rest)
    served = ifmt.compile(CHAT, tokenizer, history="expand")
    naive = ifmt.compile(CHAT, tokenizer, history="as_rendered", prompt_mismatch="as_rendered")
    group = f"{TURNS} turns, a prompt with a closed block"
    yield _variant("prepared here, a row for each turn", group, served, served, talks, last)
    yield _variant("earlier turns behind a header that no server sends", group, naive, served, talks, last)


def _variant(
    name: str,
    group: str,
    made: ifmt.Formatter,
    served: ifmt.Formatter,
    learn: list[Row],
    rest: list[Row],
    change: Callable[[Ids, Ids], tuple[Ids, Ids]] | None = None,
) -> Variant:
    table = made.encode_rows(learn).table
    rows = list(zip(table.column("input_ids").to_pylist(), table.column("labels").to_pylist(), strict=True))
    rows = [change(*row) for row in rows] if change else rows
    prompts = [list(served.prompt(row).input_ids) for row in rest]
    last = ifmt.compile(served.settings.template, served.tokenizer, history="last", stop=list(served.stop.strings))
    whole = [last.encode(row)["input_ids"] for row in rest]
    answers = []
    for prompt, ids in zip(prompts, whole, strict=True):
        assert ids[: len(prompt)] == prompt
        end = max(place for place, id in enumerate(ids) if id in served.stop.ids) + 1
        answers.append(ids[len(prompt) : end])
    return Variant(name, group, [ids for ids, _ in rows], [labels for _, labels in rows], prompts, answers)


def _earlier(ids: Ids, labels: Ids, by: int) -> Ids:
    """Labels of which so many tokens more are trained, in front of the answer."""
    first = next(place for place, label in enumerate(labels) if label != -100)
    return [*labels[: first - by], *ids[first - by : first], *labels[first:]]


def _talks(rows: list[Row]) -> list[Row]:
    """Conversations of several questions."""
    found = []
    for start in range(0, len(rows) - TURNS + 1, TURNS):
        said = []
        for row in rows[start : start + TURNS]:
            said.append({"role": "user", "content": row["instruction"]})
            said.append({"role": "assistant", "content": row["output"]})
        found.append({"messages": said})
    return found
