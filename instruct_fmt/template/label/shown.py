"""Which turns of a marked conversation plain renders alone show to be right, without a proof that traces characters.

In: a conversation and its `Marked` text. Out: the turns that it takes a proof to know.
"""

from __future__ import annotations

from collections.abc import Collection

from instruct_fmt.template.label.chat_template import ChatTemplate
from instruct_fmt.template.label.marked import speaks
from instruct_fmt.types import Conversation, Marked, Range


def seams_of(conversation: Conversation, marked: Marked) -> dict[int, Range] | None:
    """The seams of a text by the message whose turn each is; None where that cannot be told."""
    found: dict[int, Range] = {}
    spans = iter(marked.spans)
    span = next(spans, None)
    for seam in marked.seams:
        while span is not None and (span.end <= seam[0] or span.start == span.end):
            span = next(spans, None)
        owner = None if span is None else span.owner
        if not isinstance(owner, int) or owner in found or not speaks(conversation.messages[owner]):
            return None
        found[owner] = seam
    return found


def doubted(
    template: ChatTemplate, conversation: Conversation, marked: Marked, places: Collection[int], seams: dict[int, Range]
) -> list[int]:
    """Those of some turns that are not shown to be right.

    A turn with a seam is where the prompt ends that plain Jinja renders for it, and the conversation up to it is the
    beginning of the text; one without is left out, because the text is another than what it was generated in.

    Args:
        template: the chat template.
        conversation: the row.
        marked: its text.
        places: the messages of the turns.
        seams: the seams of the turns that are trained.

    Raises:
        RowError: the template refuses a beginning of the row.
    """
    return [place for place in places if not _is_shown(template, conversation, marked.text, place, seams.get(place))]


def _is_shown(template: ChatTemplate, conversation: Conversation, text: str, place: int, seam: Range | None) -> bool:
    prompt = template.plain(conversation, place, prompt=True)
    whole = template.plain(conversation, place + 1)
    if seam is None:
        rewritten = whole.startswith(prompt) and not text.startswith(whole.rstrip())
        return rewritten or not text.startswith(prompt)
    return prompt == text[: seam[0]] and whole.startswith(text[: seam[1]])
