"""A row of preference data as two rows of a prompt and a completion.

In: a row with `chosen` and `rejected` in one of the forms in which they are published, with `completion` and `label`,
or with a prompt alone. Out: a `Pair`, whose sides the formatter reads as it reads any prompt with its completion.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from instruct_fmt.adapt.roles import CALL, Roles
from instruct_fmt.errors import RowError, shown

BESIDE = ("system", "tools", "documents", "chat_template_kwargs", "images", "audios", "videos")
COLUMNS = ("prompt", "chosen", "rejected", "completion", "label")
"""The columns of preference data, which `field_map` may name otherwise."""
_VERDICTS: Mapping[Any, bool] = {True: True, False: False}  # 1 and 0 are the same keys
_SOME = "x"
"""An answer for a prompt that has none: the prompt's ids do not depend on it."""


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
        alone: whether there is no answer, and the one that stands here is made up.
    """

    prompt: Any
    answers: Mapping[str, Any]
    beside: Mapping[str, Any]
    places: Mapping[str, str]
    skipped: int = 0
    label: bool | None = None
    unread: tuple[tuple[str, Any], ...] = ()
    alone: bool = False

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


@dataclass(frozen=True)
class PairReader:
    """Reads the pairs of one dataset.

    Attributes:
        roles: what roles mean.
        names: our names of columns and of fields of messages → the dataset's, where they differ.

    >>> PairReader().read({"prompt": "Hi", "chosen": "Hello!", "rejected": "What?"}).row("rejected")
    {'prompt': 'Hi', 'completion': 'What?'}
    """

    roles: Roles = field(default_factory=Roles)
    names: Mapping[str, str] = field(default_factory=dict)

    def read(self, row: Mapping[str, Any], *, alone: bool = False) -> Pair:
        """The pair of a row; with `alone` a prompt does, whatever its answers.

        Raises:
            RowError: it holds none.
        """
        beside = {name: row[name] for ours in BESIDE if row.get(name := self._name(ours)) is not None}
        columns = {ours: self._name(ours) for ours in COLUMNS}
        given = {ours: row.get(name) for ours, name in columns.items()}
        if alone and given["chosen"] is None and given["rejected"] is None and given["completion"] is None:
            return self._prompt_alone(row, beside)
        if given["chosen"] is None and given["completion"] is not None:
            return self._judged(row, beside)
        return self._pair(row, beside)

    def _name(self, ours: str) -> str:
        return self.names.get(ours, ours)

    def _prompt_alone(self, row: Mapping[str, Any], beside: Mapping[str, Any]) -> Pair:
        column = self._prompt_column(row)
        prompt, (answer,) = self._joined(self._said(row, column), [_SOME])
        unread = _unread(row, {*beside, column})
        return Pair(prompt, {"chosen": answer}, beside, {"prompt": column}, unread=unread, alone=True)

    def _judged(self, row: Mapping[str, Any], beside: Mapping[str, Any]) -> Pair:
        """An answer with a verdict."""
        prompt_column, column, label = self._prompt_column(row), self._name("completion"), self._name("label")
        said = row.get(label)
        verdict = _VERDICTS.get(said) if isinstance(said, int | float) else None
        if verdict is None:
            raise _bad(f"$.{label}", said, "true or false", "write the verdict on the answer as true or false")
        prompt, (answer,) = self._joined(self._said(row, prompt_column), [self._said(row, column)])
        self._check_answer(column, answer)
        unread = _unread(row, {*beside, prompt_column, column, label})
        places = {"prompt": prompt_column, "chosen": column}
        return Pair(prompt, {"chosen": answer}, beside, places, label=verdict, unread=unread)

    def _pair(self, row: Mapping[str, Any], beside: Mapping[str, Any]) -> Pair:
        columns = [self._name(name) for name in ("chosen", "rejected")]
        answers = [self._said(row, name) for name in columns]
        column = self._prompt_column(row)
        given = row.get(column)
        if all(isinstance(answer, list) and not self._is_models(answer[0]) for answer in answers):
            shared = _shared(*answers)
            if given is not None and not self._repeats(self._said(row, column), answers[0][:shared]):
                raise _bad(f"$.{column}", given, "the prompt with which both answers begin", "take the column out")
            prompt, answers, skipped = answers[0][:shared], [one[shared:] for one in answers], shared
            places: dict[str, str] = {}
        elif given is None:
            fix = 'name its column prompt, or field_map={"prompt": …}'
            raise _bad("$", sorted(row), "a prompt, or answers that begin with it", fix)
        else:
            prompt, answers = self._joined(self._said(row, column), answers)
            places, skipped = {"prompt": column}, 0
        for name, answer in zip(columns, answers, strict=True):
            self._check_answer(name, answer)
        both = dict(zip(("chosen", "rejected"), answers, strict=True))
        places |= dict(zip(both, columns, strict=True))
        return Pair(prompt, both, beside, places, skipped, unread=_unread(row, {*beside, column, *columns}))

    def _prompt_column(self, row: Mapping[str, Any]) -> str:
        column = self._name("prompt")
        instead = row.get(column) is None and row.get("conversations") is not None
        return "conversations" if instead else column

    def _said(self, row: Mapping[str, Any], name: str) -> Any:
        """A column as text, or as a list of messages.

        Raises:
            RowError: it is neither.
        """
        value = row.get(name)
        if isinstance(value, str) and value.lstrip().startswith("[") and (messages := self._decoded(value)):
            return messages
        if isinstance(value, str) and value:
            return value
        if isinstance(value, Mapping):
            value = [value]
        if not isinstance(value, list) or not value:
            raise _bad(f"$.{name}", value, "text, a message, or messages", "leave the row out")
        for place, message in enumerate(value):
            if not isinstance(message, Mapping):
                raise _bad(f"$.{name}[{place}]", message, "a message", "leave the row out")
        return value

    def _decoded(self, text: str) -> list[Any] | None:
        """The messages that a text is as JSON; None where it is none."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return None
        is_list = isinstance(found, list) and all(isinstance(one, Mapping) and self._role(one) for one in found)
        return found if is_list else None

    def _joined(self, prompt: Any, answers: Sequence[Any]) -> tuple[Any, list[Any]]:
        """Prompt and answers, all as messages where one of them is."""
        if isinstance(prompt, str) and all(isinstance(answer, str) for answer in answers):
            return prompt, list(answers)
        first = next(one[0] for one in (prompt, *answers) if isinstance(one, list))
        own = self._name("role"), self._name("content"), "user", "assistant"
        role, content, user, model = ("from", "value", "human", "gpt") if "from" in first else own
        messages = [{role: user, content: prompt}] if isinstance(prompt, str) else prompt
        return messages, [[{role: model, content: one}] if isinstance(one, str) else one for one in answers]

    def _check_answer(self, name: str, answer: Any) -> None:
        """An answer is one message of the model's."""
        if isinstance(answer, list) and (len(answer) != 1 or not self._is_models(answer[0])):
            models = sum(map(self._is_models, answer))
            found = f"{len(answer)} messages, {models} of them the model's: {shown(answer)}"
            raise RowError("bad-field", f"$.{name}", found, "one message of the model's", "leave the row out")

    def _repeats(self, prompt: Any, messages: Sequence[Any]) -> bool:
        """Whether a prompt says again what messages end with."""
        if isinstance(prompt, list):
            return list(prompt) == list(messages)
        last = messages[-1] if messages else {}
        return prompt in (last.get(self._name("content")), last.get("content"), last.get("value"))

    def _role(self, message: Mapping[str, Any]) -> str | None:
        found = next((message[name] for name in (self._name("role"), "role", "from") if message.get(name)), None)
        return found if isinstance(found, str) else None

    def _is_models(self, message: Mapping[str, Any]) -> bool:
        role = self._role(message)
        return role is not None and self.roles.read(role) in ("assistant", CALL)


def _shared(left: Sequence[Any], right: Sequence[Any]) -> int:
    """How many messages two conversations begin with alike, their last ones apart."""
    size = 0
    while size < min(len(left), len(right)) - 1 and left[size] == right[size]:
        size += 1
    return size


def _unread(row: Mapping[str, Any], read: set[str]) -> tuple[tuple[str, Any], ...]:
    """The other columns that say something."""
    return tuple((name, value) for name, value in row.items() if name not in read and value not in (None, "", [], {}))


def _bad(path: str, found: Any, expected: str, fix: str) -> RowError:
    return RowError("bad-field", path, shown(found), expected, fix)
