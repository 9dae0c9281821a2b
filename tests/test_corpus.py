"""A sample of a corpus of public chat templates, judged by plain Jinja and rotated letters."""

from __future__ import annotations

import corpus
import corpus_rows
import pytest
import small_tokenizers
from transformers import PreTrainedTokenizerFast

EVERY = 8
pytestmark = pytest.mark.corpus


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    sample = [*sorted(corpus_rows.public_templates())[::EVERY], *sorted(corpus_rows.public_templates())[4::32]]
    return small_tokenizers.with_markers(corpus_rows.markers(corpus_rows.public_templates()[name] for name in sample))


@pytest.mark.parametrize("part", range(8))
def test_no_template_is_wrong(part: int, tokenizer: PreTrainedTokenizerFast) -> None:
    """Every eighth template, in eight parts: each conversation is right, or refused under a reason."""
    names = sorted(corpus_rows.public_templates())[::EVERY][part::8]
    verdicts = [
        verdict for name in names for verdict in corpus.judge(name, corpus_rows.public_templates()[name], tokenizer)
    ]
    wrong = [f"{v.template} / {v.kind}: {v.problems}" for v in verdicts if v.problems]
    assert not wrong, "\n".join(wrong)
    assert {v.state for v in verdicts} <= {"unrenderable", "emitted", "refused"}
    assert all(v.reason for v in verdicts if v.state == "refused")


def test_most_templates_are_emitted(tokenizer: PreTrainedTokenizerFast) -> None:
    """Refusing everything would be right too; of the templates that plain Jinja renders, most come out."""
    names = sorted(corpus_rows.public_templates())[4::32]
    verdicts = [corpus.judge(name, corpus_rows.public_templates()[name], tokenizer)[0] for name in names]
    renderable = [v for v in verdicts if v.state != "unrenderable"]
    emitted = [v for v in renderable if v.state == "emitted"]
    assert len(emitted) >= 0.7 * len(renderable), [(v.template, v.reason) for v in renderable if v.reason]
