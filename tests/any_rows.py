"""Rows of any shape, made of words that occur once: each must be found again in what becomes of its row.

In: a random number generator. Out: a `Case`: a row, the options to read it, and for each word where it was put.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

ROLES = {
    "user": ("user", "human", "prompter", "User", "HUMAN"),
    "assistant": ("assistant", "gpt", "bot", "model", "ai", "chatbot", "Assistant", "chatgpt"),
    "system": ("system", "System", "developer"),
    "tool": ("tool", "observation", "function", "tool_response", "Tool-Result", "ipython", "environment"),
    "call": ("function_call", "tool_call", "Function-Call"),
    "unknown": ("critic", "asistant", "narrator", "usr"),
}
STRANGE = ("thought", "mood", "function_calls", "citations", "source", "Thinking", "text")
COLUMNS = ("source", "score", "category", "text", "input", "reasoning", "label", "weight", "history", "meta")
REASONING = ("reasoning_content", "thinking", "reasoning")


@dataclass(frozen=True, slots=True)
class Slot:
    """A word and where it was put: the column and, inside messages, the names on the way to it."""

    word: str
    column: str
    names: tuple[str, ...] = ()

    def is_named(self, path: str) -> bool:
        """Whether a path such as ``$.messages[user].name`` is this place, or holds it."""
        column, _, inside = path.removeprefix("$.").partition("[")
        if column.split(".")[0] != self.column:
            return False
        below = [step for step in inside.partition("]")[2].replace("[]", "").split(".") if step]
        return not below or not self.names or below[0] in self.names


@dataclass(slots=True)
class Case:
    """A row and what was put into it."""

    row: dict[str, Any] = field(default_factory=dict)
    slots: list[Slot] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)


class Maker:
    """Makes one case."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.case = Case()
        self._count = 0

    def word(self, column: str, *names: str) -> str:
        """A new word, alone or in a sentence, for a place."""
        self._count += 1
        word = f"zq{self._count}x{self.rng.randrange(1000)}"
        self.case.slots.append(Slot(word, column, names))
        return self.rng.choice(["{}", "{}", "a {} b", " {}\n", "\n\n{}", "é {} 你好"]).format(word)

    def maybe(self, chance: float) -> bool:
        return self.rng.random() < chance

    def data(self, column: str, *names: str) -> Any:
        """Any data with words in it."""

        def make() -> str:
            return self.word(column, *names)

        form = self.rng.randrange(4)
        if form == 0:
            return make()
        if form == 1:
            return [make(), make()]
        return {"a": make(), "b": {"c": [make()]}, "d": None} if form == 2 else {"n": 1, "s": make()}

    def calls(self, column: str, *names: str, count: int = 0) -> list[dict[str, Any]]:
        """Calls in one of their forms."""
        found = []
        for _ in range(count or self.rng.choice([1, 1, 2])):
            arguments: Any = {"city": self.word(column, *names), "unit": self.rng.choice([None, 1, True])}
            if self.maybe(0.4):
                arguments = json.dumps(arguments, ensure_ascii=False)
            function = {"name": self.word(column, *names).strip().replace(" ", "_"), "arguments": arguments}
            flat = self.maybe(0.3)
            call = function if flat else {"type": "function", "function": function}
            if self.maybe(0.3):
                call = {"id": self.word(column, *names), **call}
            found.append(call)
        return found

    def tools(self, column: str) -> Any:
        """Definitions of tools in one of their forms."""
        tools = []
        for _ in range(self.rng.choice([1, 2])):
            schema = {"type": "object", "properties": {"city": {"type": "string", "description": self.word(column)}}}
            tool = {"name": self.word(column), "description": self.word(column), "parameters": schema}
            if self.maybe(0.2):
                tool["input_schema"] = tool.pop("parameters")
            tools.append(tool if self.maybe(0.4) else {"type": "function", "function": tool})
        return json.dumps(tools, ensure_ascii=False) if self.maybe(0.3) else tools

    def message(self, role: str, column: str, keys: tuple[str, str]) -> dict[str, Any]:
        """A message of a role, written in one of its ways."""
        role_key, content_key = keys
        made: dict[str, Any] = {role_key: self.rng.choice(ROLES[role])}
        if role == "call":
            made[content_key] = json.dumps(self.calls(column, content_key), ensure_ascii=False)
        else:
            before = len(self.case.slots)
            made[content_key] = self.content(role, column, content_key)
        if role == "assistant":
            if self.maybe(0.15):
                if self.maybe(0.5):
                    made[content_key] = self.rng.choice([None, ""])
                    del self.case.slots[before:]
                made["tool_calls"] = self.calls(column, "tool_calls")
            elif self.maybe(0.05):
                made["function_call"] = self.calls(column, "function_call", count=1)[0]
            if self.maybe(0.2):
                name = self.rng.choice(REASONING)
                made[name] = self.word(column, *REASONING)
        if self.maybe(0.1):
            made["name"] = self.word(column, "name")
        if role == "tool" and self.maybe(0.3):
            made["tool_call_id"] = self.word(column, "tool_call_id")
        if self.maybe(0.12):
            name = self.rng.choice(STRANGE)
            made[name] = self.data(column, name)
        if self.maybe(0.05):
            made["train"] = self.rng.choice([True, False, 0, 1])
        if self.maybe(0.3):
            items = list(made.items())
            self.rng.shuffle(items)
            made = dict(items)
        return made

    def content(self, role: str, column: str, key: str) -> Any:
        """What a message says."""
        if role == "tool" and self.maybe(0.2):
            return {"degrees": 22, "text": self.word(column, key)}
        if self.maybe(0.15):
            parts = self.parts(column, key)
            if role == "assistant" and self.maybe(0.5):
                kind = self.rng.choice(["reasoning", "thinking"])
                said = self.parts(column, key, *REASONING) if self.maybe(0.2) else self.word(column, key, *REASONING)
                signature = {"signature": self.word(column, key)} if self.maybe(0.3) else {}
                parts.insert(0, {"type": kind, kind: said, **signature})
            if role == "assistant" and self.maybe(0.3):
                call: dict[str, Any] = {"type": "tool_use", "id": self.word(column, key, "tool_calls"), "name": "f"}
                more = {"cache_control": self.word(column, key, "tool_calls")} if self.maybe(0.3) else {}
                parts.append({**call, "input": {"city": self.word(column, key, "tool_calls")}, **more})
            if role == "user" and self.maybe(0.3):
                ids = {"tool_use_id": self.word(column, key, "tool_call_id")}
                said = self.parts(column, key) if self.maybe(0.4) else self.word(column, key)
                parts.insert(0, {"type": "tool_result", **ids, "content": said})
            return parts
        if self.maybe(0.06):
            return self.rng.choice([None, "", "  \n"])
        return self.word(column, key)

    def parts(self, column: str, *names: str) -> list[dict[str, Any]]:
        """Parts of text, some with more beside it."""
        made = []
        for _ in range(self.rng.choice([1, 2])):
            part: dict[str, Any] = {"type": self.rng.choice(["text", "text", "output_text"])}
            part["text"] = self.word(column, *names)
            if self.maybe(0.2):
                part["citations"] = self.data(column, *names)
            made.append(part)
        return made

    def messages(self, column: str, keys: tuple[str, str], roles: Sequence[str]) -> Any:
        made = [self.message(role, column, keys) for role in roles]
        return json.dumps(made, ensure_ascii=False) if self.maybe(0.05) else made

    def roles(self) -> list[str]:
        roles = ["system"] if self.maybe(0.3) else []
        for _ in range(self.rng.choice([1, 1, 2, 3])):
            roles.append("user")
            if self.maybe(0.15):
                roles += ["call", "tool"]
            roles.append("assistant")
            if self.maybe(0.1):
                roles.append("tool")
        if self.maybe(0.1):
            roles.append(self.rng.choice(["user", "system", "tool"]))
        if self.maybe(0.06):
            roles[self.rng.randrange(len(roles))] = "unknown"
        return roles


def make_case(rng: random.Random) -> Case:
    """A row with its words."""
    maker = Maker(rng)
    row, options = maker.case.row, maker.case.options
    form = rng.choice(["messages", "messages", "sharegpt", "dialog", "pair", "pair_messages", "alpaca", "record"])
    if form in ("messages", "sharegpt", "dialog"):
        column = {"messages": "messages", "sharegpt": "conversations", "dialog": "dialog"}[form]
        keys = {"messages": ("role", "content"), "sharegpt": ("from", "value"), "dialog": ("speaker", "words")}[form]
        if form == "dialog":
            options["field_map"] = {"messages": "dialog", "role": "speaker", "content": "words"}
        row[column] = maker.messages(column, keys, maker.roles())
    elif form == "pair":
        options["format"] = "instruction"
        row |= {"prompt": maker.word("prompt"), "completion": maker.word("completion")}
    elif form == "pair_messages":
        keys = ("role", "content")
        row["prompt"] = maker.messages(
            "prompt", keys, [role for role in maker.roles() if role != "call"][:-1] or ["user"]
        )
        row["completion"] = maker.messages("completion", keys, ["assistant"])
    elif form == "alpaca":
        options["format"] = "alpaca"
        row |= {"instruction": maker.word("instruction"), "output": maker.word("output")}
        row["input"] = maker.word("input") if maker.maybe(0.5) else ""
        if maker.maybe(0.3):
            row["history"] = [[maker.word("history"), maker.word("history")]]
    else:
        options["template"] = "alpaca"
        row |= {"instruction": maker.word("instruction"), "output": maker.word("output")}
        row["input"] = maker.word("input") if maker.maybe(0.5) else rng.choice(["", None])
    _beside(maker)
    return maker.case


def _beside(maker: Maker) -> None:
    """Columns beside what is read."""
    row, rng = maker.case.row, maker.rng
    if maker.maybe(0.1):
        row["system"] = maker.parts("system") if maker.maybe(0.3) else maker.word("system")
    if maker.maybe(0.15):
        name = rng.choice(["tools", "functions", "tool_defs"])
        row[name] = maker.tools(name)
    if maker.maybe(0.05):
        row["documents"] = [{"title": maker.word("documents"), "text": maker.word("documents")}]
    if maker.maybe(0.05):
        row["chat_template_kwargs"] = {"enable_thinkng": maker.word("chat_template_kwargs", "enable_thinkng")}
    for name in COLUMNS:
        if name in row or not maker.maybe(0.06):
            continue
        if name in ("label", "weight"):
            row[name] = rng.choice([True, False]) if name == "label" else rng.choice([1.0, 0.5])
        elif name == "history":
            row[name] = [[maker.word(name), maker.word(name)]]
        elif name == "input" and "prompt" not in row and "messages" not in row:
            continue
        else:
            row[name] = maker.data(name)
