"""Golden cases: every entry of golden/cases/*.yaml is one test. Adding a case is adding an entry or a file.

An entry holds
    id, about        its name, and in our words the case that it stands for
    template         a name, {file: …} of golden/templates, {text: …}; left out = the tokenizer's own
    tokenizer        a name of small_tokenizers.BUILDERS (default chatml)
    options          further arguments of `compile`; `max_length_less: k` means k tokens under the full length
    row | rows       one row, or several
    expect           what must come out; see `Expect`
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict

import oracles
import pyarrow as pa
import pytest
import small_tokenizers
import yaml

import instruct_fmt as ifmt

GOLDEN = Path(__file__).parent / "golden"


class Expect(TypedDict, total=False):
    trained: list[str]  # the text of every trained run of tokens, in order
    trained_tokens: list[str]  # the trained tokens themselves, where text cannot be had back from ids
    trained_rows: list[list[str]]  # the same for each emitted row
    or_reason: list[str]  # reasons for which the row may be refused instead
    reason: str  # the row is refused for this reason
    path: str  # and the rejection names this field
    fix_says: list[str]  # and its fix holds these words
    error: str  # the class (or a base class) of the error that compile or encode raises
    says: list[str]  # words of its message
    text: str  # the whole decoded text of the ids
    render: str  # fmt.render(row).text
    prompt: str  # fmt.prompt(row).text
    counts: dict[str, int]  # some counts of the batch
    parity: bool  # False: do not compare the ids with apply_chat_template
    table: bool  # False: the row cannot be an Arrow table
    id_counts: dict[str, int]  # how often the id of an added token occurs


class Case(TypedDict, total=False):
    id: str
    about: str
    template: str | dict[str, str] | None
    tokenizer: str
    options: dict[str, Any]
    row: dict[str, Any]
    rows: list[dict[str, Any]]
    expect: Expect


def _cases() -> Iterator[Any]:
    for path in sorted((GOLDEN / "cases").glob("*.yaml")):
        for case in yaml.safe_load(path.read_text(encoding="utf-8")):
            yield pytest.param(case, id=f"{path.stem}/{case['id']}")


def _template(case: Case) -> str | None:
    template = case.get("template")
    if isinstance(template, Mapping):
        if "text" in template:
            return template["text"]
        return (GOLDEN / "templates" / template["file"]).read_text(encoding="utf-8")
    return template


def _options(case: Case) -> dict[str, Any]:
    options = dict(case.get("options", {}))
    if isinstance(options.get("now"), str):
        options["now"] = dt.datetime.fromisoformat(options["now"])
    return options


def _compile(case: Case) -> ifmt.Formatter:
    tokenizer = small_tokenizers.build(case.get("tokenizer", "chatml"))
    options = _options(case)
    less = options.pop("max_length_less", None)
    fmt = ifmt.compile(_template(case), tokenizer, **options)
    if less is None:
        return fmt
    whole = {k: v for k, v in options.items() if k not in ("overlength", "append_eos")}
    full = len(ifmt.compile(_template(case), tokenizer, **whole).encode(case["row"])["input_ids"])
    return ifmt.compile(_template(case), tokenizer, max_length=full - less, **options)


@pytest.mark.parametrize("case", list(_cases()))
def test_case(case: Case) -> None:
    expect = case["expect"]
    if "error" in expect:
        _check_error(case, expect)
        return
    fmt = _compile(case)
    if "rows" in case or "trained_rows" in expect:
        _check_rows(fmt, case, expect)
    elif "reason" in expect:
        _check_rejected(fmt, case, expect)
    else:
        _check_row(fmt, case, expect)


def _check_error(case: Case, expect: Expect) -> None:
    with pytest.raises(getattr(ifmt.errors, expect["error"])) as caught:
        _encode_all(case)
    for word in expect.get("says", []):
        assert word in str(caught.value)


def _encode_all(case: Case) -> None:
    fmt = _compile(case)
    for row in case.get("rows", [case["row"]] if "row" in case else []):
        fmt.encode(row)


def _check_rejected(fmt: ifmt.Formatter, case: Case, expect: Expect) -> None:
    with pytest.raises(ifmt.errors.RowError) as caught:
        fmt.encode(case["row"])
    error = caught.value
    assert error.reason == expect["reason"], str(error)
    assert expect.get("path", error.path) == error.path
    for word in expect.get("fix_says", []):
        assert word in error.fix, str(error)
    if expect.get("table", True):
        batch = fmt.encode_batch(pa.Table.from_pylist([case["row"]]), first_row=7)
        assert batch.table.num_rows == 0
        assert [(r.row, r.reason) for r in batch.rejected] == [(7, error.reason)]
        assert batch.counts[f"rejected:{error.reason}"] == 1


def _encode(fmt: ifmt.Formatter, row: dict[str, Any]) -> dict[str, Any] | ifmt.errors.RowError:
    try:
        return fmt.encode(row)
    except ifmt.errors.RowError as error:
        return error


def _check_row(fmt: ifmt.Formatter, case: Case, expect: Expect) -> None:
    encoded = _encode(fmt, case["row"])
    if isinstance(encoded, ifmt.errors.RowError):
        assert encoded.reason in expect.get("or_reason", []), str(encoded)
        return
    ids, labels = list(encoded["input_ids"]), list(encoded["labels"])
    _check_ids(fmt, ids, labels, expect)
    if expect.get("parity", True) and fmt.source.kind == "chat" and "messages" in case["row"]:
        _check_parity(fmt, case, ids)
    if "render" in expect:
        assert fmt.render(case["row"]).text == expect["render"]
    if "prompt" in expect:
        assert fmt.prompt(case["row"]).text == expect["prompt"]
    if expect.get("table", True):
        _check_table(fmt, case, ids, labels, expect)


def _check_ids(fmt: ifmt.Formatter, ids: list[int], labels: list[int], expect: Expect) -> None:
    assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))
    if "trained" in expect:
        assert oracles.trained_texts(fmt.tokenizer, ids, labels) == expect["trained"]
    if "trained_tokens" in expect:
        trained = [label for label in labels if label != -100]
        assert fmt.tokenizer.convert_ids_to_tokens(trained) == expect["trained_tokens"]
    if "text" in expect:
        assert oracles.text_of(fmt.tokenizer, ids) == expect["text"]
    for token, count in expect.get("id_counts", {}).items():
        assert ids.count(fmt.tokenizer.convert_tokens_to_ids(token)) == count, token


def _check_parity(fmt: ifmt.Formatter, case: Case, ids: list[int]) -> None:
    row, kwargs = case["row"], dict(_options(case).get("template_kwargs") or {})
    theirs = oracles.chat_ids(fmt.tokenizer, fmt.source.text, row["messages"], row.get("tools"), **kwargs)
    assert ids[: len(theirs)] == theirs
    assert ids[len(theirs) :] in ([], [fmt.tokenizer.eos_token_id])


def _check_table(fmt: ifmt.Formatter, case: Case, ids: list[int], labels: list[int], expect: Expect) -> None:
    batch = fmt.encode_batch(pa.Table.from_pylist([case["row"]]))
    assert not batch.rejected
    assert batch.table.to_pylist() == [{"input_ids": ids, "labels": labels}]
    for name, count in expect.get("counts", {}).items():
        assert batch.counts[name] == count, (name, batch.counts)


def _check_rows(fmt: ifmt.Formatter, case: Case, expect: Expect) -> None:
    rows = case.get("rows", [case["row"]] if "row" in case else [])
    batch = fmt.encode_batch(pa.Table.from_pylist(rows))
    emitted = [oracles.trained_texts(fmt.tokenizer, row["input_ids"], row["labels"]) for row in batch.table.to_pylist()]
    assert emitted == expect["trained_rows"], batch.rejected
    for name, count in expect.get("counts", {}).items():
        assert batch.counts[name] == count, (name, batch.counts)
