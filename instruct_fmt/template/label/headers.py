"""The role headers of a chat template, by which its output can be told from what people write.

In: a compiled chat template. Out: texts such as ``<|im_start|>assistant`` or ``ASSISTANT:``.
"""

from __future__ import annotations

from instruct_fmt.errors import RowError
from instruct_fmt.template.label.chat_template import ChatTemplate
from instruct_fmt.template.label.probes import ANSWERS
from instruct_fmt.template.trace.trace import Trace, prompt_tail
from instruct_fmt.types import Conversation


def role_headers(template: ChatTemplate) -> set[str]:
    """What the template writes in front of a user's words and of an answer, blanks around it aside.

    A header of letters alone is none: people write such words too.
    """
    scene = template.scene(Conversation(ANSWERS[0]))
    try:
        found = _before_fields(template.trace(scene))
        found.append(prompt_tail(template.trace(scene, 1, prompt=True), template.trace(scene, 1)))
    except RowError:  # a template that refuses the probe: its control tokens tell its output all the same
        return set()
    headers = {header.strip() for header in found}
    return {header for header in headers if header and not header.replace(" ", "").isalnum()}


def _before_fields(trace: Trace) -> list[str]:
    """The literal text before each field."""
    found, literal = list[str](), ""
    for start, end, run in trace.positions():
        if run.field is None:
            literal += trace.text[start:end]
        else:
            found.append(literal)
            literal = ""
    return found
