"""What the model must write behind its generation prompt.

In: the prompt of a turn, and the rendering of the conversation up to that turn, both traced. Out: the turn's
completion, such that *prompt + completion* is what a server makes the model write, and what the template prints behind
it. Where the two renderings agree, the completion is the rest of the second; where they do not, it is found by the
text behind the last character that came from an earlier message, by the prompt's open or complete block of reasoning,
and by who wrote what. What cannot be told is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from instruct_fmt.common.reasoning import REASONING, split_reasoning
from instruct_fmt.errors import RowError, shown
from instruct_fmt.template.label.blocks import Block, Blocks
from instruct_fmt.template.label.ground import Ground
from instruct_fmt.template.label.speech import Speech
from instruct_fmt.template.label.stops import StopFinder
from instruct_fmt.template.trace.origins import Field, Run
from instruct_fmt.template.trace.trace import Trace, joined_traces, part_of


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model writes.

    Attributes:
        trace: its text and origins, up to and including its stop.
        stop: where the stop begins in it; its length where there is none.
        rest: what the template prints behind it.
        counts: how it was found, for the report.
    """

    trace: Trace
    stop: int
    rest: Trace
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def stopped(self) -> bool:
        return self.stop < len(self.trace.text)


class Completions:
    """Finds completions under one template.

    Args:
        blocks: the template's markers.
        stops: its stops.
        headers: markers that stand before what somebody says, in its own turns and in prompts.
        always_prompts: whether the template prints a generation prompt without being asked.
    """

    def __init__(self, blocks: Blocks, stops: StopFinder, headers: Iterable[str], *, always_prompts: bool) -> None:
        self.blocks, self.stops = blocks, stops
        self._headers = frozenset(headers)
        self._always_prompts = always_prompts

    def of(self, ground: Ground, speech: Speech) -> Completion:
        """The completion of a turn.

        Raises:
            RowError: what the model would have to write cannot be told.
        """
        self._check_guard(ground, speech)
        block = self.blocks.open(ground.prompt_tail)
        if block is not None and self._wraps_answer(ground, block):
            block = None
        found = self._behind(ground, speech) if block is None else self._inside(ground, speech, block)
        self._check_header(found, speech)
        self._check_order(found, speech)
        self._check_blocks(found, speech)
        return found

    # a prompt that leaves a block of reasoning open

    def _inside(self, ground: Ground, speech: Speech, block: Block) -> Completion:
        lead_at = len(ground.prompt.text) if ground.starts else ground.lead
        lead = ground.whole.text[lead_at : ground.own]
        closes = any(closer in lead for closer in block.closers)
        if speech.reasons():
            return self._reasoning_field(ground, speech, block, closes=closes)
        if speech.opens(block.opener):
            return self._reasoning_inline(ground, speech, block, closes=closes)
        if speech.opens_block():
            raise _twice(block.text, speech)  # reasoning of another form, which would stand behind the block
        if closes:
            found = self._from(ground, self._closing_place(ground, speech, block))
            found.counts["reasoning_closed:template"] += 1
            return found
        raise RowError(
            "empty-reasoning",
            speech.path(),
            f"a prompt that ends in the open block {shown(block.text)}, and neither reasoning in the row nor a "
            "template that closes the block",
            "a block that is filled or closed",
            "leave the row out, or fill in its reasoning",
        )

    def _closing_place(self, ground: Ground, speech: Speech, block: Block) -> int:
        """Where the completion begins of a turn without reasoning, whose block the template closes itself."""
        if ground.starts:
            return len(ground.prompt.text)
        supplied, written = self._apart(ground)
        start = ground.own - len(written)
        if not supplied.strip():
            return start + _blank_overlap(supplied, written)
        places = [at for closer in block.closers if (at := written.find(closer)) >= 0]
        if not places:
            raise self._unaligned(ground, speech, supplied, written)
        return start + min(places)

    def _reasoning_field(self, ground: Ground, speech: Speech, block: Block, *, closes: bool) -> Completion:
        start = ground.whole.first_of(ground.members[0], REASONING, ground.lead)
        if start is None:
            raise field_dropped(speech)
        if closes and start >= ground.own:
            raise _twice(block.text, speech)
        return self._from(ground, len(ground.prompt.text) if ground.starts else start)

    def _reasoning_inline(self, ground: Ground, speech: Speech, block: Block, *, closes: bool) -> Completion:
        if closes:
            raise _twice(block.text, speech)
        content = speech.content()
        skip = _supplied(content, block)
        end = min((at for closer in block.closers if (at := content.find(closer)) >= 0), default=len(content))
        start = ground.whole.first_offset(ground.members[0], ("content",), skip, max(end, skip + 1))
        size = len(ground.prompt.text)
        if ground.starts and start is not None and block.opener not in ground.whole.text[size:start]:
            return self._from(ground, size)  # else the content's own opener would stand behind the prompt's
        if start is not None:
            return self._from(ground, start)
        return self._from_content(ground, content, skip)

    def _from_content(self, ground: Ground, content: str, skip: int) -> Completion:
        """The content from `skip` on, where the template leaves its reasoning out, and what it prints behind it."""
        index = ground.members[0]
        offset, begin, end = ground.whole.last_copied(index, ("content",))
        # Its end is the template's, which may strip what another row ends with.
        text = content[skip:offset] + ground.whole.text[max(begin, begin + skip - offset) : end]
        run = Run(len(text), Field(index, ("content",)), skip, index, ground.generated)
        spoken = joined_traces(Trace(text, (run,)), part_of(ground.whole, end, ground.turn.end))
        stop = len(text) + ground.turn.stop - end
        found = Completion(spoken, stop, part_of(ground.whole, ground.turn.end, len(ground.whole.text)))
        found.counts["reasoning_restored"] += 1
        return found

    # any other prompt

    def _behind(self, ground: Ground, speech: Speech) -> Completion:
        closed = self.blocks.closed(ground.prompt_tail)
        if closed is not None and (speech.reasons() or self._reopens(ground, speech)):
            raise RowError(
                "reasoning-closed",
                speech.path(),
                f"reasoning in the row, behind a prompt that has closed its block: {shown(closed)}",
                "a prompt that lets the model reason",
                "take the reasoning out of the row, or leave the row out",
            )
        if ground.starts:
            return self._from(ground, len(ground.prompt.text))
        return self._aligned(ground, speech)

    def _reopens(self, ground: Ground, speech: Speech) -> bool:
        """Whether a content that begins with a block of its own would stand behind the closed one."""
        if ground.starts and ground.own < len(ground.prompt.text):
            return False  # it is the block of the prompt
        return speech.opens_block()

    def _aligned(self, ground: Ground, speech: Speech) -> Completion:
        """The completion where the rendering does not begin with the prompt."""
        supplied, written = self._apart(ground)
        start = ground.own - len(written)
        if not supplied.strip():
            return self._from(ground, start + _blank_overlap(supplied, written))
        if "".join(supplied.split()) == "".join(written.split()):  # they differ in blanks alone
            return self._from(ground, ground.own - _missing_blanks(supplied, written))
        closing = self.blocks.last(supplied)
        at = written.rfind(closing) + len(closing) if closing and closing in written else 0
        if at and not self.blocks.words(written[:at]):
            return self._from(ground, start + at + _leading_blanks(written[at:], supplied))
        closed = self.blocks.closed(ground.prompt_tail)
        if (
            closed is not None
            and (ground.begins_with_call or not self.blocks.words(written))
            and not self.blocks.words(supplied.replace(closed, ""))
        ):
            return self._from(ground, start + _leading_blanks(written, supplied))
        raise self._unaligned(ground, speech, supplied, written)

    def _apart(self, ground: Ground) -> tuple[str, str]:
        """What the prompt's end and the text before the turn hold behind their common beginning."""
        shared = self.shared(ground)
        return ground.prompt_tail[shared:], ground.whole.text[ground.lead + shared : ground.own]

    def shared(self, ground: Ground) -> int:
        """How much the prompt's end and the text before the turn have in common; it ends inside no marker."""
        tail, lead = ground.prompt_tail, ground.whole.text[ground.lead : ground.own]
        size = next((i for i, (a, b) in enumerate(zip(tail, lead, strict=False)) if a != b), min(len(tail), len(lead)))
        for text in (tail, lead):
            for marker in self.blocks.markers(text):
                if marker.start() < size < marker.end():
                    size = marker.start()
        return size

    def _unaligned(self, ground: Ground, speech: Speech, supplied: str, written: str) -> RowError:
        tail = ground.prompt_tail.rstrip()
        last = self.blocks.last(tail)
        roles = re.match(r"\w+", supplied), re.match(r"\w+", written)
        if not tail or (last and self.stops.is_stop(last)) or all(roles) or (last and self.blocks.is_bare(supplied)):
            return RowError(
                "no-turn",
                speech.path(),
                f"a generation prompt that ends in {shown(ground.prompt.text[-40:])}, which asks for no such turn",
                f"a prompt behind which {shown(ground.whole.text[ground.lead : ground.own + 20])} can stand",
                "use a template that asks for this turn",
            )
        return RowError(
            "prefill-unknown",
            speech.path(),
            f"a generation prompt that begins the turn with {shown(supplied)}, where the training text has "
            f"{shown(written + ground.whole.text[ground.own : ground.own + 20])}",
            "a prefill that the template writes, too",
            "use a template that writes what it prompts with",
        )

    # parts and checks

    def _from(self, ground: Ground, start: int) -> Completion:
        """The completion that begins at `start` of the rendering."""
        turn, whole = ground.turn, ground.whole
        spoken = part_of(whole, start, turn.end)
        return Completion(spoken, max(turn.stop - start, 0), part_of(whole, turn.end, len(whole.text)))

    def _wraps_answer(self, ground: Ground, block: Block) -> bool:
        """Whether the template writes a closer behind the turn's last own character: the block holds the answer."""
        behind = ground.whole.text[ground.own_end : ground.turn.end]
        return any(closer in behind for closer in block.closers)

    def _check_guard(self, ground: Ground, speech: Speech) -> None:
        """Words of the template between what the turn says and its stop, or behind it where it has none."""
        end = ground.turn.stop if ground.turn.stopped or self._always_prompts else len(ground.whole.text)
        between = ground.whole.text[ground.own_end : end]
        if ground.whole.behind_fields(end, ground.members) > ground.own_end:
            raise RowError(
                "foreign-text",
                speech.path(),
                f"{shown(between)} behind the turn, before its stop",
                "only the turn's own text",
                "the template mixes speakers here; use another template for this row",
            )
        ends_in_call = ground.ends_in_call
        said = self.blocks.words(speech.without_values(between) if ends_in_call else between)
        if said and not (ground.turn.stopped and ends_in_call):
            raise RowError(
                "guard",
                speech.path(),
                f"{shown(between)} between the turn and its stop",
                "a turn that ends where the model stops",
                "the template asks for a judgement on the conversation; use another template for this row",
            )

    def _check_header(self, found: Completion, speech: Speech) -> None:
        """A header that the model would have to write itself, because the prompt lacks it."""
        own = next((start for start, _, run in found.trace.positions() if run.field is not None), found.stop)
        lead = found.trace.text[:own]
        headers = [marker[0] for marker in self.blocks.markers(lead) if marker[0] in self._headers]
        if headers:
            raise self.no_prompt(found, speech)

    def _check_blocks(self, found: Completion, speech: Speech) -> None:
        """A block that the template writes and leaves empty, in front of one of the content's own."""
        own = next((start for start, _, run in found.trace.positions() if run.field is not None), found.stop)
        closed = self.blocks.closed(found.trace.text[:own])
        if closed is not None and not speech.reasons() and speech.opens_block():
            raise _twice(closed.strip(), speech)

    @staticmethod
    def _check_order(found: Completion, speech: Speech) -> None:
        """Reasoning comes first; behind what it leads to it would teach nothing."""
        said = [run.field.path[0] in REASONING for _, _, run in found.trace.positions() if run.field and run.field.path]
        if any(said) and not said[0]:
            raise RowError(
                "field-order",
                speech.path(REASONING[0]),
                "reasoning that the template writes behind the answer or the call",
                "reasoning in front of what it leads to",
                "take the reasoning out of the row, or use another template",
            )

    def no_prompt(self, found: Completion, speech: Speech) -> RowError:
        """What to say of a header that the prompt lacks."""
        own = next((start for start, _, run in found.trace.positions() if run.field is not None), found.stop)
        return RowError(
            "no-prompt",
            speech.path(),
            f"the header {shown(found.trace.text[:own])} in the text, behind a generation prompt that lacks it",
            "a prompt that ends in the turn's header",
            "the template cannot be asked for this turn; use another template, or leave the turn out of the loss",
        )


def supplied_by(tail: str, text: str, block: Block | None) -> int:
    """How much of a text's beginning a prompt with this end has supplied."""
    if block is not None and text.lstrip().startswith(block.opener):
        return _supplied(text, block)
    return next((size for size in range(min(len(tail), len(text)), 0, -1) if tail.endswith(text[:size])), 0)


def _supplied(content: str, block: Block) -> int:
    """How much of a content that begins with a block the prompt supplies: the opener, and the blanks they share."""
    at = content.index(block.opener) + len(block.opener)
    for blank in block.text[len(block.opener) :]:
        if at < len(content) and content[at] == blank:
            at += 1
        else:
            break
    return at


def _blank_overlap(supplied: str, written: str) -> int:
    """How many blanks in front of `written` the prompt has supplied."""
    blanks = len(written) - len(written.lstrip())
    return next((size for size in range(blanks, 0, -1) if supplied.endswith(written[:size])), 0)


def _missing_blanks(supplied: str, written: str) -> int:
    """How many of the blanks that end `written` the prompt, which ends otherwise, lacks."""
    ours, theirs = (text[len(text.rstrip()) :] for text in (written, supplied))
    return next((size for size in range(len(ours)) if theirs.endswith(ours[: len(ours) - size])), len(ours))


def _leading_blanks(written: str, supplied: str) -> int:
    """Literal blanks in front, which go where the prompt ends in a blank."""
    return len(written) - len(written.lstrip()) if supplied[-1:].isspace() else 0


def field_dropped(speech: Speech) -> RowError:
    return RowError(
        "field-dropped",
        speech.path(REASONING[0]),
        f"{shown(speech.reasoning()[1])}, which the template leaves out of the turn",
        "every field of a trained turn in its text",
        "use a template that knows the field",
    )


def _twice(block: str, speech: Speech) -> RowError:
    if split_reasoning(speech.content()) is None:
        return RowError(
            "block-twice",
            speech.path("content"),
            "content that opens a block of reasoning and never closes it",
            "a block that is closed, and an answer behind it",
            "complete the row, or leave it out",
        )
    return RowError(
        "block-twice",
        speech.path(),
        f"content that opens a block of reasoning behind {shown(block)}",
        "one block of reasoning",
        "take the block out of the content, or leave the row out",
    )
