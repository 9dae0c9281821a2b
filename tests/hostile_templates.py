"""Hostile templates: bombs, ways out of the sandbox, broken syntax, and templates that lie about who speaks.

In: nothing. Out: `cases()`. Each is compiled and given one row; what comes out is judged by whose words are trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import hostile_labels
from hostile_bombs import BOMBS, LOOPS
from hostile_case import Case, Outcome
from hostile_escapes import ESCAPES
from hostile_lies import LIES
from hostile_scene import tokenizer_folder
from hostile_syntax import SYNTAX

import instruct_fmt as ifmt

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MESSAGES = [
    {"role": "system", "content": "sysalpha sysbeta"},
    {"role": "user", "content": "usralpha usrbeta"},
    {"role": "assistant", "content": "ansalpha ansbeta"},
    {"role": "user", "content": "usrgamma usrdelta"},
    {"role": "assistant", "content": "ansgamma ansdelta"},
]
HOW = "compile(template), encode(row)"


def encode(template: str) -> Outcome:
    """Compile a template, encode the row, and judge the labels."""
    fmt = ifmt.compile(template, tokenizer_folder("chatml"), backend="tokenizers", now=datetime(2025, 1, 2, 3, 4))
    row = fmt.encode({"messages": MESSAGES})
    return Outcome(f"ok: {len(row['input_ids'])} ids", tuple(hostile_labels.own_words(fmt, row, MESSAGES, template)))


def _case(name: str, tries: str, template: str, family: str = "") -> Case:
    return Case("templates", name, tries, HOW, lambda: encode(template), family=family)


def cases() -> Iterator[Case]:
    """All of them; of bombs one with constants, which are folded while a template compiles, and one without."""
    for name, expression in BOMBS.items():
        folded = "{% set bomb = " + expression.replace("S", "'abcd'") + " %}" + CHATML
        at_work = "{% set s = messages[0].content %}{% set bomb = " + expression.replace("S", "s") + " %}" + CHATML
        yield _case(f"{name}, of constants", "much from little, when it compiles", folded)
        if "S" in expression:
            yield _case(f"{name}, of a row's text", "much from little, when it runs", at_work)
    for name, text in LOOPS.items():
        yield _case(name, "endless or much work", text + CHATML)
    for name, expression in ESCAPES.items():
        yield _case(name, "a way out of the sandbox", "{% set x = " + expression + " %}" + CHATML)
        printed = "{{ " + expression + " }}" + CHATML
        yield _case(f"{name}, printed", "a way out of the sandbox, printed", printed, "a way out, printed")
    for name, text in SYNTAX().items():
        yield _case(name, "the compiler", text.replace("CHATML", CHATML))
    for name, text in LIES.items():
        yield _case(name, "a lie about who speaks", text)
