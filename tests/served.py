"""The judge of "as served": rows come in, what is wrong with them goes out.

It believes `tokenizer.apply_chat_template` alone, and looks at ids and labels. A trained run must stand behind exactly
the ids that a server sends to get it, must hold the fields of its message and nothing of others, and must end in a
stop. Nothing here looks at how the package works.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import oracles
import served_text
from served_scene import Scene, fields, find
from served_text import Answer


@dataclass(frozen=True)
class Row:
    """An emitted row.

    Attributes:
        stated: the user stated how a turn is written; renderings tell nothing about it.
        closed: the user had empty blocks closed; renderings tell nothing about turns behind an open one.
    """

    ids: Sequence[int]
    labels: Sequence[int]
    stated: bool = False
    closed: bool = False


@dataclass(frozen=True)
class Run:
    """A trained run: the tokens `start` to `end` that answer the prompt of message `turn`."""

    turn: int
    start: int
    end: int


@dataclass
class Found:
    """What a row holds, and what is wrong with it; turns without a stop must be counted by the package."""

    runs: list[Run] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    stopless: int = 0


def judge_row(scene: Scene, row: Row) -> Found:
    """Judge a row that may hold several trained turns."""
    found = Found()
    if any(label not in (-100, token) for token, label in zip(row.ids, row.labels, strict=True)):
        found.problems.append("labels: one is neither its id nor -100")
    found.runs = list(_runs(scene, row, found.problems))
    told = [_judge_run(scene, row, run, found) for run in found.runs]
    found.problems += _dropped(scene, row, found.runs)
    if found.runs and not found.problems and told[-1]:
        found.problems += _whole(scene, row, found.runs[-1])
    return found


# where training starts


def _runs(scene: Scene, row: Row, problems: list[str]) -> Iterator[Run]:
    """The trained runs with the messages whose prompts they stand behind; joined ones are taken apart."""
    turn = 0
    for start, end in oracles.runs(row.labels):
        edges = [at for at in range(start, end) if at == start or _asked(scene, row, at, turn)]
        for at, stop in zip(edges, [*edges[1:], end], strict=True):
            asked = _asked(scene, row, at, turn)
            if not asked:
                problems.append(_unasked(scene, row, at, turn))
                continue
            # A template that prints nothing of some messages asks for several turns alike.
            text = oracles.text_of(scene.tokenizer, row.ids[at:stop])
            said = (k for k in asked if not isinstance(served_text.placed(text, [fields(scene.messages[k])]), str))
            turn = next(said, asked[0])
            yield Run(turn, at, stop)


def _asked(scene: Scene, row: Row, place: int, behind: int) -> list[int]:
    """The messages behind message `behind` whose prompts' ids end at a place of the row."""
    prompts = ((turn, scene.prompt(turn)) for turn in scene.turns if turn > behind)
    return [turn for turn, asked in prompts if asked and len(asked[1]) == place and list(row.ids[:place]) == asked[1]]


def _unasked(scene: Scene, row: Row, start: int, behind: int) -> str:
    before = oracles.text_of(scene.tokenizer, row.ids[max(0, start - 12) : start])
    after = oracles.text_of(scene.tokenizer, row.ids[start : start + 12])
    asked = filter(None, (scene.prompt(turn) for turn in scene.turns if turn > behind))
    prompts = ", ".join(f"{len(ids)} ids, …{text[-40:]!r}" for text, ids in asked)
    return f"start: no prompt ends where training starts: …{before!r} | {after!r}; prompts: {prompts}"


# what is trained


def _judge_run(scene: Scene, row: Row, run: Run, found: Found) -> bool:
    """Judge one run; whether renderings tell how it must read."""
    ids = row.ids[run.start : run.end]
    own = [fields(scene.messages[turn]) for turn in _members(scene, run, found.runs)]
    text = oracles.text_of(scene.tokenizer, ids)
    places = served_text.placed(text, own)
    if isinstance(places, str):
        found.problems.append(f"fields: turn {run.turn}: {places} in {text!r}")
        return False
    answer = Answer(scene, run.turn, text, own, places)
    problems = served_text.problems(answer)  # who states the completion may let a guard answer
    said = [problem for problem in problems if not (row.stated and problem.startswith("asked"))]
    found.problems += [f"{problem}: turn {run.turn}: {text!r}" for problem in said]
    found.stopless += not _stopped(answer, ids)
    told = not row.stated and not (row.closed and not own[0].reasoning and served_text.opened(answer.tail))
    if told:
        found.problems += [f"{problem}: turn {run.turn}: {text!r}" for problem in _as_last(scene, row, run)]
    return told


def _dropped(scene: Scene, row: Row, runs: Sequence[Run]) -> Iterator[str]:
    """What was said before the last trained turn is in the row."""
    text = oracles.text_of(scene.tokenizer, row.ids)
    for index, message in enumerate(scene.messages[: runs[-1].turn] if runs else ()):
        content = fields(message).content
        if content and find(text, content) is None:
            yield f"dropped: message {index}, {content!r}, is nowhere in the row"


def _members(scene: Scene, run: Run, runs: Sequence[Run]) -> list[int]:
    """The messages of a run: those of the model's in a row that no other run answers."""
    later = {other.turn for other in runs if other.turn > run.turn}
    members = range(run.turn, scene.end(run.turn))
    return [turn for turn in members if not any(run.turn < other <= turn for other in later)]


def _stopped(answer: Answer, ids: Sequence[int]) -> bool:
    """Whether a turn ends in a stop; in its last token something else may follow."""
    before = len(oracles.text_of(answer.scene.tokenizer, ids[:-1]))
    ends = range(max(before, answer.end) + 1, len(answer.text) + 1)
    eos = answer.scene.tokenizer.eos_token
    return any(served_text.stops(answer.text[answer.end : end], eos) for end in ends)


def _as_last(scene: Scene, row: Row, run: Run) -> Iterator[str]:
    """A run is what the template writes behind the prompt when the turn is the last one, where it begins with it."""
    asked, upto = scene.prompt(run.turn), scene.whole(scene.end(run.turn))
    if asked is None or upto is None or upto[1][: run.start] != asked[1]:
        return
    mine, theirs = list(row.ids[run.start : run.end]), upto[1][run.start :]
    pairs = zip(mine, theirs, strict=False)
    shared = next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(mine), len(theirs)))
    rest = oracles.text_of(scene.tokenizer, mine[shared:])
    over = oracles.text_of(scene.tokenizer, theirs[shared:])
    if _opens_again(asked[0], over):
        return
    if rest and over.startswith(rest):
        return  # its last token may hold what follows there, and does not here
    # Behind it may come the stop that another message's header is, or an appended EOS, where it has none.
    eos = scene.tokenizer.eos_token
    ended = served_text.stops(oracles.text_of(scene.tokenizer, mine[:shared]).rstrip(), eos)
    if rest and (over.strip() or ended or not served_text.stops(rest, eos)):
        yield f"history: as the last turn it reads {oracles.text_of(scene.tokenizer, theirs)!r}"


def _opens_again(prompt: str, behind: str) -> bool:
    """Whether a row's own opener stands behind a prompt that ends in it."""
    openers = [opener for opener, _ in served_text.BLOCKS if prompt.rstrip().endswith(opener)]
    return any(behind.lstrip().startswith(opener) for opener in openers)


def _whole(scene: Scene, row: Row, last: Run) -> Iterator[str]:
    """The row is the conversation wherever this begins with the last prompt: its ids, or its text across a seam.

    A last trained turn that is not the last message may stand as if it were; what was said later may also come encoded
    apart, so that the turn's last token ends where it does.
    """
    asked, end = scene.prompt(last.turn), scene.end(last.turn)
    wholes = [scene.whole(count) for count in {end, len(scene.messages)}]
    fitting = [whole for whole in wholes if whole and asked and whole[0].startswith(asked[0])]
    later = end < len(scene.messages)
    if any(asked and _opens_again(asked[0], whole[0][len(asked[0]) :]) for whole in fitting):
        return
    if fitting and not any(_same(scene, row, last, whole, later=later) for whole in fitting):
        theirs = fitting[-1][0][len(asked[0]) if asked else 0 :]
        mine = oracles.text_of(scene.tokenizer, row.ids[last.start :])
        yield f"parity: the row ends in {mine!r}, apply_chat_template's in {theirs!r}"


def _same(scene: Scene, row: Row, last: Run, whole: tuple[str, list[int]], *, later: bool) -> bool:
    """Whether a row is a whole conversation, an appended EOS aside."""
    text, ids = whole
    if ids[: last.start] == list(row.ids[: last.start]):
        more = list(row.ids[len(ids) :])
        kept = last.end - 1 if later else len(ids)
        return list(row.ids[:kept]) == ids[:kept] and (later or more in ([], [scene.tokenizer.eos_token_id]))
    found, eos = oracles.text_of(scene.tokenizer, row.ids), scene.tokenizer.eos_token
    return found.replace("▁", " ") in (
        text.replace("▁", " "),
        text.replace("▁", " ") + eos,
    )  # some have no `▁` but blanks


def judge_expanded(scene: Scene, row: Row) -> Found:
    """Judge a row of `history="expand"`: one prompt, one completion, and nothing that was said later."""
    runs = list(oracles.runs(row.labels))
    if len(runs) != 1:
        return Found(problems=[f"expanded: {len(runs)} trained runs in a row"])
    found = list(_runs(scene, row, []))
    return judge_row(scene.upto(scene.end(found[0].turn)) if found else scene, row)
