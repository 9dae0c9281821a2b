"""Real rows under a real tokenizer: a formatter and rows come in, checked counts go out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import oracles
import pyarrow as pa
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import instruct_fmt as ifmt
from instruct_fmt.adapt.adapter import make_adapter
from instruct_fmt.adapt.asked import Asked
from instruct_fmt.types import Conversation

TOKENIZERS = ("qwen3", "llama3_1", "gemma3", "llama2", "deepseek_v3")
RECORD_FILES = ("alpaca_en.json", "gsm8k_train.json", "codegen_instruct.json", "identity.json")
CHAT_FILES = (*RECORD_FILES, "glaive_toolcall_en.json", "content_parts_sft.jsonl")


@dataclass(frozen=True)
class Job:
    """One cell of the table: a tokenizer, a template and a data file."""

    tokenizer: str
    template: str | None
    file: str

    @property
    def id(self) -> str:
        return f"{self.tokenizer}-{self.template or 'own'}-{Path(self.file).stem}"


def jobs() -> Iterator[Job]:
    """Every tokenizer with every file that fits it: as a chat, and the records as Alpaca too."""
    for tokenizer in TOKENIZERS:
        own = "llama2" if tokenizer == "llama2" else None
        yield from (Job(tokenizer, own, file) for file in CHAT_FILES)
        yield from (Job(tokenizer, "alpaca", file) for file in RECORD_FILES)


def load_rows(path: Path, limit: int | None = None) -> list[dict[str, Any]]:
    """The rows of a JSON or JSONL file; with a limit, that many, spread over the file."""
    text = path.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
    return rows if limit is None else rows[:: max(1, len(rows) // limit)][:limit]


@lru_cache(maxsize=1)
def _tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(folder)


def compile_job(job: Job, folder: Path) -> ifmt.Formatter:
    """The formatter of a job; `codegen_instruct` calls its answers `response`."""
    tokenizer = _tokenizer(folder / job.tokenizer)
    columns = {"output": "response"} if job.file.startswith("codegen") else None
    return ifmt.compile(job.template, tokenizer, columns=columns)


def check(fmt: ifmt.Formatter, rows: Sequence[Mapping[str, Any]]) -> tuple[Counter[str], list[str]]:
    """Encodes the rows in batches of 100, checks each emitted one; returns the counts and what is wrong."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    names = list(rows[0])
    adapter = make_adapter(names, rows[0], fmt.source, Asked(columns=fmt.settings.columns))
    for first in range(0, len(rows), 100):
        batch = fmt.encode_batch(pa.Table.from_pylist(list(rows[first : first + 100])), first_row=first)
        counts += batch.counts
        for number, encoded in zip(batch.rows, batch.table.to_pylist(), strict=True):
            example = adapter(rows[number])
            wrong += [f"row {number}: {problem}" for problem in _problems(fmt, rows[number], example, encoded)]
        if len(batch.rows) + len(batch.rejected) != min(100, len(rows) - first):
            wrong.append(f"rows {first}…: some are neither emitted nor rejected")
    return counts, wrong


def _problems(
    fmt: ifmt.Formatter, row: Mapping[str, Any], example: object, encoded: Mapping[str, list[int]]
) -> Iterator[str]:
    ids, labels = encoded["input_ids"], encoded["labels"]
    if any(label not in (-100, token) for token, label in zip(ids, labels, strict=True)):
        yield "a label is neither its id nor -100"
    rendered = fmt.render(dict(row))
    spans = [rendered.text[start:end] for start, end in rendered.trained]
    trained = oracles.trained_texts(fmt.tokenizer, ids, labels)
    eos = fmt.tokenizer.eos_token
    if "".join(trained) not in ("".join(spans), "".join(spans) + eos):
        yield f"trained {trained[-1][-60:]!r}, rendered {spans[-1][-60:]!r}"
    if isinstance(example, Conversation):
        yield from _chat_problems(fmt, example, ids, spans)
    elif row.get("output", row.get("response", "")) not in "".join(spans):
        yield "the answer is not in the trained text"


def _chat_problems(
    fmt: ifmt.Formatter, example: Conversation, ids: Sequence[int], spans: Sequence[str]
) -> Iterator[str]:
    theirs = oracles.chat_ids(fmt.tokenizer, fmt.source.text, example.messages, example.tools)
    last = max(place for place, message in enumerate(example.messages) if message["role"] == "assistant")
    prompt = oracles.chat_ids(
        fmt.tokenizer, fmt.source.text, example.messages[:last], example.tools, add_generation_prompt=True
    )
    if not _holds_added_tokens(fmt, example):
        if theirs[: len(prompt)] == prompt and list(ids[: len(theirs)]) != theirs:
            yield "the ids differ from apply_chat_template"
        if list(ids[: len(prompt)]) != prompt:
            yield "the ids do not begin with those of the last turn's prompt"
    for field in _fields(example.messages[last]):
        if field not in spans[-1]:
            yield f"{field[:60]!r} is not in the last trained span"


def _fields(message: Mapping[str, Any]) -> Iterator[str]:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content or ""}]
    yield from (part["text"].strip() for part in parts)
    for call in message.get("tool_calls") or []:
        yield call["function"]["name"]


def _holds_added_tokens(fmt: ifmt.Formatter, example: Conversation) -> bool:
    """Whether any text of the row holds an added token, which may then be encoded as text."""
    text = "\0".join(_strings([list(example.messages), example.tools]))
    return any(token in text for token in oracles.added_tokens(fmt.tokenizer) if token.strip())


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def summary(counts: Mapping[str, int]) -> str:
    """The refusals by reason, most frequent first."""
    found = {key.removeprefix("rejected:"): n for key, n in counts.items() if key.startswith("rejected:")}
    return ", ".join(f"{reason} {n}" for reason, n in sorted(found.items(), key=lambda item: -item[1])) or "none"
