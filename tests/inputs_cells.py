"""What becomes of one kind of input under one template: a `Verdict`.

The judge knows the conversation that a row is (`inputs_rows`), and believes `apply_chat_template` alone. A row must
come out exactly if its conversation does, with the ids that a server would make of it; every text of the row must be in
these ids, or be named as unread.
"""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import datasets
import oracles
import pyarrow as pa
from inputs_rows import FOUND, INPUTS, NAME, Input, Row
from served import Row as Emitted
from served import judge_row
from served_cells import CRASHES, Bench
from served_fixes import Options, alternatives, written
from served_scene import Scene, find, forms

import instruct_fmt as ifmt
from instruct_fmt.types import EncodedBatch

STRANGE = "zebra"  # a role that no template has a branch for
_UNREAD = ("type", "role", "from")  # members that say how a text is written


@dataclass
class Verdict:
    """What became of a row.

    Attributes:
        state: `emitted` or `refused`.
        reason: why it was refused.
        own: whether the template has a branch for its role.
        put: whether it was put together from prompt and answer, or encoded apart.
        trained: how many of its turns are trained.
        problems: what is wrong; empty is right.
    """

    template: str
    kind: str
    tokenizer: str
    state: str = "refused"
    reason: str = ""
    own: bool = False
    put: bool = False
    trained: int = 0
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Outcome:
    """What a formatter made of a row."""

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    unread: tuple[str, ...] = ()
    reason: str = ""
    path: str = ""
    found: str = ""
    expected: str = ""
    fix: str = ""

    @property
    def shown(self) -> str:
        return f"{self.reason} at {self.path}: {self.found}" if self.reason else "emitted"


def kinds_for(bench: Bench) -> list[str]:
    """The kinds that are judged under a template: all where it prints calls, else those it may have a branch for."""
    if prints_calls(bench):
        return list(INPUTS)
    roles = {kind: INPUTS[kind].branch for kind in INPUTS}
    return [kind for kind, role in roles.items() if role and re.search(rf"['\"]{role}['\"]", bench.template)]


def prints_calls(bench: Bench) -> bool:
    """Whether the template writes the name and the argument of a call."""
    messages, tools = INPUTS["tools, flat"].messages, INPUTS["tools, flat"].tools
    scenes = [*_scenes(bench, messages, tools), *_scenes(bench, messages, None)]
    texts = [scene.text for scene in scenes if scene.text is not None]
    bare = [scene.text or "" for scene in _scenes(bench, messages[:1], tools)]
    # The names of tools may stand in their list.
    return any(find(text, "Marazion") and text.count(NAME) > bare[0].count(NAME) for text in texts)


def judge(bench: Bench, kind: str, tokenizer_name: str) -> Verdict:
    """The verdict on one kind of input."""
    return Cell(bench, INPUTS[kind], Verdict(bench.name, kind, tokenizer_name)).verdict()


def _scenes(bench: Bench, messages: Sequence[Row], tools: Sequence[Row] | None) -> list[Scene]:
    key = f"inputs {json.dumps([messages, tools])}"
    known: dict[str, list[Scene]] = bench.__dict__.setdefault("_scenes", {})
    if key not in known:
        known[key] = forms(bench.tokenizer, bench.template, list(messages), tools, {})
    return known[key]


@dataclass
class Cell:
    """One row on one bench."""

    bench: Bench
    kind: Input
    seen: Verdict

    def verdict(self) -> Verdict:
        seen = self.seen
        try:
            self._judge()
        except CRASHES as error:
            seen.problems.append(f"crash: {type(error).__name__}: {error}")
        return seen

    def _judge(self) -> None:
        seen, outcomes = self.seen, list(self._outcomes(self.kind.row, {}))
        first = outcomes[0]
        seen.state, seen.reason = "refused" if first.reason else "emitted", first.reason
        seen.put = bool(first.counts["assembled"] or first.counts["encoded_apart"])
        seen.trained = first.counts["trained_turns"]
        seen.problems += [
            f"forms: as a row {first.shown}, as a table {other.shown}"
            for other in outcomes[1:]
            if (other.reason, other.path, other.ids, other.labels)
            != (first.reason, first.path, first.ids, first.labels)
        ]
        if self.as_it_is:
            seen.problems += [] if first.reason else self._wrong(first, self.kind.row)
        elif self.kind.always:
            self._refused(first)
        else:
            self._came_out(first)

    # rows that come out

    def _came_out(self, first: Outcome) -> None:
        seen = self.seen
        seen.own = self.own_branch
        raised = first.reason == "template-raised" and self.own_raises
        if not self.own_branch and not raised and first.reason != self.canonical.reason:
            seen.problems.append(f"fate: {first.shown}; of chat APIs' form: {self.canonical.shown}")
        if not first.reason:
            seen.problems += self._wrong(first, self.kind.row)
        if self.kind.like and first.reason != "template-raised":
            seen.problems += self._fewer(first)
        if not first.reason and not self.own_branch and not self.canonical.reason:
            same = (first.ids, first.labels) == (self.canonical.ids, self.canonical.labels)
            seen.problems += [] if same else ["labels: chat APIs' form has others"]

    def _fewer(self, first: Outcome) -> Iterator[str]:
        """Values that are no text cost no turn."""
        plain = self._of_row(INPUTS["tools, flat"].canonical, {})
        mine, theirs = first.counts["trained_turns"], plain.counts["trained_turns"]
        if mine < theirs:
            yield f"like: {mine} trained turns ({first.shown}); where arguments are text, {theirs}"

    def _wrong(self, outcome: Outcome, row: Row) -> Iterator[str]:
        """What is wrong with what came out."""
        scenes = [scene for scene in self.scenes if scene.text is not None]
        if not scenes:
            yield "emitted though no form of the conversation renders"
            return
        emitted = Emitted(outcome.ids, outcome.labels)
        if not self.as_it_is:  # a name of the template's own may lead to what a turn says
            yield from min((judge_row(scene, emitted).problems for scene in scenes), key=len)
        changed = ("assembled", "encoded_apart", "neutralised")
        if not any(outcome.counts[name] for name in changed):
            eos = [self.bench.tokenizer.eos_token_id] if outcome.counts["eos_appended"] else []
            wholes = [scene.whole(len(scene.messages)) for scene in scenes]
            if outcome.ids not in [[*ids, *eos] for _, ids in filter(None, wholes)]:
                text = oracles.text_of(self.bench.tokenizer, outcome.ids)
                yield f"ids: not those of apply_chat_template: {text!r}; but {scenes[0].text!r}"
        text, named = oracles.text_of(self.bench.tokenizer, outcome.ids), list(map(_names, outcome.unread))
        # An id that a result repeats is told once.
        told = {value for path, value in texts_of(row) if any(path[: len(name)] == name for name in named)}
        for path, value in texts_of(row):
            if value not in told and not find(text, value):
                yield f"vanished: {value!r} at {'.'.join(path)}; unread: {', '.join(outcome.unread)}"

    @property
    def as_it_is(self) -> bool:
        """Whether the template may read a row that must not come out otherwise."""
        return bool(self.kind.unless) and self.kind.unless in self.bench.template

    @cached_property
    def canonical(self) -> Outcome:
        """What the package makes of chat APIs' form."""
        return self._of_row(self.kind.canonical, {})

    @cached_property
    def scenes(self) -> list[Scene]:
        if self.as_it_is:
            return _scenes(self.bench, self.kind.row["messages"], None)
        return _scenes(self.bench, self._raw if self.own_branch else self.kind.messages, self.kind.tools)

    @property
    def _raw(self) -> list[Row]:
        raw = self.kind.raw
        assert raw is not None
        return [raw if message["role"] == "tool" else message for message in self.kind.messages]

    @cached_property
    def own_branch(self) -> bool:
        """Whether the template writes a result in the row's role otherwise than a tool's and than a stranger's."""
        raw = self.kind.raw
        if raw is None:
            return False
        mine, theirs, nobodys = map(self._text, (self._raw, self.kind.messages, self._strange))
        if mine is None or FOUND not in mine:
            return False
        return mine != theirs and mine != (nobodys or "").replace(STRANGE, raw["role"])

    @property
    def own_raises(self) -> bool:
        """Whether the template takes such a result of a stranger, and refuses it in the row's role."""
        if self.kind.raw is None:
            return False
        return self._text(self._raw) is None and self._text(self._strange) is not None

    @property
    def _strange(self) -> list[Row]:
        return [{**message, "role": STRANGE} if message is self.kind.raw else message for message in self._raw]

    def _text(self, messages: Sequence[Row]) -> str | None:
        """The conversation in the first form that renders."""
        return next((scene.text for scene in _scenes(self.bench, messages, self.kind.tools) if scene.text), None)

    # rows that are refused

    def _refused(self, first: Outcome) -> None:
        kind, problems = self.kind, self.seen.problems
        if (first.reason, first.path) != (kind.always, kind.path):
            problems.append(f"fate: {first.shown}; expected {kind.always} at {kind.path}")
            return
        if kind.meant not in f"{first.found} {first.expected}":
            problems.append(f"words: {first.found}; expected {kind.meant}")
        cured = self._cured(first)
        if self.canonical.reason:
            return
        if kind.cured is not None:
            mended = self._of_row(kind.cured, {})
            problems += [f"mended: {problem}" for problem in self._as_canonical(mended, kind.cured)]
        if kind.option and not cured:
            problems.append(f"option: none gives what chat APIs' form does: {first.fix}")

    def _cured(self, first: Outcome) -> bool:
        """Whether an option that is named gives what chat APIs' form does; all of them must let the row come out."""
        found = False
        for options in alternatives(first.fix):
            outcome = self._of_row(self.kind.row, options)
            if outcome.reason:
                self.seen.problems.append(f"useless: {written(options)}: {outcome.shown}")
            elif not self.canonical.reason and set(options) & {"roles", "field_map", "allow_dropped"}:
                found = found or not list(self._as_canonical(outcome, self.kind.row))
        return found

    def _as_canonical(self, outcome: Outcome, row: Row) -> Iterator[str]:
        if outcome.reason:
            yield outcome.shown
        elif outcome.ids != self.canonical.ids:
            yield "other ids than of chat APIs' form"
        else:
            yield from self._wrong(outcome, row)

    # encoding

    def _outcomes(self, row: Row, options: Options) -> Iterator[Outcome]:
        if self.kind.taken != "json":
            yield self._of_row(row, options)
        if self.kind.taken != "row":
            table = json_table(row) if self.kind.taken == "json" else _table(row)
            yield self._of(options, lambda made: made.encode_batch(table))

    def _of_row(self, row: Row, options: Options) -> Outcome:
        given = copy.deepcopy(row)
        found = self._of(options, lambda made: made.encode_rows([given]))
        made = self.bench.formatter(options)
        if not found.reason and isinstance(made, ifmt.Formatter):
            alone = made.encode(given)
            if (alone["input_ids"], alone["labels"]) != (found.ids, found.labels):
                self.seen.problems.append("public: encode gives something else")
        if given != row:
            self.seen.problems.append("public: the row was changed")
        return found

    def _of(self, options: Options, encode: Any) -> Outcome:
        made = self.bench.formatter(options)
        if isinstance(made, ifmt.InstructFmtError):
            return Outcome(reason=type(made).__name__, found=str(made))
        try:
            batch: EncodedBatch = encode(made)
        except ifmt.InstructFmtError as error:
            return Outcome(reason=type(error).__name__, found=str(error))
        if batch.rejected:
            no = batch.rejected[0]
            return Outcome(reason=no.reason, path=no.path, found=no.found, expected=no.expected, fix=no.fix)
        (out,) = batch.table.to_pylist()
        return Outcome(out["input_ids"], out["labels"], batch.counts, tuple(batch.unread))


def _table(row: Row) -> pa.Table:
    """A table, its messages a `Json()` feature where some have text and others parts."""
    try:
        return pa.Table.from_pylist([row])
    except pa.ArrowInvalid:
        features = datasets.Features(dict.fromkeys(row, datasets.Json()))
        return datasets.Dataset.from_list([row], features=features).with_format("arrow")[:]


def json_table(row: Row) -> pa.Table:
    """A table whose arguments are a `Json()` feature."""
    text = datasets.Value("string")
    call = {"id": text, "type": text, "function": {"name": text, "arguments": datasets.Json()}}
    message = dict.fromkeys(("role", "content", "name", "tool_call_id"), text)
    features = {"messages": datasets.List({**message, "tool_calls": datasets.List(call)}), "tools": datasets.Json()}
    messages = [{**dict.fromkeys([*message, "tool_calls"]), **each} for each in row["messages"]]
    made = datasets.Dataset.from_list([{**row, "messages": messages}], features=datasets.Features(features))
    return made.with_format("arrow")[:]


# the texts of a row


def texts_of(row: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The texts of a row, each with the names that lead to it; JSON text is looked into."""
    for name, value in row.items():
        if name not in _UNREAD:
            yield from _texts(value, (name,))


def _texts(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, str):
        inner = _decoded(value)
        if inner is not None:
            yield from _texts(inner, path)
        elif value.strip():
            yield path, value
    elif isinstance(value, Mapping):
        for found, text in texts_of(value):
            yield (*path, *found), text
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, path)


def _decoded(value: str) -> Any:
    try:
        return json.loads(value) if value[:1] in ("{", "[", '"') else None
    except ValueError:
        return None


def _names(path: str) -> tuple[str, ...]:
    """The names of a path such as `$.messages[assistant].tool_calls[].id`."""
    return tuple(re.sub(r"\[\w*\]", "", path).split(".")[1:])
