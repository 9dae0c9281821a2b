"""Ready text with symbols in place of prompt and completion, and the plan that comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from instruct_fmt.template.label.ready_text import mark_text
from instruct_fmt.template.plan.make import make_plan
from instruct_fmt.template.plan.plan import Plan
from instruct_fmt.template.plan.recorder import Recorder
from instruct_fmt.template.plan.shape import COMPLETION, PROMPT
from instruct_fmt.template.plan.symbolic import plain_text, symbolic
from instruct_fmt.template.plan.tokens_of_text import TokensOfText
from instruct_fmt.types import Text


class SymbolicText:
    """Makes plans of ready text.

    Args:
        stops: as `mark_text` takes them.
        append_eos: likewise.
        tokens: what to know about the tokenizer.
    """

    def __init__(self, stops: Sequence[str], append_eos: bool, tokens: TokensOfText) -> None:
        self._stops, self._append_eos, self._tokens = stops, append_eos, tokens

    def plan(self, text: Text, recorder: Recorder) -> Plan | None:
        """The plan of texts that are filled where this one is."""
        prompt, completion = symbolic(text.prompt, PROMPT), symbolic(text.completion, COMPLETION)
        shown = Text(prompt if prompt else "", completion if completion else "", text.path)
        marked = mark_text(shown, self._stops, append_eos=self._append_eos)
        return make_plan(replace(marked, text=plain_text(marked.text)), recorder, (), (), self._tokens)
