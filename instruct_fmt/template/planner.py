"""Which rows share a plan: shapes, symbolic renders, and the plans made so far.

In: conversations or records. Out: groups of rows with their plan; the others take the ordinary way.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from instruct_fmt.errors import RowError, TemplateError
from instruct_fmt.template.chat import ChatTemplate, Scene
from instruct_fmt.template.owners import SPEAKING, message_of
from instruct_fmt.template.plan import Columns, Plan, make_plan
from instruct_fmt.template.provenance import TracedTemplate
from instruct_fmt.template.records import RecordTemplate
from instruct_fmt.template.shapes import example_shape, leaf_text, leaves, with_leaves
from instruct_fmt.template.spans import TraceIndex
from instruct_fmt.template.symbolic import (
    Recorder,
    Symbolic,
    SymbolicEnvironment,
    SymbolicObject,
    plain_text,
    recording,
    symbolic,
    symbolic_object,
)
from instruct_fmt.template.traced import TOOLS, Field
from instruct_fmt.template.turns import Marker
from instruct_fmt.types import Conversation, Example, Ints, Marked, PlannedRows, Record

logger = logging.getLogger("instruct_fmt")

MIN_ROWS = 4
"""A shape is traced when at least so many rows of a batch share it: a trace costs several renders."""
MAX_PLANS_OF_SHAPE = 8
MAX_SHAPES = 512


@dataclass(frozen=True, slots=True)
class ShapeGroup:
    """Rows of one shape: their places in the batch, their fields as columns, and the way to each as an example."""

    shape: Hashable
    places: Ints
    columns: Columns
    example: Callable[[int], Example]

    def only(self, rows: Ints) -> Columns:
        """The columns of some of the rows."""
        if len(rows) == len(self.places):
            return self.columns
        chosen = pa.array(rows)
        return {field: column.take(chosen) for field, column in self.columns.items()}


@dataclass(frozen=True, slots=True)
class PlannedGroup:
    """Rows that share a plan: their places in the batch, what the plan makes of them, and one as an example."""

    places: Ints
    rows: PlannedRows
    example: Callable[[int], Example]


class Planner:
    """Makes plans and finds rows for them.

    Args:
        mark: marks one example the ordinary way; each new plan is compared with it.
        chat: the chat template's marker, or None.
        record: the record template, or None.
        append_eos: whether EOS is appended to records.
    """

    def __init__(
        self,
        mark: Callable[[Example], list[Marked]],
        chat: Marker | None,
        record: RecordTemplate | None,
        *,
        append_eos: bool,
    ) -> None:
        self._mark = mark
        self._chat = _SymbolicMarker(chat) if chat is not None and chat.policy.history != "expand" else None
        self._record = _SymbolicRecord(record, append_eos) if record is not None else None
        self._plans: dict[Hashable, list[Plan]] = {}
        self._given_up: set[Hashable] = set()
        self.counts: Counter[str] = Counter()

    def shapes(self, examples: Sequence[Example | None]) -> list[ShapeGroup]:
        """Examples grouped by shape; those that cannot be planned are in no group."""
        places: dict[Hashable, list[int]] = {}
        for place, example in enumerate(examples):
            shape = None if example is None else example_shape(example)
            if shape is not None:
                places.setdefault(shape, []).append(place)
        found = []
        for shape, here in places.items():
            chosen = [examples[place] for place in here]
            columns = _columns(chosen)
            if columns is not None:
                found.append(ShapeGroup(shape, np.asarray(here, np.int64), columns, _getter(chosen)))
        return found

    def group(self, shapes: Sequence[ShapeGroup]) -> list[PlannedGroup]:
        """Groups of rows with a plan; rows that are in none have none."""
        return [
            group
            for shape in shapes
            if len(shape.places) >= MIN_ROWS or shape.shape in self._plans
            for group in self._of_shape(shape)
        ]

    def take_counts(self) -> Counter[str]:
        """What was counted since the last call."""
        counts, self.counts = self.counts, Counter()
        return counts

    def _of_shape(self, rows: ShapeGroup) -> list[PlannedGroup]:
        """Let the plans of a shape take their rows; make new ones while enough are left."""
        groups: list[PlannedGroup] = []
        plans = self._plans.get(rows.shape, [])
        waiting, tried = np.arange(len(rows.places)), 0
        while len(waiting):
            if tried == len(plans):
                plan = self._new(rows.shape, rows.example(int(waiting[0])), len(waiting), len(plans))
                if plan is None:
                    break
                plans = [*plans, plan]
                self._plans[rows.shape] = plans
            plan = plans[tried]
            tried += 1
            holds = plan.holds(rows.only(waiting))
            chosen = waiting[holds]
            if len(chosen):
                if not self._still_agrees(plan, rows.example(int(chosen[0]))):
                    self._given_up.add(rows.shape)
                    self._plans[rows.shape] = []
                    return groups
                groups.append(PlannedGroup(rows.places[chosen], plan.render(rows.only(chosen)), rows.example))
            waiting = waiting[~holds]
        return groups

    def _new(self, shape: Hashable, example: Example, rows: int, made: int) -> Plan | None:
        """A plan from one row, compared with the ordinary way on that row."""
        if rows < MIN_ROWS or shape in self._given_up or made >= MAX_PLANS_OF_SHAPE or len(self._plans) >= MAX_SHAPES:
            return None
        plan = self._traced(example)
        if plan is None or not self.agrees(plan, example):
            self.counts["plans:refused"] += 1
            self._given_up.add(shape)
            return None
        self.counts["plans:made"] += 1
        return plan

    def _traced(self, example: Example) -> Plan | None:
        with recording() as recorder:
            try:
                if isinstance(example, Conversation) and self._chat is not None:
                    return self._chat.plan(example, recorder)
                if isinstance(example, Record) and self._record is not None:
                    return self._record.plan(example, recorder)
            except (RowError, TemplateError):
                return None
        return None

    def _still_agrees(self, plan: Plan, example: Example) -> bool:
        """The check of a sample: the first row that a plan takes in each batch."""
        if self.agrees(plan, example):
            return True
        self.counts["plans:wrong"] += 1
        logger.warning("a plan of the template differs from Jinja; its rows take the ordinary way: %r", example)
        return False

    def agrees(self, plan: Plan, example: Example) -> bool:
        """Whether the plan gives what the ordinary way gives for this row."""
        columns = _columns([example])
        try:
            expected = self._mark(example)
        except RowError:
            return False
        if columns is None or len(expected) != 1 or not plan.holds(columns)[0]:
            return False
        rows = plan.render(columns)
        text = rows.texts[0].as_py()
        wanted = expected[0]
        ranges = [[len(text[:edge].encode()) for edge in part] for part in wanted.trained]
        return (
            text == wanted.text
            and rows.trained[0].tolist() == ranges
            and (plan.marked.eos, plan.marked.bos, dict(plan.marked.counts))
            == (wanted.eos, wanted.bos, dict(wanted.counts))
        )


def _getter(examples: Sequence[Any]) -> Callable[[int], Example]:
    return lambda place: examples[place]


def _columns(examples: Sequence[Any]) -> Columns | None:
    """The fields of examples of one shape as columns; None where a text is none that Arrow can hold."""
    fields = [field for field, _ in leaves(examples[0])]
    rows = [[leaf_text(value) for _, value in leaves(example)] for example in examples]
    columns = zip(fields, zip(*rows, strict=True), strict=True)
    try:
        return {field: pa.array(list(column), pa.large_string()) for field, column in columns}
    except UnicodeEncodeError:
        return None


def _symbol(value: Any, field: Field) -> Any:
    return symbolic(value, field) if isinstance(value, str) else symbolic_object(value, field)


def _shown(value: Any) -> Any:
    """A symbol as the text that it prints; an empty one as none, which makes emptiness a guard."""
    if isinstance(value, SymbolicObject):
        return plain_text(value._text)
    if isinstance(value, Symbolic):
        return plain_text(value) if value else ""
    if isinstance(value, dict):
        return {name: _shown(item) for name, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list) else value


class _SymbolicTemplate(TracedTemplate):
    """A template that is only rendered symbolically."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._traced = SymbolicEnvironment().from_string(text)


class _SymbolicChat(ChatTemplate):
    """The chat template with its probes' results, rendering symbolic messages."""

    def __init__(self, template: ChatTemplate) -> None:
        self.__dict__.update(template.__dict__)
        self.template = _SymbolicTemplate(template.template.text)

    def scene(self, conversation: Conversation, extra: Mapping[str, Any] | None = None) -> Scene:
        messages, shown = [], []
        for index, message in enumerate(conversation.messages):
            values = with_leaves(message, index, _symbol)
            messages.append(message_of(values, index, message["role"] in SPEAKING))
            shown.append(_shown(values))
        tools = [symbolic_object(tool, Field(TOOLS, (place,))) for place, tool in enumerate(conversation.tools or ())]
        variables = {**self.variables, **(extra or {}), "tools": tools or None, "documents": None}
        return Scene(messages, variables, shown, variables)

    def proven(self, scene: Scene) -> Any:
        return self.trace(scene)


class _SymbolicMarker:
    def __init__(self, marker: Marker) -> None:
        self._marker = marker
        self._symbolic: Marker | None = None

    def plan(self, conversation: Conversation, recorder: Recorder) -> Plan | None:
        if self._marker.template.parts or self._marker.policy.train_on == "all":
            return None
        if self._symbolic is None:
            self._symbolic = Marker(_SymbolicChat(self._marker.template), self._marker.policy)
        roles = [message["role"] in SPEAKING for message in conversation.messages]
        if any(left and right for left, right in pairwise(roles)):
            return None  # whether one continues the other depends on more than guards
        found = self._symbolic.mark(conversation)
        speaking = [place for place, message in enumerate(conversation.messages) if message["role"] in SPEAKING]
        return make_plan(found[0], recorder, speaking) if len(found) == 1 else None


class _SymbolicRecord(RecordTemplate):
    """The record template with its probes' results, rendering symbolic values."""

    def __init__(self, template: RecordTemplate, append_eos: bool) -> None:
        self.__dict__.update(template.__dict__)
        self._append_eos = append_eos
        self._text = template.template.text
        self._compiled: _SymbolicTemplate | None = None
        self._values: dict[str, Any] = {}

    def plan(self, record: Record, recorder: Recorder) -> Plan | None:
        if self._compiled is None:
            self._compiled = _SymbolicTemplate(self._text)
        self._values = {
            name: symbolic(value, Field(place, (name,))) for place, (name, value) in enumerate(record.values.items())
        }
        shown = {name: plain_text(value) for name, value in self._values.items()}
        marked = self.mark(Record(shown), append_eos=self._append_eos)
        names = list(record.values)
        return make_plan(marked, recorder, [names.index(name) for name in self.answers if name in names])

    def _index(self, values: Mapping[str, Any]) -> TraceIndex:
        assert self._compiled is not None
        return TraceIndex(self._compiled.trace_values({**self.variables, **self._values}, self.now))
