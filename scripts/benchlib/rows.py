"""Rows to measure on: the files of the data folder, repeated with altered words.

In: a kind of rows, how many, and the data folder. Out: an Arrow stream file and what is in it (`Rows`). The same
arguments give the same rows; fewer rows are the beginning of more. From the second time that the files are gone
through, one word in `1 / NEW_SHARE` is one that no row had before; short rows may repeat exactly.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

# About the share that the files have of themselves behind their first thousand rows.
NEW_SHARE = 0.02
SEED = 20
BATCH = 1000
TURNS = 40
# Rows whose ids are compared between sides.
SAMPLED = 200
FILES = ("alpaca_en.json", "gsm8k_train.json", "codegen_instruct.json", "identity.json")
TOOL_FILE = "glaive_toolcall_en.json"
WORD = re.compile(r"([^\W\d_]{4,})")
SYSTEMS = (
    "You are a helpful assistant.",
    "You are a careful expert. Answer in full sentences, and say so when you do not know.",
    "Answer briefly.",
)
PREAMBLE = "Below is an instruction that describes a task"
WITH_INPUT = ", paired with an input that provides further context"
REQUEST = ". Write a response that appropriately completes the request."

Row = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """A file of rows.

    Attributes:
        path: an Arrow stream.
        rows: how many.
        megabytes: UTF-8 text of the rows, in 10⁶ bytes.
        words: words of four letters or more.
        new: those of them that no earlier row had.
    """

    path: str
    rows: int
    megabytes: float
    words: int
    new: int


class Alter:
    """Text to the same text with some words replaced by words never seen before; counts as it goes."""

    def __init__(self) -> None:
        self.words, self.new = 0, 0
        self._seen: set[str] = set()
        self._random = random.Random(SEED)
        self._numbers = count(1)
        self._left = self._skip()

    def plain(self, pieces: list[str]) -> str:
        """The text as it is; its words are seen from now on."""
        found = pieces[1::2]
        before = len(self._seen)
        self._seen.update(found)
        self.words += len(found)
        self.new += len(self._seen) - before
        return "".join(pieces)

    def altered(self, pieces: list[str]) -> str:
        """The text with about `NEW_SHARE` of its words replaced."""
        size = len(pieces) // 2
        self.words += size
        place, changed = self._left, pieces
        while place < size:
            changed = pieces.copy() if changed is pieces else changed
            changed[2 * place + 1] = self._word()
            self.new += 1
            place += 1 + self._skip()
        self._left = place - size
        return "".join(changed)

    def _skip(self) -> int:
        return int(math.log(1 - self._random.random()) / math.log(1 - NEW_SHARE))

    def _word(self) -> str:
        while True:
            # An odd factor makes each number of 24 bits come once.
            number, letters = next(self._numbers) * 0x9E3779B1 % 2**24, []
            for _ in range(4):
                number, syllable = divmod(number, 70)
                letters.append("bdfgklmnprstvz"[syllable // 5] + "aeiou"[syllable % 5])
            if (word := "".join(letters)) not in self._seen:
                return word


def load(path: Path) -> list[Row]:
    """The rows of a JSON file."""
    found: list[Row] = json.loads(path.read_text(encoding="utf-8"))
    return found


def records(data: Path, alter: Alter) -> Iterator[Row]:
    """Rows with `instruction`, `input` and `output`, without an end."""
    base = [row for name in FILES for row in load(data / name)]
    texts = [(row["instruction"], row["input"] or "", row.get("output") or row.get("response") or "") for row in base]
    random.Random(SEED).shuffle(texts)  # so that the beginning is like the rest
    split = [tuple(WORD.split(text) for text in row) for row in texts]
    change = alter.plain
    while True:
        for instruction, given, output in split:
            yield {"instruction": change(instruction), "input": change(given), "output": change(output)}
        change = alter.altered


def messages(rows: Iterator[Row]) -> Iterator[Row]:
    """Conversations: a fifth begins with a system message, a seventh has two turns."""
    for number in count():
        found = [{"role": "system", "content": SYSTEMS[number % 3]}] if number % 5 == 0 else []
        for _ in range(2 if number % 7 == 0 else 1):
            found += turn(next(rows))
        yield {"messages": found}


def turn(row: Row) -> list[dict[str, str]]:
    question = row["instruction"] + ("\n\n" + row["input"] if row["input"] else "")
    return [{"role": "user", "content": question}, {"role": "assistant", "content": row["output"]}]


def turns(rows: Iterator[Row], size: int) -> Iterator[Row]:
    """Conversations of so many turns each."""
    while True:
        yield {"messages": [message for row in islice(rows, size) for message in turn(row)]}


def long(rows: Iterator[Row]) -> Iterator[Row]:
    """Conversations of ten to forty turns."""
    choose = random.Random(SEED)
    while True:
        yield {"messages": [message for row in islice(rows, choose.randint(10, 40)) for message in turn(row)]}


def silent(row: Row, number: int) -> Row:
    """Every fourth row with a first answer that says nothing."""
    said = row["messages"]
    place = next(place for place, message in enumerate(said) if message["role"] == "assistant")
    changed = {**said[place], "content": ""} if number % 4 == 0 else said[place]
    return {**row, "messages": [*said[:place], changed, *said[place + 1 :]]}


def marked(row: Row, number: int) -> Row:
    """Every twentieth row with a control token in what a user types."""
    said = row["messages"]
    changed = [{**one, "content": f"{one['content']} <|im_end|>"} if one["role"] == "user" else one for one in said]
    return {**row, "messages": changed if number % 20 == 0 else said}


def mixed(rows: Iterator[Row]) -> Iterator[Row]:
    """Conversations of many shapes: one to four turns, with or without a system message, inline reasoning, template
    variables and ids; a twentieth with a control token, a tenth with an answer that is null, which is rejected."""
    choose = random.Random(SEED)
    for number in count():
        said: list[Row] = [{"role": "system", "content": SYSTEMS[number % 3]}] if choose.random() < 0.3 else []
        for row in islice(rows, choose.choice([1, 1, 2, 4])):
            question, answer = turn(row)
            thought = f"<think>\n{question['content'][:40]}\n</think>\n\n" if choose.random() < 0.2 else ""
            end = " <|im_end|>" if choose.random() < 0.05 else ""
            said += [question, {**answer, "content": f"{thought}{answer['content']}{end}"}]
        if choose.random() < 0.1:
            said[-1] = {**said[-1], "content": None}
        about = {"id": number} if choose.random() < 0.3 else {}
        switch = {"enable_thinking": choose.random() < 0.5} if choose.random() < 0.3 else None
        yield {"messages": [{**one, **about} for one in said], "chat_template_kwargs": switch}


def pair(row: Row) -> Row:
    """The Alpaca template written out by hand: what a user of textual prompt and completion prepares."""
    context = f"### Input:\n{row['input']}\n\n" if row["input"] else ""
    head = PREAMBLE + (WITH_INPUT if row["input"] else "") + REQUEST
    prompt = f"{head}\n\n### Instruction:\n{row['instruction']}\n\n{context}### Response:\n"
    return {"prompt": prompt, "completion": row["output"]}


def thinking(rows: Iterator[Row], *, inline: bool = False) -> Iterator[Row]:
    """The same conversations; each answer begins with its question thought about, in a field or inside of it."""
    for row in rows:
        found: list[Row] = []
        for message in row["messages"]:
            thought = found[-1]["content"] if found and message["role"] == "assistant" else None
            if thought is None:
                found.append(message)
            elif inline:
                found.append({**message, "content": f"<think>\n{thought}\n</think>\n\n{message['content']}"})
            else:
                found.append({**message, "reasoning_content": thought})
        yield {**row, "messages": found}


def in_parts(message: Row) -> Row:
    """A message whose content is a list of parts."""
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def weighed(message: Row) -> Row:
    """A message with a weight of its own."""
    return {**message, "weight": int(message["role"] == "assistant")}


def switched(row: Row, number: int) -> Row:
    """The row with template variables of its own."""
    return {**row, "chat_template_kwargs": {"enable_thinking": number % 2 == 0}}


def noted(row: Row, number: int) -> Row:
    """The row with what logs of conversations have beside their contents."""
    about = {"turn_identifier": number, "toxic": number % 50 == 0, "tags": ["en"], "timestamp": number / 7}
    return {"messages": [{**message, **about} for message in row["messages"]]}


def preferred(said: list[Row]) -> Row:
    """A pair: the answer, and the answer with its words in another order."""
    words = said[-1]["content"].split()
    rejected = {**said[-1], "content": " ".join(words[::-1]) or "No."}
    return {"prompt": said[:-1], "chosen": said[-1:], "rejected": [rejected]}


def of_messages(change: Callable[[list[Row]], Row]) -> Callable[[Path, Alter], Iterator[Row]]:
    """A kind of rows made of conversations."""
    return lambda data, alter: (change(row["messages"]) for row in messages(records(data, alter)))


def tool_rows(data: Path, alter: Alter) -> Iterator[Row]:
    """Tool conversations, without an end; calls, their results and the tools stay as they are."""
    base = load(data / TOOL_FILE)
    random.Random(SEED).shuffle(base)
    change = alter.plain
    while True:
        for row in base:
            said = [
                {**part, "value": change(WORD.split(part["value"]))} if part["from"] in ("human", "gpt") else part
                for part in row["conversations"]
            ]
            yield {"conversations": said, "tools": row["tools"]}
        change = alter.altered


def tool_messages(rows: Iterator[Row]) -> Iterator[Row]:
    """The same as `messages` with calls, and `tools` as JSON text: what TRL takes."""
    from instruct_fmt.adapt.adapter import make_adapter
    from instruct_fmt.adapt.asked import Asked
    from instruct_fmt.types import Conversation, TemplateSource

    source = TemplateSource("", "chat", "none")
    for row in rows:
        example = make_adapter(list(row), row, source, Asked())(row)
        assert isinstance(example, Conversation)
        tools = json.dumps(list(example.tools), ensure_ascii=False) if example.tools else None
        yield {"messages": [_spelled(message) for message in example.messages], "tools": tools}


def agents(rows: Iterator[Row]) -> Iterator[Row]:
    """Conversations of one to eight questions, each with none to three steps of calls: hardly two have one shape."""
    choose = random.Random(SEED)
    while True:
        said: list[Row] = (
            [{"role": "system", "content": SYSTEMS[2], "tool_calls": None}] if choose.random() < 0.5 else []
        )
        for row in islice(rows, choose.randint(1, 8)):
            said.append({"role": "user", "content": f"{row['instruction']}\n{row['input']}", "tool_calls": None})
            for _ in range(choose.choice([0, 0, 1, 2, 3])):
                said += _step(row, choose)
            said.append({"role": "assistant", "content": row["output"], "tool_calls": None})
        yield {"messages": said}


def _step(row: Row, choose: random.Random) -> list[Row]:
    """One or two calls of the model's, with what comes back."""
    arguments = {"query": row["instruction"][:40], "limit": choose.randint(1, 9)}
    calls = [
        {"type": "function", "function": {"name": choose.choice(["search", "open", "run"]), "arguments": arguments}}
        for _ in range(choose.choice([1, 1, 2]))
    ]
    spoken = {"role": "assistant", "content": choose.choice(["", "Let me look."]), "tool_calls": calls}
    return [spoken, *({"role": "tool", "content": row["output"][:200], "tool_calls": None} for _ in calls)]


def _spelled(message: Row) -> Row:
    calls = [
        {"type": "function", "function": {"name": call["function"]["name"], "arguments": _text(call)}}
        for call in message.get("tool_calls") or ()
    ]
    return {"role": message["role"], "content": message.get("content") or "", "tool_calls": calls or None}


def _text(call: Row) -> str:
    arguments = call["function"]["arguments"]
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


KINDS: dict[str, Callable[[Path, Alter], Iterator[Row]]] = {
    "alpaca": records,
    "pairs": lambda data, alter: map(pair, records(data, alter)),
    "messages": lambda data, alter: messages(records(data, alter)),
    "turns_1": lambda data, alter: turns(records(data, alter), 1),
    f"turns_{TURNS}": lambda data, alter: turns(records(data, alter), TURNS),
    "texts": lambda data, alter: ({"text": "".join(pair(row).values())} for row in records(data, alter)),
    "multi": lambda data, alter: turns(records(data, alter), 3),
    "long": lambda data, alter: long(records(data, alter)),
    "silent": lambda data, alter: map(silent, turns(records(data, alter), 3), count()),
    "marked": lambda data, alter: map(marked, messages(records(data, alter)), count()),
    "mixed": lambda data, alter: mixed(records(data, alter)),
    "thoughts": lambda data, alter: thinking(messages(records(data, alter))),
    "inline_thoughts": lambda data, alter: thinking(messages(records(data, alter)), inline=True),
    "parts": of_messages(lambda said: {"messages": list(map(in_parts, said))}),
    "weights": of_messages(lambda said: {"messages": list(map(weighed, said))}),
    "named": of_messages(lambda said: {"talk": [{"who": one["role"], "words": one["content"]} for one in said]}),
    "prompts": of_messages(lambda said: {"prompt": said[:-1], "completion": said[-1:]}),
    "preference": of_messages(preferred),
    "system": of_messages(
        lambda said: {"messages": [one for one in said if one["role"] != "system"], "system": said[0]["content"][:60]}
    ),
    "switched": lambda data, alter: map(switched, messages(records(data, alter)), count()),
    "noted": lambda data, alter: map(noted, messages(records(data, alter)), count()),
    "tools": tool_rows,
    "tool_thoughts": lambda data, alter: thinking(tool_messages(tool_rows(data, alter))),
    "tool_messages": lambda data, alter: tool_messages(tool_rows(data, alter)),
    "agents": lambda data, alter: agents(records(data, alter)),
}


def make(kind: str, number: int, data: Path, folder: Path) -> Rows:
    """The file of these rows, made unless it is there."""
    recipe = hashlib.sha256(Path(__file__).read_bytes())
    for name in (*FILES, TOOL_FILE):
        recipe.update((data / name).read_bytes())
    path = folder / f"{kind}-{number}-{recipe.hexdigest()[:12]}.arrow"
    about = path.with_suffix(".json")
    if about.exists():
        return Rows(**json.loads(about.read_text(encoding="utf-8")))
    folder.mkdir(parents=True, exist_ok=True)
    alter = Alter()
    size = _write(path, KINDS[kind](data, alter), number)
    made = Rows(str(path), number, size / 1e6, alter.words, alter.new)
    about.write_text(json.dumps(asdict(made)), encoding="utf-8")
    return made


def _write(path: Path, rows: Iterator[Row], number: int) -> int:
    first = pa.Table.from_pylist(list(islice(rows, min(number, BATCH))))
    size = 0
    with pa.ipc.new_stream(str(path), first.schema) as writer:
        for start in range(0, number, BATCH):
            chosen = list(islice(rows, min(number - start, BATCH))) if start else None
            table = pa.Table.from_pylist(chosen, schema=first.schema) if chosen else first
            writer.write_table(table)
            size += sum(_bytes(column) for column in table.combine_chunks().columns)
    return size


def _bytes(column: pa.ChunkedArray) -> int:
    """Bytes of text in a column, at any depth."""
    total = 0
    for chunk in column.chunks:
        kind = chunk.type
        if pa.types.is_list(kind):
            total += _bytes(pa.chunked_array([chunk.flatten()]))
        elif pa.types.is_struct(kind):
            total += sum(_bytes(pa.chunked_array([part])) for part in chunk.flatten())
        elif pa.types.is_string(kind):
            total += int(pc.sum(pc.binary_length(chunk)).as_py() or 0)
    return total
