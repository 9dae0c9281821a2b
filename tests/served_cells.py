"""What becomes of one conversation under one template and one tokenizer: a `Verdict`, by public calls only.

A cell is tried by default; where it is refused, with each option that the rejection names; and with
`history="expand"`. Every row that comes out is judged by `served`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

import oracles
import pyarrow as pa
import served_aside
from corpus_rows import MARKER, NOW
from served import Row, judge_expanded, judge_row
from served_fixes import Options, alternatives, cures, written
from served_rows import KINDS, Kind, Message
from served_scene import Scene, content_of, fields, find, forms, unprinted
from served_text import ends_part, placed
from transformers import PreTrainedTokenizerFast

import instruct_fmt as ifmt
from instruct_fmt.types import EncodedBatch

EXPAND = {"history": "expand"}
CRASHES = (*oracles.PLAIN_FAILURES, AssertionError, RuntimeError)


@dataclass
class Verdict:
    """What became of one conversation.

    Attributes:
        state: `raises` (no form of it renders), `unprinted` (a field of a trained turn is nowhere in the text),
            `unsaid` (a field of another speaker), `default`, `option`, `refused`.
        reason: why it was refused by default: a reason code or an error class.
        option: the named option that cures it, as the rejection writes it.
        problems: what is wrong with emitted rows; empty is right.
        useless: named options with which the row is still refused.
        trained, turns: the turns that are trained by default (or with the option), of so many.
        expanded: the rows of `history="expand"`, or why it refuses.
        aside: what the template is for, if it is no assistant's.
    """

    template: str
    kind: str
    tokenizer: str
    state: str = "raises"
    reason: str = ""
    found: str = ""
    fix: str = ""
    option: str = ""
    problems: list[str] = field(default_factory=list)
    useless: list[str] = field(default_factory=list)
    trained: int = 0
    turns: int = 0
    expanded: str = ""
    aside: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


# one template


@dataclass
class Bench:
    """A template under a tokenizer, with the formatters made of it.

    Attributes:
        folder: what `compile` is given as the tokenizer.
    """

    name: str
    template: str
    tokenizer: PreTrainedTokenizerFast
    folder: str
    backend: Literal["auto", "tokenizers"] = "tokenizers"
    made: dict[str, ifmt.Formatter | ifmt.InstructFmtError] = field(default_factory=dict)

    def formatter(self, options: Options) -> ifmt.Formatter | ifmt.InstructFmtError:
        key = repr(sorted(options.items()))
        if key not in self.made:
            clock = {"now": NOW} if "strftime_now" in self.template else {}
            try:
                self.made[key] = ifmt.compile(self.template, self.folder, backend=self.backend, **{**clock, **options})
            except ifmt.InstructFmtError as error:
                self.made[key] = error
        return self.made[key]

    def judge(self, kind: str, tokenizer_name: str) -> Verdict:
        """The verdict on one kind of conversation."""
        return Cell(self, KINDS[kind], Verdict(self.name, kind, tokenizer_name, aside=self.purpose)).verdict()

    @cached_property
    def purpose(self) -> str:
        return served_aside.purpose(self.name, self.template, self.tokenizer)


@dataclass
class Outcome:
    """What came of a cell with some options: the rows that came out with the ids of each trained turn, or why not."""

    rows: int = 0
    ids: list[list[int]] = field(default_factory=list)
    trained: dict[int, list[int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    reason: str = ""
    found: str = ""
    fix: str = ""


@dataclass
class Cell:
    """One conversation on one bench."""

    bench: Bench
    kind: Kind
    seen: Verdict

    def verdict(self) -> Verdict:
        seen, scenes = self.seen, [scene for scene in self.scenes({}) if scene.text is not None]
        if not scenes:
            return seen
        seen.turns = len(self.kind.turns)
        first = self.tried({})
        seen.reason, seen.found, seen.fix = first.reason, first.found, first.fix
        seen.problems, seen.trained = first.problems, len(first.trained)
        seen.state = "default" if first.rows else "refused"
        if not first.rows:
            self._cure(first)
        lost = min((unprinted(scene, self.kind.turns) for scene in scenes), key=len)
        others = [index for index in range(len(self.kind.messages)) if index not in self.kind.turns]
        unsaid = min((unprinted(scene, others) for scene in scenes), key=len)
        if not seen.problems and (lost or unsaid) and seen.state != "default":
            seen.state = "unprinted" if lost else "unsaid"
        if len(self.kind.turns) > 1 or self.kind.messages[-1]["role"] == "user":
            self._expand(first)
        return seen

    def _cure(self, first: Outcome) -> None:
        """Try what the rejection names."""
        for options in alternatives(first.fix):
            if not cures(options):
                continue
            outcome = self.tried(options)
            self.seen.problems += [f"{written(options)}: {problem}" for problem in outcome.problems]
            if outcome.rows and not outcome.problems:
                self.seen.state, self.seen.option = "option", written(options)
                self.seen.trained = len(outcome.trained)
                return
            if not outcome.rows:
                self.seen.useless.append(f"{written(options)}: {outcome.reason}: {outcome.found}")

    def _expand(self, first: Outcome) -> None:
        outcome = self.tried(EXPAND)
        self.seen.expanded = f"{outcome.rows} rows" if outcome.rows else outcome.reason
        self.seen.problems += [f"expand: {problem}" for problem in outcome.problems]
        for turn in first.trained.keys() & outcome.trained.keys() if not outcome.problems else ():
            mine, alone = (self._words(turn, each.trained[turn]) for each in (first, outcome))
            if mine != alone and (mine[:-1] != alone[:-1] or not alone[-1].startswith(mine[-1])):
                self.seen.problems.append(f"expand: turn {turn} is {mine} in place, and {alone} alone")

        if first.rows and not outcome.problems and not self._holds_last(first.ids[0]) and first.ids != outcome.ids:
            self.seen.problems.append("expand: a row without the last message is not the one that expanding gives")

    def _holds_last(self, ids: Sequence[int]) -> bool:
        last = self.kind.messages[-1]
        return (
            last["role"] == "assistant" or find(oracles.text_of(self.bench.tokenizer, ids), last["content"]) is not None
        )

    def _words(self, turn: int, ids: Sequence[int]) -> list[str]:
        """The tokens of a turn up to its stop: it may have none, or another one, where something follows."""
        tokens = [oracles.text_of(self.bench.tokenizer, [each]) for each in ids]
        places = placed("".join(tokens), [fields(self.kind.messages[turn])])
        own = 0 if isinstance(places, str) else max(place.end for place in places)
        eos = re.escape(self.bench.tokenizer.eos_token)
        marks = re.compile(f"{eos}|{MARKER.pattern}").finditer("".join(tokens), own)
        stop = next((mark.start() for mark in marks if not ends_part(mark[0])), None)
        while stop is not None and len("".join(tokens)) > stop:
            tokens.pop()
        return tokens

    def scenes(self, options: Options) -> list[Scene]:
        messages = [_reshaped(message, options.get("reasoning", "keep")) for message in self.kind.messages]
        names = options.get("template_kwargs") or {}
        key = repr((messages, names))
        known: dict[str, list[Scene]] = self.__dict__.setdefault("_scenes", {})
        if key not in known:
            known[key] = forms(self.bench.tokenizer, self.bench.template, messages, self.kind.tools, names)
        return known[key]

    def tried(self, options: Options) -> Outcome:
        """Encode the conversation with some options, and judge what comes out."""
        made = self.bench.formatter(options)
        if isinstance(made, ifmt.InstructFmtError):
            return Outcome(reason=type(made).__name__, found=str(made))
        try:
            batch = made.encode_batch(self.table)
        except ifmt.InstructFmtError as error:
            return Outcome(reason=type(error).__name__, found=str(error))
        except CRASHES as error:
            return Outcome(reason="crash", problems=[f"crash: {type(error).__name__}: {error}"])
        if batch.rejected:
            rejection = batch.rejected[0]
            return Outcome(reason=rejection.reason, found=rejection.found, fix=rejection.fix)
        scenes = [scene for scene in self.scenes(options) if scene.text is not None]
        outcomes = [_judged(scene, batch, options, self.kind) for scene in scenes]
        if not outcomes:
            return Outcome(rows=batch.table.num_rows, problems=["emitted though no form of the conversation renders"])
        best = min(outcomes, key=lambda outcome: (len(outcome.problems), not outcome.trained))
        best.problems += _public(made, batch, options, self.kind, scenes)
        return best

    @cached_property
    def table(self) -> pa.Table:
        return pa.Table.from_pylist([self.kind.row()])


def _reshaped(message: Message, reasoning: str) -> Message:
    """A message as the option `reasoning` has it read: thoughts as a field, or none."""
    if message["role"] != "assistant" or reasoning == "keep":
        return message
    own = fields(message)
    bare = {key: value for key, value in message.items() if key != "reasoning_content"}
    if content_of(message) != own.content:
        bare["content"] = own.content
    return {**bare, "reasoning_content": own.reasoning} if reasoning == "field" and own.reasoning else bare


def _judged(scene: Scene, batch: EncodedBatch, options: Options, kind: Kind) -> Outcome:
    stated, closed = "completion_format" in options, options.get("empty_reasoning") == "close"
    rows = [Row(row["input_ids"], row["labels"], stated, closed) for row in batch.table.to_pylist()]
    judge = judge_expanded if options.get("history") == "expand" else judge_row
    outcome = Outcome(rows=len(rows), ids=[list(row.ids) for row in rows])
    stopless, turns = 0, list[int]()
    for row in rows:
        found = judge(scene, row)
        outcome.problems += found.problems
        turns += [run.turn for run in found.runs]
        outcome.trained.update({run.turn: list(row.ids[run.start : run.end]) for run in found.runs})
        stopless += found.stopless
    if not outcome.problems:
        outcome.problems += _counted(batch, turns, stopless, kind)
    return outcome


def _counted(batch: EncodedBatch, turns: Sequence[int], stopless: int, kind: Kind) -> Iterator[str]:
    """What is left out is counted, and nothing comes out twice."""
    skipped = sum(number for name, number in batch.counts.items() if name.startswith("turns_skipped:"))
    if len(turns) + skipped < len(kind.turns):
        yield f"turns: {len(turns)} trained, {skipped} counted as left out, of {len(kind.turns)}"
    if stopless > batch.counts["turns_without_stop"]:
        yield f"stop: {stopless} turns end in none, {batch.counts['turns_without_stop']} are counted"
    if len(set(turns)) < len(turns):
        yield f"turns: the same one twice: {turns}"


def _public(
    made: ifmt.Formatter, batch: EncodedBatch, options: Options, kind: Kind, scenes: Sequence[Scene]
) -> Iterator[str]:
    """`encode` and `prompt` say the same as `encode_batch` and a server."""
    if options.get("history") == "expand":
        return
    row = kind.row()
    try:
        alone, prompt = made.encode(row), made.prompt(row)
    except ifmt.InstructFmtError as error:
        yield f"public: encode_batch emits what encode or prompt refuses: {error}"
        return
    if [alone] != batch.table.to_pylist():
        yield "public: encode and encode_batch differ"
    asked = [scene.prompt(kind.turns[-1]) for scene in scenes]
    if prompt.input_ids not in [ids for _, ids in filter(None, asked)]:
        sent = [text[-60:] for text, _ in filter(None, asked)]
        yield f"public: prompt() is {prompt.text[-60:]!r}, a server sends {sent!r}"
