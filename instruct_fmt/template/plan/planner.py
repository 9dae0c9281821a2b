"""Which rows share a plan: shapes, symbolic renders, and the plans made so far.

In: conversations or records. Out: groups of rows with their plan; the others take the ordinary way.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from threading import RLock

import numpy as np

from instruct_fmt.errors import RowError, TemplateError
from instruct_fmt.template.label.marker import Marker, until
from instruct_fmt.template.label.shown import doubted, seams_of
from instruct_fmt.template.plan.make import with_ends
from instruct_fmt.template.plan.pieces import Pieces, prints_inside
from instruct_fmt.template.plan.plan import Plan
from instruct_fmt.template.plan.planning import Planning
from instruct_fmt.template.plan.recorder import Recorder, Refused, recording, refuse
from instruct_fmt.template.plan.shape import example_shape, leaf_text, leaves
from instruct_fmt.template.plan.shape_group import ShapeGroup, columns_of, getter_of
from instruct_fmt.template.plan.symbolic_marker import SymbolicMarker
from instruct_fmt.template.plan.symbolic_record import SymbolicRecord
from instruct_fmt.template.plan.symbolic_text import SymbolicText
from instruct_fmt.template.plan.tokens_of_text import TokensOfText
from instruct_fmt.template.plan.turn_rows import told_once, turn_groups
from instruct_fmt.template.plan.values import Values
from instruct_fmt.template.trace.budget import allowance, row_budget
from instruct_fmt.types import Conversation, Example, Ints, Marked, PlannedRows, Record, Text

logger = logging.getLogger("instruct_fmt")

MAX_PLANS_OF_SHAPE = 16
MAX_SHAPES = 512
MAX_SHAPES_SEEN = 16 * MAX_SHAPES
MAX_FAILED = 6
"""So many rows of a shape whose plans were refused, and it has no more."""
MAX_MARKED = 16
"""A conversation of more messages is compared with plain renders, in"""
TURNS_COMPARED = 64
"""of its turns, or so many more, or where those do not tell, proven in"""
TURNS_PROVEN = 4
"""of them."""
MANY_SHAPES = 64
"""Where so many shapes wait for a plan, hardly one has many rows: what is learnt of one is for the others."""
FEW_ROWS = 8
"""A plan of a shape with fewer rows costs more than to put each of them together from pieces of other plans."""
_ONE = np.zeros(1, np.int64)
Grouped = tuple[ShapeGroup, PlannedRows]
"""Rows of a plan, and the rows of their shape that they are among."""


@dataclass(slots=True)
class _Known:
    """A plan, and how many rows it took since some of them were compared with Jinja."""

    plan: Plan
    planning: Planning
    rows: int = 0
    due: int = 1

    def is_due(self, rows: int) -> bool:
        """Whether some of so many more rows are to be compared."""
        self.rows += rows
        if self.rows < self.due:
            return False
        self.rows, self.due = 0, min(max(2 * self.due, self.planning.check_every), self.planning.max_check_every)
        return True


class Planner:
    """Makes plans and finds rows for them. Threads may share it.

    Args:
        mark: marks one example the ordinary way; each new plan is compared with it. With `history="expand"`, the row of
            its last turn.
        plain: renders one example and nothing else; a sample of the rows of each plan is compared with it.
        chat: the chat template's marker, or None.
        record: makes plans of records, or None.
        text: makes plans of ready text.
        tokens: what to know about the tokenizer.
        mentioned: the names that the template uses.
        planning: when plans are made and compared.
    """

    def __init__(
        self,
        mark: Callable[[Example], Marked],
        plain: Callable[[Example], str],
        chat: Marker | None,
        record: SymbolicRecord | None,
        text: SymbolicText,
        tokens: TokensOfText,
        mentioned: frozenset[str],
        *,
        planning: Planning,
    ) -> None:
        self._mark, self._plain, self._marker, self._planning = mark, plain, chat, planning
        self._chat = SymbolicMarker(chat, tokens, mentioned) if chat is not None else None
        self._mentioned, self._composes = mentioned, tokens.composes
        self._expands = chat is not None and chat.policy.expands
        self._whole = chat is not None and chat.policy.train_on == "all"  # without a proof of each turn
        put_together = chat is not None and planning.min_rows is not None and not chat.policy.loss_weights.of_places
        self._pieces = Pieces(chat) if chat is not None and put_together else None
        self._text = text
        self._record = record
        self._plans: dict[Hashable, list[_Known]] = {}
        self._seen: Counter[Hashable] = Counter()
        self._given_up: set[Hashable] = set()
        self._failed: Counter[Hashable] = Counter()
        self._refused: dict[Hashable, str] = {}
        self._lock = RLock()
        self.counts: Counter[str] = Counter()

    def shapes(self, examples: Sequence[Example | None]) -> list[ShapeGroup]:
        """Examples grouped by shape; those that cannot be planned are in no group, nor are a few that pieces do for."""
        places: dict[Hashable, list[int]] = {}
        for place, example in enumerate(examples):
            shape = None if example is None else example_shape(example)
            if shape is not None:
                places.setdefault(shape, []).append(place)
        found = []
        for shape, here in places.items():
            first = examples[here[0]]
            if len(here) < FEW_ROWS and shape not in self._plans and first is not None and self._knows(first):
                with self._lock:
                    self._seen[shape] += len(here)
                if self._seen[shape] < FEW_ROWS:
                    continue
            chosen = [example for place in here if (example := examples[place]) is not None]
            columns = columns_of(chosen)
            if columns is not None:
                found.append(ShapeGroup(shape, np.asarray(here, np.int64), columns, getter_of(chosen), type(chosen[0])))
        return found

    def group(self, shapes: Sequence[ShapeGroup]) -> list[Grouped]:
        """Groups of rows with a plan; rows that are in none have none, those that are in several make a row in each."""
        turns = self._expands
        return [
            found
            for shape in shapes
            for found in (self._of_turns(shape) if turns and shape.kind is Conversation else self._of_shape(shape))
        ]

    def group_whole(self, shapes: Sequence[ShapeGroup]) -> list[Grouped]:
        """`group` for rows that make one row each, with `history="expand"` that of their last turn."""
        return [found for shape in shapes for found in self._of_shape(shape)]

    def one(self, example: Example) -> Marked | None:
        """The marked text of a single row that makes one, by plans; None where there is none for it."""
        return self._one(example) or self._composed(example)

    def some(self, example: Example) -> list[Marked] | None:
        """The marked texts of a single row, by plans; None where there is none for it."""
        return self._each(example, self.one)

    def filled(self, example: Example) -> list[Marked] | None:
        """The marked texts of a single row, each by one plan that tells what it prints; None where there is none."""
        return self._each(example, lambda one: self._one(one, tells=True))

    def composed(self, example: Example) -> list[Marked] | None:
        """The marked texts of a single row without a plan, by pieces of others; None where they are not enough."""
        return self._each(example, self._composed)

    def _each(self, example: Example, mark: Callable[[Example], Marked | None]) -> list[Marked] | None:
        """A row's marked text, or one for each of its turns; None where one of them is None."""
        if not (self._expands and isinstance(example, Conversation)):
            one = mark(example)
            return None if one is None else [one]
        ends, found = self._ends(example), list[Marked]()
        for end in ends:
            if (marked := mark(until(example, end))) is None:
                return None
            found.append(marked)
        return found or None

    def _composed(self, example: Example) -> Marked | None:
        if self._pieces is None or not isinstance(example, Conversation) or example_shape(example) is None:
            return None
        with allowance(row_budget(example)):
            return self._pieces.compose(example)

    def _one(self, example: Example, *, tells: bool = False) -> Marked | None:
        """The text of one row by a plan; with `tells` by none that prints other members of an object in other rows."""
        shape = example_shape(example)
        if shape is None:
            return None
        texts = {field: leaf_text(value) for field, value in leaves(example)}
        rows = ShapeGroup(shape, _ONE, {}, lambda place: example, type(example))
        tried = 0
        while (known := self._plan(rows, _ONE, tried)) is not None:
            tried += 1
            if tells and prints_inside(known.plan):
                continue
            marked = known.plan.fill(texts)
            if marked is None:
                continue
            if known.is_due(1) and marked.text != self._expected(known.plan, example):
                self._give_up(shape, example)
                return None
            return marked
        return None

    def missing(self, example: Example) -> str | None:
        """Why a row has no plan, in a few words; None where no row has one."""
        if self._planning.min_rows is None:
            return None
        shape = example_shape(example)
        if shape is None:
            return "a role or a value that no plan knows"
        return self._refused.get(shape) or "too few rows of its shape"

    def take_counts(self) -> Counter[str]:
        """What was counted since the last call."""
        counts, self.counts = self.counts, Counter()
        return counts

    def _ends(self, example: Example) -> list[int]:
        return self._marker.ends(example) if self._marker is not None and isinstance(example, Conversation) else []

    def _of_turns(self, rows: ShapeGroup) -> list[Grouped]:
        """Rows of each turn of conversations, of those that have plans for all of their turns."""
        ends = self._ends(rows.example(0))
        if not ends:
            return []
        left, turns, sources = np.arange(len(rows.places)), list[list[PlannedRows]](), turn_groups(rows, ends)
        for source in sources[::-1]:
            found = [group for _, group in self._of_shape(source.part(left))] if len(left) else []
            left = np.flatnonzero(np.isin(rows.places, [place for rows in found for place in rows.places.tolist()]))
            turns.insert(0, found)
        if not len(left):
            return []
        whole = rows.places[left]
        chosen = [[group.only(np.isin(group.places, whole)) for group in groups] for groups in turns]
        chosen = [[group for group in groups if len(group.places)] for groups in chosen]
        of_groups = [source for source, groups in zip(sources, chosen, strict=True) for _ in groups]
        return list(zip(of_groups, told_once(rows, ends, chosen, self._mentioned), strict=True))

    def _of_shape(self, rows: ShapeGroup) -> list[Grouped]:
        """Let the plans of a shape take their rows; make new ones while enough are left."""
        groups: list[Grouped] = []
        waiting, tried = np.arange(len(rows.places)), 0
        while len(waiting):
            known = self._plan(rows, waiting, tried)
            if known is None:
                break
            tried += 1
            values = Values(rows.only(waiting))
            holds = known.plan.holds(values)
            chosen, waiting = waiting[holds], waiting[~holds]
            if len(chosen):
                if not self._still_agrees(known, rows, chosen):
                    break
                values = Values(rows.only(chosen)) if len(waiting) else values
                groups.append((rows, known.plan.render(values, rows.places[chosen], composed=self._composes)))
        return groups

    def _plan(self, rows: ShapeGroup, waiting: Ints, tried: int) -> _Known | None:
        """The next plan of this shape: one that is known, or a new one from the first row that waits."""
        plans = self._plans.get(rows.shape, ())
        if tried < len(plans):
            return plans[tried]
        if rows.shape in self._given_up or len(plans) >= MAX_PLANS_OF_SHAPE:
            return None
        with self._lock:
            plans = self._plans.get(rows.shape, [])
            if tried < len(plans):  # another thread was here
                return plans[tried]
            known = self._new(rows, waiting)
            if known is not None:
                self._plans[rows.shape] = [*plans, known]
            return known

    def _new(self, rows: ShapeGroup, waiting: Ints) -> _Known | None:
        """A plan from one of the rows, compared with the ordinary way on that row.

        What refuses one row's plan may be nothing to another: the next one is tried once there are twice as many rows.
        """
        shape, least = rows.shape, self._planning.min_rows
        if len(self._seen) > MAX_SHAPES_SEEN:
            self._seen.clear()
        self._seen[shape] += len(waiting)
        while least is not None and shape not in self._given_up and len(self._plans) < MAX_SHAPES:
            failed = self._failed[shape]
            example = rows.example(int(waiting[failed * len(waiting) // MAX_FAILED]))
            long = isinstance(example, Conversation) and len(example.messages) > MAX_MARKED
            at_once = long or (self._pieces is not None and self._pieces.are_used and len(self._seen) > MANY_SHAPES)
            if self._seen[shape] < (1 if at_once else least) * 2**failed:
                break
            if self._seen[shape] < FEW_ROWS and self._knows(example):
                break
            with recording() as recorder:
                plan = self._traced(example, recorder)
            if plan is not None and self.agrees(plan, example):
                self.counts["plans:made"] += 1
                self._seen[shape] = 0
                if self._pieces is not None and isinstance(example, Conversation):
                    self._pieces.learn(plan, example, recorder)
                return _Known(plan, self._planning)
            self.counts["plans:refused"] += 1
            self.counts[f"plan_refused:{recorder.why}"] += 1
            self._refused[shape] = recorder.why
            self._failed[shape] += 1
            if self._failed[shape] == MAX_FAILED:
                self._given_up.add(shape)
        return None

    def _knows(self, example: Example) -> bool:
        """Whether a row is likely to be put together from pieces."""
        return self._pieces is not None and isinstance(example, Conversation) and self._pieces.know(example)

    def _traced(self, example: Example, recorder: Recorder) -> Plan | None:
        """The plan of a row, rendered with symbols; None where something refuses it."""
        try:
            if isinstance(example, Text):
                return self._text.plan(example, recorder)
            with allowance(row_budget(example)):
                if isinstance(example, Conversation) and self._chat is not None:
                    return self._chat.plan(example, recorder)
                if isinstance(example, Record) and self._record is not None:
                    return self._record.plan(example, recorder)
                refuse("rows of a kind that the template does not take")
        except RowError as error:
            recorder.refused[:] = [f"a row that is rejected: {error.reason}"]
        except (TemplateError, Refused) as error:
            refuse(str(error))
        return None

    def _still_agrees(self, known: _Known, rows: ShapeGroup, chosen: Ints) -> bool:
        """Whether the plan gives the text of plain Jinja for a sample of its rows; if not, it is given up."""
        if not known.is_due(len(chosen)):
            return True
        # From the end: a plan is often made from the first row.
        steps = np.linspace(len(chosen) - 1, 0, min(self._planning.checked, len(chosen)))
        sample = chosen[np.unique(steps.astype(np.int64))]
        texts = known.plan.render(Values(rows.only(sample)), sample).texts.to_pylist()
        for place, text in zip(sample.tolist(), texts, strict=True):
            example = rows.example(place)
            before, behind = known.plan.ends
            if text != f"{before}{self._expected(known.plan, example)}{behind}":
                self._give_up(rows.shape, example)
                return False
        return True

    def _expected(self, plan: Plan, example: Example) -> str | None:
        """The text of a row without a plan: as plain Jinja prints it, or put together from its turn's parts."""
        try:
            return self._mark(example).text if plan.marked.counts.get("assembled") else self._plain(example)
        except RowError:
            return None

    def _give_up(self, shape: Hashable, example: Example) -> None:
        with self._lock:
            self.counts["plans:wrong"] += 1
            self._given_up.add(shape)
            self._refused[shape] = "it differs from Jinja"
            self._plans[shape] = []
        logger.warning("a plan of the template differs from Jinja; its rows take the ordinary way: %r", example)

    def agrees(self, plan: Plan, example: Example) -> bool:
        """Whether the plan gives what the ordinary way gives for this row: its text, and what of it is trained.

        The ordinary way traces renders of a long conversation for each turn; there its plain renders are compared.
        """
        columns = columns_of([example])
        if columns is None or not plan.holds(Values(columns))[0]:
            return False
        rows = plan.render(Values(columns), np.zeros(1, np.int64))
        text = rows.texts[0].as_py()
        if isinstance(example, Conversation) and len(example.messages) > MAX_MARKED and not self._whole:
            return self._agrees_in_its_turns(plan, example, text, rows)
        try:
            found = self._mark(example)
        except RowError:
            return False
        wanted = with_ends(found, *plan.ends)
        weighed = [
            (len(wanted.text[:start].encode()), len(wanted.text[:end].encode()), weight)
            for start, end, weight in wanted.weights
        ]
        mine = [(*part, weight) for part, weight in zip(rows.weighted[0].tolist(), rows.weights, strict=True)]
        ranges = [[len(wanted.text[:edge].encode()) for edge in part] for part in wanted.trained]
        same = text == wanted.text and rows.trained[0].tolist() == ranges
        same &= mine == weighed and rows.eos_weight == found.eos_weight
        return same and (plan.marked.eos, plan.marked.bos, dict(plan.marked.counts)) == (
            found.eos,
            found.bos,
            dict(found.counts),
        )

    def _agrees_in_its_turns(self, plan: Plan, example: Conversation, text: str, rows: PlannedRows) -> bool:
        """Whether a long conversation has this text, and its turns are trained as the plan trains them."""
        before, behind = plan.ends
        marked = plan.fill({field: leaf_text(value) for field, value in leaves(example)})
        expected = self._expected(plan, example)
        if text != f"{before}{expected}{behind}" or marked is None or marked.text != expected or self._marker is None:
            return False
        wanted = [[len(text[: len(before) + edge].encode()) for edge in part] for part in marked.trained]
        if rows.trained[0].tolist()[: len(wanted)] != wanted:
            return False
        speaking, seams = self._marker.speaking(example), seams_of(example, marked)
        if self._expands or self._marker.policy.history == "last":
            speaking = speaking[-1:]
        try:
            with allowance(row_budget(example)):
                if seams is None:
                    unsure = speaking[:: -max(1, len(speaking) // TURNS_PROVEN)]
                else:
                    chosen = speaking[:: -max(1, len(speaking) // TURNS_COMPARED)]
                    unsure = doubted(self._marker.template, example, marked, chosen, seams)
                return not unsure or self._marker.trains(example, marked.trained, unsure)
        except RowError:
            return False
