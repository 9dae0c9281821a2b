"""What all hostile cases share, loaded once in the process that is forked for each: formatters, a tokenizer's folder.

In: the judge's folder. Out: warm formatters, and `say`, which makes an `Outcome` of what a call does.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import small_tokenizers
from datasets import Dataset
from hostile_case import Outcome

import instruct_fmt as ifmt
import instruct_fmt.cli
from instruct_fmt.errors import InstructFmtError, RowError

WARM: Mapping[str, Any] = {
    "messages": [{"role": "user", "content": "One and one?"}, {"role": "assistant", "content": "Two."}],
    "instruction": "One and one?",
    "input": "",
    "output": "Two.",
}
_place: list[Path] = []


def load(folder: Path) -> None:
    """Import everything and warm it up; `folder` takes the tokenizers."""
    _place.append(folder)
    for name in ("chatml", "llama3"):
        small_tokenizers.build(name).save_pretrained(folder / name)
    for template, tokenizer in (("chatml", "chatml"), ("llama3", "llama3"), ("alpaca", "chatml")):
        fmt = formatter(template, tokenizer)
        columns = ("messages",) if template != "alpaca" else ("instruction", "input", "output")
        fmt.encode({name: WARM[name] for name in columns})
        assert fmt.tokenizer
    ifmt.compile("chatml", "embedded").encode({"messages": WARM["messages"]})
    embedded()
    with redirect_stdout(io.StringIO()):
        command("prepare", "embedded", "-o", str(result_folder()))


@cache
def embedded() -> ifmt.Formatter:
    """While it is there, what was read off the embedded tokenizer is shared."""
    return ifmt.compile("chatml", "embedded")


def tokenizer_folder(name: str) -> str:
    return str(_place[0] / name)


def result_folder() -> Path:
    """What `prepare embedded` makes."""
    return _place[0] / "result"


@cache
def formatter(template: str, tokenizer: str) -> ifmt.Formatter:
    return ifmt.compile(template, tokenizer_folder(tokenizer), backend="tokenizers")


def say(call: Callable[[], Outcome]) -> Outcome:
    """What a call of the package answers; an exception that is not its own passes."""
    try:
        return call()
    except RowError as error:
        return Outcome(f"rejected: {error.reason}: {short(error.found)}")
    except InstructFmtError as error:
        return Outcome(f"{type(error).__name__}: {short(str(error))}")


def command(*arguments: str) -> Outcome:
    """The command line in this process, as the console script runs it; its words are in the captured streams."""
    sys.argv = ["instruct-fmt", *arguments]
    try:
        instruct_fmt.cli.main()
    except SystemExit as error:
        return Outcome(f"exit {error.code}")
    return Outcome("exit 0")


def with_two_workers() -> Outcome:
    """`prepare` in two processes, which so few rows have only where they are asked for in small batches."""
    dataset = Dataset.from_list([{"messages": WARM["messages"]}] * 64)
    made = embedded().prepare(dataset, num_proc=2, batch_size=8, output_dir="out", progress=False)
    return Outcome(f"ok: {len(made.dataset)} rows")


def named(text: str, limit: int = 60) -> str:
    """A text as a part of a case's name: what cannot be printed is spelled out, what is long is cut."""
    plain = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return plain if len(plain) <= limit else f"{plain[:limit]}… ({len(text):,} characters)"


def short(text: str, limit: int = 90) -> str:
    """The first words of a text, on one line."""
    line = " ".join(text[: 4 * limit].split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
