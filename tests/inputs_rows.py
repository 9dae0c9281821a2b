"""Kinds of input: a row as its users write it, and the same by hand as chat APIs have it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Row = dict[str, Any]


@dataclass(frozen=True)
class Input:
    """A row, and what it must become.

    Attributes:
        row: as its users write it.
        messages, tools: the conversation that it is, as `apply_chat_template` takes it.
        taken: how it is given: as a Python row, as an Arrow table, or in both ways.
        raw: the result of the call in the row's own role, which a template with a branch for it must get.
        always: the reason under which it is refused, whatever the template; nothing where it comes out.
        path: where the refusal sees the fault.
        meant: what the refusal names.
        cured: the row with the fault mended by hand.
        option: whether the refusal names an option that cures it.
        like: whether as many turns must be trained as where the arguments are plain text.
        unless: the name with which a template may read the row as it is.
    """

    row: Row
    messages: list[Row]
    tools: list[Row] | None = None
    taken: Literal["both", "row", "json"] = "both"
    raw: Row | None = None
    always: str = ""
    path: str = ""
    meant: str = ""
    cured: Row | None = None
    option: bool = False
    like: bool = False
    unless: str = ""

    @property
    def branch(self) -> str:
        """The role for which a template may have a branch, though it prints no calls."""
        return "" if self.raw is None or self.tools is not None else self.raw["role"]

    @property
    def canonical(self) -> Row:
        """The conversation as a row."""
        return {"messages": self.messages} if self.tools is None else {"messages": self.messages, "tools": self.tools}


def user(content: str) -> Row:
    return {"role": "user", "content": content}


def answer(content: Any, **more: Any) -> Row:
    return {"role": "assistant", "content": content, **more}


def call(arguments: Any, **more: Any) -> Row:
    """A call; templates that print it as JSON keep the order of its members."""
    return {**more, "type": "function", "function": {"name": NAME, "arguments": arguments}}


ASKED, SAID = "Will fishermen need oilskins", "Certainly, pack waterproofs tonight"
MORE, AGAIN = "Who keeps that lighthouse", "Old Hesketh polishes lenses"
NAME, ID, FOUND, THOUGHT = "look_up_sky", "call00001", "drizzle until midnight", "Weather decides this"
WHERE = {"place": "Marazion"}
NULL = {"place": "Marazion", "days": 3, "unit": None}
SCHEMA = {
    "type": "object",
    "properties": {"place": {"type": "string", "description": "name of some village"}},
    "required": ["place"],
}
FUNCTION = {"name": NAME, "description": "Reads clouds above anyone", "parameters": SCHEMA}
INPUT_SCHEMA = {"name": NAME, "description": "Reads clouds above anyone", "input_schema": SCHEMA}
TOOLS: list[Row] = [{"type": "function", "function": FUNCTION}]
CALLED = {"name": NAME, "arguments": WHERE}
AS_TEXT = json.dumps(CALLED)
LINKED = {"role": "tool", "name": NAME, "content": FOUND}
GIVEN = {"role": "tool", "name": NAME, "tool_call_id": ID, "content": FOUND}


def turns(call_of: Row, result: Row, content: Any = "", **more: Any) -> list[Row]:
    """A conversation with a call and its result."""
    return [user(ASKED), answer(content, tool_calls=[call_of], **more), result, answer(SAID)]


PLAIN = turns(call(WHERE), LINKED)
API = turns(call(WHERE, id=ID), GIVEN)


def openai(call_of: Any, tools: Any = TOOLS, column: str = "tools", **more: Any) -> Row:
    """A row of chat APIs."""
    return {"messages": turns(call_of, GIVEN, **more), column: tools}


def spoken(asks: str, calls: str, result: str) -> Row:
    """The same with roles of other names, whose call is text."""
    messages = [(asks, ASKED), (calls, AS_TEXT), (result, FOUND), ("assistant", SAID)]
    return {"messages": [{"role": role, "content": content} for role, content in messages], "tools": TOOLS}


def replied(role: str) -> Row:
    """The same with a result of another role."""
    return {"messages": turns(call(WHERE, id=ID), {"role": role, "content": FOUND}), "tools": TOOLS}


def behind_an_answer(role: str) -> list[Row]:
    """A result without a call."""
    return [user(ASKED), answer(SAID), {"role": role, "content": FOUND}, answer(AGAIN)]


def pair(asks: str, says: str, again: str, role: str, content: str) -> list[Row]:
    """Four plain turns under some names of roles and fields."""
    texts = [(asks, ASKED), (says, SAID), (asks, MORE), (again, AGAIN)]
    return [{role: speaker, content: text} for speaker, text in texts]


def parts(*content: Row) -> Row:
    return {"messages": [user(ASKED), answer(list(content))]}


def sharegpt(messages: list[tuple[str, str]], **columns: Any) -> Row:
    return {"conversations": [{"from": speaker, "value": value} for speaker, value in messages], **columns}


TEXT = {"type": "text", "text": SAID}
REASONED = [user(ASKED), answer(SAID, reasoning_content=THOUGHT)]
FOUR = pair("user", "assistant", "assistant", "role", "content")
BY_ROLE = turns(call(WHERE, id=ID), {"role": "tool", "content": FOUND})
LEGACY = {**answer(None), "function_call": {"name": NAME, "arguments": json.dumps(WHERE)}}
USE = {"type": "tool_use", "id": ID, "name": NAME, "input": WHERE}
RESULT = {"type": "tool_result", "tool_use_id": ID, "content": FOUND}
WRAPPED = {"messages": turns(call(WHERE, id=ID), GIVEN), "tools": TOOLS}
INPUTS: Mapping[str, Input] = {
    "`from: chatgptt`": Input(
        {"conversations": pair("human", "chatgptt", "gpt", "from", "value")},
        FOUR,
        always="unknown-role",
        path="$.conversations[1].from",
        meant="(did you mean 'chatgpt'?)",
        cured={"conversations": pair("human", "chatgpt", "gpt", "from", "value")},
        option=True,
    ),
    "`role: asistant`": Input(
        {"messages": pair("user", "asistant", "assistant", "role", "content")},
        FOUR,
        always="unknown-role",
        path="$.messages[1].role",
        meant="(did you mean 'assistant'?)",
        cured={"messages": FOUR},
        option=True,
    ),
    "roles `tool_call`, `tool_response`": Input(
        spoken("user", "tool_call", "tool_response"), PLAIN, TOOLS, raw={"role": "tool_response", "content": FOUND}
    ),
    "roles `function_call`, `observation`": Input(
        spoken("user", "function_call", "observation"), PLAIN, TOOLS, raw={"role": "observation", "content": FOUND}
    ),
    "roles `human`, `gpt`": Input({"messages": pair("human", "gpt", "gpt", "role", "content")}, FOUR),
    "roles `human`, `bot`": Input({"messages": pair("human", "bot", "bot", "role", "content")}, FOUR),
    "role `ipython`": Input(replied("ipython"), BY_ROLE, TOOLS, raw={"role": "ipython", "content": FOUND}),
    "role `environment`": Input(replied("environment"), BY_ROLE, TOOLS, raw={"role": "environment", "content": FOUND}),
    **{
        f"role `{role}`, no call": Input(
            {"messages": behind_an_answer(role)}, behind_an_answer("tool"), raw={"role": role, "content": FOUND}
        )
        for role in ("environment", "ipython", "observation", "function", "tool_response")
    },
    "ShareGPT, `function_call`, `observation`": Input(
        sharegpt(
            [("human", ASKED), ("function_call", AS_TEXT), ("observation", FOUND), ("gpt", SAID)],
            tools=json.dumps([FUNCTION]),
        ),
        PLAIN,
        TOOLS,
        raw={"role": "observation", "content": FOUND},
    ),
    "`function_call`, role `function`, `functions`": Input(
        {
            "messages": [user(ASKED), LEGACY, {"role": "function", "name": NAME, "content": FOUND}, answer(SAID)],
            "functions": [FUNCTION],
        },
        turns(call(WHERE), LINKED, content=None),
        TOOLS,
        raw={"role": "function", "name": NAME, "content": FOUND},
    ),
    "arguments with null, a dict": Input(
        openai(call(NULL, id=ID)), turns(call(NULL, id=ID), GIVEN), TOOLS, taken="row", like=True
    ),
    "arguments with null, `Json()`": Input(
        openai(call(NULL, id=ID)), turns(call(NULL, id=ID), GIVEN), TOOLS, taken="json", like=True
    ),
    "arguments with null, JSON text": Input(
        openai(call(json.dumps(NULL), id=ID)), turns(call(NULL, id=ID), GIVEN), TOOLS, like=True
    ),
    "arguments encoded twice": Input(openai(call(json.dumps(json.dumps(WHERE)), id=ID)), API, TOOLS, like=True),
    "no arguments": Input(
        openai({"id": ID, "type": "function", "function": {"name": NAME}}),
        turns(call({}, id=ID), GIVEN),
        TOOLS,
        like=True,
    ),
    "arguments that are a list": Input(
        openai(call(["Marazion"], id=ID)),
        API,
        TOOLS,
        always="bad-field",
        path="$.messages[1].tool_calls[0].function.arguments",
        meant="an object of arguments",
        cured=WRAPPED,
    ),
    "`function_calls` beside null": Input(
        {
            "messages": [user(ASKED), {**answer(None), "function_calls": [call(WHERE, id=ID)]}, GIVEN, answer(SAID)],
            "tools": TOOLS,
        },
        turns(call(WHERE, id=ID), GIVEN, content=None),
        TOOLS,
        always="field-dropped",
        path="$.messages[1].function_calls",
        meant="nothing reads",
        cured={"messages": turns(call(WHERE, id=ID), GIVEN, content=None), "tools": TOOLS},
        option=True,
        unless="function_calls",
    ),
    "`thought` beside empty content": Input(
        {"messages": [user(ASKED), answer("", thought=THOUGHT), user(MORE), answer(AGAIN)]},
        [user(ASKED), answer("", reasoning_content=THOUGHT), user(MORE), answer(AGAIN)],
        always="field-dropped",
        path="$.messages[1].thought",
        meant="nothing reads",
        option=True,
        unless="thought",
    ),
    "`thought` in the last message": Input(
        {"messages": [user(ASKED), answer("", thought=THOUGHT)]},
        [user(ASKED), answer("", reasoning_content=THOUGHT)],
        always="field-dropped",
        path="$.messages[1].thought",
        meant="nothing reads",
        option=True,
        unless="thought",
    ),
    "part `reasoning`, `value`": Input(parts({"type": "reasoning", "value": THOUGHT}, TEXT), REASONED),
    "part `thinking`": Input(parts({"type": "thinking", "thinking": THOUGHT}, TEXT), REASONED),
    "part `tool_call`, `value`": Input(
        {
            "messages": [
                user(ASKED),
                answer([{"type": "tool_call", "value": AS_TEXT}]),
                {"role": "tool", "content": FOUND},
                answer(SAID),
            ],
            "tools": TOOLS,
        },
        turns(call(WHERE), {"role": "tool", "content": FOUND}),
        TOOLS,
    ),
    "parts `tool_use`, `tool_result`": Input(
        {
            "messages": [user(ASKED), answer([USE]), {"role": "user", "content": [RESULT]}, answer(SAID)],
            "tools": [INPUT_SCHEMA],
        },
        turns(
            {"type": "function", "id": ID, "function": CALLED}, {"role": "tool", "tool_call_id": ID, "content": FOUND}
        ),
        TOOLS,
    ),
    "tools, flat": Input(openai(call(WHERE, id=ID), [FUNCTION]), API, TOOLS),
    "tools, JSON text": Input(openai(call(WHERE, id=ID), json.dumps(TOOLS)), API, TOOLS),
    "tools, `input_schema`": Input(openai(call(WHERE, id=ID), [INPUT_SCHEMA]), API, TOOLS),
    "tools in `tool_defs`": Input(openai(call(WHERE, id=ID), json.dumps([FUNCTION]), "tool_defs"), API, TOOLS),
    "prompt and completion": Input({"prompt": API[:1], "completion": API[1:], "tools": TOOLS}, API, TOOLS),
    "null content beside a call": Input(
        openai(call(WHERE, id=ID), content=None), turns(call(WHERE, id=ID), GIVEN, content=None), TOOLS
    ),
    "`label: false`": Input(
        {**WRAPPED, "label": False},
        API,
        TOOLS,
        always="not-preferred",
        path="$.label",
        meant="what not to write",
        cured={**WRAPPED, "label": True},
        option=True,
    ),
}
