"""A sample of public chat templates under real tokenizers: every row that comes out is as served."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import corpus_rows
import pytest
import served_cells
import served_fixes
from served_rows import KINDS
from transformers import AutoTokenizer, PreTrainedTokenizerFast

EVERY = 24
PARTS = 8


@cache
def _tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.corpus
@pytest.mark.real
@pytest.mark.parametrize("name", ["qwen3", "gemma3"])
@pytest.mark.parametrize("part", range(PARTS))
def test_no_row_is_wrong(part: int, name: str, real_tokenizers: Path) -> None:
    """Each conversation comes out as a server asks for it, or is refused under a reason."""
    folder = real_tokenizers / name
    names = sorted(corpus_rows.public_templates())[::EVERY][part::PARTS]
    benches = [
        served_cells.Bench(each, corpus_rows.public_templates()[each], _tokenizer(folder), str(folder))
        for each in names
    ]
    verdicts = [bench.judge(kind, name) for bench in benches for kind in KINDS]
    wrong = [f"{v.template} / {v.kind}: {v.problems}" for v in verdicts if v.problems]
    assert not wrong, "\n".join(wrong)
    assert all(v.reason for v in verdicts if v.state == "refused")


@pytest.mark.parametrize(
    ("fix", "expected"),
    [
        ('empty_reasoning="close" closes it', [{"empty_reasoning": "close"}]),
        ("template_kwargs={'thinking': True}, or else", [{"template_kwargs": {"thinking": True}}]),
        ('reasoning="strip"; or history="expand"', [{"reasoning": "strip"}, {"history": "expand"}]),
        (
            'empty_reasoning="close" and completion_format="<think>\\n{reasoning}\\n</think>\\n\\n{content}"',
            [{"empty_reasoning": "close", "completion_format": "<think>\n{reasoning}\n</think>\n\n{content}"}],
        ),
        ("mend the template, or leave out what=it", []),
    ],
)
def test_alternatives(fix: str, expected: list[dict[str, object]]) -> None:
    """What a fix names is read as Python."""
    assert list(served_fixes.alternatives(fix)) == expected
