"""Judges every template of a corpus: template text and a kind of conversation come in, a `Verdict` goes out.

The judge believes plain Jinja and rotated letters only (see oracles.py), and looks at ids and labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import oracles
from corpus_rows import KINDS, MARKER, NOW
from transformers import PreTrainedTokenizerFast

import instruct_fmt as ifmt


@dataclass
class Verdict:
    """What became of one conversation under one template.

    Attributes:
        state: `unrenderable` (plain Jinja refuses), `emitted`, or `refused`.
        reason: why it was refused: a reason code or an error class.
        problems: what is wrong with the emitted row; empty is right.
        start: the last trained turn starts where the plain generation prompt ends.
        stop: where its end comes from: `text`, `appended`, `none`.
        equal, skipped: earlier turns trained (and read as if they were last), and left out.
        tail: what is trained behind the last letter of the last turn.
        needless: the oracle sees no ground for the refusal (or for the turns left out).
    """

    template: str
    kind: str
    state: str = "unrenderable"
    reason: str = ""
    problems: list[str] = field(default_factory=list)
    start: bool = False
    stop: str = ""
    equal: int = 0
    skipped: int = 0
    tail: str = ""
    needless: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Evidence:
    """One rendering as plain Jinja sees it, in bytes."""

    render: oracles.Plain
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Any] | None

    @cached_property
    def text(self) -> str:
        return self.render(self.messages, tools=self.tools)

    @cached_property
    def offsets(self) -> list[int]:
        """The byte at which each character starts, and the end."""
        out = [0]
        for char in self.text:
            out.append(out[-1] + len(char.encode()))
        return out

    @cached_property
    def assistants(self) -> list[int]:
        return [i for i, m in enumerate(self.messages) if m["role"] == "assistant"]

    def wrote(self, *which: int) -> set[int]:
        """The bytes that letters of these messages take up."""
        found = oracles.written_by(self.render, self.messages, which, tools=self.tools)
        return {self.offsets[i] for i in found}

    def prompt(self, turn: int) -> str | None:
        """The plain generation prompt of a turn, or None where plain Jinja refuses to make one."""
        try:
            return self.render(self.messages[:turn], tools=self.tools, prompt=True)
        except oracles.PLAIN_FAILURES:
            return None

    def as_last(self, turn: int) -> str | None:
        """The conversation up to a turn."""
        try:
            return self.render(self.messages[: turn + 1], tools=self.tools)
        except oracles.PLAIN_FAILURES:
            return None


def _as_parts(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]


def _renderable(render: oracles.Plain, row: Mapping[str, Any]) -> Evidence | None:
    """The row as plain Jinja can render it: content as text, or as parts where text does not come through."""
    for messages in (row["messages"], _as_parts(row["messages"])):
        evidence = Evidence(render, messages, row.get("tools"))
        try:
            text = evidence.text
        except oracles.PLAIN_FAILURES:
            continue
        if row["messages"][-1]["content"].split()[-1] in text:
            return evidence
    first = Evidence(render, row["messages"], row.get("tools"))
    try:
        return first if first.text is not None else None
    except oracles.PLAIN_FAILURES:
        return None


def judge(name: str, template: str, tokenizer: PreTrainedTokenizerFast) -> list[Verdict]:
    """The verdicts on one template, one for each kind of conversation."""
    render = oracles.plain(template, tokenizer, NOW)
    made: ifmt.Formatter | ifmt.InstructFmtError
    try:
        # Rows as the template renders them; what is put together from prompt and completion, `served` judges.
        made = ifmt.compile(template, tokenizer, now=NOW, prompt_mismatch="error")
    except ifmt.InstructFmtError as error:
        made = error
    return [_judge_kind(Verdict(name, kind), row, render, made) for kind, row in KINDS.items()]


def _judge_kind(
    verdict: Verdict,
    row: Mapping[str, Any],
    render: oracles.Plain,
    made: ifmt.Formatter | ifmt.InstructFmtError,
) -> Verdict:
    evidence = _renderable(render, row)
    if evidence is None:
        return verdict
    verdict.state = "refused"
    if isinstance(made, ifmt.InstructFmtError):
        verdict.reason = type(made).__name__
        return verdict
    try:
        encoded = made.encode({**row, "messages": list(evidence.messages)})
    except ifmt.errors.RowError as error:
        verdict.reason = error.reason
        verdict.needless = _needless(evidence, error.reason)
        return verdict
    except ifmt.InstructFmtError as error:
        verdict.reason = type(error).__name__
        return verdict
    verdict.state = "emitted"
    try:
        _judge_row(verdict, evidence, made.tokenizer, encoded)
    except oracles.PLAIN_FAILURES as error:
        verdict.problems.append(f"no verdict: {error}")
    return verdict


def _needless(evidence: Evidence, reason: str) -> str:
    """A word where the oracle contradicts a refusal."""
    last = evidence.assistants[-1]
    prompt = evidence.prompt(last)
    if prompt is None or not evidence.text.startswith(prompt):
        return ""
    if reason in ("prompt-not-prefix", "start-unknown"):
        return "the prompt is a prefix of the text"
    try:
        wrote = evidence.wrote(last)
        foreign = evidence.wrote(*_others(evidence))
        sizes = [(len(evidence.wrote(turn)), oracles.letters(evidence.messages[turn])) for turn in evidence.assistants]
    except oracles.PLAIN_FAILURES:
        return ""
    start = len(prompt.encode())
    whole = all(found >= wanted for found, wanted in sizes) and min(wrote, default=0) >= start
    if whole and not any(byte >= start for byte in foreign):
        return "everything of the last turn is behind its prompt, and nothing else"
    return ""


def _others(evidence: Evidence) -> list[int]:
    return [i for i in range(len(evidence.messages)) if i not in evidence.assistants]


def _judge_row(
    verdict: Verdict, evidence: Evidence, tokenizer: PreTrainedTokenizerFast, encoded: Mapping[str, Any]
) -> None:
    ids, labels = list(encoded["input_ids"]), list(encoded["labels"])
    text = oracles.text_of(tokenizer, ids)
    appended = text != evidence.text
    if text not in (evidence.text, evidence.text + tokenizer.eos_token):
        verdict.problems.append("the ids are not the rendered text")
        return
    _judge_ids(verdict, evidence, tokenizer, ids)
    trained = oracles.trained_bytes(tokenizer, ids, labels)
    starts = oracles.token_starts(tokenizer, ids)
    _judge_content(verdict, evidence, trained, starts)
    _judge_start(verdict, evidence, trained, starts)
    _judge_stop(verdict, evidence, trained, appended)
    _judge_history(verdict, evidence, trained, starts)


def _judge_ids(verdict: Verdict, evidence: Evidence, tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> None:
    """The ids are those of the text, but for added tokens that data would form; think tags are allowed."""
    theirs = list(tokenizer(evidence.text, add_special_tokens=False)["input_ids"])
    if verdict.kind == "markers" or list(ids[: len(theirs)]) == theirs:
        return
    prompt = tokenizer(evidence.prompt(evidence.assistants[-1]) or "", add_special_tokens=False)["input_ids"]
    if theirs[: len(prompt)] != prompt and list(ids[: len(prompt)]) == prompt:
        return  # a token would cross the seam, so that the answer is encoded apart
    missing = Counter(tokenizer.convert_ids_to_tokens(theirs)) - Counter(tokenizer.convert_ids_to_tokens(ids))
    lost = [token for token in missing if token in tokenizer.get_added_vocab()]
    if not lost or verdict.kind != "tools" or {"<think>", "</think>"} & set(lost):
        verdict.problems.append(f"the ids differ from apply_chat_template; encoded as text: {lost}")


def _judge_content(verdict: Verdict, evidence: Evidence, trained: Sequence[bool], starts: Sequence[int]) -> None:
    # A token that holds letters of both sides is trained whole.
    shared = {starts[byte] for byte in evidence.wrote(*evidence.assistants)}
    others = evidence.wrote(*_others(evidence))
    foreign = [byte for byte in others if trained[byte] and starts[byte] not in shared]
    if foreign:
        verdict.problems.append(f"foreign: {len(foreign)} letters of other speakers are trained")
    for turn in evidence.assistants:
        wrote = evidence.wrote(turn)
        hit = sum(trained[byte] for byte in wrote)
        if hit == 0 and turn != evidence.assistants[-1]:
            verdict.skipped += 1
        elif hit < len(wrote):
            verdict.problems.append(f"content: turn {turn} has {len(wrote) - hit} letters untrained")
        elif len(wrote) < oracles.letters(evidence.messages[turn]):
            verdict.problems.append(f"dropped: turn {turn} lacks letters of its own")


def _run_around(trained: Sequence[bool], byte: int) -> tuple[int, int]:
    start = end = byte
    while start > 0 and trained[start - 1]:
        start -= 1
    while end < len(trained) and trained[end]:
        end += 1
    return start, end


def _judge_start(verdict: Verdict, evidence: Evidence, trained: Sequence[bool], starts: Sequence[int]) -> None:
    last = evidence.assistants[-1]
    prompt, wrote = evidence.prompt(last), evidence.wrote(last)
    if prompt is None or not evidence.text.startswith(prompt):
        verdict.problems.append("start: the plain prompt is not a prefix of the text")
        return
    expected = len(prompt.encode())
    start, _ = _run_around(trained, min(wrote))
    # A token that straddles the start is trained whole.
    verdict.start = start in (expected, starts[expected]) or _joins(evidence, trained, start, expected)
    if not verdict.start:
        found = evidence.text.encode()[start : start + 30].decode(errors="replace")
        verdict.problems.append(f"start: at {found!r}, the prompt ends in {prompt[-30:]!r}")


def _joins(evidence: Evidence, trained: Sequence[bool], start: int, expected: int) -> bool:
    """Whether an earlier trained turn runs into this one because the prompt of this one is empty."""
    if len(evidence.assistants) < 2 or start > expected:
        return False
    before = evidence.as_last(evidence.assistants[-2])
    return before is not None and len(before.encode()) >= expected and all(trained[start:expected])


def _judge_stop(verdict: Verdict, evidence: Evidence, trained: Sequence[bool], appended: bool) -> None:
    own_end = max(evidence.wrote(evidence.assistants[-1])) + 1
    _, end = _run_around(trained, own_end - 1)
    tail = evidence.text.encode()[own_end:].decode()
    verdict.tail = evidence.text.encode()[own_end:end].decode()
    first = MARKER.search(tail)
    if first is None:
        verdict.stop = "appended" if appended and end == len(trained) else "none"
        return
    stop_end = own_end + len(tail[: first.end()].encode())
    verdict.stop = "text" if end >= stop_end else "none"
    if end < stop_end:
        verdict.problems.append(f"stop: {first.group()} is not trained")
    elif appended:
        verdict.problems.append(f"stop: EOS appended behind {first.group()}")


def _judge_history(verdict: Verdict, evidence: Evidence, trained: Sequence[bool], starts: Sequence[int]) -> None:
    raw = evidence.text.encode()
    for turn in evidence.assistants[:-1]:
        wrote = evidence.wrote(turn)
        prompt, whole = evidence.prompt(turn), evidence.as_last(turn)
        if prompt is None or whole is None or not whole.startswith(prompt):
            continue
        alone = whole.encode()[len(prompt.encode()) :]
        if not any(trained[byte] for byte in wrote):
            start = len(prompt.encode())
            same = alone.rstrip() and raw[start:].startswith(alone) and raw[:start] == prompt.encode()
            # A terminator that only history has is a difference.
            same = same and not MARKER.match(raw[start + len(alone) :].decode().lstrip())
            verdict.needless = verdict.needless or ("a turn was left out though it reads the same" if same else "")
            continue
        start, end = _run_around(trained, min(wrote))
        if raw.startswith(prompt.encode()) and starts[len(prompt.encode())] == start:
            start = len(prompt.encode())
        span = raw[start:end]
        shared = len(_common(alone, span))
        rest = span[shared:].decode(errors="replace")
        if rest and not MARKER.fullmatch(rest):
            verdict.problems.append(f"history: turn {turn} reads {span!r}, as the last turn {alone!r}")
        else:
            verdict.equal += 1


def _common(a: bytes, b: bytes) -> bytes:
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return a[:n]
