"""A row of preference data as two rows of a prompt and a completion.

In: a row with `chosen` and `rejected` in one of the forms in which they are published, or with `completion` and
`label`. Out: a `Pair`, whose sides the formatter reads as it reads any prompt with its completion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from instruct_fmt.errors import RowError, shown

_BESIDE = ("system", "tools", "documents", "chat_template_kwargs", "images", "audios", "videos")
_MODEL = frozenset({"assistant", "gpt", "model", "chatgpt", "bot", "bard"})


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt with its answers.

    Attributes:
        prompt: text or messages.
        answers: ``chosen`` and ``rejected``, or the only one under ``chosen``: text or messages.
        beside: columns that hold for both.
        places: our columns → the dataset's, for messages about them.
        skipped: how many messages of an answer's column belong to the prompt.
        label: the verdict on the only answer; None for a pair.
        unread: columns that say something and that nothing reads, with their values.
    """

    prompt: Any
    answers: Mapping[str, Any]
    beside: Mapping[str, Any]
    places: Mapping[str, str]
    skipped: int = 0
    label: bool | None = None
    unread: tuple[tuple[str, Any], ...] = ()

    def row(self, name: str) -> dict[str, Any]:
        """One side as a row of its own."""
        return {"prompt": self.prompt, "completion": self.answers[name], **self.beside}

    def path(self, path: str, name: str) -> str:
        """A path in that row as one in the dataset's."""
        head, _, rest = path.partition("[")
        if head == "$.prompt":
            return f"$.{self.places.get('prompt', name)}{'[' if rest else ''}{rest}"
        if head.startswith("$.completion"):
            place, bracket, behind = rest.partition("]")
            if bracket and place.isdigit():
                rest = f"{int(place) + self.skipped}]{behind}"
            own = self.places.get(name, name)
            return f"$.{own}{head.removeprefix('$.completion')}{'[' if path.count('[') else ''}{rest}"
        return path


def pair_of(row: Mapping[str, Any]) -> Pair:
    """The pair of a row.

    Raises:
        RowError: it holds none.

    >>> pair_of({"prompt": "Hi", "chosen": "Hello!", "rejected": "What?"}).row("rejected")
    {'prompt': 'Hi', 'completion': 'What?'}
    """
    beside = {name: row[name] for name in _BESIDE if row.get(name) is not None}
    if row.get("chosen") is None and row.get("completion") is not None and isinstance(row.get("label"), bool):
        prompt, (answer,) = _joined(row.get("prompt"), [row["completion"]])
        places = {"prompt": "prompt", "chosen": "completion"}
        unread = _unread(row, {*beside, "prompt", "completion", "label"})
        return Pair(prompt, {"chosen": answer}, beside, places, label=row["label"], unread=unread)
    answers = [_answer(row, name) for name in ("chosen", "rejected")]
    column = "conversations" if row.get("prompt") is None and row.get("conversations") is not None else "prompt"
    given = row.get(column)
    if all(isinstance(answer, list) and answer and not _is_models(answer[0]) for answer in answers):
        shared = _shared(*answers)
        if given is not None and not _repeats(given, answers[0][:shared]):
            raise _bad(f"$.{column}", given, "the prompt with which both answers begin", "take the column out")
        prompt, answers, places, skipped = answers[0][:shared], [one[shared:] for one in answers], {}, shared
    elif given is None:
        raise _bad("$", sorted(row), "a prompt, or answers that begin with it", "name its column prompt")
    else:
        prompt, answers = _joined(given, answers)
        places, skipped = {"prompt": column}, 0
    for name, answer in zip(("chosen", "rejected"), answers, strict=True):
        turns = [one for one in answer if _is_models(one)] if isinstance(answer, list) else [answer]
        if len(turns) != 1 or (isinstance(answer, list) and not _is_models(answer[-1])):
            raise _bad(f"$.{name}", answer, "one answer of the model's", "leave the row out")
    both = dict(zip(("chosen", "rejected"), answers, strict=True))
    return Pair(prompt, both, beside, places, skipped, unread=_unread(row, {*beside, column, *both}))


def _unread(row: Mapping[str, Any], read: set[str]) -> tuple[tuple[str, Any], ...]:
    """The other columns that say something."""
    return tuple((name, value) for name, value in row.items() if name not in read and value not in (None, "", [], {}))


def _answer(row: Mapping[str, Any], name: str) -> Any:
    """An answer as text, or as a list of messages."""
    value = row.get(name)
    if isinstance(value, Mapping):
        return [value]
    if (isinstance(value, str) and value) or (isinstance(value, list) and value):
        return value
    raise _bad(f"$.{name}", value, "text, a message, or messages", "leave the row out")


def _joined(prompt: Any, answers: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Prompt and answers, all as messages where one of them is."""
    if prompt is None or prompt in ("", []):
        raise _bad("$.prompt", prompt, "a prompt", "leave the row out")
    if isinstance(prompt, str) and all(isinstance(answer, str) for answer in answers):
        return prompt, list(answers)
    first = prompt[0] if isinstance(prompt, list) else next(one[0] for one in answers if isinstance(one, list))
    role, content, user, model = (
        ("from", "value", "human", "gpt") if "from" in first else ("role", "content", "user", "assistant")
    )
    messages = [{role: user, content: prompt}] if isinstance(prompt, str) else list(prompt)
    return messages, [[{role: model, content: one}] if isinstance(one, str) else list(one) for one in answers]


def _shared(left: Sequence[Any], right: Sequence[Any]) -> int:
    """How many messages two conversations begin with alike, their last ones apart."""
    size = 0
    while size < min(len(left), len(right)) - 1 and left[size] == right[size]:
        size += 1
    return size


def _repeats(prompt: Any, messages: Sequence[Any]) -> bool:
    """Whether a prompt says again what messages end with."""
    if isinstance(prompt, list):
        return list(prompt) == list(messages)
    last = messages[-1] if messages else {}
    return prompt in (last.get("content"), last.get("value"))


def _is_models(message: Any) -> bool:
    role = message.get("role", message.get("from")) if isinstance(message, Mapping) else None
    return isinstance(role, str) and role.strip().lower() in _MODEL


def _bad(path: str, found: Any, expected: str, fix: str) -> RowError:
    return RowError("bad-field", path, shown(found), expected, fix)
