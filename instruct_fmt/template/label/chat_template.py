"""A chat template with everything around it: variables, clock, stops.

In: conversations. Out: traces of whole conversations, of their beginnings, and of their generation prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any

import jinja2

from instruct_fmt.errors import RowError, TemplateError, shown
from instruct_fmt.template.label.blocks import Blocks
from instruct_fmt.template.label.completion import Completions
from instruct_fmt.template.label.forms import ClosingForms
from instruct_fmt.template.label.stops import AFTER_CALLS, ANSWERS, CALLS, PARTS, PROBE_TOOLS, RESULT, WORDS, StopFinder
from instruct_fmt.template.label.structure import structural_tokens
from instruct_fmt.template.label.turn import TraceIndex, prompt_tail
from instruct_fmt.template.trace.budget import (
    COMPILE_CHARACTERS,
    COMPILE_STEPS,
    BudgetExceeded,
    allowance,
    compile_budget,
)
from instruct_fmt.template.trace.environment import ClockRead, OriginLost, RaisedByTemplate, TemplateDict
from instruct_fmt.template.trace.owners import Owners, TracedMessage, TracedMessages
from instruct_fmt.template.trace.traced import Traced
from instruct_fmt.template.trace.traced_template import Trace, TracedTemplate, trace_message, traced_variables
from instruct_fmt.types import Added, Conversation

# What a template may raise besides Jinja's own errors: it runs Python's operators and methods on the row's values.
PYTHON_ERRORS = (
    AssertionError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    NameError,  # `inf`, which Jinja writes for a constant that has no other name
)


# What a message that is a call and nothing else may have for content, the likeliest to be understood first.
EMPTY_CONTENTS: dict[str, dict[str, str | None]] = {"empty": {"content": ""}, "null": {"content": None}, "absent": {}}
_STANDING_FOR = ((TracedMessages, "list"), (TracedMessage, "dict"), (Traced, "str"), (TemplateDict, "dict"))
_CLASS_NAMES = (
    *((f"{ours.__module__}.{ours.__qualname__}", plain) for ours, plain in _STANDING_FOR),
    ("'Traced'", "'str'"),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """One conversation, its values traced once, to be rendered as often as needed."""

    messages: Sequence[Any]
    variables: Mapping[str, Any]
    plain_messages: Sequence[Mapping[str, Any]]
    plain_variables: Mapping[str, Any]


class ChatTemplate:
    """A compiled chat template.

    Args:
        text: Jinja text.
        variables: the special tokens and the formatter's own template variables.
        now: the clock that templates see.
        parts: (attribute) whether the template prints content only as a list of parts.
        declared_stops: EOS and other stop strings known beforehand.
        added: the tokenizer's added tokens.

    Raises:
        TemplateError: the text does not compile, or reads a clock that is not pinned.
    """

    def __init__(
        self,
        text: str,
        variables: Mapping[str, Any],
        now: datetime | None,
        declared_stops: Iterable[str],
        added: Sequence[Added],
    ) -> None:
        self.template = compile_template(text)
        self.variables = dict(variables)
        self.now = now
        self.stops = StopFinder(declared_stops, added)
        with tried_out():
            self._learn(text, added)

    def _learn(self, text: str, added: Sequence[Added]) -> None:
        """What short conversations show of the template."""
        self.parts = False
        self.contents = dict.fromkeys(EMPTY_CONTENTS, True)
        self.parts = not self._prints(ANSWERS[0]) and self._prints(PARTS)
        self.contents = self._contents_of_calls()
        self._learn_stops()
        self.blocks = Blocks(text, (token.content for token in added), self.stops.is_stop)
        self.structural = self._structural()
        self.completions = Completions(self.blocks, self.stops, self._headers(), always_prompts=self._always_prompts())
        self.closing = ClosingForms(self)

    def scene(self, conversation: Conversation) -> Scene:
        """Trace the conversation's values."""
        messages, variables = self._values(conversation)
        return Scene(
            [trace_message(message, index) for index, message in enumerate(messages)],
            traced_variables(conversation.tools, conversation.documents, conversation.template_kwargs, self.variables),
            messages,
            variables,
        )

    def trace(self, scene: Scene, count: int | None = None, *, prompt: bool = False) -> Trace:
        """Render the first `count` messages, all by default; with `prompt`, make the model speak.

        Raises:
            RowError: the template refuses the row or exceeds its budget.
            TemplateError: the template reads a clock that is not pinned.
        """
        messages = list(scene.messages if count is None else scene.messages[:count])
        owners = Owners()
        variables = {**scene.variables, "add_generation_prompt": prompt}
        try:
            return self.template.trace_chat(messages, variables, self.now, owners)
        except (jinja2.TemplateError, *PYTHON_ERRORS) as error:
            raise row_error(error, _place(owners)) from error

    def proven(self, scene: Scene, count: int | None = None, *, prompt: bool = False) -> Trace:
        """`trace`, compared with the plain rendering.

        Raises:
            RowError: as `trace`, and where the two texts differ.
        """
        trace = self.trace(scene, count, prompt=prompt)
        plain = self._plain(scene.plain_messages[:count], scene.plain_variables, prompt=prompt)
        if plain != trace.text:
            raise text_differs(plain, trace.text)
        return trace

    def plain(self, conversation: Conversation) -> str:
        """The conversation as plain Jinja renders it."""
        return self._plain(*self._values(conversation))

    def _plain(
        self, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any], *, prompt: bool = False
    ) -> str:
        values = {**variables, "messages": list(messages), "add_generation_prompt": prompt}
        return self.template.plain(values, self.now)

    def _values(self, conversation: Conversation) -> tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]]:
        """Messages and variables as a template sees them."""
        messages = [self.printable(message) for message in conversation.messages]
        messages = [_in_parts(message) for message in messages] if self.parts else messages
        own = {**self.variables, **conversation.template_kwargs}
        return messages, {**own, "tools": conversation.tools, "documents": conversation.documents}

    def _prints(self, messages: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the template prints the last message's content: some know only lists of parts."""
        try:
            trace = self.trace(self.scene(Conversation(list(map(dict, messages)))))
        except RowError:
            return False
        return any(run.field is not None and run.field.place == len(messages) - 1 for run in trace.runs)

    def printable(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """A call without content, its content left out, null or empty as the template needs it to print the call."""
        if not message.get("tool_calls") or message.get("content", "") != "":
            return message
        form = next((form for form, prints in self.contents.items() if prints), None)
        if form is None or self.contents["empty" if "content" in message else "absent"]:
            return message
        rest = {name: value for name, value in message.items() if name != "content"}
        return {**rest, **EMPTY_CONTENTS[form]}

    def _contents_of_calls(self) -> dict[str, bool]:
        """For each form of an empty content whether the template prints a call with it, as history too where it can."""
        last = {form: self._prints_call(form) for form in EMPTY_CONTENTS}
        both = {form: prints and self._prints_call(form, RESULT, ANSWERS[0][-1]) for form, prints in last.items()}
        return both if any(both.values()) else last

    def _prints_call(self, form: str, *behind: dict[str, Any]) -> bool:
        """Whether the template prints a call whose message has this for content, with more messages behind it."""
        for probe in CALLS[:2]:
            message = {**probe[-1], **EMPTY_CONTENTS[form]}
            for tools in (PROBE_TOOLS, None):
                traces = self._probes(Conversation([*probe[:-1], message, *behind], tools))
                if any(run.field and run.field.path[:1] == ("tool_calls",) for trace in traces for run in trace.runs):
                    return True
        return False

    def _learn_stops(self) -> None:
        with_unowned = not self._always_prompts()
        for probes, answer in ((ANSWERS, True), (CALLS, False), (AFTER_CALLS, True)):
            for messages in probes:
                for tools in (None, PROBE_TOOLS):
                    for trace in self._probes(Conversation(messages, tools)):
                        last = len(messages) - 1
                        own, behind = _tails(trace, last, with_unowned=with_unowned)
                        self.stops.learn(own, behind, answer=answer, opening=_opening(trace, last))

    def _structural(self) -> set[str]:
        """The added tokens that structure a conversation."""
        conversations = [*ANSWERS, [*ANSWERS[0], *ANSWERS[0]], *CALLS, *([*call, RESULT] for call in CALLS)]
        probes = [(trace, messages) for messages in conversations for trace in self._probes(Conversation(messages))]
        question = Conversation(ANSWERS[0][:1])
        prompts = zip(self._probes(question, prompt=True), self._probes(question), strict=False)
        tails = [self.blocks.apart(prompt_tail(prompt, plain)) for prompt, plain in prompts]
        return structural_tokens(probes, tails, self.stops)

    @cached_property
    def block(self) -> tuple[str, str, str] | None:
        """The block of reasoning in the template's prompts: its opener with blanks, its closer, and the blanks behind
        it; None where prompts have none."""
        for messages in (ANSWERS[0][:1], *(call[:-1] for call in AFTER_CALLS)):
            for trace in self._probes(Conversation(messages), prompt=True):
                index = TraceIndex(trace)
                found = self.blocks.open(index.text[index.behind_fields(len(index.text), range(len(messages), 99)) :])
                if found is not None:
                    return found.text, found.closers[0], "\n\n"
                closed = self.blocks.closed(
                    index.text[index.behind_fields(len(index.text), range(len(messages), 99)) :]
                )
                closer = self.blocks.last(closed or "")
                if closed is not None and closer is not None and not closed.startswith(closer):
                    inside, _, behind = closed.rpartition(closer)
                    return inside.rstrip() + ("\n" if inside[-1:].isspace() else ""), closer, behind
        return None

    def _headers(self) -> set[str]:
        """The markers with which turns begin: the first of each literal text between what two speakers say."""
        messages = [*ANSWERS[0], *ANSWERS[0]]
        user = [TraceIndex(trace) for trace in self._probes(Conversation(messages))]
        prompts = [TraceIndex(trace) for trace in self._probes(Conversation(messages[:3]), prompt=True)]
        leads = [
            trace.text[trace.behind_fields(own[0], range(2, 3)) : own[0]] for trace in user if (own := trace.content(2))
        ]
        leads += [trace.text[trace.behind_fields(len(trace.text), range(3, 4)) :] for trace in prompts]
        found = set()
        for lead in leads:
            markers = [marker[0] for marker in self.blocks.markers(lead)]
            ends = [place for place, marker in enumerate(markers) if self.stops.is_stop(marker)]
            found.update(markers[ends[-1] + 1 if ends else 0 :][:1])
        return found

    def _probes(self, conversation: Conversation, *, prompt: bool = False) -> list[Trace]:
        """The rendered probe; nothing where the template refuses it."""
        try:
            return [self.trace(self.scene(conversation), prompt=prompt)]
        except RowError:
            return []

    def _always_prompts(self) -> bool:
        """Whether the template prints a generation prompt whether it is asked for or not."""
        scene = self.scene(Conversation(ANSWERS[0][:1]))
        try:
            plain, prompt = self.trace(scene), self.trace(scene, prompt=True)
        except RowError:
            return False
        last = plain.runs[-1] if plain.runs else None
        return plain.text == prompt.text and last is not None and last.owner is None


def _tails(trace: Trace, last: int, *, with_unowned: bool) -> tuple[str, str]:
    """The literal text behind the last character of message `last`: its own, and what follows; empty if it is not."""
    own, behind = "", ""
    for run, text in reversed(list(_pieces(trace))):
        if run.field is not None:
            return (own, behind) if run.field.place == last else ("", "")
        if run.owner is not None:
            own = text + own
        elif own:
            own = text + own  # text without an owner inside the turn
        elif with_unowned:
            behind = text + behind
    return "", ""


def _opening(trace: Trace, last: int) -> tuple[str, str]:
    """The literal text behind what was said before message `last`, and that in front of the last that it says."""
    index = TraceIndex(trace)
    own = index.content(last)
    if own is None:
        return "", ""
    fields = [(start, end) for start, end, run in index.pieces if run.field is not None and end <= own[1]]
    before = fields[-2][1] if len(fields) > 1 else 0
    return index.text[index.behind_fields(own[0], range(last, last + 1)) : own[0]], index.text[before : fields[-1][0]]


def _in_parts(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else dict(message)


def _pieces(trace: Trace) -> Iterable[tuple[Any, str]]:
    return ((run, trace.text[start:end]) for start, end, run in trace.positions())


@lru_cache(maxsize=16)
def compile_template(text: str) -> TracedTemplate:
    """Compile Jinja text.

    Raises:
        TemplateError: it does not compile; the message has the template's line. Or it knows what probes say.
    """
    known = next((word for word in WORDS if word in text.casefold()), None)
    if known is not None:
        raise TemplateError(
            f"the template holds {known!r}, a word that probes say to learn what it does; expected a template that "
            "treats every text alike; fix: remove the word"
        )
    try:
        return TracedTemplate(text)
    except jinja2.TemplateSyntaxError as error:
        lines = text.splitlines() or [""]
        line = lines[min(error.lineno, len(lines)) - 1].strip()
        raise TemplateError(
            f"template line {error.lineno}: {error.message}; found {shown(line)}; "
            "expected Jinja2 as transformers' chat templates use it; fix: correct the template"
        ) from error


@contextmanager
def tried_out() -> Iterator[None]:
    """Trying out a new template, from one budget.

    Raises:
        TemplateError: the template needs more than that.
    """
    with allowance(compile_budget()) as budget:
        yield
    if budget.used_up:
        raise TemplateError(
            f"template: found one that takes more than {COMPILE_STEPS:,} steps, or builds more than "
            f"{COMPILE_CHARACTERS:,} characters, for a few short rows; expected a template that ends; "
            "fix: use another template"
        )


def _place(owners: Owners) -> str:
    """The path of the message whose turn it was, as far as that is known."""
    place = owners.item if owners.owner is None else max(owners.owner, -1 - owners.owner)
    return "$.messages" if place is None else f"$.messages[{place}]"


def row_error(error: Exception, path: str) -> RowError | TemplateError:
    """What to raise for an error that came out of a template."""
    if isinstance(error, ClockRead):
        return TemplateError(f"{error.message}; found: no clock; expected: a fixed date, the same for every row")
    if isinstance(error, BudgetExceeded):
        return RowError(
            "template-budget", path, str(error), "a template that ends", "use another template for this row"
        )
    if isinstance(error, OriginLost):
        return RowError(
            "origin-lost",
            path,
            str(error),
            "operations that keep track of whose text it is",
            "simplify the template, or leave the row out",
        )
    found = str(error) if isinstance(error, RaisedByTemplate) else f"{type(error).__name__}: {error}"
    for ours, plain in _CLASS_NAMES:
        found = found.replace(ours, plain)
    return RowError(
        "template-raised",
        path,
        shown(found, 200),
        "a row that the template accepts",
        "change the row, or use a template that supports it",
    )


def text_differs(plain: str, traced: str) -> RowError:
    at = next((i for i, (a, b) in enumerate(zip(plain, traced, strict=False)) if a != b), min(len(plain), len(traced)))
    return RowError(
        "text-differs",
        "$",
        f"{shown(traced[at : at + 30])} at character {at} of the traced text",
        f"{shown(plain[at : at + 30])}, as plain Jinja prints it",
        "the template uses a construct that cannot be followed; leave the row out or simplify the template",
    )
