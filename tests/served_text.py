"""What the text of a completion must hold, and what it must not: fields in order, blocks, headers, stops."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from corpus_rows import MARKER
from served_rows import words
from served_scene import Fields, Scene, content_of, find

# Blocks that hold what a model thinks: how they open and close.
BLOCKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought", "<channel|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
)
USER = r"user|human"
MODEL = r"assist|chatbot|\b(?:model|gpt|bot|ai)\b"
ROLE = re.compile(rf"{USER}|{MODEL}|system", re.IGNORECASE)
SCORE = re.compile(r"<\|?(?:reward|endoftext|eos)\|?>$")
# Markers that end a part of a turn, not the turn.
PART_END = re.compile(
    r"</(?!\w*_?s>|\w*assistant|bot|model).*|\[/.*|(?i:.*(?:tool|call|think).*end.*)|<\|END_(?!OF|TURN).*|<[|]/.*"
)


class Place(NamedTuple):
    """Where a field stands in a text."""

    start: int
    end: int
    name: str


@dataclass(frozen=True)
class Answer:
    """A completion: its text, the fields of its messages, and where they stand in it."""

    scene: Scene
    turn: int
    text: str
    own: Sequence[Fields]
    places: Sequence[Place]

    @property
    def start(self) -> int:
        """Where the first character of the messages' own stands."""
        return self.places[0].start

    @property
    def end(self) -> int:
        """Where the last one ends."""
        return max(place.end for place in self.places)

    @property
    def tail(self) -> str:
        """What the prompt holds behind the text of the message before the turn."""
        return prompt_tail(self.scene, self.turn)


def prompt_tail(scene: Scene, turn: int) -> str:
    """What the prompt of a turn holds behind the text of the message before it."""
    asked, before = scene.prompt(turn), content_of(scene.messages[turn - 1]).split()
    if asked is None or not before:
        return ""
    at = asked[0].rfind(before[-1])
    return asked[0][at + len(before[-1]) :] if at >= 0 else asked[0][-60:]


def placed(text: str, own: Sequence[Fields]) -> list[Place] | str:
    """Where the fields stand: thoughts before content, call behind call; or a word about the first that is missing."""
    places: list[Place] = []
    for message in own:
        at = max((place.end for place in places), default=0)
        for names in (("reasoning", "content"), ("call",)):  # some templates write calls first
            found = _in_order(text, [part for part in message.parts if part[0] in names], at)
            if isinstance(found, str):
                return found
            places += found
    return sorted(places) or "nothing of its own"


def _in_order(text: str, parts: Sequence[tuple[str, tuple[str, ...]]], at: int) -> list[Place] | str:
    places: list[Place] = []
    for name, texts in parts:
        # The name of a call may come before or behind its arguments.
        found = [span for wanted in texts if (span := find(text, wanted, at)) is not None]
        if len(found) < len(texts):
            return f"{' and '.join(map(repr, texts))} missing, or not in order"
        places.append(Place(min(start for start, _ in found), max(end for _, end in found), name))
        at = places[-1].end
    return places


def problems(answer: Answer) -> Iterator[str]:
    """What is wrong with a completion."""
    mine = words(text for message in answer.own for _, texts in message.parts for text in texts)
    heard = sorted(word for word in words(_of_others(answer)) - mine if word in answer.text)
    if heard:
        yield f"foreign: the words {heard}"
    role = ROLE.search(answer.text[: answer.start])
    if role:
        yield f"header: {role[0]!r} stands before the turn's own text"
    yield from _ends(answer)
    yield from _blocks(answer)
    whole = answer.scene.whole(answer.scene.end(answer.turn))
    asked = answer.scene.prompt(answer.turn)
    if whole and asked and not whole[0].startswith(asked[0]):
        yield from asks_for_others(answer.tail, answer.scene.tokenizer.eos_token)


def asks_for_others(tail: str, eos: str) -> Iterator[str]:
    """Whether a prompt that the rendering does not continue asks for the user, or for a score."""
    if re.search(USER, tail, re.IGNORECASE) and not re.search(MODEL, tail, re.IGNORECASE):
        yield f"asked: the prompt asks for the user: {tail[-60:]!r}"
    if SCORE.search(tail) or tail.endswith(eos):
        yield f"asked: the prompt asks for a score: {tail[-60:]!r}"


def _of_others(answer: Answer) -> Iterator[str]:
    scene = answer.scene
    for index, message in enumerate(scene.messages):
        if not answer.turn <= index < scene.end(answer.turn):
            yield from (content_of(message), str(message.get("reasoning_content") or ""))
    yield from (tool["function"]["description"] for tool in scene.tools or ())


# ends


def stops(behind: str, eos: str) -> bool:
    """Whether text ends in EOS or in a marker that the template writes, those aside that end a part of a turn."""
    if behind.endswith(eos):
        return True
    marks = list(MARKER.finditer(behind))
    return bool(marks) and marks[-1].end() == len(behind) and not ends_part(marks[-1][0])


def ends_part(marker: str) -> bool:
    """Whether a marker ends a block or a call, not a turn."""
    return any(marker == closer for _, closer in BLOCKS) or bool(PART_END.fullmatch(marker))


def words_behind(behind: str, eos: str) -> list[str]:
    """The words between an answer and its end."""
    return re.findall(r"\w+", MARKER.sub(" ", behind.replace(eos, " ")))


def _ends(answer: Answer) -> Iterator[str]:
    behind, eos = answer.text[answer.end :], answer.scene.tokenizer.eos_token
    if not answer.own[-1].calls and words_behind(behind, eos):
        yield f"behind: words behind the answer: {behind!r}"
    ends = [mark[0] for mark in re.finditer(f"{re.escape(eos)}|{MARKER.pattern}", behind) if not ends_part(mark[0])]
    if len(ends) > 1 and answer.own[-1].content and not answer.own[-1].calls:  # an empty answer has a header too
        yield f"behind: text behind a stop: {behind!r}"


# blocks


def opened(tail: str) -> bool:
    """Whether a prompt ends inside a block."""
    return any(tail.rfind(opener) > tail.rfind(closer) for opener, closer in BLOCKS)


def _blocks(answer: Answer) -> Iterator[str]:
    """Thoughts stand inside a block where there is one, everything else outside; no block opens twice."""
    tail, shown = answer.tail, answer.tail[-60:]
    for opener, closer in BLOCKS:
        marks = re.finditer(f"{re.escape(opener)}|{re.escape(closer)}", tail + answer.text)
        edges = [(mark.start() - len(tail), mark[0] == opener) for mark in marks]
        if sum(opens for _, opens in edges) > 1:
            yield f"block: {opener} opens twice, the prompt ends in {shown!r}"
        for place in answer.places if edges else ():
            inside = [opens for at, opens in edges if at < place.start][-1:] == [True]
            if inside != (place.name == "reasoning"):
                yield f"block: {place.name} {'inside' if inside else 'outside'} {opener}, the prompt ends in {shown!r}"
