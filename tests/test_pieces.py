"""Conversations that each have a shape of their own: put together from pieces of plans, they are what they would be."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from test_plans import THINKING

import instruct_fmt as ifmt
from instruct_fmt.template.plan import piece, pieces
from instruct_fmt.template.plan.planning import PLANS_OFF, Planning
from instruct_fmt.template.source.load import names, show
from instruct_fmt.types import EncodedBatch

ROWS = 90
CHAT = [name for name in names() if show(name).kind == "chat"]


def _call(rng: random.Random, number: int) -> dict[str, Any]:
    function = {"name": rng.choice(["look", "count"]), "arguments": {"word": rng.choice(["a", 'b"']), "n": number}}
    return {"type": "function", "function": function}


def _steps(rng: random.Random, number: int, *, tools: bool, reasons: bool) -> Iterator[dict[str, Any]]:
    """What the model does about a question: calls, or not, and an answer."""
    for step in range(rng.choice([0, 0, 1, 2]) if tools else 0):
        calls = [_call(rng, number + step) for _ in range(rng.choice([1, 1, 2]))]
        yield {"role": "assistant", "content": rng.choice(["", "Let me look."]), "tool_calls": calls}
        for _ in calls:
            yield {"role": "tool", "content": f"found {number}.{step}"}
    thought = {"reasoning_content": rng.choice(["", "hm"])} if reasons and rng.random() < 0.5 else {}
    yield {"role": "assistant", "content": rng.choice(["Yes.", "  No.\n", "ünd 😀"]), **thought}


def _rows(seed: int, *, tools: bool = False, reasons: bool = False, turns: int = 9) -> list[dict[str, Any]]:
    rng, rows = random.Random(seed), []
    for _ in range(ROWS):
        said: list[dict[str, Any]] = [{"role": "system", "content": "Be brief."}] if rng.random() < 0.4 else []
        for number in range(rng.randint(1, turns)):
            said.append({"role": "user", "content": rng.choice(["Why?", " <tool_response>\nx", "Is it?\n"])})
            said += _steps(rng, number, tools=tools, reasons=reasons)
        if rng.random() < 0.2:
            said.append({"role": "user", "content": "Thanks."})
        rows.append({"messages": said})
    return rows


def _counted(batch: EncodedBatch) -> dict[str, int]:
    return {name: count for name, count in batch.counts.items() if not name.startswith(("path:", "plan"))}


def _check(template: str, rows: list[dict[str, Any]], **options: Any) -> EncodedBatch:
    fmt = ifmt.compile(template, "embedded", max_rejected=1.0, **options)
    ordinary = fmt.planned(PLANS_OFF).encode_rows(rows)
    planned = fmt.planned(Planning()).encode_rows(rows)
    assert planned.table.equals(ordinary.table)
    assert planned.rows.tolist() == ordinary.rows.tolist()
    assert planned.rejected == ordinary.rejected
    assert _counted(planned) == _counted(ordinary)
    assert planned.unread == ordinary.unread
    return planned


@pytest.mark.parametrize("template", CHAT)
def test_conversations(template: str) -> None:
    _check(template, _rows(1))


@pytest.mark.parametrize("options", [{}, {"history": "expand"}, {"train_on": "last"}, {"train_on": "all"}], ids=str)
@pytest.mark.parametrize("template", [THINKING, "qwen2_5"])
def test_conversations_with_calls(template: str, options: dict[str, Any]) -> None:
    rows = _rows(2, tools=template != THINKING, reasons=True)
    batch = _check(template, rows, **options)
    assert batch.counts["path:pieces"] > 0


def test_other_options() -> None:
    rows = _rows(3, tools=True)
    for options in ({"train_on": ["assistant", "user"]}, {"prompt_mismatch": "as_rendered"}, {"boundary": "joint"}):
        _check("qwen2_5", rows, **options)


def test_most_rows_need_no_plan_of_their_own() -> None:
    batch = _check("chatml", _rows(4, turns=30))
    assert batch.counts["plans:made"] < ROWS // 2
    assert batch.counts["path:pieces"] > ROWS // 3


CALLS = "{% for c in m.tool_calls or [] %}[{{ c.function.name }}]{{ c.function.arguments | tojson }}{% endfor %}"
TEXT = "<|im_start|>{{ m.role }}\n{{ m.content }}" + CALLS + "<|im_end|>\n"
LOOP, END = "{% for m in messages %}", "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
USERS = "messages | selectattr('role', 'equalto', 'user') | list | length"
# What a template may print in front of a message for the sake of others, near or far.
FAR = {
    "parity": "{% if loop.index0 % 4 == 3 %}#{% endif %}",
    "from the end": "{% if loop.revindex == 6 %}#{% endif %}",
    "length": "{% if messages | length > 11 and loop.index == 4 %}#{% endif %}",
    "first content": "{% if messages[0].content == 'Why?' and loop.index == 5 %}#{% endif %}",
    "same content": "{% if m.content == messages[-1].content %}#{% endif %}",
    "number of users": "{% if m.role == 'user' %}<{{ " + USERS + " }}>{% endif %}",
    "every third": "{% if loop.index % 3 == 0 and messages[-1].role == 'user' %}#{% endif %}",
    "a call before": "{% if messages[:loop.index0] | selectattr('tool_calls', 'defined') | list %}#{% endif %}",
}


@pytest.mark.parametrize("tools", [True, False])
@pytest.mark.parametrize("name", FAR)
def test_templates_that_look_far(name: str, tools: bool) -> None:
    _check(LOOP + FAR[name] + TEXT + END, _rows(21, tools=tools, turns=6 if tools else 10))


def test_a_wrong_piece_is_found(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Pieces that leave a turn out: what is due is proven the ordinary way, and then nothing is put together."""
    cut = piece.cut

    def untrained(plan: Any, conversation: Any, *args: Any, **kwargs: Any) -> Any:
        piece = cut(plan, conversation, *args, **kwargs)
        inner = 2 <= args[1] < len(conversation.messages) - 4
        return piece and replace(piece, seams=(), ranges=()) if inner else piece

    monkeypatch.setattr(pieces, "cut", untrained)
    with caplog.at_level(logging.WARNING):
        _check("chatml", _rows(6))
    assert "not trained as others" in caplog.text


def test_a_text_that_differs_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    joined = piece.joined

    def longer(*args: Any) -> Any:
        found = joined(*args)
        return replace(found, text=found.text + "!")

    monkeypatch.setattr(pieces, "joined", longer)
    assert _check("chatml", _rows(7)).counts["path:pieces"] == 0
